"""Receivers that are measured: how each is started, and what it costs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tools.dicom_sender import CT, EXPLICIT, Gone, Rejected, Sender

__all__ = ["DURABLE", "NULL", "ORTHANC", "RECEIVERS", "STOCK", "Running", "Unanswered", "running"]

ROOT = Path(__file__).resolve().parent.parent
PEERS = Path(__file__).resolve().parent / "peers"
STOCK, ORTHANC, NULL, DURABLE = "pynetdicom", "Orthanc", "ours, null commit", "ours, durable"
KEPT = {"ours, whole headers": ["--keep-headers"], "ours, whole files": ["--keep-files", "files"]}
"""The durable one that keeps more of each object."""
RECEIVERS = (
    STOCK,
    "storescp --ignore",
    "storescp --fork",
    "sync per reply",
    ORTHANC,
    NULL,
    DURABLE,
    *KEPT,
)
PATIENCE = 30.0
"""Seconds that a receiver has to start."""
TICKS = os.sysconf("SC_CLK_TCK")


class Unanswered(Exception):  # noqa: N818  # an answer of the measurement, no fault
    """A receiver, or a sender of a measurement, did not get anywhere."""


@dataclass
class Running:
    """A receiver that runs, in a session of its own."""

    port: int
    session: int

    def _stats(self) -> Iterator[tuple[int, list[str]]]:
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                try:
                    text = Path(entry.path, "stat").read_text()
                except OSError:
                    continue  # it has just ended
                fields = text.rpartition(")")[2].split()
                if int(fields[3]) == self.session:
                    yield int(entry.name), fields

    def cpu(self) -> float:
        """Seconds of all its processes, and of those that ended."""
        return sum(sum(map(int, fields[11:15])) for _, fields in self._stats()) / TICKS

    def peak(self) -> int:
        """Largest resident set that one of its processes had, in bytes."""
        sizes = [0]
        for number, _ in self._stats():
            try:
                status = Path(f"/proc/{number}/status").read_text()
            except OSError:
                continue
            sizes += [
                int(line.split()[1]) << 10
                for line in status.splitlines()
                if line.startswith("VmHWM:")
            ]
        return max(sizes)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


def command(name: str, port: int, folder: Path) -> list[str]:
    """Command line of a receiver."""
    number = str(port)
    if name == STOCK:
        return [sys.executable, str(PEERS / "scp_pynetdicom.py"), number]
    if name == "storescp --ignore":
        return ["storescp", "--ignore", "--max-pdu", "131072", number]
    if name == "storescp --fork":
        return ["storescp", "--fork", "--ignore", "--max-pdu", "131072", number]
    if name == "sync per reply":
        return [sys.executable, str(PEERS / "scp_bare.py"), number, str(folder)]
    if name == NULL:
        return [sys.executable, str(PEERS / "scp_null.py"), number, str(folder)]
    if name == ORTHANC:
        settings = {
            "DicomPort": port, "DicomThreadsCount": 16, "DicomScpTimeout": 120, "DicomAlwaysAllowStore": True,
            "DicomCheckCalledAet": False, "HttpServerEnabled": False, "OverwriteInstances": False,
            "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"),
        }  # fmt: skip
        (folder / "orthanc.json").write_text(json.dumps(settings))
        return ["Orthanc", str(folder / "orthanc.json")]
    assert name == DURABLE or name in KEPT
    return [
        sys.executable, "-m", "converter", "listen", "-o", str(folder / "out"), "--state", str(folder / "l.db"),
        "-p", number, "--http-port", "0", "--quiet-period", "1h", "--quiet-cap", "2h",
        *KEPT.get(name, ()),
    ]  # fmt: skip


@contextmanager
def running(name: str, folder: Path, *, nodelay: bool = True) -> Iterator[Running]:
    """Run a receiver.

    Raises
    ------
    Unanswered
        It takes no association.
    """
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("TCP_NODELAY", None)
    if nodelay:
        environment["TCP_NODELAY"] = "1"  # dcmtk's, which would wait for acknowledgements
    process = subprocess.Popen(
        command(name, port, folder), env=environment, cwd=folder, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(port, process)
        yield Running(port, process.pid)
    finally:
        with suppress(ProcessLookupError):  # nothing of it is left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until somebody takes associations there."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with Sender(port, timeout=10).associate([(1, CT, (EXPLICIT,))]) as sender:
                sender.release()
        except (OSError, Gone, Rejected) as error:
            if process.poll() is not None:
                raise Unanswered(f"it ended with {process.returncode}") from error
            if time.monotonic() > deadline:
                raise Unanswered("it takes no association") from error
            time.sleep(0.05)
        else:
            return
