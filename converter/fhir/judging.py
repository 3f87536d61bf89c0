"""From bytes to a verdict: JSON text, structure, profiles, and the second opinion."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from converter.core.issues import Issue
from converter.fhir.bundle import Links, links
from converter.fhir.claims import check_claimed
from converter.fhir.jsontext import parse
from converter.fhir.models import model_issues
from converter.fhir.report import root

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from converter.fhir.checker import Checker
    from converter.fhir.report import Path

__all__ = ["Verdict", "judge", "judge_lines", "unreadable"]

LATER = {
    "procedure": "R5",
    "reason": "R5",
    "partOf": "R5",
    "uid": "STU3",
    "accession": "STU3",
    "availability": "STU3",
    "patient": "STU3",
    "context": "STU3",
    "modalityList": "DSTU2",
}
"""Elements of an ImagingStudy that R4 does not have, and the version that does."""


RELEASES = frozenset({"1.0.2", "3.0.1", "3.0.2", "4.1.0", "4.3.0", "5.0.0", "6.0.0"})
"""What is repeated of ``fhirVersion``; anything else may be a value out of place."""


@dataclass(slots=True)
class Verdict:
    """What is to be said of one resource."""

    name: str
    """File, and line where the file holds several."""
    issues: list[Issue] = field(default_factory=list)
    resource_type: str = ""

    def failed(self, strict: Collection[str] = ()) -> bool:
        """Whether there is an error, counting the codes of ``strict`` as such."""
        return any(issue.severity == "error" or issue.code in strict for issue in self.issues)


def judge(
    data: bytes,
    name: str,
    checker: Checker,
    asked: Collection[str] = (),
    *,
    first_line: int = 1,
    absent: bool = False,
) -> Verdict:
    """Judge one JSON text.

    Parameters
    ----------
    data : bytes
    name : str
        How the verdict names it.
    checker : Checker
    asked : collection of str
        Names of profiles to hold it against beside those that it claims.
    first_line : int
        Line that the text starts in; 0: ``name`` tells it.
    absent : bool
        Whether to tell which must-support elements of the profiles asked for are absent.
    """
    verdict = Verdict(name)
    try:
        _judge(data, verdict, checker, asked, first_line, absent=absent)
    except Exception as error:  # noqa: BLE001  a fault of ours with one must not cost the others
        # The type alone: the message of an exception may hold a value.
        message = f"the check broke off: {type(error).__name__}"
        verdict.issues.append(Issue("error", "check-failed", message=message))
    return verdict


def _judge(
    data: bytes,
    verdict: Verdict,
    checker: Checker,
    asked: Collection[str],
    first_line: int,
    *,
    absent: bool,
) -> None:
    """Fill in a verdict."""
    parsed = parse(data, first_line=first_line, choices=checker.choices)
    verdict.issues += parsed.issues
    if not parsed.readable:
        return
    resource = parsed.value
    version = _version(resource)
    if version:
        message = f"has the shape of FHIR {version}; this checks R4 (4.0.1)"
        kind = resource.get("resourceType")
        path = kind if kind.__class__ is str and kind in checker.types else "Resource"
        verdict.issues.append(Issue("error", "other-fhir-version", path, message=message))
    verdict.issues += checker.check(resource)
    if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
        return
    if resource["resourceType"] not in checker.types:
        return
    verdict.resource_type = resource["resourceType"]
    verdict.issues += _claimed(resource, checker, root(verdict.resource_type), asked, None)
    if absent:
        for profile in asked:
            verdict.issues += checker.absent(resource, profile)
    if not verdict.failed():
        verdict.issues += model_issues(resource)


def _claimed(
    resource: dict[str, Any],
    checker: Checker,
    path: Path,
    asked: Collection[str],
    held: Links | None,
) -> list[Issue]:
    """Profiles of a resource, and of those in the entries of a Bundle."""
    issues = check_claimed(resource, checker, path, asked=asked, held=held)
    entries = resource.get("entry") if resource.get("resourceType") == "Bundle" else None
    if isinstance(entries, list):
        inside = links(resource)
        for index, entry in enumerate(entries):
            inner = entry.get("resource") if isinstance(entry, dict) else None
            if isinstance(inner, dict):
                step: Path = ((path, "entry", index), "resource", None)
                place: Path = (step, "", str(inner.get("resourceType")))
                issues += _claimed(inner, checker, place, asked, inside)
    return issues


def _version(resource: Any) -> str:
    """Version of FHIR whose shape an ImagingStudy has, if it is not R4's; else empty."""
    if not isinstance(resource, dict):
        return ""
    stated = resource.get("fhirVersion")
    if isinstance(stated, str) and not stated.startswith("4.0"):
        return stated if stated in RELEASES else "in another version"
    if resource.get("resourceType") != "ImagingStudy":
        return ""
    for name, version in LATER.items():
        if name in resource:
            return version
    modality = resource.get("modality")
    if isinstance(modality, list) and any(
        isinstance(item, dict) and "coding" in item for item in modality
    ):
        return "R5"
    series = resource.get("series")
    for item in series if isinstance(series, list) else ():
        if isinstance(item, dict):
            for name in ("modality", "laterality"):
                held = item.get(name)
                if isinstance(held, dict) and "coding" in held:
                    return "R5"
            site = item.get("bodySite")
            if isinstance(site, dict) and site.keys() & {"concept", "reference"}:
                return "R5"
    return ""


def unreadable(name: str, code: str, message: str) -> Verdict:
    """Make the verdict of what could not be read."""
    return Verdict(name, [Issue("error", code, message=message)])


def judge_lines(
    lines: Iterable[bytes],
    name: str,
    checker: Checker,
    asked: Collection[str],
    limit: int,
    *,
    absent: bool = False,
) -> Iterator[Verdict]:
    """Judge NDJSON line by line; no more than one line is held at a time.

    Parameters
    ----------
    lines : iterable of bytes
        With their line ends; pieces of ``limit`` + 1 bytes where a line is longer.
    name, checker, asked, absent
        As for `judge`.
    limit : int
        Most bytes of a line.
    """
    number, cut = 1, False
    for line in lines:
        whole = line.endswith(b"\n")
        place = f"{name}:{number}"
        if not cut and len(line) > limit and not whole:
            yield unreadable(place, "too-large", f"larger than the limit of {limit} bytes")
            cut = True
        elif not cut and line.strip():
            # Without its end: what breaks off there breaks off in this line.
            text = line.rstrip(b"\r\n")
            yield judge(text, place, checker, asked, first_line=0, absent=absent)
        if whole:
            number, cut = number + 1, False
