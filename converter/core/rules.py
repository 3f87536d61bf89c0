"""Rules as the engine runs them: compiled, typed, nothing left to look up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converter.core.header import Wanted
    from converter.core.profile import Profile
    from converter.core.site import Site
    from converter.core.tables import CodeTable

__all__ = ["Level", "Node", "Rule", "RuleSet", "Source"]

Level: TypeAlias = Literal["study", "series", "instance"]


@dataclass(frozen=True, slots=True)
class Source:
    """One DICOM attribute that a rule reads, dotted into sequences."""

    keyword: str
    """As written: ``RequestAttributesSequence.AccessionNumber``."""
    tags: tuple[int, ...]
    vr: str
    """VR of the last attribute."""
    steps: tuple[str, ...] = field(init=False)
    """Keywords of the sequences that lead to it."""
    last: str = field(init=False)
    """Its own keyword."""

    def __post_init__(self) -> None:
        """Take the keyword apart."""
        *steps, last = self.keyword.split(".")
        object.__setattr__(self, "steps", tuple(steps))
        object.__setattr__(self, "last", last)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the mapping language: FHIR element on the left, DICOM on the right."""

    path: str
    """FHIR path with the slice, such as ``ImagingStudy.identifier:accession``."""
    element: str
    """FHIR path without slices, as issues name it."""
    level: Level
    origin: str
    """File that it stands in."""
    sources: tuple[Source, ...] = ()
    others: tuple[Source, ...] = ()
    """``with``."""
    transform: str = ""
    codes: str = ""
    system: str = ""
    type: str = ""
    const: Any = None
    ref: str = ""
    targets: tuple[str, ...] = ()
    """Resource types that a Reference may point to here; empty: any."""
    required: bool = False
    when: tuple[tuple[Source, str], ...] = ()
    fhir_type: str = ""
    """Datatype of the element."""
    repeats: bool = False
    tags: tuple[int, ...] = ()
    """Top-level tags whose values decide what the rule yields."""


@dataclass(frozen=True, slots=True)
class Node:
    """An element that is made of child rules, or a leaf with a rule."""

    name: str
    """JSON property, without the slice."""
    path: str
    fhir_type: str
    repeats: bool
    rule: Rule | None = None
    children: tuple[Node, ...] = ()
    required: bool = False
    """Whether this element, or one below that does not repeat, must have a value or else drops the
    item that holds it."""


@dataclass(frozen=True)
class RuleSet:
    """All that a conversion needs to know."""

    resources: Mapping[str, Node]
    """Resource type to its tree."""
    wanted: Wanted
    """Tags that leave the reader."""
    tables: Mapping[str, CodeTable]
    site: Site
    profiles: tuple[Profile, ...] = ()
    version: str = ""
    """Digest of everything above: a change means converting anew."""
    examples: tuple[Mapping[str, Any], ...] = ()
    files: tuple[str, ...] = ()
    removed: Mapping[str, str] = field(default_factory=dict)
    """Paths of rules that were taken away, and the file that did it."""
    memo: dict[str, dict[Any, Any]] = field(default_factory=dict, compare=False, repr=False)
    """What rules yielded for value tuples seen before; never more than a cache."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "memo": {}}
