"""Studies and rule sets for tests of the mapping engine: DICOM as a mapping example writes it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from converter.core.compile import compile_rules
from converter.core.engine import Conversion, Options, convert
from converter.core.examples import DEFAULTS, encode, keep
from converter.core.header import Header
from converter.core.overlay import Layer, flatten
from converter.core.rules import RuleSet
from converter.core.site import Site
from converter.core.structure import Structure
from converter.core.study import Block, Study, assemble, pack
from converter.core.tables import CodeTable, parse_table
from converter.data import data_path
from converter.errors import Fault, MappingError
from converter.fhir.definitions import load_structure
from converter.mapping import load

STUDY = "1.2.826.0.1.3680043.10.1.1"
SERIES = "1.2.826.0.1.3680043.10.1.2"


@cache
def shipped_rules(*profiles: str) -> RuleSet:
    return load(profiles or ("r4",))


@cache
def structure() -> Structure:
    return load_structure()


@cache
def tables() -> Mapping[str, CodeTable]:
    folder: Path = data_path("codes")
    return {
        path.stem: parse_table(path.name, path.read_text("utf-8")) for path in folder.glob("*.csv")
    }


def site(**settings: Any) -> Site:
    return msgspec.convert(settings, Site)


def with_site(rules: RuleSet, **settings: Any) -> RuleSet:
    return replace(rules, site=site(**settings), memo={}) if settings else rules


def layer(text: str, kind: str = "base", file: str = "") -> Layer:
    made, faults = flatten(file or f"{kind}.toml", kind, tomllib.loads(text))
    assert faults == []
    return made


@cache
def base_layers() -> tuple[Layer, ...]:
    paths: list[Path] = sorted(data_path("base").glob("*.toml"))
    documents = {path.name: tomllib.loads(path.read_text("utf-8")) for path in paths}
    return tuple(
        flatten(name, "base", {k: v for k, v in document.items() if k != "example"})[0]
        for name, document in documents.items()
    )


def compiled(*layers: Layer, **settings: Any) -> RuleSet:
    return compile_rules(
        list(layers), structure=structure(), tables=tables(), site=site(**settings)
    )


def overlaid(*texts: str, **settings: Any) -> RuleSet:
    """The base with a site's files on top."""
    return compiled(*base_layers(), *(layer(text, "site") for text in texts), **settings)


def faults_of(*layers: Layer) -> list[Fault]:
    try:
        compiled(*layers)
    except MappingError as error:
        return list(error.faults)
    return []


def header(**attributes: Any) -> Header:
    return encode(attributes)


def blocks(instances: Iterable[Mapping[str, Any]], rules: RuleSet | None = None) -> list[Block]:
    """One block an instance; what is not said is a CT's, UIDs are counted up."""
    wanted = (rules or shipped_rules()).wanted
    found = []
    for number, one in enumerate(instances, start=1):
        attributes = {**DEFAULTS, "SOPInstanceUID": f"{SERIES}.{number}", **one}
        findings = attributes.pop("findings", [])
        source = attributes.pop("source", f"file-{number}")
        row = (attributes["SOPInstanceUID"], keep(encode(attributes), wanted), source, findings)
        found.append(pack(attributes["StudyInstanceUID"], attributes["SeriesInstanceUID"], [row]))
    return found


def study(*instances: Mapping[str, Any], rules: RuleSet | None = None) -> Study:
    return assemble(STUDY, blocks(instances, rules))


def converted(
    *instances: Mapping[str, Any],
    rules: RuleSet | None = None,
    options: Options | None = None,
    **settings: Any,
) -> Conversion:
    rules = with_site(rules or shipped_rules(), **settings)
    return convert(study(*instances, rules=rules), rules, options)


def imaging_study(*instances: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    resource = converted(*instances, **more).resource
    assert resource is not None
    return resource


def codes(conversion: Conversion) -> list[str]:
    return sorted({issue.code for issue in conversion.issues})


def companions(conversion: Conversion, resource_type: str) -> list[dict[str, Any]]:
    return [one for one in conversion.companions if one["resourceType"] == resource_type]


def patient(*instances: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    [found] = companions(converted(*instances, **more), "Patient")
    return found


def empty_places(value: Any, path: str = "") -> list[str]:
    """Places of a resource that FHIR forbids: empty strings, objects and arrays, and null."""
    if value is None or value in ("", {}, []):
        return [path]
    if isinstance(value, Mapping):
        return [place for key, one in value.items() for place in empty_places(one, f"{path}.{key}")]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [place for i, one in enumerate(value) for place in empty_places(one, f"{path}[{i}]")]
    return []
