"""Elements taken by a pattern are read as they are one by one, whatever is done to the bytes."""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from pydicom.data import get_testdata_file

from benchmarks.corpora import DEFLATED, EXPLICIT, IMPLICIT, Place, instance, wrap
from converter.core.header import Unreadable
from converter.reading import Read, elements, read_bytes, read_stream
from converter.reading.elements import Known
from converter.reading.result import Limits
from converter.reading.trace import Follower
from converter.reading.walk import plan
from tests.reading.test_trace import FLIPS, NARROW, STRIDE, WANTED

CT = "1.2.840.10008.5.1.4.1.1.2"
KINDS = ["small", "single", "implicit", "deflated", "private", "enhanced"]


class Walking:
    """A reader that follows no traces, has a pattern of what it was shown, and learns no more."""

    def __init__(self, headers: list[bytes], wanted: dict[int, Any] = WANTED) -> None:
        self.wanted = dict(wanted)
        what = plan(self.wanted)
        follower = what.follower = Follower(what)
        follower.follow = lambda *_: None  # type: ignore[method-assign]
        follower.missed = lambda *_: None  # type: ignore[method-assign]
        for data in headers:
            read_bytes(data, self.wanted)
        self.taken = 0
        for explicit in (True, False):
            known = what.known(explicit=explicit, little=True)
            known.walked(len(known.memo) * elements._PAYS[0] + 1)
            self._keep(known)

    def _keep(self, known: Known) -> None:
        known.walked = lambda _: None  # type: ignore[method-assign]
        pattern = known.pattern
        if pattern is None:
            return
        take = pattern.take

        def counting(data, at, header):
            taken = take(data, at, header)
            self.taken += taken is not None
            return taken

        pattern.take = counting  # type: ignore[method-assign]

    def check(self, data: bytes) -> Read | Unreadable:
        """Read an object with a pattern and without: the same."""
        found = read_bytes(data, self.wanted)
        assert found == read_bytes(data, self.wanted, limits=NARROW), data.hex()
        return found


def headers_of(kind: str) -> list[bytes]:
    return [
        instance(Place(1 + study, series, 8 + number), kind)
        for study in range(3)
        for series in (1, 2)
        for number in range(2)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_headers_of_other_studies_are_read_as_element_by_element(kind):
    walking = Walking(headers_of(kind))
    for study in (7, 90):
        for series in (3, 4):
            walking.taken = 0
            assert isinstance(walking.check(instance(Place(study, series, 3), kind)), Read)
            assert 0 < walking.taken < 12


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("series", [1, 2])
def test_any_byte_may_be_another(kind, series):
    walking = Walking(headers_of(kind))
    data = instance(Place(5, series, 3), kind)
    for at in range(0, min(len(data), 4200), STRIDE):
        walking.check(data[:at] + bytes([data[at] ^ FLIPS[at % 3]]) + data[at + 1 :])
    assert walking.taken


@pytest.mark.parametrize("kind", ["small", "implicit", "private"])
def test_any_cut_is_read_as_element_by_element(kind):
    walking = Walking(headers_of(kind))
    data = instance(Place(5, 1, 3), kind)
    for end in range(0, min(len(data), 9000), 23):
        walking.check(data[:end])
    assert walking.taken


@pytest.mark.parametrize("kind", ["small", "implicit"])
def test_numbers_of_one_digit_more_are_taken_with_the_rest(kind):
    walking = Walking([instance(Place(study, 2, 8), kind) for study in (8, 108)])
    assert isinstance(walking.check(instance(Place(1008, 2, 8), kind)), Read)
    assert walking.taken == 1


TAGS = [
    (0x00080005, "CS"), (0x00080008, "CS"), (0x00080020, "DA"), (0x00080060, "CS"), (0x00081030, "LO"),
    (0x00081032, "SQ"), (0x00081140, "SQ"), (0x00089999, "SQ"), (0x00091001, "UN"), (0x00091002, "OB"),
    (0x00091003, "UT"), (0x00091004, "SQ"), (0x00100010, "PN"), (0x00100020, "LO"), (0x00180015, "CS"),
    (0x00181151, "IS"), (0x00189306, "FD"), (0x00200011, "IS"), (0x00200013, "IS"), (0x00280008, "IS"),
    (0x00280010, "US"), (0x00280103, "US"), (0x00400275, "SQ"), (0x0040A730, "SQ"), (0x00431001, "OB"),
]  # fmt: skip
INNER = [
    (0x00080100, "SH"), (0x00080102, "SH"), (0x00081150, "UI"), (0x00081155, "UI"), (0x00400009, "SH"),
    (0x00401001, "SH"), (0x0040A043, "SQ"), (0x00091002, "OB"), (0x00FF1001, "LO"), (0x00081140, "SQ"),
]  # fmt: skip


def drawn(dice: random.Random, depth: int = 0) -> list[tuple[int, str, Any]]:
    """Elements of a data set or an item: some of those there are, now and then twice or out of order."""
    several = INNER if depth else TAGS
    chosen = sorted(one for one in several if dice.random() < (0.4 if depth else 0.7))
    found = [(tag, vr, value(dice, vr, depth)) for tag, vr in chosen if vr != "SQ" or depth < 3]
    if found and dice.random() < 0.05:
        found.insert(dice.randrange(len(found)), dice.choice(found))
    return found


def value(dice: random.Random, vr: str, depth: int) -> Any:
    if vr == "SQ":
        return [drawn(dice, depth + 1) for _ in range(dice.choice((0, 1, 1, 1, 2, 5)))]
    if vr in {"OB", "UN"} and dice.random() < 0.06:
        return bytes(dice.choice((100, 9000, 70_000))) if dice.random() < 0.9 else [[]]
    if dice.random() < 0.03:
        return bytes(dice.randrange(80))
    return dice.randbytes(2 * dice.choice((0, 1, 2, 4, 4, 4, 8)))


def encode(elements: list, dice: random.Random, *, explicit: bool) -> bytes:
    """Write elements; whether lengths of sequences and items are given is drawn for each of them."""
    data = b""
    for tag, vr, given in elements:
        content, length = given, None
        if isinstance(given, list):
            body = b""
            for one in given:
                inside = encode(one, dice, explicit=explicit)
                if dice.random() < 0.8:
                    body += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + inside
                    body += struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
                else:
                    body += struct.pack("<HHI", 0xFFFE, 0xE000, len(inside)) + inside
            if vr != "SQ" or dice.random() < 0.6:
                body += struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
                length = 0xFFFFFFFF
            content = body
        length = len(content) if length is None else length
        data += struct.pack("<HH", tag >> 16, tag & 0xFFFF)
        if not explicit:
            data += struct.pack("<I", length)
        elif vr in {"OB", "UN", "UT", "SQ"}:
            data += vr.encode() + struct.pack("<HI", 0, length)
        else:
            data += vr.encode() + struct.pack("<H", length)
        data += content
    return data


def written(dice: random.Random, syntax: str) -> bytes:
    uid = f"1.2.{dice.randrange(10 ** dice.randrange(1, 9))}".encode()
    uid += b"\0" * (len(uid) % 2)
    identity = [
        (0x00080016, "UI", CT.encode() + b"\0"),
        (0x00080018, "UI", uid),
        (0x0020000D, "UI", b"1.2.3.4\0"),
        (0x0020000E, "UI", uid),
    ]
    elements = drawn(dice)
    elements = sorted(elements + identity, key=lambda one: one[0])
    if dice.random() < 0.1:
        elements.insert(dice.randrange(len(elements)), elements.pop())
    data = encode(elements, dice, explicit=syntax != IMPLICIT)
    front = wrap([(tag, vr, content.decode()) for tag, vr, content in identity], syntax)
    begin = 144 + int.from_bytes(front[140:144], "little")
    if syntax == DEFLATED:
        squeeze = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
        data = squeeze.compress(data) + squeeze.flush()
    return front[:begin] + data


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, DEFLATED])
@pytest.mark.parametrize("seed", range(3))
def test_data_sets_of_any_make_are_read_as_element_by_element(syntax, seed):
    dice = random.Random(seed)
    walking = Walking([written(dice, syntax) for _ in range(80)])
    readable = 0
    for _ in range(150):
        data = written(dice, syntax)
        readable += isinstance(walking.check(data), Read)
        for _ in range(3):
            at = dice.randrange(130, len(data))
            size = dice.choice((0, 1, 1, 4, 8))
            piece = dice.choice((b"", dice.randbytes(size), data[at + size : at + 2 * size]))
            walking.check(data[:at] + piece + data[at + size :])
    assert readable > 100
    assert walking.taken > 200


def test_elements_out_of_order_are_seen_where_a_pattern_takes_what_is_around_them():
    dice = random.Random(1)
    elements = [
        (0x00080016, "UI", CT.encode() + b"\0"),
        (0x00080018, "UI", b"1.2.3.4\0"),
        (0x00180015, "CS", b"CHEST "),
        (0x0020000D, "UI", b"1.2.3.4\0"),
        (0x0020000E, "UI", b"1.2.3.4\0"),
        (0x00280008, "IS", b"12"),
        (0x0040A730, "SQ", []),
    ]
    late = [(0x00431001, "OB", bytes(6)), (0x7FE00010, "OB", bytes(8))]
    front = wrap([(tag, vr, content.decode()) for tag, vr, content in elements[:2]])
    front = front[: 144 + int.from_bytes(front[140:144], "little")]
    walking = Walking([front + encode(elements + late, dice, explicit=True)])
    for one in range(len(elements)):
        for other in range(len(elements) + len(late)):
            moved = elements + late
            moved.insert(other, moved.pop(one))
            walking.check(front + encode(moved, dice, explicit=True))
            moved.insert(other, moved[one])
            walking.check(front + encode(moved, dice, explicit=True))
    assert walking.taken


def test_elements_out_of_order_do_not_end_a_walk_whose_rest_cannot_be_looked_at():
    dice = random.Random(1)
    identity = [
        (0x00080016, "UI", CT.encode() + b"\0"),
        (0x00080018, "UI", b"1.2.3.4\0"),
        (0x0020000D, "UI", b"1.2.3.4\0"),
        (0x0020000E, "UI", b"1.2.3.4\0"),
    ]
    front = wrap([(tag, vr, content.decode()) for tag, vr, content in identity])
    front = front[: 144 + int.from_bytes(front[140:144], "little")]
    known = [(0x00080060, "CS", b"CT"), *identity]
    walking = Walking([front + encode(sorted(known), dice, explicit=True)])
    odd = [
        *identity,
        (0x00280008, "IS", b"1234"),
        (0x00080060, "CS", b"CT"),
        (0x00431001, "OB", bytes(20_000)),
        (0x00100010, "PN", b"late"),
    ]
    stream = io.BytesIO(front + encode(odd, dice, explicit=True))
    found = read_stream(stream, None, walking.wanted)
    assert isinstance(found, Read)
    assert found.header[0x00100010] == b"late"
    assert walking.taken


def test_bounds_hold_where_there_is_a_pattern():
    walking = Walking(headers_of("small"))
    data = instance(Place(5, 1, 3), "small")
    walking.check(data)
    assert walking.taken
    for tight in (Limits(elements=3), Limits(depth=0)):
        refused = read_bytes(data, walking.wanted, limits=tight)
        assert refused == read_bytes(data, dict(WANTED), limits=tight)
        assert isinstance(refused, Unreadable)


def test_big_endian_elements_are_read_one_by_one_however_often():
    data = Path(get_testdata_file("ExplVR_BigEnd.dcm")).read_bytes()
    wanted = dict(WANTED)
    first = read_bytes(data, wanted)
    assert isinstance(first, Read)
    known = plan(wanted).known(explicit=True, little=False)
    known.walked(len(known.memo) * elements._PAYS[0] + 1)
    assert known.pattern is None
    assert read_bytes(data, wanted) == first


def test_a_pattern_is_made_anew_only_where_there_is_more_to_know(monkeypatch):
    made = 0
    compile_ = Known._compile

    def counting(known):
        nonlocal made
        made += 1
        compile_(known)

    monkeypatch.setattr(Known, "_compile", counting)
    data = headers_of("small")
    wanted = dict(WANTED)
    what = plan(wanted)
    what.follower = Follower(what)
    what.follower.follow = lambda *_: None
    what.follower.missed = lambda *_: None
    for _ in range(500):
        for one in data:
            read_bytes(one, wanted)
    assert made == 1


def test_a_pattern_has_a_bound_however_many_elements_there_are():
    known = Known({0x00080018: None}, 0x00090000, {}, explicit=True, little=True)
    for element in range(40):
        for length in range(0, 1000, 2):
            known.learn(struct.pack("<HH2sH", 0x0008, element, b"LO", length))
    known.walked(len(known.memo) * elements._PAYS[0] + 1)
    assert known.pattern is not None
    assert known.pattern._match.__self__.pattern.count(b"LO") <= elements._MOST
