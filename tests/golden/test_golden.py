"""Each golden case converts to exactly what stands beside it: resources, findings, skipped inputs, exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.golden.build import CASES
from tests.golden.outcome import case_outcome


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case_converts_to_what_stands_beside_it(case: Path, tmp_path: Path) -> None:
    expected = json.loads((case / "expected.json").read_bytes())
    assert case_outcome(case, tmp_path) == expected
