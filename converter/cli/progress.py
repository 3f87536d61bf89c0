"""How far a run is: a bar on a terminal's stderr, and nothing anywhere else."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from rich.progress import TaskID

__all__ = ["Bar", "Silent", "progress_for"]


class Silent:
    """Shows nothing, and knows how many files were read."""

    def __init__(self) -> None:
        self.files = 0
        self._reading = False

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End."""

    def expect(self, inputs: Sequence[str]) -> None:
        """Count what there is to read, where that helps."""

    def phase(self, name: str, total: int | None = None) -> None:
        """Begin a phase."""
        self._reading = name == "reading"

    def advance(self, count: int = 1) -> None:
        """Count what is done of it."""
        if self._reading:
            self.files += count


class Bar(Silent):
    """One line a phase: name, bar, count, rate, remaining time."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description:<11}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: TaskID | None = None
        self._expected: int | None = None
        self._end = threading.Event()

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wipe the bars: the summary takes their place."""
        self._end.set()
        self._progress.stop()

    def expect(self, inputs: Sequence[str]) -> None:
        """Count the files of folders beside the reading of them, so that the remaining time can be told.

        Looking is much faster than reading. What an archive holds nobody knows before, so where an input is one
        there is no total.
        """
        if inputs and all(os.path.isdir(path) for path in inputs):  # noqa: PTH112
            threading.Thread(target=self._count, args=(list(inputs),), daemon=True).start()

    def _count(self, inputs: list[str]) -> None:
        files = 0
        for path in inputs:
            for _, _, names in os.walk(path):
                files += len(names)
                if self._end.is_set():
                    return
        self._expected = files

    def phase(self, name: str, total: int | None = None) -> None:
        """Begin a phase; without a total the bar only moves."""
        super().phase(name)
        self._finish()
        self._task = self._progress.add_task(name, total=total, rate="")

    def advance(self, count: int = 1) -> None:
        """Count what is done of the phase."""
        super().advance(count)
        if self._task is None:
            return
        self._progress.advance(self._task, count)
        task = self._progress.tasks[self._task]
        if task.total is None and self._expected is not None and task.description == "reading":
            self._progress.update(self._task, total=max(self._expected, task.completed))
        speed = task.speed or task.finished_speed
        if speed:
            self._progress.update(self._task, rate=f"{speed:,.0f}/s")

    def _finish(self) -> None:
        if self._task is not None:
            done = self._progress.tasks[self._task].completed
            self._progress.update(self._task, total=done)


def progress_for(choice: str, *, quiet: bool = False) -> Silent:
    """Progress as ``--progress`` asks for it; a pipe never gets any."""
    return Bar() if choice == "auto" and not quiet and sys.stderr.isatty() else Silent()
