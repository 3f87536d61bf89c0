"""Bytes of the upper layer and of DIMSE, as far as the fast path reads and writes them itself (PS3.8, PS3.7)."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

__all__ = [
    "ASSOCIATE_RQ",
    "HEADERS",
    "MAX_ASSOCIATE",
    "MAX_COMMAND",
    "PDU_HEADER",
    "PDV_HEADER",
    "P_DATA",
    "Closed",
    "Command",
    "Interruption",
    "ProtocolError",
    "Stopped",
    "TimedOut",
    "known_items",
    "p_data",
    "parse_command",
    "plausible_request",
    "store_response",
    "whole_store",
]

ASSOCIATE_RQ: Final = 0x01
P_DATA: Final = 0x04
MAX_ASSOCIATE: Final = 1 << 20
"""Bytes of any PDU but P-DATA: 128 contexts with 45 syntaxes each and long user information are 170 KB."""
MAX_COMMAND: Final = 64 << 10
"""Bytes of a command set: a C-STORE-RQ has about 200."""
FIXED: Final = 68
"""Fixed fields of an A-ASSOCIATE-RQ behind type and length (PS3.8 Table 9-11)."""

PDU_HEADER: Final = Struct(">BBI")
PDV_HEADER: Final = Struct(">IBB")
HEADERS: Final = Struct(">BBIIBB")
"""Both, as they follow each other at the start of a P-DATA."""
_ITEM: Final = Struct(">BBH")
_USER_INFORMATION: Final = 0x50
_KNOWN: Final = range(0x51, 0x59)
"""Sub-items of user information that a request may have (PS3.7 section D.3.3, PS3.8 section D.1)."""
_ELEMENT: Final = Struct("<HHI")
_STORE: Final = b"\0\0\0\1\2\0\0\0\1\0"
"""Element that says that a command is a C-STORE-RQ."""

C_STORE_RQ: Final = 0x0001
NO_DATA_SET: Final = 0x0101
_SOP_CLASS, _FIELD, _MESSAGE_ID, _DATA_SET, _SOP_INSTANCE = 0x0002, 0x0100, 0x0110, 0x0800, 0x1000


class Interruption(Exception):  # noqa: N818  # a signal: none of these is a fault of ours
    """A message ends before its end."""


class ProtocolError(Interruption):
    """The peer breaks the protocol; the association is aborted."""


class Closed(Interruption, OSError):  # noqa: N818
    """The peer has gone."""


class Stopped(Interruption, OSError):  # noqa: N818
    """The association is being ended on our side."""


class TimedOut(Interruption, OSError):  # noqa: N818
    """The peer was too slow."""


class Command(NamedTuple):
    """What a command set says, as far as we act upon it."""

    field: int
    message_id: int
    data_set: bool
    sop_class: bytes
    sop_instance: bytes
    """Both as received, with their padding: they are echoed."""

    @property
    def is_store(self) -> bool:
        """Whether it is a C-STORE-RQ."""
        return self.field == C_STORE_RQ


def plausible_request(head: bytes | bytearray) -> bool | None:
    """Whether bytes begin like an A-ASSOCIATE-RQ; ``None`` while too few to say.

    Raises nothing: port scanners, health checks and other protocols are ordinary.
    """
    if not head:
        return None
    if head[0] != ASSOCIATE_RQ:
        return False
    if len(head) >= 6 and not FIXED <= int.from_bytes(head[2:6], "big") <= MAX_ASSOCIATE:
        return False
    return True if len(head) >= 6 + FIXED else None


def known_items(request: bytes) -> bytes:
    """A whole A-ASSOCIATE-RQ without sub-items of user information that later editions may define.

    Whoever knows an earlier edition ignores them (PS3.8 section D.2); pynetdicom knows no rule for them.
    A request whose items do not fit into each other is given back as it is, for whoever refuses it.
    """
    kept = bytearray(request[: 6 + FIXED])
    for kind, start, end in _items(request, 6 + FIXED, len(request)):
        if end > len(request):
            return request
        if kind != _USER_INFORMATION:
            kept += request[start:end]
            continue
        inner = bytearray()
        for sub, first, last in _items(request, start + 4, end):
            if last > end:
                return request
            if sub in _KNOWN:
                inner += request[first:last]
        kept += _ITEM.pack(kind, 0, len(inner)) + inner
    PDU_HEADER.pack_into(kept, 0, ASSOCIATE_RQ, 0, len(kept) - 6)
    return bytes(kept)


def _items(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Type, start and end of each item; the last may say that it ends behind the end."""
    while at < end:
        if end - at < 4:
            yield 0, at, end + 1
            return
        kind, _, length = _ITEM.unpack_from(data, at)
        yield kind, at, at + 4 + length
        at += 4 + length


def whole_store(data: bytes | bytearray, at: int, end: int, most: int) -> bool | None:
    """Whether a message with a data set stands as a whole from ``at`` to ``end``; ``None`` where it is none, or large.

    A look at lengths alone: whoever reads the message judges it.
    """
    begin, most = at, at + most + MAX_COMMAND
    while at < end:
        if data[at] != P_DATA:
            return None
        if end - at < 6:
            break
        stop = at + 6 + PDU_HEADER.unpack_from(data, at)[2]
        at += 6
        if stop > most:
            return None
        while at < stop:
            if end - at < 6:
                return False
            size, _, control = PDV_HEADER.unpack_from(data, at)
            at += 4 + size
            if size < 2 or at > stop:
                return None
            if at > end:
                return False
            if control & 3 == 2:
                return True
            if control & 3 == 3 and data.find(_STORE, begin, at) < 0:
                return None
    return False


def parse_command(data: bytes | bytearray) -> Command:
    """Read a command set: implicit VR little endian, always (PS3.7 section 6.3.1).

    Raises
    ------
    ProtocolError
    """
    values: dict[int, bytes] = {}
    at, size = 0, len(data)
    while at + 8 <= size:
        group, element, length = _ELEMENT.unpack_from(data, at)
        at += 8
        if group or length > size - at:
            raise ProtocolError("a command set that cannot be read")
        values[element] = bytes(data[at : at + length])
        at += length
    if at != size:
        raise ProtocolError("a command set that cannot be read")
    return Command(
        _number(values, _FIELD),
        _number(values, _MESSAGE_ID, 0),
        _number(values, _DATA_SET) != NO_DATA_SET,
        values.get(_SOP_CLASS, b""),
        values.get(_SOP_INSTANCE, b""),
    )


def _number(values: dict[int, bytes], element: int, default: int | None = None) -> int:
    value = values.get(element)
    if value is None and default is not None:
        return default
    if value is None or len(value) != 2:
        raise ProtocolError("a command set without its command")
    return int.from_bytes(value, "little")


def _element(element: int, value: bytes) -> bytes:
    if len(value) % 2:
        value += b"\0"
    return _ELEMENT.pack(0, element, len(value)) + value


_FIXED_RESPONSE: Final = _element(_FIELD, b"\x01\x80")
_NOTHING: Final = _element(_DATA_SET, b"\x01\x01")


def store_response(context_id: int, command: Command, status: int, comment: str) -> bytes:
    """Make the P-DATA-TF PDU of a C-STORE-RSP (PS3.7 section 9.3.1.2)."""
    body = b"".join(
        (
            _element(_SOP_CLASS, command.sop_class),
            _FIXED_RESPONSE,
            _element(0x0120, command.message_id.to_bytes(2, "little")),
            _NOTHING,
            _element(0x0900, status.to_bytes(2, "little")),
            _element(0x0902, comment.encode("ascii").ljust(len(comment) + len(comment) % 2))
            if comment
            else b"",
            _element(_SOP_INSTANCE, command.sop_instance),
        )
    )
    return p_data(context_id, _element(0x0000, len(body).to_bytes(4, "little")) + body)


def p_data(context_id: int, command: bytes | bytearray) -> bytes:
    """Make a P-DATA-TF PDU of one whole command set."""
    size = len(command) + 2
    return PDU_HEADER.pack(P_DATA, 0, size + 4) + PDV_HEADER.pack(size, context_id, 3) + command
