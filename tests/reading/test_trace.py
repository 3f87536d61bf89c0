"""A trace gives what walking gives, whatever is done to the bytes."""

from __future__ import annotations

import random
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.corpora import CT, Place, common, image, instance, wrap
from converter.core.header import Split, Unreadable
from converter.reading import Read, read_bytes, read_file
from converter.reading.reader import _read_source
from converter.reading.result import DEFAULT, Limits
from converter.reading.source import Bytes
from converter.reading.trace import Followed, Follower
from converter.reading.walk import plan

CODE = {0x00080100: None, 0x00080102: None, 0x00080104: None}
WANTED: dict[int, Any] = {
    0x00080008: None,
    0x00080020: None,
    0x00080030: None,
    0x00080050: None,
    0x00080060: None,
    0x00081030: None,
    0x00081032: CODE,
    0x00081140: {0x00081150: None, 0x00081155: None},
    0x00082218: CODE,
    0x00100010: None,
    0x00100020: None,
    0x00180015: None,
    0x00200011: None,
    0x00200013: None,
    0x00200032: None,
    0x00280008: None,
    0x00400275: {0x00400009: None, 0x00401001: None},
    0x0040A730: {0x0040A043: CODE},
}
KINDS = ["small", "single", "implicit", "deflated", "private", "enhanced"]
STRIDE = 11
"""Every byte is taken in the fuzz target (``tests/fuzz``)."""
FLIPS = (1, 0x80, 0x20)
NARROW = Limits(elements=1 << 16)
"""Bounds for which no trace is followed and no sequence read the quick way: what walking gives."""
LISTENER = Limits(header=1 << 20)
"""Bounds that are tighter, but not too tight for a trace."""


class Learned:
    """A reader that has seen some headers, and learns no more."""

    def __init__(self, headers: list[bytes], wanted: dict[int, Any] = WANTED) -> None:
        self.wanted = dict(wanted)
        self.follower = plan(self.wanted).follower = Follower(plan(self.wanted))
        for data in headers:
            read_bytes(data, self.wanted)
        self.hits = 0
        self.follower.missed = lambda *_: None
        follow = self.follower.follow

        def counting(*arguments: Any) -> Any:
            followed = follow(*arguments)
            self.hits += isinstance(followed, (Followed, Read))
            return followed

        self.follower.follow = counting

    def read(self, data: bytes, limits: Limits = DEFAULT) -> Read | Unreadable:
        return _read_source(Bytes(data), self.wanted, limits)


def walked(data: bytes) -> Read | Unreadable:
    return read_bytes(data, WANTED, limits=NARROW)


def series(kind: str, count: int = 6, number: int = 1) -> list[bytes]:
    return [
        instance(Place(1 + index * (kind == "single"), number, 8 + index), kind)
        for index in range(count)
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [1, 2])
def test_further_images_of_a_series_are_followed_and_read_as_walking_reads_them(kind, number):
    learned = Learned(series(kind, 30 if kind == "single" else 6, number))
    for data in series(kind, 50, number)[30:]:
        assert learned.read(data) == walked(data)
    assert learned.hits >= 18


def scheduled(index: int, *more: tuple[int, str, object]) -> bytes:
    """An image whose sequence differs from that of the others."""
    elements = common(Place(1, 1, 8), random.Random(1), CT, "CT")
    steps = [[(0x00400009, "SH", "A" * index), *more]]
    kept = [one for one in elements if one[0] != 0x00400275]
    return wrap([*kept, (0x00400275, "SQ", steps), *image(24)])


def test_bounds_hold_for_a_sequence_within_a_trace():
    learned = Learned([scheduled(index) for index in range(20)])
    assert learned.read(scheduled(30), LISTENER) == walked(scheduled(30))
    assert learned.hits == 1
    large = scheduled(30, (0x00400FFF, "UN", bytes(1 << 20)))
    assert isinstance(learned.read(large), Read)
    refused = learned.read(large, LISTENER)
    assert isinstance(refused, Unreadable)
    assert refused.reason == "header-limit"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [0, 5])
def test_any_byte_that_is_another_gives_what_walking_gives(kind, number):
    headers = series(kind)
    learned = Learned(headers)
    data = headers[-1]
    end = min(len(data), 4200)
    for at in range(number, end, STRIDE):
        other = data[:at] + bytes([data[at] ^ FLIPS[at % 3]]) + data[at + 1 :]
        assert learned.read(other) == walked(other), at
    assert 128 // STRIDE <= learned.hits < end // STRIDE


@pytest.mark.parametrize("kind", ["small", "single", "private"])
def test_any_cut_gives_what_walking_gives(kind):
    headers = series(kind)
    learned = Learned(headers)
    for end in range(0, min(len(headers[-1]), 9000), 23):
        assert learned.read(headers[-1][:end]) == walked(headers[-1][:end]), end


META = 144 + int.from_bytes(instance(Place(1, 1, 8), "deflated")[140:144], "little")


def deflated(data: bytes, level: int = 6, flush: int = 0, size: int = 600) -> bytes:
    """An image of the corpus with its data set deflated in some other way."""
    begin = 144 + int.from_bytes(data[140:144], "little")
    squeeze = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    stream = b""
    for at in range(begin, len(data), size):
        stream += squeeze.compress(data[at : at + size])
        if flush:
            stream += squeeze.flush(flush)
    return instance(Place(1, 1, 8), "deflated")[:META] + stream + squeeze.flush()


@pytest.mark.parametrize("kind", ["small", "single", "private"])
@pytest.mark.parametrize(
    ("level", "flush"), [(0, 0), (1, 0), (9, zlib.Z_FULL_FLUSH), (6, zlib.Z_SYNC_FLUSH)]
)
def test_deflated_headers_are_followed_however_they_were_deflated(kind, level, flush):
    plain = series(kind, 34)
    learned = Learned([deflated(data) for data in plain[:30]])
    for data in plain[30:]:
        other = deflated(data, level, flush)
        result = learned.read(other)
        assert isinstance(result, Read)
        assert result == walked(other)
        assert result.header == walked(data).header
        assert learned.read(other + b"\0") == learned.read(other + b"more") == result
    assert learned.hits == 12


@pytest.mark.parametrize("kind", ["small", "private"])
def test_a_deflated_header_that_is_cut_gives_what_walking_gives(kind):
    plain = series(kind)
    learned = Learned([deflated(data) for data in plain])
    whole = deflated(plain[-1], 1)
    for end in range(META - 10, len(whole), 7 if kind == "small" else 1001):
        assert learned.read(whole[:end]) == walked(whole[:end]), end
    data = plain[-1]
    for end in range(400, min(len(data), 9000), 23):
        short = deflated(data[:end], 0)
        assert learned.read(short) == walked(short), end
    assert learned.hits


def test_any_byte_of_what_was_deflated_may_be_another():
    plain = series("small")
    learned = Learned([deflated(data) for data in plain])
    data = plain[-1]
    begin = 144 + int.from_bytes(data[140:144], "little")
    for at in range(begin, len(data), STRIDE):
        other = deflated(data[:at] + bytes([data[at] ^ FLIPS[at % 3]]) + data[at + 1 :], 1)
        assert learned.read(other) == walked(other), at
    assert learned.hits


def test_a_deflated_data_set_that_begins_like_file_meta_information_is_not_taken_for_it():
    plain = series("small")
    learned = Learned([deflated(data) for data in plain])
    begin = 144 + int.from_bytes(plain[-1][140:144], "little")
    for more in (plain[-1][132:begin], plain[-1][144:begin]):
        other = deflated(plain[-1][:begin] + more + plain[-1][begin:])
        assert learned.read(other) == walked(other)
    result = learned.read(deflated(plain[-1])[132:])
    assert result == walked(deflated(plain[-1])[132:])
    assert isinstance(result, Read)
    assert result.findings == ("no-preamble",)


def test_deflated_pixels_that_are_cut_are_a_finding():
    dice = random.Random(1)
    plain = [
        wrap([*common(Place(1, 1, number), dice, CT, "CT"), *image(100)]) for number in range(6)
    ]
    learned = Learned([deflated(data) for data in plain])
    for data in (deflated(plain[0], 0), deflated(plain[0])):
        for result in (learned.read(data[:-40]), walked(data[:-40])):
            assert isinstance(result, Read)
            assert result.findings == ("truncated",)
        assert learned.read(data).findings == ()
    assert learned.hits == 4


def test_no_trace_goes_beyond_the_limit_of_what_is_inflated():
    plain = series("private")
    learned = Learned([deflated(data) for data in plain])
    for limit in (100, 5000, 100_000):
        tight, narrow = Limits(inflate=limit), Limits(inflate=limit, elements=1 << 16)
        read_bytes(deflated(plain[0]), WANTED, limits=narrow)
        assert learned.read(deflated(plain[0]), tight) == read_bytes(
            deflated(plain[0]), WANTED, limits=narrow
        )


@pytest.mark.parametrize("kind", ["single", "enhanced"])
def test_headers_of_one_length_are_taken_apart_with_the_sequences_in_them(kind):
    learned = Learned(series(kind, 60))
    for data in series(kind, 80)[60:]:
        assert learned.read(data) == walked(data)
        result = learned.read(data)
        assert isinstance(result, Read)
        if kind == "single":
            assert isinstance(result.kept, Split)


def scheduled_early(index: int, *, early: bool) -> bytes:
    """An image of a study of its own; an element stands behind its sequence or, as long, within it."""
    elements = common(Place(100 + index, 1, 8), random.Random(1), CT, "CT")
    whole = wrap([one for one in elements if one[0] != 0x00400275] + image(24))
    step = struct.pack("<HH2sH", 0x0040, 0x0009, b"SH", 8) + b"SPS%05d" % index
    late = struct.pack("<HH2sH", 0x0040, 0x1400, b"LO", 4) + b"late"
    ends = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    sequence = struct.pack("<HH2sHI", 0x0040, 0x0275, b"SQ", 0, 0xFFFFFFFF)
    sequence += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + step
    sequence += ends + late if early else late + ends
    at = whole.index(b"\xe0\x7f\x10\0OW")
    return whole[:at] + sequence + whole[at:]


def test_what_follows_a_sequence_that_ends_before_others_did_is_read():
    wanted = {**WANTED, 0x00401400: None}
    learned = Learned([scheduled_early(index, early=False) for index in range(40)], wanted)
    for index in range(40, 50):
        within, behind = (
            learned.read(scheduled_early(index, early=early)) for early in (False, True)
        )
        assert isinstance(within, Read)
        assert isinstance(within.kept, Split)
        assert 0x00401400 not in within.header
        assert isinstance(behind, Read)
        assert behind.header[0x00401400] == b"late"
        assert behind.header.items() - within.header.items() == {(0x00401400, b"late")}


def test_any_byte_before_the_items_of_a_sequence_may_be_another():
    headers = series("single", 40)
    learned = Learned(headers)
    data = headers[-1]
    assert isinstance(learned.read(data), Read)
    for tag in (0x00081110, 0x00081140, 0x00400275):
        begin = data.index(struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, b"SQ"))
        for at in range(begin, begin + 24):
            for bit in range(8):
                other = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
                assert learned.read(other) == walked(other), (at, bit)


def test_sequences_that_are_unusual_are_not_taken_apart_in_one_go():
    def unusual(index: int) -> bytes:
        elements = common(Place(1, 1, 8), random.Random(1), CT, "CT")
        steps = [[(0x00400009, "UT", f"SPS{index:05}")]]
        uid = f"1.2.{100 + index}"
        kept = [one for one in elements if one[0] not in {0x00400275, 0x00080018}]
        return wrap([*kept, (0x00080018, "UI", uid), (0x00400275, "SQ", steps), *image(24)])

    learned = Learned([unusual(index) for index in range(40)])
    for index in range(40, 60):
        assert learned.read(unusual(index)) == walked(unusual(index))
    assert learned.hits == 20


def test_frames_that_are_cut_are_no_matter_of_the_header():
    headers = series("enhanced", number=2)
    learned = Learned(headers)
    begin = headers[-1].index(struct.pack("<HH2s", 0x5200, 0x9230, b"SQ"))
    for end in (*range(begin - 4, begin + 20), begin + 500, len(headers[-1]) - 2):
        assert learned.read(headers[-1][:end]) == walked(headers[-1][:end]), end
    assert learned.hits == 10


def test_pixels_that_are_cut_are_a_finding_on_a_trace_too():
    headers = series("small")
    learned = Learned(headers)
    result = learned.read(headers[-1][:-2])
    assert isinstance(result, Read)
    assert result.findings == ("truncated",)
    assert learned.hits == 1


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_bytes_moved_doubled_and_dropped_give_what_walking_gives(data):
    headers = HEADERS[data.draw(st.sampled_from(sorted(HEADERS)))]
    learned = LEARNED[data.draw(st.sampled_from(sorted(LEARNED)))]
    whole = headers[data.draw(st.integers(0, len(headers) - 1))]
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(120, 4000))
        size = data.draw(st.integers(0, 40))
        piece = data.draw(st.sampled_from([b"", whole[at + size : at + 2 * size], b"\xff" * size]))
        whole = whole[:at] + piece + whole[at + size :]
    assert learned.read(whole) == walked(whole)


VALUES = st.binary(max_size=20).map(lambda value: value + b" " * (len(value) % 2))
TAGS = [
    (0x00080008, "CS"), (0x00080020, "DA"), (0x00080050, "SH"), (0x00080060, "CS"), (0x00081030, "LO"),
    (0x00091001, "UN"), (0x00100010, "PN"), (0x00100020, "LO"), (0x00180015, "CS"), (0x00200011, "IS"),
    (0x00200013, "IS"), (0x00200032, "DS"), (0x00280103, "US"), (0x00431001, "OB"),
]  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_headers_of_any_likeness_are_read_as_walking_reads_them(data):
    tags = data.draw(st.lists(st.sampled_from(TAGS), unique=True))
    fixed = {tag: data.draw(VALUES) for tag, _ in tags}
    syntax = data.draw(st.sampled_from(["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"]))
    wanted = dict(WANTED)
    for number in range(8):
        elements = [
            (0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.2"),
            (0x00080018, "UI", f"1.2.3.{number}"),
            (0x0020000D, "UI", "1.2.3"),
            (0x0020000E, "UI", "1.2.3.4"),
            *(
                (tag, vr, data.draw(VALUES) if data.draw(st.booleans()) else fixed[tag])
                for tag, vr in tags
            ),
        ]
        written = wrap(elements, syntax, undefined=data.draw(st.booleans()))
        assert read_bytes(written, wanted) == walked(written)


def test_learning_rests_where_no_two_headers_are_alike(tmp_path):
    wanted = dict(WANTED)
    calls = 0
    follower = plan(wanted).follower = Follower(plan(wanted))
    learn = follower._learn

    def counting(*arguments):
        nonlocal calls
        calls += 1
        learn(*arguments)

    follower._learn = counting
    headers = [
        wrap(
            [
                (0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.2"),
                (0x00080018, "UI", f"1.2.3.{number}"),
                (0x00090010 + number, "LO", "odd one out"),
                (0x0020000D, "UI", "1.2.3"),
                (0x0020000E, "UI", "1.2.3.4"),
            ]
        )
        for number in range(100)
    ]
    for _ in range(5):
        for data in headers:
            assert read_bytes(data, wanted) == walked(data)
    assert calls < 15


def test_a_file_is_read_on_a_trace_as_bytes_are(tmp_path):
    wanted = dict(WANTED)
    for number, data in enumerate(series("small", 8)):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(data)
        assert read_file(path, wanted) == walked(data)


HEADERS = {kind: series(kind) for kind in KINDS}
LEARNED = {kind: Learned(HEADERS[kind]) for kind in KINDS}
