"""A run in a process of its own that stops and waits at a moment, so that it can be killed there.

Arguments: input, output, state (``-`` for none), jobs, phase and count to wait at. It says ``waiting`` on
stdout and goes on when a line comes on stdin; at the end it says exit code and phase.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pipeline_standins as standins

from converter.pipeline import Parts, Request, reading, run, writing
from converter.pipeline.request import no_judge
from converter.sinks import FileSink
from converter.sources import planning
from converter.store import place_of


class Waiting:
    def __init__(self, phase, count):
        self.wanted, self.count, self.now, self.done = phase, count, "", 0

    def phase(self, name, total=None):
        self.now, self.done = name, 0

    def advance(self, count=1):
        before, self.done = self.done, self.done + count
        if self.now == self.wanted and before < self.count <= self.done:
            print("waiting", flush=True)  # noqa: T201
            sys.stdin.readline()


def main():
    source, out, state, jobs, phase, count = sys.argv[1:]
    planning.LEAST = planning.MOST = 4
    reading.FEW = writing.FEW = 0
    writing.A_TASK = 1
    request = Request(
        [source],
        SimpleNamespace(wanted=standins.WANTED, version="1"),
        "options",
        Parts(
            standins.read_file,
            standins.read_stream,
            standins.convert,
            standins.reduce,
            standins.unite,
        ),
        sink=FileSink(Path(out)),
        state=None if state == "-" else place_of(state),
        jobs=int(jobs),
        worker_judge=no_judge,
    )
    with run(request, progress=Waiting(phase, int(count))) as result:
        print(result.exit_code, result.phase, result.advice, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
