"""What the system shows of a running daemon: its processes, their memory, threads and open files."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path


def receivers(running):
    """Process numbers of the receivers."""
    found = subprocess.run(
        ["pgrep", "-P", str(running.process.pid)], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in found.stdout.split()]


def processes(running):
    """Process numbers: the supervisor first."""
    return [running.process.pid, *receivers(running)]


def resident(running):
    """MiB of memory of each process."""
    return [_status(pid, "VmRSS") / 1024 for pid in processes(running)]


def peak(running):
    """MiB of the most memory that each process ever had."""
    return [_status(pid, "VmHWM") / 1024 for pid in processes(running)]


def threads(*pids):
    """Threads of some processes."""
    return sum(_status(pid, "Threads") for pid in pids)


def descriptors(*pids):
    """Open files of some processes."""
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids)


def _status(pid, name):
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)[1])
