"""``[[example]]`` of a mapping file: DICOM in, the FHIR that must come out. Each one is a test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import msgspec

from converter.core import dictionary
from converter.core.engine import Conversion, Options, convert
from converter.core.header import Header, Wanted, items, pack_items
from converter.core.rules import RuleSet
from converter.core.site import Site
from converter.core.study import assemble, pack
from converter.errors import Fault

__all__ = ["encode", "failures", "keep"]

DEFAULTS: Mapping[str, Any] = {
    "SpecificCharacterSet": "ISO_IR 192",
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
    "SOPInstanceUID": "1.2.826.0.1.3680043.10.1.3",
    "StudyInstanceUID": "1.2.826.0.1.3680043.10.1.1",
    "SeriesInstanceUID": "1.2.826.0.1.3680043.10.1.2",
    "Modality": "CT",
}
"""What an example need not say."""

KEYS = ("why", "dicom", "fhir", "issue", "site", "resource", "companions", "file")


def encode(attributes: Mapping[str, Any]) -> Header:
    """Header of keywords and values as an example writes them: text, or lists of tables for sequences.

    Raises
    ------
    KeyError
        A keyword that PS3.6 does not have.
    ValueError
        Items where there are none, or none where there are.
    """
    header: Header = {}
    for keyword, value in attributes.items():
        tag = dictionary.tag_of(keyword)
        if tag is None:
            raise KeyError(keyword)
        if dictionary.vr_of(tag) == "SQ":
            if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
                raise ValueError(f"{keyword} is a sequence: write its items as [{{ ... }}]")
            header[tag] = pack_items([encode(item) for item in value])
        elif isinstance(value, list):
            header[tag] = "\\".join(str(one) for one in value).encode("utf-8")
        elif isinstance(value, Mapping):
            raise ValueError(f"{keyword} is no sequence: it has values, no items")
        else:
            header[tag] = str(value).encode("utf-8")
    return header


def keep(header: Header, wanted: Wanted) -> Header:
    """What of a header leaves the reader: the wanted attributes, in the items of sequences as well."""
    kept: Header = {}
    for tag, value in header.items():
        if tag not in wanted:
            continue
        inner = wanted[tag]
        if inner is None:
            kept[tag] = value
        else:
            kept[tag] = pack_items([keep(item, inner) for item in items(value)])
    return kept


def _wrong(expected: Any, found: Any, path: str) -> str:
    """First place where what was found is not what was expected; ``false`` must be absent."""
    if expected is False:
        return f"{path} must be absent" if found is not None else ""
    if isinstance(expected, Mapping):
        if not isinstance(found, Mapping):
            return f"{path} is not there" if found is None else f"{path} is no object"
        for key, value in expected.items():
            wrong = _wrong(value, found.get(key), f"{path}.{key}")
            if wrong:
                return wrong
        return ""
    if isinstance(expected, list):
        if not isinstance(found, list):
            return f"{path} is not there" if found is None else f"{path} is no list"
        if len(found) < len(expected):
            return f"{path} has {len(found)} items, not {len(expected)}"
        for index, value in enumerate(expected):
            wrong = _wrong(value, found[index], f"{path}[{index}]")
            if wrong:
                return wrong
        return ""
    if found is None:
        return f"{path} is not there"
    return "" if expected == found else f"{path} is {found!r}, not {expected!r}"


def _resource(conversion: Conversion, resource_type: str) -> dict[str, Any] | None:
    if resource_type == "ImagingStudy":
        return conversion.resource
    return next((r for r in conversion.companions if r["resourceType"] == resource_type), None)


def failures(rules: RuleSet) -> list[Fault]:
    """Run every example of a rule set.

    Returns
    -------
    list of Fault
        One for each example that does not hold.
    """
    found: list[Fault] = []
    for number, example in enumerate(rules.examples, start=1):
        file = str(example.get("file", ""))
        why = str(example.get("why", f"example {number}"))
        key = f"example {why!r}"
        unknown = [name for name in example if name not in KEYS]
        whole = all(isinstance(example.get(name), Mapping) for name in ("dicom", "fhir"))
        if unknown or not whole:
            close = get_close_matches(unknown[0], KEYS, 1) if unknown else []
            hint = f"; did you mean {close[0]}?" if close else ""
            message = f"unknown key {unknown[0]}{hint}" if unknown else "needs dicom and fhir"
            found.append(Fault(file, key, message))
            continue
        attributes = {**DEFAULTS, **example["dicom"]}
        try:
            header = encode(attributes)
        except KeyError as error:
            near = dictionary.nearest_keyword(str(error.args[0]))
            hint = f"; did you mean {near}?" if near else ""
            found.append(Fault(file, key, f"{error.args[0]} is no DICOM keyword{hint}"))
            continue
        except ValueError as error:
            found.append(Fault(file, key, str(error)))
            continue
        try:
            site = (
                msgspec.convert(example.get("site", {}), Site) if "site" in example else rules.site
            )
        except msgspec.ValidationError as error:
            found.append(Fault(file, key, f"site: {error}"))
            continue
        uids = [str(attributes[f"{level}InstanceUID"]) for level in ("Study", "Series", "SOP")]
        block = pack(uids[0], uids[1], [(uids[2], keep(header, rules.wanted), "example", [])])
        own = replace(rules, site=site, memo={})
        options = Options(companions=bool(example.get("companions", False)))
        conversion = convert(assemble(block.study_instance_uid, [block]), own, options)
        resource = str(example.get("resource", "ImagingStudy"))
        wrong = _wrong(example["fhir"], _resource(conversion, resource), resource)
        if wrong:
            found.append(Fault(file, key, wrong))
        issue = example.get("issue")
        codes = sorted({one.code for one in conversion.issues})
        if issue and issue not in codes:
            found.append(
                Fault(
                    file, key, f"finding {issue} expected; there are: {', '.join(codes) or 'none'}"
                )
            )
    return found
