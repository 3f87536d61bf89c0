"""C-STORE without detours: P-DATA read, the header taken out, the rest dropped, a ready-made answer sent.

Runs in the thread that pynetdicom reads with, in place of its own reading, and only while the association is in data
transfer and at the boundary of a message. Any other PDU and any other command is put back untouched and left
to pynetdicom; so is an association that was silent for a `SLICE` of time. A message is never split between the two.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from converter.listener import private
from converter.listener.dataset import SMALL, DataSet, Streamed
from converter.listener.hub import Elsewhere, Hub, Pending
from converter.listener.status import Answer
from converter.listener.stream import Stream
from converter.listener.wire import (
    HEADERS,
    MAX_COMMAND,
    P_DATA,
    PDU_HEADER,
    PDV_HEADER,
    Closed,
    Command,
    Interruption,
    ProtocolError,
    Stopped,
    TimedOut,
    p_data,
    parse_command,
    store_response,
    whole_store,
)

__all__ = ["Bounds", "FastPath", "Storing"]

SLACK: Final = 64
"""Bytes by which a P-DATA may exceed what we announced: some senders count the limit without headers."""


class Storing(Protocol):
    """What is done with one object."""

    def store(self, context: tuple[str, str], command: Command, data: DataSet) -> Answer:
        """Take an object's header from its data set, keep it, and say what to answer.

        The data set must be read to its end or drained, within this call.

        Raises
        ------
        Interruption
            From the data set.
        """

    def begin(self, context: tuple[str, str], command: Command, data: DataSet) -> Pending:
        """Do what comes before the journal; the rest is `converter.listener.hub.Hub`'s, for several at once."""


class Bounds(NamedTuple):
    """Limits of one association."""

    max_pdu: int
    max_message: int
    pdu_timeout: float


class _HandBack(Interruption):
    """pynetdicom's turn: what it needs is in the buffer."""


DEFLATED: Final = "1.2.840.10008.1.2.1.99"
LEAST: Final = 512
"""Bytes of a PDU that the peer must take, for our answers are one."""


def _nobody(_error: Exception) -> None:
    """Nobody is told."""


class FastPath:
    """Reads one association.

    Parameters
    ----------
    association : Association
    stream : Stream
        The same that pynetdicom's socket reads from.
    storing : Storing
    bounds : Bounds
    hub : Hub, optional
        Takes messages that are small and come as a whole.
    broken : callable, optional
        Told why the association is aborted.
    """

    def __init__(
        self,
        association: Any,
        stream: Stream,
        storing: Storing,
        bounds: Bounds,
        hub: Hub | None = None,
        broken: Callable[[Exception], None] = _nobody,
    ) -> None:
        self._association = association
        self._stream = stream
        self._storing = storing
        self._bounds = bounds
        self._broken = broken
        self._seat = hub.seat(self, stream) if hub is not None and not stream.secured else None
        self._asked: tuple[int, Command] = (0, Command(0, 0, False, b"", b""))
        """Context ID and command of the message at hand."""
        self._unsent = b""
        """What is left of an answer that the peer did not take at once."""
        self._contexts: Mapping[int, tuple[str, str]] = {}
        self._off = False
        self._deadline = 0.0
        self._pdu_left = 0
        """Bytes of the PDU at hand that are not looked at yet."""
        self._left = 0
        """Bytes of its fragment at hand that are not taken yet."""
        self._control = 0
        self._context = 0
        self._total = 0
        self.handed_back = 0
        self.stored = 0

    def read(self, stock: Callable[[], None]) -> None:
        """Read until something comes that is not ours, or nothing does; called when there is something to read."""
        association = self._association
        if self._off or not private.transferring(association) or not private.park(association):
            stock()
            return
        self._stream.stopped = self._stopped
        try:
            if private.busy(association):
                return
            if not self._contexts:
                self._contexts = private.accepted(association)
                if 0 < association.requestor.maximum_length < LEAST:
                    self._off = True  # our answer would have to be split
                    return
                if any(DEFLATED in context for context in self._contexts.values()):
                    self._seat = None  # what 32 KiB inflate to is more than others should wait for
            while True:
                self._message()
                if private.busy(association) or not self._next():
                    return
        except _HandBack:
            self._stream.stopped = bool
            self.handed_back += 1
            stock()
        except Stopped:
            pass  # what is to be sent goes out as soon as this thread is free
        except Closed:
            private.break_off(association, closed=True)
        except (ProtocolError, TimedOut) as error:
            self._broken(error)
            private.break_off(association, closed=False)
        finally:
            self._stream.stopped = bool
            if self._seat is not None:
                self._seat.count(small=False)
            private.resume(association)

    def _next(self) -> bool:
        """Bring a message to hand that is not the hub's; ``False`` when nothing comes."""
        if self._seat is None:
            return self._stream.begin()
        if self._total > SMALL:
            self._seat.count(small=False)
            return self._stream.begin()
        found = self._seat.serve(self._stopped)
        if self._unsent:
            unsent, self._unsent = self._unsent, b""
            self._stream.send(unsent, time.monotonic() + self._bounds.pdu_timeout)
        return found

    def _message(self) -> None:
        data = self._begin()
        context_id, command = self._asked
        answer = self._storing.store(self._contexts[context_id], command, data)
        data.finish()
        response = self._response(answer)
        self._stream.send(response, time.monotonic() + self._bounds.pdu_timeout)
        self._give_back_rest()

    def _begin(self) -> Streamed:
        """Read the command of a message; give its data set, an empty one where it says that none follows."""
        self._pdu_left = self._left = self._total = 0
        self._deadline = time.monotonic() + self._bounds.pdu_timeout
        self._fragment(first=True)
        context_id = self._context
        if not self._control & 1:
            raise ProtocolError("a data set without a command")
        data = self._command()
        command = parse_command(data)
        self._asked = context_id, command
        if not command.is_store:
            self._give_back(context_id, data)
            raise _HandBack
        return Streamed(self, context_id, ended=not command.data_set)

    def _response(self, answer: Answer) -> bytes:
        self.stored += 1
        return store_response(*self._asked, answer.code, answer.comment)

    # the hub's messages

    def hear(self) -> Pending | None:
        """See `converter.listener.hub.Guest.hear`."""
        stream = self._stream
        if not stream.receive():
            raise Elsewhere
        whole = whole_store(stream.data, stream.at, stream.end, SMALL)
        if not whole:
            if whole is None:
                raise Elsewhere
            stream.acknowledge()
            return None
        data = self._begin()
        context_id, command = self._asked
        pending = self._storing.begin(self._contexts[context_id], command, data)
        data.finish()
        return pending

    def reply(self, answer: Answer) -> bool:
        """See `converter.listener.hub.Guest.reply`."""
        self._unsent = self._stream.offer(self._response(answer))
        self._give_back_rest()
        return not self._unsent

    def _fragment(self, *, first: bool = False) -> None:
        """Go to the next presentation data value (PS3.8 section 9.3.5.1)."""
        stream, left = self._stream, self._pdu_left
        if left:
            stream.need(6, self._deadline)
            size, context, control = PDV_HEADER.unpack_from(stream.data, stream.at)
            stream.at += 6
        else:
            if not first:
                if self._stopped():
                    raise Stopped("the association is being ended")
                self._deadline = time.monotonic() + self._bounds.pdu_timeout
            if stream.end - stream.at < 12:
                self._await_headers()
            kind, _, left, size, context, control = HEADERS.unpack_from(stream.data, stream.at)
            if kind != P_DATA:
                # An abort or release, perhaps in the middle of a message, which is then dropped unanswered.
                raise _HandBack
            if left > self._bounds.max_pdu + SLACK:
                raise ProtocolError("a P-DATA of a length that was not agreed")
            stream.at += 12
        if not 2 <= size <= left - 4:
            raise ProtocolError("a fragment that does not fit its PDU")
        if context not in self._contexts or (not first and context != self._context):
            raise ProtocolError("a context that was not accepted, or not this message's")
        self._pdu_left = left = left - 4 - size
        if 0 < left < 6:
            raise ProtocolError("a fragment that does not fit its PDU")
        self._left = size - 2
        self._control = control & 3
        self._context = context
        self._total += size
        if self._total > self._bounds.max_message:
            raise ProtocolError("a message over the limit")

    def _await_headers(self) -> None:
        """Bring the headers of a P-DATA to hand; of another PDU there may be less, of a bad one nothing more."""
        stream = self._stream
        stream.need(1, self._deadline)
        if stream.data[stream.at] != P_DATA:
            raise _HandBack
        stream.need(6, self._deadline)
        if PDU_HEADER.unpack_from(stream.data, stream.at)[2] < 6:
            raise ProtocolError("a P-DATA of a length that was not agreed")
        stream.need(12, self._deadline)

    def _stopped(self) -> bool:
        return private.busy(self._association)

    def _command(self) -> bytes:
        """Rest of the command set, of which the first fragment is at hand."""
        stream = self._stream
        parts = []
        size = 0
        while True:
            size += self._left
            if size > MAX_COMMAND:
                raise ProtocolError("a command set over the limit")
            stream.need(self._left, self._deadline)
            parts.append(stream.take(self._left))
            self._left = 0
            if self._control & 2:
                return parts[0] if len(parts) == 1 else b"".join(parts)
            self._fragment()
            if not self._control & 1:
                raise ProtocolError("a data set within a command set")

    def _give_back(self, context_id: int, command: bytes) -> None:
        self._give_back_rest()
        self._stream.give_back(p_data(context_id, command))

    def _give_back_rest(self) -> None:
        """What is left of a PDU behind the end of a message becomes a PDU of its own."""
        if self._pdu_left:
            self._stream.give_back(PDU_HEADER.pack(P_DATA, 0, self._pdu_left))
            self._pdu_left = 0

    # the data set of the message at hand

    def begin_data_set(self, context_id: int) -> None:
        """Go to the first fragment of the data set."""
        self._fragment()
        if self._control & 1 or self._context != context_id:
            raise ProtocolError("a command where a data set was announced")

    def piece(self, most: int) -> bytes:
        """Next bytes of the data set, so many at most; none at its end."""
        size = self._at_hand(most)
        return self._stream.take(size) if size else b""

    def drop(self, most: int) -> int:
        """Drop next bytes of the data set, so many at most; give how many, 0 at its end."""
        size = self._at_hand(most)
        self._stream.at += size
        return size

    def _at_hand(self, most: int) -> int:
        """Bring next bytes of the data set to hand; give how many, 0 at its end."""
        stream = self._stream
        while not self._left:
            if self._control & 2:
                return 0
            self._fragment()
            if self._control & 1:
                raise ProtocolError("a command within a data set")
        if stream.at == stream.end:
            stream.fill(self._deadline)
        size = min(stream.end - stream.at, self._left, most)
        self._left -= size
        return size
