"""What is kept of a DICOM object: the raw bytes of the wanted attributes.

A `Header` maps a tag number to the value field as received (padding included). Values of binary VRs
(US, SS, UL, SL, UV, SV, FL, FD, AT) are little endian whatever the transfer syntax was. The value of a
sequence is its items, each a `Header`, packed by `pack_items`; so a header is flat, hashable by parts,
and the same whatever the transfer syntax.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, TypeAlias

import msgspec

__all__ = [
    "SERIES_INSTANCE_UID",
    "SOP_CLASS_UID",
    "SOP_INSTANCE_UID",
    "SPECIFIC_CHARACTER_SET",
    "STUDY_INSTANCE_UID",
    "TIMEZONE_OFFSET_FROM_UTC",
    "Digests",
    "Header",
    "Unreadable",
    "Wanted",
    "digest",
    "items",
    "merge_wanted",
    "pack_items",
]

Header: TypeAlias = dict[int, bytes]
"""Tag number ``0xggggeeee`` to value field."""

Wanted: TypeAlias = Mapping[int, "Wanted | None"]
"""Tags to keep: ``None`` for a plain attribute, for a sequence the tags to keep in its items."""

SPECIFIC_CHARACTER_SET = 0x00080005
SOP_CLASS_UID = 0x00080016
SOP_INSTANCE_UID = 0x00080018
TIMEZONE_OFFSET_FROM_UTC = 0x00080201
STUDY_INSTANCE_UID = 0x0020000D
SERIES_INSTANCE_UID = 0x0020000E

_encoder = msgspec.msgpack.Encoder()
_items_decoder = msgspec.msgpack.Decoder(list[dict[int, bytes]])


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An input that gives no instance, and why."""

    reason: str
    """A reason code of `converter.core.reasons.REASONS`, such as ``not-dicom``."""
    detail: str = ""
    """One sentence, without any value of a patient's."""


def pack_items(sequence: Sequence[Header]) -> bytes:
    """Pack the items of a sequence into one value field of our own."""
    return _encoder.encode([dict(sorted(item.items())) for item in sequence])


def items(value: bytes | None) -> list[Header]:
    """Unpack what `pack_items` packed; no value gives no items."""
    return _items_decoder.decode(value) if value else []


def digest(header: Header) -> bytes:
    """Digest of the kept attributes, 16 bytes: the same for the same content in any transfer syntax."""
    return blake2b(_encoder.encode(sorted(header.items())), digest_size=16).digest()


class Digests:
    """Digests of headers that share most attributes, each the same as `digest` gives.

    Parameters
    ----------
    shared : Header
        What is the same in all of them.
    tags : sequence of int
        In what they differ, sorted.
    """

    def __init__(self, shared: Header, tags: Sequence[int]) -> None:
        self._count = len(shared)
        self._parts: list[bytes] = [b""]
        """Of the array: its front, what is shared, and by turns what differs."""
        self._places: list[tuple[int, bytes]] = []
        run = b""
        for tag in sorted((*shared, *tags)):
            if tag in shared:
                run += _encoder.encode((tag, shared[tag]))
            else:
                self._places.append((len(self._parts) + 1, b"\x92" + _encoder.encode(tag)))
                self._parts += [run, b""]
                run = b""
        self._parts.append(run)

    def of(self, values: Sequence[bytes | None]) -> bytes:
        """Digest of the header with these values of the differing attributes; ``None`` where absent."""
        parts = self._parts.copy()
        count = self._count
        for (place, tag), value in zip(self._places, values, strict=True):
            if value is not None:
                count += 1
                parts[place] = tag + _encoder.encode(value)
        parts[0] = bytes((0x90 | count,)) if count < 16 else b"\xdc" + count.to_bytes(2, "big")
        return blake2b(b"".join(parts), digest_size=16).digest()


def merge_wanted(*several: Wanted) -> dict[int, Any]:
    """Unite sets of wanted tags; a sequence unites what is wanted of its items."""
    merged: dict[int, Any] = {}
    for wanted in several:
        for tag, inner in wanted.items():
            held = merged.get(tag)
            if inner is None:
                merged.setdefault(tag, None)
            else:
                merged[tag] = merge_wanted(held or {}, inner)
    return merged
