"""Where a set-up keeps and writes: study store, journals, output."""

from __future__ import annotations

import os
import shlex
import stat
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from converter.cli.checks.finding import (
    CONFIGURATION,
    MACHINE,
    Finding,
    counted,
    nearest,
    sized,
    there,
)
from converter.errors import StoreError
from converter.listener.starting import TOKEN_FILE
from converter.listener.web import token_of
from converter.listener.writer import receiver_folders, waiting_bytes
from converter.mounts import lies_on
from converter.store.looking import look
from converter.store.opening import OF_EITHER
from converter.store.place import held
from converter.store.schema import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converter.cli.checks.finding import SetUp
    from converter.settings import ConvertSettings
    from converter.store import StatePlace
    from converter.store.looking import Server, Sight

__all__ = ["journal", "output", "store"]

PATIENCE = 5.0
"""Seconds for a look through a whole state file."""
SKEW = 2.0
"""Seconds that two clocks may be apart: the order of arrival on two hosts is that of their clocks."""
MEMORY = ("tmpfs", "ramfs")


def store(place: StatePlace) -> Iterator[Finding]:
    """One study store: is it there, is it whole, who uses it."""
    if not isinstance(place, Path):
        yield from _on_server(place)
        return
    if not there(place):
        yield _to_be_made(place, "made when first used", place.parent)
        return
    if not os.access(place, os.R_OK | os.W_OK) or not os.access(place.parent, os.W_OK | os.X_OK):
        yield Finding(
            "problem",
            f"this user may not read and write {place} and its folder",
            f"run it as {_user(place.stat().st_uid)}, who has it, or let {_user()} write there",
            MACHINE,
        )
        return
    with closing((sight := look(place, damaged=OF_EITHER)).database):
        whole = sight.damage(PATIENCE)
        if whole:
            raise StoreError(f"The state file {place} is damaged. {OF_EITHER}")
    lock = place.with_name(place.name + ".lock")
    words = [
        f"{place}: {_schema(sight)}",
        sized(place.stat().st_size),
        "whole" if whole is False else f"no damage found in {PATIENCE:.0f} s",
    ]
    if held(lock):
        words.append("in use")
    yield Finding("ok", ", ".join(words))
    yield from _private(place)
    yield from _in_memory(place)
    owner = place.stat().st_uid
    if not os.getuid() and owner:
        yield Finding(
            "warning",
            f"this is root, who may write everywhere, and {place} belongs to {_user(owner)}",
            f"as that user: sudo -u {_user(owner)} dcm2fhir doctor",
        )


def _schema(sight: Sight) -> str:
    if not sight.version:
        return "empty"
    newer = "" if sight.current else f", brought to {SCHEMA_VERSION} at the next use"
    return f"schema {sight.version}{newer}"


def _on_server(place: StatePlace) -> Iterator[Finding]:
    with closing((sight := look(place)).database):
        apart = sight.database.now() - time.time()
    server = sight.server
    assert server is not None, "a server tells what it is"
    yield _of_server(place, sight, server)
    if abs(apart) > SKEW:
        ahead = "ahead of" if apart > 0 else "behind"
        yield Finding(
            "warning",
            f"the clock of the PostgreSQL server is {abs(apart):.0f} s {ahead} ours",
            "keep both in time (NTP): timedatectl set-ntp true",
        )


def _of_server(place: StatePlace, sight: Sight, server: Server) -> Finding:
    if not sight.version and not server.may_create:
        return Finding(
            "problem",
            f"{place}: the schema {server.schema} is not there, and this user may make none",
            'GRANT CREATE ON DATABASE "..." TO "..." in psql, as the owner of the database',
            MACHINE,
        )
    there = _schema(sight) if sight.version else "made when first used"
    used = [
        f"{counted(count, word)} on it"
        for count, word in ((server.daemons, "daemon session"), (server.runs, "run session"))
        if count
    ]
    words = [f"{place}: PostgreSQL {server.release}", f"{server.schema}: {there}", *used]
    return Finding("ok", ", ".join(words))


def _to_be_made(path: Path, told: str, folder: Path) -> Finding:
    """Whether a path, which wants a folder, can be made."""
    above = nearest(path.parent)
    if above.is_dir() and os.access(above, os.W_OK | os.X_OK) and not _read_only(above):
        return Finding("ok", f"{path} is not there yet: {told}")
    why = "may not be written" if above.is_dir() else "is no folder"
    return Finding(
        "problem",
        f"{path} cannot be made: {above} {why}",
        f"name another place, or let {_user()} write into {folder}"
        if there(folder)
        else f"sudo install -d -m 700 -o {_user()} {shlex.quote(str(folder))}",
        MACHINE,
    )


def _read_only(folder: Path) -> bool:
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def _user(number: int | None = None) -> str:
    import pwd

    number = os.getuid() if number is None else number
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"#{number}"


def _private(path: Path) -> Iterator[Finding]:
    mode = stat.S_IMODE(path.stat().st_mode)
    wanted = 0o700 if path.is_dir() else 0o600
    if mode & 0o077:
        yield Finding(
            "warning",
            f"others may read {path} (mode {mode:04o}), which holds patient data",
            f"chmod {wanted:04o} {path}",
        )


def _in_memory(path: Path) -> Iterator[Finding]:
    if lies_on(path) in MEMORY:
        yield Finding(
            "warning",
            f"{path} lies in memory ({lies_on(path)}) and is gone when the machine starts again",
            "name a place on a disk: listen.state, listen.journal, convert.state",
        )


def journal(setup: SetUp) -> Iterator[Finding]:
    """The folder of the journals: writable, on which disk, what waits in it."""
    settings = setup.daemon
    folder = settings.journal
    if not there(folder):
        yield _to_be_made(folder, "made by listen", folder)
        return
    if not os.access(folder, os.W_OK | os.X_OK) or _read_only(folder):
        yield Finding(
            "problem",
            f"this user may not write {folder}",
            f"run it as {_user(folder.stat().st_uid)}, who has it, or let {_user()} write there",
            MACHINE,
        )
        return
    running = held(folder / "daemon.lock")
    waiting = waiting_bytes(folder)
    words = [f"{folder} may be written"]
    if isinstance(settings.state, Path) and settings.state.parent.exists():
        same = folder.stat().st_dev == settings.state.parent.stat().st_dev
        words.append("on the disk of the store" if same else "on another disk than the store")
    words.append(f"{sized(waiting)} wait for the store" if waiting else "nothing waits")
    if running:
        words.append("in use")
    told = ", ".join(words)
    if waiting >= settings.backlog_limit:
        yield Finding(
            "problem",
            f"{told}: more than backlog_limit ({sized(settings.backlog_limit)}), senders get 0xA700",
            "see what keeps the store from taking it in; the daemon's log says it",
            MACHINE,
        )
    elif waiting and not running:
        yield Finding("warning", told, "dcm2fhir listen takes it in when it starts")
    else:
        yield Finding("ok", told)
    yield from _private(folder)
    yield from _in_memory(folder)
    if torn := sum(len(list(one.glob("*.torn"))) for one in receiver_folders(folder)):
        yield Finding(
            "warning",
            f"{counted(torn, 'segment ends', 'segments end')} in a torn record (*.torn), which nobody acknowledged",
            f"remove them: rm {folder}/r*/*.torn",
        )
    if damaged := sum(len(list(one.glob("*.damaged"))) for one in receiver_folders(folder)):
        yield Finding(
            "problem",
            f"{counted(damaged, 'segment was', 'segments were')} damaged (*.damaged): objects that senders take for stored may be lost",
            "have what came at that time sent again (the daemon's log says more), look at the disk, then remove them",
        )
    if (file := folder / TOKEN_FILE).exists():
        token_of(file)


def output(setup: SetUp) -> Iterator[Finding]:
    """Where resources go as files, or that nothing says where they go."""
    settings = setup.loaded.config.convert
    if not settings.output:
        if settings.to:
            yield Finding("ok", "no folder: studies go to FHIR servers alone")
        else:
            yield Finding(
                "warning",
                "nothing says where studies go",
                'output = "fhir" or to = ["https://..."] in [convert], or -o and --to each time',
            )
        return
    if "listen" in setup.purposes and (why := _not_for_listen(settings)):
        # a configuration may be for convert alone
        only = setup.purposes == {"listen"}
        yield Finding(
            "problem" if only else "warning",
            f"listen writes one JSON file a resource into a folder, and {why}",
            'listen -o FOLDER, with format = "json" in [convert]; or dcm2fhir doctor convert',
            CONFIGURATION if only else 0,
        )
    if settings.output == "-":
        yield Finding("ok", "standard output")
        return
    path = Path(settings.output)
    if there(path) and path.is_file():
        yield Finding("ok", f"{path}, a file, is written anew by each run")
    elif not there(path):
        yield _to_be_made(path, "made by the first run", path)
    elif not os.access(path, os.W_OK | os.X_OK) or _read_only(path):
        yield Finding(
            "problem",
            f"this user may not write {path}",
            f"run it as {_user(path.stat().st_uid)}, who has it, or let {_user()} write there",
            MACHINE,
        )
    else:
        yield Finding("ok", f"{path} may be written")


def _not_for_listen(settings: ConvertSettings) -> str:
    """Why `listen` does not take an output, or empty."""
    if settings.format != "json":
        return f"the format is {settings.format}"
    if settings.output == "-":
        return "the output is standard output"
    path = Path(settings.output)
    return f"{path} is a file" if there(path) and path.is_file() else ""
