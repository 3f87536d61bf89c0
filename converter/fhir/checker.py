"""The check: does a resource conform to FHIR R4 (4.0.1), and to a profile.

Compiled once from the definitions; fast enough to hold every resource of every run against them.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from converter.fhir.bundle import Links, bundle, links, resolve
from converter.fhir.compile import Compiler
from converter.fhir.definitions import load_extensions
from converter.fhir.extensions import Extensions
from converter.fhir.invariants import INVARIANTS
from converter.fhir.narrative import narrative
from converter.fhir.profiles import ProfileCheck
from converter.fhir.references import References
from converter.fhir.report import Report, root
from converter.fhir.study import imaging_study
from converter.fhir.terminology import Terminology

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from converter.core.issues import Issue
    from converter.core.profile import Profile
    from converter.core.structure import Structure
    from converter.core.tables import CodeTable
    from converter.fhir.definitions import ExtensionDefinition
    from converter.fhir.report import Path
    from converter.fhir.values import ObjectCheck

__all__ = ["Checker"]

RESOURCE_TYPES = "http://hl7.org/fhir/ValueSet/resource-types"


class Checker:
    """Holds resources against R4 and profiles.

    Parameters
    ----------
    structure : Structure
    profiles : iterable of Profile
        Those that `check_profile` and `check_claims` know.
    codes : mapping of str to CodeTable
        ``modality``, ``dcm`` and ``sop-classes``; what is missing is not checked.
    extensions : mapping, optional
        URL to definition of the extensions that may be used; R4's own if not given.
    shapes : mapping, optional
        Type to sets of keys that are no news (`fresh`), nor is a set that has one of them and keys of others.
    """

    def __init__(
        self,
        structure: Structure,
        profiles: Iterable[Profile] = (),
        codes: Mapping[str, CodeTable] | None = None,
        extensions: Mapping[str, ExtensionDefinition] | None = None,
        shapes: Mapping[str, Collection[frozenset[str]]] | None = None,
    ) -> None:
        self.structure = structure
        self.types = frozenset(
            structure.value_sets[RESOURCE_TYPES]["http://hl7.org/fhir/resource-types"]
        )
        self.terminology = Terminology(structure, codes or {})
        self.references = References(self.types)
        self.choices = {
            name: f"{element.choice.removesuffix('[x]')}.ofType({element.type})"
            for definition in structure.types.values()
            for name, element in definition.elements.items()
            if element.choice
        }
        hooks: dict[str, tuple[ObjectCheck, ...]] = dict(INVARIANTS)
        hooks["Coding"] = (self.terminology.coding,)
        hooks["CodeableConcept"] = (self.terminology.concept,)
        hooks["Narrative"] = (narrative,)
        hooks["ImagingStudy"] = (imaging_study,)
        hooks["Bundle"] = (bundle,)
        known = load_extensions() if extensions is None else extensions
        self._compiler = Compiler(
            structure,
            self.terminology,
            self.references,
            hooks,
            self._nested,
            Extensions(structure, known).wrap,
            shapes or {},
        )
        self._fresh: set[str] = set()
        self.profiles: dict[str, Profile] = {}
        self._profiles: dict[tuple[str, str], ProfileCheck] = {}
        self._claims: dict[str, tuple[str, str]] = {}
        for profile in profiles:
            self.add_profile(profile)

    def add_profile(self, profile: Profile) -> None:
        """Make one more profile known."""
        self.profiles[profile.name] = profile
        for resource_type, canonical in profile.claims.items():
            self._claims[canonical] = (profile.name, resource_type)
        for resource_type in {row.resource for row in profile.constraints}:
            self._profiles[profile.name, resource_type] = ProfileCheck(
                profile, resource_type, self.structure, self.terminology
            )

    def claimed(self, canonical: str) -> tuple[str, str] | None:
        """Profile name and resource type that a canonical without version stands for."""
        return self._claims.get(canonical)

    def fresh(self, resource: Any) -> bool:
        """Whether an object of a resource that was just checked had keys that nobody vouched for, for the first time."""
        kind = resource["resourceType"]
        if kind not in self._fresh:
            return False
        self._fresh.discard(kind)
        return True

    @property
    def seen(self) -> dict[str, set[frozenset[str]]]:
        """Sets of keys that objects had so far, by type."""
        return self._compiler.seen

    def report(self, *, trusted_uids: bool = False) -> Report:
        """Make an empty report."""
        return Report(self.choices, self.types, trusted=trusted_uids)

    # -- base R4 -------------------------------------------------------------------------------

    def check(self, resource: Any, *, trusted_uids: bool = False) -> list[Issue]:
        """Hold a resource against base R4.

        Parameters
        ----------
        resource : dict
            As JSON gives it; anything else is an issue.
        trusted_uids : bool
            Whether its DICOM UIDs were checked when they were read.

        Returns
        -------
        list of Issue
            Empty where there is nothing to say. ``path`` is FHIRPath.
        """
        report = self.report(trusted_uids=trusted_uids)
        kind = self._kind(resource, root("Resource"), report)
        if kind:
            self._whole(resource, kind, root(kind), report)
            resolve(report, None)
        return report.issues

    def _kind(self, resource: Any, path: Path, report: Report) -> str:
        """Resource type; empty, with an issue, where it cannot be checked."""
        if resource.__class__ is not dict:
            report.add("not-fhir", path, "a FHIR resource is a JSON object")
            return ""
        kind = resource.get("resourceType")
        if kind is None:
            report.add("not-fhir", path, "no resourceType: no FHIR resource")
        elif kind.__class__ is not str or kind not in self.types:
            report.add("unknown-resource-type", path, "R4 has no resource type of this name")
        elif kind not in self.structure.types:
            code = "wrong-resource-type" if path[0] is None else "type-not-checked"
            report.add(code, path, f"a {kind}, which is not checked here")
        else:
            return kind if kind.__class__ is str else ""
        return ""

    def _whole(self, resource: dict[str, Any], kind: str, path: Path, report: Report) -> None:
        """A resource that stands by itself: alone, or in an entry of a Bundle."""
        outer = report.locals, report.ids, report.urns
        report.locals, report.ids, report.urns = [], {}, []
        self._compiler.object(kind)(resource, path, report)
        if self._compiler.news:
            self._compiler.news = False
            self._fresh.add(kind)
        contained = resource.get("contained")
        listed: list[Any] = contained if isinstance(contained, list) else []
        types = self._contained(listed, path, report) if listed else {}
        if report.locals or types:
            self.references.local(report, types, kind)
        if types:
            self._dom3(resource, listed, path, report)
        if kind == "Bundle":
            resolve(report, links(resource))
        report.locals, report.ids, urns = outer
        report.urns = urns if kind == "Bundle" else urns + report.urns
        if "text" not in resource and kind not in {"Bundle", "Parameters", "Binary"}:
            report.add("dom-6", path, "no narrative (text)")

    def _nested(self, value: Any, path: Path, report: Report) -> None:
        """Check a contained resource, or that of an entry."""
        kind = self._kind(value, path, report)
        if not kind:
            return
        place = (path, "", kind)
        if path[1] == "contained":
            self._compiler.object(kind)(value, place, report)
        else:
            self._whole(value, kind, place, report)

    def _contained(self, contained: list[Any], path: Path, report: Report) -> dict[str, str]:
        """dom-2, dom-4, dom-5, and the ids: id to resource type."""
        types: dict[str, str] = {}
        for index, item in enumerate(contained):
            if item.__class__ is not dict:
                continue
            place = (path, "contained", index)
            identity = item.get("id")
            if identity is None:
                report.add("contained-id", place, "a contained resource needs an id")
            elif identity.__class__ is str and identity in types:
                report.add(
                    "duplicate-id",
                    (place, "id", None),
                    "another contained resource has the same id",
                )
            elif identity.__class__ is str:
                held = item.get("resourceType")
                types[identity] = held if held.__class__ is str else ""
            if "contained" in item:
                report.add(
                    "dom-2", (place, "contained", None), "a contained resource contains none"
                )
            meta = item.get("meta")
            if meta.__class__ is dict:
                for name in ("versionId", "lastUpdated"):
                    if name in meta:
                        where = ((place, "meta", None), name, None)
                        report.add("dom-4", where, f"a contained resource has no meta.{name}")
                if "security" in meta:
                    where = ((place, "meta", None), "security", None)
                    report.add("dom-5", where, "a contained resource has no security label")
        return types

    @staticmethod
    def _dom3(resource: dict[str, Any], contained: list[Any], path: Path, report: Report) -> None:
        """Every contained resource is pointed at, or points at the one around it."""
        pointed: set[str] = set()
        _pointers({key: held for key, held in resource.items() if key != "contained"}, pointed)
        inner: list[set[str]] = [set() for _ in contained]
        counts: Counter[str] = Counter()
        for item, own in zip(contained, inner, strict=True):
            _pointers(item, own)
            counts.update(own)
        for index, (item, own) in enumerate(zip(contained, inner, strict=True)):
            if item.__class__ is not dict or item.get("id").__class__ is not str:
                continue
            local = f"#{item['id']}"
            # What points to itself is pointed at by nobody.
            if local not in pointed and counts[local] <= (local in own) and "#" not in own:
                report.add(
                    "dom-3", (path, "contained", index), "nothing points to this contained resource"
                )

    # -- profiles ------------------------------------------------------------------------------

    def check_profile(
        self, resource: Any, profile_name: str, held: Links | None = None, path: Path | None = None
    ) -> list[Issue]:
        """Hold a resource against the constraints that a profile adds to base R4.

        Parameters
        ----------
        resource : dict
        profile_name : str
            Name of one of the profiles that the checker was made with.
        held : Links, optional
            The Bundle that it stands in, so that its references are followed.

        Returns
        -------
        list of Issue
            Empty also where the profile says nothing of the resource's type.
        """
        kind = resource.get("resourceType") if resource.__class__ is dict else None
        check = self._profiles.get((profile_name, kind)) if kind.__class__ is str else None
        if check is None:
            return []
        report = self.report()
        contained = resource.get("contained")
        for item in contained if contained.__class__ is list else ():
            if item.__class__ is dict and item.get("id").__class__ is str:
                report.contained[item["id"]] = str(item.get("resourceType", ""))
        check(resource, root(str(kind)) if path is None else path, report, held)
        return report.issues

    def absent(self, resource: Any, profile_name: str, path: Path | None = None) -> list[Issue]:
        """Tell what a profile wants populated, where it is known, and a resource does not have.

        Parameters
        ----------
        resource : dict
        profile_name : str

        Returns
        -------
        list of Issue
            ``must-support``, of severity information: whether it was known, no resource tells.
        """
        kind = resource.get("resourceType") if resource.__class__ is dict else None
        check = self._profiles.get((profile_name, kind)) if kind.__class__ is str else None
        report = self.report()
        if check is not None:
            check.absent(resource, root(str(kind)) if path is None else path, report)
        return report.issues


def _pointers(value: Any, found: set[str]) -> None:
    """All ``#id`` strings below a value, wherever they stand."""
    if value.__class__ is dict:
        for held in value.values():
            _pointers(held, found)
    elif value.__class__ is list:
        for held in value:
            _pointers(held, found)
    elif value.__class__ is str and value.startswith("#"):
        found.add(value)
