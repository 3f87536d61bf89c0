"""The table of exit codes, row by row."""

from __future__ import annotations

import pytest

from converter.core.reasons import REASONS
from converter.pipeline import Ending, exit_code

HARMLESS = {
    name: 1 for name, reason in REASONS.items() if reason.kind == "skipped" and not reason.failure
}


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        (0, Ending(studies=1)),
        (0, Ending(studies=1, skipped=HARMLESS)),
        (0, Ending(studies=1, nonconforming=3)),
        (0, Ending(studies=0, skipped={"filtered": 2})),
        (1, Ending(studies=1, skipped={"truncated-header": 1})),
        (1, Ending(studies=0, skipped={"truncated-header": 1, "not-dicom": 4})),
        (1, Ending(studies=2, held={"patient-conflict": 1})),
        (1, Ending(studies=2, held={"patient-mismatch": 2})),
        (1, Ending(studies=2, skipped={"reader-crashed": 1})),
        (4, Ending()),
        (4, Ending(skipped={"not-dicom": 5, "dicomdir": 1, "symbolic-link": 1})),
        (5, Ending(studies=1, nonconforming=1, strict=True)),
        (0, Ending(studies=1, nonconforming=0, strict=True)),
        (5, Ending(studies=1, nonconforming=1, strict=True, skipped={"empty": 1})),
        (130, Ending(studies=1, nonconforming=1, strict=True, interrupted=True)),
        (130, Ending(interrupted=True)),
    ],
)
def test_a_run_ends_with_the_code_of_the_table(code, ending):
    assert exit_code(ending) == code


@pytest.mark.parametrize("reason", ["not-dicom", "dicomdir", "duplicate", "filtered"])
def test_what_claims_to_be_no_dicom_fails_nothing(reason):
    assert exit_code(Ending(studies=1, skipped={reason: 3})) == 0
