"""Workers: a bounded stream of tasks through processes, of which any may die without taking the run along.

A run has one set of them for all of its phases: to start them takes longer than many a phase.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from converter.signals import ending

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from types import FrameType

__all__ = ["Part", "Pool", "Stop", "Workers", "catching_signals", "collect_seldom"]

T = TypeVar("T")
R = TypeVar("R")

Part: TypeAlias = "tuple[Callable[..., None], tuple[Any, ...]]"
"""What makes a worker ready for a phase, and its arguments."""

GRACE = 10.0
"""Seconds that running tasks get to finish once the run is asked to stop."""


class Stop:
    """Whether the run was asked to stop."""

    def __init__(self) -> None:
        self.requested = False

    def __bool__(self) -> bool:
        return self.requested


@contextmanager
def catching_signals(stop: Stop) -> Iterator[None]:
    """Let signals ask for a clean stop; a second one ends at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(_number: int, _frame: FrameType | None) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True

    before = {number: signal.signal(number, handle) for number in ending()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start_method() -> str:
    """How workers start: forked they need not import and load all anew, which other threads would make unsafe."""
    alone = sys.platform == "linux" and threading.active_count() == 1
    return "fork" if alone else "spawn"


def _begin_worker(parts: Sequence[Part]) -> None:
    # The terminal sends Ctrl-C and its end to all; the parent alone decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()
    collect_seldom()
    for setup, arguments in parts:
        setup(*arguments)


def collect_seldom() -> None:
    """Look for garbage in circles hardly ever: we make none, and every look goes over all that is remembered."""
    gc.freeze()
    gc.set_threshold(1_000_000, 20, 50)


def _follow(sentinel: int) -> None:
    """Die with the parent, even when it was killed: nobody else would tell us."""
    connection.wait([sentinel])
    os._exit(1)


class Workers:
    """Worker processes of a run, started when there is something to do for them.

    Parameters
    ----------
    jobs : int
    parts : sequence of (callable, tuple)
        For each phase what makes a worker ready for it, and its arguments; called once in each worker.
    """

    def __init__(self, jobs: int, parts: Sequence[Part] = ()) -> None:
        self.jobs = jobs
        self._parts = parts
        self._executor: ProcessPoolExecutor | None = None

    @property
    def running(self) -> bool:
        """Whether they were started."""
        return self._executor is not None

    def executor(self) -> ProcessPoolExecutor:
        """All of them."""
        if self._executor is None:
            self._executor = self.another(self.jobs)
        return self._executor

    def another(self, jobs: int) -> ProcessPoolExecutor:
        """Others that are made ready like them."""
        return ProcessPoolExecutor(
            jobs,
            mp_context=get_context(_start_method()),
            initializer=_begin_worker,
            initargs=(self._parts,),
        )

    def close(self, *, kill: bool = False) -> None:
        """End them; the next that asks starts new ones."""
        executor, self._executor = self._executor, None
        if executor is None:
            return
        for process in list((getattr(executor, "_processes", None) or {}).values()) if kill else ():
            process.kill()
        executor.shutdown(cancel_futures=True)


class Pool(Generic[T, R]):
    """Runs one function over tasks in worker processes.

    Parameters
    ----------
    workers : Workers
    work : callable
        Module-level function of one task.
    halves : callable
        Splits a task in two, or gives nothing where it cannot be split.
    """

    def __init__(
        self, workers: Workers, work: Callable[[T], R], halves: Callable[[T], list[T]]
    ) -> None:
        self._workers = workers
        self._work = work
        self._halves = halves
        self.died = False
        """Whether a worker died."""

    def run(self, tasks: Iterable[T], stop: Stop) -> Generator[tuple[T, R | None], None, None]:
        """Give (task, result) as they come; ``None`` for a task whose worker died, however small it was made."""
        source = iter(tasks)
        flying: dict[Future[R], T] = {}
        try:
            while True:
                while not stop and len(flying) < 2 * self._workers.jobs:
                    try:
                        task = next(source)
                    except StopIteration:
                        break
                    flying[self._submit(task)] = task
                if not flying:
                    return
                if stop:
                    yield from self._drain(flying)
                    return
                done, _ = wait(flying, timeout=0.5, return_when=FIRST_COMPLETED)
                if any(isinstance(future.exception(), BrokenProcessPool) for future in done):
                    self.died = True
                    # All of them end so, and nothing says whose fault it was: one after the other, alone.
                    wait(flying)
                    self._workers.close()
                    suspects: list[tuple[T, Future[R]]] = []
                    finished: list[tuple[T, Future[R]]] = []
                    for future, task in flying.items():
                        broken = isinstance(future.exception(), BrokenProcessPool)
                        (suspects if broken else finished).append((task, future))
                    flying = {}
                    for task, future in finished:
                        yield task, future.result()
                    for task, _ in suspects:
                        yield from self._alone(task)
                    continue
                for future in done:
                    yield flying.pop(future), future.result()
        finally:
            if flying:
                self._workers.close(kill=True)

    def _submit(self, task: T) -> Future[R]:
        try:
            return self._workers.executor().submit(self._work, task)
        except (
            BrokenProcessPool
        ) as error:  # it broke since we looked: the task ends as the others do
            future: Future[R] = Future()
            future.set_exception(error)
            return future

    @staticmethod
    def _drain(flying: dict[Future[R], T]) -> Iterator[tuple[T, R | None]]:
        """Give what is nearly done; what is not stays undone, and is no failure."""
        running = [future for future in flying if not future.cancel()]
        done, _ = wait(running, timeout=GRACE)
        for future in flying.keys() - set(running):
            del flying[future]
        for future in done:
            task = flying.pop(future)
            if not isinstance(future.exception(), BrokenProcessPool):
                yield task, future.result()

    def _alone(self, task: T) -> Iterator[tuple[T, R | None]]:
        """Run a suspect in a process of its own; when that dies halve it, down to the culprit."""
        with self._workers.another(1) as executor:
            try:
                result = executor.submit(self._work, task).result()
            except BrokenProcessPool:
                pass
            else:
                yield task, result
                return
        halves = self._halves(task)
        if not halves:
            yield task, None
        for half in halves:
            yield from self._alone(half)
