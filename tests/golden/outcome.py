"""Run a golden case through the command line, as a user would, and gather all that came of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from converter.cli.main import run
from tests.golden.build import case_options, write_case

__all__ = ["case_outcome"]


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{json.dumps(key)} = {_toml(one)}" for key, one in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, list):
        return f"[{', '.join(_toml(one) for one in value)}]"
    return json.dumps(value)


def case_outcome(case: Path, folder: Path) -> dict[str, Any]:
    """Convert a case in a folder of its own.

    Returns
    -------
    dict
        ``exit``, ``resources`` by their path, ``studies`` with state, profiles and findings, ``skipped``, and
        ``findings`` by code, those of companions included.
    """
    inputs, output, report = folder / "in", folder / "out", folder / "report.json"
    inputs.mkdir()
    write_case(case, inputs)
    options = case_options(case)
    config = folder / "dcm2fhir.toml"
    site = "\n".join(f"{key} = {_toml(value)}" for key, value in options["site"].items())
    config.write_text(f"[site]\n{site}\n", encoding="utf-8")
    arguments = ["convert", str(inputs), "-o", str(output), "--report", str(report), "-j", "1"]
    arguments += ["--config", str(config), "--patient", options["patient"], "-q"]
    arguments += ["--instances", str(options["instances"])]
    arguments += [word for name in options["profiles"] for word in ("--profile", name)]
    arguments += ["--companions"] if options["companions"] else []
    arguments += ["--timezone", options["timezone"]] if "timezone" in options else []
    code = run(arguments)
    told = json.loads(report.read_bytes())
    return {
        "exit": code,
        "resources": {
            path.relative_to(output).as_posix(): json.loads(path.read_bytes())
            for path in sorted(output.rglob("*.json"))
        },
        "studies": told["studies"],
        "skipped": told["skipped"],
        "findings": told["counts"]["findings"],
    }
