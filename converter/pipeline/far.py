"""What a worker of a cluster runs: it has this package, and gets job and task with each call."""

from __future__ import annotations

import pickle
import threading
from typing import Any, NamedTuple

import msgspec

from converter import __version__
from converter.core.header import Wanted
from converter.errors import ConfigurationError
from converter.sources import Filters, Task, TaskResult, read_task

__all__ = ["Job", "Sealed", "read_far", "seal", "unseal_results"]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[TaskResult]).decode
# What a reader learns of headers belongs to one thread, and the interpreter runs one at a time anyway.
_lock = threading.Lock()
_held: tuple[bytes, Job] | None = None


class Job(NamedTuple):
    """What is the same for all tasks of a run."""

    version: str
    wanted: Wanted
    filters: Filters
    readers: Any
    ignore_changed: bool


class Sealed:
    """Pickled data whose ``repr`` says nothing: engines log the arguments of a call, and paths may name patients."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> tuple[type[Sealed], tuple[bytes]]:
        return Sealed, (self.data,)

    def __repr__(self) -> str:
        return f"<{len(self.data)} bytes>"


def seal(what: Job | Task) -> Sealed:
    """Pack what goes to a worker."""
    return Sealed(pickle.dumps(what, pickle.HIGHEST_PROTOCOL))


def read_far(job: Sealed, task: Sealed) -> bytes:
    """Read a task, one at a time in a process, and pack all that it gave.

    Raises
    ------
    ConfigurationError
        This worker has another version than who asks.
    """
    global _held  # noqa: PLW0603  one job a worker process
    with _lock:
        if _held is None or _held[0] != job.data:
            _held = job.data, pickle.loads(job.data)  # noqa: S301  from our own driver, by the cluster's own means
        ours = _held[1]
        if ours.version != __version__:
            raise ConfigurationError(
                f"A worker has dcm2fhir {__version__}, this is {ours.version}: install the same on all."
            )
        given: Task = pickle.loads(task.data)  # noqa: S301
        return _encode(
            list(
                read_task(
                    given,
                    ours.wanted,
                    ours.filters,
                    ours.readers,
                    ignore_changed=ours.ignore_changed,
                )
            )
        )


def unseal_results(data: bytes) -> list[TaskResult]:
    """Unpack what `read_far` gave."""
    return _decode(data)
