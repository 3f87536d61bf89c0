"""Fuzzing of the header reader: no crash, no hang, no memory beyond its bound, and neither a trace nor a pattern differs.

Run ``python -m tests.fuzz.fuzz_reading 60`` (seconds). With atheris installed it is guided by coverage,
without it the same edits are drawn from a seed. ``--bytes`` flips every byte of every header instead.
"""

from __future__ import annotations

import logging
import random
import sys
import time

HEADERS: list[bytes] = []
LEARNED = []
WALKING = []


def prepare() -> None:
    logging.disable()
    from tests.reading.test_elements import Walking, headers_of
    from tests.reading.test_trace import KINDS, Learned, series

    for kind in KINDS:
        for number in (1, 2):
            headers = series(kind, number=number)
            HEADERS.extend(data[:12000] for data in headers[-2:])
            LEARNED.append(Learned(headers))
            WALKING.append(Walking(headers_of(kind)))


def edited(draw) -> tuple[int, bytes]:
    """A header after some edits, of which most leave a trace something to follow."""
    which = draw(len(LEARNED))
    data = HEADERS[2 * which + draw(2)] if draw(8) else HEADERS[draw(len(HEADERS))]
    for _ in range(1 + draw(4)):
        at = 100 + draw(max(1, len(data) - 100))
        kind, size = draw(5), draw(24)
        if kind == 0:
            piece = data[at : at + 1]
            data = data[:at] + bytes([(piece[0] if piece else 0) ^ draw(256)]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + data[at + size :]
        elif kind == 2:
            data = data[:at] + bytes(draw(256) for _ in range(size)) + data[at:]
        elif kind == 3:
            other = HEADERS[draw(len(HEADERS))]
            data = data[:at] + other[at : at + size * 8] + data[at + size * 8 :]
        else:
            data = data[:at]
    return which, data


def check(which: int, data: bytes) -> None:
    from tests.reading.test_trace import walked

    got, expected = LEARNED[which].read(data), walked(data)
    if got != expected:
        raise AssertionError(f"trace {which} differs from walking: {data.hex()}")
    WALKING[which].check(data)


def every_byte() -> None:
    for which in range(len(LEARNED)):
        for data in HEADERS[2 * which : 2 * which + 2]:
            for at in range(min(len(data), 4500)):
                flipped = data[at] ^ (1 << at % 8)
                check(which, data[:at] + bytes([flipped]) + data[at + 1 :])
                check(which, data[:at])


def guided(seconds: int) -> None:
    import atheris

    with atheris.instrument_imports(include=["converter.reading"]):
        prepare()

    def one(raw: bytes) -> None:
        provider = atheris.FuzzedDataProvider(raw)
        check(*edited(lambda bound: provider.ConsumeIntInRange(0, bound - 1)))

    options = [f"-max_total_time={seconds}", "-rss_limit_mb=1024", "-timeout=10", "-max_len=512"]
    atheris.Setup([sys.argv[0], *options], one)
    atheris.Fuzz()


def drawn(seconds: int) -> None:
    prepare()
    dice = random.Random(7)
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        check(*edited(dice.randrange))
        count += 1
    print(f"{count} headers, no difference; atheris is not installed, so nothing guided the edits")


if __name__ == "__main__":
    if "--bytes" in sys.argv:
        prepare()
        every_byte()
    else:
        seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
        try:
            import atheris as _  # noqa: F401
        except ImportError:
            drawn(seconds)
        else:
            guided(seconds)
