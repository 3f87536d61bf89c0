"""Turns the definitions into functions that hold JSON objects against them.

Each type becomes one closure. What depends only on *which* keys an object has (unknown ones, missing
ones, choices taken twice) is worked out once a set of keys and remembered, so that an instance of a
study costs a look-up and the tests of its values.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from converter.fhir.codes import BY_FORM
from converter.fhir.extensions import OwnerOf
from converter.fhir.primitives import TESTS, uid
from converter.fhir.report import LONGEST, shown
from converter.fhir.terminology import CID29, SOP_CLASSES
from converter.fhir.values import (
    NOTHING,
    Held,
    Plan,
    many,
    no_object,
    one,
    primitive,
    recalling,
    remembering,
    rows,
    single,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from converter.core.structure import Element, Structure, TypeDefinition
    from converter.fhir.primitives import Test
    from converter.fhir.references import References
    from converter.fhir.report import Path, Report
    from converter.fhir.terminology import Terminology
    from converter.fhir.values import ObjectCheck

__all__ = ["Compiler"]

SHAPES = 2048
"""Sets of keys remembered a type; more come only from somebody who plays with us."""

UIDS = frozenset({"ImagingStudy.series.uid", "ImagingStudy.series.instance.uid"})
APART = frozenset(
    {"Resource", "Extension", "Narrative", "ImagingStudy.series", "ImagingStudy.series.instance"}
)
"""Types whose values hang on what stands around them, or are never alike."""


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
        known: Mapping[str, Collection[frozenset[str]]],
    ) -> None:
        self.known = known
        self._known_keys = {name: frozenset().union(*sets) for name, sets in known.items()}
        self.news = False
        """Whether an object had keys that nobody vouched for."""
        self.structure = structure
        self.terminology = terminology
        self.references = references
        self.hooks = hooks
        self.nested = nested
        self.extension = extension
        self._made: dict[str, ObjectCheck] = {}
        self._plans: dict[str, dict[tuple[str, ...], Plan]] = {}

    @property
    def seen(self) -> dict[str, set[frozenset[str]]]:
        """Sets of keys that objects had so far, by type."""
        return {name: {frozenset(keys) for keys in plans} for name, plans in self._plans.items()}

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

    def _vouched_for(self, type_name: str, keys: frozenset[str]) -> bool:
        """Whether each key is known and those of a known set are there.

        What else models look at among keys, what must be there and what excludes each other, is checked here.
        """
        known = self.known.get(type_name, ())
        return keys <= self._known_keys.get(type_name, frozenset()) and any(
            held <= keys for held in known
        )

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
                no_object(value, path, report)
                return
            keys = tuple(value)
            plan = plans.get(keys)
            if plan is None:
                plan = self._plan(type_name, definition, values, keys)
                if plan.faults or plan.pairs:
                    plan.rows = plan.vouched_rows = None
                if len(plans) < SHAPES:
                    plans[keys] = plan
                    self.news |= not self._vouched_for(type_name, frozenset(keys))
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
                near = get_close_matches(key[:LONGEST], elements, 1)
                hint = f"; {near[0]}?" if near else ""
                plan.add(key, NOTHING)
                plan.faults.append(
                    (
                        "unknown-element",
                        key,
                        f"{type_name} has no element {shown(key, LONGEST)}{hint}",
                    )
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
            return primitive(
                name,
                self._test(owner, name, element, test),
                repeats=repeats,
                uids=f"{owner}.{name}" in UIDS,
                identity=name == "id" and self.structure.types[owner].kind != "resource",
            )
        item, quick = self._item(owner, name, element)
        recalled = element.type not in APART and not element.type.startswith("Bundle.")
        if not repeats:
            if quick is None and recalled:
                return Held(*recalling(single(name, item)))
            return Held(quick, single(name, item))
        definition = self.structure.types.get(element.type)
        if (
            definition is not None
            and definition.kind == "backbone"
            and not self.hooks.get(element.type)
        ):
            return Held(None, rows(name, item, self._plans.setdefault(element.type, {})))
        return Held(*recalling(many(name, item))) if recalled else Held(None, many(name, item))

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
            return remembering(held, bound, element.type)
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
                    if item.__class__ is dict
                    and item.get("code").__class__ is str
                    and isinstance(item.get("system"), (str, type(None)))
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
        if binding.value_set in BY_FORM:
            return BY_FORM[binding.value_set]
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
                one(held, test, (path, name, None), report)
            elif test is not TESTS[element.type] and element.type == "code":
                message = "a code of the value set is needed; an extension does not stand for it"
                report.add("code-outside-binding", (path, name, None), message)
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
                one(item, test, place, report)
            elif more.__class__ is dict and more.keys() == {"id"}:
                report.add("ele-1", place, "neither a value nor an extension")
            if more is not None:
                self.object("Element")(more, place, report)
