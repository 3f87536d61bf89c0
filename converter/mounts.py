"""What kind of file system holds a path."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["FAR", "NETWORK", "filesystem", "lies_on"]

NETWORK = ("nfs", "cifs", "smb", "fuse.sshfs", "afs", "9p", "fuse.glusterfs", "ceph")
"""What the types of file systems begin with that lie on another machine."""
FAR = (*NETWORK, "fuse", "lustre", "gpfs", "beegfs", "virtiofs", "vboxsf")
"""And of those where every file may have to be waited for."""


def filesystem(path: str, mounts: str) -> str:
    """Type of the file system that holds a path, from the text of ``/proc/self/mounts`` (proc(5))."""
    found, length = "", -1
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= length:  # of two mounts on one point the later is seen
            found, length = fields[2], len(point)
    return found


def lies_on(path: str | os.PathLike[str]) -> str:
    """Type of the file system that holds a path; empty where nothing says so (no Linux)."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
    return filesystem(os.path.realpath(path), mounts)
