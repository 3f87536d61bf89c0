"""Codes of sets that are too large to list, by their form: language tags, media types, currencies."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from converter.fhir.primitives import code

if TYPE_CHECKING:
    from converter.fhir.primitives import Fault, Test

__all__ = ["BY_FORM", "language"]

_LANGUAGES = (
    "aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de "
    "dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id "
    "ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu "
    "lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu "
    "rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to "
    "tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu"
)
LANGUAGES = frozenset(_LANGUAGES.split())
"""ISO 639-1."""
LANGUAGE = re.compile(
    r"([a-z]{2,3})(-[A-Za-z]{4})?(-(?:[A-Z]{2}|[0-9]{3}))?(-[A-Za-z0-9]{5,8})*(-x-.+)?"
)


def language(value: Any) -> Fault:
    """``code`` that is a language tag (BCP 47; every R4 element of the kind is bound to it)."""
    found = code(value)
    if found is not None:
        return found
    match = LANGUAGE.fullmatch(value)
    if match and (len(match[1]) == 3 or match[1] in LANGUAGES):
        return None
    return ("code-outside-binding", "no language tag, such as en-GB")


MEDIA_TYPE = re.compile(
    r"[A-Za-z0-9][\w!#$&^.+\-]{0,126}/(?:[A-Za-z0-9][\w!#$&^.+\-]{0,126}|\*)(?:\s*;.*)?", re.ASCII
)


def media_type(value: Any) -> Fault:
    """``code`` that is a media type (BCP 13), whatever is registered."""
    found = code(value)
    if found is not None or MEDIA_TYPE.fullmatch(value):
        return found
    return ("code-outside-binding", "no media type, such as application/dicom")


def currency(value: Any) -> Fault:
    """``code`` of a currency (ISO 4217), by its form."""
    found = code(value)
    if found is not None or re.fullmatch("[A-Z]{3}", value):
        return found
    return ("code-outside-binding", "no code of a currency, such as GBP")


VALUE_SET = "http://hl7.org/fhir/ValueSet/"
BY_FORM: dict[str, Test] = {
    f"{VALUE_SET}languages": language,
    f"{VALUE_SET}all-languages": language,
    f"{VALUE_SET}mimetypes": media_type,
    f"{VALUE_SET}currencies": currency,
}
"""Value set to the test of its codes."""
