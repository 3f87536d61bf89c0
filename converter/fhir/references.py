"""References: their form, the type that they name, and what resolves them.

R4 ``references.html``: relative or absolute URL of a resource, ``#id`` of a contained one, or a URN that
the Bundle resolves.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converter.fhir.report import Path, Report

__all__ = ["References", "type_of"]

RELATIVE = re.compile(r"([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?")
ABSOLUTE = re.compile(r"[a-z][a-z0-9+.\-]*://\S+", re.IGNORECASE)
SERVED = re.compile(
    r"https?://\S+?/([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?"
)
CONDITIONAL = re.compile(r"([A-Z][A-Za-z]+)\?\S+")
UUID = re.compile(r"urn:uuid:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
OID = re.compile(r"urn:oid:[0-2](?:\.(?:0|[1-9][0-9]*))+")


def type_of(reference: str) -> str:
    """Resource type that a literal reference names; empty where it names none."""
    match = RELATIVE.fullmatch(reference) or CONDITIONAL.fullmatch(reference)
    match = match or SERVED.fullmatch(reference)
    return match[1] if match else ""


class References:
    """Judges Reference objects."""

    def __init__(self, resource_types: frozenset[str]) -> None:
        self.types = resource_types

    def check(
        self, value: dict[str, Any], targets: tuple[str, ...], path: Path, report: Report
    ) -> None:
        """Hold one Reference against the types that its element allows."""
        stated = value.get("type")
        if stated.__class__ is str and stated:
            if stated not in self.types:
                report.add(
                    "unknown-code", (path, "type", None), "R4 has no resource type of this name"
                )
                stated = None
            elif targets and stated not in targets:
                report.add("reference-target", (path, "type", None), report.points(stated, targets))
        reference = value.get("reference")
        if reference.__class__ is not str or not reference:
            if reference is None and not (value.keys() - {"type", "id"}):
                report.add("reference-empty", path, "neither reference, identifier nor display")
            return
        match = RELATIVE.fullmatch(reference)
        if match is None:
            match = self._other(reference, targets, path, report)
            if match is None:
                return
        kind = match[1]
        if kind not in self.types:
            if reference[0] != "h":
                report.add(
                    "reference-form",
                    (path, "reference", None),
                    "R4 has no resource type of this name",
                )
            return
        if targets and kind not in targets:
            report.add("reference-target", (path, "reference", None), report.points(kind, targets))
        elif stated and stated.__class__ is str and stated != kind and stated in self.types:
            report.add(
                "reference-target",
                (path, "type", None),
                f"type says {stated}, the reference says {kind}",
            )

    def _other(
        self, reference: str, targets: tuple[str, ...], path: Path, report: Report
    ) -> re.Match[str] | None:
        """Whatever is not relative."""
        place = (path, "reference", None)
        if reference[0] == "#":
            report.locals.append((reference, targets, place))
        elif UUID.fullmatch(reference) or OID.fullmatch(reference):
            report.urns.append((reference, targets, place))
        elif reference.startswith(("urn:uuid:", "urn:oid:")):
            report.add("reference-form", place, "no valid UUID in lower case, or OID, behind urn:")
        elif reference.startswith("urn:") and not any(map(str.isspace, reference)):
            return None
        elif ABSOLUTE.fullmatch(reference):
            return SERVED.fullmatch(reference)
        elif CONDITIONAL.fullmatch(reference):
            report.urns.append((reference, targets, place))
            return CONDITIONAL.fullmatch(reference)
        else:
            report.add(
                "reference-form",
                place,
                "no reference: Type/id, an absolute URL, #id of a contained resource, or a URN",
            )
        return None

    @staticmethod
    def local(report: Report, contained: Mapping[str, str], own_type: str) -> None:
        """Resolve ``#id`` references within their resource (invariant ref-1)."""
        for reference, targets, place in report.locals:
            kind = own_type if reference == "#" else contained.get(reference[1:])
            if kind is None or (reference == "#" and not _inside(place)):
                report.add("ref-1", place, "no contained resource has this id")
            elif targets and kind not in targets:
                report.add("reference-target", place, report.points(kind, targets))


def _inside(path: Path) -> bool:
    """Whether a place is within a contained resource."""
    step: Path | None = path
    while step is not None:
        parent, name, _ = step
        if not name and parent is not None:
            return bool(parent[1] == "contained")
        step = parent
    return False
