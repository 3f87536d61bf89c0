"""The shape of FHIR R4 (4.0.1) types, as compact data (``mappings/definitions/r4.json``).

Built from the official StructureDefinitions (CC0) by ``tools/build_definitions.py``; the engine compiles
rules against it and the check holds resources against it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Binding", "Element", "Structure", "TypeDefinition"]


class Binding(msgspec.Struct, frozen=True, omit_defaults=True):
    """Terminology binding of an element."""

    strength: Literal["required", "extensible", "preferred", "example"]
    value_set: str
    """Canonical without version."""


class Element(msgspec.Struct, frozen=True, omit_defaults=True):
    """One child element of a type. Choice elements stand once per type (``valueString``)."""

    type: str
    """Datatype name (``Identifier``), backbone path (``ImagingStudy.series``) or primitive (``dateTime``).
    ``Resource`` for contained resources and bundle entries."""
    min: int = 0
    """Least number; for a member of a choice that of the choice."""
    max: int = 1
    """Greatest number; -1 is ``*``."""
    targets: tuple[str, ...] = ()
    """For a Reference: allowed resource types; empty allows any."""
    binding: Binding | None = None
    choice: str = ""
    """Name of the choice, such as ``value[x]``, else empty."""
    modifier: bool = False


class TypeDefinition(msgspec.Struct, frozen=True, omit_defaults=True):
    """One resource, datatype or backbone element."""

    kind: Literal["resource", "datatype", "backbone", "primitive"]
    elements: dict[str, Element] = {}
    """JSON property name to element, in the order of the definition; ``id``, ``extension``,
    ``modifierExtension``, ``meta``, ``text``, ``contained``, ``language`` and ``implicitRules`` included."""
    pattern: str = ""
    """For a primitive: the regular expression of FHIR R4 ``datatypes.html`` (whole match)."""


class Structure(msgspec.Struct, frozen=True):
    """All types that we emit or check, and the value sets that R4 binds them to with strength required."""

    source: str
    """Where it was built from, with the version."""
    types: dict[str, TypeDefinition]
    """``ImagingStudy``, ``ImagingStudy.series``, ``Identifier``, ``string`` ..."""
    value_sets: dict[str, dict[str, tuple[str, ...]]]
    """Canonical without version to {code system: codes}; only those small enough to enumerate."""

    def element(self, path: str) -> Element | None:
        """Element at a dotted path from a type, such as ``ImagingStudy.series.modality.code``."""
        names = path.split(".")
        type_name, found = names[0], None
        for name in names[1:]:
            definition = self.types.get(type_name)
            found = definition.elements.get(name) if definition else None
            if found is None:
                return None
            type_name = found.type
        return found
