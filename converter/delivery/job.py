"""One study on its way: what is sent, how, and what a search for several at once found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from converter.core.merge import study_uid
from converter.delivery.talk import Client, EndError, Talk, token

if TYPE_CHECKING:
    from converter.store.outbox import Row

__all__ = ["KIND", "Job", "Policy", "search_together", "uid_tokens"]

Json = dict[str, Any]

KIND = "ImagingStudy"


def _as_it_is(resource: Json, patient: Json | None, dropped: Sequence[str]) -> Json:
    del patient, dropped
    return resource


@dataclass(frozen=True, slots=True)
class Policy:
    """How studies are delivered to one destination."""

    ownership: Literal["merge", "replace"] = "merge"
    patient_lookup: Literal["off", "create", "hold"] = "off"
    link_orders: bool = False
    finish: Callable[[Json, Json | None, Sequence[str]], Json] = _as_it_is
    """Checks a resource and stamps the profiles that it may claim."""
    acquisition: frozenset[str] = frozenset()
    our_profiles: frozenset[str] = frozenset()
    max_body: int = 0
    """Bytes; 0: as large as it is."""


@dataclass(slots=True)
class Job:
    """One study on its way."""

    row: Row
    resource: Json
    """Our ImagingStudy, rendered a moment ago."""
    companions: list[Json] = field(default_factory=list)
    known: Mapping[str, str] = field(default_factory=dict)
    server_ids: bool = False
    dropped: Sequence[str] = ()
    """Paths that an option left out."""
    tombstones: frozenset[str] = frozenset()
    """UIDs to take from what stands there."""
    withdrawn: bool = False
    """Whether nothing is listed of it any more: it is written only where something stands."""
    replaces: Sequence[Json] = ()
    """Subjects that we published before an operator said whose study it is."""
    hits: Sequence[str] | None = None
    """Ids that a search a moment ago found; ``None``: nobody searched."""


def search_together(client: Client, jobs: Sequence[Job]) -> None:
    """Search for several studies with one request, and give each job its hits."""
    uids = {uid: job for job in jobs if not job.row.server_id and (uid := study_uid(job.resource))}
    if len(uids) < 2:
        return
    try:
        found = Talk(client).search(KIND, {"identifier": ",".join(map(uid_tokens, uids))})
    except EndError:
        return  # each for itself: it knows what to do about the answer
    hits: dict[str, set[str]] = {uid: set() for uid in uids}
    for resource in found or []:
        uid = study_uid(resource)
        if uid in hits and resource.get("id"):
            hits[uid].add(str(resource["id"]))
    for uid, job in uids.items():
        job.hits = sorted(hits[uid])


def uid_tokens(uid: str) -> str:
    """Both ways in which a UID may stand: R4 writes it as ``urn:oid:``, some write it bare."""
    return f"{token('urn:dicom:uid', f'urn:oid:{uid}')},{token('urn:dicom:uid', uid)}"
