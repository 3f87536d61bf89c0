"""Where tasks run: what the process pool and the clusters of others have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from converter.pipeline.pool import Stop

__all__ = ["Engine", "Place", "WorkerLostError"]

T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)


class WorkerLostError(Exception):
    """An engine gave a task up: it took several workers along, or none can be had for it."""


class Place(NamedTuple):
    """A cluster that stands (``--engine``, ``--engine-address``)."""

    engine: Literal["dask", "ray"]
    address: str


class Engine(Protocol[T, R_co]):
    """Runs one function over tasks; `converter.pipeline.pool.Pool` on this machine, `...cluster.Far` on others."""

    def run(self, tasks: Iterable[T], stop: Stop) -> Generator[tuple[T, R_co | None], None, None]:
        """Give (task, result) as they come, each task once, with a bounded number of tasks taken ahead.

        ``None`` is the result of a task that killed its worker, however small it was made; such a task is a part of
        one that was given. Asked to stop it gives what is done and ends; closed it takes back what it sent.
        """
        ...
