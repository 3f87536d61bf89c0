"""What a run gives to the report: counts, and the rest to iterate over, straight from the store."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, Self

from converter.pipeline.exits import Ending, exit_code
from converter.sources import Skipped, printable
from converter.sources.task import is_remote

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from converter.core.issues import Issue
    from converter.pipeline.request import Request
    from converter.sources.planning import Input
    from converter.store import StudyStore

__all__ = ["RunResult", "StudyResult"]


class StudyResult(NamedTuple):
    """What became of one study."""

    study_instance_uid: str
    resource: str
    """``ImagingStudy/<id>``; empty where there is none."""
    profiles: Sequence[str]
    state: str
    """``published`` (``unwritten`` in a dry run), ``conflict``, ``held`` or ``failed``; with
    ``--to`` also ``queued`` and ``dead``."""
    reason: str
    """Reason code where it was held back."""
    issues: Sequence[Issue]
    series: int
    instances: int


class RunResult:
    """Result of a run. It keeps the store open: use it in a ``with`` block, or close it."""

    def __init__(
        self,
        request: Request,
        inputs: Sequence[Input],
        store: StudyStore,
        *,
        files: int,
        interrupted: bool,
        phase: str,
        pruned: Sequence[str] = (),
        gone: Sequence[str] = (),
        unpruned: Skipped | None = None,
        outputs: Sequence[str] = (),
    ) -> None:
        self._store = store
        self._inputs = inputs
        self.inputs: tuple[str, ...] = tuple(
            printable(name) if is_remote(name) else name for name in request.inputs
        )
        self.interrupted = interrupted
        self.phase = phase
        """Phase that it ended in: ``done``, or the one that was interrupted."""
        self.pruned: tuple[str, ...] = tuple(pruned)
        """Study UIDs that ``--prune`` took instances of."""
        self.gone: tuple[str, ...] = tuple(gone)
        """Those of which it left nothing."""
        self.unpruned = unpruned
        """Why ``--prune`` took nothing: a place of which nobody knows now what it holds."""
        self.outputs: tuple[str, ...] = tuple(outputs)
        """Files that the sink wrote, relative to the output."""
        self.profiles_asked: tuple[str, ...] = tuple(request.profiles)
        self.profiles_met: dict[str, int] = dict.fromkeys(request.profiles, 0)
        self.skipped_counts: dict[str, int] = store.skipped_counts()
        self.issue_counts: dict[str, int] = {}
        """Findings by code."""
        self.resources: dict[str, int] = {}
        """Resources that were written (or would be, in a dry run) by type."""
        self.held_counts: dict[str, int] = {}
        """Studies that were held back, by reason code."""
        self.nonconforming = 0
        """Resources with a finding of severity error."""
        self.counts: dict[str, int] = {"files": files}
        """``files``, ``instances``, ``series``, ``studies``."""
        totals = store.totals()
        for name in ("instances", "series", "studies"):
            self.counts[name] = totals[name]
        self._count()
        # what another run has added to since it was read is converted there, but it was read
        held = self.counts["studies"] or int(next(iter(store.studies()), None) is not None)
        self.ending = Ending(
            studies=held,
            skipped=self.skipped_counts,
            held=self.held_counts,
            nonconforming=self.nonconforming,
            unpruned=unpruned is not None,
            strict=request.strict,
            interrupted=interrupted,
        )
        self.exit_code = exit_code(self.ending)
        self.advice = self._advice(request)
        """How to go on after an interruption; empty otherwise."""

    def _count(self) -> None:
        codes: Counter[str] = Counter()
        resources: Counter[str] = Counter()
        held: Counter[str] = Counter()
        for outcome in self._store.outcomes():
            for issue in outcome.issues:
                codes[issue.code] += issue.count
            if outcome.reason:
                held[outcome.reason] += 1
                continue
            resources[outcome.resource_type] += 1
            self.nonconforming += any(issue.severity == "error" for issue in outcome.issues)
            for profile in outcome.profiles:
                if profile in self.profiles_met:
                    self.profiles_met[profile] += 1
        self.issue_counts = dict(sorted(codes.items()))
        self.resources = dict(sorted(resources.items()))
        self.held_counts = dict(sorted(held.items()))

    def _advice(self, request: Request) -> str:
        if not self.interrupted:
            return ""
        if request.state is not None:
            return "What was read is kept: run the same command again, and it goes on from there."
        return (
            "Run the same command again; with --state FILE a run goes on where it was interrupted."
        )

    def studies(self) -> Iterator[StudyResult]:
        """Every study that came so far, by UID."""
        for outcome in self._store.outcomes(companions=False):
            yield StudyResult(
                outcome.study_uid,
                f"ImagingStudy/{outcome.resource_id}" if outcome.resource_id else "",
                outcome.profiles,
                outcome.state,
                outcome.reason,
                outcome.issues,
                outcome.series,
                outcome.instances,
            )

    def skipped(self, *, told: bool = False) -> Iterator[Skipped]:
        """Every input that was left out, by path; paths are relative to their input.

        ``told``: to somebody who cannot tell of which of several inputs; the whole path then.
        """
        whole = told and len(self._inputs) > 1
        for row in self._store.skipped():
            path = row.path if whole else self.relative(row.path)
            yield Skipped(path, row.reason, row.detail)

    def relative(self, path: str) -> str:
        """Path relative to the input that it was found in, else as it is."""
        for item in self._inputs:
            if (found := item.relative(path)) is not None:
                return found
        return path

    def close(self) -> None:
        """Close the store; a temporary one goes."""
        self._store.close()

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()
