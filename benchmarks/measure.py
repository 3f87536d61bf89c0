"""What a program costs: CPU, wall time, memory; programs take turns, medians count."""

from __future__ import annotations

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Usage", "interleaved", "resident", "run"]

UNLIKE_A_USERS = {"PYTHONDONTWRITEBYTECODE"}
"""What a build machine may set, with which a program from a checkout is compiled anew at each start."""


@dataclass(frozen=True)
class Usage:
    """One run, children included."""

    cpu: float
    wall: float
    memory: int
    """Largest resident set of the program and its children together, bytes; 0 where not watched."""
    output: str


def resident(pid: int) -> int:
    """Resident bytes of a process and all below it."""
    total, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        try:
            pages = int(Path(f"/proc/{one}/statm").read_text().split()[1])
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except OSError:
            continue
        total += pages * os.sysconf("SC_PAGESIZE")
    return total


def run(command: Sequence[str], *, watch: bool = False, root: Path | None = None) -> Usage:
    """Run a program to its end.

    Raises
    ------
    RuntimeError
        It failed.
    """
    environment = {key: value for key, value in os.environ.items() if key not in UNLIKE_A_USERS}
    if root:
        environment["PYTHONPATH"] = str(root)
    begin = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    peak = 0
    over = threading.Event()

    def look() -> None:
        nonlocal peak
        while not over.wait(0.05):
            peak = max(peak, resident(process.pid))

    watcher = threading.Thread(target=look)
    if watch:
        watcher.start()
    errors: list[bytes] = []
    drain = threading.Thread(target=lambda: errors.append(process.stderr.read()))  # type: ignore[union-attr]
    drain.start()
    output = process.stdout.read()  # type: ignore[union-attr]
    drain.join()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - begin
    over.set()
    if watch:
        watcher.join()
    if process.returncode:
        raise RuntimeError(f"{command[:4]} ended with {process.returncode}: {errors[0][-400:]!r}")
    return Usage(usage.ru_utime + usage.ru_stime, wall, peak, output.decode())


def interleaved(
    programs: Mapping[str, Callable[[], Usage]], rounds: int, once: Collection[str] = ()
) -> dict[str, list[Usage]]:
    """Let programs take turns; one that fails is left out, with words. ``once``: those that take one turn only."""
    found: dict[str, list[Usage]] = {name: [] for name in programs}
    failed: set[str] = set()
    for _ in range(rounds):
        for name, program in programs.items():
            if name in failed or (name in once and found[name]):
                continue
            try:
                found[name].append(program())
            except RuntimeError as error:
                print(f"  {name}: {error}")
                failed.add(name)
    return {name: usages for name, usages in found.items() if usages and name not in failed}


def median(usages: Sequence[Usage], what: str) -> float:
    return statistics.median(getattr(usage, what) for usage in usages)
