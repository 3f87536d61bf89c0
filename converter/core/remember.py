"""What the rules below an element made of the values that they read: the same values make the same.

One image is one set of values, so a study of one image finds most of its elements made already. Only what
depends on nothing else is remembered: no reference to a resource of the study's own, no finding that names
an instance, nothing that the engine counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converter.core.transforms import TRANSFORMS

if TYPE_CHECKING:
    from converter.core.conversion import Options
    from converter.core.header import Header
    from converter.core.issues import Issue
    from converter.core.rules import Node, RuleSet

__all__ = ["Remembered", "memories"]

MOST = 2000
"""Values remembered of one element."""
VAIN = 200
"""So often in a row something new: it is a value of each study's own, and not looked for again."""

NOTICED = frozenset({"patientIdentifier"})
"""Transforms whose value the engine wants to see."""


class Remembered:
    """What one element was made to, by the values of the tags that it hangs on."""

    __slots__ = ("_made", "_tags", "_vain", "useful")

    def __init__(self, node: Node) -> None:
        tags: set[int] = set()
        self.useful = _read(node, tags)
        """Whether it is worth asking."""
        self._tags = tuple(sorted(tags))
        self._made: dict[tuple[bytes | None, ...], tuple[Any, list[Issue]]] = {}
        self._vain = 0

    def key(self, header: Header) -> tuple[bytes | None, ...]:
        """Values that the element hangs on."""
        return tuple(map(header.get, self._tags))

    def get(self, key: tuple[bytes | None, ...]) -> tuple[Any, list[Issue]] | None:
        """Value, and what there is to say of it."""
        found = self._made.get(key)
        if found is not None:
            self._vain = 0
        return found

    def keep(self, key: tuple[bytes | None, ...], value: Any, issues: list[Issue]) -> None:
        """Remember; neither is changed from here on."""
        self.missed()
        if len(self._made) >= MOST:
            self._made.clear()
        self._made[key] = value, issues

    def missed(self) -> None:
        """Count a value that was not there."""
        self._vain += 1
        if self._vain >= VAIN:
            self.useful = False
            self._made.clear()


def _read(node: Node, tags: set[int]) -> bool:
    rule = node.rule
    if rule is not None:
        transform = TRANSFORMS.get(rule.transform)
        tags.update(rule.tags)
        return rule.transform not in NOTICED and not (transform and transform.aggregate)
    return all(_read(child, tags) for child in node.children)


def memories(rules: RuleSet, options: Options) -> dict[str, Remembered]:
    """Give the memories of a mapping by path of element; what is made depends on the options as well."""
    by_options = rules.memo.setdefault(" made", {})
    found: dict[str, Remembered] | None = by_options.get(options)
    if found is None:
        found = by_options[options] = {}
    return found
