"""What a configuration asks for, made: the mapping, the options of the engine, the check."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from converter.core.engine import Options
    from converter.core.issues import Issue
    from converter.core.rules import RuleSet
    from converter.fhir.checker import Checker
    from converter.pipeline import Judge, Verdict
    from converter.settings import Config, ConvertSettings

__all__ = ["WorkerJudge", "checker_of", "judge_of", "merge_options", "options_of", "rules_of"]


def rules_of(config: Config) -> RuleSet:
    """Compile the mapping that a configuration asks for."""
    from converter.mapping import load

    overlays = Path(config.convert.mappings) if config.convert.mappings else None
    return load(config.convert.profile, site=config.site, overlays=overlays)


def options_of(settings: ConvertSettings) -> Options:
    """Options of the engine."""
    from converter.core.engine import Options

    return Options(settings.patient, settings.companions, settings.instances)


def merge_options(rules: RuleSet) -> dict[str, frozenset[str]]:
    """What `converter.core.merge.unite` must know of a mapping."""
    acquisition = frozenset(
        code for code, row in rules.tables["modality"].rows.items() if row["acquisition"] == "yes"
    )
    return {"acquisition": acquisition, "our_profiles": frozenset(_ours(rules))}


def _ours(rules: RuleSet) -> Iterator[str]:
    """Canonicals that some run of ours may have claimed: a union must not keep a stale one."""
    from converter.mapping import shipped

    for profile in rules.profiles:
        yield from profile.claims.values()
    for file in shipped():
        if file.kind == "profile":
            head = tomllib.loads(file.path.read_text(encoding="utf-8")).get("profile", {})
            yield from head.get("claims", {}).values()


def checker_of(rules: RuleSet) -> Checker:
    """Make what holds resources against R4 and the profiles asked for."""
    from converter.fhir.declared import declared_extensions
    from converter.fhir.shipped import shipped_checker

    return shipped_checker(rules.profiles, declared_extensions(rules.resources.values()))


def judge_of(
    rules: RuleSet,
    *,
    trusted: bool = True,
    twice: bool = True,
    checker: Checker | None = None,
    second: Callable[[dict[str, Any]], list[Issue]] | None = None,
) -> Judge:
    """Make the check of a run: base R4, the profiles asked for, and fhir.resources on what has a new shape.

    ``twice``: ask fhir.resources as well. ``trusted``: UIDs were checked when they were read; those of others at a destination were not.
    ``second``: who is asked in its place.
    """
    from converter.fhir.claims import claims, patient_claims
    from converter.fhir.models import ShapeGuard
    from converter.pipeline import Verdict

    checker = checker or checker_of(rules)
    guard = ShapeGuard()
    refused: dict[str, list[Issue]] = {}
    """What is to be said of Patients that were looked at for their study first, by id."""
    looked: tuple[dict[str, Any] | None, list[Issue]] = (None, [])
    """The last of them, and what base R4 says of it: it may be written next."""

    def ask(resource: dict[str, Any]) -> list[Issue]:
        return guard.issues(resource) if twice and checker.fresh(resource) else []

    second = second or ask

    def judge(
        resource: dict[str, Any], patient: dict[str, Any] | None, dropped: Sequence[str]
    ) -> Verdict:
        nonlocal looked
        seen, said = looked
        issues = said if resource is seen else checker.check(resource, trusted_uids=trusted)
        found: list[Issue] = []
        canonicals: list[str] = []
        models = second(resource)
        if resource["resourceType"] == "ImagingStudy":
            patient_base = None
            if patient is not None:
                patient_base = checker.check(patient)
                looked = patient, patient_base
                # one without an id (the server gives it) is asked about when its own turn comes
                if "id" in patient and (said := second(patient)):
                    refused[patient["id"]] = said
            canonicals, found = claims(
                resource,
                patient,
                checker,
                rules.profiles,
                dropped,
                base=issues,
                patient_base=patient_base,
                trusted_uids=trusted,
            )
        elif resource["resourceType"] == "Patient":
            canonicals = patient_claims(resource, checker, rules.profiles, base=issues)
            models += refused.pop(resource.get("id", ""), [])
        return Verdict([*issues, *found, *models], canonicals)

    return judge


class WorkerJudge:
    """The check of a run in its worker processes.

    fhir.resources is asked about the first resource of a shape, and which one that is only the run knows: what is
    new to a worker is left to the run. Each worker goes by UID, so the first of all is among those.
    """

    def __init__(self, rules: RuleSet, checker: Checker | None = None) -> None:
        self._rules = rules
        self._checker = checker or checker_of(rules)
        self._judge = judge_of(rules, checker=self._checker, second=self._second)
        self._unsure = False

    def __reduce__(self) -> tuple[type[WorkerJudge], tuple[RuleSet]]:
        return WorkerJudge, (self._rules,)

    def __call__(
        self, resource: dict[str, Any], patient: dict[str, Any] | None, dropped: Sequence[str]
    ) -> Verdict:
        """Check a resource; see `converter.pipeline.request.Judge`."""
        self._unsure = False
        verdict = self._judge(resource, patient, dropped)
        return verdict._replace(unsure=self._unsure)

    def _second(self, resource: dict[str, Any]) -> list[Issue]:
        self._unsure |= self._checker.fresh(resource)
        return []
