"""One resource of phase four: unite, check, claim, write. It asks no store, so that workers can do it as well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import orjson

from converter.core.issues import Issue, gather
from converter.core.rejection import is_withdrawn
from converter.errors import ConverterError, StandingError
from converter.pipeline.converting import unreadable, where
from converter.store import Companion, Converted, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from converter.pipeline.request import Judge

__all__ = [
    "Draft",
    "LeftToTheRunError",
    "Target",
    "Tools",
    "Written",
    "lost",
    "stamped",
    "write_companion",
    "write_study",
]

Json = dict[str, Any]

STATES = {"patient-conflict": "conflict", "study-failed": "failed"}
"""Reason to the state of a study; all others are ``held``."""


class LeftToTheRunError(Exception):
    """A worker cannot tell what becomes of a resource, and wrote nothing: the run itself does it."""


class Target(Protocol):
    """What is asked of a sink."""

    def stands(self, resource_type: str, resource_id: str) -> Json | None:
        """Resource that stands at the destination."""

    def write(self, resource: Json) -> str:
        """Write a resource."""


class Tools(NamedTuple):
    """By what resources are written."""

    target: Target | None
    """``None`` in a dry run."""
    judge: Judge
    unite: Callable[..., Any]
    ownership: str
    patient: Callable[[str], Json | None] | None = None
    """Gives the Patient of an id, as this run makes it; ``None`` in a worker."""

    def finish(
        self, resource: Json, patient: Json | None, dropped: Sequence[str]
    ) -> tuple[Json, list[str], list[Issue]]:
        """Check a resource and stamp the profiles that it may claim; a failed check costs the claims only."""
        verdict = self.judge(resource, patient, dropped)
        if verdict.unsure:
            raise LeftToTheRunError
        profiles = list(verdict.profiles)
        return stamped(resource, profiles), profiles, list(verdict.issues)

    def write(self, resource: Json) -> str:
        """Write a resource; give the state that it has then."""
        if self.target is None:
            return "unwritten"
        self.target.write(resource)
        return "published"


class Draft(NamedTuple):
    """A study that is to be written, and what the store says of it."""

    item: Converted
    reason: str = ""
    """Why it is held, if it is."""
    remarks: Sequence[Issue] = ()
    pruned: bool = False
    """Whether ``--prune`` took instances of it."""
    patient: bytes = b""
    """The Patient that it refers to; empty where this run makes none."""
    writes_patient: bool = False
    """Whether no other study speaks of that Patient, so that who writes the study may write it as well."""


class Written(NamedTuple):
    """What became of a study, and what the run has to note of it."""

    outcome: Outcome
    hold: str = ""
    """Why the writing itself holds it."""
    silent: bool = False
    """Whether nothing of it was written although it is not held, so that nothing may be said for it."""
    patient: Outcome | None = None
    """What became of its Patient, where that was written with it."""


def stamped(resource: Json, profiles: Sequence[str]) -> Json:
    """Give the resource with the profiles that it may claim; not changed in place."""
    if not profiles:
        return resource
    meta = dict(resource.get("meta") or {})
    # What others stamped stays (`converter.core.merge`), ours comes first.
    others = [url for url in meta.get("profile") or [] if url not in profiles]
    meta["profile"] = [*profiles, *others]
    front: Json = {k: resource[k] for k in ("resourceType", "id") if k in resource}
    rest = {k: v for k, v in resource.items() if k not in front and k != "meta"}
    return {**front, "meta": meta, **rest}


def write_study(draft: Draft, tools: Tools) -> Written:
    """Write one study: the boundary at which a fault of ours in it stays with it.

    Raises
    ------
    LeftToTheRunError
        In a worker.
    ConverterError
        The machine cannot go on.
    """
    item, reason = draft.item, draft.reason
    resource: Json = orjson.loads(item.resource) if item.resource else {}
    id_ = str(resource.get("id", ""))
    issues = [*item.issues, *draft.remarks]
    profiles: list[str] = []
    silent = False
    patient: Json | None = None
    if not reason:
        try:
            target = tools.target
            standing = target.stands("ImagingStudy", id_) if target is not None else None
            if standing is None and item.withdrawn:
                # nothing of a study that was never published, nor its Patient for it
                said = Outcome(
                    "ImagingStudy", id_, item.study_uid, "held", item.withdrawn, [], gather(issues)
                )
                return Written(said, silent=True)
            if standing is not None:
                united = _united(standing, resource, draft, tools)
                reason = str(getattr(united, "reason", ""))
                if not reason:
                    # withdrawn, it keeps the patient that it has, of whom this one does not speak
                    silent = bool(item.withdrawn) and united.get("subject") != resource.get(
                        "subject"
                    )
                    resource = united
            if not reason:
                patient = _patient(resource, draft, tools)
                resource, profiles, found = tools.finish(resource, patient, item.dropped)
                issues = gather([*issues, *found])
        except StandingError:
            reason = "standing-unreadable"
            issues = [*issues, unreadable("ImagingStudy", id_)]
        except (ConverterError, LeftToTheRunError):
            raise
        except Exception as error:  # noqa: BLE001  one study must not cost the others
            if tools.patient is None:
                raise LeftToTheRunError from None
            reason = "study-failed"
            issues = [*issues, _broke_off(item.study_uid, where(error))]
    hold = "" if draft.reason else reason
    if reason:
        state, profiles = STATES.get(reason, "held"), []
    else:
        state = tools.write(resource)
    outcome = _outcome(item, id_, state, reason, profiles, issues)
    if reason or silent or not draft.writes_patient:
        return Written(outcome, hold, silent)
    return Written(outcome, patient=_written_patient(patient, draft, tools))


def lost(item: Draft | Companion) -> Written | None:
    """What becomes of one that killed the process that wrote it: a study fails.

    Of what spans studies, or is held already, nothing is said: that is left to the run.
    """
    if isinstance(item, Companion) or item.reason:
        return None
    study, reason = item.item, "study-failed"
    fault = _broke_off(study.study_uid, "The process that wrote it died.")
    id_ = str(orjson.loads(study.resource).get("id", ""))
    issues = [*study.issues, *item.remarks, fault]
    return Written(_outcome(study, id_, STATES[reason], reason, [], issues), reason)


def write_companion(companion: Companion, tools: Tools) -> Outcome:
    """Write a resource that spans studies; see `write_study` for what it raises."""
    return _write(orjson.loads(companion.resource), companion.issues, tools)


def _write(body: Json, issues: Sequence[Issue], tools: Tools) -> Outcome:
    resource, profiles, found = tools.finish(body, None, [])
    state = tools.write(resource)
    kind, id_ = resource["resourceType"], resource["id"]
    return Outcome(kind, id_, "", state, "", profiles, gather([*issues, *found]))


def _written_patient(patient: Json | None, draft: Draft, tools: Tools) -> Outcome | None:
    """Write the Patient of a study that was just written; ``None`` where that is left to the run."""
    if patient is None or patient.get("id") != draft.item.patient_id:
        return None  # it keeps the one that it has where it stands
    try:
        return _write(patient, [], tools)
    except LeftToTheRunError:
        return None


def _united(standing: Json, resource: Json, draft: Draft, tools: Tools) -> Any:
    return tools.unite(
        standing,
        resource,
        "replace" if draft.pruned else tools.ownership,
        tombstones=frozenset(draft.item.tombstones),
        # a folder remembers no more of it: what is cancelled and empty is as we left it
        written=("status",) if is_withdrawn(standing) else (),
        replaces=[orjson.loads(subject) for subject in draft.item.replaces],
    )


def _patient(study: Json, draft: Draft, tools: Tools) -> Json | None:
    """Patient that a study is about, as this run makes it; ``None`` where it makes none."""
    reference = str((study.get("subject") or {}).get("reference", ""))
    if reference.startswith("#"):
        for contained in study.get("contained") or []:
            if contained.get("id") == reference[1:]:
                return dict(contained)
    kind, _, id_ = reference.partition("/")
    if kind != "Patient":
        return None
    if id_ == draft.item.patient_id:
        return dict(orjson.loads(draft.patient)) if draft.patient else None
    # it keeps the one that it has where it stands
    if tools.patient is None:
        raise LeftToTheRunError
    return tools.patient(id_)


def _outcome(
    item: Converted, id_: str, state: str, reason: str, profiles: list[str], issues: list[Issue]
) -> Outcome:
    return Outcome(
        "ImagingStudy",
        id_,
        item.study_uid,
        state,
        reason,
        profiles,
        issues,
        item.series,
        item.instances,
    )


def _broke_off(uid: str, message: str) -> Issue:
    return Issue("error", "study-failed", "ImagingStudy", "", message, (uid,))
