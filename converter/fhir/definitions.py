"""Loads the compact FHIR definitions under ``mappings/definitions/``."""

from __future__ import annotations

from functools import cache

import msgspec

from converter.core.structure import Structure
from converter.core.tables import CodeTable, parse_table
from converter.data import data_path

__all__ = ["ExtensionDefinition", "load_extensions", "load_shapes", "load_structure", "load_tables"]

CHECKED_TABLES = ("modality", "dcm", "sop-classes")


class ExtensionDefinition(msgspec.Struct, frozen=True, omit_defaults=True):
    """An extension that somebody published, as far as the check needs it."""

    context: tuple[str, ...] = ()
    """Element paths or type names where it may stand; ``Element`` is anywhere."""
    value: tuple[str, ...] = ()
    """Types of ``value[x]``; empty where it takes nested extensions instead."""
    nested: tuple[str, ...] = ()
    """URLs of its nested extensions."""
    codes: dict[str, tuple[str, ...]] = {}
    """Code system to codes, where the value is bound to a small set with strength required; no codes: all of it."""
    modifier: bool = False
    required: tuple[str, ...] = ()
    """URLs of the nested extensions that it never lacks."""


@cache
def load_structure() -> Structure:
    """Load the FHIR R4 (4.0.1) types that we emit and check."""
    return msgspec.json.decode(data_path("definitions", "r4.json").read_bytes(), type=Structure)


@cache
def load_extensions() -> dict[str, ExtensionDefinition]:
    """Load the extensions that FHIR R4 itself publishes, by URL."""
    return msgspec.json.decode(
        data_path("definitions", "extensions.json").read_bytes(),
        type=dict[str, ExtensionDefinition],
    )


@cache
def load_shapes() -> dict[str, tuple[frozenset[str], ...]]:
    """Load the sets of keys, by type, of objects that fhir.resources was asked about beforehand."""
    return msgspec.json.decode(
        data_path("definitions", "shapes.json").read_bytes(),
        type=dict[str, tuple[frozenset[str], ...]],
    )


@cache
def load_tables(*more: str) -> dict[str, CodeTable]:
    """Load the code tables that the check reads: modalities, DCM codes, SOP classes.

    Parameters
    ----------
    *more : str
        Names of others; those that are not shipped are left out.
    """
    return {
        name: parse_table(name, data_path("codes", f"{name}.csv").read_text(encoding="utf-8"))
        for name in dict.fromkeys((*CHECKED_TABLES, *more))
        if data_path("codes", f"{name}.csv").exists()
    }
