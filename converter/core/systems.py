"""Forms of codes, URIs and identifiers that FHIR or their issuers ask for."""

from __future__ import annotations

import re
from typing import Final
from uuid import UUID

from converter.core.values import is_uid

__all__ = [
    "compact",
    "dicomweb_base",
    "is_code",
    "is_loinc",
    "is_nhs_number",
    "is_system_oid",
    "is_uri",
    "namespace",
    "uuid",
]

_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"{}|\\^`\x00-\x20]+")
_STUDIES: Final = re.compile(r"/studies(?:[?#].*|/(?:[0-9.]+(?:[/?#].*)?)?)?$")
_CODE: Final = re.compile(r"[^\s]+(?: [^\s]+)*")
_LOINC: Final = re.compile(r"(?:[0-9]{1,7}-[0-9]|(?:LA|LP|LG|MTHU)[0-9]+(?:-[0-9])?)")

SHORTEST_ROOT: Final = 5
"""Validators take ``urn:oid:`` with all of its arcs but the last in fewer characters for no namespace."""


def is_uri(text: str) -> bool:
    """Whether a text is an absolute URI without blanks (FHIR R4 ``datatypes.html#uri``)."""
    return _URI.fullmatch(text) is not None


def namespace(uri: str) -> str:
    """URI as an identifier system, empty where it is none: validators take ``http``, ``https`` and ``urn``.

    FHIR compares URIs exactly, so scheme and URN namespace, which mind no case, are in lower case.
    """
    scheme, _, rest = uri.partition(":")
    scheme = scheme.lower()
    if scheme not in {"http", "https", "urn"} or not is_uri(uri):
        return ""
    if scheme == "urn":
        kind, _, name = rest.partition(":")
        kind = kind.lower()
        if kind == "uuid":
            name = uuid(name) or ""
        if not name or (kind == "oid" and not is_system_oid(name)):
            return ""
        rest = f"{kind}:{name}"
    return f"{scheme}:{rest}"


def dicomweb_base(url: str) -> str:
    """Base URL of a DICOMweb service: no ``/studies``, no slash at its end; empty where it is no web address."""
    base = _STUDIES.sub("", url).rstrip("/")
    return base if is_uri(base) and base.lower().startswith(("http://", "https://")) else ""


def is_code(text: str) -> bool:
    """Whether a text is a FHIR code: no blanks at its ends, single ones inside."""
    return _CODE.fullmatch(text) is not None


def is_loinc(text: str) -> bool:
    """Whether a text has the form of a LOINC code: number and check digit, or a part, answer or group."""
    return _LOINC.fullmatch(text) is not None


def is_system_oid(text: str) -> bool:
    """Whether an OID is long enough to be a code or identifier system."""
    long_enough = text.rfind(".") >= SHORTEST_ROOT or text.startswith("1.3.")
    return is_uid(text) and long_enough and text[0] in "012"


def uuid(text: str) -> str | None:
    """A UUID in lower case, or ``None``."""
    try:
        return str(UUID(text)) if len(text) == 36 else None
    except ValueError:
        return None


def compact(text: str) -> str:
    """A number without the blanks and hyphens that people write in it."""
    return re.sub(r"[\s-]", "", text)


def is_nhs_number(text: str) -> bool:
    """Whether ten digits carry the NHS number's check digit (modulus 11, weights 10 to 2)."""
    digits = compact(text)
    if not re.fullmatch(r"[0-9]{10}", digits):
        return False
    total = sum(
        int(digit) * weight for digit, weight in zip(digits, range(10, 1, -1), strict=False)
    )
    check = (11 - total % 11) % 11
    return check == int(digits[9])
