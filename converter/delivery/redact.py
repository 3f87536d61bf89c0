"""What may be said of a refusal: HTTP status, codes and places, never words.

Servers quote what they were sent ("Patient name 'Smith^John' is ..."), so ``diagnostics`` and texts are
left out wherever they come from; places are kept only in the form of a FHIRPath without values.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

import msgspec

from converter.delivery.answers import Answer

__all__ = ["Refusal", "refusal"]

_CODES = frozenset({
    "invalid", "structure", "required", "value", "invariant", "security", "login", "unknown",
    "expired", "forbidden", "suppressed", "processing", "not-supported", "duplicate",
    "multiple-matches", "not-found", "deleted", "too-long", "code-invalid", "extension",
    "too-costly", "business-rule", "conflict", "transient", "lock-error", "no-store",
    "exception", "timeout", "incomplete", "throttled", "informational",
})  # fmt: skip
"""``issue-type`` of FHIR R4."""
_PLACE = re.compile(
    r"(Device|Encounter|Endpoint|ImagingStudy|Location|Organization|Patient|Practitioner|ServiceRequest)"
    r"(\.[a-z][A-Za-z]{0,30}(\[[0-9]{1,6}\])?){0,9}"
)
_SEVERITIES = frozenset({"fatal", "error", "warning", "information"})
ISSUES = 10


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    """Why something was refused, without a value of anybody's."""

    status: int
    reason: str
    """A word of `converter.core.reasons.REASONS`."""
    issues: tuple[tuple[str, str, str], ...] = ()
    """(severity, code, place) of each issue of the OperationOutcome."""
    asked: str = ""
    names: tuple[str, ...] = ()
    """Ids of resources of the server's that the refusal is about."""

    @property
    def fingerprint(self) -> str:
        """The same for refusals that say the same, whatever the study."""
        said = [(s, c, re.sub(r"\[[0-9]+\]", "", p)) for s, c, p in self.issues]
        text = repr((self.status, self.reason, self.asked, sorted(set(said))))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __str__(self) -> str:
        """One line for a person."""
        parts = [f"HTTP {self.status}"] if self.status else []
        if self.asked:
            parts.append(f"to {self.asked}")
        for severity, code, place in self.issues:
            parts.append(f"{severity} {code}" + (f" at {place}" if place else ""))
        if self.names:
            parts.append("resources: " + ", ".join(self.names))
        return "; ".join(parts)


def refusal(answer: Answer, reason: str, asked: str = "", names: tuple[str, ...] = ()) -> Refusal:
    """Reduce an answer to what may be kept.

    Parameters
    ----------
    answer : Answer
    reason : str
        A reason code.
    asked : str
        What was asked, such as ``PUT ImagingStudy``.
    names : tuple of str
        Resources that it is about, such as ``ImagingStudy/7``.
    """
    body = answer.body if answer.outcome else None
    issues = body.get("issue") if body else None
    kept: list[tuple[str, str, str]] = []
    for issue in issues if isinstance(issues, list) else ():
        if isinstance(issue, dict) and len(kept) < ISSUES:
            kept.append((_word(issue.get("severity"), _SEVERITIES), _code(issue), _place(issue)))
    return Refusal(answer.status, reason, tuple(kept), asked, names)


def _word(value: Any, known: frozenset[str]) -> str:
    return value if isinstance(value, str) and value in known else "error"


def _code(issue: dict[str, Any]) -> str:
    """IssueType code, with the number of the message where a server has numbers (``HAPI-1094``)."""
    value = issue.get("code")
    code = value if isinstance(value, str) and value in _CODES else "unknown"
    number = re.match(r"HAPI-[0-9]{3,5}\b", str(issue.get("diagnostics", "")))
    return f"{code} ({number[0]})" if number else code


def _place(issue: dict[str, Any]) -> str:
    for name in ("expression", "location"):
        places = issue.get(name)
        for place in places if isinstance(places, list) else ():
            if isinstance(place, str) and len(place) < 200 and _PLACE.fullmatch(place):
                return place
    return ""
