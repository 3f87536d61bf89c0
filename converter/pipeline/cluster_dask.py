"""A cluster of dask.distributed."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import queue
import uuid
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from distributed import Client, KilledWorker

from converter.errors import EngineError
from converter.pipeline.engine import WorkerLostError
from converter.pipeline.far import Sealed, read_far

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from distributed import Future

__all__ = ["DaskCluster"]

WAIT = 10
"""Seconds for an answer of the scheduler."""
LOST = "The dask scheduler was lost. Run again when it is back; with --state a run goes on where it was."


class DaskCluster:
    """Client of a scheduler; see `converter.pipeline.cluster.Cluster`."""

    def __init__(self, address: str) -> None:
        # what becomes of its connections we tell ourselves
        for name in ("distributed.client", "distributed.batched", "distributed.core"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            self._client = Client(address, timeout=WAIT, set_as_default=False, name="dcm2fhir")
        except (OSError, ValueError) as error:
            raise EngineError(
                f"No dask scheduler answers at this --engine-address ({type(error).__name__})."
            ) from error
        self._run = uuid.uuid4().hex
        self._count = 0
        self._fetched: dict[str, concurrent.futures.Future[bytes]] = {}
        self._done: queue.SimpleQueue[Future] = queue.SimpleQueue()
        try:
            self._client.wait_for_workers(1, timeout=WAIT)
        except TimeoutError:
            self._client.close()
            raise EngineError(
                "The dask cluster has no worker. Start some, and run again."
            ) from None

    def slots(self) -> int:
        """See `Cluster.slots`."""
        if self._client.status != "running":
            raise EngineError(LOST)
        return sum(
            worker["nthreads"]
            for worker in self._client.scheduler_info(n_workers=-1)["workers"].values()
        )

    def submit(self, job: Sealed, task: Sealed) -> Future:
        """See `Cluster.submit`."""
        self._count += 1
        # logs of the cluster show keys
        key = f"dcm2fhir-{self._run}-{self._count}"
        future = self._client.submit(read_far, job, task, key=key, pure=False)
        future.add_done_callback(self._fetch)
        return future

    def wait(self, handles: Collection[Future]) -> list[Future]:
        """See `Cluster.wait`."""
        done = []
        with suppress(queue.Empty):
            done.append(self._done.get(timeout=0.5))
            while True:
                done.append(self._done.get_nowait())
        return [future for future in done if future in handles]

    def result(self, handle: Future) -> bytes:
        """See `Cluster.result`."""
        try:
            data: bytes = self._fetched.pop(handle.key).result()
        except KilledWorker as error:
            raise WorkerLostError from error
        except (CancelledError, OSError) as error:
            raise EngineError(LOST) from error
        return data

    def _fetch(self, future: Future) -> None:
        """Fetch what is done, beside the others: it may lie with a worker that does not answer."""
        result = self._client.gather(future, asynchronous=True)
        fetched = asyncio.run_coroutine_threadsafe(result, self._client.loop.asyncio_loop)
        self._fetched[future.key] = fetched
        fetched.add_done_callback(lambda _: self._done.put(future))

    def cancel(self, handles: Collection[Future]) -> None:
        """See `Cluster.cancel`."""
        if handles and self._client.status == "running":
            self._client.cancel(list(handles), force=True)

    def everywhere(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """See `Cluster.everywhere`."""
        answers: dict[str, Any] = self._client.run(function, *arguments, on_error="return")
        return answers

    def close(self) -> None:
        """See `Cluster.close`."""
        self._client.close()
