"""Write the figures of the last nightly run into ``docs/reliability.md``.

Usage: ``python -m tools.build_reliability`` from the project's folder; ``make nightly`` does it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, FIGURES = DOCS / "reliability.md", DOCS / "reliability.json"
BLOCK = re.compile(r"(<!-- figures -->\n).*?(<!-- /figures -->)", re.DOTALL)


def shown(figures: dict[str, dict[str, Any]]) -> str:
    """Give a table of what each run measured."""
    lines = ["| run | day | cores | measured |", "|---|---|---|---|"]
    for name, held in sorted(figures.items()):
        values = [
            f"{key.replace('_', ' ')} {value:,}"
            for key, value in held.items()
            if key not in {"day", "cores"}
        ]
        lines.append(f"| {name} | {held['day']} | {held['cores']} | {', '.join(values)} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """Give the page with the figures in force."""
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    text = PAGE.read_text(encoding="utf-8")
    return BLOCK.sub(lambda match: match[1] + shown(figures) + match[2], text)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
