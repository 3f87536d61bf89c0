"""Codes of the check: severity, meaning and what to do. Part of `converter.core.reasons.REASONS`.

Invariants keep the key that FHIR gives them (``dom-3``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from converter.core.issues import Severity

__all__ = ["CHECKS", "STRICT", "CheckReason"]


class CheckReason(NamedTuple):
    """What one code of the check means."""

    severity: Severity
    meaning: str
    action: str = "Correct the resource where the finding points."


_REPAIR = "Repair the file at its source."

CHECKS: dict[str, CheckReason] = {
    # JSON as text
    "encoding": CheckReason("error", "The text is not UTF-8.", _REPAIR),
    "byte-order-mark": CheckReason("warning", "A byte order mark stands before the text.", _REPAIR),
    "json-syntax": CheckReason("error", "The text is not JSON.", _REPAIR),
    "too-deep-json": CheckReason("error", "JSON is nested deeper than any resource is.", _REPAIR),
    "too-large": CheckReason(
        "error", "The resource is larger than the limit.", "Raise --max-size, or split the Bundle."
    ),
    "duplicate-key": CheckReason(
        "error", "A key stands twice in one object: one of the values is lost.", _REPAIR
    ),
    "number-form": CheckReason(
        "error", "A number has a form that its type does not take, such as 1.0 for 1, -0 or NaN."
    ),
    # resource
    "not-fhir": CheckReason("error", "JSON, and no FHIR resource.", "Leave the file out."),
    "unknown-resource-type": CheckReason("error", "FHIR R4 has no resource type of this name."),
    "wrong-resource-type": CheckReason(
        "error",
        "A resource of a type that this check does not know.",
        "Use a general validator for it.",
    ),
    "type-not-checked": CheckReason(
        "warning",
        "A resource type of R4 that this check does not know.",
        "Use a general validator for it.",
    ),
    "other-fhir-version": CheckReason(
        "error", "The resource has the shape of another FHIR version.", "Convert it to R4 (4.0.1)."
    ),
    "cannot-be-read": CheckReason(
        "error", "The file cannot be read.", "Look at its permissions and its disk."
    ),
    "check-failed": CheckReason(
        "error", "The check itself failed on this resource.", "Please report it."
    ),
    # structure
    "unknown-element": CheckReason("error", "R4 has no element of this name here."),
    "missing-element": CheckReason("error", "A mandatory element is missing."),
    "choice-twice": CheckReason("error", "A choice of types stands with two of them."),
    "array-expected": CheckReason(
        "error", "The element repeats: it is an array, even with one item."
    ),
    "array-unexpected": CheckReason("error", "The element does not repeat: it is no array."),
    "object-expected": CheckReason("error", "The element has children: it is an object."),
    "wrong-json-type": CheckReason(
        "error", "A JSON type that the datatype does not take, such as a string for a number."
    ),
    "null-value": CheckReason("error", "null stands for a value; absent elements are left out."),
    "empty-object": CheckReason("error", "An object without content."),
    "empty-array": CheckReason("error", "An array without items."),
    "empty-value": CheckReason("error", "An empty string."),
    # datatypes
    "value-format": CheckReason("error", "A value does not have the form of its datatype."),
    "value-too-long": CheckReason("error", "A string is longer than 1 MiB."),
    "control-character": CheckReason(
        "error",
        "Text holds control characters, such as NUL. Of DICOM they are taken out, and it is a warning.",
        "Correct the resource where the finding points, or the object at its source.",
    ),
    "blank-value": CheckReason("warning", "A string is nothing but white space."),
    "blanks-around": CheckReason("warning", "A string starts or ends with white space."),
    "uid-format": CheckReason("error", "The value is no DICOM UID (PS3.5 section 9.1)."),
    "study-uid-form": CheckReason(
        "warning", "A DICOM UID identifier is not written as urn:oid: and the UID."
    ),
    "study-uid-identifier": CheckReason(
        "warning",
        "A study with series has not exactly one Study Instance UID identifier, which R4 asks for in prose.",
    ),
    "duplicate-uid": CheckReason("warning", "A series or an instance is listed twice."),
    "count-too-small": CheckReason("warning", "A count is below what is listed."),
    "duplicate-id": CheckReason("error", "Two elements or contained resources have one id."),
    # terminology
    "code-outside-binding": CheckReason(
        "error", "A code is not of the value set that the element takes."
    ),
    "outside-value-set": CheckReason(
        "warning",
        "A code is not of the value set that the element should take.",
        "Nothing, where no code of the set fits.",
    ),
    "unknown-code": CheckReason("error", "The code system has no such code."),
    "code-form": CheckReason("error", "A code does not have the form of its code system."),
    "check-digit-of-code": CheckReason(
        "warning", "A SNOMED CT identifier has a wrong length or check digit."
    ),
    "system-form": CheckReason("error", "A system is no absolute URI."),
    "coding-without-system": CheckReason("warning", "A code without a system means nothing."),
    "modality-system": CheckReason(
        "warning", "A modality is not a DICOM code; an error with --strict."
    ),
    "modality-not-acquisition": CheckReason(
        "warning", "A modality that is no acquisition modality (CID 29) stands at study level."
    ),
    "sop-class-form": CheckReason(
        "warning",
        "A SOP class is not written as urn:oid: in urn:ietf:rfc:3986; an error with --strict.",
    ),
    "unknown-sop-class": CheckReason(
        "warning", "A SOP class is not of PS3.6.", "Nothing, where it is a private one."
    ),
    # references
    "reference-form": CheckReason("error", "A reference is none of the forms that FHIR has."),
    "reference-target": CheckReason(
        "error", "A reference points to a resource type that the element does not take."
    ),
    "reference-empty": CheckReason("warning", "A reference says nothing but a type."),
    "reference-unresolved": CheckReason(
        "warning", "The Bundle does not hold what a reference points to."
    ),
    "contained-id": CheckReason("error", "A contained resource has no id."),
    "full-url": CheckReason(
        "error", "The fullUrl of an entry is missing, relative, or does not fit its resource."
    ),
    # extensions
    "unknown-extension": CheckReason("error", "An extension that nobody defines."),
    "extension-context": CheckReason("error", "An extension stands where it may not."),
    "extension-value": CheckReason("error", "An extension has a value that it does not take."),
    # narrative
    "narrative-form": CheckReason("error", "The narrative is no XHTML div."),
    "narrative-external": CheckReason("warning", "The narrative loads something from elsewhere."),
    # profiles
    "unknown-profile": CheckReason(
        "error",
        "The resource claims a profile that is not known here.",
        "Name its file with --profile.",
    ),
    "profile-type": CheckReason("error", "The resource claims a profile of another resource type."),
    "profile-missing": CheckReason("error", "An element that the profile asks for is missing."),
    "profile-too-many": CheckReason(
        "error", "An element stands more often than the profile allows."
    ),
    "profile-target": CheckReason(
        "error", "A reference points to what the profile does not allow."
    ),
    "profile-value": CheckReason("error", "A value is not the one that the profile asks for."),
    "profile-code": CheckReason(
        "error", "A code is not of the value set that the profile asks for."
    ),
    "subject-fails-profile": CheckReason(
        "error",
        "The patient does not meet the profile that the study's profile asks of its subject.",
    ),
    "must-support": CheckReason(
        "information",
        "An element that the profile wants populated where it is known is absent.",
        "Nothing, where it is not known.",
    ),
    "profile-not-claimed": CheckReason(
        "warning",
        "The resource was made for a profile and does not claim it.",
        "Look at the findings beside it.",
    ),
    "models-disagree": CheckReason(
        "warning", "fhir.resources refuses what this check accepts.", "Please report it."
    ),
    # invariants
    "bdl-1": CheckReason("error", "Bundle.total stands outside a searchset or history."),
    "bdl-2": CheckReason("error", "Bundle.entry.search stands outside a searchset."),
    "bdl-3": CheckReason(
        "error", "An entry's request is missing, or not allowed in this type of Bundle."
    ),
    "bdl-4": CheckReason(
        "error", "An entry's response is missing, or not allowed in this type of Bundle."
    ),
    "bdl-5": CheckReason("error", "An entry has neither resource, request nor response."),
    "bdl-7": CheckReason("error", "Two entries have one fullUrl."),
    "bdl-8": CheckReason("error", "A fullUrl names a version."),
    "bdl-9": CheckReason("error", "A document Bundle has no identifier with system and value."),
    "bdl-10": CheckReason("error", "A document Bundle has no timestamp."),
    "bdl-11": CheckReason("error", "A document Bundle does not start with a Composition."),
    "bdl-12": CheckReason("error", "A message Bundle does not start with a MessageHeader."),
    "dom-2": CheckReason("error", "A contained resource contains another."),
    "dom-3": CheckReason("error", "Nothing points to a contained resource."),
    "dom-4": CheckReason("error", "A contained resource has a version or a time of update."),
    "dom-5": CheckReason("error", "A contained resource has a security label."),
    "dom-6": CheckReason("warning", "A resource should have a narrative."),
    "ele-1": CheckReason("error", "An element has neither a value nor children."),
    "ext-1": CheckReason("error", "An extension has both a value and extensions, or neither."),
    "ref-1": CheckReason("error", "A local reference points to no contained resource."),
    "txt-1": CheckReason("error", "The narrative holds what FHIR does not allow, such as scripts."),
    "txt-2": CheckReason("error", "The narrative has no text."),
    "per-1": CheckReason("error", "A period ends before it starts."),
    "pat-1": CheckReason("error", "A contact of a patient has no details."),
    "ips-pat-1": CheckReason(
        "error", "A name of an IPS patient has neither given, family nor text."
    ),
    "org-1": CheckReason("error", "An organization has neither name nor identifier."),
    "org-2": CheckReason("error", "An organization has a home address."),
    "org-3": CheckReason("error", "An organization has a home telephone."),
    "grp-1": CheckReason("error", "A group that is not actual has members."),
    "prr-1": CheckReason("error", "ServiceRequest.orderDetail stands without code."),
    "att-1": CheckReason("error", "An attachment has data and no contentType."),
    "cpt-2": CheckReason("error", "A contact point has a value and no system."),
    "qty-3": CheckReason("error", "A unit has a code and no system."),
    "age-1": CheckReason("error", "An age has no unit, a wrong one, or is not positive."),
    "cnt-3": CheckReason("error", "A count has no unit, a wrong one, or is not whole."),
    "dis-1": CheckReason("error", "A distance has no unit, or a wrong one."),
    "drt-1": CheckReason("error", "A duration has no unit, or a wrong one."),
    "rng-2": CheckReason("error", "The low end of a range is above the high one."),
    "rat-1": CheckReason("error", "A ratio lacks its numerator or denominator."),
    "exp-1": CheckReason("error", "An expression has neither expression nor reference."),
    "drq-1": CheckReason("error", "A code filter needs either path or searchParam."),
    "drq-2": CheckReason("error", "A date filter needs either path or searchParam."),
    "tim-1": CheckReason("error", "A duration of a timing has no unit."),
    "tim-2": CheckReason("error", "A period of a timing has no unit."),
    "tim-4": CheckReason("error", "A duration of a timing is negative."),
    "tim-5": CheckReason("error", "A period of a timing is negative."),
    "tim-6": CheckReason("error", "A timing has periodMax and no period."),
    "tim-7": CheckReason("error", "A timing has durationMax and no duration."),
    "tim-8": CheckReason("error", "A timing has countMax and no count."),
    "tim-9": CheckReason("error", "A timing has an offset and no when."),
    "tim-10": CheckReason("error", "A timing has both timeOfDay and when."),
}
"""Code to what it means, in the order of ``docs/reasons.md``."""

STRICT = frozenset({"blank-value", "modality-system", "sop-class-form", "study-uid-form"})
"""Warnings that ``--strict`` makes errors: what FHIR leaves open and a DICOM study never needs."""
