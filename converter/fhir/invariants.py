"""Invariants of R4's types, by the key that R4 gives them (R4 definitions, ``constraint.key``)."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from converter.fhir.primitives import NAMESPACE, UID, decimal, uri_fault

if TYPE_CHECKING:
    from converter.fhir.report import Path, Report
    from converter.fhir.values import ObjectCheck

__all__ = ["INVARIANTS"]

UCUM = "http://unitsofmeasure.org"
ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:\S")
MEALS = ("C", "CM", "CD", "CV")


def _has(value: dict[str, Any], name: str) -> bool:
    return name in value or f"_{name}" in value


def _needs(key: str, name: str, other: str, message: str) -> ObjectCheck:
    """Make the check of "where the first is, the other is, too"."""

    def check(value: dict[str, Any], path: Path, report: Report) -> None:
        if _has(value, name) and not _has(value, other):
            report.add(key, path, message)

    return check


def period(value: dict[str, Any], path: Path, report: Report) -> None:
    """per-1: start is not after end, as far as both are precise."""
    start, end = value.get("start"), value.get("end")
    if start.__class__ is not str or end.__class__ is not str:
        return
    if "T" in start and "T" in end:
        try:
            wrong = datetime.fromisoformat(start) > datetime.fromisoformat(end)
        except (ValueError, TypeError):
            return  # told by the test of the dateTime, or a leap second
    else:
        # Of differing precision and equal as far as they go: FHIRPath finds neither lower.
        first, last = start.partition("T"), end.partition("T")
        length = min(len(first[0]), len(last[0]))
        same = start[:length] == end[:length]
        wrong = start[:length] > end[:length] or (
            same and (len(first[0]) != len(last[0]) or first[1] != last[1])
        )
    if wrong:
        report.add("per-1", path, "start is after end, or of another precision")


def patient_contact(value: dict[str, Any], path: Path, report: Report) -> None:
    """pat-1."""
    if not value.keys() & {"name", "telecom", "address", "organization"}:
        report.add("pat-1", path, "a contact needs a name, telecom, address or organization")


def organization(value: dict[str, Any], path: Path, report: Report) -> None:
    """org-1, org-2, org-3."""
    if not (_has(value, "name") or "identifier" in value):
        report.add("org-1", path, "an organization needs a name or an identifier")
    for key, name in (("org-2", "address"), ("org-3", "telecom")):
        held = value.get(name)
        if held.__class__ is list:
            for index, item in enumerate(held):
                if item.__class__ is dict and item.get("use") == "home":
                    report.add(key, (path, name, index), "an organization has no home")


def group(value: dict[str, Any], path: Path, report: Report) -> None:
    """grp-1."""
    if "member" in value and value.get("actual") is not True:
        report.add("grp-1", path, "only an actual group has members")


def ratio(value: dict[str, Any], path: Path, report: Report) -> None:
    """rat-1."""
    both = ("numerator" in value) + ("denominator" in value)
    if both == 1 or (both == 0 and "extension" not in value):
        report.add("rat-1", path, "a ratio needs numerator and denominator, or an extension")


def _number(value: Any) -> float | Decimal | None:
    """A number that one may reckon with; what is none is told by the test of the decimal."""
    if value.__class__ is bool or not isinstance(value, (int, float, Decimal)):
        return None
    return value if decimal(value) is None else None


def range_(value: dict[str, Any], path: Path, report: Report) -> None:
    """rng-2, where the units are the same."""
    low, high = value.get("low"), value.get("high")
    if low.__class__ is dict and high.__class__ is dict:
        least, most = _number(low.get("value")), _number(high.get("value"))
        if (
            least is not None
            and most is not None
            and low.get("code") == high.get("code")
            and least > most
        ):
            report.add("rng-2", path, "low is above high")


def _measure(key: str, *, whole: bool = False, positive: bool = False) -> ObjectCheck:
    """age-1, cnt-3, dis-1: a value needs a UCUM code."""

    def check(value: dict[str, Any], path: Path, report: Report) -> None:
        number = _number(value.get("value"))
        if _has(value, "value") and not _has(value, "code"):
            report.add(key, path, "a value needs a code of its unit")
        elif whole and value.get("code", "1") != "1":
            report.add(key, path, "the unit of a count is 1")
        elif "system" in value and value["system"] != UCUM:
            report.add(key, path, f"the unit is of {UCUM}")
        elif positive and number is not None and number <= 0:
            report.add(key, path, "the value is above zero")
        elif whole and number is not None and number != int(number):
            report.add(key, path, "the value is a whole number")

    return check


def duration(value: dict[str, Any], path: Path, report: Report) -> None:
    """drt-1."""
    if _has(value, "code") and not (value.get("system") == UCUM and _has(value, "value")):
        report.add("drt-1", path, "a code needs a value and the system UCUM")


def timing(value: dict[str, Any], path: Path, report: Report) -> None:
    """tim-1 to tim-10."""
    for key, name, other in (
        ("tim-1", "duration", "durationUnit"),
        ("tim-2", "period", "periodUnit"),
        ("tim-6", "periodMax", "period"),
        ("tim-7", "durationMax", "duration"),
        ("tim-8", "countMax", "count"),
        ("tim-9", "offset", "when"),
    ):
        if _has(value, name) and not _has(value, other):
            report.add(key, path, f"{name} needs {other}")
    for key, name in (("tim-4", "duration"), ("tim-5", "period")):
        number = _number(value.get(name))
        if number is not None and number < 0:
            report.add(key, path, f"{name} is not negative")
    when = value.get("when")
    if "offset" in value and when.__class__ is list and any(item in MEALS for item in when):
        report.add("tim-9", path, "an offset is from a meal's start or end, not from the meal")
    if "timeOfDay" in value and "when" in value:
        report.add("tim-10", path, "timeOfDay or when, not both")


def _xor(key: str, name: str, other: str) -> ObjectCheck:
    def check(value: dict[str, Any], path: Path, report: Report) -> None:
        if _has(value, name) == _has(value, other):
            report.add(key, path, f"either {name} or {other}")

    return check


def expression(value: dict[str, Any], path: Path, report: Report) -> None:
    """exp-1."""
    if not (_has(value, "expression") or _has(value, "reference")):
        report.add("exp-1", path, "an expression or a reference")


def identifier(value: dict[str, Any], path: Path, report: Report) -> None:
    """``Identifier.system`` is absolute; a DICOM UID stands as ``urn:oid:`` under ``urn:dicom:uid``."""
    system = value.get("system")
    if system.__class__ is not str or not system:
        return
    if not NAMESPACE.match(system):
        report.add(
            "system-form",
            (path, "system", None),
            "an identifier system is an absolute URI: of http, https or urn",
        )
    elif system == "urn:dicom:uid":
        content = value.get("value")
        if content.__class__ is str and content and not _uid_urn(content):
            report.add(
                "study-uid-form",
                (path, "value", None),
                "a DICOM UID is written as urn:oid: and the UID",
            )
    elif system == "urn:ietf:rfc:3986":
        content = value.get("value")
        if content.__class__ is str and content and not content.isspace():
            fault = uri_fault(content)
            if fault is None and not ABSOLUTE.match(content):
                fault = ("value-format", "the value under this system is a full URI")
            if fault is not None:
                report.add(fault[0], (path, "value", None), fault[1])


def _uid_urn(content: str) -> bool:
    return (
        content.startswith("urn:oid:") and len(content) <= 72 and bool(UID.fullmatch(content[8:]))
    )


INVARIANTS: dict[str, tuple[ObjectCheck, ...]] = {
    "Period": (period,),
    "Patient.contact": (patient_contact,),
    "Organization": (organization,),
    "Group": (group,),
    "ServiceRequest": (_needs("prr-1", "orderDetail", "code", "orderDetail needs code"),),
    "Attachment": (_needs("att-1", "data", "contentType", "data needs a contentType"),),
    "ContactPoint": (_needs("cpt-2", "value", "system", "a value needs a system"),),
    "Quantity": (_needs("qty-3", "code", "system", "the code of a unit needs a system"),),
    "Age": (
        _measure("age-1", positive=True),
        _needs("qty-3", "code", "system", "the code of a unit needs a system"),
    ),
    "Count": (_measure("cnt-3", whole=True),),
    "Distance": (_measure("dis-1"),),
    "Duration": (duration,),
    "Range": (range_,),
    "Ratio": (ratio,),
    "Timing.repeat": (timing,),
    "DataRequirement.codeFilter": (_xor("drq-1", "path", "searchParam"),),
    "DataRequirement.dateFilter": (_xor("drq-2", "path", "searchParam"),),
    "Expression": (expression,),
    "Identifier": (identifier,),
}
"""Type to what is asked of its objects beside their elements."""
