"""Loads the compact FHIR definitions under ``mappings/definitions/``."""

from __future__ import annotations

from functools import cache

import msgspec

from converter.core.structure import Structure
from converter.data import data_path

__all__ = ["ExtensionDefinition", "load_dcm_codes", "load_extensions", "load_structure"]


class ExtensionDefinition(msgspec.Struct, frozen=True, omit_defaults=True):
    """An extension that somebody published, as far as the check needs it."""

    context: tuple[str, ...] = ()
    """Element paths or type names where it may stand; ``Element`` is anywhere."""
    value: tuple[str, ...] = ()
    """Types of ``value[x]``; empty where it takes nested extensions instead."""
    nested: tuple[str, ...] = ()
    """URLs of its nested extensions."""


@cache
def load_structure() -> Structure:
    """The FHIR R4 (4.0.1) types that we emit and check."""
    return msgspec.json.decode(data_path("definitions", "r4.json").read_bytes(), type=Structure)


@cache
def load_extensions() -> dict[str, ExtensionDefinition]:
    """URL to definition of the extensions that FHIR R4 itself publishes."""
    return msgspec.json.decode(
        data_path("definitions", "extensions.json").read_bytes(),
        type=dict[str, ExtensionDefinition],
    )


@cache
def load_dcm_codes() -> frozenset[str]:
    """Codes of the DICOM Controlled Terminology (PS3.16 Annex D), current and retired."""
    systems = msgspec.json.decode(
        data_path("definitions", "dcm.json").read_bytes(), type=dict[str, list[str]]
    )
    return frozenset(code for codes in systems.values() for code in codes)
