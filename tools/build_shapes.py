"""Build ``mappings/definitions/shapes.json``: sets of keys that fhir.resources was asked about beforehand.

Usage: ``python -m tools.build_shapes`` from the project's folder.

The resources of the golden cases are held against fhir.resources here, one and all; a run asks it only
about an object whose set of keys is not among theirs, and so seldom imports it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.fhir.checker import Checker
from converter.fhir.definitions import load_structure
from converter.fhir.models import model_issues

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"
OUT = ROOT / "mappings" / "definitions" / "shapes.json"


def resources() -> Iterator[dict[str, Any]]:
    """All resources that golden cases expect."""
    for path in sorted(GOLDEN.glob("*/expected.json")):
        yield from json.loads(path.read_text(encoding="utf-8"))["resources"].values()


def render() -> str:
    """Text of the file.

    Raises
    ------
    ValueError
        fhir.resources refuses one of them.
    """
    checker = Checker(load_structure())
    for resource in resources():
        if refused := model_issues(resource):
            raise ValueError(f"{resource['resourceType']}/{resource['id']}: {refused}")
        checker.check(resource)
    shapes = {
        name: sorted(sorted(keys) for keys in seen)
        for name, seen in sorted(checker.seen.items())
        if seen
    }
    lines = [
        f" {json.dumps(name)}: [\n" + ",\n".join(f"  {json.dumps(keys)}" for keys in seen) + "\n ]"
        for name, seen in shapes.items()
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    OUT.write_text(render(), encoding="utf-8")
