"""Mapping files laid over each other: base, profiles, the site's files.

A file is the FHIR tree as TOML tables; a table with ``from``, ``const`` or ``ref`` is a rule. An overlay
replaces a rule whole or removes it with ``false``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeAlias

from converter.errors import Fault

__all__ = ["KEYS", "RULE_KEYS", "Layer", "RawRule", "flatten", "lay"]

RULE_KEYS = ("from", "const", "ref")
"""A table that has one of these is a rule, not a part of the tree."""

KEYS = ("extends", "profile", "constraint", "example", "site")
"""Top-level keys of a mapping file that are no resource types."""

ORDER = {"base": 0, "profile": 1, "file": 2, "site": 3}
"""Kinds of layers; what stands in a later kind decides what earlier ones set differently."""

Path: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RawRule:
    """A rule as written, with the file that wrote it; ``options`` is ``None`` where it is removed."""

    file: str
    options: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Layer:
    """One mapping file, flat."""

    file: str
    kind: str
    """``base``, ``profile`` (shipped), ``file`` (the site's, named as a profile) or ``site`` (its folder)."""
    rules: Mapping[Path, RawRule]


def flatten(file: str, kind: str, tree: Mapping[str, Any]) -> tuple[Layer, list[Fault]]:
    """Flatten the resource tables of one file into rules by path."""
    faults: list[Fault] = []
    rules: dict[Path, RawRule] = {}

    def walk(path: Path, value: Any) -> None:
        if value is False:
            rules[path] = RawRule(file, None)
        elif not isinstance(value, Mapping):
            faults.append(Fault(file, ".".join(path), _no_rule(path[-1])))
        elif any(key in value for key in RULE_KEYS):
            rules[path] = RawRule(file, value)
        else:
            if not value:
                faults.append(Fault(file, ".".join(path), "is empty"))
            for key, child in value.items():
                walk((*path, key), child)

    for resource, value in tree.items():
        if not isinstance(value, Mapping):
            near = get_close_matches(resource, KEYS, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            faults.append(Fault(file, resource, f"expected a table of rules{hint}"))
            continue
        for key, child in value.items():
            walk((resource, key), child)
    return Layer(file, kind, rules), faults


def _no_rule(key: str) -> str:
    """Say what a value under a key that makes no rule should have been."""
    if key in {"as", "with", "codes", "required", "when"}:
        return "stands in no rule: a rule has from, const or ref"
    if near := get_close_matches(key, RULE_KEYS, 1):
        return f"is no option of a rule; did you mean {near[0]}?"
    return (
        'expected a rule such as { from = "Keyword" }, a table of rules, or false; '
        "a fixed value is written { const = ... }"
    )


def lay(layers: list[Layer]) -> tuple[dict[Path, RawRule], list[Fault]]:
    """Lay layers over each other, first to last.

    Returns
    -------
    dict, list of Fault
        The rules in force, in the order in which paths first appeared, and the faults: two files of one
        kind that set one rule differently without a decision behind them, a part of a rule overlaid.
    """
    faults: list[Fault] = []
    placed: dict[Path, RawRule] = {}
    peers: dict[str, dict[Path, tuple[Layer, RawRule]]] = {kind: {} for kind in ORDER}
    for layer in layers:
        beside = peers[layer.kind]
        later = [one for one in layers if ORDER[one.kind] > ORDER[layer.kind]]
        decided = {path for one in later for path in one.rules}
        for path, raw in layer.rules.items():
            _, other = beside.setdefault(path, (layer, raw))
            if path not in decided:
                if other.options != raw.options:
                    faults.append(
                        Fault(
                            raw.file,
                            ".".join(path),
                            f"{other.file} sets this rule differently; {_where(layer.kind)}",
                        )
                    )
                faults += _overlaps(path, layer, beside)
            whole = [
                (".".join(upper), held)
                for upper in _above(path)
                if (held := placed.get(upper)) is not None and held.options is not None
            ]
            for upper_path, held in whole:
                message = f"{held.file} has one rule for {upper_path} as a whole: replace that"
                faults.append(Fault(raw.file, ".".join(path), message))
            if whole:
                continue
            for below in [
                known for known in placed if known[: len(path)] == path and known != path
            ]:
                del placed[below]
            if raw.options is None and layer.kind != "base" and not _stands(layers, layer, path):
                faults.append(Fault(raw.file, ".".join(path), "removes a rule that is not there"))
            placed[path] = raw
    return {path: raw for path, raw in placed.items() if raw.options is not None}, faults


def _where(kind: str) -> str:
    """Where two files of a kind that differ can be decided."""
    if kind == "site":
        return "keep one of the two"
    return "decide it in the site's own file" + (" of --mappings" if kind == "file" else "")


def _overlaps(
    path: Path, layer: Layer, beside: Mapping[Path, tuple[Layer, RawRule]]
) -> list[Fault]:
    """A file that sets a part of what another of its kind sets as a whole, or the whole of its part."""
    return [
        Fault(
            layer.file,
            ".".join(path),
            f"{other.file} sets {'.'.join(known)}; {_where(layer.kind).replace(' it ', ' both ')}",
        )
        for known, (other, _) in beside.items()
        if other is not layer
        and known != path
        and (known == path[: len(known)] or path == known[: len(path)])
        # a site's files are read by name: one may clear the ground for the next
        and not (
            layer.kind == "site" and other.rules[known].options is None and len(known) < len(path)
        )
    ]


def _stands(layers: list[Layer], but: Layer, path: Path) -> bool:
    return any(
        known[: len(path)] == path for layer in layers if layer is not but for known in layer.rules
    )


def _above(path: Path) -> Iterator[Path]:
    for length in range(2, len(path)):
        yield path[:length]
