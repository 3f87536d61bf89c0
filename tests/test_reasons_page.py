from __future__ import annotations

import runpy
from pathlib import Path

from converter.core.reasons import REASONS

ROOT = Path(__file__).parents[1]
TOOL = runpy.run_path(str(ROOT / "tools" / "build_reasons.py"))


def test_page_of_reasons_is_current():
    page = (ROOT / "docs" / "reasons.md").read_text(encoding="utf-8")
    assert page == TOOL["render"](REASONS), "run python tools/build_reasons.py"


def test_every_code_is_on_the_page_once():
    page = TOOL["render"](REASONS)
    for code in REASONS:
        assert page.count(f"| `{code}` |") == 1
