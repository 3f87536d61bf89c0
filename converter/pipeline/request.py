"""What a run is asked for, and the parts that it is put together from."""

# ruff: noqa: D102  properties of protocols are told where they are made

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from converter.sources import Filters

if TYPE_CHECKING:
    from converter.core.header import Unreadable, Wanted
    from converter.core.issues import Issue
    from converter.core.study import Study
    from converter.pipeline.engine import Place
    from converter.sinks.interface import Sink
    from converter.sources.worker import HeaderRead
    from converter.store import StatePlace

__all__ = ["ConversionLike", "Judge", "NoProgress", "Parts", "Progress", "Request", "Verdict"]

Json = dict[str, Any]


class Progress(Protocol):
    """Who is told how far a run is."""

    def phase(self, name: str, total: int | None = None) -> None:
        """Begin ``reading`` (files), ``converting`` (instances) or ``writing`` (resources)."""

    def advance(self, count: int = 1) -> None:
        """Count what is done of the phase."""


class NoProgress:
    """Tells nobody."""

    def phase(self, name: str, total: int | None = None) -> None:
        """Begin a phase."""

    def advance(self, count: int = 1) -> None:
        """Count what is done of the phase."""


class ConversionLike(Protocol):
    """What the engine gives (`converter.core.engine.Conversion`)."""

    @property
    def study_uid(self) -> str: ...
    @property
    def state(self) -> Literal["converted", "conflict", "failed"]: ...
    @property
    def resource(self) -> Json | None: ...
    @property
    def companions(self) -> Sequence[Json]: ...
    @property
    def issues(self) -> Sequence[Issue]: ...
    @property
    def dropped(self) -> Sequence[str]: ...
    @property
    def series(self) -> int: ...
    @property
    def instances(self) -> int: ...
    @property
    def tombstones(self) -> Sequence[str]: ...
    @property
    def withdrawn(self) -> str: ...


class _Reduced(Protocol):
    @property
    def resource(self) -> Json: ...
    @property
    def issues(self) -> Sequence[Issue]: ...
    @property
    def mismatch(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """The functions that a run puts in a row; each is picklable, for workers get some of them."""

    read_file: Callable[..., HeaderRead | Unreadable]
    """`converter.reading.read_file`."""
    read_stream: Callable[..., HeaderRead | Unreadable]
    """`converter.reading.read_stream`."""
    convert: Callable[[Study, Any, Any], ConversionLike]
    """`converter.core.engine.convert`."""
    reduce: Callable[[list[tuple[str, Json]]], _Reduced]
    """`converter.core.companions.reduce`."""
    unite: Callable[..., Any]
    """`converter.core.merge.unite`: a resource, or a ``Mismatch`` with its ``reason``."""

    @classmethod
    def real(cls, **unite_options: Any) -> Parts:
        """Give the parts that a run outside of tests has.

        Parameters
        ----------
        **unite_options
            More for `converter.core.merge.unite`, such as ``our_profiles``.
        """
        from functools import partial

        from converter.core.companions import reduce
        from converter.core.engine import convert
        from converter.core.merge import unite
        from converter.reading import read_file, read_stream

        return cls(read_file, read_stream, convert, reduce, partial(unite, **unite_options))


class Verdict(NamedTuple):
    """What the check says of one resource."""

    issues: Sequence[Issue]
    profiles: Sequence[str]
    """Canonicals that it may claim."""
    unsure: bool = False
    """Whether a worker leaves the resource to the run's own check, which knows what came before it."""


Judge = Callable[[Json, Json | None, Sequence[str]], Verdict]
"""(resource, the Patient that it is about, paths that an option dropped) to a verdict."""


def no_judge(resource: Json, patient: Json | None, dropped: Sequence[str]) -> Verdict:
    """Check nothing and claim nothing."""
    del resource, patient, dropped
    return Verdict((), ())


@dataclass(frozen=True, slots=True)
class Request:
    """What a run is asked for."""

    inputs: Sequence[str]
    rules: Any
    """`converter.mapping.RuleSet`; ``wanted`` and ``version`` are read here, the rest is the engine's."""
    options: Any
    """`converter.core.engine.Options`; its ``repr`` is part of what makes a conversion stale."""
    parts: Parts
    sink: Sink | None = None
    """Where resources go; ``None`` is a dry run."""
    judge: Judge = no_judge
    worker_judge: Judge | None = None
    """What says the same in worker processes, and is picklable; ``None``: the run alone writes."""
    names: Iterable[str] = ()
    """More paths, from ``--from-file``."""
    filters: Filters = field(default_factory=Filters)
    follow_links: bool = False
    ignore_changed: bool = False
    jobs: int = 1
    place: Place | None = None
    """Cluster that reads the inputs, in the place of worker processes."""
    state: StatePlace | None = None
    prune: bool = False
    ownership: Literal["merge", "replace"] = "merge"
    profiles: Sequence[str] = ()
    """Canonicals that were asked for."""
    deliver: Callable[[Any, Progress, Callable[[], bool]], None] | None = None
    """Sends what was converted to FHIR servers, given the (kept) store; the run is then about the studies of
    its inputs alone."""
    strict: bool = False

    @property
    def wanted(self) -> Wanted:
        """Attributes to keep."""
        wanted: Wanted = self.rules.wanted
        return wanted
