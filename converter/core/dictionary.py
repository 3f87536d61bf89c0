"""DICOM keywords, tags and VRs (PS3.6), as pydicom carries them.

Its table is read without the rest of pydicom, which takes longer to import than a small run takes.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import cache, lru_cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location

__all__ = ["keyword_of", "nearest_keyword", "number_hint", "tag_of", "vr_of"]


@cache
def _table() -> dict[int, tuple[str, str, str, str, str]]:
    """Tag to VR, multiplicity, name, retired, keyword; without the groups that repeat (60xx)."""
    package = find_spec("pydicom")
    folders = package.submodule_search_locations if package else None
    for folder in folders or ():
        spec = spec_from_file_location("_dicom_dict_alone", f"{folder}/_dicom_dict.py")
        if spec is not None and spec.loader is not None:
            module = module_from_spec(spec)
            spec.loader.exec_module(module)
            found: dict[int, tuple[str, str, str, str, str]] = module.DicomDictionary
            return found
    raise ModuleNotFoundError("pydicom")


@cache
def _tags() -> dict[str, int]:
    return {entry[4]: tag for tag, entry in _table().items()}


@lru_cache(maxsize=4096)
def tag_of(keyword: str) -> int | None:
    """Tag number of a keyword, or ``None`` where PS3.6 has no such keyword."""
    return _tags().get(keyword)


@lru_cache(maxsize=4096)
def vr_of(tag: int) -> str:
    """Value representation of a standard tag; the first where PS3.6 allows several, empty if unknown."""
    entry = _table().get(tag)
    if entry is not None:
        return entry[0].split(" or ")[0]
    from pydicom.datadict import dictionary_VR  # knows the repeating groups as well

    try:
        return dictionary_VR(tag).split(" or ")[0]
    except KeyError:
        return ""


@lru_cache(maxsize=4096)
def keyword_of(tag: int) -> str:
    """Keyword of a tag, or its number in hexadecimal where PS3.6 has none."""
    entry = _table().get(tag)
    if entry is not None and entry[4]:
        return entry[4]
    from pydicom.datadict import keyword_for_tag

    return keyword_for_tag(tag) or f"{tag:08X}"


_NUMBER = re.compile(r"\(?([0-9A-Fa-f]{4})[, ]*([0-9A-Fa-fXx]{4})\b.*", re.DOTALL)


def number_hint(text: str) -> str:
    """What to write in the place of a tag's number; empty where the text is none."""
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        return ""
    group, element = match[1], match[2].lower()
    if int(group, 16) % 2:
        return "a private attribute has none, and cannot be mapped"
    keyword = "" if "x" in element else keyword_of(int(group + element, 16))
    known = keyword and tag_of(keyword) is not None
    return f"write {keyword}" if known else "and PS3.6 has none for this number"


def nearest_keyword(keyword: str) -> str:
    """Known keyword nearest to a misspelt one, or empty."""
    found = get_close_matches(keyword, list(_tags()), 1, 0.75)
    return found[0] if found else ""
