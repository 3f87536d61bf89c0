"""What the check notes down while it walks through one resource."""

from __future__ import annotations

import re
from typing import Any, TypeAlias

from converter.core.check_reasons import CHECKS
from converter.core.issues import Issue

__all__ = ["Path", "Report", "render", "root", "shown"]

PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""What FHIRPath takes as an identifier without backticks."""
HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""What no FHIR string holds, no UTF-8 encodes, or a terminal obeys."""
LONGEST = 64
"""Characters of a name that are shown: the longest of R4's own has half as many."""

Path: TypeAlias = tuple[Any, str, Any]
"""Place in a resource, innermost last: (parent, JSON name, index). A resource itself is
(parent or ``None``, ``""``, its type). Rendered only when there is something to say."""


def shown(text: str, longest: int = 0) -> str:
    """Text that somebody else wrote, as it may be printed.

    Parameters
    ----------
    text : str
    longest : int
        Most characters of it that are shown; 0: all.
    """
    if longest and len(text) > longest:
        text = f"{text[:longest]}..."
    return HIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _step(name: str) -> str:
    """Name of an element in FHIRPath; what is no identifier stands in backticks."""
    if len(name) <= LONGEST and PLAIN.fullmatch(name):
        return name
    return f"`{shown(name[:LONGEST].replace(chr(92), chr(92) * 2).replace('`', chr(92) + '`'))}`"


def root(resource_type: str) -> Path:
    """Path of a resource that stands by itself."""
    return (None, "", resource_type)


def render(path: Path, choices: dict[str, str]) -> str:
    """FHIRPath of a place.

    Parameters
    ----------
    path : Path
    choices : dict
        JSON name of a member of a choice to its FHIRPath, such as ``valueString`` to
        ``value.ofType(string)``.
    """
    parts: list[str] = []
    step: Path | None = path
    while step is not None:
        parent, name, index = step
        if not name:
            if parent is None:
                parts.append(index)
        elif index is None:
            parts.append(choices.get(name) or _step(name))
        else:
            parts.append(f"{choices.get(name) or _step(name)}[{index}]")
        step = parent
    return ".".join(reversed(parts))


class Report:
    """Issues of one resource, and what can be held against each other only at its end."""

    __slots__ = (
        "choices",
        "contained",
        "ids",
        "issues",
        "locals",
        "soft",
        "trusted",
        "types",
        "urns",
    )

    def __init__(
        self, choices: dict[str, str], types: frozenset[str] = frozenset(), *, trusted: bool = False
    ) -> None:
        self.types = types
        """R4's resource types."""
        self.issues: list[Issue] = []
        self.choices = choices
        self.trusted = trusted
        """Whether UIDs were checked before."""
        self.locals: list[tuple[str, tuple[str, ...], Path]] = []
        """``#id`` references with their allowed targets."""
        self.urns: list[tuple[str, tuple[str, ...], Path]] = []
        """References that a Bundle resolves."""
        self.ids: dict[str, Path] = {}
        """Element ids."""
        self.contained: dict[str, str] = {}
        """Ids of contained resources to their types, for profiles."""
        self.soft = False
        """Whether errors count as warnings, because a profile's constraint says so."""

    @property
    def notes(self) -> tuple[int, int, int, int]:
        """How much was noted down so far."""
        return len(self.issues), len(self.locals), len(self.urns), len(self.ids)

    def points(self, kind: str, targets: tuple[str, ...]) -> str:
        """What to say of a reference to a type that its element does not take."""
        named = kind if kind in self.types else "what is no resource of R4"
        return f"points to {named}, takes {' or '.join(targets)}"

    def add(self, code: str, path: Path, message: str) -> None:
        """Note an issue; its severity follows from the code."""
        severity = CHECKS[code].severity
        if self.soft and severity == "error":
            severity = "warning"
        self.issues.append(Issue(severity, code, render(path, self.choices), "", message))
