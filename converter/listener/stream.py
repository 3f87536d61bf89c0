"""One connection's bytes: a bounded buffer before a socket, read with deadlines, shared by both paths.

The socket never blocks in the kernel; who waits does so in ``poll``, so that a deadline holds however slowly a
peer drips.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from contextlib import suppress

from converter.listener.wire import Closed, TimedOut

__all__ = ["Stream"]

SIZE = 256 << 10
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
        "_at",
        "_data",
        "_end",
        "_poll",
        "_quick",
        "_size",
        "_tls",
        "_view",
        "received",
        "sock",
    )

    def __init__(
        self, sock: socket.socket, held: bytes | bytearray = b"", size: int = SIZE
    ) -> None:
        self.sock = sock
        sock.setblocking(False)
        self._tls = isinstance(sock, ssl.SSLSocket)
        self._quick = _QUICKACK is not None and sock.family in {socket.AF_INET, socket.AF_INET6}
        self._size = max(size, len(held) + 64)
        self._data = bytearray(self._size)
        self._data[: len(held)] = held
        self._view = memoryview(self._data)
        self._at = 0
        self._end = len(held)
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self.received = len(held)

    @property
    def buffered(self) -> int:
        """Bytes that are at hand."""
        return self._end - self._at

    def ready(self, timeout: float = 0.0) -> bool:
        """Whether there is something to read (or the peer has gone), after so many seconds at most."""
        if self._end > self._at or (self._tls and self.sock.pending()):  # type: ignore[attr-defined]
            return True
        if self._quick and timeout:
            # Senders that keep Nagle on wait for our acknowledgement before the rest of an image leaves them.
            self.sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)  # type: ignore[arg-type]
        return bool(self._poll.poll(timeout * 1000))

    def fill(self, deadline: float) -> None:
        """Bring in more bytes.

        Raises
        ------
        TimedOut
            None came before the deadline (monotonic).
        Closed
        """
        if self._at == self._end:
            self._at = self._end = 0
        elif self._end == self._size:
            self._compact(self._size)
        while True:
            if not (self._tls and self.sock.pending()):  # type: ignore[attr-defined]
                if self._quick:
                    self.sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)  # type: ignore[arg-type]
                left = deadline - time.monotonic()
                if left <= 0 or not self._poll.poll(left * 1000):
                    raise TimedOut("the peer was too slow")
            try:
                count = self.sock.recv_into(self._view[self._end :])
            except _AGAIN:
                continue
            except OSError as error:
                raise Closed("the connection broke") from error
            if not count:
                raise Closed("the peer closed the connection")
            self._end += count
            self.received += count
            return

    def _compact(self, size: int) -> None:
        held = bytes(self._view[self._at : self._end])
        if size > self._size:
            self._view.release()
            self._data = bytearray(size)
            self._view = memoryview(self._data)
            self._size = size
        self._data[: len(held)] = held
        self._at, self._end = 0, len(held)

    def need(self, size: int, deadline: float) -> None:
        """Bring so many bytes to hand."""
        while self._end - self._at < size:
            if self._at + size > self._size:
                self._compact(max(size, self._size))
            self.fill(deadline)

    def peek(self, size: int) -> memoryview:
        """Look at bytes that are at hand; valid until the next call."""
        return self._view[self._at : self._at + size]

    def head(self) -> tuple[bytearray, int]:
        """Buffer and place of the first byte at hand, to unpack from."""
        return self._data, self._at

    def skip(self, size: int) -> None:
        """Go past bytes that are at hand."""
        self._at += size

    def take(self, size: int) -> bytes:
        """Take bytes that are at hand."""
        at = self._at
        self._at = at + size
        return bytes(self._view[at : at + size])

    def give_back(self, data: bytes) -> None:
        """Put bytes before those at hand."""
        if len(data) > self._at:
            rest = bytes(self._view[self._at : self._end])
            needed = len(data) + len(rest)
            self._at = self._end = 0
            self._compact(max(self._size, needed))
            self._data[:needed] = data + rest
            self._at, self._end = 0, needed
        else:
            self._at -= len(data)
            self._data[self._at : self._at + len(data)] = data

    def send(self, data: bytes, deadline: float) -> None:
        """Send all of it.

        Raises
        ------
        Closed, TimedOut
        """
        view = memoryview(data)
        while view:
            try:
                count = self.sock.send(view)
            except _AGAIN as error:
                waits_for = (
                    select.POLLIN if isinstance(error, ssl.SSLWantReadError) else select.POLLOUT
                )
                self._poll.modify(self.sock, waits_for)
                left = deadline - time.monotonic()
                try:
                    if left <= 0 or not self._poll.poll(left * 1000):
                        raise TimedOut("the peer takes nothing") from None
                finally:
                    self._poll.modify(self.sock, select.POLLIN)
            except OSError as error:
                raise Closed("the connection broke") from error
            else:
                view = view[count:]

    def close(self) -> None:
        """Close the connection."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
