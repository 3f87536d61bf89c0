"""The study store: instance headers by study, what was made of them, what was left out.

One protocol; SQLite behind it today. Everything per instance or per input lives here and not in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import msgspec

from converter.core.issues import Issue

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "Companion",
    "Converted",
    "FileStamp",
    "Outcome",
    "PackedBlock",
    "Part",
    "SkippedRow",
    "StudyStore",
]


class PackedBlock(NamedTuple):
    """One block on its way into the store."""

    study_uid: str
    series_uid: str
    rows: int
    data: bytes
    files: tuple[bytes, ...] = ()
    """Paths of the files that it holds instances of (kept state)."""


class SkippedRow(NamedTuple):
    """An input that was left out."""

    path: str
    reason: str
    detail: str = ""
    file: bytes | None = None
    """File whose reading gave it; the row goes when the file is read again. ``None``: this run only."""


class FileStamp(NamedTuple):
    """By what a file is known as unchanged."""

    path: bytes
    size: int
    mtime_ns: int


class Part(NamedTuple):
    """A bounded part of what a task gave."""

    blocks: Sequence[PackedBlock]
    skipped: Sequence[SkippedRow] = ()
    done: Sequence[FileStamp] = ()
    """Files that are finished with it, and need not be read again."""
    unread: Sequence[bytes] = ()
    """Files that are there and could not be read now, or not in whole: of what was read of them before nothing is
    lost but what came again."""


class Converted(msgspec.Struct, array_like=True):
    """What the engine made of one study."""

    study_uid: str
    state: Literal["converted", "conflict", "failed"]
    resource: bytes
    """JSON; empty where there is none."""
    issues: list[Issue]
    dropped: list[str]
    series: int
    instances: int
    contributions: list[tuple[str, str, bytes]]
    """(resource type, id, JSON) of the resources that the study names."""
    duplicates: list[str]
    """Sources of identical copies that were left out."""
    sops: list[int] = []
    """64 bits of a hash of each SOP Instance UID."""
    tombstones: list[str] = []
    """UIDs to take from what stands of the study."""
    withdrawn: str = ""
    """Why nothing of it is listed any more, a reason code: it is written only where something stands."""
    replaces: list[bytes] = []
    """Subjects, as JSON, that were published before an operator said whose study it is."""
    patient_id: str = ""
    """Id of the Patient that it refers to; empty where it is about none, or about one that it contains."""
    replaced: list[str] = []
    """Sources of differing copies that were left out."""


class Companion(msgspec.Struct, array_like=True):
    """A resource that spans studies, reduced from what they contributed."""

    resource_type: str
    resource_id: str
    resource: bytes
    issues: list[Issue]
    study_uid: str = ""
    """Study that alone speaks of it; empty where several do, or where it is united with what stands."""


class Outcome(msgspec.Struct, array_like=True):
    """What became of one resource in this run."""

    resource_type: str
    resource_id: str
    study_uid: str
    """Empty for a companion."""
    state: str
    """``published``, ``conflict``, ``held``, ``failed``; ``unwritten`` in a dry run."""
    reason: str
    """Reason code where it was held."""
    profiles: list[str]
    issues: list[Issue]
    series: int = 0
    instances: int = 0


class StudyStore(Protocol):
    """What the pipeline asks of a store. Every method may raise `StoreError`."""

    kept: bool
    """Whether it outlives the run, and so remembers files."""
    several: bool
    """Whether other runs may use it at the same time; each is then about the studies of its own inputs."""

    def begin_run(self) -> None:
        """Forget what belonged to the run before: inputs it skipped on its way, outcomes."""

    def unchanged(self, files: Sequence[FileStamp], version: str) -> list[bool]:
        """Say which files were read before as they are, and mark those as seen in this run."""

    def add(self, parts: Iterable[Part], version: str, *, fresh: Sequence[bytes] = ()) -> None:
        """Add what a task gave, in one transaction, durable when it returns.

        Parameters
        ----------
        parts : iterable of Part
            May be a generator that reads; when it raises nothing of it is kept.
        version : str
            Version of the tag set and filters that it was read with.
        fresh : sequence of bytes
            Files whose rows of an earlier reading go in the same transaction (kept state). What studies lost by it
            is remembered for `prune`.
        """

    def missed(self, folders: Iterable[bytes]) -> bytes | None:
        """Give a folder that the store holds files of, none of which this run saw; ``None``: there is none such.

        Empty, if none was seen of all that the store holds.
        """

    def prune(self) -> list[str]:
        """Remove the rows of files that this run did not see.

        Returns
        -------
        list of str
            Studies that lost some, now or since the latest run that pruned and came to `settle`.
        """

    def gone(self, study_uids: Sequence[str]) -> list[str]:
        """Those of some studies of which the store holds nothing."""

    def narrow(self, more: Iterable[str] = ()) -> None:
        """Let the rest of the run be about the studies of its inputs, and ``more`` (kept state)."""

    def settle(self) -> None:
        """Note that what `prune` gave is written, so that nothing of it is left to shrink."""

    def studies(self, *, unconverted: bool = False) -> Iterator[tuple[str, int]]:
        """(Study UID, rows), sorted by UID; safe to write meanwhile."""

    def blocks(self, study_uids: Sequence[str]) -> list[list[bytes]]:
        """Packed blocks of each of some studies."""

    def begin_converting(self, fingerprint: str) -> None:
        """Forget conversions that other rules made."""

    def save(self, conversions: Sequence[Converted]) -> None:
        """Save conversions, in the place of older ones of the same studies."""

    def converted(self) -> Iterator[Converted]:
        """Conversions sorted by study, without contributions and duplicates; safe to write meanwhile."""

    def conversion(self, study_uid: str) -> Converted | None:
        """One of `converted`."""

    def shared(self) -> Iterator[tuple[str, set[int]]]:
        """(Study UID, hashes) of studies that have SOP Instance UIDs of another study, by UID."""

    def shared_series(self) -> Iterator[tuple[str, list[str]]]:
        """(Study UID, Series UIDs) of studies that have Series UIDs of another study, sorted."""

    def remark(self, study_uid: str, issues: Sequence[Issue]) -> None:
        """Add findings of this run to a study, in the place of earlier ones."""

    def remarks(self, study_uid: str) -> list[Issue]:
        """Findings that `remark` added."""

    def hold(self, study_uids: Iterable[str], reason: str) -> None:
        """Hold studies back in this run."""

    def held(self, study_uid: str) -> str:
        """Reason for which a study is held, or empty."""

    def said_of(self, study_uids: Sequence[str]) -> tuple[dict[str, str], dict[str, list[Issue]]]:
        """What `held` and `remarks` give of some studies, where they give anything."""

    def unmade(self) -> Iterator[tuple[str, str]]:
        """(Study UID, state) of conversions that gave no resource."""

    def contributions(
        self, resource_type: str = "", *, least: int = 1
    ) -> Iterator[tuple[str, str, list[tuple[str, bytes]]]]:
        """(type, id, [(study UID, JSON)]) by type and id, of studies that are not held back.

        ``least``: only where so many studies contribute. Safe to write meanwhile.
        """

    def contributions_to(self, resource_type: str, resource_id: str) -> list[tuple[str, bytes]]:
        """(study UID, JSON) of every study that is not held back and contributes to one resource."""

    def begin_reducing(self) -> None:
        """Forget reduced resources."""

    def save_companions(self, companions: Sequence[Companion]) -> None:
        """Save reduced resources."""

    def companion(self, resource_type: str, resource_id: str) -> dict[str, Any] | None:
        """One reduced resource."""

    def reduced(self, resource_type: str, resource_ids: Sequence[str]) -> dict[str, Companion]:
        """Reduced resources of one type, by id, as far as there are such."""

    def companions(self) -> Iterator[Companion]:
        """All reduced resources by type and id."""

    def save_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """Save what became of resources."""

    def outcomes(self, *, companions: bool = True) -> Iterator[Outcome]:
        """Outcomes: studies by UID, then companions by type and id, if these are asked for."""

    def skipped(self) -> Iterator[SkippedRow]:
        """Inputs that were left out, by path and reason."""

    def skipped_counts(self) -> dict[str, int]:
        """How many inputs each reason left out."""

    def totals(self) -> dict[str, int]:
        """Count ``instances``, ``series``, ``studies`` of the conversions, and ``companions``."""

    def scratch(self) -> str:
        """Folder for what workers hand over; only this user may look into it."""

    def close(self) -> None:
        """Close; a temporary store is removed."""
