"""The supervisor: binds, accepts, and passes connections on; what is made of objects is `converter.listener.work`."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

from converter.errors import StoreError
from converter.listener.board import Board
from converter.listener.control import Close, Drain, ReceiverSettings, flat
from converter.listener.notes import Notes, quiet_warnings
from converter.listener.policy import refuse_exposure
from converter.listener.pool import Receivers
from converter.listener.publisher import Delivery
from converter.listener.starting import DaemonSettings, bind, serve_http, take_locks
from converter.listener.tls import Certificates
from converter.listener.work import Ending, Work
from converter.pipeline import Request
from converter.signals import ending

__all__ = ["Daemon"]

logger = logging.getLogger("converter.listener")
RESTART = 1.0
"""Seconds between starts of a receiver that dies at once."""
CERTIFICATES = 1.0
"""Seconds between looks whether a certificate changed."""
AFTER_CLOSE = 2.0
"""Seconds after the drain time in which senders are refused, and threads may end by themselves."""


class Daemon:
    """One daemon.

    Parameters
    ----------
    settings : DaemonSettings
    request : Request
        Rules, parts, check and sink of the publications.
    delivery : Delivery, optional
        Brings published studies to FHIR servers.
    say : callable
        Prints the line that tells where it listens.
    """

    def __init__(
        self,
        settings: DaemonSettings,
        request: Request,
        *,
        delivery: Delivery | None = None,
        say: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._request = request
        self._delivery = delivery
        self._say = say
        self._stack = ExitStack()
        self._board = Board(settings.journal, settings.disk_reserve, settings.keep_files)
        self._ending = Ending()
        self._until = 0.0
        """When the drain time is over; 0 where none began."""
        self._work = Work(settings, request, delivery, self._board, self._ending)
        self._epoch = 0
        self._local: tuple[Any, ...] = (settings.bind, settings.port)
        self._receivers = Receivers(self._receiver, settings.policy, self._board.receiver)
        self._restarts: dict[int, float] = {}
        self._tls: Certificates | None = None
        """Only looked at here: each receiver has its own."""
        self._next_look = 0.0
        self._signals = 0
        self._broken = False

    def run(self) -> int:
        """Run until a signal asks for the end; give the exit code.

        Raises
        ------
        ConfigurationError, PortError, StoreError
            It cannot start.
        """
        settings = self._settings
        refuse_exposure(
            settings.bind, settings.policy, mutual_tls=bool(settings.tls_ca), open_=settings.open
        )
        if settings.tls_cert:
            self._tls = Certificates(settings.tls_cert, settings.tls_key, settings.tls_ca)
        with self._stack:
            self._stack.enter_context(warnings.catch_warnings())
            quiet_warnings(Notes())
            take_locks(settings, self._stack)
            listening = bind(settings, self._stack)
            self._local = listening.getsockname()
            web = serve_http(settings, self._board, self._stack)
            self._epoch = self._work.recover()
            wake = self._catch_signals()
            self._start(web)
            try:
                code = self._serve(listening, wake)
            finally:
                self._receivers.kill()  # whatever they acknowledged is in their journals
        if self._ending.over.is_set() and any(
            not thread.daemon
            for thread in threading.enumerate()
            if thread is not threading.main_thread()
        ):
            # Python would wait for a thread that waits for a server; what it was at stays due in the store.
            logging.shutdown()
            os._exit(code)
        return code

    # starting

    def _receiver(self, index: int) -> ReceiverSettings:
        settings = self._settings
        return ReceiverSettings(
            index=index,
            epoch=self._epoch,
            journal=str(settings.journal / f"r{index}"),
            wanted=flat(self._request.wanted),
            policy=settings.policy,
            max_pdu=settings.max_pdu,
            max_message=settings.max_message,
            network_timeout=settings.network_timeout,
            disk_reserve=settings.disk_reserve,
            backlog_limit=settings.backlog_limit,
            success=settings.success,
            keep_headers=settings.keep_headers,
            keep_files=str(settings.keep_files.absolute()) if settings.keep_files else "",
            fast=settings.fast,
            tls_cert=settings.tls_cert,
            tls_key=settings.tls_key,
            tls_ca=settings.tls_ca,
            local=self._local[:2],
        )

    def _catch_signals(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        ours.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)

        def handle(number: int, _frame: Any) -> None:
            self._signals += 1
            # a terminal that closes may tell us twice
            if self._signals > 1 and number != signal.SIGHUP:
                self._receivers.kill()
                os._exit(130)

        before = {n: signal.signal(n, handle) for n in ending()}

        def restore() -> None:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            ours.close()
            theirs.close()

        self._stack.callback(restore)
        return ours

    def _start(self, web: Any) -> None:
        settings = self._settings
        count = settings.receivers or Receivers.default_count()
        self._stack.callback(self._receivers.kill)
        for index in range(count):
            self._receivers.start(index)
            self._board.receiver(index, {})  # its time runs from here
        deadline = time.monotonic() + 60
        for receiver in self._receivers.running.values():
            while not receiver.ready:
                if time.monotonic() > deadline or not self._receivers.hear(receiver):
                    raise StoreError("A receiver process does not start; look at the lines above.")
        self._board.running = count
        self._board.bound = True
        threads = [
            threading.Thread(target=self._guarded, args=(self._work.write,), name="writer"),
            threading.Thread(target=self._guarded, args=(self._work.publish,), name="publisher"),
        ]
        if self._delivery is not None:
            threads.append(
                threading.Thread(target=self._guarded, args=(self._work.send,), name="sender")
            )
        for thread in threads:
            thread.start()

        self._stack.callback(self._join, threads)
        host, port = self._local[:2]
        name = f"[{host}]" if ":" in host else host
        self._say(
            f"listening {settings.policy.ae_title}@{name}:{port}, http://127.0.0.1:{web.server_port}"
        )
        if settings.keep_files is not None:
            logger.info("whole objects are kept as files; never a modality's only destination")
        else:
            logger.info(
                "storage level 0: header attributes are kept, pixel data is not; never a modality's only destination"
            )

    def _join(self, threads: list[threading.Thread]) -> None:
        """Wait for all that is at work, until the drain time is over and not much longer."""
        ending = self._ending
        until = self._until or time.monotonic() + self._settings.drain_timeout
        ending.draining.set()
        ending.stopping.set()
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        if not any(thread.is_alive() for thread in threads):
            return
        ending.over.set()
        until = max(until, time.monotonic()) + AFTER_CLOSE
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        if left := [thread.name for thread in threads if thread.is_alive()]:
            logger.warning(
                "the drain time is over: cut off at work, to go on at the next start: %s",
                ", ".join(left),
            )

    # serving

    def _serve(self, listening: socket.socket, wake: socket.socket) -> int:
        selector = selectors.DefaultSelector()
        self._stack.callback(selector.close)
        selector.register(listening, selectors.EVENT_READ, "accept")
        selector.register(wake, selectors.EVENT_READ, "wake")
        for receiver in self._receivers.running.values():
            selector.register(receiver.channel, selectors.EVENT_READ, receiver)
        closing_until = 0.0
        accepting = True
        while True:
            for key, _ in selector.select(0.25):
                if key.data == "accept":
                    self._accept(listening)
                elif key.data == "wake":
                    with suppress(BlockingIOError):
                        wake.recv(64)
                elif not self._receivers.hear(key.data):
                    self._lost(selector, key.data, draining=bool(self._until))
            if self._broken:
                return 70
            self._receivers.watch(time.monotonic())
            self._receivers.settle()
            self._look()
            self._revive(selector, draining=bool(self._until))
            now = time.monotonic()
            if self._signals and not self._until:
                selector.unregister(listening)
                listening.close()
                accepting = False
                self._board.bound, self._board.draining = False, True
                self._receivers.tell(Drain())
                self._until = now + self._settings.drain_timeout
                self._ending.draining.set()
                logger.info("draining: %s open", _counted(self._receivers.connections))
            elif accepting and self._receivers.full == (listening in _watched(selector)):
                # At the limit the next one waits in the system's queue, which a sender takes better than a refusal.
                if self._receivers.full:
                    selector.unregister(listening)
                else:
                    selector.register(listening, selectors.EVENT_READ, "accept")
            if self._until and all(r.taken for r in self._receivers.running.values()):
                return 0
            if self._until and now > self._until and not closing_until:
                self._receivers.tell(Close())
                self._ending.over.set()
                closing_until = now + AFTER_CLOSE
            if closing_until and now > closing_until:
                logger.warning(
                    "the drain time is over: %s cut", _counted(self._receivers.connections)
                )
                return 0

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(64):
            try:
                sock, remote = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                logger.warning(
                    "a connection could not be accepted: %s", os.strerror(error.errno or 0)
                )
                return
            self._receivers.accept(sock, remote)
            if self._receivers.full:
                return

    def _look(self) -> None:
        held = list(self._receivers.open())
        self._work.carried = frozenset(study for _, _, study in held if study)
        self._board.open = held
        self._board.hung = sorted(self._receivers.hung)
        self._board.beat("accepting")
        if self._tls is not None and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + CERTIFICATES
            self._tls.watch()
        for name, number in self._receivers.counts.items():
            self._board.count(name, number)
        self._receivers.counts.clear()

    def _lost(self, selector: selectors.BaseSelector, receiver: Any, *, draining: bool) -> None:
        selector.unregister(receiver.channel)
        self._receivers.ended(receiver)
        self._board.receiver_ended(receiver.index)
        self._board.running = len(self._receivers.running)
        if not draining:
            self._board.count("restarts")
            logger.error("receiver %d ended; it is started again", receiver.index)
            self._restarts[receiver.index] = time.monotonic() + RESTART

    def _revive(self, selector: selectors.BaseSelector, *, draining: bool) -> None:
        if draining:
            return
        for index, at in list(self._restarts.items()):
            if time.monotonic() >= at:
                del self._restarts[index]
                receiver = self._receivers.start(index)
                self._board.receiver(index, {})
                selector.register(receiver.channel, selectors.EVENT_READ, receiver)
                self._board.running = len(self._receivers.running)

    def _guarded(self, work: Callable[[], None]) -> None:
        """End the daemon when a part of it ends by a fault: half a daemon would acknowledge for nobody."""
        try:
            work()
        except Exception as error:
            logger.exception("a part of the daemon failed: %s", type(error).__name__)
            self._broken = True


def _counted(connections: int) -> str:
    return "1 connection is" if connections == 1 else f"{connections} connections are"


def _watched(selector: selectors.BaseSelector) -> list[Any]:
    return [key.fileobj for key in selector.get_map().values()]
