"""Make the DICOM files of a golden case from its ``input.toml``.

A case is a folder here with an ``input.toml``: ``why`` (the behaviour it holds), ``source`` (where that is
written down), ``[options]`` (what the conversion is asked for) and the instances, declared as
`tools.dicom_writer` describes, on top of ``defaults.toml``.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from tools.dicom_writer import write

__all__ = ["CASES", "DEFAULT_OPTIONS", "case_options", "read_case", "write_case"]

HERE = Path(__file__).resolve().parent
CASES = tuple(sorted(path.parent for path in HERE.glob("*/input.toml")))
"""Folders of all cases."""

DEFAULT_OPTIONS: dict[str, Any] = {
    "profiles": ["r4"],
    "patient": "resource",
    "instances": "all",
    "companions": False,
    "site": {},
}
"""What a case asks for where it says nothing; ``site`` is ``[site]`` of the configuration."""


def read_case(case_dir: Path) -> dict[str, Any]:
    """Read the declaration of a case."""
    return tomllib.loads((case_dir / "input.toml").read_text("utf-8"))


def case_options(case_dir: Path) -> dict[str, Any]:
    """Read what the conversion of a case is asked for, defaults filled in."""
    return {**DEFAULT_OPTIONS, **read_case(case_dir).get("options", {})}


def write_case(case_dir: Path, target_dir: Path) -> list[Path]:
    """Write the DICOM files of a case into a folder; the same bytes every time."""
    defaults = tomllib.loads((HERE / "defaults.toml").read_text("utf-8"))
    return write(read_case(case_dir), target_dir, defaults)
