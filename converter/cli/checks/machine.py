"""What the program itself and the machine bring: versions, time zones, open files, disks."""

from __future__ import annotations

import os
import platform
import resource
import sqlite3
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from converter import __version__
from converter.cli.checks.finding import CONFIGURATION, MACHINE, Finding, nearest, sized

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from converter.cli.checks.finding import SetUp
    from converter.store import StatePlace

__all__ = ["disks", "open_files", "pynetdicom_names", "time_zones", "versions"]

GATE = 512
"""Connections that a receiver watches until they ask for something (`converter.listener.gate.Gate`)."""
SPARE = 64
"""Files beside connections: journals, store, logs."""
INODES = 10_000
LEAST = 1 << 20
"""Bytes without which even a small run ends for want of space."""


def versions() -> Iterator[Finding]:
    """What is installed."""
    names = ("pydicom", "pynetdicom", "fhir.resources")
    parts = [f"dcm2fhir {__version__}", f"Python {platform.python_version()}"]
    parts += [f"{name} {version(name)}" for name in names]
    yield Finding("ok", ", ".join([*parts, f"SQLite {sqlite3.sqlite_version}"]))


def pynetdicom_names() -> Iterator[Finding]:
    """Whether this pynetdicom is one that the listener knows inside."""
    from converter.listener.private import check_names

    fix = "pip install 'pynetdicom>=3.0.4,<3.1'"
    if gone := check_names():
        yield Finding(
            "warning",
            f"not known ({', '.join(gone)} missing): listen runs on a slower path",
            fix,
        )
    else:
        yield Finding("ok", "has all names that the fast path needs")


def time_zones(setup: SetUp | None) -> Iterator[Finding]:
    """Whether there is time zone data, and what of it is used."""
    from converter.core.times import is_zone

    if not is_zone("Europe/London"):
        yield Finding(
            "problem", "no time zone data is installed", "pip install tzdata", CONFIGURATION
        )
        return
    data = f"tzdata {version('tzdata')}"
    if setup is None:
        yield Finding("ok", data)
    elif zone := setup.loaded.config.site.timezone:
        yield Finding("ok", f"{zone} where the DICOM states no offset; {data}")
    else:
        yield Finding(
            "ok", f"none set: dates without time where the DICOM states no offset; {data}"
        )


def open_files(setup: SetUp) -> Iterator[Finding]:
    """Whether a receiver may open as many files as its limits let it need."""
    settings = setup.daemon
    each = 3 if settings.keep_files is not None else 1
    need = GATE + each * settings.policy.max_associations + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    told = f"{soft} may be open, {need} may be needed ({settings.policy.max_associations} associations)"
    if soft in {resource.RLIM_INFINITY, -1} or soft >= need:
        yield Finding("ok", told)
        return
    raising = hard == resource.RLIM_INFINITY or hard >= need
    fix = f"ulimit -n {need}" if raising else f"raise the hard limit, {hard}"
    yield Finding("warning", told, f"{fix}; in a systemd unit LimitNOFILE={need}")


def disks(setup: SetUp, stores: Sequence[StatePlace]) -> Iterator[Finding]:
    """Free space of each disk that is written to, against the reserve."""
    reserve = setup.daemon.disk_reserve
    for folders in _by_disk(setup, stores):
        first = next(iter(folders))
        disk = os.statvfs(folders[first])
        free = disk.f_bavail * disk.f_frsize
        told = f"{sized(free)} free for {', '.join(folders)}"
        guarded = "listen" in setup.purposes and {"journal", "whole objects"} & folders.keys()
        if free < reserve and guarded:
            yield Finding(
                "problem",
                f"{told}: less than the reserve of {sized(reserve)}, so senders get 0xA700",
                f"free some space on the disk of {folders[first]}, or lower listen.disk_reserve",
                MACHINE,
            )
        elif disk.f_blocks and free < LEAST:  # some of the network do not tell
            yield Finding(
                "problem",
                f"{told}: nothing can be written there",
                f"free some space on the disk of {folders[first]}, or name another place",
                MACHINE,
            )
        elif free < 2 * reserve:
            yield Finding(
                "warning",
                f"{told}; with less than {sized(reserve)} nothing is received" if guarded else told,
                f"free some space on the disk of {folders[first]}",
            )
        else:
            yield Finding("ok", f"{told} (reserve {sized(reserve)})" if guarded else told)
        if disk.f_files and disk.f_favail < INODES:
            full = not disk.f_favail
            yield Finding(
                "problem" if full else "warning",
                f"{disk.f_favail} more files fit on the disk of {folders[first]} (inodes)",
                "remove files, or make a file system with more inodes",
                MACHINE if full else 0,
            )


def _by_disk(setup: SetUp, stores: Sequence[StatePlace]) -> list[dict[str, Path]]:
    """What is written, as words to folders, disk by disk."""
    settings = setup.daemon
    written: dict[str, Path] = {}
    for place in stores:
        if isinstance(place, Path):
            written.setdefault(f"store {place.name}", nearest(place.parent))
    if "listen" in setup.purposes:
        written["journal"] = nearest(settings.journal)
        if settings.keep_files is not None:
            written["whole objects"] = nearest(settings.keep_files)
    output = setup.loaded.config.convert.output
    if output and output != "-":
        written["output"] = nearest(Path(output))
    found: dict[int, dict[str, Path]] = {}
    for word, folder in written.items():
        found.setdefault(folder.stat().st_dev, {})[word] = folder
    return list(found.values())
