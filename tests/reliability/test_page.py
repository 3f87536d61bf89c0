"""``docs/reliability.md`` names tests that are there, for every row, and figures that were measured."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.build_reliability import page

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/\S+?)::(\w+)`", PAGE)))


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_each_test_that_is_named_is_there(file, name):
    assert re.search(rf"^ *def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


def test_every_row_stands_once():
    rows = [int(number) for number in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)]
    assert rows == list(range(1, 45))


def test_what_is_marked_nightly_runs_larger_there():
    for row in PAGE.splitlines():
        files = [file for file, _ in re.findall(r"`(tests/\S+?)::(\w+)`", row)]
        nightly = any("mark.nightly" in (ROOT / file).read_text(encoding="utf-8") for file in files)
        if "**nightly**" in row and files:
            assert nightly, row


def test_figures_shown_are_those_of_the_last_nightly_run():
    assert page() == PAGE
