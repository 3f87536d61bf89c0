"""A receiver's process: ``python -P -m converter.listener.process FD``, started by the supervisor and by nobody else."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import msgspec

from converter.listener.control import (
    Close,
    Connect,
    Drain,
    Log,
    Ready,
    ReceiverSettings,
    receive,
    send,
)
from converter.listener.journal import Journal
from converter.listener.notes import Notes, quiet_warnings
from converter.listener.receiver import Receiver
from converter.listener.tls import Certificates

__all__ = ["main"]

BEAT = 0.1
"""Seconds between looks at what changed."""
SLOW_BEAT = 1.0


class _Sending(logging.Handler):
    """Log lines go to the supervisor, which writes them: class and place of an error, never its words."""

    def __init__(self, channel: socket.socket) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        try:
            send(self._channel, Log(record.levelno, record.getMessage()))
        except OSError:
            self.handleError(record)


def main(descriptor: int) -> None:
    """Run until the supervisor says so, or has gone."""
    # the terminal sends them to all; the supervisor decides
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    logging.raiseExceptions = False
    channel = socket.socket(fileno=descriptor)
    settings = msgspec.msgpack.decode(channel.recv(1 << 20), type=ReceiverSettings)
    ours = logging.getLogger("converter")
    ours.handlers[:] = [_Sending(channel)]
    ours.propagate = False
    ours.setLevel(logging.INFO)
    _silence_libraries()
    journal = Journal(Path(settings.journal), settings.epoch, segment_size=settings.segment_size)
    tls = (
        Certificates(settings.tls_cert, settings.tls_key, settings.tls_ca)
        if settings.tls_cert
        else None
    )
    receiver = Receiver(settings, journal, tls)
    draining = threading.Event()
    threading.Thread(target=_beat, args=(channel, receiver, draining), daemon=True).start()
    try:
        send(channel, Ready(receiver.missing))
        _obey(channel, receiver, draining)
    except OSError:
        pass  # it was killed with something unread
    except Exception as error:  # noqa: BLE001  whatever it is, the process ends with it
        ours.exception("the receiver failed: %s", type(error).__name__)
    finally:
        # Not by returning: threads of associations would keep the process, and with it the journal's lock.
        os._exit(1)  # what is acknowledged is in the journal


def _silence_libraries() -> None:
    """What goes to stderr by itself would stand there with its values: warnings, and how a thread ended."""
    quiet_warnings(Notes())
    threading.excepthook = _thread_ended


def _thread_ended(arguments: threading.ExceptHookArgs) -> None:
    logging.getLogger("converter.listener").error("a thread ended: %s", arguments.exc_type.__name__)


def _obey(channel: socket.socket, receiver: Receiver, draining: threading.Event) -> None:
    """Do what the supervisor says, until it has gone."""
    while (got := receive(channel)) is not None:
        message, passed = got
        if isinstance(message, Connect):
            receiver.take(
                socket.socket(fileno=passed), message.number, message.remote, over=message.over
            )
        elif isinstance(message, Drain):
            receiver.drain()
            draining.set()
        elif isinstance(message, Close):
            receiver.close()


def _beat(channel: socket.socket, receiver: Receiver, draining: threading.Event) -> None:
    last: tuple[object, ...] = ()
    at = 0.0
    while True:
        time.sleep(BEAT)
        state = receiver.state()
        state.taken = draining.is_set() and not receiver.connections
        now = time.monotonic()
        told = (state.open, state.counts, state.taken)
        if state.ended or told != last or now - at >= SLOW_BEAT:
            last, at = told, now
            try:
                send(channel, state)
            except OSError:
                os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
