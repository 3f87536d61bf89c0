"""Profiles as data: what a profile file claims and which constraints it adds.

A profile file (``mappings/profiles/*.toml`` or a site's own) holds ``[profile]``, ``[[constraint]]`` and,
beside them, mapping rules that other modules read. Constraints are only checked, never a transformation.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from converter.errors import Fault, MappingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converter.core.structure import Structure

__all__ = ["INVARIANTS", "CodeBinding", "Constraint", "Profile", "Slice", "parse_profile"]

INVARIANTS = frozenset({"ips-pat-1"})
"""Invariants of profiles that the check knows by name."""

STANDARD_KEYS = frozenset({"extends", "profile", "constraint", "example", "site"})


class CodeBinding(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Terminology binding that a profile adds."""

    strength: Literal["required", "extensible", "preferred"]
    value_set: str = ""
    """Canonical without version."""
    codes: tuple[str, ...] = ()
    """Codes of the set; empty where it is too large to carry."""
    table: str = ""
    """Name of a code table whose keys are the codes."""
    system: str = ""
    """Code system of ``codes`` or ``table``; empty for elements of type code."""


class Slice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A named part of a repeating element, told apart by one value."""

    name: str
    by: str
    """Path below the element, such as ``system`` or ``type.coding.code``."""
    value: str
    """What it equals."""


class Constraint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One row of a profile."""

    path: str
    """FHIR path from the resource, such as ``ImagingStudy.subject.reference``."""
    slice: Slice | None = None
    """Only the items of this slice of ``path``; ``min`` and ``max`` count them."""
    child: str = ""
    """With a slice: path below its items that the constraint is about."""
    min: int | None = None
    max: int | None = None
    """Absent: as in the base."""
    targets: tuple[str, ...] = ()
    """Resource types that a Reference may point to."""
    fixed: Any = None
    """The value, exactly."""
    pattern: Any = None
    """What the value must at least hold."""
    binding: CodeBinding | None = None
    invariant: str = ""
    """Name of `INVARIANTS`."""
    must_support: bool = False
    obligation: tuple[str, ...] = ()
    """Obligations of the one who creates the resource, such as ``SHALL:populate-if-known``."""
    severity: Literal["error", "warning"] = "error"
    source: str = ""
    """Where it is said."""
    how: str = ""
    """How we meet it; for ``docs/conformance.md``."""
    test: str = ""
    """Test that shows it, as pytest names it."""

    @property
    def resource(self) -> str:
        """Resource type that it is about."""
        return self.path.partition(".")[0]


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One profile file, its mapping rules aside."""

    name: str
    """What ``--profile`` takes."""
    title: str
    version: str = ""
    """Version that the constraints were taken from; claims are unversioned."""
    source: str = ""
    licence: str = ""
    claims: dict[str, str] = {}
    """Resource type to canonical that ``meta.profile`` takes once it is met."""
    subject_must_pass: bool = False
    """Whether the study may claim the profile only if the Patient that we emit meets it, too."""
    constraints: tuple[Constraint, ...] = ()
    file: str = ""

    def of(self, resource_type: str) -> tuple[Constraint, ...]:
        """Constraints on one resource type."""
        return tuple(row for row in self.constraints if row.resource == resource_type)

    @property
    def populated(self) -> tuple[str, ...]:
        """Paths that we must populate where we know them: must-support ones and obligations."""
        return tuple(
            row.path
            for row in self.constraints
            if row.must_support or any(word.startswith("SHALL:populate") for word in row.obligation)
        )


def parse_profile(
    document: Mapping[str, Any], file: str, structure: Structure | None = None
) -> Profile:
    """Read ``[profile]`` and ``[[constraint]]`` of a profile file.

    Parameters
    ----------
    document : mapping
        The file, as `tomllib` reads it. Keys other than the two are left to the mapping.
    file : str
        Name for faults.
    structure : Structure, optional
        To hold the paths of the constraints against.

    Raises
    ------
    MappingError
        With every fault of the two parts.
    """
    faults: list[Fault] = []
    rows: list[Constraint] = []
    listed = document.get("constraint", [])
    if not isinstance(listed, list):
        faults.append(Fault(file, "constraint", "write it as [[constraint]], a list of tables"))
        listed = []
    for index, content in enumerate(listed):
        key = f"constraint[{index}]"
        try:
            row = msgspec.convert(content, Constraint)
        except msgspec.ValidationError as error:
            faults.append(_fault(file, key, error, Constraint))
            continue
        faults += [Fault(file, f"{key}.{where}", text) for where, text in _wrong(row, structure)]
        rows.append(row)
    head = document.get("profile")
    made: Profile | None = None
    if not isinstance(head, dict):
        faults.append(Fault(file, "profile", "a profile file needs a [profile] table"))
    elif reserved := head.keys() & {"constraints", "file"}:
        faults += [Fault(file, f"profile.{key}", "unknown key") for key in sorted(reserved)]
    else:
        try:
            made = msgspec.convert({**head, "file": file}, Profile)
        except msgspec.ValidationError as error:
            faults.append(_fault(file, "profile", error, Profile))
        else:
            faults += [
                Fault(file, f"profile.claims.{name}", text)
                for name, text in _wrong_claims(made, structure)
            ]
    if faults or made is None:
        raise MappingError(faults)
    return msgspec.structs.replace(made, constraints=tuple(rows))


def _wrong_claims(profile: Profile, structure: Structure | None) -> list[tuple[str, str]]:
    found = [
        (name, "is no canonical: write the whole URL, such as https://hospital.example/...")
        for name, canonical in profile.claims.items()
        if re.fullmatch(r"(https?://[^\s/|]+|urn:[a-z0-9-]+:)[^\s|]*", canonical) is None
    ]
    if structure is not None:
        kinds = {name for name, held in structure.types.items() if held.kind == "resource"}
        for name in profile.claims.keys() - kinds:
            near = get_close_matches(name, sorted(kinds), 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            found.append((name, f"is no resource type that is known here{hint}"))
    return found


def _fault(
    file: str, key: str, error: msgspec.ValidationError, kind: type[msgspec.Struct]
) -> Fault:
    """Fault of a table that msgspec refuses, with the nearest name for an unknown key."""
    text, _, place = str(error).partition(" - at `$")
    where = key + place.removesuffix("`")
    if "unknown field" in text:
        name = text.split("`")[1]
        near = get_close_matches(name, kind.__struct_fields__, 1)
        return Fault(file, f"{where}.{name}", "unknown key" + (f"; {near[0]}?" if near else ""))
    return Fault(file, where, text)


def _enumerated(binding: CodeBinding) -> bool:
    return bool(binding.codes or binding.table)


def _wrong(row: Constraint, structure: Structure | None) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    if row.invariant and row.invariant not in INVARIANTS:
        there = ", ".join(sorted(INVARIANTS))
        found.append(("invariant", f"no invariant {row.invariant}; there are: {there}"))
    if row.child and row.slice is None:
        found.append(("child", "only with a slice"))
    if row.min is not None and row.max is not None and row.min > row.max:
        found.append(("min", "min is above max"))
    found += [(name, "is below 0") for name in ("min", "max") if (getattr(row, name) or 0) < 0]
    if row.binding and row.binding.codes and row.binding.table:
        found.append(("binding", "codes or table, not both"))
    elif row.binding and row.binding.strength == "required" and not _enumerated(row.binding):
        found.append(("binding", "nobody can check it: write its codes, or name their table"))
    if structure is None:
        return found
    if row.path in structure.types and "." not in row.path:
        return found
    path = row.path + (f".{row.child}" if row.child else "")
    if structure.element(path) is None:
        parent, _, last = path.rpartition(".")
        element = structure.element(parent)
        kind = structure.types.get(element.type if element else parent)
        near = get_close_matches(last, list(kind.elements), 1) if kind else []
        hint = f"; {parent}.{near[0]}?" if near else ""
        found.append(("path", f"R4 has no element {path}{hint}"))
    elif row.binding and _enumerated(row.binding) and not row.binding.system:
        bound = structure.element(path)
        if bound is not None and bound.type in {"Coding", "CodeableConcept"}:
            text = f"{path} is a {bound.type}: write the system of the codes beside them"
            found.append(("binding.system", text))
    if row.targets:
        element = structure.element(path)
        if element is not None and element.type != "Reference":
            found.append(("targets", f"{path} is no Reference"))
        known = structure.value_sets.get("http://hl7.org/fhir/ValueSet/resource-types", {})
        names = {name for codes in known.values() for name in codes}
        found += [
            ("targets", f"no resource type {name}") for name in row.targets if name not in names
        ]
    return found
