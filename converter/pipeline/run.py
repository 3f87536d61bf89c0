"""One run, from request to result."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from converter.pipeline import converting, reading, writing
from converter.pipeline.converting import convert_studies, reduce_companions
from converter.pipeline.pool import Part, Stop, Workers, catching_signals
from converter.pipeline.reading import read_inputs
from converter.pipeline.request import NoProgress, Progress, Request
from converter.pipeline.result import RunResult
from converter.pipeline.writing import write_resources
from converter.sources import Input, Skipped, look
from converter.store import StudyStore, open_kept, open_temporary

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["run"]


def run(request: Request, *, progress: Progress | None = None) -> RunResult:
    """Convert what the request names.

    Returns
    -------
    RunResult
        To be closed by the caller; an interrupted run gives one too.

    Raises
    ------
    SourceError
        An input does not exist; nothing was read.
    StoreError, SinkError
        This machine cannot go on (disk full, output not writable); the sink was told to give up.
    """
    inputs = look(request.inputs)
    told = progress if progress is not None else NoProgress()
    store: StudyStore = open_kept(request.state) if request.state else open_temporary()
    try:
        with catching_signals(stop := Stop()):
            return _run(request, inputs, store, told, stop)
    except BaseException:
        try:
            if request.sink is not None:
                request.sink.abort()
        finally:
            store.close()
        raise


def _run(
    request: Request,
    inputs: Sequence[Input],
    store: StudyStore,
    progress: Progress,
    stop: Stop,
) -> RunResult:
    store.begin_run()
    parts: list[Part | None] = []
    if request.jobs > 1:
        parts = [reading.part(request, store), converting.part(request), writing.part(request)]
    pruned: list[str] = []
    gone: list[str] = []
    unpruned: Skipped | None = None
    with closing(Workers(request.jobs, [part for part in parts if part is not None])) as workers:
        phase = "reading"
        read = read_inputs(request, list(inputs), store, progress, stop, workers)
        if not stop:
            phase = "converting"
            if request.prune and store.kept:
                # what could not be looked at is not gone
                unpruned = read.doubt
                if unpruned is None:
                    pruned = store.prune()
                    gone = store.gone(pruned)
            if request.deliver is not None or store.several:
                store.narrow(pruned)
            convert_studies(request, store, progress, stop, workers)
        if not stop:
            reduce_companions(request, store, stop)
        if not stop:
            phase = "writing"
            write_resources(request, store, progress, stop, set(pruned), gone, workers)
    outputs: list[str] = []
    if request.sink is not None:
        # Interrupted: files that stand whole stay, and no part of a run replaces a whole earlier one.
        if stop:
            request.sink.abort()
        else:
            outputs = request.sink.close()
    if not stop and request.deliver is not None:
        phase = "delivering"
        request.deliver(store, progress, stop.__bool__)
    if not stop:
        phase = "done"
    return RunResult(
        request,
        inputs,
        store,
        files=read.files,
        interrupted=stop.requested,
        phase=phase,
        pruned=pruned,
        gone=gone,
        unpruned=unpruned,
        outputs=outputs,
    )
