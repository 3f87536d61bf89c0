"""Values of DICOM attributes: text, UIDs and numbers (PS3.5 section 6.2).

Strict: a value that breaks the rules of its VR is no value, with a code that says so. Dates and times
are in `converter.core.times`, person names in `converter.core.names`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, TypeVar

from converter.core.text import MISSING, REPLACEMENT, Charset, clean, decode_text

__all__ = [
    "Parsed",
    "Strings",
    "decimal",
    "integer",
    "is_legible",
    "is_uid",
    "parse_uid",
    "strings",
    "uid",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Parsed(Generic[T]):
    """A value or none. None without a finding: absent; none with a finding: not usable."""

    value: T | None
    findings: tuple[str, ...] = ()


class Strings(NamedTuple):
    """The values of one attribute."""

    values: list[str]
    findings: tuple[str, ...] = ()


_TEXT: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
"""VRs that SpecificCharacterSet applies to (PS3.5 section 6.1.2.2)."""
_LINES: Final = frozenset({"LT", "ST", "UT"})
_SINGLE: Final = frozenset({"LT", "ST", "UT", "UR"})
"""VRs with one value, in which a backslash is text."""

_ENDS: Final = b" \0\t\n\v\f\r"
"""What stands around a value and is no part of it, by the standard or by mistake."""

_UID: Final = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*")
_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_DECIMAL: Final = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]{1,6}))?")


def strings(
    value: bytes | None,
    vr: str = "LO",
    charset: Charset = MISSING,
    *,
    default: str = "",
    keep_empty: bool = False,
) -> Strings:
    """Decode, split and trim the values of one attribute.

    Parameters
    ----------
    value : bytes or None
        The value field.
    vr : str
        Value representation. LT, ST, UT and UR hold one value; the others split at the backslash.
    charset : Charset
        As `converter.core.text.charset_of` gave it.
    default : str
        SpecificCharacterSet that the site assumes where none is stated.
    keep_empty : bool
        Keep empty values as ``""``, where values are paired by index.
    """
    if not value:
        return Strings([])
    if (
        value.isascii()
        and (charset.g0 == "ascii" or vr not in _TEXT)
        and (b"\\" not in value or vr in _SINGLE)
    ):
        # nearly always so: one value without anything to decode or to take out
        text = value.decode("ascii").strip(" \0")
        if text and text.isprintable():
            return Strings([text])
    findings: dict[str, None] = {}
    if vr in _TEXT:
        decoded = decode_text(value.rstrip(b" \0"), charset, vr=vr, default=default)
        text = decoded.text
        findings.update(dict.fromkeys(decoded.findings))
    elif value.isascii():
        text = value.decode("ascii")
    else:
        text = value.decode("ascii", "replace")
        findings["charset-invalid"] = None
    values: list[str] = []
    for part in [text] if vr in _SINGLE else text.split("\\"):
        cleaned = clean(part, lines=vr in _LINES)
        findings.update(dict.fromkeys(cleaned.findings))
        if cleaned.text or keep_empty:
            values.append(cleaned.text)
    if not any(values):
        values = []
    return Strings(values, tuple(findings))


def is_legible(
    value: bytes | None, vr: str = "LO", charset: Charset = MISSING, *, default: str = ""
) -> bool:
    """Whether all characters of a number could be read, and none was taken out of its midst.

    What is left of one that is not may be somebody else's number.

    Parameters
    ----------
    value, vr, charset, default
        As of `strings`.
    """
    found = strings((value or b"").strip(_ENDS), vr, charset, default=default)
    return "control-character" not in found.findings and not any(
        REPLACEMENT in one for one in found.values
    )


def is_uid(text: str) -> bool:
    """Whether a text is a UID by PS3.5 section 9.1."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def parse_uid(value: bytes | str | None) -> Parsed[str]:
    """Read one UID.

    Returns
    -------
    Parsed of str
        With the finding ``invalid-uid`` where the value is no UID by PS3.5 section 9.1, without one where
        there is none. Padding (NUL, and blanks as many writers put) is not part of it.
    """
    text = _ascii(value)
    if not text:
        return Parsed(None)
    return Parsed(text) if is_uid(text) else Parsed(None, ("invalid-uid",))


def uid(value: bytes | str | None) -> str | None:
    """One valid UID, or ``None``; `parse_uid` tells an invalid one from none."""
    return parse_uid(value).value


def integer(value: bytes | str | None) -> Parsed[int]:
    """Read one value of VR IS (PS3.5 section 6.2: 32 bits, signed).

    Returns
    -------
    Parsed of int
        Findings ``value-malformed`` (several values, too) and ``value-out-of-range``.
    """
    text = _ascii(value)
    if not text:
        return Parsed(None)
    if not _INTEGER.fullmatch(text):
        return Parsed(None, ("value-malformed",))
    digits = text.lstrip("+-").lstrip("0") or "0"
    if len(digits) > 10:
        return Parsed(None, ("value-out-of-range",))
    number = -int(digits) if text.startswith("-") else int(digits)
    if not -(2**31) <= number < 2**31:
        return Parsed(None, ("value-out-of-range",))
    return Parsed(number)


def decimal(value: bytes | str | None) -> Parsed[str]:
    """Read one value of VR DS as a FHIR decimal, with the precision that it was written in.

    Returns
    -------
    Parsed of str
        Findings ``value-malformed`` (NaN and infinity, too) and ``value-out-of-range``.
    """
    text = _ascii(value)
    if not text:
        return Parsed(None)
    match = _DECIMAL.fullmatch(text)
    if match is None or not (match[2] or match[3]) or len(text) > 64:
        return Parsed(None, ("value-malformed",))
    if not math.isfinite(float(text)):
        return Parsed(None, ("value-out-of-range",))
    sign = "-" if match[1] == "-" else ""
    fraction = f".{match[3]}" if match[3] else ""
    exponent = f"e{int(match[4])}" if match[4] else ""
    return Parsed(f"{sign}{match[2].lstrip('0') or '0'}{fraction}{exponent}")


def _ascii(value: bytes | str | None) -> str:
    if value is None:
        return ""
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    return text.strip(" \0")
