"""Sequences that are passed end where they would if each element were looked at by itself."""

from __future__ import annotations

import random
import struct

import pytest

from converter.core.header import items
from converter.reading import quick

END, ITEM_END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0), struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
OPEN = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
OPEN_SEQUENCE = 0xFFFFFFFF


def short(element, value, *, explicit):
    if explicit:
        return struct.pack("<HH2sH", 0x0043, element, b"LO", len(value)) + value
    return struct.pack("<HHI", 0x0043, element, len(value)) + value


def sequence(chance, *, explicit):
    """Items of one to three elements, most alike; now and then one of a stated length, empty, or with a sequence in it."""
    made = b""
    for _ in range(chance.randint(2, 30)):
        inside = b"".join(
            short(0x1010 + n, bytes(2 * chance.randint(0, 2)), explicit=explicit)
            for n in range(chance.choice((1, 1, 1, 2, 3)))
        )
        kind = chance.random()
        if kind < 0.1:
            made += struct.pack("<HHI", 0xFFFE, 0xE000, len(inside)) + inside
            continue
        if kind < 0.2:
            inside = b""
        elif kind < 0.3:
            head = struct.pack(
                "<HH2sHI" if explicit else "<HHI",
                *((0x0043, 0x1099, b"SQ", 0) if explicit else (0x0043, 0x1099)),
                OPEN_SEQUENCE,
            )
            inside += head + OPEN + inside + ITEM_END + END
        made += OPEN + inside + ITEM_END
    return made + END


def end_of(data, memos, length=OPEN_SEQUENCE, *, explicit):
    try:
        return quick.items_at(data, 0, length, quick.NOTHING, memos, explicit=explicit)[1]
    except LookupError:
        return None


@pytest.mark.parametrize("explicit", [True, False])
def test_what_is_passed_item_by_item_ends_where_it_does_element_by_element(explicit, monkeypatch):
    joining = quick._further
    chance = random.Random(5)
    memos, plain = {}, {}

    def expect(data, length=OPEN_SEQUENCE):
        monkeypatch.setattr(quick, "_further", lambda _data, at, _memo: at)
        expected = end_of(data, plain, length, explicit=explicit)
        monkeypatch.setattr(quick, "_further", joining)
        assert end_of(data, memos, length, explicit=explicit) == expected
        return expected

    for _ in range(300):
        data = sequence(chance, explicit=explicit)
        assert expect(data + chance.randbytes(chance.randint(0, 30))) == len(data)
        for _ in range(20):
            expect(data[: chance.randrange(len(data))])
            flipped = bytearray(data)
            for _ in range(chance.randint(1, 3)):
                flipped[chance.randrange(len(data))] = chance.choice(
                    b"\x00\x08\xfe\xff\xe0\x0d\xdd"
                )
            expect(bytes(flipped))
            expect(bytes(flipped), len(data) // 2)
    assert any(len(key) == 24 for memo in memos.values() for key in memo)


def test_a_sequence_is_remembered_by_its_bytes_and_by_what_is_wanted_of_it():
    first, second = {0x00431010: None}, {0x00431011: None}
    data = OPEN + short(0x1010, b"one ", explicit=True) + short(0x1011, b"two ", explicit=True)
    data = b"\xff\xff\xff\xff" + data + ITEM_END + END
    sequences = quick.Sequences(explicit=True)
    for _ in range(2):
        assert items(sequences.packed(data, 4, first)) == [{0x00431010: b"one "}]
        assert items(sequences.packed(data, 4, second)) == [{0x00431011: b"two "}]
    assert sequences.packed(data + b"\0\0", 4, first) is None
    assert sequences.packed(data[:-1], 4, first) is None


def test_a_sequence_that_is_passed_ends_where_its_bytes_do_or_is_not_taken():
    sequences = quick.Sequences(explicit=False)
    assert sequences.packed(b"\4\0\0\0some", 4, quick.NOTHING) is not None
    for data in (b"\4\0\0\0more!", b"\4\0\0\0few", b"\0\0\0\0x"):
        assert sequences.packed(data, 4, quick.NOTHING) is None
