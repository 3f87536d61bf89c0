"""A connection as pynetdicom's thread reads it: with a deadline for each PDU, and caps of PDU and message."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any, Final

from pynetdicom.transport import AssociationSocket

from converter.listener.stream import Stream
from converter.listener.wire import MAX_ASSOCIATE, P_DATA

__all__ = ["HardenedSocket"]

LINGER: Final = 1.0
"""Seconds that a peer gets to close the connection after a rejection or an abort."""


class HardenedSocket(AssociationSocket):
    """A connection with a deadline for each PDU, and caps of PDU and message."""

    def __init__(
        self, assoc: Any, stream: Stream, *, pdu_timeout: float, max_pdu: int, max_message: int
    ) -> None:
        super().__init__(assoc, client_socket=stream.sock)
        self.stream = stream
        self._pdu_timeout = pdu_timeout
        self._max_pdu = max_pdu
        self._max_message = max_message
        self._message = 0
        self._type = 0
        self._deadline = 0.0
        self._closing = threading.Lock()
        self._ending: tuple[float, int] | None = None

    @property
    def ready(self) -> bool:
        """Whether there is something to read; by ``poll``, which knows no limit of descriptors."""
        if self.socket is None or not self._is_connected:
            return False
        if self.assoc.dul.state_machine.current_state == "Sta13" and self._gone_on_long_enough():
            return False  # pynetdicom closes the connection
        try:
            return self.stream.ready()
        except (OSError, ValueError):
            self.event_queue.put("Evt17")
            return False

    def _gone_on_long_enough(self) -> bool:
        """Whether a peer that was told to go had its time: what it sends is read on, or it might miss the answer."""
        now = time.monotonic()
        if not self._ending:
            self._ending = now + LINGER, self.stream.received + MAX_ASSOCIATE
        return now > self._ending[0] or self.stream.received > self._ending[1]

    def recv(self, nr_bytes: int) -> bytearray:
        """Read part of a PDU: its header, then the rest.

        Raises
        ------
        OSError
            The peer has gone, is too slow, or sends more than it may: pynetdicom closes the connection.
        """
        now = time.monotonic()
        if nr_bytes == 6:
            self._deadline = now + self._pdu_timeout
        elif self._type == P_DATA:
            if self.assoc.dimse.message is None:
                self._message = 0
            self._message += nr_bytes
            if nr_bytes > self._max_pdu or self._message > self._max_message:
                raise OSError("more than may be sent")
        elif nr_bytes > MAX_ASSOCIATE:
            raise OSError("more than may be sent")
        self.stream.need(nr_bytes, self._deadline or now + self._pdu_timeout)
        data = bytearray(self.stream.take(nr_bytes))
        if nr_bytes == 6:
            self._type = data[0]
        return data

    def send(self, bytestream: bytes) -> None:
        """Send, with a deadline."""
        try:
            self.stream.send(bytestream, time.monotonic() + self._pdu_timeout)
        except OSError:
            self.event_queue.put("Evt17")

    def _shutdown_socket(self) -> None:
        with self._closing, suppress(OSError):
            self.stream.close()
