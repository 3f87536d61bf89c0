"""Row 39, the socket's part: broken peers without an end. ``make nightly`` goes on for ten minutes."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.fuzz_listener import run
from tests.reliability.figures import figure, size

SECONDS = size("fuzz_seconds", 20, 600)


@pytest.mark.nightly
def test_broken_peers_end_nothing_and_keep_nobody_out(tmp_path):
    seed = random.SystemRandom().randrange(1 << 32)
    attacks, served, slowest, most = run(SECONDS, seed, tmp_path)
    figure(
        "fuzz of the socket", seconds=SECONDS, broken_connections=attacks, good_associations=served,
        slowest_good_association_s=round(slowest, 2), most_mib=round(most),
    )  # fmt: skip
    assert attacks > 2 * SECONDS
