"""A cluster of Ray."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

import ray
from ray import exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from converter.errors import ConverterError, EngineError
from converter.pipeline.engine import WorkerLostError
from converter.pipeline.far import Sealed, read_far

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ["RayCluster"]

TRIES = 3
GONE = (
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.OutOfMemoryError,
    exceptions.ObjectLostError,
)


def _answers(address: str) -> None:
    """Ask whether anybody is there: Ray itself would go on asking for many minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        except OSError as error:
            raise EngineError("No Ray cluster answers at this --engine-address.") from error


class RayCluster:
    """Driver of a cluster; see `converter.pipeline.cluster.Cluster`."""

    def __init__(self, address: str) -> None:
        _answers(address)
        handlers = {}
        if threading.current_thread() is threading.main_thread():
            handlers = {
                number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)
            }
        try:
            ray.init(
                address=address,
                configure_logging=False,
                logging_level=logging.CRITICAL,
                log_to_driver=False,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise EngineError(
                f"No Ray cluster answers at this --engine-address ({type(error).__name__})."
            ) from error
        finally:
            for number, handler in handlers.items():
                signal.signal(
                    number, handler
                )  # Ray takes SIGTERM; how a run ends is for the run to say
        # what it tells of lost workers would go to standard output, where resources may go
        ray._private.worker._worker_logs_enabled = False  # noqa: SLF001
        self._read = ray.remote(num_cpus=1, max_retries=TRIES)(read_far)

    def slots(self) -> int:
        """See `Cluster.slots`."""
        return int(ray.cluster_resources().get("CPU", 0))

    def submit(self, job: Sealed, task: Sealed) -> Any:
        """See `Cluster.submit`."""
        return self._read.remote(job, task)

    def wait(self, handles: Collection[Any]) -> list[Any]:
        """See `Cluster.wait`."""
        done, _ = ray.wait(list(handles), num_returns=1, timeout=0.5)
        return list(done)

    def result(self, handle: Any) -> bytes:
        """See `Cluster.result`."""
        try:
            data: bytes = ray.get(handle)
        except GONE as error:
            raise WorkerLostError from error
        except exceptions.RayTaskError as error:
            if isinstance(error.cause, ConverterError):
                raise error.cause from None
            raise
        return data

    def cancel(self, handles: Collection[Any]) -> None:
        """See `Cluster.cancel`."""
        for handle in handles:
            ray.cancel(handle, force=True)

    def everywhere(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """See `Cluster.everywhere`."""
        answers = {}
        for node in ray.nodes():
            if not node["Alive"] or not node["Resources"].get("CPU"):
                continue
            here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            handle = ray.remote(num_cpus=0, scheduling_strategy=here)(function).remote(*arguments)
            try:
                answers[node["NodeManagerAddress"]] = ray.get(handle)
            except exceptions.RayError as error:
                answers[node["NodeManagerAddress"]] = error
        return answers

    def close(self) -> None:
        """See `Cluster.close`."""
        ray.shutdown()
