"""Instances of a series, a column at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converter.core.evaluate import Outcome
    from converter.core.rules import Node

__all__ = ["PLAIN", "Column", "plain_rows"]

PLAIN = frozenset({str, int, bool, dict})
"""Classes of values that stand as they are."""
_NOTHING = type(None)


class Column(NamedTuple):
    """What a rule yields for the instances of a series."""

    keys: Sequence[Any]
    """One an instance."""
    outcomes: dict[Any, Outcome] | None = None
    """For each key; ``None`` where the keys are the values."""


def plain_rows(leaves: Sequence[Node], columns: Sequence[Column]) -> list[dict[str, Any]] | None:
    """Rows of columns of which each has a plain value in all instances, or none in any; else nothing."""
    names: list[str] = []
    values: list[Sequence[Any]] = []
    for child, (keys, outcomes) in zip(leaves, columns, strict=True):
        column = keys
        if child.repeats:
            return None
        if outcomes is not None:
            kinds = {outcome.value.__class__ for outcome in outcomes.values()}
            if any(outcome.issues for outcome in outcomes.values()):
                return None
            if kinds == {_NOTHING} and not child.required:
                continue
            if not kinds <= PLAIN:
                return None
            column = [outcomes[key].value for key in keys]
        names.append(child.name)
        values.append(column)
    return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
