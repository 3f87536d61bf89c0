"""Pieces of a compiled check: how one value is held, and what a set of keys asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

    from converter.core.structure import Element
    from converter.fhir.primitives import Test
    from converter.fhir.report import Path, Report

__all__ = [
    "NOTHING",
    "Held",
    "ObjectCheck",
    "Plan",
    "ValueCheck",
    "many",
    "no_object",
    "one",
    "primitive",
    "recalling",
    "remembering",
    "rows",
    "single",
]

ObjectCheck: TypeAlias = "Callable[[Any, Path, Report], None]"
"""Holds one object; the path is its own."""
ValueCheck: TypeAlias = "Callable[[Any, Path, Report], None]"
"""Holds the value of one property; the path is that of the object around it."""

UNKNOWN = ("unknown", "")
"""What a quick test says that cannot tell."""

REMEMBERED = 4096
"""Values remembered an element."""
RECALLED = 1024
"""Values that `recalling` keeps an element."""
LONGEST = 1024
"""Bytes of such a value at most: what stands in every study is short."""
VAIN = 200
"""So often in a row something new: a value that each resource has for itself, and not looked for again."""


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


def remembering(
    held: ObjectCheck, bound: ObjectCheck | None, kind: str
) -> tuple[ObjectCheck, Test]:
    """Check coded values; the same few stand in every study, so those found right are remembered."""
    right: set[Any] = set()
    latest: dict[str, str] = {}

    def coding(value: Any) -> tuple[str, str] | None:
        if value == latest and value:
            return None
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
        if len(report.issues) == count and len(right) < REMEMBERED and plain_codes_only(value):
            if kind == "Coding":
                get = value.get
                right.add((get("system"), get("code"), get("display"), len(value)))
                nonlocal latest
                latest = dict(value)
            else:
                right.add(_snug(orjson.dumps(value)))

    return coded, coding if kind == "Coding" else concept


def recalling(check: ValueCheck) -> tuple[Test, ValueCheck]:
    """Remember the values of a property in which there was nothing to find: most stand in every study.

    Only what says nothing beyond itself: no id, no reference into the resource, and no extension, of which
    the place decides as well.
    """
    right: set[bytes] = set()
    vain = 0

    def quick(value: Any) -> tuple[str, str] | None:
        nonlocal vain
        if vain >= VAIN:
            return UNKNOWN
        try:
            if orjson.dumps(value) in right:
                vain = 0
                return None
        except TypeError:
            return UNKNOWN
        vain += 1
        if vain >= VAIN:
            right.clear()
        return UNKNOWN

    def checked(value: Any, path: Path, report: Report) -> None:
        before = report.notes
        check(value, path, report)
        if vain < VAIN and report.notes == before:
            try:
                written = orjson.dumps(value)
            except TypeError:
                return
            if len(written) <= LONGEST and b"xtension" not in written:
                if len(right) >= RECALLED:
                    right.clear()
                right.add(_snug(written))

    return quick, checked


def _snug(written: bytes) -> bytes:
    """Copy to keep: what orjson gives may hold the buffer that it was written into, of some KiB."""
    return bytes(memoryview(written))


def plain_codes_only(value: dict[str, Any]) -> bool:
    """Whether a coded value is nothing but codes: no id (it is unique), no extension, no free text."""
    codings = value["coding"] if value.keys() == {"coding"} else [value]
    return all(
        coding.keys() <= {"system", "code", "display"}
        and all(part.__class__ is str for part in coding.values())
        for coding in codings
    )


def no_object(value: Any, path: Path, report: Report) -> None:
    """Tell that something else stands where an object is expected."""
    if value is None:
        report.add("null-value", path, "null stands where an object is expected")
    elif value.__class__ is list:
        report.add("array-unexpected", path, "an array stands where one object is expected")
    else:
        report.add("object-expected", path, "a plain value stands where an object is expected")


def one(value: Any, test: Test, place: Path, report: Report) -> None:
    """Hold one plain value and tell what is wrong."""
    fault = test(value)
    if fault is not None:
        if value.__class__ is list:
            fault = ("array-unexpected", "an array stands where one value is expected")
        report.add(fault[0], place, fault[1])


def primitive(name: str, test: Test, *, repeats: bool, uids: bool, identity: bool) -> Held:
    """Make the check of a primitive property."""

    def single(value: Any, path: Path, report: Report) -> None:
        fault = test(value)
        if fault is not None:
            one(value, test, (path, name, None), report)

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
                    one(item, test, (path, name, index), report)

    if repeats:
        return Held(None, many)
    if identity:
        return Held(None, element_id)
    return Held(test, single, uids)


def single(name: str, item: ObjectCheck) -> ValueCheck:
    """Make the check of a property with one object."""

    def single(value: Any, path: Path, report: Report) -> None:
        item(value, (path, name, None), report)

    return single


def many(name: str, item: ObjectCheck) -> ValueCheck:
    """Make the check of a property with an array of objects."""

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


def rows(name: str, item: ObjectCheck, plans: dict[tuple[str, ...], Plan]) -> ValueCheck:
    """Check many objects of few shapes, such as the instances of a series: no path unless it is needed."""
    plain = many(name, item)

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
