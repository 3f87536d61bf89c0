"""Problems in input, as values.

An `Issue` never carries a patient's value: it names a code, a place in the FHIR resource, a DICOM
keyword, and UIDs or files as examples. What each code means stands in `converter.core.reasons`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Issue", "Severity", "gather"]

Severity = Literal["error", "warning", "information"]

EXAMPLES = 3


class Issue(msgspec.Struct, frozen=True, gc=False):
    """One finding about a study, a resource or an input."""

    severity: Severity
    code: str
    """A word of `converter.core.reasons.REASONS`, such as ``value-out-of-range``."""
    path: str = ""
    """FHIRPath of the element, such as ``ImagingStudy.series.number``; empty where none is concerned."""
    keyword: str = ""
    """DICOM keyword (dotted into sequences); empty where none is concerned."""
    message: str = ""
    """One sentence for a person; no value of a patient's."""
    examples: tuple[str, ...] = ()
    """Up to three SOP Instance UIDs, series UIDs or places where it was seen."""
    count: int = 1
    """How many instances (or places) it stands for."""


def gather(issues: Iterable[Issue]) -> list[Issue]:
    """Gather issues by (code, path, keyword, severity) with a count and up to three examples.

    Parameters
    ----------
    issues : iterable of Issue

    Returns
    -------
    list of Issue
        Sorted by severity, code, path and keyword, so that the order of the input changes nothing.
    """
    order = {"error": 0, "warning": 1, "information": 2}
    gathered: dict[tuple[str, str, str, str], Issue] = {}
    for issue in issues:
        key = (issue.severity, issue.code, issue.path, issue.keyword)
        held = gathered.get(key)
        if held is None:
            gathered[key] = (
                replace(issue, examples=tuple(sorted(set(issue.examples))[:EXAMPLES]))
                if len(issue.examples) > 1
                else issue
            )
        else:
            examples = tuple(sorted({*held.examples, *issue.examples})[:EXAMPLES])
            message = min(held.message, issue.message)
            gathered[key] = replace(
                held, count=held.count + issue.count, examples=examples, message=message
            )
    return [
        gathered[key] for key in sorted(gathered, key=lambda k: (order[k[0]], k[1], k[2], k[3]))
    ]
