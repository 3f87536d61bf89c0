"""Build ``mappings/definitions/`` from the official FHIR R4 (4.0.1) definitions.

Usage::

    python tools/build_definitions.py SOURCE

``SOURCE`` is a folder or jar that holds ``profiles-resources.xml``, ``profiles-types.xml``,
``extension-definitions.xml``, ``valuesets.xml``, ``v2-tables.xml`` and ``v3-codesystems.xml`` at any
depth, such as the Maven artifact ``ca.uhn.hapi.fhir:hapi-fhir-validation-resources-r4``. Their content
is HL7's, under CC0.

Writes

- ``r4.json``: `converter.core.structure.Structure`. A code system that we may meet in a coding stands in
  ``value_sets`` under its own canonical, with all of its codes.
- ``extensions.json``: URL to context and value types of every extension that R4 itself defines, and of
  those of profiles that we ship (`OTHERS`).
"""

from __future__ import annotations

import argparse
import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import msgspec

from converter.core.structure import Binding, Element, Structure, TypeDefinition
from converter.fhir.definitions import ExtensionDefinition

if TYPE_CHECKING:
    from collections.abc import Iterator

FHIR = "{http://hl7.org/fhir}"
FHIR_TYPE = "http://hl7.org/fhir/StructureDefinition/structuredefinition-fhir-type"
REGEX = "http://hl7.org/fhir/StructureDefinition/regex"
SYSTEM_TYPE = "http://hl7.org/fhirpath/System."
SMALL = 100
"""Most codes of an extension's value set that are carried."""
OUT = Path(__file__).resolve().parent.parent / "mappings" / "definitions"

RESOURCES = (
    "ImagingStudy",
    "Patient",
    "Endpoint",
    "Encounter",
    "ServiceRequest",
    "Practitioner",
    "PractitionerRole",
    "Device",
    "Organization",
    "Location",
    "Group",
    "Provenance",
    "Bundle",
    "OperationOutcome",
    "Element",
)
"""What we emit, point at within our own bundles, or answer with."""

CODE_SYSTEMS = (
    "http://terminology.hl7.org/CodeSystem/v2-0203",
    "http://terminology.hl7.org/CodeSystem/endpoint-connection-type",
    "http://terminology.hl7.org/CodeSystem/data-absent-reason",
    "http://terminology.hl7.org/CodeSystem/v3-ParticipationType",
    "http://terminology.hl7.org/CodeSystem/v3-ActCode",
    "http://terminology.hl7.org/CodeSystem/v3-Confidentiality",
    "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "http://terminology.hl7.org/CodeSystem/v3-ActReason",
    "http://terminology.hl7.org/CodeSystem/v3-RoleCode",
    "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus",
    "http://terminology.hl7.org/CodeSystem/v3-NullFlavor",
    "http://terminology.hl7.org/CodeSystem/v3-DataOperation",
    "http://terminology.hl7.org/CodeSystem/v3-DocumentCompletion",
    "http://terminology.hl7.org/CodeSystem/provenance-participant-type",
    "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle",
    "http://terminology.hl7.org/CodeSystem/organization-type",
    "http://terminology.hl7.org/CodeSystem/location-physical-type",
    "http://terminology.hl7.org/CodeSystem/practitioner-role",
    "http://terminology.hl7.org/CodeSystem/operation-outcome",
    "http://terminology.hl7.org/CodeSystem/observation-category",
    "http://hl7.org/fhir/administrative-gender",
    "http://hl7.org/fhir/resource-types",
)
"""Code systems that turn up in codings of these resources: an unknown code of theirs is an error."""

VALUE_SETS = (
    "http://hl7.org/fhir/ValueSet/resource-types",
    "http://hl7.org/fhir/ValueSet/identifier-type",
    "http://hl7.org/fhir/ValueSet/endpoint-connection-type",
    "http://hl7.org/fhir/ValueSet/series-performer-function",
)
"""Wanted beside those that a required binding names."""

UK_CORE = "https://fhir.hl7.org.uk/"
OTHERS = {
    f"{UK_CORE}StructureDefinition/Extension-UKCore-NHSNumberVerificationStatus": ExtensionDefinition(
        ("Patient.identifier",),
        ("CodeableConcept",),
        codes={
            f"{UK_CORE}CodeSystem/UKCore-NHSNumberVerificationStatusEngland": (
                *("01", "02", "03", "04", "05", "06", "07", "08"),
            ),
            f"{UK_CORE}CodeSystem/UKCore-NHSNumberVerificationStatusWales": (),
        },
    ),
}
"""Extensions of UK Core (version 2.1.0 of this one): facts, stated by hand."""


def value(node: ET.Element, name: str) -> str:
    """Primitive child of a resource in XML."""
    child = node.find(FHIR + name)
    return "" if child is None else child.get("value", "")


def values(node: ET.Element, name: str) -> list[str]:
    """All primitive children of one name."""
    return [child.get("value", "") for child in node.findall(FHIR + name)]


class Source:
    """Definitions by kind, read from a folder or jar."""

    def __init__(self, path: Path) -> None:
        self.types: dict[str, ET.Element] = {}
        self.extensions: dict[str, ET.Element] = {}
        self.code_systems: dict[str, ET.Element] = {}
        self.value_sets: dict[str, ET.Element] = {}
        for name, text in self._files(path):
            for resource in (
                ET.parse(io.BytesIO(text)).getroot().iterfind(f"{FHIR}entry/{FHIR}resource/*")
            ):
                kind, url = resource.tag.removeprefix(FHIR), value(resource, "url")
                if kind == "StructureDefinition" and name == "extension-definitions.xml":
                    self.extensions[url] = resource
                elif kind == "StructureDefinition":
                    self.types[value(resource, "id")] = resource
                elif kind == "CodeSystem":
                    self.code_systems[url] = resource
                elif kind == "ValueSet":
                    self.value_sets[url] = resource

    @staticmethod
    def _files(path: Path) -> Iterator[tuple[str, bytes]]:
        wanted = {
            "profiles-resources.xml",
            "profiles-types.xml",
            "extension-definitions.xml",
            "valuesets.xml",
            "v2-tables.xml",
            "v3-codesystems.xml",
        }
        if path.is_dir():
            for file in sorted(path.rglob("*.xml")):
                if file.name in wanted:
                    yield file.name, file.read_bytes()
            return
        with zipfile.ZipFile(path) as jar:
            for member in sorted(jar.namelist()):
                name = member.rpartition("/")[2]
                if name in wanted:
                    yield name, jar.read(member)

    # -- types ---------------------------------------------------------------------------------

    def structure(self) -> Structure:
        """Everything, as the engine and the check want it."""
        types: dict[str, TypeDefinition] = {}
        wanted = list(RESOURCES)
        while wanted:
            name = wanted.pop()
            if name in types or name == "Resource":
                continue
            made = self._type(name)
            types |= made
            for definition in made.values():
                wanted += {element.type for element in definition.elements.values()} - types.keys()
        bound = {
            element.binding.value_set
            for definition in types.values()
            for element in definition.elements.values()
            if element.binding and element.binding.strength == "required"
        }
        sets: dict[str, dict[str, tuple[str, ...]]] = {}
        for url in sorted(bound | set(VALUE_SETS)):
            codes = self._value_set(url)
            if codes:
                sets[url] = codes
        for url in CODE_SYSTEMS:
            sets[url] = {url: self._codes(url)}
        ordered = {name: types[name] for name in sorted(types)}
        return Structure("HL7 FHIR R4 4.0.1 StructureDefinitions, CC0", ordered, sets)

    def _type(self, name: str) -> dict[str, TypeDefinition]:
        definition = self.types[name]
        kind = value(definition, "kind")
        snapshot = definition.find(FHIR + "snapshot")
        assert snapshot is not None, name
        elements = list(snapshot)
        if kind == "primitive-type" or name == "xhtml":
            return {name: TypeDefinition("primitive", {}, self._pattern(elements))}
        paths = {value(element, "path") for element in elements}
        parents = {path.rpartition(".")[0] for path in paths}
        made: dict[str, dict[str, Element]] = {name: {}}
        for element in elements[1:]:
            path = value(element, "path")
            parent, _, last = path.rpartition(".")
            children = made.setdefault(parent, {})
            for key, child in self._elements(element, path, last, nested=path in parents):
                children[key] = child
        root = "resource" if kind == "resource" else "datatype"
        return {
            path: TypeDefinition(root if path == name else "backbone", children)  # type: ignore[arg-type]
            for path, children in made.items()
        }

    @staticmethod
    def _pattern(elements: list[ET.Element]) -> str:
        for element in elements:
            for extension in element.iterfind(f"{FHIR}type/{FHIR}extension"):
                if extension.get("url") == REGEX:
                    return value(extension, "valueString")
        return ""

    def _elements(
        self, element: ET.Element, path: str, last: str, *, nested: bool
    ) -> Iterator[tuple[str, Element]]:
        greatest = value(element, "max")
        if greatest == "0":
            return
        least, most = int(value(element, "min")), -1 if greatest == "*" else int(greatest)
        modifier = value(element, "isModifier") == "true"
        binding = self._binding(element)
        reference = value(element, "contentReference")
        if reference:
            yield last, Element(reference.removeprefix("#"), least, most, modifier=modifier)
            return
        types: dict[str, list[str]] = {}
        for node in element.findall(FHIR + "type"):
            code = value(node, "code")
            if code.startswith(SYSTEM_TYPE):
                for extension in node.findall(FHIR + "extension"):
                    if extension.get("url") == FHIR_TYPE:
                        code = value(extension, "valueUrl")
            profiles = [target.rpartition("/")[2] for target in values(node, "targetProfile")]
            types.setdefault(code, []).extend(profiles)
        if last == "id" and path.count(".") == 1 and path.partition(".")[0] in RESOURCES[:-1]:
            types = {"id": []}
        choice = last if last.endswith("[x]") else ""
        for code, targets in types.items():
            key = last
            if choice:
                key = last.removesuffix("[x]") + code[0].upper() + code[1:]
            kept = (
                ()
                if "Resource" in targets or code != "Reference"
                else tuple(dict.fromkeys(targets))
            )
            yield (
                key,
                Element(
                    path if nested and not choice else code,
                    least,
                    most,
                    kept,
                    binding
                    if code in {"code", "Coding", "CodeableConcept", "Quantity", "string", "uri"}
                    else None,
                    choice,
                    modifier,
                ),
            )

    @staticmethod
    def _binding(element: ET.Element) -> Binding | None:
        node = element.find(FHIR + "binding")
        if node is None or not value(node, "valueSet"):
            return None
        url = value(node, "valueSet").partition("|")[0]
        return Binding(value(node, "strength"), url)  # type: ignore[arg-type]

    # -- terminology ---------------------------------------------------------------------------

    def _codes(self, url: str) -> tuple[str, ...]:
        system = self.code_systems[url]
        return tuple(sorted({value(node, "code") for node in system.iter(FHIR + "concept")}))

    def _value_set(self, url: str) -> dict[str, tuple[str, ...]]:
        """Enumerate a value set; empty where that takes more than lists of codes."""
        compose = self.value_sets[url].find(FHIR + "compose")
        assert compose is not None, url
        found: dict[str, set[str]] = {}
        if compose.find(FHIR + "exclude") is not None:
            return {}
        for include in compose.findall(FHIR + "include"):
            if include.find(FHIR + "filter") is not None:
                return {}
            for other in values(include, "valueSet"):
                for system, codes in self._value_set(other.partition("|")[0]).items():
                    found.setdefault(system, set()).update(codes)
            system = value(include, "system")
            if not system:
                continue
            listed = {value(node, "code") for node in include.findall(FHIR + "concept")}
            if not listed:
                if system not in self.code_systems:
                    return {}
                listed = set(self._codes(system))
            if not listed:
                return {}
            found.setdefault(system, set()).update(listed)
        return {system: tuple(sorted(codes)) for system, codes in sorted(found.items())}

    # -- extensions ----------------------------------------------------------------------------

    def extension_table(self) -> dict[str, ExtensionDefinition]:
        """URL to where an extension may stand and which ``value[x]`` it takes (none: nested ones)."""
        table: dict[str, ExtensionDefinition] = {}
        for url, definition in sorted(self.extensions.items()):
            snapshot = definition.find(FHIR + "snapshot")
            if value(definition, "type") != "Extension" or snapshot is None:
                continue
            contexts = [value(node, "expression") for node in definition.findall(FHIR + "context")]
            types: list[str] = []
            codes: dict[str, tuple[str, ...]] = {}
            nested: set[str] = set()
            required: set[str] = set()
            modifier = value(snapshot[0], "isModifier") == "true"
            for element in snapshot:
                identity = element.get("id", "")
                if identity.startswith("Extension.extension:") and identity.count(".") == 1:
                    nested.add(identity.split(":")[1])
                    if value(element, "min") != "0":
                        required.add(identity.split(":")[1])
                if value(element, "path") != "Extension.value[x]" or identity.count(".") != 1:
                    continue
                if value(element, "max") != "0":
                    types = [value(node, "code") for node in element.findall(FHIR + "type")]
                bound = self._binding(element)
                if bound and bound.strength == "required" and bound.value_set in self.value_sets:
                    codes = self._value_set(bound.value_set)
                    codes = codes if sum(map(len, codes.values())) <= SMALL else {}
            table[url] = ExtensionDefinition(
                tuple(contexts),
                tuple(types),
                tuple(sorted(nested)),
                codes,
                modifier,
                tuple(sorted(required)),
            )
        return table | OTHERS


def main() -> None:
    """Write the data files."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path)
    arguments = parser.parse_args()
    source = Source(arguments.source)
    OUT.mkdir(parents=True, exist_ok=True)
    made: dict[str, object] = {
        "r4.json": source.structure(),
        "extensions.json": source.extension_table(),
    }
    for name, content in made.items():
        data = msgspec.json.encode(content)
        (OUT / name).write_bytes(data + b"\n")
        print(f"{name}: {len(data)} bytes")


if __name__ == "__main__":
    main()
