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
from typing import Any, NamedTuple, TypeAlias

import msgspec

__all__ = [
    "ASSUMED_CHARSET",
    "ASSUMED_ZONE",
    "SERIES_INSTANCE_UID",
    "SOP_CLASS_UID",
    "SOP_INSTANCE_UID",
    "SPECIFIC_CHARACTER_SET",
    "STUDY_INSTANCE_UID",
    "TIMEZONE_OFFSET_FROM_UTC",
    "Header",
    "Split",
    "Unreadable",
    "Wanted",
    "digest",
    "items",
    "merge_wanted",
    "pack_items",
]

Header: TypeAlias = dict[int, bytes]
"""Tag number ``0xggggeeee`` to value field."""


class Split(NamedTuple):
    """A header in two parts: what it shares with others of its series, and what is its own."""

    shared: Header
    """Never changed: it is the same object in all of them."""
    tags: tuple[int, ...]
    values: tuple[bytes, ...]

    def whole(self) -> Header:
        """Both parts."""
        return {**self.shared, **dict(zip(self.tags, self.values, strict=True))}


Wanted: TypeAlias = Mapping[int, "Wanted | None"]
"""Tags to keep: ``None`` for a plain attribute, for a sequence the tags to keep in its items."""

SPECIFIC_CHARACTER_SET = 0x00080005
SOP_CLASS_UID = 0x00080016
SOP_INSTANCE_UID = 0x00080018
TIMEZONE_OFFSET_FROM_UTC = 0x00080201
STUDY_INSTANCE_UID = 0x0020000D
SERIES_INSTANCE_UID = 0x0020000E

ASSUMED_CHARSET = 0xFFFF0005
"""SpecificCharacterSet that is assumed of the sender where the object states none. Not of the object: group FFFF
occurs in no data set (PS3.5 section 7.8.1), so nobody can send it."""
ASSUMED_ZONE = 0xFFFF0201
"""IANA zone that is assumed of the sender where the object states no offset; as `ASSUMED_CHARSET`."""

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
