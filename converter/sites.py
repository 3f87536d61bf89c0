"""What of ``[site]`` and of a sender is no value that can be used, though its type is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converter.core.text import charsets
from converter.core.times import is_zone

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["value_fault"]

_SYSTEMS = {"system", "assigner_system"}
_URLS = {"wado_rs", "viewer"}
_OF_URIS = {"practitioner_systems", "order_systems"}


def value_fault(key: Sequence[str], value: str) -> str:
    """Say what is wrong with a value of the configuration, or nothing: ``""``.

    Parameters
    ----------
    key : sequence of str
        Such as ``("site", "patient", "system")``.
    value : str
        Empty where it is not set.
    """
    of_peer = len(key) == 4 and tuple(key[:2]) == ("listen", "peers")
    check = None
    if of_peer or tuple(key[:-1]) == ("site",):
        check = _ASSUMED.get(key[-1])
    elif key[0] == "site" and key[1] == "coding_schemes":
        check = _scheme_fault
    elif key[0] == "site" and (key[-1] in _SYSTEMS or key[1] in _OF_URIS):
        check = _system_fault
    elif key[0] == "site" and key[-1] in _URLS:
        check = _uri_fault
    return check(value) if check and value else ""


def _uri_fault(uri: str) -> str:
    from converter.fhir.primitives import uri_fault

    # otherwise each study would have it as a finding
    found = uri_fault(uri)
    return found[1] if found else ""


def _scheme_fault(system: str) -> str:
    from converter.fhir.primitives import SCHEME

    return _uri_fault(system) or ("" if SCHEME.match(system) else _absolute(system))


def _system_fault(system: str) -> str:
    from converter.fhir.primitives import NAMESPACE

    return _uri_fault(system) or ("" if NAMESPACE.match(system) else _absolute(system))


def _absolute(system: str) -> str:
    oid = system.replace(".", "").isdecimal()
    hint = f"urn:oid:{system}" if oid else "https://hospital.example/mrn"
    return f"is no absolute URI: write it as {hint}"


def _zone_fault(zone: str) -> str:
    return "" if is_zone(zone) else "is no IANA time zone such as Europe/London"


def _charset_fault(terms: str) -> str:
    if terms.isascii() and charsets(terms.encode()).state == "declared":
        return ""
    return "is no SpecificCharacterSet such as ISO_IR 100"


def _issuer_fault(issuer: str) -> str:
    if issuer.isascii() and issuer.isprintable() and issuer == issuer.strip() and len(issuer) <= 64:
        return "" if "\\" not in issuer else "holds a backslash, which separates values in DICOM"
    return "is no IssuerOfPatientID: at most 64 characters of ASCII, no blanks around them"


_ASSUMED: Mapping[str, Callable[[str], str]] = {
    "timezone": _zone_fault,
    "charset": _charset_fault,
    "issuer": _issuer_fault,
}
"""What is assumed where an object states nothing, of the site or of a sender."""
