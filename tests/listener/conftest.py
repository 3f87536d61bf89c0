"""A receiver in this process behind a port of its own, and what it kept."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from converter.listener.control import ReceiverSettings, flat
from converter.listener.journal import Journal, Tail, segments
from converter.listener.policy import Policy
from converter.listener.receiver import Receiver
from converter.listener.record import unpack_received

ROOT = Path(__file__).resolve().parents[2]
WANTED = dict.fromkeys(
    [
        *(0x00080005, 0x00080016, 0x00080018, 0x00080020, 0x00080060, 0x00100010),
        *(0x00100020, 0x00100030, 0x0020000D, 0x0020000E, 0x00200013, 0x00281052),
    ]
)


@dataclass
class Running:
    """A receiver that listens."""

    receiver: Receiver
    journal: Journal | None
    port: int
    over: bool = False
    """Whether new connections count as over a limit."""
    states: list = field(default_factory=list)

    def kept(self):
        """What the journal holds, in order."""
        found = []
        for _, path in segments(self.journal.folder):
            tail = Tail(path)
            while payloads := tail.read():
                found += map(unpack_received, payloads)
            tail.close()
        return found

    def counts(self):
        state = self.receiver.state()
        self.states.append(state)
        return state.counts

    def until(self, condition, timeout=10.0):
        """Wait for something that becomes true when other threads have come so far."""
        deadline = time.monotonic() + timeout
        while not (result := condition()):
            assert time.monotonic() < deadline, "it never became true"
            threading.Event().wait(0.005)
        return result


@contextmanager
def running(folder, *, tls=None, system=None, journal=True, policy=None, **settings):
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)
    kept = Journal(folder, 1, system=system) if journal else None
    made = ReceiverSettings(
        0,
        1,
        str(folder),
        flat(WANTED),
        policy or Policy(),
        local=listening.getsockname(),
        **settings,
    )
    receiver = Receiver(made, kept, tls)
    handle = Running(receiver, kept, listening.getsockname()[1])
    numbers = itertools.count(1)

    def accept():
        while True:
            try:
                sock, remote = listening.accept()
            except OSError:
                return
            receiver.take(sock, next(numbers), remote, over=handle.over)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield handle
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        receiver.close()
        thread.join(5)
        handle.until(lambda: not receiver.connections, 20)
        if kept is not None:
            kept.close()


@pytest.fixture
def listening(tmp_path):
    """Start receivers: ``with listening(...) as running``."""
    folder = tmp_path / "journal"
    folder.mkdir(exist_ok=True)

    def start(**settings):
        return running(folder, **settings)

    return start


@pytest.fixture(params=["fast", "stock"])
def both(request, listening):
    """The same for the fast path and for the stock path."""

    def start(**settings):
        return listening(fast=request.param == "fast", **settings)

    start.fast = request.param == "fast"
    return start


@pytest.fixture
def data_set(make_dicom):
    """A data set (explicit little endian, without meta information) and its SOP Instance UID."""

    def make(number=1, *, tail=b"", **attributes):
        whole = make_dicom(sop=f"1.2.3.4.{number}", **attributes)
        size = int.from_bytes(whole[140:144], "little")
        return whole[144 + size :] + tail, f"1.2.3.4.{number}"

    return make


LISTENING = re.compile(r"listening (\S+)@\S+:(\d+), (http://\S+)\n")


class Daemon:
    """``dcm2fhir listen`` as a process."""

    def __init__(self, folder, *options, env=None, **given):
        self.folder = folder
        self.state = folder / "state" / "listen.db"
        self.out = folder / "out"
        command = [sys.executable, "-m", "converter", "listen", "-o", str(self.out), "-v"]
        command += ["--state", str(self.state), "--http-port", "0", "--disk-reserve", "1MiB"]
        if "--port" not in options:
            command += ["--port", "0"]
        if "--quiet-period" not in options:
            command += ["--quiet-period", "1s"]
        if "--receivers" not in options:
            command += ["--receivers", "2"]
        environment = {**os.environ, "PYTHONWARNINGS": "ignore", **(env or {})}
        self.log = (folder / "log").open("a+b", buffering=0)
        self._begin = self.log.seek(0, os.SEEK_END)
        self.process = subprocess.Popen(
            [*command, *options],
            stderr=self.log,
            stdout=self.log,
            cwd=ROOT,
            env=environment,
            **given,
        )
        self.port = self.http = None

    def text(self):
        """What this run of it has logged."""
        return (self.folder / "log").read_bytes()[self._begin :].decode()

    def until(self, condition, timeout=30.0):
        """Wait until something becomes true."""
        deadline = time.monotonic() + timeout
        while not (result := condition()):
            assert time.monotonic() < deadline, (
                f"it never became true; the log says:\n{self.text()}"
            )
            threading.Event().wait(0.02)
        return result

    def ready(self):
        """Wait until it listens."""
        found = self.until(
            lambda: LISTENING.search(self.text()) or self.process.poll() is not None, 60
        )
        assert found is not True, self.text()
        self.port, self.http = int(found[2]), found[3]
        return self

    def get(self, path):
        """(status, text) of its HTTP port."""
        try:
            with urllib.request.urlopen(self.http + path, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name):
        """Value of one metric; 0 where it is not there."""
        for line in self.get("/metrics")[1].splitlines():
            if line.rpartition(" ")[0] == f"dcm2fhir_{name}":
                return float(line.rpartition(" ")[2])
        return 0.0

    def resources(self, kind="ImagingStudy"):
        """Resources of one type that stand in its output."""
        return [json.loads(path.read_bytes()) for path in sorted(self.out.glob(f"{kind}/*.json"))]

    def published(self, count, instances=None):
        """Wait for so many studies (with so many instances together)."""

        def there():
            held = self.resources()
            total = sum(study["numberOfInstances"] for study in held)
            return len(held) == count and instances in {None, total} and held

        return self.until(there)

    def studies(self, *arguments, code=0):
        """``dcm2fhir studies``."""
        done = subprocess.run(
            [sys.executable, "-m", "converter", "studies", *arguments, "--state", str(self.state)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    def end(self, number=signal.SIGTERM, code=0, timeout=40):
        """Send a signal and wait for its exit code."""
        self.process.send_signal(number)
        assert self.process.wait(timeout) == code, self.text()

    def kill(self):
        """End it, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()


@pytest.fixture
def daemon(tmp_path):
    """Start daemons; what is still there at the end is killed."""
    started = []

    def start(*options, folder=tmp_path, ready=True, **given):
        made = Daemon(folder, *options, **given)
        started.append(made)
        return made.ready() if ready else made

    yield start
    for made in started:
        made.kill()
