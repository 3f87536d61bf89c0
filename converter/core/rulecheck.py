"""What a rule promises, held against FHIR's types and DICOM's: what would only show in the output."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from converter.core.rules import Rule, Source
from converter.core.structure import Binding, Structure
from converter.core.tables import CodeTable
from converter.core.transforms import TRANSFORMS, Transform

__all__ = [
    "BINARY",
    "constant_faults",
    "hollow_parts",
    "missing_elements",
    "option_faults",
    "source_faults",
    "table_faults",
]

BINARY = frozenset(
    {"AT", "FD", "FL", "OB", "OD", "OF", "OL", "OV", "OW", "SL", "SS", "SV", "UL", "UN", "US", "UV"}
)
"""VRs whose value is no text; no transform reads them."""

READS = {
    "date": ("DA",),
    "dateOrUnknown": ("DA",),
    "dateTime": ("DA", "DT"),
    "humanName": ("PN",),
    "humanNameOrUnknown": ("PN",),
}
"""VRs that some transforms alone can make something of."""

NUMBERS = frozenset({"integer", "unsignedInt", "positiveInt"})


def source_faults(
    sources: Sequence[Source], transform: Transform | None, *, first: bool
) -> Iterator[tuple[str, str]]:
    """Sources that a transform cannot read; ``first``: those of ``from``.

    Yields
    ------
    str, str
        Keyword and what is wrong.
    """
    for source in sources:
        if source.vr in BINARY:
            yield source.keyword, f"{source.keyword} is binary ({source.vr}): no transform reads it"
        elif transform is not None and first and source.vr == "SQ" and transform.items == "no":
            yield (
                source.keyword,
                f"{source.keyword} is a sequence: {transform.name} reads values; say which with a dot",
            )
        elif transform is not None and first and source.vr not in _read_by(transform, source):
            reads = " or ".join(_read_by(transform, source))
            yield source.keyword, f"{source.keyword} is {source.vr}: {transform.name} reads {reads}"
        elif transform is not None and first and source.vr != "SQ" and transform.items == "must":
            yield source.keyword, f"{source.keyword} is no sequence: {transform.name} reads items"


def _read_by(transform: Transform, source: Source) -> tuple[str, ...]:
    return READS.get(transform.name, (source.vr,))


def table_faults(
    transform: Transform | None,
    sources: Sequence[Source],
    name: str,
    tables: Mapping[str, CodeTable],
) -> Iterator[str]:
    """A code table that is missing where a transform needs one, or that lacks a column."""
    if transform is None or not transform.columns:
        return
    reads_terms = not sources or any(source.vr != "SQ" for source in sources)
    if not name:
        if reads_terms or transform.items == "no":
            yield f"{transform.name} needs `codes`"
        return
    table = tables.get(name)
    for column in transform.columns if table is not None else ():
        if table is not None and column not in table.columns:
            yield f"{transform.name} needs a column {column}, which code table {name} has not"


def option_faults(
    transform: Transform | None, options: Mapping[str, Any], tables: Mapping[str, CodeTable]
) -> Iterator[str]:
    """Options that nothing would read, and a ``type`` that is missing or unknown."""
    name = transform.name if transform is not None else "const"
    reads = transform.options if transform is not None else ()
    for key in ("system", "type"):
        if key in options and key not in reads and (transform is not None or "const" in options):
            yield f"{name} reads no {key}"
    if transform is not None and not transform.columns and options.get("codes") in tables:
        yield f"{name} reads no code table"
    kinds = tables.get("participation")
    if "type" in reads and kinds is not None and options.get("type") not in kinds:
        near = get_close_matches(str(options.get("type", "")), list(kinds.rows), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        yield f"{name} needs `type`, a code of v3-ParticipationType such as PRF{hint}"


def constant_faults(
    structure: Structure, type_name: str, value: Any, where: str, binding: Binding | None = None
) -> Iterator[str]:
    """What in a constant does not fit its FHIR type, or the value set that R4 requires there."""
    definition = structure.types.get(type_name)
    if definition is None:
        return
    if definition.kind == "primitive":
        faults = list(_primitive(type_name, definition.pattern, value, where))
        yield from faults or _bound(structure, binding, [("", value)], where)
        return
    if not isinstance(value, Mapping):
        yield f"{where}: expected a table, this is a {type_name}"
        return
    for name, inner in value.items():
        element = definition.elements.get(name)
        if element is None:
            near = get_close_matches(name, list(definition.elements), 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            yield f"{where}: a {type_name} has no element {name}{hint}"
        elif element.max == 1:
            yield from constant_faults(
                structure, element.type, inner, f"{where}.{name}", element.binding
            )
        elif not isinstance(inner, list):
            yield f"{where}.{name}: repeats, so its value stands in [ ]"
        else:
            for one in inner:
                yield from constant_faults(
                    structure, element.type, one, f"{where}.{name}", element.binding
                )
    codings = value.get("coding", []) if type_name == "CodeableConcept" else [value]
    if type_name in {"CodeableConcept", "Coding"} and isinstance(codings, list):
        codes = [
            (str(one.get("system", "")), one["code"])
            for one in codings
            if isinstance(one, Mapping) and "code" in one
        ]
        yield from _bound(structure, binding, codes, where)


def _bound(
    structure: Structure, binding: Binding | None, codes: Sequence[tuple[str, Any]], where: str
) -> Iterator[str]:
    """No code of a value set that R4 requires; of several codings one is enough."""
    known = structure.value_sets.get(binding.value_set) if binding else None
    if known is None or binding is None or binding.strength != "required" or not codes:
        return
    if any(
        code in held for system, code in codes for url, held in known.items() if system in {"", url}
    ):
        return
    every = sorted({code for held in known.values() for code in held})
    near = get_close_matches(str(codes[0][1]), every, 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    yield f"{where}: R4 requires a code of {binding.value_set}{hint}"


def _primitive(type_name: str, pattern: str, value: Any, where: str) -> Iterator[str]:
    if type_name == "boolean":
        fits = isinstance(value, bool)
    elif type_name in NUMBERS:
        fits = isinstance(value, int) and not isinstance(value, bool)
        fits = fits and (type_name == "integer" or value >= (type_name == "positiveInt"))
    elif type_name == "decimal":
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    else:
        fits = isinstance(value, str) and (not pattern or re.fullmatch(pattern, value) is not None)
    if not fits:
        yield f"{where}: is no {type_name} of FHIR R4"


def missing_elements(structure: Structure, type_name: str, made: Iterable[str]) -> list[str]:
    """Elements that FHIR R4 asks for in a type (1..1, 1..*) and that no rule makes."""
    definition = structure.types.get(type_name)
    there = set(made)
    return [
        name
        for name, element in (definition.elements if definition else {}).items()
        if element.min > 0 and not element.choice and name not in there
    ]


def hollow_parts(
    structure: Structure, type_name: str, rules: Iterable[tuple[str, Rule]]
) -> list[str]:
    """Parts that FHIR R4 asks for in a type and whose rule may yield nothing: what holds them would stand without.

    Parameters
    ----------
    structure : Structure
    type_name : str
        Type of what holds the parts, and is itself no resource.
    rules : iterable of (str, Rule)
        Parts by name, and what makes them.
    """
    definition = structure.types.get(type_name)
    elements = definition.elements if definition else {}
    return [
        name
        for name, rule in rules
        if rule.sources
        and not rule.required
        and not TRANSFORMS[rule.transform].always
        and (
            ((element := elements.get(name)) is not None and element.min > 0)
            # an extension holds a value, or extensions (ext-1)
            or (type_name == "Extension" and name.startswith("value"))
        )
    ]
