"""What the check notes down while it walks through one resource."""

from __future__ import annotations

from typing import Any, TypeAlias

from converter.core.check_reasons import CHECKS
from converter.core.issues import Issue

__all__ = ["Path", "Report", "render", "root"]

Path: TypeAlias = tuple[Any, str, Any]
"""Place in a resource, innermost last: (parent, JSON name, index). A resource itself is
(parent or ``None``, ``""``, its type). Rendered only when there is something to say."""


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
            parts.append(choices.get(name, name))
        else:
            parts.append(f"{choices.get(name, name)}[{index}]")
        step = parent
    return ".".join(reversed(parts))


class Report:
    """Issues of one resource, and what can be held against each other only at its end."""

    __slots__ = ("choices", "contained", "ids", "issues", "locals", "soft", "trusted", "urns")

    def __init__(self, choices: dict[str, str], *, trusted: bool = False) -> None:
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

    def add(self, code: str, path: Path, message: str) -> None:
        """Note an issue; its severity follows from the code."""
        severity = CHECKS[code].severity
        if self.soft and severity == "error":
            severity = "warning"
        self.issues.append(Issue(severity, code, render(path, self.choices), "", message))
