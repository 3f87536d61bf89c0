"""Before the association: a connection gets a thread only when a whole, plausible A-ASSOCIATE-RQ has arrived.

Health checks, port scanners and stalled peers cost a socket for a few seconds, and nothing else. Under TLS nothing can
be seen before the handshake, so that is made in a thread of its own as soon as the peer says anything.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import ssl
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from converter.listener.stream import Stream
from converter.listener.tls import Certificates, refused_for
from converter.listener.wire import MAX_ASSOCIATE, Interruption, plausible_request

__all__ = ["Arrival", "Gate", "take_titles", "take_version"]

MOST_HELD: Final = 32 << 20
"""Bytes of all requests that are not whole yet."""
HANDSHAKES: Final = 64
logger = logging.getLogger("converter.listener")


@dataclass(slots=True)
class Arrival:
    """A connection that has not asked for anything yet."""

    sock: socket.socket
    number: int
    remote: tuple[object, ...]
    over: bool = False
    """Over a limit: it gets its association rejected, as congestion."""
    deadline: float = 0.0
    held: bytearray = field(default_factory=bytearray)
    certificate: Mapping[str, object] | None = None
    """What it showed under TLS."""
    version: int = 1
    """Protocol versions that it offers, a bit each."""
    why: str = ""
    """More of the reason for which it was dropped, in our words."""
    titled: bool = True
    """Whether its AE titles are such."""


def take_version(stream: Stream) -> int:
    """Protocol versions of the request at hand; 1 takes their place, the only number that pynetdicom takes."""
    at = stream.at + 6
    version = int.from_bytes(stream.data[at : at + 2], "big")
    stream.data[at : at + 2] = b"\0\1"
    return version


def take_titles(stream: Stream) -> bool:
    """Whether both AE titles of the request at hand are such; spaces take the place of a NUL and what is behind it.

    Some pad with NUL, as a string ends in C; pynetdicom takes spaces alone, as PS3.8 Table 9-11 has it.
    """
    found = []
    for at in (stream.at + 10, stream.at + 26):
        title = bytes(stream.data[at : at + 16]).partition(b"\0")[0]
        stream.data[at : at + 16] = title.ljust(16)
        found.append(title.strip())
    return all(title and all(0x20 <= byte < 0x7F for byte in title) for title in found)


class Gate:
    """Watches connections until they ask for an association.

    Parameters
    ----------
    admit : callable
        Takes an `Arrival` and its `Stream`, with the whole request at hand.
    dropped : callable
        Takes a connection that never asked, and why.
    timeout : float
        Seconds that a peer has for its request (and for the handshake).
    tls : Certificates, optional
    most : int
        Connections that are watched; beyond, the oldest goes.
    """

    def __init__(
        self,
        admit: Callable[[Arrival, Stream], None],
        dropped: Callable[[Arrival, str], None],
        *,
        timeout: float,
        tls: Certificates | None = None,
        most: int = 512,
    ) -> None:
        self._admit = admit
        self._dropped = dropped
        self._timeout = timeout
        self._tls = tls
        self._most = most
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._coming: deque[Arrival] = deque()
        self._waiting: dict[int, Arrival] = {}
        """By number of the connection, oldest first."""
        self._handshakes = threading.BoundedSemaphore(HANDSHAKES)
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="gate", daemon=True)
        self.counts: Counter[str] = Counter()

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def add(self, arrival: Arrival) -> None:
        """Watch a connection; from any thread."""
        arrival.deadline = time.monotonic() + self._timeout
        self._coming.append(arrival)
        self._stir()

    def close(self) -> None:
        """Drop all that wait, and stop."""
        self._closing = True
        self._stir()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(5)

    @property
    def waiting(self) -> int:
        """Connections that are watched."""
        return len(self._waiting) + len(self._coming)

    def _stir(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._wake, b"x")

    def _run(self) -> None:
        while not self._closing:
            oldest = next(iter(self._waiting.values()), None)
            wait = None if oldest is None else max(0.0, oldest.deadline - time.monotonic())
            for key, _ in self._selector.select(wait):
                if key.data is None:
                    with suppress(BlockingIOError):
                        os.read(self._wake_read, 4096)
                else:
                    self._look(key.data)
            while self._coming:
                self._watch(self._coming.popleft())
            now = time.monotonic()
            for arrival in list(self._waiting.values()):
                if arrival.deadline > now:
                    break
                self._drop(arrival, "too-slow")
        for arrival in [*self._waiting.values(), *self._coming]:
            self._drop(arrival, "shutting-down")

    def _watch(self, arrival: Arrival) -> None:
        while len(self._waiting) >= self._most:
            self._drop(next(iter(self._waiting.values())), "crowded-out")
        arrival.sock.setblocking(False)
        self._waiting[arrival.number] = arrival
        self._selector.register(arrival.sock, selectors.EVENT_READ, arrival)

    def _forget(self, arrival: Arrival) -> None:
        if self._waiting.pop(arrival.number, None) is not None:
            self._selector.unregister(arrival.sock)

    def _drop(self, arrival: Arrival, reason: str) -> None:
        self._forget(arrival)
        with suppress(OSError):
            arrival.sock.close()
        self.counts[reason] += 1
        self._dropped(arrival, reason)

    def _look(self, arrival: Arrival) -> None:
        if arrival.number not in self._waiting:
            return
        if self._tls is not None:
            self._handshake(arrival)
            return
        try:
            data = arrival.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(arrival, "probe" if not arrival.held else "incomplete")
            return
        arrival.held += data
        verdict = plausible_request(arrival.held)
        if verdict is False:
            self._drop(arrival, "not-dicom")
        elif verdict and len(arrival.held) >= 6 + int.from_bytes(arrival.held[2:6], "big"):
            self._forget(arrival)
            self._pass(arrival, arrival.sock)
        elif sum(len(other.held) for other in self._waiting.values()) > MOST_HELD:
            self._drop(arrival, "crowded-out")

    def _pass(self, arrival: Arrival, sock: socket.socket) -> None:
        try:
            stream = Stream(sock, arrival.held)
            self._admit(arrival, stream)
        except Exception as error:  # one connection must not stop the others
            logger.exception("a connection could not be taken: %s", type(error).__name__)
            self._drop(arrival, "internal")

    def _handshake(self, arrival: Arrival) -> None:
        if not self._handshakes.acquire(blocking=False):
            time.sleep(0.02)  # it stays readable, and gets its turn
            return
        self._forget(arrival)
        threading.Thread(target=self._greet, args=(arrival,), name="handshake", daemon=True).start()

    def _greet(self, arrival: Arrival) -> None:
        assert self._tls is not None
        sock = arrival.sock
        try:
            sock.settimeout(max(0.1, arrival.deadline - time.monotonic()))
            sock = self._tls.context().wrap_socket(sock, server_side=True)
            arrival.sock = sock
            arrival.certificate = sock.getpeercert()
            stream = Stream(sock)
            deadline = time.monotonic() + self._timeout
            stream.need(6, deadline)
            if plausible_request(bytes(stream.peek(6))) is False:
                self._drop(arrival, "not-dicom")
                return
            size = int.from_bytes(stream.peek(6)[2:6], "big")
            stream.need(6 + min(size, MAX_ASSOCIATE), deadline)
            if not plausible_request(bytes(stream.peek(74))):
                self._drop(arrival, "not-dicom")
                return
            self._admit(arrival, stream)
        except Interruption:
            self._drop(arrival, "incomplete")
        except ssl.SSLError as error:
            arrival.why = refused_for(error)
            self._drop(arrival, "tls")
        except OSError:
            self._drop(arrival, "too-slow" if time.monotonic() > arrival.deadline else "tls")
        except Exception as error:  # as above
            logger.exception("a connection could not be taken: %s", type(error).__name__)
            self._drop(arrival, "internal")
        finally:
            self._handshakes.release()
