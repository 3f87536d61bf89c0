"""Turns the constraints of a profile into functions, once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converter.errors import Fault, MappingError
from converter.fhir.references import type_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from converter.core.profile import CodeBinding, Constraint, Profile
    from converter.core.structure import Structure
    from converter.fhir.bundle import Links
    from converter.fhir.report import Path, Report
    from converter.fhir.terminology import Terminology

__all__ = ["ProfileCheck", "holds"]


def holds(value: Any, pattern: Any) -> bool:
    """Whether a value has at least what a pattern has (FHIR ``pattern[x]``)."""
    if pattern.__class__ is dict:
        return value.__class__ is dict and all(
            key in value and holds(value[key], part) for key, part in pattern.items()
        )
    if pattern.__class__ is list:
        return value.__class__ is list and all(
            any(holds(item, part) for item in value) for part in pattern
        )
    return bool(value == pattern)


def below(value: Any, names: tuple[str, ...]) -> Iterator[Any]:
    """All values at a path below a value."""
    if value.__class__ is list:
        for item in value:
            yield from below(item, names)
    elif not names:
        yield value
    elif value.__class__ is dict and names[0] in value:
        yield from below(value[names[0]], names[1:])


def patient_name(value: Any, path: Path, report: Report) -> None:
    """ips-pat-1 of Patient-uv-ips, on ``Patient.name``."""
    if value.__class__ is dict and not value.keys() & {
        "given",
        "family",
        "text",
        "_given",
        "_family",
        "_text",
    }:
        report.add("ips-pat-1", path, "a name needs given, family or text")


INVARIANT_CHECKS = {"ips-pat-1": patient_name}


class ProfileCheck:
    """One profile's constraints on one resource type."""

    def __init__(
        self,
        profile: Profile,
        resource_type: str,
        structure: Structure,
        terminology: Terminology,
    ) -> None:
        self.name = profile.name
        self.file = profile.file
        self.structure = structure
        self.terminology = terminology
        self._rules: list[Callable[[dict[str, Any], Path, Report, Links | None], None]] = []
        self._soft: list[Callable[[dict[str, Any], Path, Report, Links | None], None]] = []
        self._wanted = [
            tuple(path.split(".")[1:])
            for path in profile.populated
            if path.startswith(f"{resource_type}.")
        ]
        for row in profile.of(resource_type):
            rules = self._soft if row.severity == "warning" else self._rules
            rules += self._compile(row)

    def __call__(
        self, resource: dict[str, Any], path: Path, report: Report, held: Links | None
    ) -> None:
        """Note what a resource does not meet."""
        for rule in self._rules:
            rule(resource, path, report, held)
        if self._soft:
            report.soft = True
            for rule in self._soft:
                rule(resource, path, report, held)
            report.soft = False

    def absent(self, resource: dict[str, Any], path: Path, report: Report) -> None:
        """Tell which elements are absent that the profile wants populated where they are known."""
        for steps in self._wanted:
            for holder, place in reach(resource, steps[:-1], path):
                if holder.__class__ is dict and not holder.keys() & {steps[-1], f"_{steps[-1]}"}:
                    where = (place, steps[-1], None)
                    report.add("must-support", where, f"{self.name}: populate it where it is known")

    def _compile(
        self, row: Constraint
    ) -> list[Callable[[dict[str, Any], Path, Report, Links | None], None]]:
        made: list[Callable[[dict[str, Any], Path, Report, Links | None], None]] = []
        steps = tuple(row.path.split(".")[1:])
        if self._tighter(row):
            made.append(self._count(row, steps))
        tests = self._tests(row)
        if not tests:
            return made
        part, child = row.slice, tuple(row.child.split(".")) if row.child else ()

        def rule(resource: dict[str, Any], path: Path, report: Report, held: Links | None) -> None:
            for value, place in reach(resource, steps, path):
                if part is not None and part.value not in below(value, tuple(part.by.split("."))):
                    continue
                for found, where in reach(value, child, place) if child else ((value, place),):
                    for test in tests:
                        test(found, where, report, held)

        made.append(rule)
        return made

    def _tighter(self, row: Constraint) -> bool:
        """Whether a cardinality asks for more than base R4, which is checked anyway."""
        if row.min is None and row.max is None:
            return False
        element = self.structure.element(row.path) if row.slice is None else None
        if element is None:
            return True
        less = row.min is not None and row.min > element.min
        most = row.max is not None and (element.max == -1 or row.max < element.max)
        return less or most

    def _count(
        self, row: Constraint, steps: tuple[str, ...]
    ) -> Callable[[dict[str, Any], Path, Report, Links | None], None]:
        """Cardinality: counted in each parent of the element."""
        least, most, part = row.min or 0, row.max, row.slice
        names = steps if part is None or not row.child else (*steps, *row.child.split("."))
        parents, last = names[:-1], names[-1]
        by = tuple(part.by.split(".")) if part else ()
        counts_items = part is not None and not row.child
        within = len(steps)

        def rule(resource: dict[str, Any], path: Path, report: Report, held: Links | None) -> None:
            del held
            holders = reach(resource, parents, path)
            if part is not None and row.child:
                holders = (
                    pair
                    for value, place in reach(resource, steps, path)
                    if part.value in below(value, by)
                    for pair in reach(value, parents[within:], place)
                )
            for holder, place in holders:
                if holder.__class__ is not dict:
                    continue
                value = holder.get(last, holder.get(f"_{last}"))
                items = value if value.__class__ is list else [] if value is None else [value]
                if counts_items and part is not None:
                    items = [item for item in items if part.value in below(item, by)]
                count = len(items)
                what = f"{last}:{part.name}" if counts_items and part else last
                if count < least:
                    report.add(
                        "profile-missing",
                        (place, last, None),
                        f"{self.name}: {_too_few(what, count, least)}",
                    )
                elif most is not None and count > most:
                    report.add(
                        "profile-too-many",
                        (place, last, None),
                        f"{self.name}: {what}: at most {most} may stand, {count} {'does' if count == 1 else 'do'}",
                    )

        return rule

    def _tests(self, row: Constraint) -> list[Callable[[Any, Path, Report, Links | None], None]]:
        tests: list[Callable[[Any, Path, Report, Links | None], None]] = []
        if row.targets:
            tests.append(self._targets(row.targets))
        if row.fixed is not None:
            tests.append(self._equal(row.fixed, exact=True))
        if row.pattern is not None:
            tests.append(self._equal(row.pattern, exact=False))
        if row.binding is not None and row.binding.strength != "preferred":
            tests.append(self._bound(row.binding))
        if row.invariant:
            check = INVARIANT_CHECKS[row.invariant]
            tests.append(lambda value, path, report, _held: check(value, path, report))
        return tests

    def _targets(
        self, targets: tuple[str, ...]
    ) -> Callable[[Any, Path, Report, Links | None], None]:
        def test(value: Any, path: Path, report: Report, held: Links | None) -> None:
            if value.__class__ is not dict:
                return
            kind, place = value.get("type"), (path, "type", None)
            reference = value.get("reference")
            if reference.__class__ is str:
                named = type_of(reference)
                if not named and reference.startswith("#"):
                    named = report.contained.get(reference[1:], "")
                elif not named and held is not None:
                    named = held.types.get(reference, "")
                if named:
                    kind, place = named, (path, "reference", None)
            if kind.__class__ is str and kind not in targets:
                report.add("profile-target", place, f"{self.name}: {report.points(kind, targets)}")

        return test

    def _equal(
        self, wanted: Any, *, exact: bool
    ) -> Callable[[Any, Path, Report, Links | None], None]:
        def test(value: Any, path: Path, report: Report, held: Links | None) -> None:
            del held
            if not (value == wanted if exact else holds(value, wanted)):
                report.add(
                    "profile-value", path, f"{self.name}: the value is not the one that it asks for"
                )

        return test

    def _codes(self, binding: CodeBinding) -> frozenset[str] | None:
        """Codes of a binding; ``None`` where it names a set that nobody can enumerate here."""
        if not binding.table:
            return frozenset(binding.codes) if binding.codes else None
        table = self.terminology.tables.get(binding.table)
        if table is None:
            message = f"there is no code table {binding.table}"
            raise MappingError([Fault(self.file, "constraint.binding.table", message)])
        return frozenset(table.rows)

    def _bound(self, binding: CodeBinding) -> Callable[[Any, Path, Report, Links | None], None]:
        codes, system = self._codes(binding), binding.system
        if codes is None:
            return lambda *_: None
        code = "profile-code" if binding.strength == "required" else "outside-value-set"
        listed = ", ".join(sorted(codes)) if len(codes) <= 12 else binding.value_set

        def test(value: Any, path: Path, report: Report, held: Links | None) -> None:
            del held
            if value.__class__ is str:
                if value not in codes:
                    report.add(code, path, f"{self.name}: takes {listed}")
                return
            if value.__class__ is not dict:
                return
            codings = value.get("coding", [value])
            if codings.__class__ is not list:
                return
            coded = [item for item in codings if item.__class__ is dict and "code" in item]
            if not any(
                item["code"].__class__ is str
                and item["code"] in codes
                and item.get("system") == system
                for item in coded
            ) and (coded or binding.strength == "required"):
                report.add(code, path, f"{self.name}: takes {listed}")

        return test


def _too_few(what: str, count: int, least: int) -> str:
    if not count:
        return f"{what} is missing" + (f", at least {least} are needed" if least > 1 else "")
    return f"{what}: at least {least} are needed, {count} stand" + ("s" if count == 1 else "")


def reach(value: Any, steps: tuple[str, ...], path: Path) -> Iterator[tuple[Any, Path]]:
    """All values at a path below an object, with their places."""
    if not steps:
        yield value, path
        return
    if value.__class__ is not dict:
        return
    name, rest = steps[0], steps[1:]
    held = value.get(name)
    if held.__class__ is list:
        for index, item in enumerate(held):
            yield from reach(item, rest, (path, name, index))
    elif held is not None:
        yield from reach(held, rest, (path, name, None))
