"""Write the output that the documents show anew: blocks after ``<!-- run: dcm2fhir ... -->``.

Usage: ``python tools/update_shown.py`` from the project's folder. A block with a line ``...`` was shortened by
hand and stays as it is; ``tests/test_docs.py`` holds both kinds against what the command prints.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"<!-- run: (dcm2fhir[^\n]*?) -->\n+(```[a-z]*)\n(.*?)```", re.DOTALL)


def printed(command: str) -> str:
    """What a command prints, in an empty folder with our ``testdata``."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "testdata").symlink_to(ROOT / "testdata")
        done = subprocess.run(
            [sys.executable, "-m", "converter", *shlex.split(command)[1:]],
            cwd=folder,
            env={
                "PATH": os.defpath,
                "PYTHONPATH": str(ROOT),
                "HOME": folder,
                "LC_ALL": "C.UTF-8",
                "COLUMNS": "100",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    return "".join(line.rstrip() + "\n" for line in done.stdout.splitlines())


def renewed(match: re.Match[str]) -> str:
    """One block with the output of now."""
    command, fence, shown = match.groups()
    if re.search(r"^\s*\.\.\.$", shown, re.MULTILINE):
        return match[0]
    head = f"$ {command}\n" if shown.startswith("$ ") else ""
    return f"<!-- run: {command} -->\n{fence}\n{head}{printed(command)}```"


def main() -> None:
    """Renew every page."""
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        before = page.read_text(encoding="utf-8")
        after = BLOCK.sub(renewed, before)
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(f"{page.name}: renewed")


if __name__ == "__main__":
    main()
