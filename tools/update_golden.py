"""Write ``expected.json`` of golden cases anew, all or those named; then read the difference.

python -m tools.update_golden [CASE]...
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from tests.golden.build import CASES
from tests.golden.outcome import case_outcome


def main() -> None:
    """Update the cases named on the command line."""
    wanted = sys.argv[1:]
    for case in CASES:
        if wanted and case.name not in wanted:
            continue
        with tempfile.TemporaryDirectory() as folder:
            outcome = case_outcome(case, Path(folder))
        text = json.dumps(outcome, indent=1, ensure_ascii=False, sort_keys=True)
        (case / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
