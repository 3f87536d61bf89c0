"""Phase four: unite, check, claim, write; studies by UID, then what they name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from converter.core.issues import Issue, gather
from converter.core.rejection import is_withdrawn
from converter.errors import ConverterError, StandingError
from converter.pipeline.converting import batches, reduce_published, unreadable, where
from converter.store import Converted, Outcome, StudyStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converter.pipeline.pool import Stop
    from converter.pipeline.request import Progress, Request

__all__ = ["finish", "stamped", "write_resources"]

Json = dict[str, Any]


STATES = {"patient-conflict": "conflict", "study-failed": "failed"}
"""Reason to the state of a study; all others are ``held``."""


def finish(
    resource: Json, patient: Json | None, dropped: list[str], request: Request
) -> tuple[Json, list[str], list[Any]]:
    """Check a resource and stamp the profiles that it may claim; a failed check costs the claims only."""
    verdict = request.judge(resource, patient, dropped)
    profiles = list(verdict.profiles)
    resource = stamped(resource, profiles)
    return resource, profiles, list(verdict.issues)


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


def _broke_off(uid: str, error: Exception) -> Issue:
    return Issue("error", "study-failed", "ImagingStudy", "", where(error), (uid,))


class _Writer:
    def __init__(self, request: Request, store: StudyStore, progress: Progress) -> None:
        self.request = request
        self.store = store
        self.progress = progress
        self.outcomes: list[Outcome] = []
        self.held_now = False
        """Whether the writing itself held a study, so that its companions must not speak for it."""
        self.silent: set[str] = set()
        """Studies of which nothing was written although they are not held."""

    def note(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.progress.advance()
        if len(self.outcomes) >= 200:
            self.flush()

    def flush(self) -> None:
        self.store.save_outcomes(self.outcomes)
        self.outcomes = []

    def write(self, resource: Json) -> str:
        if self.request.sink is None:
            return "unwritten"
        self.request.sink.write(resource)
        return "published"

    def study(
        self, item: Converted, reason: str, remarks: Sequence[Issue], pruned: set[str]
    ) -> None:
        """Write one study; ``reason``: why it is held, if it is."""
        resource: Json = orjson.loads(item.resource) if item.resource else {}
        id_ = str(resource.get("id", ""))
        issues = [*item.issues, *remarks]
        profiles: list[str] = []
        sink = self.request.sink
        if not reason:
            ownership = "replace" if item.study_uid in pruned else self.request.ownership
            try:
                standing = sink.stands("ImagingStudy", id_) if sink is not None else None
                if standing is not None:
                    united = self.request.parts.unite(
                        standing,
                        resource,
                        ownership,
                        tombstones=frozenset(item.tombstones),
                        # a folder remembers no more of it: what is cancelled and empty is as we left it
                        written=("status",) if is_withdrawn(standing) else (),
                        replaces=[orjson.loads(subject) for subject in item.replaces],
                    )
                    reason = str(getattr(united, "reason", ""))
                    if not reason:
                        if item.withdrawn and united.get("subject") != resource.get("subject"):
                            # it keeps the patient that it has, of whom this one does not speak
                            self.silent.add(item.study_uid)
                        resource = united
                elif item.withdrawn:
                    self.nothing(item, id_, issues)
                    return
                if not reason:
                    patient = self.patient(resource)
                    resource, profiles, found = finish(
                        resource, patient, item.dropped, self.request
                    )
                    issues = gather([*issues, *found])
            except StandingError:
                reason = "standing-unreadable"
                issues = [*issues, unreadable("ImagingStudy", id_)]
            except ConverterError:
                raise
            except Exception as error:  # noqa: BLE001  one study must not cost the others
                reason = "study-failed"
                issues = [*issues, _broke_off(item.study_uid, error)]
            if reason:
                self.store.hold([item.study_uid], reason)
                self.held_now = True
        if reason:
            state, profiles = STATES.get(reason, "held"), []
        else:
            state = self.write(resource)
        self.note(
            Outcome(
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
        )

    def nothing(self, item: Converted, id_: str, issues: list[Issue]) -> None:
        """Write nothing of a study that is withdrawn where it was never published, nor its Patient for it."""
        self.silent.add(item.study_uid)
        kept = gather(issues)
        self.note(Outcome("ImagingStudy", id_, item.study_uid, "held", item.withdrawn, [], kept))

    def patient(self, study: Json) -> Json | None:
        """Patient that a study is about, as this run makes it; ``None`` where it makes none."""
        reference = str((study.get("subject") or {}).get("reference", ""))
        if reference.startswith("#"):
            for contained in study.get("contained") or []:
                if contained.get("id") == reference[1:]:
                    return dict(contained)
        kind, _, id_ = reference.partition("/")
        return self.store.companion("Patient", id_) if kind == "Patient" else None

    def companion(self, kind: str, id_: str, body: bytes, issues: list[Any]) -> None:
        if self.silent and all(
            uid in self.silent for uid, _ in self.store.contributions_to(kind, id_)
        ):
            return
        resource, profiles, found = finish(orjson.loads(body), None, [], self.request)
        state = self.write(resource)
        self.note(Outcome(kind, id_, "", state, "", profiles, gather([*issues, *found])))


def write_resources(
    request: Request, store: StudyStore, progress: Progress, stop: Stop, pruned: set[str]
) -> None:
    """Write every published study, then its companions.

    Parameters
    ----------
    pruned : set of str
        Studies that ``--prune`` took instances of: what stands of those is replaced.
    """
    totals = store.totals()
    progress.phase("writing", totals["studies"] + totals["companions"])
    writer = _Writer(request, store, progress)
    for batch in batches(store.converted(), 20):
        if stop:
            break
        held, remarks = store.said_of([item.study_uid for item in batch])
        for item in batch:
            if stop:
                break
            uid = item.study_uid
            writer.study(item, held.get(uid, ""), remarks.get(uid, ()), pruned)
    if writer.held_now:
        reduce_published(request, store, stop)
    for companion in store.companions():
        if stop:
            break
        writer.companion(
            companion.resource_type, companion.resource_id, companion.resource, companion.issues
        )
    writer.flush()
    if not stop:
        store.settle()
