"""A deflated data set gives its bytes as if it were inflated at once, and holds little of them."""

from __future__ import annotations

import random
import zlib

import pytest

from converter.reading.result import Refused
from converter.reading.source import Bytes, Inflated

FRONT = b"front"
PLAIN = random.Random(1).randbytes(3_000_000) + bytes(3_000_000)


def squeezed(data, level=1):
    squeeze = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return FRONT + squeeze.compress(data) + squeeze.flush()


def inflated(data, head=0, limit=1 << 26):
    return Inflated(Bytes(data), len(FRONT), limit, data[len(FRONT) : len(FRONT) + head])


@pytest.mark.parametrize("head", [0, 1, 8192, 1 << 26])
@pytest.mark.parametrize("level", [0, 1])
def test_bytes_are_those_that_were_deflated_wherever_one_reads_on(head, level):
    dice = random.Random(head + level)
    data = squeezed(PLAIN, level) + b"behind"
    for _ in range(5):
        source, offset = inflated(data, head), 0
        while offset < len(PLAIN) + 10_000:
            size = dice.choice((0, 1, 8, 8192, 65_536, 400_000))
            assert source.read(offset, size) == PLAIN[offset : offset + size]
            assert source.size in {None, len(PLAIN)}
            offset += dice.choice((0, 1, size, size, size + 1, 300_000))
        assert source.read(offset, 1) == b""
        assert source.size == len(PLAIN)
        assert not source.reaches(len(PLAIN) + 1)
        assert source.restart().read(0, 10) == PLAIN[:10]


def test_what_is_passed_is_held_no_longer():
    source = inflated(squeezed(PLAIN))
    assert source.read(5_000_000, 100) == bytes(100)
    assert len(source._window) < 1 << 20


def test_the_end_is_looked_for_where_it_is_near():
    source = inflated(squeezed(PLAIN[:100_000])[:-10_000])
    source.read(0, 100)
    assert source.size is None
    assert source.reaches(80_000)
    assert not source.reaches(100_000)


def test_no_more_is_inflated_than_the_limit():
    source = inflated(squeezed(PLAIN), limit=1_000_000)
    assert source.read(999_990, 10) == PLAIN[999_990:1_000_000]
    with pytest.raises(Refused) as refused:
        source.read(999_990, 11)
    assert refused.value.reason == "inflate-limit"


def test_what_is_not_deflated_is_malformed():
    with pytest.raises(Refused) as refused:
        inflated(FRONT + b"\xff" * 100).read(0, 1)
    assert refused.value.reason == "malformed"
