"""Tasks on a cluster of somebody else's: sent, awaited, sent again in halves where they kill their worker."""

from __future__ import annotations

import os
import pydoc
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from converter import __version__
from converter.errors import ConfigurationError, EngineError, needs_extra
from converter.pipeline.engine import WorkerLostError
from converter.pipeline.far import Sealed, seal, unseal_results

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence

    from converter.pipeline.engine import Place
    from converter.pipeline.far import Job
    from converter.pipeline.pool import Stop
    from converter.sources import Task, TaskResult

__all__ = ["Cluster", "Far", "check", "connected", "need"]

FILES = 2000
"""Files of one task: what a task costs on its way is then little beside its reading."""
PATIENCE = 300.0
"""Seconds that a cluster may be without any worker."""


class Cluster(Protocol):
    """Client of an engine. Every method may raise `EngineError`."""

    def slots(self) -> int:
        """Tasks that run at the same time."""

    def submit(self, job: Sealed, task: Sealed) -> Any:
        """Send a task for `converter.pipeline.far.read_far`; the engine tries it again where a worker is lost."""

    def wait(self, handles: Collection[Any]) -> list[Any]:
        """Give those that are done, after half a second at most."""

    def result(self, handle: Any) -> bytes:
        """Result of one that is done.

        Raises
        ------
        WorkerLostError
            The engine gave it up.
        """

    def cancel(self, handles: Collection[Any]) -> None:
        """Take back what is not done."""

    def everywhere(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """Result of a call on each worker, or the exception that it ended with, by the worker's name."""

    def close(self) -> None:
        """Leave; the cluster stays."""


def need(engine: str) -> None:
    """Say whether the engine's package is there.

    Raises
    ------
    ConfigurationError
        With what to install.
    """
    from importlib.util import find_spec

    if find_spec({"dask": "distributed"}.get(engine, engine)) is None:
        raise needs_extra(f"--engine {engine}", engine)


@contextmanager
def connected(place: Place) -> Iterator[Cluster]:
    """Connect to a cluster for a while.

    Raises
    ------
    ConfigurationError
        The engine's package is not installed.
    EngineError
        Nobody answers, or it has no workers.
    """
    need(place.engine)
    cluster: Cluster
    if place.engine == "dask":
        from converter.pipeline.cluster_dask import DaskCluster

        cluster = DaskCluster(place.address)
    else:
        from converter.pipeline.cluster_ray import RayCluster

        cluster = RayCluster(place.address)
    try:
        yield cluster
    finally:
        cluster.close()


def check(cluster: Cluster, paths: Sequence[str]) -> None:
    """Hold the workers against what they need: this version from the same source, and the inputs under the same paths.

    Raises
    ------
    ConfigurationError
    """
    # a function of the standard library: it must run where nothing of ours is
    versions = cluster.everywhere(pydoc.locate, "converter.__version__")
    for worker, version in sorted(versions.items()):
        if not isinstance(version, str):
            raise ConfigurationError(
                f"Worker {worker} does not have dcm2fhir: install {__version__}, as here, on all workers."
            )
        if version != __version__:
            raise ConfigurationError(
                f"Worker {worker} has dcm2fhir {version}, this is {__version__}: install the same on all."
            )
    from converter.pipeline.cluster_build import BUILD

    builds = cluster.everywhere(pydoc.locate, "converter.pipeline.cluster_build.BUILD")
    for worker, build in sorted(builds.items()):
        if build != BUILD:
            raise ConfigurationError(
                f"Worker {worker} has another source of dcm2fhir {__version__} than this:"
                " install the same on all, and start the workers again."
            )
    for path in paths:
        for worker, there in sorted(cluster.everywhere(os.path.lexists, path).items()):
            if there is not True:
                raise ConfigurationError(
                    f"Worker {worker} does not see an input. All workers need the files under the same paths:"
                    " a shared folder, or an object store."
                )


class Far:
    """Reads tasks on a cluster; see `converter.pipeline.engine.Engine`.

    Parameters
    ----------
    cluster : Cluster
    job : Job
    halves : callable
        Splits a task in two, or gives nothing where it cannot be split.
    """

    def __init__(self, cluster: Cluster, job: Job, halves: Callable[[Task], list[Task]]) -> None:
        self._cluster = cluster
        self._job = seal(job)
        self._halves = halves

    def run(
        self, tasks: Iterable[Task], stop: Stop
    ) -> Generator[tuple[Task, list[TaskResult] | None], None, None]:
        """See `converter.pipeline.engine.Engine.run`."""
        source = _larger(tasks)
        again: deque[Task] = deque()
        flying: dict[Any, Task] = {}
        alive = time.monotonic()
        try:
            while True:
                stopping = bool(stop)
                slots = self._cluster.slots()
                if slots:
                    alive = time.monotonic()
                elif time.monotonic() - alive > PATIENCE:
                    raise EngineError("The cluster has no worker left. Start some, and run again.")
                while not stopping and len(flying) < max(2 * slots, 1):
                    task = again.popleft() if again else next(source, None)
                    if task is None:
                        break
                    flying[self._cluster.submit(self._job, seal(task))] = task
                if not flying:
                    return
                for handle in self._cluster.wait(flying):
                    task = flying.pop(handle)
                    try:
                        results = unseal_results(self._cluster.result(handle))
                    except WorkerLostError:
                        halves = self._halves(task)
                        again.extend(halves)
                        if not halves:
                            yield task, None
                        continue
                    yield task, results
                if stopping:
                    return
        finally:
            self._cluster.cancel(flying)


def _larger(tasks: Iterable[Task]) -> Iterator[Task]:
    """Tasks of files put together, up to `FILES`."""
    held: Task | None = None
    for task in tasks:
        if task.kind != "files":
            yield task
        elif held is None:
            held = task
        elif len(held.entries) + len(task.entries) > FILES:
            yield held
            held = task
        else:
            held = held._replace(entries=held.entries + task.entries)
    if held is not None:
        yield held
