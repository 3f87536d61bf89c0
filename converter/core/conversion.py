"""What a conversion is asked for and what it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from converter.core.issues import Issue

__all__ = ["Conversion", "Explanation", "Options", "Trace"]


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller may choose about the resources."""

    patient: Literal["resource", "reference", "logical", "contained"] = "resource"
    companions: bool = False
    instances: Literal["all", "none"] | int = "all"


@dataclass(slots=True)
class Conversion:
    """What became of one study."""

    study_uid: str
    state: Literal["converted", "conflict", "failed"]
    resource: dict[str, Any] | None = None
    """The ImagingStudy, without ``meta.profile``."""
    companions: list[dict[str, Any]] = field(default_factory=list)
    """What the study says of resources that it may share with others."""
    issues: list[Issue] = field(default_factory=list)
    dropped: tuple[str, ...] = ()
    """Elements that an option left out although the study has them."""
    series: int = 0
    instances: int = 0
    tombstones: tuple[str, ...] = ()
    """What to take from what stands elsewhere of the study (`converter.core.merge.unite`)."""
    withdrawn: str = ""
    """Why nothing is listed any more, a reason code; the resource then only takes back what was published."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """How one element came about, or why it did not."""

    path: str
    value: str
    """As JSON writes it, text without quotes; empty where there is none."""
    rule: str
    """File and key path."""
    keywords: tuple[str, ...]
    source: str
    """Input that the value came from."""
    code_row: str
    reason: str
    """Why there is no value; empty where there is one."""
    findings: tuple[str, ...] = ()
    """Codes of what was lost or noticed on the way to a value."""


Trace: TypeAlias = Callable[[Explanation], None]
"""Told of every element that a rule made or did not make."""
