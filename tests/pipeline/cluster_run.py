"""A run on a cluster, in a process of its own that waits at moments, so that something can be killed there.

Arguments: input, output, state (``-`` for none), engine, address, numbers of files to wait at. It says ``waiting``
on stdout and goes on when a line comes on stdin; at the end it says exit code, files and how many were sent to workers.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pipeline_standins as standins

from converter.pipeline import Parts, Request, cluster, run
from converter.pipeline.engine import Place
from converter.sinks import FileSink
from converter.sources import Task, planning
from converter.store import place_of


class Waiting:
    def __init__(self, counts):
        self.counts, self.reading, self.done = counts, False, 0

    def phase(self, name, total=None):
        self.reading = name == "reading"

    def advance(self, count=1):
        self.done += count if self.reading else 0
        if self.reading and self.counts and self.done >= self.counts[0]:
            self.counts.pop(0)
            print("waiting", flush=True)  # noqa: T201
            sys.stdin.readline()


def main():
    source, out, state, engine, address, *counts = sys.argv[1:]
    planning.LEAST = planning.MOST = cluster.FILES = 4
    sent = set()
    seal = cluster.seal

    def noting(what):
        if isinstance(what, Task):
            sent.update(entry.path for entry in what.entries)
        return seal(what)

    cluster.seal = noting
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
        place=Place(engine, address),
    )
    with run(request, progress=Waiting([int(count) for count in counts])) as result:
        counts = dict(result.skipped_counts)
        print(result.exit_code, result.counts["files"], len(sent), counts, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
