"""The files that are measured: made from a seed, written byte by byte, so that no reader made them."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CORPORA", "Corpus", "instance", "make"]

ROOT = "1.2.826.0.1.3680043.10.1500"
CT = "1.2.840.10008.5.1.4.1.1.2"
DX = "1.2.840.10008.5.1.4.1.1.1.1"
ENHANCED = "1.2.840.10008.5.1.4.1.1.2.1"
EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
LONG = frozenset({"OB", "OW", "SQ", "UN", "UT"})
UNDEFINED = 0xFFFFFFFF
SEED = 7

Value = "str | bytes | list[list[tuple[int, str, Value]]]"


class Encoder:
    """Explicit or implicit little endian."""

    def __init__(self, *, explicit: bool = True, undefined: bool = False) -> None:
        self.explicit = explicit
        self.undefined = undefined

    def element(self, tag: int, vr: str, value: object) -> bytes:
        length = None
        if vr == "SQ":
            data = b"".join(self.item(item) for item in value)  # type: ignore[attr-defined]
            if self.undefined:
                data += struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
                length = UNDEFINED
        elif isinstance(value, bytes):
            data = value
        else:
            data = str(value).encode("latin-1")
        if len(data) % 2:
            data += b"\0" if vr in {"UI", "OB"} else b" "
        length = len(data) if length is None else length
        front = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
        if not self.explicit:
            return front + struct.pack("<I", length) + data
        if vr in LONG:
            return front + vr.encode() + b"\0\0" + struct.pack("<I", length) + data
        return front + vr.encode() + struct.pack("<H", length) + data

    def item(self, elements: list[tuple[int, str, object]]) -> bytes:
        data = b"".join(self.element(*one) for one in sorted(elements, key=lambda one: one[0]))
        if self.undefined:
            end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
            return struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED) + data + end
        return struct.pack("<HHI", 0xFFFE, 0xE000, len(data)) + data


def us(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}H", *numbers)


def code(value: str, scheme: str, meaning: str) -> list[tuple[int, str, object]]:
    return [(0x00080100, "SH", value), (0x00080102, "SH", scheme), (0x00080104, "LO", meaning)]


@dataclass(frozen=True)
class Place:
    """Whereabouts of one instance in a corpus."""

    study: int
    series: int
    number: int


def common(place: Place, dice: random.Random, sop_class: str, modality: str) -> list:
    """124 elements as a scanner writes them, private ones among them."""
    study = f"{ROOT}.{place.study}"
    series = f"{study}.{place.series}"
    sop = f"{series}.{place.number}"
    day = f"202{place.study % 5}{1 + place.study % 12:02d}{1 + place.study % 28:02d}"
    seconds = 28800 + place.series * 300 + place.number
    time = f"{seconds // 3600:02d}{seconds // 60 % 60:02d}{seconds % 60:02d}.{dice.randrange(10**6):06d}"
    began = f"{8 + place.study % 10:02d}1500"
    z = -300 + place.number * 1.25
    elements: list[tuple[int, str, object]] = [
        (0x00080005, "CS", "ISO_IR 100"),
        (0x00080008, "CS", "ORIGINAL\\PRIMARY\\AXIAL"),
        (0x00080012, "DA", day), (0x00080013, "TM", time),
        (0x00080016, "UI", sop_class), (0x00080018, "UI", sop),
        (0x00080020, "DA", day), (0x00080021, "DA", day), (0x00080022, "DA", day), (0x00080023, "DA", day),
        (0x00080030, "TM", began), (0x00080031, "TM", f"{began[:2]}2{place.series % 10}00"),
        (0x00080032, "TM", time), (0x00080033, "TM", time),
        (0x00080050, "SH", f"ACC{place.study:07d}"), (0x00080060, "CS", modality),
        (0x00080070, "LO", "Example Medical"), (0x00080080, "LO", "St Example Hospital"),
        (0x00080090, "PN", "Referrer^Rita^^Dr"), (0x00081010, "SH", "CT01"),
        (0x00081030, "LO", "CT chest with contrast"),
        (0x00081032, "SQ", [code("24627-2", "LN", "CT Chest")]),
        (0x0008103E, "LO", f"Chest {place.series} mm"), (0x00081040, "LO", "Radiology"),
        (0x00081050, "PN", "Performer^Paul"), (0x00081070, "PN", "Operator^Olga"),
        (0x00081090, "LO", "Scanner 9000"),
        (0x00081110, "SQ", [[(0x00081150, "UI", "1.2.840.10008.3.1.2.3.1"), (0x00081155, "UI", f"{study}.9999")]]),
        (0x00081140, "SQ", [[(0x00081150, "UI", CT), (0x00081155, "UI", f"{study}.1.1")]]),
        (0x00082218, "SQ", [code("51185008", "SCT", "Chest")]),
        (0x00090010, "LO", "EXAMPLE PRIVATE 01"), (0x00091001, "LO", "internal"), (0x00091002, "UN", bytes(64)),
        (0x00091027, "SL", struct.pack("<i", 1700000000 + place.number)),
        (0x00100010, "PN", f"Family{place.study}^Given"), (0x00100020, "LO", f"PID{place.study:06d}"),
        (0x00100021, "LO", "EXAMPLE"), (0x00100030, "DA", f"19{50 + place.study % 50}0312"),
        (0x00100040, "CS", "FM"[place.study % 2]), (0x00101010, "AS", "054Y"), (0x00101020, "DS", "1.72"),
        (0x00101030, "DS", "70.5"), (0x001021B0, "LT", "cough"), (0x00104000, "LT", "none"),
        (0x00180010, "LO", "Iohexol"), (0x00180015, "CS", "CHEST"), (0x00180022, "CS", "HELICAL MODE"),
        (0x00180050, "DS", "1.25"), (0x00180060, "DS", "120"), (0x00180090, "DS", "500"),
        (0x00181000, "LO", "SN12345"), (0x00181020, "LO", "v7.3"), (0x00181030, "LO", "Chest protocol"),
        (0x00181100, "DS", "360.0"), (0x00181110, "DS", "949.07"), (0x00181111, "DS", "541.0"),
        (0x00181120, "DS", "0.0"), (0x00181130, "DS", "162.5"), (0x00181140, "CS", "CW"),
        (0x00181150, "IS", "570"), (0x00181151, "IS", str(200 + dice.randrange(300))),
        (0x00181152, "IS", str(10 + dice.randrange(80))), (0x00181160, "SH", "BODY FILTER"),
        (0x00181170, "IS", "48000"), (0x00181190, "DS", "1.2"), (0x00181210, "SH", "STANDARD"),
        (0x00185100, "CS", "FFS"), (0x00189306, "FD", struct.pack("<d", 0.625)),
        (0x00189307, "FD", struct.pack("<d", 40.0)), (0x00189309, "FD", struct.pack("<d", 39.4)),
        (0x00189310, "FD", struct.pack("<d", 78.8)), (0x00189311, "FD", struct.pack("<d", 0.984)),
        (0x00190010, "LO", "EXAMPLE ACQU 01"), (0x00191002, "SL", struct.pack("<i", 912)),
        (0x00191003, "DS", "389.75"), (0x00191004, "DS", "1.0166"), (0x0019100F, "DS", "695.4"),
        (0x00191018, "LO", "I"), (0x0019101A, "LO", "S"), (0x00191023, "DS", "39.37"),
        (0x00191024, "DS", str(round(z * 8, 3))), (0x0019102C, "SL", struct.pack("<i", 7000 + place.number)),
        (0x0020000D, "UI", study), (0x0020000E, "UI", series), (0x00200010, "SH", str(place.study)),
        (0x00200011, "IS", str(place.series)), (0x00200012, "IS", "1"), (0x00200013, "IS", str(place.number)),
        (0x00200032, "DS", f"-180.0\\-180.0\\{z:.3f}"), (0x00200037, "DS", "1.0\\0.0\\0.0\\0.0\\1.0\\0.0"),
        (0x00200052, "UI", f"{series}.0"), (0x00201040, "LO", "XY"), (0x00201041, "DS", f"{z:.3f}"),
        (0x00204000, "LT", "no comment"),
        (0x00210010, "LO", "EXAMPLE RELA 01"), (0x00211003, "SS", us(0)), (0x00211035, "SL", struct.pack("<i", 1)),
        (0x00211091, "SL", struct.pack("<i", place.number * 3)),
        (0x00230010, "LO", "EXAMPLE STUD 01"), (0x00231070, "FD", struct.pack("<d", 1.7e9 + place.number)),
        (0x00270010, "LO", "EXAMPLE IMAG 01"), (0x00271041, "FL", struct.pack("<f", z)),
        (0x00271042, "FL", struct.pack("<f", 0.5)), (0x00271050, "LO", "A" * 40),
        (0x00280002, "US", us(1)), (0x00280004, "CS", "MONOCHROME2"),
        (0x00280030, "DS", "0.703125\\0.703125"), (0x00280100, "US", us(16)), (0x00280101, "US", us(16)),
        (0x00280102, "US", us(15)), (0x00280103, "US", us(1)), (0x00280120, "SS", us(63536)),
        (0x00281050, "DS", "40"), (0x00281051, "DS", "400"), (0x00281052, "DS", "-1024"),
        (0x00281053, "DS", "1"), (0x00281054, "LO", "HU"),
        (0x00321032, "PN", "Requester^Ray"), (0x00321060, "LO", "CT chest"),
        (0x00400244, "DA", day), (0x00400245, "TM", began), (0x00400253, "SH", f"PPS{place.study}"),
        (0x00400254, "LO", "CT chest"),
        (0x00400275, "SQ", [[(0x00321060, "LO", "CT chest"), (0x00400007, "LO", "CT chest"),
                             (0x00400009, "SH", f"SPS{place.study}"), (0x00401001, "SH", f"RP{place.study}")]]),
    ]  # fmt: skip
    return elements


def image(rows: int) -> list:
    return [
        (0x00280010, "US", us(rows)), (0x00280011, "US", us(rows)),
        (0x7FE00010, "OW", bytes(rows * rows * 2)),
    ]  # fmt: skip


def wrap(elements: list, syntax: str = EXPLICIT, *, undefined: bool = False) -> bytes:
    """Preamble, file meta information, data set (PS3.10 section 7.1)."""
    by_tag = {tag: value for tag, _, value in elements}
    meta_encoder = Encoder()
    meta = b"".join(
        meta_encoder.element(*one)
        for one in (
            (0x00020001, "OB", b"\0\1"),
            (0x00020002, "UI", by_tag[0x00080016]),
            (0x00020003, "UI", by_tag[0x00080018]),
            (0x00020010, "UI", syntax),
            (0x00020012, "UI", f"{ROOT}.0"),
            (0x00020013, "SH", "BENCH_1"),
        )
    )
    encoder = Encoder(explicit=syntax != IMPLICIT, undefined=undefined)
    data = b"".join(encoder.element(*one) for one in sorted(elements, key=lambda one: one[0]))
    if syntax == DEFLATED:
        squeeze = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
        data = squeeze.compress(data) + squeeze.flush()
        data += b"\0" * (len(data) % 2)
    length = meta_encoder.element(0x00020000, "UL", struct.pack("<I", len(meta)))
    return bytes(128) + b"DICM" + length + meta + data


def instance(place: Place, kind: str = "small") -> bytes:
    """One instance of a kind of corpus; the same place gives the same bytes."""
    dice = random.Random(f"{SEED}/{place}")
    if kind == "single":
        elements = common(place, dice, DX, "DX") + image(24)
        return wrap(elements)
    elements = common(place, dice, CT, "CT")
    if kind == "ct512":
        return wrap(elements + image(512), undefined=bool(place.series % 2))
    if kind == "implicit":
        return wrap(elements + image(24), IMPLICIT)
    if kind == "deflated":
        return wrap(elements + image(24), DEFLATED)
    if kind == "private":
        big = dice.randbytes(1000) * 80
        items = [[(0x00431002, "LO", f"{index} {dice.random()}")] for index in range(60)]
        more = [
            (0x00430010, "LO", "EXAMPLE HEAVY 01"), (0x00431001, "OB", big), (0x00431010, "SQ", items),
            (0x00431020, "OB", big[:60000]), (0x00431030, "SQ", items * 3),
        ]  # fmt: skip
        return wrap(elements + more + image(24), undefined=bool(place.series % 2))
    if kind == "enhanced":
        frames = 50 + place.number * 10
        per_frame = [
            [(0x00209113, "SQ", [[(0x00200032, "DS", f"0\\0\\{index}")]]),
             (0x00209111, "SQ", [[(0x00209157, "UL", struct.pack("<II", 1, index))]])]
            for index in range(frames)
        ]  # fmt: skip
        elements = [one for one in elements if one[0] not in {0x00200032, 0x00200037}]
        elements = [(t, v, ENHANCED if t == 0x00080016 else x) for t, v, x in elements]
        more = [
            (0x00280008, "IS", str(frames)), (0x52009229, "SQ", [[(0x00289110, "SQ", [[(0x00280030, "DS", "1\\1")]])]]),
            (0x52009230, "SQ", per_frame), (0x00280010, "US", us(16)), (0x00280011, "US", us(16)),
            (0x7FE00010, "OW", bytes(frames * 512)),
        ]  # fmt: skip
        return wrap(elements + more, undefined=bool(place.series % 2))
    return wrap(elements + image(24), undefined=bool(place.series % 2))


@dataclass(frozen=True)
class Corpus:
    """Name, size, and how many studies, series and images."""

    name: str
    kind: str
    studies: int
    series: int
    images: int
    what: str
    spread: Callable[[Place], str] = lambda p: (
        f"st{p.study:05d}/se{p.series:02d}/im{p.number:05d}.dcm"
    )

    @property
    def count(self) -> int:
        return self.studies * self.series * self.images

    def places(self) -> Iterator[Place]:
        for study in range(1, self.studies + 1):
            for series in range(1, self.series + 1):
                for number in range(1, self.images + 1):
                    yield Place(study, series, number)


def flat(place: Place) -> str:
    return f"d{place.study // 1000:03d}/im{place.study:06d}.dcm"


CORPORA = {
    corpus.name: corpus
    for corpus in (
        Corpus("ct512", "ct512", 6, 5, 50, "CT 512x512, 0.5 MB"),
        Corpus("small", "small", 20, 5, 100, "CT header, 5 KB"),
        Corpus("small-100k", "small", 200, 5, 100, "CT header, 5 KB"),
        Corpus("implicit", "implicit", 4, 5, 100, "CT header, implicit VR, 5 KB"),
        Corpus("deflated", "deflated", 2, 5, 50, "CT header, deflated"),
        Corpus("private", "private", 4, 5, 50, "CT header, 150 KB private elements"),
        Corpus("enhanced", "enhanced", 2, 2, 25, "enhanced CT, 60 to 300 frames"),
        Corpus("single", "single", 10_000, 1, 1, "one-image studies, 5 KB", flat),
        Corpus("fresh", "single", 2_000, 1, 1, "one-image studies, 5 KB", flat),
    )
}


def make(corpus: Corpus, root: Path) -> Path:
    """Write a corpus below a folder, unless it is there already."""
    folder = root / corpus.name
    done = folder / ".whole"
    if done.exists():
        return folder / "files"
    for place in corpus.places():
        path = folder / "files" / corpus.spread(place)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(instance(place, corpus.kind))
    done.touch()
    return folder / "files"
