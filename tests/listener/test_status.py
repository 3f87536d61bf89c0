"""The table of statuses is what PS3.4 Table B.2-1 allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from converter.core.reasons import REASONS
from converter.listener.status import STATUSES, of_reason


@pytest.mark.parametrize("answer", STATUSES.values(), ids=STATUSES)
def test_each_status_is_one_that_a_storage_scp_may_give(answer):
    assert (
        answer.code in {0x0000, 0xB006, 0x0122}
        or 0xA700 <= answer.code <= 0xA7FF
        or 0xA900 <= answer.code <= 0xA9FF
        or 0xC000 <= answer.code <= 0xCFFF
    )


@pytest.mark.parametrize("answer", STATUSES.values(), ids=STATUSES)
def test_a_comment_fits_its_element(answer):
    assert len(answer.comment) <= 64
    assert answer.comment.isascii()
    assert bool(answer.comment) == (answer.code != 0)


def test_no_reason_of_the_reader_is_a_success():
    for reason in REASONS:
        assert of_reason(reason).code >= 0xA700


def test_the_documented_sub_codes_are_distinct():
    codes = [answer.code for answer in STATUSES.values() if answer.code >= 0xC000]
    assert len(codes) == len(set(codes))
    assert of_reason("inflate-limit").code == 0xC021
    assert of_reason("truncated-header").code == 0xC001
    assert of_reason("a new reason").code == 0xC000


def test_the_conformance_statement_holds_the_table():
    page = Path(__file__).parents[2] / "docs" / "dicom-conformance-statement.md"
    text = page.read_text(encoding="utf-8")
    for answer in STATUSES.values():
        assert f"| 0x{answer.code:04X} | {answer.meaning} |" in text
