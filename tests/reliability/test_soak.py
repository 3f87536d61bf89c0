"""Rows 6, 37, 38 and 40: much, for long, into a server that is away from time to time, and one study that is very large."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time

import pytest

from tests.listener.daemon_process import ROOT
from tests.reliability.figures import NIGHTLY, figure, size
from tests.reliability.watching import descriptors, peak, processes, resident
from tests.servers.stub import Fault, Stub

pytestmark = pytest.mark.nightly

SENDERS = 4
INSTANCES = size("soak_instances", 50, 100)
STUDIES = size("soak_studies", 40, 2000)
LARGE = size("large_study", 2_000, 50_000)


class Senders:
    """Processes that send, and what they said."""

    def __init__(self, port, studies, instances, senders=SENDERS, *, first=1):
        self.acknowledged = {}
        self.seconds = []
        self.again = 0
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.reliability.sending",
                 *map(str, (port, number, studies, instances))],
                stdout=subprocess.PIPE, text=True, cwd=ROOT,
            )
            for number in range(first, first + senders)
        ]  # fmt: skip
        self._threads = [
            threading.Thread(target=self._listen, args=(process,)) for process in self._processes
        ]
        for thread in self._threads:
            thread.start()

    def _listen(self, process):
        again = 0
        with process.stdout:
            for line in process.stdout:
                told = json.loads(line)
                self.acknowledged[told["study"]] = told["instances"]
                self.seconds += told["seconds"]
                again = told["again"]
        self.again += again

    @property
    def total(self):
        return len(self.seconds)

    @property
    def running(self):
        return any(thread.is_alive() for thread in self._threads)

    def end(self):
        for thread in self._threads:
            thread.join()
        assert [process.wait() for process in self._processes] == [0] * len(self._processes)


def slope(points):
    """Of the line through (x, y) that fits best; 0 where a short run was over before anything came between two of them."""
    if len({x for x, _ in points}) < 2:
        return 0.0
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def flapping(asked):
    """One answer in ten is none: refused, late, cut, or lost after the server has done it."""
    kinds = (Fault(503), Fault(drop="before"), Fault(drop="after"), Fault(500), Fault(429))
    return kinds[asked.number // 10 % len(kinds)] if asked.number % 10 == 9 else None


def test_a_long_run_loses_nothing_and_grows_nowhere(daemon):
    """200,000 instances of 2,000 studies over four associations in `make nightly`."""
    with Stub(flapping, index=True) as server:
        running = daemon("--to", server.base, "--receivers", "2", "--quiet-period", "2s")
        begin = time.monotonic()
        senders = Senders(running.port, STUDIES // SENDERS, INSTANCES)
        memory, files = [], []
        while senders.running:
            threading.Event().wait(0.5)
            memory.append((senders.total, resident(running)))
            files.append(descriptors(*processes(running)))
        senders.end()
        seconds = time.monotonic() - begin
        whole = INSTANCES * STUDIES
        assert senders.total == whole

        def delivered():
            held = {
                study["identifier"][0]["value"].removeprefix("urn:oid:"): study["numberOfInstances"]
                for study in server.studies()
            }
            return held == senders.acknowledged

        running.until(lambda: len(server.studies()) == STUDIES and delivered(), 900)
        behind = time.monotonic() - begin - seconds
        held = [
            len({i["uid"] for s in one["series"] for i in s["instance"]})
            for one in server.studies()
        ]
        assert held == [INSTANCES] * STUDIES
        assert running.metric("receiver_restarts_total") == 0
        running.end()
    late = memory[len(memory) // 3 :]
    slopes = [10_000 * slope([(n, held[k]) for n, held in late]) for k in range(len(late[0][1]))]
    middle = len(files) // 2
    answers = sorted(senders.seconds)
    p99 = 1000 * answers[int(len(answers) * 0.99)]
    figure(
        "soak", instances=whole, studies=STUDIES, associations=SENDERS, lost=0,
        instances_a_second=round(whole / seconds), p99_ms=round(p99, 1), tried_again=senders.again,
        seconds_until_the_last_delivery=round(behind, 1),
        supervisor_mib=round(late[-1][1][0]), receiver_mib=round(max(late[-1][1][1:])),
        supervisor_slope_mib_per_10000=round(slopes[0], 2),
        receiver_slope_mib_per_10000=round(max(slopes[1:]), 2),
        files_first_half=max(files[:middle]), files_second_half=max(files[middle:]),
    )  # fmt: skip
    if NIGHTLY:  # a short run on a busy machine measures how it starts
        assert p99 < 250
        assert max(slopes) < 1
        assert max(files[middle:]) <= max(files[:middle]) + 2
    else:
        assert p99 < 2000
        assert max(files) < min(files) + 40


def test_a_server_that_is_away_slows_no_receiver(daemon):
    """Row 6: the same load with the server there and away, in turn."""
    answers = {True: [], False: []}
    with Stub(index=True) as server:
        port = int(server.base.rsplit(":", 1)[1].split("/")[0])
        running = daemon("--to", server.base, "--receivers", "2")
        for turn in range(size("away_turns", 4, 12)):
            there = turn % 2 == 0
            if not there:
                server.stop()
            many = size("away_instances", 150, 1000)
            senders = Senders(running.port, 2, many, senders=2, first=1 + 2 * turn)
            senders.end()
            answers[there] += senders.seconds
            if not there:
                server.start(port)
        running.end()
    ratio = statistics.median(answers[False]) / statistics.median(answers[True])
    figure("server away", answers=len(answers[False]), ratio_of_median_answer=round(ratio, 2))
    assert ratio < (1.1 if NIGHTLY else 2)


def test_a_very_large_study_is_published_soon_and_in_bounds(daemon):
    """Row 40: 50,000 instances in `make nightly`."""
    with Stub(index=True) as server:
        running = daemon("--to", server.base, "--receivers", "1", "--quiet-period", "3s")
        senders = Senders(running.port, 1, LARGE, senders=1)
        senders.end()
        begin = time.monotonic()
        running.until(lambda: any(s["numberOfInstances"] == LARGE for s in server.studies()), 120)
        seconds = time.monotonic() - begin
        memory = max(peak(running))
        running.end()
    figure(
        "large study", instances=LARGE, seconds_from_the_last_instance=round(seconds, 1),
        peak_mib=round(memory),
    )  # fmt: skip
    assert seconds < 3 + 30
    assert memory < 300
