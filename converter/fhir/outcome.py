"""A verdict as a FHIR OperationOutcome (R4 ``operationoutcome.html``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converter.fhir.report import shown

if TYPE_CHECKING:
    from collections.abc import Collection

    from converter.fhir.judging import Verdict

__all__ = ["SYSTEM", "operation_outcome"]

SYSTEM = "urn:uuid:b50a029a-cc30-4d14-831e-8906f9f6a13c"
"""Code system of the check's codes: the project's own namespace."""

TYPES = {
    "missing-element": "required",
    "profile-missing": "required",
    "value-too-long": "too-long",
    "too-large": "too-costly",
    "too-deep-json": "too-costly",
    "type-not-checked": "not-supported",
    "wrong-resource-type": "not-supported",
    "other-fhir-version": "not-supported",
    "unknown-profile": "not-supported",
    "unknown-extension": "extension",
    "extension-context": "extension",
    "extension-value": "extension",
    "reference-unresolved": "not-found",
    "ref-1": "not-found",
    "duplicate-id": "duplicate",
    "duplicate-key": "duplicate",
    "duplicate-uid": "duplicate",
    "cannot-be-read": "exception",
    "check-failed": "exception",
    "must-support": "informational",
    "models-disagree": "informational",
}
STARTS = (
    ("code-", "code-invalid"),
    ("unknown-code", "code-invalid"),
    ("profile-code", "code-invalid"),
    ("outside-value-set", "code-invalid"),
    ("modality-", "code-invalid"),
    ("unknown-sop-class", "code-invalid"),
    ("coding-", "code-invalid"),
    ("profile-", "business-rule"),
    ("subject-", "business-rule"),
    ("study-uid-identifier", "business-rule"),
    ("value-", "value"),
    ("blank", "value"),
    ("control-", "value"),
    ("number-", "value"),
    ("uid-", "value"),
    ("system-", "value"),
    ("sop-class-", "value"),
    ("study-uid-form", "value"),
    ("count-", "value"),
    ("reference-", "value"),
    ("full-url", "value"),
)


def issue_type(code: str) -> str:
    """Code of R4's issue-type that one of our codes falls under."""
    if code in TYPES:
        return TYPES[code]
    for start, kind in STARTS:
        if code.startswith(start):
            return kind
    head, _, number = code.rpartition("-")
    return "invariant" if number.isdigit() and head else "structure"


def operation_outcome(verdict: Verdict, strict: Collection[str] = ()) -> dict[str, Any]:
    """Make the OperationOutcome of one verdict.

    Parameters
    ----------
    verdict : Verdict
    strict : collection of str
        Codes that count as errors.
    """
    issues: list[dict[str, Any]] = []
    name = shown(verdict.name)  # a file's name may be no Unicode
    for issue in verdict.issues:
        made: dict[str, Any] = {
            "severity": "error" if issue.code in strict else issue.severity,
            "code": issue_type(issue.code),
            "details": {
                "coding": [{"system": SYSTEM, "code": issue.code}],
                "text": shown(issue.message or issue.code),
            },
            "diagnostics": name,
        }
        if issue.path:
            made["expression"] = [issue.path]
        issues.append(made)
    if not issues:
        issues.append(
            {
                "severity": "information",
                "code": "informational",
                "details": {"text": "No issues"},
                "diagnostics": name,
            }
        )
    return {"resourceType": "OperationOutcome", "issue": issues}
