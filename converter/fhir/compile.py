"""Turns the definitions into functions that hold JSON objects against them.

Each type becomes one closure. What depends only on *which* keys an object has (unknown ones, missing
ones, choices taken twice) is worked out once a set of keys and remembered, so that an instance of a
study costs a look-up and the tests of its values.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import orjson

from converter.fhir.extensions import OwnerOf
from converter.fhir.primitives import TESTS, language, uid
from converter.fhir.terminology import CID29, SOP_CLASSES

if TYPE_CHECKING:
    from collections.abc import Callable

    from converter.core.structure import Element, Structure, TypeDefinition
    from converter.fhir.primitives import Test
    from converter.fhir.references import References
    from converter.fhir.report import Path, Report
    from converter.fhir.terminology import Terminology

__all__ = ["Compiler", "ObjectCheck", "ValueCheck"]

ObjectCheck: TypeAlias = "Callable[[Any, Path, Report], None]"
"""Holds one object; the path is its own."""
ValueCheck: TypeAlias = "Callable[[Any, Path, Report], None]"
"""Holds the value of one property; the path is that of the object around it."""

SHAPES = 2048
"""Sets of keys remembered a type; more come only from somebody who plays with us."""

LANGUAGES = "http://hl7.org/fhir/ValueSet/languages"
UNKNOWN = ("unknown", "")
"""What a quick test says that cannot tell."""

REMEMBERED = 4096
"""Coded values remembered an element."""

UIDS = frozenset({"ImagingStudy.series.uid", "ImagingStudy.series.instance.uid"})


class Held(NamedTuple):
    """How one property is held."""

    quick: Test | None
    """Gives ``None`` where the value is right for sure; needs no path."""
    check: ValueCheck | None
    """Tells what is wrong."""
    trusted: bool = False
    """Whether a caller may vouch for it: a UID that was checked when it was read."""


class Plan:
    """What follows from the keys of an object."""

    __slots__ = ("faults", "held", "pairs", "rows", "vouched", "vouched_rows")

    def __init__(self) -> None:
        self.held: list[tuple[Test | None, ValueCheck | None]] = []
        """One for each key, in their order."""
        self.vouched: list[tuple[Test | None, ValueCheck | None]] = []
        """The same, where the caller vouches for UIDs."""
        self.faults: list[tuple[str, str, str]] = []
        """(code, key or empty, message)"""
        self.pairs: list[tuple[str, str, Element]] = []
        """Primitives with an ``_element`` sibling: name, owner, element."""

        self.rows: list[tuple[str, Test]] | None = []
        """Quick tests by key, where they are all that there is to do."""
        self.vouched_rows: list[tuple[str, Test]] | None = []

    def add(self, key: str, held: Held) -> None:
        """Add what holds the next key."""
        if held.check is not None and held.quick is None:
            self.rows = self.vouched_rows = None
        elif held.quick is not None and self.rows is not None and self.vouched_rows is not None:
            self.rows.append((key, held.quick))
            if not held.trusted:
                self.vouched_rows.append((key, held.quick))
        self.held.append((held.quick, held.check))
        self.vouched.append((None, None) if held.trusted else (held.quick, held.check))


NOTHING = Held(None, None)


class Compiler:
    """Makes and keeps the checks of all types."""

    def __init__(
        self,
        structure: Structure,
        terminology: Terminology,
        references: References,
        hooks: dict[str, tuple[ObjectCheck, ...]],
        nested: ObjectCheck,
        extension: OwnerOf,
    ) -> None:
        self.structure = structure
        self.terminology = terminology
        self.references = references
        self.hooks = hooks
        self.nested = nested
        self.extension = extension
        self._made: dict[str, ObjectCheck] = {}
        self._plans: dict[str, dict[tuple[str, ...], Plan]] = {}

    def object(self, type_name: str) -> ObjectCheck:
        """Check of one type; types may hold themselves, so it is looked up when it is called."""
        made = self._made.get(type_name)
        if made is not None:
            return made

        def later(value: Any, path: Path, report: Report) -> None:
            self._made[type_name](value, path, report)

        self._made[type_name] = later
        self._made[type_name] = self._object(type_name, self.structure.types[type_name])
        return self._made[type_name]

    # -- objects -------------------------------------------------------------------------------

    def _object(self, type_name: str, definition: TypeDefinition) -> ObjectCheck:
        values = {
            name: self._value(type_name, name, element)
            for name, element in definition.elements.items()
        }
        hooks = self.hooks.get(type_name, ())
        plans = self._plans.setdefault(type_name, {})
        siblings = self._siblings

        def check(value: Any, path: Path, report: Report) -> None:
            if value.__class__ is not dict:
                _no_object(value, path, report)
                return
            keys = tuple(value)
            plan = plans.get(keys)
            if plan is None:
                plan = self._plan(type_name, definition, values, keys)
                if plan.faults or plan.pairs:
                    plan.rows = plan.vouched_rows = None
                if len(plans) < SHAPES:
                    plans[keys] = plan
            if plan.faults:
                for code, key, message in plan.faults:
                    report.add(code, (path, key, None) if key else path, message)
            tests = plan.vouched if report.trusted else plan.held
            for (quick, test), held in zip(tests, value.values(), strict=False):
                if quick is not None:
                    if quick(held) is not None and test is not None:
                        test(held, path, report)
                elif test is not None:
                    test(held, path, report)
            if plan.pairs:
                for name, owner, element in plan.pairs:
                    siblings(value, name, owner, element, path, report)
            for hook in hooks:
                hook(value, path, report)

        return check

    def _plan(
        self,
        type_name: str,
        definition: TypeDefinition,
        values: dict[str, Held],
        keys: tuple[str, ...],
    ) -> Plan:
        plan = Plan()
        elements = definition.elements
        present: set[str] = set()
        choices: dict[str, str] = {}
        for key in keys:
            base = key.removeprefix("_")
            element = elements.get(base)
            if key == "resourceType" and definition.kind == "resource":
                plan.add(key, NOTHING)
                continue
            if element is None or (base != key and element.type not in TESTS):
                near = get_close_matches(key, elements, 1)
                hint = f"; {near[0]}?" if near else ""
                plan.add(key, NOTHING)
                plan.faults.append(
                    ("unknown-element", key, f"{type_name} has no element {key}{hint}")
                )
                continue
            if element.choice and choices.setdefault(element.choice, base) != base:
                plan.faults.append(
                    (
                        "choice-twice",
                        key,
                        f"{element.choice} may stand once: {choices[element.choice]} or {base}",
                    )
                )
            paired = element.type in TESTS and f"_{base}" in keys
            plan.add(key, NOTHING if paired else values[base])
            if paired and base not in present:
                plan.pairs.append((base, type_name, element))
            present.add(base)
        if not present and definition.kind != "resource":
            plan.faults.append(
                ("empty-object", "", "an object without content; leave it out instead")
            )
            return plan
        if present == {"id"} and definition.kind != "resource" and type_name != "Element":
            plan.faults.append(("ele-1", "", "an element needs a value or children beside its id"))
        told: set[str] = set()
        for name, element in elements.items():
            wanted = element.choice or name
            if (
                element.min
                and wanted not in told
                and not (name in present or (element.choice and element.choice in choices))
            ):
                told.add(wanted)
                plan.faults.append(
                    ("missing-element", wanted.removesuffix("[x]"), f"{type_name} needs {wanted}")
                )
        return plan

    # -- values --------------------------------------------------------------------------------

    def _value(self, owner: str, name: str, element: Element) -> Held:
        repeats = element.max != 1
        test = TESTS.get(element.type)
        if test is not None:
            return _primitive(
                name,
                self._test(owner, name, element, test),
                repeats=repeats,
                uids=f"{owner}.{name}" in UIDS,
                identity=name == "id" and self.structure.types[owner].kind != "resource",
            )
        item, quick = self._item(owner, name, element)
        if not repeats:
            return Held(quick, _single(name, item))
        definition = self.structure.types.get(element.type)
        if (
            definition is not None
            and definition.kind == "backbone"
            and not self.hooks.get(element.type)
        ):
            return Held(None, _rows(name, item, self._plans.setdefault(element.type, {})))
        return Held(None, _many(name, item))

    def _item(self, owner: str, name: str, element: Element) -> tuple[ObjectCheck, Test | None]:
        """Check of one item of a complex element, its binding and targets included."""
        if element.type == "Resource":
            return self.nested, None
        if element.type == "Extension":
            extension = self.extension(
                self.object("Extension"), modifier=name == "modifierExtension"
            )
            return extension, None
        held = self.object(element.type)
        if element.type == "Reference":
            targets, references = element.targets, self.references.check

            def reference(value: Any, path: Path, report: Report) -> None:
                held(value, path, report)
                if value.__class__ is dict:
                    references(value, targets, path, report)

            return reference, None
        bound = self._bound(f"{owner}.{name}", element)
        if element.type in {"Coding", "CodeableConcept"}:
            return _remembering(held, bound, element.type)
        if bound is None:
            return held, None

        def coded(value: Any, path: Path, report: Report) -> None:
            held(value, path, report)
            if value.__class__ is dict:
                bound(value, path, report)

        return coded, None

    def _bound(self, where: str, element: Element) -> ObjectCheck | None:
        binding = element.binding
        if binding is None or binding.strength not in {"required", "extensible"}:
            return None
        terminology = self.terminology
        if binding.value_set == CID29:
            acquisition = where == "ImagingStudy.modality"

            def modality(value: Any, path: Path, report: Report) -> None:
                terminology.modality(value, path, report, acquisition=acquisition)

            return modality
        if binding.value_set == SOP_CLASSES:
            return terminology.sop_class
        allowed = terminology.allowed(binding)
        if allowed is None or (
            binding.strength == "extensible" and binding.value_set.endswith("identifier-type")
        ):
            # identifier-type is a short list for a long table: VN, and every DCM code, lie outside
            return None
        code = "code-outside-binding" if binding.strength == "required" else "outside-value-set"

        def bound(value: Any, path: Path, report: Report) -> None:
            codings = value.get("coding", [value]) if element.type == "CodeableConcept" else [value]
            pairs = (
                {
                    (item.get("system"), item.get("code"))
                    for item in codings
                    if item.__class__ is dict and item.get("code").__class__ is str
                }
                if codings.__class__ is list
                else set()
            )
            if pairs and not pairs & allowed:
                report.add(code, path, f"no code of {binding.value_set}")

        return bound

    def _test(self, owner: str, name: str, element: Element, test: Test) -> Test:
        if f"{owner}.{name}" in UIDS:
            return uid
        binding = element.binding
        if element.type != "code" or binding is None:
            return test
        if binding.value_set == LANGUAGES:
            return language
        if binding.strength != "required":
            return test
        codes = self.terminology.plain_codes(binding.value_set)
        if codes is None:
            return test
        listed = ", ".join(sorted(codes)) if len(codes) <= 12 else binding.value_set

        def bound(value: Any) -> tuple[str, str] | None:
            if value.__class__ is str and value in codes:
                return None
            return test(value) or ("code-outside-binding", f"takes {listed}")

        return bound

    def _siblings(
        self,
        value: dict[str, Any],
        name: str,
        owner: str,
        element: Element,
        path: Path,
        report: Report,
    ) -> None:
        """Check a primitive that has an ``_element`` with id or extensions beside it."""
        test = self._test(owner, name, element, TESTS[element.type])
        held, extra = value.get(name), value[f"_{name}"]
        if element.max == 1:
            if name in value:
                _one(held, test, (path, name, None), report)
            self.object("Element")(extra, (path, name, None), report)
            if name not in value and extra.__class__ is dict and extra.keys() == {"id"}:
                report.add("ele-1", (path, name, None), "neither a value nor an extension")
            return
        if name in value and held.__class__ is not list:
            report.add("array-expected", (path, name, None), f"{name} is an array")
            held = []
        if extra.__class__ is not list:
            report.add("array-expected", (path, name, None), f"_{name} is an array, as {name} is")
            return
        items = list(held or ())
        for index in range(max(len(items), len(extra))):
            place = (path, name, index)
            item = items[index] if index < len(items) else None
            more = extra[index] if index < len(extra) else None
            if item is None and more is None:
                report.add("null-value", place, f"null in both {name} and _{name}")
            if item is not None:
                _one(item, test, place, report)
            if more is not None:
                self.object("Element")(more, place, report)


def _remembering(
    held: ObjectCheck, bound: ObjectCheck | None, kind: str
) -> tuple[ObjectCheck, Test]:
    """Check coded values; the same few stand in every study, so those found right are remembered."""
    right: set[Any] = set()

    def coding(value: Any) -> tuple[str, str] | None:
        try:
            get = value.get
            found = (get("system"), get("code"), get("display"), len(value)) in right
        except (AttributeError, TypeError):
            return UNKNOWN
        return None if found else UNKNOWN

    def concept(value: Any) -> tuple[str, str] | None:
        try:
            found = orjson.dumps(value) in right
        except TypeError:
            return UNKNOWN
        return None if found else UNKNOWN

    def coded(value: Any, path: Path, report: Report) -> None:
        count = len(report.issues)
        held(value, path, report)
        if value.__class__ is not dict:
            return
        if bound is not None:
            bound(value, path, report)
        if len(report.issues) == count and len(right) < REMEMBERED and _plain(value):
            if kind == "Coding":
                get = value.get
                right.add((get("system"), get("code"), get("display"), len(value)))
            else:
                right.add(orjson.dumps(value))

    return coded, coding if kind == "Coding" else concept


def _plain(value: dict[str, Any]) -> bool:
    """Whether a coded value is nothing but codes: no id (it is unique), no extension, no free text."""
    codings = value["coding"] if value.keys() == {"coding"} else [value]
    return all(
        coding.keys() <= {"system", "code", "display"}
        and all(part.__class__ is str for part in coding.values())
        for coding in codings
    )


def _no_object(value: Any, path: Path, report: Report) -> None:
    if value is None:
        report.add("null-value", path, "null stands where an object is expected")
    elif value.__class__ is list:
        report.add("array-unexpected", path, "an array stands where one object is expected")
    else:
        report.add("object-expected", path, "a plain value stands where an object is expected")


def _one(value: Any, test: Test, place: Path, report: Report) -> None:
    fault = test(value)
    if fault is not None:
        if value.__class__ is list:
            fault = ("array-unexpected", "an array stands where one value is expected")
        report.add(fault[0], place, fault[1])


def _primitive(name: str, test: Test, *, repeats: bool, uids: bool, identity: bool) -> Held:
    def single(value: Any, path: Path, report: Report) -> None:
        fault = test(value)
        if fault is not None:
            _one(value, test, (path, name, None), report)

    def element_id(value: Any, path: Path, report: Report) -> None:
        single(value, path, report)
        if value.__class__ is str:
            if any(map(str.isspace, value)):
                report.add(
                    "value-format", (path, name, None), "the id of an element takes no white space"
                )
            if report.ids.setdefault(value, path) is not path:
                report.add("duplicate-id", (path, name, None), "another element has the same id")

    def many(value: Any, path: Path, report: Report) -> None:
        if value.__class__ is not list:
            report.add("array-expected", (path, name, None), f"{name} is an array")
        elif not value:
            report.add("empty-array", (path, name, None), "an empty array; leave it out instead")
        else:
            for index, item in enumerate(value):
                fault = test(item)
                if fault is not None:
                    _one(item, test, (path, name, index), report)

    if repeats:
        return Held(None, many)
    if identity:
        return Held(None, element_id)
    return Held(test, single, uids)


def _single(name: str, item: ObjectCheck) -> ValueCheck:
    def single(value: Any, path: Path, report: Report) -> None:
        item(value, (path, name, None), report)

    return single


def _many(name: str, item: ObjectCheck) -> ValueCheck:
    def many(value: Any, path: Path, report: Report) -> None:
        if value.__class__ is not list:
            code = "null-value" if value is None else "array-expected"
            report.add(code, (path, name, None), f"{name} is an array")
        elif not value:
            report.add("empty-array", (path, name, None), "an empty array; leave it out instead")
        else:
            for index, held in enumerate(value):
                item(held, (path, name, index), report)

    return many


def _rows(name: str, item: ObjectCheck, plans: dict[tuple[str, ...], Plan]) -> ValueCheck:
    """Check many objects of few shapes, such as the instances of a series: no path unless it is needed."""
    plain = _many(name, item)

    def rows(value: Any, path: Path, report: Report) -> None:
        if value.__class__ is not list or not value:
            plain(value, path, report)
            return
        trusted = report.trusted
        for index, row in enumerate(value):
            plan = plans.get(tuple(row)) if row.__class__ is dict else None
            if plan is not None:
                tests = plan.vouched_rows if trusted else plan.rows
                if tests is not None:
                    for key, quick in tests:
                        if quick(row[key]) is not None:
                            break
                    else:
                        continue
            item(row, (path, name, index), report)

    return rows
