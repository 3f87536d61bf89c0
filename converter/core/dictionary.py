"""DICOM keywords, tags and VRs (PS3.6), as pydicom carries them."""

from __future__ import annotations

from difflib import get_close_matches
from functools import lru_cache

__all__ = ["keyword_of", "nearest_keyword", "tag_of", "vr_of"]


@lru_cache(maxsize=4096)
def tag_of(keyword: str) -> int | None:
    """Tag number of a keyword, or ``None`` where PS3.6 has no such keyword."""
    from pydicom.datadict import tag_for_keyword

    return tag_for_keyword(keyword)


@lru_cache(maxsize=4096)
def vr_of(tag: int) -> str:
    """Value representation of a standard tag; the first where PS3.6 allows several, empty if unknown."""
    from pydicom.datadict import dictionary_VR

    try:
        return dictionary_VR(tag).split(" or ")[0]
    except KeyError:
        return ""


@lru_cache(maxsize=4096)
def keyword_of(tag: int) -> str:
    """Keyword of a tag, or its number in hexadecimal where PS3.6 has none."""
    from pydicom.datadict import keyword_for_tag

    return keyword_for_tag(tag) or f"{tag:08X}"


def nearest_keyword(keyword: str) -> str:
    """Known keyword nearest to a misspelt one, or empty."""
    from pydicom.datadict import keyword_dict

    found = get_close_matches(keyword, list(keyword_dict), 1, 0.75)
    return found[0] if found else ""
