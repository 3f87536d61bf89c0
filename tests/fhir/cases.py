"""Reads ``samples/cases.toml``: bad resources of one defect each, and their good twins."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

SAMPLES = Path(__file__).parent / "samples"
STEP = re.compile(r"[^.\[\]]+")


@dataclass(frozen=True)
class Case:
    name: str
    base: str
    code: str
    at: str
    set: list[list[Any]] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)
    text: list[list[str]] = field(default_factory=list)
    strict: bool = False
    judge: str = ""
    """Why the HL7 validator lets the bad one pass; empty where it does not."""
    twin: list[list[Any]] | None = None
    twin_remove: list[str] | None = None

    @property
    def bad(self) -> bytes:
        """The resource with its one defect."""
        data = _made(self.base, self.set, self.remove).decode()
        for old, new in self.text:
            assert old in data, (self.name, old)
            data = data.replace(old, new, 1)
        return data.encode()

    @property
    def good(self) -> bytes | None:
        """The good twin; ``None`` where that is the base itself."""
        if self.twin is None and self.twin_remove is None:
            return None
        return _made(self.base, self.twin or [], self.twin_remove or [])


def _made(base: str, put: list[list[Any]], remove: list[str]) -> bytes:
    resource = json.loads((SAMPLES / "good" / f"{base}.json").read_bytes())
    for path, text, *times in put:
        value = json.loads(text)
        holder, last = _holder(resource, path)
        value = value * times[0] if times else value
        if isinstance(holder, list) and last == len(holder):
            holder.append(value)
        else:
            holder[last] = value
    for path in remove:
        holder, last = _holder(resource, path)
        del holder[last]
    return json.dumps(resource, indent=1).encode()


def _holder(resource: Any, path: str) -> tuple[Any, Any]:
    """Object or array that a path ends in, and its last step; objects and arrays on the way are made."""
    steps = [int(step) if step.isdigit() else step for step in STEP.findall(path)]
    holder = resource
    for step, following in pairwise(steps):
        empty: Any = [] if isinstance(following, int) else {}
        if isinstance(holder, list):
            if step == len(holder):
                holder.append(empty)
            holder = holder[step]
        else:
            holder = holder.setdefault(step, empty)
    return holder, steps[-1]


CASES = [
    Case(**row)
    for row in tomllib.loads((SAMPLES / "cases.toml").read_text(encoding="utf-8"))["case"]
]
BASES = {path.stem: path.read_bytes() for path in sorted((SAMPLES / "good").glob("*.json"))}
