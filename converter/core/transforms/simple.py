"""Transforms of single values."""

from __future__ import annotations

from converter.core import systems, times, values
from converter.core.transforms.base import Absent, Call, transform

__all__: list[str] = []

UNSIGNED_MAX = 2**31 - 1


@transform("string", "string", "markdown")
def string(call: Call) -> str | None:
    """Text, trimmed; several values are joined by "; "."""
    return call.text() or None


@transform("firstString", "string", "markdown")
def first_string(call: Call) -> str | None:
    """First value that is not empty."""
    return next(iter(call.view.strings(call.keyword)), None)


@transform("code", "code", columns=("code",))
def code(call: Call) -> str | None:
    """Code from the rule's table; what is not in the table is left out with a finding."""
    value = call.value()
    if not value:
        return None
    row = call.normalised(value)
    if row is None:
        call.issue("code-unknown")
        return None
    return row["code"] or None


@transform("uid", "id")
def uid(call: Call) -> str | None:
    """A UID as it stands."""
    raw = call.view.raw(call.keyword)
    found = values.uid(raw) if raw else None
    if raw and not found:
        call.issue("value-malformed")
    return found


@transform("oid", "uri", "string")
def oid(call: Call) -> str | None:
    """A UID as ``urn:oid:``."""
    found = uid(call)
    return f"urn:oid:{found}" if found else None


@transform("uri", "uri", "url")
def uri(call: Call) -> str | None:
    """A URI or URL without blanks in it."""
    value = call.value()
    if not value:
        return None
    if not systems.is_uri(value):
        call.issue("value-malformed")
        return None
    return value


@transform("integer", "integer", "unsignedInt", "positiveInt")
def integer(call: Call) -> int | None:
    """An IS; what the FHIR type cannot hold is left out with a finding."""
    raw = call.view.raw(call.keyword)
    if raw is None:
        return None
    found = values.integer(raw)
    call.found(found.findings, call.keyword)
    if found.value is None:
        return None
    least = {"unsignedInt": 0, "positiveInt": 1}.get(call.rule.fhir_type, -UNSIGNED_MAX - 1)
    if not least <= found.value <= UNSIGNED_MAX:
        call.issue("value-out-of-range")
        return None
    return found.value


@transform("dateTime", "dateTime", also=("TimezoneOffsetFromUTC",))
def date_time(call: Call) -> str | None:
    """Date, time and zone as one value: PS3.5 DA and TM, (0008,0201), else the site's zone, else the date.

    A DT holds all three.
    """
    raw = call.view.raw(call.keyword)
    keyword = call.other("TM")
    time = call.view.raw(keyword) if keyword else None
    stamp = call.source is not None and call.source.vr == "DT"
    if raw is None or not raw.strip(b" \0"):
        if time and time.strip(b" \0") and not stamp:
            call.issue("time-without-date", keyword)
        return None
    offset, zone = call.top.raw("TimezoneOffsetFromUTC"), call.default_zone
    keep = call.site.keep_fractions
    if stamp:
        value, findings = times.timestamp(raw, offset, zone, keep_fractions=keep)
    else:
        value, findings = times.date_time(raw, time, offset, zone, keep_fractions=keep)
    of_date = times.date(raw).findings
    for finding in findings:
        if finding in of_date:
            call.issue(finding)
        elif finding == "no-time-zone":
            call.issue(finding, "TimezoneOffsetFromUTC", "information")
        else:
            call.issue(
                finding, "TimezoneOffsetFromUTC" if finding == "offset-malformed" else keyword
            )
    return value


@transform("date", "date")
def date(call: Call) -> str | None:
    """A DA; a partial or legacy one with a finding."""
    raw = call.view.raw(call.keyword)
    if raw is None:
        return None
    found = times.date(raw)
    call.found(found.findings, call.keyword)
    return found.value


@transform("dateOrUnknown", "date", always=True)
def date_or_unknown(call: Call) -> str | Absent:
    """A DA, or data-absent-reason ``unknown`` (IPS Patient asks for a birth date)."""
    return date(call) or Absent()


@transform("title", "string")
def title(call: Call) -> str | None:
    """Values joined as DICOM writes them, with a backslash: what ImageType looks like."""
    values = call.view.strings(call.keyword, keep_empty=True)
    return "\\".join(values).rstrip("\\") or None


@transform("phones", "ContactPoint")
def phones(call: Call) -> list[dict[str, str]] | None:
    """Telephone numbers, each as it is written."""
    return [{"system": "phone", "value": one} for one in call.view.strings(call.keyword)] or None


@transform("wadoBase", "url")
def wado_base(call: Call) -> str | None:
    """Base URL of a DICOMweb service: RetrieveURL up to ``/studies``."""
    value = call.value()
    base = systems.dicomweb_base(value)
    if value and not base:
        call.issue("value-malformed")
    return base or None
