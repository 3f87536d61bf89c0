"""Write a corpus of hostile and broken files, the same for the same seed.

Every file starts from a small synthetic object whose texts and dates are canaries: unique values, made to
be searched for where no patient's value may stand (logs, reports, error messages)::

    python -m tools.make_hostile FOLDER [--count 950] [--seed 1]
"""

from __future__ import annotations

import argparse
import gzip
import io
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tools.dicom_writer import Coding, data_set, element, encode, head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["CANARY", "CANARY_YEAR", "Manifest", "bomb", "cuts", "make", "make_good", "nested"]

CANARY = "ZQXJV"
"""Every text of a base object that could be a patient's holds it."""
CANARY_YEAR = "1823"
"""Every date of a base object lies in this year."""

ROOT = "2.999.9"
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
MIB = 1 << 20

Outcome = Literal["skipped", "converted", "either"]


@dataclass(frozen=True, slots=True)
class Manifest:
    """One file of the corpus."""

    name: str
    kind: str
    """Family of faults, such as ``cut`` or ``deflate-bomb``."""
    detail: str
    """What exactly was done."""
    outcome: Outcome
    """``skipped``: must give no instance (and by C-STORE never success); ``converted``: must give one."""


class Made(NamedTuple):
    """A file before it has a name."""

    content: bytes
    detail: str
    outcome: Outcome


def make(target: Path, count: int = 950, seed: int = 1) -> list[Manifest]:
    """Write the corpus into a folder, and tell what each file is.

    Parameters
    ----------
    target : Path
        Made where it does not exist.
    count : int
        Number of files; from 65 on every kind is there.
    seed : int
        Another seed gives other files of the same kinds.
    """
    target.mkdir(parents=True, exist_ok=True)
    turns = [kind for kind, (weight, _) in KINDS.items() for _ in range(weight)]
    Random(seed).shuffle(turns)
    seen: dict[str, int] = {}
    corpus = []
    for number in range(count):
        kind = turns[number % len(turns)]
        # Of each kind the variants come in turn, so that none is missing by chance.
        variant = seen[kind] = seen.get(kind, -1) + 1
        made = KINDS[kind][1](Random(f"{seed}/{number}"), number, variant)
        name = f"{number:04}-{kind}"
        (target / name).write_bytes(made.content)
        corpus.append(Manifest(name, kind, made.detail, made.outcome))
    return corpus


def make_good(target: Path, count: int = 200) -> list[Path]:
    """Write sound files with canaries in every text and date."""
    target.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        path = target / f"{number:04}.dcm"
        syntax = (
            "ExplicitVRLittleEndian",
            "ImplicitVRLittleEndian",
            "DeflatedExplicitVRLittleEndian",
        )
        path.write_bytes(encode({**base(number), "syntax": syntax[number % 3]}, ROOT))
        paths.append(path)
    return paths


def cuts(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Give a file cut at 1 to 99 percent of its length."""
    for percent in range(1, 100):
        yield percent, content[: len(content) * percent // 100]


# --- where files start from -------------------------------------------------------------------------


def base(number: int) -> dict[str, Any]:
    """Declaration of a sound CT image, full of canaries."""
    texts = (f"{CANARY}{number:04}{index:02}" for index in range(100))
    dates = (f"{CANARY_YEAR}{1 + (number + index) % 12:02}{1 + index:02}" for index in range(28))

    def name() -> str:
        return f"{next(texts)}^{next(texts)}"

    def code() -> list[dict[str, str]]:
        return [
            {"CodeValue": next(texts), "CodingSchemeDesignator": "99ZQ", "CodeMeaning": next(texts)}
        ]

    return {
        "SpecificCharacterSet": "ISO_IR 192",
        "SOPClassUID": "CTImageStorage",
        "SOPInstanceUID": f".{number}.1.1",
        "StudyInstanceUID": f".{number}",
        "SeriesInstanceUID": f".{number}.1",
        "Modality": "CT",
        "StudyDate": next(dates),
        "SeriesDate": next(dates),
        "ContentDate": next(dates),
        "AcquisitionDate": next(dates),
        "StudyTime": "101500",
        "AccessionNumber": next(texts),
        "InstitutionName": next(texts),
        "InstitutionAddress": next(texts),
        "ReferringPhysicianName": name(),
        "StationName": next(texts),
        "StudyDescription": next(texts),
        "SeriesDescription": next(texts),
        "InstitutionalDepartmentName": next(texts),
        "PerformingPhysicianName": name(),
        "NameOfPhysiciansReadingStudy": name(),
        "OperatorsName": name(),
        "ProcedureCodeSequence": code(),
        "PatientName": name(),
        "PatientID": next(texts),
        "IssuerOfPatientID": next(texts),
        "PatientBirthDate": next(dates),
        "PatientSex": "F",
        "OtherPatientIDsSequence": [{"PatientID": next(texts), "IssuerOfPatientID": next(texts)}],
        "PatientAddress": next(texts),
        "PatientComments": next(texts),
        "DeviceSerialNumber": next(texts),
        "ProtocolName": next(texts),
        "StudyID": next(texts),
        "SeriesNumber": 1,
        "InstanceNumber": 1,
        "ReasonForTheRequestedProcedure": next(texts),
        "AdmissionID": next(texts),
        "RequestAttributesSequence": [
            {
                "AccessionNumber": next(texts),
                "RequestedProcedureID": next(texts),
                "RequestedProcedureDescription": next(texts),
                "ReasonForRequestedProcedureCodeSequence": code(),
            }
        ],
        "pixels": 8,
    }


def split(number: int, **changes: Any) -> tuple[bytes, bytes]:
    """Head and data set of a base object in explicit little endian."""
    declared = {**base(number), **changes}
    return head(declared, ROOT, EXPLICIT), data_set({**declared, "pixels": False}, Coding(ROOT))


class Place(NamedTuple):
    """Where an element of an explicit little endian data set stands."""

    start: int
    length_at: int
    long: bool
    length: int


LONG = {b"OB", b"OW", b"SQ", b"UN", b"UT", b"UC", b"UR"}


def places(body: bytes) -> list[Place]:
    """Find the elements of the top level."""
    found, at = [], 0
    while at < len(body):
        long = body[at + 4 : at + 6] in LONG
        length_at = at + (8 if long else 6)
        (length,) = struct.unpack_from("<L" if long else "<H", body, length_at)
        found.append(Place(at, length_at, long, length))
        at = length_at + (4 if long else 2) + length
    return found


# --- the kinds --------------------------------------------------------------------------------------


def cut(random: Random, number: int, variant: int) -> Made:
    syntax = ("ExplicitVRLittleEndian", "ImplicitVRLittleEndian", "ExplicitVRBigEndian")[
        variant % 3
    ]
    whole = encode({**base(number), "syntax": syntax}, ROOT)
    keep = random.randrange(1, len(whole))
    return Made(whole[:keep], f"{syntax} cut at {keep} of {len(whole)}", "either")


def cut_deflated(random: Random, number: int, _: int) -> Made:
    whole = encode({**base(number), "syntax": "DeflatedExplicitVRLittleEndian"}, ROOT)
    keep = random.randrange(140, len(whole))
    return Made(whole[:keep], f"deflated, cut at {keep} of {len(whole)}", "either")


def flips(random: Random, number: int, variant: int) -> Made:
    syntax = ("ExplicitVRLittleEndian", "ImplicitVRLittleEndian", "DeflatedExplicitVRLittleEndian")
    content = bytearray(encode({**base(number), "syntax": syntax[variant % 3]}, ROOT))
    times = random.choice((1, 2, 5, 20, 200))
    for _ in range(times):
        content[random.randrange(132, len(content))] ^= 1 << random.randrange(8)
    return Made(bytes(content), f"{times} bits flipped", "either")


def wrong_length(random: Random, number: int, variant: int) -> Made:
    start, body = split(number)
    content = bytearray(body)
    place = random.choice(places(body))
    wrong = (
        place.length + 1, max(place.length - 2, 0), place.length * 7 + 2, 0, 0xFFFE, 0xFFFF,
        0x7FFFFFFE, 0xFFFFFFF0, 0xFFFFFFFF,
    )[variant % 9]  # fmt: skip
    if place.long:
        struct.pack_into("<L", content, place.length_at, wrong & 0xFFFFFFFF)
    else:
        struct.pack_into("<H", content, place.length_at, wrong & 0xFFFF)
    return Made(start + bytes(content), f"length {place.length} says {wrong:#x}", "either")


def bad_vr(random: Random, number: int, variant: int) -> Made:
    start, body = split(number)
    content = bytearray(body)
    place = random.choice(places(body))
    vr = (b"ZZ", b"\0\0", b"lo", b"SQ", b"UN", b"OB", b"US", b"  ", b"\xff\xff", b"FD")[
        variant % 10
    ]
    content[place.start + 4 : place.start + 6] = vr
    return Made(start + bytes(content), f"VR {vr!r}", "either")


UID_KEYWORDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


def missing_uid(random: Random, number: int, variant: int) -> Made:
    keyword = UID_KEYWORDS[variant % 4]
    empty = random.choice((False, "", {"bytes": "0000"}, {"bytes": "2020"}))
    changed = {**base(number), keyword: empty, "preamble": variant % 5 > 0}
    return Made(encode(changed, ROOT), f"no {keyword}", "skipped")


BAD_UIDS = (
    b"../../x", b"/etc/x", b"..", b"../../../../../../tmp/x", b"..\\..\\x", b"C:\\x", b"~/x",
    b"2.999." + b"1" * 59, b"2.999.01.5", b"1.2.\0.3", b"1.2.3\0../x", b"1..2", b".1.2", b"1.2.", b"1.2.3gb_native",
    b"0" * 64, b"1.2.-3", b"1.2 .3", b"\xff\xfe1.2", b"1.2.3\n4", b"2.999." + b"1" * 4000, b"%2e%2e%2fx",
    b"${HOME}", b"1.2.3;DROP TABLE x", b"<script>", b"\xd9\xa1.\xd9\xa2",
)  # fmt: skip


def bad_uid(_: Random, number: int, variant: int) -> Made:
    keyword = UID_KEYWORDS[:3][variant % 3]
    value = BAD_UIDS[variant % len(BAD_UIDS)]
    content = encode({**base(number), keyword: {"bytes": value.hex()}}, ROOT)
    return Made(content, f"{keyword} {value[:24]!r}", "skipped")


def bomb(size: int, *, number: int = 0, in_header: bool = True) -> bytes:
    """Make an object, deflated to a thousandth, that inflates to `size` bytes.

    `in_header` puts the bulk before the Study Instance UID, so that a reader has to pass it; else it
    stands in the pixel data, which no reader of headers needs.
    """
    declared = {**base(number), "pixels": False}
    tag = 0x00091001 if in_header else 0x7FE00010
    body = data_set(declared, Coding(ROOT))
    at = len(body)
    if in_header:
        at = next(p.start for p in places(body) if struct.unpack_from("<H", body, p.start)[0] > 9)
    bulk = element(tag, "OB", b"", Coding())[:-4] + struct.pack("<L", size)
    stream = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    blocks = stream.compress(body[:at] + bulk) + stream.flush(zlib.Z_FULL_FLUSH)
    # After a full flush a block refers to nothing before it: one block of zeros serves for all.
    zeros = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    blocks += (zeros.compress(b"\0" * MIB) + zeros.flush(zlib.Z_FULL_FLUSH)) * (size // MIB)
    rest = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    blocks += rest.compress(body[at:]) + rest.flush()
    return head(declared, ROOT, DEFLATED) + blocks


def deflate_bomb(_: Random, number: int, variant: int) -> Made:
    size = (64 * MIB, 1024 * MIB, 256 * MIB)[variant % 3]
    in_header = variant % 2 == 0
    where = "in the header" if in_header else "in the pixel data"
    content = bomb(size, number=number, in_header=in_header)
    # A header that stands before the bomb may be read, as long as the bomb is not inflated.
    return Made(content, f"{size // MIB} MiB {where}", "skipped" if in_header else "either")


def nested(
    depth: int, *, undefined: bool, implicit: bool = False, number: int = 0, tag: int = 0x00400275
) -> bytes:
    """Make an object with sequences nested `depth` deep, by delimiters or by lengths."""
    declared = {**base(number), "pixels": False}
    declared = {key: value for key, value in declared.items() if key != "RequestAttributesSequence"}
    coding = Coding(ROOT, implicit=implicit)
    numbers = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + (b"" if implicit else b"SQ\0\0")
    item = struct.pack("<HH", 0xFFFE, 0xE000)
    if undefined:
        opening = numbers + b"\xff" * 4 + item + b"\xff" * 4
        closing = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
        nest = opening * depth + closing * depth
    else:
        level = len(numbers) + 12
        parts = []
        for inner in range(depth - 1, -1, -1):
            length = inner * level
            parts.append(numbers + struct.pack("<L", length + 8) + item + struct.pack("<L", length))
        nest = b"".join(parts)
    body = data_set(declared, coding)
    return head(declared, ROOT, IMPLICIT if implicit else EXPLICIT) + body + nest


def deep_nesting(_: Random, number: int, variant: int) -> Made:
    depth = (64, 250, 1_000, 100_000, 65, 10_000)[variant % 6]
    undefined, implicit = variant // 6 % 2 == 0, variant // 12 % 2 == 1
    tag = 0x0040A730 if variant // 24 % 2 else 0x00400275
    content = nested(depth, undefined=undefined, implicit=implicit, number=number, tag=tag)
    return Made(content, f"{depth} deep, {'un' * undefined}defined lengths", "either")


def not_dicom(random: Random, number: int, variant: int) -> Made:
    text = f"Dear {CANARY}{number:04}, your appointment is on 3 March.\n".encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo("letter.txt"), text)
    contents = {
        "empty": b"",
        "text": text * 20,
        "zip": packed.getvalue(),
        "gzip": gzip.compress(text, mtime=0),
        "128 zeros and DICM": b"\0" * 128 + b"DICM",
        "HTML": b"<!DOCTYPE html><html><body>" + text + b"</body></html>",
        "JSON": b'{"00100010": {"vr": "PN"}}',
        "PNG": b"\x89PNG\r\n\x1a\n" + random.randbytes(300),
        "random bytes": random.randbytes(2000),
        "DICM and random bytes": b"\0" * 128 + b"DICM" + random.randbytes(500),
        "zeros": b"\0" * 4096,
        "one byte": b"D",
        "DICM and text": b"\0" * 128 + b"DICM" + text,
        "PDF": b"%PDF-1.4\n" + text,
    }
    names = sorted(contents)
    name = names[variant % len(names)]
    return Made(contents[name], name, "skipped")


def dicomdir(_: Random, number: int, variant: int) -> Made:
    path = (["..", "..", "ETC", "PASSWD"], ["..", f"{number:04}"], ["/ETC", "PASSWD"])[variant % 3]
    declared = {
        "FileSetID": "HOSTILE",
        "DirectoryRecordSequence": [
            {
                "DirectoryRecordType": "IMAGE",
                "ReferencedFileID": {"bytes": "\\".join(path).encode().hex()},
                "ReferencedSOPClassUIDInFile": "CTImageStorage",
                "ReferencedSOPInstanceUIDInFile": f".{number}",
                "PatientName": f"{CANARY}{number:04}",
            }
        ],
        "meta": {"MediaStorageSOPClassUID": "MediaStorageDirectoryStorage"},
    }
    return Made(encode(declared, ROOT), f"DICOMDIR to {'/'.join(path)}", "skipped")


def bad_meta(random: Random, number: int, variant: int) -> Made:
    declared = base(number)
    start, body = split(number)
    big = data_set({**declared, "pixels": False}, Coding(ROOT, order=">"))
    changes: list[tuple[str, Callable[[], bytes]]] = [
        ("no transfer syntax", lambda: head({**declared, "meta": {"TransferSyntaxUID": False}}, ROOT, EXPLICIT) + body),
        ("unknown transfer syntax", lambda: head(declared, ROOT, "2.999.4") + body),
        ("says implicit, is explicit", lambda: head(declared, ROOT, IMPLICIT) + body),
        ("says big endian, is little", lambda: head(declared, ROOT, BIG_ENDIAN) + body),
        ("says little endian, is big", lambda: start + big),
        ("says deflated, is not", lambda: head(declared, ROOT, DEFLATED) + body),
        ("deflated noise", lambda: head(declared, ROOT, DEFLATED) + random.randbytes(800)),
        ("group length too large", lambda: start[:140] + b"\xff\xff\0\0" + start[144:] + body),
        ("group length zero", lambda: start[:140] + b"\0\0\0\0" + start[144:] + body),
        ("no meta after DICM", lambda: start[:132] + body),
        ("meta only", lambda: start),
        ("meta twice", lambda: start + start[132:] + body),
    ]  # fmt: skip
    detail, change = changes[variant % len(changes)]
    return Made(
        change(), detail, "skipped" if detail in {"meta only", "deflated noise"} else "either"
    )


def bad_text(random: Random, number: int, variant: int) -> Made:
    canary = f"{CANARY}{number:04}".encode()
    value = (
        canary + b"\0" + canary, b"\x1b$B" + canary, b"\x1b" * 50, b"^" * 100 + canary, b"=" * 100 + canary,
        b"\\".join([canary] * 2000), canary * 3000, bytes(range(256)), b"\xed\xa0\x80" + canary,
        b"\xff" * 64, random.randbytes(64), b"\x00" * 64, b"\r\n\t\x0b" + canary, b"\xe2\x80\xae" + canary,
    )[variant % 14]  # fmt: skip
    keyword = ("PatientName", "PatientID", "StudyDescription", "ReferringPhysicianName")[
        variant % 4
    ]
    charset = ("ISO_IR 192", "GB18030", "ISO 2022 IR 87", "ISO_IR 999", "\\ISO 2022 IR 149")[
        variant % 5
    ]
    changed = {
        **base(number),
        keyword: {"bytes": value[:65000].hex()},
        "SpecificCharacterSet": {"bytes": charset.encode().hex()},
    }
    return Made(encode(changed, ROOT), f"{keyword} of {len(value)} bytes", "converted")


def bad_value(random: Random, number: int, variant: int) -> Made:
    fields = (
        ("StudyDate", b"99999999"), ("StudyDate", b"0000000000000000"), ("PatientBirthDate", b"18230230"),
        ("StudyTime", b"995959"), ("StudyTime", b"-1"), ("InstanceNumber", b"1e9"), ("InstanceNumber", b"-" * 40),
        ("InstanceNumber", b"9" * 400), ("SeriesNumber", b"\xef\xbc\x91"), ("TimezoneOffsetFromUTC", b"+9999"),
        ("Modality", b"../../x"), ("PatientSex", b"0000"), ("StudyDate", random.randbytes(8)),
        ("InstanceNumber", b"NaN"), ("Modality", b"\xff\xff"), ("SeriesNumber", b"2147483648"),
    )  # fmt: skip
    keyword, value = fields[variant % len(fields)]
    changed = {**base(number), keyword: {"bytes": value.hex()}}
    return Made(encode(changed, ROOT), f"{keyword} {value[:16]!r}", "converted")


def bad_order(random: Random, number: int, variant: int) -> Made:
    start, body = split(number)
    elements = [body[p.start : p.length_at + (4 if p.long else 2) + p.length] for p in places(body)]
    delimiter = struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    detail = ("shuffled", "every element twice", "stray delimiter", "stray item", "noise behind")[
        variant % 5
    ]
    if detail == "shuffled":
        random.shuffle(elements)
    elif detail == "every element twice":
        elements = [part for part in elements for _ in range(2)]
    elif detail == "stray delimiter":
        elements.insert(random.randrange(len(elements)), delimiter)
    elif detail == "stray item":
        elements.insert(random.randrange(len(elements)), item)
    else:
        elements.append(random.randbytes(100))
    return Made(start + b"".join(elements), detail, "either")


def bad_item(random: Random, number: int, variant: int) -> Made:
    """Break the inside of sequences of undefined length."""
    whole = bytearray(encode({**base(number), "undefined_lengths": True}, ROOT))
    marks = [at for at in range(132, len(whole) - 4) if whole[at : at + 2] == b"\xfe\xff"]
    at = random.choice(marks)
    detail = ("item tag broken", "item length wrong", "delimiter gone")[variant % 3]
    if detail == "item tag broken":
        whole[at + 2] ^= 0xFF
    elif detail == "item length wrong":
        whole[at + 4 : at + 8] = random.randbytes(4)
    else:
        del whole[at : at + 8]
    return Made(bytes(whole), detail, "either")


KINDS: Mapping[str, tuple[int, Callable[[Random, int, int], Made]]] = {
    "cut": (9, cut),
    "cut-deflated": (3, cut_deflated),
    "flips": (10, flips),
    "wrong-length": (8, wrong_length),
    "bad-vr": (6, bad_vr),
    "missing-uid": (4, missing_uid),
    "bad-uid": (5, bad_uid),
    "deflate-bomb": (1, deflate_bomb),
    "deep-nesting": (2, deep_nesting),
    "not-dicom": (3, not_dicom),
    "dicomdir": (1, dicomdir),
    "bad-meta": (3, bad_meta),
    "bad-text": (3, bad_text),
    "bad-value": (3, bad_value),
    "bad-order": (2, bad_order),
    "bad-item": (2, bad_item),
}
"""Kind to how often it comes in a round, and its maker: (random of the file, number, variant)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=950)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for file in make(arguments.folder, arguments.count, arguments.seed):
        print(f"{file.name}\t{file.outcome}\t{file.detail}")


if __name__ == "__main__":
    main()
