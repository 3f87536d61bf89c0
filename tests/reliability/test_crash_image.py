"""Row 3: a copy of state and journal, taken at any moment, holds everything that was acknowledged before it.

The copy is of what the kernel holds, so this proves recovery; that the disk has it is the order of sync and
answer (row 2).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import threading

import pytest

from converter.listener.ledger import Ledger
from converter.listener.writer import Writer
from tests.reliability.figures import figure, size
from tests.reliability.watching import processes
from tools.dicom_sender import Sender

pytestmark = pytest.mark.nightly

TRIALS = size("crash_images", 12, 200)
A_DAEMON = 25
"""Trials after which a new daemon begins, so that the copies stay small."""
SENDERS = 4


class Load:
    """Senders that store without a pause, and what was acknowledged to them."""

    def __init__(self, port, instance):
        self.acknowledged = [[] for _ in range(SENDERS)]
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=(port, instance, index))
            for index in range(SENDERS)
        ]
        for thread in self._threads:
            thread.start()

    def _send(self, port, instance, index):
        number = 0
        with Sender(port, timeout=60) as sender:
            sender.associate()
            while not self._stopping.is_set():
                study = f"1.2.{index + 1}.{number // 40}"
                data, uid = instance(study, number % 40 + 1)
                assert sender.store(data, uid).status == 0
                self.acknowledged[index].append((study, uid))
                number += 1
            sender.release()

    def so_far(self):
        return {one for held in self.acknowledged for one in list(held)}

    def end(self):
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)


def image(running, target):
    """Stop all processes, copy what they keep, let them go on."""
    held = processes(running)
    for pid in held:
        os.kill(pid, signal.SIGSTOP)
    try:
        # the index of the write-ahead log is memory of the processes, no file that a crash leaves
        skip = shutil.ignore_patterns("*-shm", "*.lock", "lock")
        shutil.copytree(running.state.parent, target, ignore=skip)
    finally:
        for pid in held:
            os.kill(pid, signal.SIGCONT)


def recovered(folder):
    """Open a copy as a daemon does when it starts; give what is in it."""
    ledger = Ledger(folder / "listen.db")
    try:
        ledger.next_epoch()
        writer = Writer(ledger, lambda _study, _state: None, lambda _title: False)
        writer.recover(folder / "journal")
        writer.close()
        assert ledger.all("PRAGMA integrity_check") == [("ok",)]
        return set(ledger.all("SELECT study_uid, sop_uid FROM received_instance"))
    finally:
        ledger.close()


def test_a_crash_image_holds_what_was_acknowledged(daemon, instance, tmp_path):
    chance = random.Random(3)
    whole = most = 0
    for first in range(0, TRIALS, A_DAEMON):
        running = daemon("--quiet-period", "1s", folder=tmp_path / f"d{first}")
        load = Load(running.port, instance)
        running.until(lambda load=load: len(load.so_far()) > 20)
        for trial in range(first, min(first + A_DAEMON, TRIALS)):
            threading.Event().wait(chance.uniform(0.02, 0.4))
            before = load.so_far()
            copy = tmp_path / f"copy{trial}"
            image(running, copy)
            held = recovered(copy)
            whole += before <= held
            assert before <= held, f"{len(before - held)} of {len(before)} are lost"
            after = load.so_far()
            assert len(held - after) <= SENDERS, "nothing is there that nobody sent"
            most = max(most, len(held))
            shutil.rmtree(copy)
        load.end()
        running.end()
        shutil.rmtree(running.folder)
    figure("crash images", trials=TRIALS, whole=whole, most_instances=most)
    assert whole == TRIALS


def test_a_daemon_on_a_crash_image_publishes_what_was_acknowledged(daemon, instance, tmp_path):
    running = daemon("--quiet-period", "1s", folder=tmp_path / "first")
    load = Load(running.port, instance)
    running.until(lambda: len(load.so_far()) > 300)
    before = load.so_far()
    (tmp_path / "second").mkdir()
    image(running, tmp_path / "second" / "state")
    load.end()
    running.end()
    again = daemon("--quiet-period", "1s", folder=tmp_path / "second")

    def published():
        found = {
            (study["identifier"][0]["value"].removeprefix("urn:oid:"), instance["uid"])
            for study in again.resources()
            for series in study["series"]
            for instance in series["instance"]
        }
        return before <= {(study, uid.removeprefix("urn:oid:")) for study, uid in found}

    again.until(published)
    again.end()
    with sqlite3.connect(again.state) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()
