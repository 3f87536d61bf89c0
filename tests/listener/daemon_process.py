"""``dcm2fhir listen`` as a process, for the tests of the daemon and of its peers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LISTENING = re.compile(r"listening (\S+)@\S+:(\d+), (http://\S+)\n")


class Daemon:
    """``dcm2fhir listen`` as a process."""

    def __init__(self, folder, *options, env=None, out=True, program=("-m", "converter"), **given):
        self.folder = folder
        self.state = folder / "state" / "listen.db"
        self.out = folder / "out"
        command = [sys.executable, *program, "listen", "-v"]
        command += ["-o", str(self.out)] if out else []
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
            env=environment,
            **{"cwd": ROOT, **given},
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
