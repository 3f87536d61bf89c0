"""Dates and times: DA, TM and DT of PS3.5 section 6.2 as FHIR R4 date and dateTime.

FHIR wants an offset with every time; DICOM seldom has one. The order is TimezoneOffsetFromUTC
(0008,0201), then the zone of the site on that local date, then the date alone. No offset is invented.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from converter.core.values import Parsed

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["date", "date_time", "is_zone", "time", "timestamp", "utc_offset"]

_DATE: Final = re.compile(r"([0-9]{4})([0-9]{2})?([0-9]{2})?")
_DATE_LEGACY: Final = re.compile(r"([0-9]{4})\.([0-9]{2})\.([0-9]{2})")
_TIME: Final = re.compile(r"([0-9]{2})(?:([0-9]{2})(?:([0-9]{2})(?:\.([0-9]{1,6}))?)?)?")
_TIME_LEGACY: Final = re.compile(r"([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,6}))?)?")
_OFFSET: Final = re.compile(r"([+-])([0-9]{2})([0-9]{2})")
_TIMESTAMP: Final = re.compile(r"([0-9]{4,14})(\.[0-9]{1,6})?([+-][0-9]{4})?")

_PLAUSIBLE: Final = range(1800, 2200)
_MALFORMED: Final = ("value-malformed",)


@dataclass(frozen=True, slots=True)
class _Time:
    hour: int
    minute: int
    second: int
    fraction: str


def date(value: bytes | str | None) -> Parsed[str]:
    """Read one value of VR DA as a FHIR date.

    Returns
    -------
    Parsed of str
        ``1960-07-12``; ``1960-07`` or ``1960`` with the finding ``partial-date`` for ``196007``, ``1960``
        or zeros in place of month and day; ``legacy-format`` for ACR-NEMA's ``1960.07.12``;
        ``value-malformed`` without a value for anything else, a partial date far from our time included.
    """
    text = _trim(value)
    if not text:
        return Parsed(None)
    findings: tuple[str, ...] = ()
    match = _DATE.fullmatch(text)
    if match is None:
        match = _DATE_LEGACY.fullmatch(text)
        findings = ("legacy-format",)
    if match is None:
        return Parsed(None, _MALFORMED)
    year, month, day = int(match[1]), int(match[2] or 0), int(match[3] or 0)
    # what is shorter than a DA could as well be 960712 or 140438: only a plausible year makes it a date
    short = match[3] is None and (match[2] == "00" or year not in _PLAUSIBLE)
    if short or not _is_date(year, month, day):
        return Parsed(None, _MALFORMED)
    if not month:
        return Parsed(f"{year:04}", (*findings, "partial-date"))
    if not day:
        return Parsed(f"{year:04}-{month:02}", (*findings, "partial-date"))
    return Parsed(f"{year:04}-{month:02}-{day:02}", findings)


def _is_date(year: int, month: int, day: int) -> bool:
    if not month and day:
        return False
    try:
        datetime(year, month or 1, day or 1)  # noqa: DTZ001  # a check of the calendar only
    except ValueError:
        return False
    return True


def time(value: bytes | str | None, *, keep_fractions: bool = False) -> Parsed[str]:
    """Read one value of VR TM as a FHIR time, filled with zeros to the second.

    Returns
    -------
    Parsed of str
        ``legacy-format`` for ACR-NEMA's ``14:04:38``; ``value-malformed`` without a value for anything that
        is no time, 24:00 included. A leap second (60) stays.
    """
    parsed = _time(value)
    if parsed.value is None:
        return Parsed(None, parsed.findings)
    return Parsed(_write(parsed.value, keep_fractions=keep_fractions), parsed.findings)


def _time(value: bytes | str | None) -> Parsed[_Time]:
    text = _trim(value)
    if not text:
        return Parsed(None)
    findings: tuple[str, ...] = ()
    match = _TIME.fullmatch(text)
    if match is None:
        match = _TIME_LEGACY.fullmatch(text)
        findings = ("legacy-format",)
    if match is None:
        return Parsed(None, _MALFORMED)
    hour, minute, second = int(match[1]), int(match[2] or 0), int(match[3] or 0)
    if hour > 23 or minute > 59 or second > 60:
        return Parsed(None, _MALFORMED)
    return Parsed(_Time(hour, minute, second, match[4] or ""), findings)


def _write(moment: _Time, *, keep_fractions: bool) -> str:
    text = f"{moment.hour:02}:{moment.minute:02}:{moment.second:02}"
    return f"{text}.{moment.fraction}" if keep_fractions and moment.fraction else text


def utc_offset(value: bytes | str | None) -> Parsed[str]:
    """Read TimezoneOffsetFromUTC (0008,0201) as ``+01:00``.

    Returns
    -------
    Parsed of str
        ``offset-malformed`` without a value where it is no ``+HHMM`` or ``-HHMM`` from -1200 to +1400
        (PS3.3 C.12.1.1.8).
    """
    text = _trim(value)
    if not text:
        return Parsed(None)
    match = _OFFSET.fullmatch(text)
    if match is None or int(match[3]) > 59:
        return Parsed(None, ("offset-malformed",))
    minutes = int(match[2]) * 60 + int(match[3])
    if minutes > (14 * 60 if match[1] == "+" else 12 * 60):
        return Parsed(None, ("offset-malformed",))
    sign = match[1] if minutes else "+"
    return Parsed(f"{sign}{match[2]}:{match[3]}")


def date_time(
    da: bytes | str | None,
    tm: bytes | str | None,
    offset: bytes | str | None = None,
    zone: str = "",
    *,
    keep_fractions: bool = False,
) -> tuple[str | None, tuple[str, ...]]:
    """Join a date, a time and an offset into a FHIR dateTime.

    Parameters
    ----------
    da, tm : bytes or str or None
        Values of a DA and its TM.
    offset : bytes or str or None
        TimezoneOffsetFromUTC (0008,0201) of the same data set.
    zone : str
        IANA name of the site's zone; `is_zone` tells whether it is known.
    keep_fractions : bool
        Keep fractions of a second.

    Returns
    -------
    value : str or None
        With a time only where its offset is known.
    findings : tuple of str
        Those of `date`, `time` and `utc_offset`; ``no-time-zone`` where a time was left out,
        ``ambiguous-local-time`` and ``nonexistent-local-time`` in the nights when clocks change (the
        first offset of the two is taken).
    """
    day = date(da)
    if day.value is None:
        return None, day.findings
    moment = _time(tm)
    findings = [*day.findings, *moment.findings]
    if moment.value is None or len(day.value) < 10:
        return day.value, _unique(findings)
    stated = utc_offset(offset)
    findings += stated.findings
    shift = stated.value
    if shift is None and zone:
        shift, code = _zone_offset(day.value, moment.value, zone)
        findings += code
    if shift is None:
        findings.append("no-time-zone")
        return day.value, _unique(findings)
    clock = _write(moment.value, keep_fractions=keep_fractions)
    return f"{day.value}T{clock}{shift}", _unique(findings)


def timestamp(
    value: bytes | str | None,
    offset: bytes | str | None = None,
    zone: str = "",
    *,
    keep_fractions: bool = False,
) -> tuple[str | None, tuple[str, ...]]:
    """Read one value of VR DT as a FHIR dateTime; its own offset precedes all others.

    Parameters and results are those of `date_time`.
    """
    text = _trim(value)
    if not text:
        return None, ()
    match = _TIMESTAMP.fullmatch(text)
    if match is None or len(match[1]) % 2 or (match[2] and len(match[1]) < 14):
        return None, _MALFORMED
    da, tm = match[1][:8], match[1][8:] + (match[2] or "")
    if match[3] and utc_offset(match[3]).value is None:
        return None, _MALFORMED
    if tm and _time(tm).value is None:
        return None, _MALFORMED
    return date_time(da, tm, match[3] or offset, zone, keep_fractions=keep_fractions)


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def is_zone(name: str) -> bool:
    """Whether a name is a known IANA zone."""
    return _zone(name) is not None


def _zone_offset(day: str, moment: _Time, name: str) -> tuple[str | None, tuple[str, ...]]:
    zone = _zone(name)
    if zone is None:
        return None, ()
    local = datetime(
        int(day[:4]), int(day[5:7]), int(day[8:]),
        moment.hour, moment.minute, min(moment.second, 59), tzinfo=zone,
    )  # fmt: skip
    first, second = local.utcoffset(), local.replace(fold=1).utcoffset()
    if first is None or second is None or first % timedelta(minutes=1):
        return None, ()  # local mean time of long ago: FHIR has no seconds in an offset
    minutes = first // timedelta(minutes=1)
    sign = "-" if minutes < 0 else "+"
    hours, minutes = divmod(abs(minutes), 60)
    code: tuple[str, ...] = ()
    if first > second:
        code = ("ambiguous-local-time",)
    elif first < second:
        code = ("nonexistent-local-time",)
    return f"{sign}{hours:02}:{minutes:02}", code


def _unique(findings: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(findings))


def _trim(value: bytes | str | None) -> str:
    if value is None:
        return ""
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    return text.strip(" \0")
