"""JSON forms of FHIR's primitive types (R4 ``datatypes.html``).

Each test takes a JSON value and gives ``None`` where it is right, else the code and the message of an
issue. No message repeats a value: it may be a patient's.
"""

from __future__ import annotations

import re
from calendar import monthrange
from decimal import Decimal
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeAlias

from converter.core.values import is_uid

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "NAMESPACE",
    "SCHEME",
    "TESTS",
    "UID",
    "Fault",
    "Test",
    "code",
    "decimal",
    "uid",
    "uri_fault",
]

Fault: TypeAlias = "tuple[str, str] | None"
Test: TypeAlias = "Callable[[Any], Fault]"

LARGEST = 2**31 - 1
LONGEST = 1024 * 1024
REMEMBERED = 4096
FARTHEST = 1000
"""Greatest exponent of a decimal, either way; FHIR sets no limit, nothing measured comes near it."""

CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
CODE = re.compile(r"[^\s]+( [^\s]+)*")
ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
UID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")
OID = re.compile(r"[0-2](\.(0|[1-9][0-9]*)){3,}")
SCHEME = re.compile(r"[a-z][a-z0-9+.\-]*:\S")
"""How an absolute URI starts; FHIR compares URIs exactly, so schemes are in lower case."""
NAMESPACE = re.compile(r"(?:https?|urn):\S")
"""How the system of an identifier starts: the HL7 validator takes no other scheme for absolute."""
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
DATE = re.compile(r"([0-9]{4})(?:-(0[1-9]|1[0-2])(?:-(0[1-9]|[12][0-9]|3[01]))?)?")
TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?")
USUAL = re.compile(
    r"(?!0000)[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])"
    r"(?:T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?(?:Z|[+-](?:0[0-9]|1[0-3]):[0-5][0-9]))?"
)
"""Most dateTimes: nothing to ask the calendar about."""
ZONE = re.compile(r"Z|[+-](?:(?:0[0-9]|1[0-3]):[0-5][0-9]|14:00)")
BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")

KINDS = {dict: "an object", list: "an array", bool: "a boolean", int: "a number", str: "a string"}


def _kind(value: Any) -> str:
    return "null" if value is None else KINDS.get(value.__class__, "a number")


def _no_string(value: Any) -> Fault:
    if value is None:
        return ("null-value", "null stands where a string is expected")
    return ("wrong-json-type", f"{_kind(value)} stands where a string is expected")


def string(value: Any) -> Fault:
    """``string`` and ``markdown``."""
    if value.__class__ is not str:
        return _no_string(value)
    if value.isprintable() and value and value[0] != " " and value[-1] != " ":
        return None if len(value) <= LONGEST else ("value-too-long", "longer than 1 MiB")
    if not value:
        return ("empty-value", "an empty string; leave the element out instead")
    if CONTROL.search(value):
        return ("control-character", "a control character or half a surrogate pair in text")
    if not value.strip():
        return ("blank-value", "nothing but white space")
    if len(value) > LONGEST:
        return ("value-too-long", "longer than 1 MiB")
    if value[0].isspace() or value[-1].isspace():
        return ("blanks-around", "white space at the start or end")
    return None


def markdown(value: Any) -> Fault:
    """``markdown``: white space around it means something."""
    found = string(value)
    return None if found is not None and found[0] == "blanks-around" else found


_codes: set[str] = set()


def code(value: Any) -> Fault:
    """``code``."""
    if value.__class__ is not str:
        return _no_string(value)
    if value in _codes:
        return None
    if not value:
        return ("empty-value", "an empty code; leave the element out instead")
    if CONTROL.search(value):
        return ("control-character", "a control character in a code")
    if not CODE.fullmatch(value):
        return ("value-format", "blanks around a code, or more than one between its words")
    if len(_codes) < REMEMBERED and len(value) <= 64:
        _codes.add(value)
    return None


def identity(value: Any) -> Fault:
    """``id``."""
    if value.__class__ is not str:
        return _no_string(value)
    if ID.fullmatch(value):
        return None
    if not value:
        return ("empty-value", "an empty id; leave the element out instead")
    if len(value) > 64:
        return ("value-format", "an id is longer than 64 characters")
    return ("value-format", "an id takes letters, digits, - and . only")


def uid(value: Any) -> Fault:
    """DICOM UID (PS3.5 section 9.1) in an element of type ``id``: what the reader takes for one."""
    if value.__class__ is str and is_uid(value):
        return None
    return identity(value) or (
        "uid-format",
        "no DICOM UID: digits and dots, no component with a leading zero",
    )


def uri_fault(value: str) -> Fault:
    """Form of a URI: no white space, whole UUIDs and OIDs."""
    if CONTROL.search(value):
        return ("control-character", "a control character in a URI")
    if any(map(str.isspace, value)):
        return ("value-format", "white space in a URI")
    if value.startswith(("oid:", "uuid:")):
        return ("value-format", "an OID or UUID as a URI starts with urn:")
    if value.startswith("urn:oid:") and not OID.fullmatch(value[8:]):
        return (
            "value-format",
            "no valid OID behind urn:oid: (four components or more, none with a leading zero)",
        )
    if value.startswith("urn:uuid:") and not UUID.fullmatch(value[9:]):
        return ("value-format", "no valid UUID in lower case behind urn:uuid:")
    return None


_uris: set[str] = set()


def uri(value: Any) -> Fault:
    """``uri`` and ``url``."""
    if value.__class__ is not str:
        return _no_string(value)
    if value in _uris:
        return None
    if not value:
        return ("empty-value", "an empty URI; leave the element out instead")
    found = uri_fault(value)
    if found is None and len(_uris) < REMEMBERED and len(value) <= 200:
        _uris.add(value)
    return found


def canonical(value: Any) -> Fault:
    """``canonical``: absolute, or a fragment."""
    found = uri(value)
    if found is None and ":" not in value and not value.startswith("#"):
        return ("value-format", "a canonical is an absolute URL")
    return found


def oid(value: Any) -> Fault:
    """``oid``."""
    found = uri(value)
    if found is None and not value.startswith("urn:oid:"):
        return ("value-format", "an oid starts with urn:oid:")
    return found


def uuid(value: Any) -> Fault:
    """``uuid``."""
    found = uri(value)
    if found is None and not value.startswith("urn:uuid:"):
        return ("value-format", "a uuid starts with urn:uuid:")
    return found


def _day(text: str) -> Fault:
    match = DATE.fullmatch(text)
    if not match:
        return ("value-format", "no date: YYYY, YYYY-MM or YYYY-MM-DD")
    year = int(match[1])
    if year == 0 or (match[3] and int(match[3]) > monthrange(year, int(match[2]))[1]):
        return ("value-format", "a day that the calendar does not have")
    return None


def date(value: Any) -> Fault:
    """``date``."""
    if value.__class__ is not str:
        return _no_string(value)
    if not value:
        return ("empty-value", "an empty date; leave the element out instead")
    if "T" in value:
        return ("value-format", "a date takes no time")
    return _day(value)


def date_time(value: Any) -> Fault:
    """``dateTime``: with a time, seconds and offset are mandatory."""
    if value.__class__ is not str:
        return _no_string(value)
    if USUAL.fullmatch(value):
        return None
    if not value:
        return ("empty-value", "an empty dateTime; leave the element out instead")
    day, mark, rest = value.partition("T")
    return _day(day) or (_clock(day, rest) if mark else None)


def instant(value: Any) -> Fault:
    """``instant``: a dateTime to the second at least."""
    found = date_time(value)
    if found is None and "T" not in value:
        return ("value-format", "an instant needs a time")
    return found


def _clock(day: str, rest: str) -> Fault:
    match = TIME.match(rest)
    if len(day) != 10:
        return ("value-format", "a time without a whole date")
    if not match:
        return ("value-format", "no time: hh:mm:ss, 24:00 is not allowed")
    zone = rest[match.end() :]
    if not zone:
        return ("value-format", "a dateTime with a time needs an offset, such as +01:00 or Z")
    if not ZONE.fullmatch(zone):
        return ("value-format", "no offset: Z or +hh:mm, up to 14:00")
    return None


def time(value: Any) -> Fault:
    """``time``."""
    if value.__class__ is not str:
        return _no_string(value)
    return None if TIME.fullmatch(value) else ("value-format", "no time: hh:mm:ss")


def boolean(value: Any) -> Fault:
    """``boolean``."""
    if value is True or value is False:
        return None
    if value is None:
        return ("null-value", "null stands where a boolean is expected")
    return ("wrong-json-type", f"{_kind(value)} stands where a boolean is expected")


def decimal(value: Any) -> Fault:
    """``decimal``."""
    if value.__class__ is int:
        return None
    if isinstance(value, Decimal) and value.is_finite():
        # Compared by its exponent: arithmetic with such numbers overflows, or fills the memory.
        if abs(value.adjusted()) <= FARTHEST:
            return None
        return ("number-form", f"a decimal of a magnitude beyond 10 to the power of {FARTHEST}")
    if isinstance(value, (float, Decimal)):
        return None if isfinite(value) else ("number-form", "JSON has no NaN and no Infinity")
    return _no_number(value)


def _no_number(value: Any) -> Fault:
    if value is None:
        return ("null-value", "null stands where a number is expected")
    return ("wrong-json-type", f"{_kind(value)} stands where a number is expected")


def _whole(value: Any, least: int, name: str) -> Fault:
    if isinstance(value, Decimal) and value.is_finite() and value.adjusted() > FARTHEST:
        return ("value-format", f"{name} is {least} to {LARGEST}")
    if isinstance(value, (float, Decimal)):
        return ("number-form", f"{name} is a whole number, without sign, fraction or exponent")
    if value.__class__ is not int:
        return _no_number(value)
    if value < least:
        return ("value-format", f"{name} is {least} or more")
    return ("value-format", f"{name} is 2147483647 or less")


def integer(value: Any) -> Fault:
    """``integer``: 32 bits."""
    if value.__class__ is int and -LARGEST - 1 <= value <= LARGEST:
        return None
    return _whole(value, -LARGEST - 1, "an integer")


def unsigned_int(value: Any) -> Fault:
    """``unsignedInt``: 0 to 2,147,483,647."""
    if value.__class__ is int and 0 <= value <= LARGEST:
        return None
    return _whole(value, 0, "an unsignedInt")


def positive_int(value: Any) -> Fault:
    """``positiveInt``: 1 to 2,147,483,647."""
    if value.__class__ is int and 1 <= value <= LARGEST:
        return None
    return _whole(value, 1, "a positiveInt")


def base64(value: Any) -> Fault:
    """``base64Binary``."""
    if value.__class__ is not str:
        return _no_string(value)
    if not value:
        return ("empty-value", "empty base64; leave the element out instead")
    if BASE64.fullmatch("".join(value.split())):
        return None
    return ("value-format", "no base64")


def xhtml(value: Any) -> Fault:
    """``xhtml``: its content is the narrative's business."""
    return _no_string(value) if value.__class__ is not str else None


TESTS: dict[str, Test] = {
    "base64Binary": base64,
    "boolean": boolean,
    "canonical": canonical,
    "code": code,
    "date": date,
    "dateTime": date_time,
    "decimal": decimal,
    "id": identity,
    "instant": instant,
    "integer": integer,
    "markdown": markdown,
    "oid": oid,
    "positiveInt": positive_int,
    "string": string,
    "time": time,
    "unsignedInt": unsigned_int,
    "uri": uri,
    "url": uri,
    "uuid": uuid,
    "xhtml": xhtml,
}
"""Primitive type to its test."""
