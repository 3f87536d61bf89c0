"""From the inputs of the command line to tasks: deterministic, sorted, each file once."""

from __future__ import annotations

import os
import stat
from codecs import BOM_UTF8
from hashlib import blake2b
from operator import attrgetter
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from converter.errors import SourceError
from converter.sources import archives
from converter.sources.task import Entry, Filters, Skipped, Task, is_remote, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["Input", "listed", "local_path", "look", "plan"]

LOCAL = ("file://", "local://")
"""Addresses that are paths of this machine."""

LEAST = 200
"""Files of a task at least, so that a task costs more than its way to a worker."""
MOST = 500
MEMBERS = 2000
"""Members of an archive in one task, at least."""
PARTS = 16
"""Tasks of an archive at most: each reads all of its directory."""
DICOMDIR_CLASS = b"\x02\x00\x02\x00UI\x14\x001.2.840.10008.1.3.10"
"""Media Storage SOP Class UID of a DICOMDIR as explicit little endian, PS3.10 section 7.1."""

_name: Callable[[os.DirEntry[str]], str] = attrgetter("name")


class Input(NamedTuple):
    """One input of the command line, after a first look."""

    given: str
    real: str
    """Real path: what it is read as, and what says whether two inputs are the same."""
    folder: bool

    def relative(self, path: str) -> str | None:
        """Path relative to this input; ``None`` where it lies elsewhere."""
        root = printable(self.real)
        if path == root or path.startswith(root + "!/"):
            return os.path.basename(root) + path[len(root) :]
        prefix = root.rstrip("/") + "/"
        return path[len(prefix) :] if self.folder and path.startswith(prefix) else None


def look(inputs: Sequence[str]) -> list[Input]:
    """Look at every input before anything is read.

    A DICOMDIR stands for its folder (PS3.10 section 8.6: it indexes the file-set it lies in).

    Raises
    ------
    SourceError
        An input does not exist. One that may not be looked at is left to `plan`, which skips it.
    """
    looked = []
    for given in inputs:
        if is_remote(given) and not given.startswith(LOCAL):
            from converter.sources.addresses import look_at

            looked.append(Input(given, *look_at(given)))
            continue
        if not local_path(given):  # which would be the working folder
            raise SourceError(
                "An input is empty: a variable that is not set? Name a file or folder."
            )
        real = os.path.realpath(local_path(given))
        try:
            mode = os.stat(real).st_mode
        except PermissionError:
            mode = 0
        except FileNotFoundError:
            raise SourceError(f"{printable(given)}: no such file or folder") from None
        except OSError as error:
            raise SourceError(f"{printable(given)}: {error.strerror}") from None
        folder = stat.S_ISDIR(mode)
        if stat.S_ISREG(mode) and _is_dicomdir(real):
            real, folder = os.path.dirname(real), True
        looked.append(Input(given, real, folder))
    return looked


def local_path(name: str) -> str:
    """Path that a ``file://`` address names; anything else as it is."""
    return name.partition("://")[2] if name.startswith(LOCAL) else name


def _is_dicomdir(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            start = file.read(1024)
    except OSError:
        return False  # reading it says what is wrong
    return start[128:132] == b"DICM" and DICOMDIR_CLASS in start


def listed(stream: BinaryIO, *, nul: bool = False) -> Iterator[str]:
    """Paths of a list, one a line, or ended by NUL; empty lines are none, nor is a byte order mark a part of one.

    Raises
    ------
    SourceError
        There is a NUL in a line.
    """
    end = b"\0" if nul else b"\n"
    rest = b""
    chunk = stream.read(1 << 16).removeprefix(BOM_UTF8)
    while chunk:
        if not nul and b"\0" in chunk:
            raise SourceError(
                "--from-file: there is a NUL in the list. Use -0 where paths end with it."
            )
        *lines, rest = (rest + chunk).split(end)
        yield from filter(None, map(_path, lines, [nul] * len(lines)))
        chunk = stream.read(1 << 16)
    if last := _path(rest, nul):
        yield last


def _path(line: bytes, nul: bool) -> str:
    return os.fsdecode(line if nul else line.rstrip(b"\r"))


class _Planner:
    def __init__(
        self, filters: Filters, *, follow_links: bool, with_stat: bool, folders: list[str]
    ) -> None:
        self.filters = filters
        self.named_folders = folders
        self.follow_links = follow_links
        self.with_stat = with_stat
        self.waiting: list[Entry] = []
        self.roots: set[str] = set()
        self.walked: set[str] = set()
        self.listing = False
        self.folders: set[tuple[int, int]] = set()
        # Only what is named one by one is remembered, as 8 bytes: a walk meets each file once.
        self.named: set[bytes] = set()

    def first_time(self, real: str) -> bool:
        digest = blake2b(os.fsencode(real), digest_size=8).digest()
        if digest in self.named:
            return False
        self.named.add(digest)
        return True

    def covered(self, real: str) -> bool:
        """Whether the walk of a folder among the inputs meets this path anyway."""
        folder = real
        while (parent := os.path.dirname(folder)) != folder:  # the root of all lies in nothing
            if parent in self.roots:
                return True
            folder = parent
        return False

    def far(self, item: Input) -> Iterator[Task | Skipped]:
        """Objects of a store: the one that is named, or all below the name."""
        from converter.sources.addresses import below

        if not item.folder:
            yield from self.object(item.real, os.path.basename(item.real), None)
            return
        self.roots.add(item.real)
        for found in below(item.real):
            if isinstance(found, Skipped):
                yield found
            elif not (self.listing and not self.first_time(found.path)):
                yield from self.object(found.path, found.path[len(item.real) + 1 :], found)
        yield from self.flush(LEAST)

    def object(self, address: str, relative: str, entry: Entry | None) -> Iterator[Task | Skipped]:
        if entry is None:
            entry = Entry(address)
            if self.with_stat or archives.hinted(address):
                from converter.sources.addresses import described

                found = described(address)
                if isinstance(found, Skipped):
                    yield found
                    return
                entry = found
        yield from self.sorted(entry, relative)

    def flush(self, least: int = 1) -> Iterator[Task]:
        while len(self.waiting) >= least:
            chunk, self.waiting = self.waiting[:MOST], self.waiting[MOST:]
            yield Task("files", tuple(chunk))

    def walk(self, root: str) -> Iterator[Task | Skipped]:
        """Walk a folder without recursion, however deep it is."""
        # nothing to ask of a file but whether it is one: the other questions take most of the time
        plain = not (
            self.listing
            or self.follow_links
            or self.with_stat
            or self.filters.include
            or self.filters.exclude
        )
        stack: list[tuple[str, str]] = [(root, "")]
        while stack:
            folder, relative = stack.pop()
            try:
                if self.follow_links:
                    status = os.stat(folder)
                    if (status.st_dev, status.st_ino) in self.folders:
                        continue
                    self.folders.add((status.st_dev, status.st_ino))
                with os.scandir(folder) as scan:
                    entries = sorted(scan, key=_name)
            except OSError as error:
                yield _failed(folder, error)
                continue
            below: list[tuple[str, str]] = []
            ours = self.filters.own if self.filters.own.near(folder) else None
            for entry in entries:
                if ours is not None and ours.holds(entry.path) and not entry.is_dir():
                    continue
                if (
                    plain
                    and entry.is_file(follow_symlinks=False)
                    and not archives.hinted(entry.name)
                ):
                    self.waiting.append(Entry(entry.path))
                    if len(self.waiting) >= MOST:
                        yield from self.flush(MOST)
                    continue
                name = f"{relative}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    if entry.path not in self.walked:
                        below.append((entry.path, name + "/"))
                else:
                    yield from self.file(entry, name, below)
            stack.extend(reversed(below))
            yield from self.flush(LEAST)

    def file(
        self, entry: os.DirEntry[str], relative: str, below: list[tuple[str, str]]
    ) -> Iterator[Task | Skipped]:
        path = entry.path
        if entry.is_symlink():
            if not self.follow_links:
                yield Skipped(printable(path), "symbolic-link")
                return
            real = os.path.realpath(path)
            if os.path.isdir(real):
                below.append((real, relative + "/"))
                return
            if self.covered(real) or not self.first_time(real):
                return
            yield from self.one(real, relative)
        elif not entry.is_file(follow_symlinks=False):
            yield Skipped(printable(path), "special-file")
        elif (self.listing or self.follow_links) and not self.first_time(path):
            return
        elif self.with_stat or archives.hinted(entry.name):
            yield from self.one(path, relative)
        elif self.filters.takes(printable(relative)):
            self.waiting.append(Entry(path))
            yield from self.flush(MOST)
        else:
            yield Skipped(printable(path), "filtered")

    def one(self, path: str, relative: str) -> Iterator[Task | Skipped]:
        try:
            status = os.stat(path)
        except OSError as error:
            yield _failed(path, error)
            return
        if not stat.S_ISREG(status.st_mode):
            yield Skipped(printable(path), "special-file")
            return
        yield from self.sorted(Entry(path, status.st_size, status.st_mtime_ns), relative)

    def sorted(self, entry: Entry, relative: str) -> Iterator[Task | Skipped]:
        """Put an entry where it goes: an archive for itself, a file to the others, or nowhere."""
        path = entry.path
        shown = printable(relative)
        if archives.hinted(path) and archives.sniff(path):
            # An --include of file names means the members, not the archive that holds them.
            if self.filters.excludes(shown):
                yield Skipped(printable(path), "filtered")
            else:
                yield from self.archive(entry)
        elif self.filters.takes(shown):
            self.waiting.append(entry)
            yield from self.flush(MOST)
        else:
            yield Skipped(printable(path), "filtered")

    def archive(self, entry: Entry) -> Iterator[Task]:
        count = archives.count(entry.path)
        if count is None or self.with_stat:
            # A kept state replaces what an archive gave in one transaction: one task.
            yield Task("archive", (entry,), 0, count)
            return
        size = max(MEMBERS, -(-count // PARTS))
        for first in range(0, max(count, 1), size):
            yield Task("archive", (entry,), first, min(count, first + size))

    def input(self, item: Input) -> Iterator[Task | Skipped]:
        if item.folder:
            self.named_folders.append(item.real)
        if self.covered(item.real) or not self.first_time(item.real):
            return
        if is_remote(item.real):
            yield from self.far(item)
        elif item.folder:
            self.roots.add(item.real)
            yield from self.walk(item.real)
            self.walked.add(item.real)
        else:
            yield from self.one(item.real, os.path.basename(item.real))

    def name(self, path: str) -> Iterator[Task | Skipped]:
        """One path of a list: one that is gone is a value, for the others are wanted all the same."""
        if is_remote(path) and not path.startswith(LOCAL):
            # what ends with a slash is a folder: to ask for each of many would take long
            yield from self.input(Input(path, path.rstrip("/"), folder=path.endswith("/")))
            return
        real = os.path.realpath(local_path(path) or path)
        try:
            mode = os.stat(real).st_mode
        except OSError as error:
            self.named_folders.append(real)  # it may have been one
            yield _failed(os.path.abspath(path), error)
            return
        folder = stat.S_ISDIR(mode)
        if stat.S_ISREG(mode) and _is_dicomdir(real):  # who opens a pipe waits for its writer
            real, folder = os.path.dirname(real), True
        yield from self.input(Input(path, real, folder))


def _failed(path: str, error: OSError) -> Skipped:
    if isinstance(error, PermissionError):
        return Skipped(printable(path), "permission-denied")
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Skipped(printable(path), "not-found")
    return Skipped(printable(path), "read-error", error.strerror or "")


def plan(
    inputs: Sequence[Input | str],
    *,
    names: Iterable[str] = (),
    filters: Filters | None = None,
    follow_links: bool = False,
    with_stat: bool = False,
    folders: list[str] | None = None,
) -> Iterator[Task | Skipped]:
    """Turn inputs into tasks.

    Parameters
    ----------
    inputs : sequence of Input or str
        Files, folders, archives; what `look` gave, or names that it is asked about first.
    names : iterable of str
        More paths, such as `listed` gives; read as they come, so that the list may be long.
    filters : Filters
    follow_links : bool
        Follow symbolic links that a folder holds; an input that is one is always followed.
    with_stat : bool
        Give size and time of each file, as a kept state needs them.
    folders : list of str, optional
        Takes the folders that inputs and names name, and names that are not there, as they are met.

    Raises
    ------
    SourceError
        An input does not exist; raised before the first task.
    """
    looked = [item for text in inputs if isinstance(text, str) for item in look([text])]
    looked += [item for item in inputs if isinstance(item, Input)]
    return _plan(
        looked,
        names,
        _Planner(
            filters or Filters(),
            follow_links=follow_links,
            with_stat=with_stat,
            folders=[] if folders is None else folders,
        ),
    )


def _plan(inputs: list[Input], names: Iterable[str], planner: _Planner) -> Iterator[Task | Skipped]:
    planner.roots = {item.real for item in inputs if item.folder}
    for item in sorted(inputs, key=lambda item: item.real):
        yield from planner.input(item)
    planner.listing = True
    for name in names:
        yield from planner.name(name)
    yield from planner.flush()
