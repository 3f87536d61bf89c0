"""Write DICOM files from readable declarations: what golden cases, demo data and hostile files start from.

A declaration is a table (usually TOML)::

    root = "2.999.17"              # UIDs that begin with a dot are appended to it

    [all]                          # what every instance has
    PatientName = "Yamada^Tarou=山田^太郎"
    SpecificCharacterSet = ["", "ISO 2022 IR 87"]

    [group.ct]                     # what the instances that name it in `like` have
    Modality = "CT"

    [[instance]]                   # one instance: keyword = value
    like = ["ct"]
    SOPClassUID = "CTImageStorage" # keyword of a UID, or the UID
    repeat = 3                     # lower case: not an attribute but how to write it

Values: text (several values with a backslash, as DICOM writes them), numbers, lists of them, a list of
tables for a sequence, ``false`` to leave an attribute out that a level above has set, ``""`` for an empty
one. ``{ bytes = "4d fc" }`` gives the value field in hexadecimal, ``{ text = "Müller", as = "latin-1" }``
encodes text another way than (0008,0005) says. A tag in hexadecimal with ``{ vr = "LO", value = "x" }``
stands for an attribute without a keyword.

How to write it: ``file`` (name, ``{}`` for the number of the copy), ``repeat``, ``syntax`` (keyword of a transfer syntax), ``preamble``
(``false``: neither preamble nor file meta information), ``undefined_lengths``, ``meta``
(attributes of the file meta information that differ), ``pixels`` (edge of a square
test image), ``keep`` (cut the file after so many bytes), ``zeros`` (so many bytes of padding behind it).

Unset, the SOP Instance UID is the series' with the position in the series behind it, and Instance Number
is that position. The same declaration gives the same bytes.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydicom import uid as pydicom_uid
from pydicom.charset import convert_encodings, encode_string
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import UID
from pydicom.valuerep import PersonName

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["Coding", "File", "data_set", "element", "encode", "files", "head", "write"]

Declaration = dict[str, Any]

DIRECTIVES = frozenset(
    {
        "file",
        "keep",
        "like",
        "meta",
        "pixels",
        "preamble",
        "repeat",
        "syntax",
        "undefined_lengths",
        "zeros",
    }
)
TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
"""VRs to which Specific Character Set applies (PS3.5 section 6.1.2.3)."""
SHORT_VRS = frozenset(
    "AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()  # noqa: SIM905
)
"""VRs with a length of 16 bits (PS3.5 table 7.1-2)."""
NUMBERS = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "FL": "f", "FD": "d", "UV": "Q", "SV": "q"}
ITEM, ITEM_END, SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
IMPLEMENTATION = "2.999.0.1"
"""Implementation Class UID, in the arc for examples."""


@dataclass(frozen=True, slots=True)
class File:
    """One DICOM file."""

    name: str
    """Path relative to the folder it is written to."""
    content: bytes


def write(
    declaration: Mapping[str, Any], target: Path, defaults: Mapping[str, Any] | None = None
) -> list[Path]:
    """Write the files of a declaration into a folder, and give their paths."""
    paths = []
    for file in files(declaration, defaults):
        path = target / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
        paths.append(path)
    return paths


def files(
    declaration: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> Iterator[File]:
    """Give the files of a declaration."""
    root = str(declaration["root"])
    for number, instance in enumerate(_instances(declaration, defaults or {}), start=1):
        yield File(str(instance.get("file", f"{number:04}.dcm")), encode(instance, root))


def _instances(
    declaration: Mapping[str, Any], defaults: Mapping[str, Any]
) -> Iterator[Declaration]:
    positions: dict[object, int] = {}
    for one in declaration["instance"]:
        merged: Declaration = {**defaults, **declaration.get("all", {})}
        for name in one.get("like", []):
            merged.update(declaration["group"][name])
        merged.update(one)
        series = merged.get("SeriesInstanceUID")
        for copy in range(1, int(merged.get("repeat", 1)) + 1):
            position = positions[str(series)] = positions.get(str(series), 0) + 1
            instance = dict(merged)
            instance.setdefault(
                "SOPInstanceUID", f"{series}.{position}" if isinstance(series, str) else False
            )
            instance.setdefault("InstanceNumber", position)
            if "file" in instance and "repeat" in merged:
                instance["file"] = str(instance["file"]).format(copy)
            yield instance


def encode(instance: Mapping[str, Any], root: str) -> bytes:
    """Encode one instance as a DICOM file."""
    syntax = UID(getattr(pydicom_uid, str(instance.get("syntax", "ExplicitVRLittleEndian"))))
    drawn = {**instance, **(_image(int(instance["pixels"])) if "pixels" in instance else {})}
    coding = Coding(
        root=root,
        order="<" if syntax.is_little_endian else ">",
        implicit=syntax.is_implicit_VR,
        undefined=bool(instance.get("undefined_lengths", False)),
    )
    body = data_set(drawn, coding)
    if syntax.is_deflated:
        deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        body = deflate.compress(body) + deflate.flush()
        body += b"\0" * (len(body) % 2)
    if instance.get("preamble", True):
        body = head(drawn, root, syntax) + body
    return body[: instance.get("keep")] + bytes(instance.get("zeros", 0))


@dataclass(frozen=True, slots=True)
class Coding:
    """How a data set is encoded (PS3.5 sections 6 and 7)."""

    root: str = ""
    order: str = "<"
    implicit: bool = False
    undefined: bool = False
    """Sequences and items of undefined length, with delimiters."""
    charset: tuple[str, ...] = ("iso8859",)
    """Python encodings of Specific Character Set (0008,0005)."""


def head(instance: Mapping[str, Any], root: str, syntax: str) -> bytes:
    """Preamble, prefix and file meta information (PS3.10 section 7.1)."""
    meta = {
        "FileMetaInformationVersion": b"\0\1",
        "MediaStorageSOPClassUID": instance.get("SOPClassUID", ""),
        "MediaStorageSOPInstanceUID": instance.get("SOPInstanceUID", ""),
        "TransferSyntaxUID": str(syntax),
        "ImplementationClassUID": IMPLEMENTATION,
        **instance.get("meta", {}),
    }
    body = data_set(meta, Coding(root))
    return (
        b"\0" * 128
        + b"DICM"
        + element(0x00020000, "UL", len(body).to_bytes(4, "little"), Coding())
        + body
    )


def data_set(declared: Mapping[str, Any], coding: Coding) -> bytes:
    """Encode the attributes of a data set or an item, in the order of their tags."""
    charset = declared.get("SpecificCharacterSet")
    if isinstance(charset, str | list):
        names = charset if isinstance(charset, list) else charset.split("\\")
        coding = replace(coding, charset=tuple(convert_encodings(list(names))))
    elements = []
    for name, value in declared.items():
        if name in DIRECTIVES or value is False:
            continue
        tag, vr = _identify(name, value)
        plain = value["value"] if isinstance(value, dict) and "vr" in value else value
        elements.append((tag, element(tag, vr, _field(plain, vr, coding), coding)))
    return b"".join(content for _, content in sorted(elements))


def element(tag: int, vr: str, field: bytes, coding: Coding) -> bytes:
    """Encode one data element (PS3.5 section 7.1)."""
    undefined = vr == "SQ" and coding.undefined
    length = 0xFFFFFFFF if undefined else len(field)
    end = SEQUENCE_END if undefined else (0, 0)
    numbers = struct.pack(f"{coding.order}HH", tag >> 16, tag & 0xFFFF)
    if coding.implicit:
        numbers += struct.pack(f"{coding.order}L", length)
    elif vr not in SHORT_VRS:  # those that DICOM may define yet are long (PS3.5 section 7.1.2)
        numbers += vr.encode() + b"\0\0" + struct.pack(f"{coding.order}L", length)
    else:
        numbers += vr.encode() + struct.pack(f"{coding.order}H", length)
    return numbers + field + (_delimiter(end, 0, coding) if undefined else b"")


def _delimiter(tag: tuple[int, int], length: int, coding: Coding) -> bytes:
    return struct.pack(f"{coding.order}HHL", *tag, length)


def _sequence(items: Sequence[Mapping[str, Any]], coding: Coding) -> bytes:
    encoded = b""
    for item in items:
        content = data_set(item, coding)
        length = 0xFFFFFFFF if coding.undefined else len(content)
        encoded += _delimiter(ITEM, length, coding) + content
        if coding.undefined:
            encoded += _delimiter(ITEM_END, 0, coding)
    return encoded


def _identify(name: str, value: object) -> tuple[int, str]:
    number = tag_for_keyword(name)
    if number is not None:
        return number, dictionary_VR(number).split(" or ")[0]
    if not isinstance(value, dict) or "vr" not in value:
        raise ValueError(f"{name!r} is no DICOM keyword")
    return int(name, 16), str(value["vr"])


def _field(value: Any, vr: str, coding: Coding) -> bytes:
    """Value field of an attribute, padded to an even length."""
    pad = b"\0" if vr in {"UI", "OB", "UN"} else b" "
    if isinstance(value, bytes):
        field = value
    elif isinstance(value, dict):
        raw = "bytes" in value
        field = bytes.fromhex(value["bytes"]) if raw else str(value["text"]).encode(value["as"])
    elif vr == "SQ":
        field = _sequence(value, coding)
    elif vr in NUMBERS:
        numbers = value if isinstance(value, list) else [value] if value != "" else []
        field = struct.pack(f"{coding.order}{len(numbers)}{NUMBERS[vr]}", *numbers)
    else:
        values = [str(part) for part in (value if isinstance(value, list) else [value])]
        if vr == "UI":
            values = [_uid(part, coding.root) for part in values]
        field = _text("\\".join(values), vr, coding.charset)
    return field + pad * (len(field) % 2)


def _text(text: str, vr: str, charset: Sequence[str]) -> bytes:
    if vr == "PN":
        return b"\\".join(bytes(PersonName(name).encode(charset)) for name in text.split("\\"))
    return encode_string(text, charset) if vr in TEXT_VRS else text.encode("ascii")


def _uid(value: str, root: str) -> str:
    if value.startswith("."):
        return root + value
    named = getattr(pydicom_uid, value, None)
    return str(named) if isinstance(named, UID) else value


def _image(edge: int) -> Declaration:
    """Attributes of a small test image: a bright disc in the dark."""
    middle, radius = (edge - 1) / 2, edge * 0.4
    pixels = b""
    for row in range(edge):
        for column in range(edge):
            distance = ((row - middle) ** 2 + (column - middle) ** 2) ** 0.5
            level = 0 if distance > radius else int(1000 - 600 * distance / radius)
            pixels += level.to_bytes(2, "little")
    return {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": edge,
        "Columns": edge,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "7fe00010": {"vr": "OW", "value": pixels},
    }
