"""One connection's bytes: a bounded buffer before a socket, read with deadlines, shared by both paths.

Without TLS a call waits in the system, a `SLICE` of time at most: two system calls a message, and a deadline holds
however slowly a peer drips. Under TLS, where a record may be there in part, who waits does so in ``poll``.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from converter.listener.wire import Closed, Stopped, TimedOut

__all__ = ["SLICE", "Stream"]

SLICE: Final = 0.05
"""Seconds that one call waits at most."""
SIZE: Final = 256 << 10
"""Bytes of a buffer; a larger PDU makes it grow."""
_NOW: Final = int(socket.MSG_DONTWAIT)
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)
_AGAIN = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Stream:
    """Bytes of one connection.

    Parameters
    ----------
    sock : socket
        Plain, or TLS after its handshake.
    held : bytes
        What was read of it before.
    """

    __slots__ = (
        "_poll",
        "_quick",
        "_tls",
        "_view",
        "at",
        "data",
        "end",
        "received",
        "sock",
        "stopped",
    )

    data: bytearray
    """The buffer: bytes at hand stand from ``at`` to ``end``."""

    def __init__(
        self, sock: socket.socket, held: bytes | bytearray = b"", size: int = SIZE
    ) -> None:
        self.sock = sock
        self._tls = isinstance(sock, ssl.SSLSocket)
        if self._tls:
            sock.setblocking(False)
        else:
            sock.setblocking(True)
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", 0, int(SLICE * 1e6)))
        self._quick = _QUICKACK is not None and sock.family in {socket.AF_INET, socket.AF_INET6}
        self.data = bytearray(max(size, len(held) + 64))
        self.data[: len(held)] = held
        self._view = memoryview(self.data)
        self.at = 0
        self.end = len(held)
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self.received = len(held)
        self.stopped: Callable[[], bool] = bool
        """Whether nobody waits for more of a message; asked when nothing comes."""

    @property
    def secured(self) -> bool:
        """Whether it is TLS."""
        return self._tls

    @property
    def buffered(self) -> int:
        """Bytes that are at hand."""
        return self.end - self.at

    def ready(self, timeout: float = 0.0) -> bool:
        """Whether there is something to read (or the peer has gone), after so many seconds at most."""
        if self.end > self.at or (self._tls and self.sock.pending()):  # type: ignore[attr-defined]
            return True
        return bool(self._poll.poll(timeout * 1000))

    def begin(self) -> bool:
        """Bring the first bytes of a message to hand; ``False`` when none come within a slice.

        Raises
        ------
        Closed
        """
        if self.end > self.at:
            return True
        if self._tls:
            return self.ready(SLICE)
        self.at = self.end = 0
        try:
            count = self.sock.recv_into(self.data)
        except BlockingIOError:
            return False
        except OSError as error:
            raise Closed("the connection broke") from error
        self._came(count)
        return True

    def receive(self) -> bool:
        """Bring to hand what is there, without waiting; ``False`` where the peer has gone or there is no room."""
        if self.at == self.end:
            self.at = self.end = 0
        try:
            count = self.sock.recv_into(self._view[self.end :], 0, _NOW)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.end += count
        self.received += count
        return count > 0

    def offer(self, data: bytes) -> bytes:
        """Send what goes without waiting; give the rest. That the peer has gone is seen by reading."""
        try:
            return data[self.sock.send(data, _NOW) :]
        except BlockingIOError:
            return data
        except OSError:
            return b""

    def acknowledge(self) -> None:
        """A sender that keeps Nagle on waits for our acknowledgement before the rest of an image leaves it."""
        if self._quick:
            self.sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)  # type: ignore[arg-type]

    def fill(self, deadline: float) -> None:
        """Bring in more bytes of a message that has begun.

        Raises
        ------
        TimedOut
            None came before the deadline (monotonic).
        Closed, Stopped
        """
        if self.at == self.end:
            self.at = self.end = 0
        elif self.end == len(self.data):
            self._compact(self.end)
        into = self._view[self.end :]
        flags = 0 if self._tls else _NOW
        while True:
            try:
                count = self.sock.recv_into(into, 0, flags)
                break
            except _AGAIN as error:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimedOut("the peer was too slow") from None
                if self.stopped():
                    raise Stopped("the association is being ended") from None
                self.acknowledge()
                if self._tls:
                    self._await(error, select.POLLIN, min(left, SLICE))
                flags = 0
            except OSError as error:
                raise Closed("the connection broke") from error
        self._came(count)

    def _came(self, count: int) -> None:
        if not count:
            raise Closed("the peer closed the connection")
        self.end += count
        self.received += count

    def _await(self, error: OSError, event: int, seconds: float) -> None:
        """Wait for what TLS waits for, which may be the other direction."""
        if isinstance(error, ssl.SSLWantReadError):
            event = select.POLLIN
        elif isinstance(error, ssl.SSLWantWriteError):
            event = select.POLLOUT
        self._poll.modify(self.sock, event)
        self._poll.poll(seconds * 1000)
        self._poll.modify(self.sock, select.POLLIN)

    def _compact(self, size: int) -> None:
        held = bytes(self._view[self.at : self.end])
        if size > len(self.data):
            self._view.release()
            self.data = bytearray(size)
            self._view = memoryview(self.data)
        self.data[: len(held)] = held
        self.at, self.end = 0, len(held)

    def need(self, size: int, deadline: float) -> None:
        """Bring so many bytes to hand."""
        while self.end - self.at < size:
            if self.at + size > len(self.data):
                self._compact(max(size, len(self.data)))
            self.fill(deadline)

    def peek(self, size: int) -> memoryview:
        """Look at bytes that are at hand; valid until the next call."""
        return self._view[self.at : self.at + size]

    def take(self, size: int) -> bytes:
        """Take bytes that are at hand."""
        at = self.at
        self.at = at + size
        return bytes(self._view[at : at + size])

    def give_back(self, data: bytes) -> None:
        """Put bytes before those at hand."""
        if len(data) > self.at:
            rest = bytes(self._view[self.at : self.end])
            needed = len(data) + len(rest)
            self.at = self.end = 0
            self._compact(max(len(self.data), needed))
            self.data[:needed] = data + rest
            self.at, self.end = 0, needed
        else:
            self.at -= len(data)
            self.data[self.at : self.at + len(data)] = data

    def send(self, data: bytes, deadline: float) -> None:
        """Send all of it.

        Raises
        ------
        Closed, TimedOut
        """
        sent = 0
        while sent < len(data):
            try:
                sent += self.sock.send(data[sent:] if sent else data)
            except _AGAIN as error:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimedOut("the peer takes nothing") from None
                if self._tls:
                    self._await(error, select.POLLOUT, min(left, SLICE))
            except OSError as error:
                raise Closed("the connection broke") from error

    def close(self) -> None:
        """Close the connection."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
