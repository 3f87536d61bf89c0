"""Real FHIR servers as processes of their own: built once, started for a test session, gone with it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from shutil import which

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dcm2fhir-tests"
SEKMET = "sekmet-fhir==0.1.1"
JAVA = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Xmx1g")


class MissingError(Exception):
    """What a server needs is not on this machine."""


@contextmanager
def only_one(name):
    """Let one process build at a time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingError(f"{command[0]} failed: {(done.stdout + done.stderr)[-800:]}")


def hapi_classes():
    """Build the HAPI server, where its source changed; give the class path."""
    if not which("mvn") or not which("java"):
        raise MissingError("HAPI needs Java 17 and Maven")
    out = CACHE / "hapi"
    source = max(p.stat().st_mtime for p in (HERE / "hapi").rglob("*") if p.is_file())
    with only_one("hapi"):
        path = out / "classpath"
        if not path.is_file() or path.stat().st_mtime < source:
            run("mvn", "-q", "-B", "-f", str(HERE / "hapi" / "pom.xml"), f"-Dout={out}", "process-classes")  # fmt: skip
            path.touch()
    return f"{out / 'classes'}{os.pathsep}{path.read_text().strip()}"


@contextmanager
def hapi(*options):
    """HAPI FHIR JPA on a free port of loopback; gives its base URL."""
    command = ["java", *JAVA, "-cp", hapi_classes(), "dcm2fhir.hapi.Main", *options]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # fmt: skip
    try:
        base = process.stdout.readline().strip()
        if not base:
            raise MissingError("HAPI did not start")
        yield base
    finally:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()


@contextmanager
def sekmet(folder):
    """Start sekmet-fhir in an environment of its own; gives its base URL."""
    home = CACHE / "sekmet"
    with only_one("sekmet"):
        program = home / "bin" / "sekmet"
        if not program.is_file():
            run(sys.executable, "-m", "venv", str(home))
            run(str(home / "bin" / "python"), "-m", "pip", "install", "-q", SEKMET)
    port = free_port()
    process = subprocess.Popen([str(program), "serve", "--host", "127.0.0.1", "--port", str(port)], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    base = f"http://127.0.0.1:{port}/fhir"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{base}/metadata", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                if process.poll() is not None:
                    raise MissingError("sekmet-fhir did not start") from None
                time.sleep(0.1)
        else:
            raise MissingError("sekmet-fhir does not answer")
        yield base
    finally:
        process.terminate()
        process.wait(20)


def free_port():
    import socket

    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]
