"""What the sources pass on: tasks of work, results, and inputs that are left out."""

from __future__ import annotations

import fnmatch
import os
import re
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, Final, Literal, NamedTuple

import msgspec

__all__ = [
    "Entry",
    "Filters",
    "Own",
    "Packed",
    "Skipped",
    "Task",
    "TaskResult",
    "is_remote",
    "legible",
    "printable",
]

HIDDEN = "hidden-"
"""Stands in an address for what was asked for, with a digest of it."""


def is_remote(name: str) -> bool:
    """Whether a name is an address: a path of this machine that was looked up has no two slashes in a row."""
    return "://" in name


def printable(name: str) -> str:
    """Make a name fit for text: bytes that are no UTF-8 become escapes, what opens an address is left out."""
    if is_remote(name):
        return _without_secrets(legible(name))
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def legible(name: str) -> str:
    """Do as `printable` with what is text already, whatever the locale: a member's name, an address."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _without_secrets(address: str) -> str:
    """Take the password of an address away, and hide what is asked for: that may be a signature."""
    scheme, _, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    user, at, place = host.rpartition("@")
    if at and (":" in user or scheme.startswith("http")):
        host = place
    if scheme.startswith("http"):
        path, mark, asked = path.partition("?")
        if mark:
            path += f"?{HIDDEN}{blake2b(asked.encode(), digest_size=4).hexdigest()}"
    return f"{scheme}://{host}{slash}{path}"


class Skipped(NamedTuple):
    """An input that gives no instance, and why."""

    path: str
    """Absolute path, or ``archive.zip!/member``; may name a patient: for the report only."""
    reason: str
    """A reason code of `converter.core.reasons.REASONS`."""
    detail: str = ""


class Entry(NamedTuple):
    """One file to read."""

    path: str
    size: int = -1
    """Bytes; -1 where it was not asked for (no kept state)."""
    mtime_ns: int = -1
    """Or what tells one version of an object in a store from another."""

    @property
    def key(self) -> bytes:
        """Name in a kept state."""
        return printable(self.path).encode() if is_remote(self.path) else os.fsencode(self.path)

    @property
    def known(self) -> bool:
        """Whether anything tells this version of it from another."""
        return self.mtime_ns != -1 or not is_remote(self.path)


class Task(NamedTuple):
    """A piece of work for one worker: some files, or (a part of) one archive."""

    kind: Literal["files", "archive"]
    entries: tuple[Entry, ...]
    first: int = 0
    last: int | None = None
    """Range of members of an archive; ``None`` for all."""

    def __reduce__(self) -> tuple[Any, ...]:
        """To a worker as one text: entry by entry its way would cost a tenth of what is done there."""
        if not self.entries or any(entry[1:] != (-1, -1) for entry in self.entries):
            return Task, tuple(self)
        paths = "\0".join([entry.path for entry in self.entries])
        return _of_paths, (self.kind, paths, self.first, self.last)

    def halves(self) -> list[Task]:
        """Split, to find the one file that kills its reader; an empty list where it cannot be split."""
        if self.kind == "files":
            middle = len(self.entries) // 2
            if not middle:
                return []
            return [
                self._replace(entries=self.entries[:middle]),
                self._replace(entries=self.entries[middle:]),
            ]
        if self.last is None or self.last - self.first < 2:
            return []
        middle = (self.first + self.last) // 2
        return [self._replace(last=middle), self._replace(first=middle)]


def _of_paths(kind: Literal["files", "archive"], paths: str, first: int, last: int | None) -> Task:
    return Task(kind, tuple(map(Entry, paths.split("\0"))), first, last)


class Packed(msgspec.Struct, array_like=True, frozen=True):
    """A packed block and what the store must know of it."""

    study_uid: str
    series_uid: str
    rows: int
    data: bytes
    """What `converter.core.study.pack_block` gave."""
    entries: list[int]
    """Indices of the task's entries whose instances are in it."""


class TaskResult(msgspec.Struct, array_like=True):
    """What reading a task (or a bounded part of it) gave."""

    blocks: list[Packed]
    skipped: list[tuple[int, str, str, str]]
    """(index of the entry, path, reason, detail)."""
    files: int = 0
    """Files and members that were looked at."""
    instances: int = 0
    done: int = 0
    """Entries of the task that are finished with this part."""


_WRITTEN = re.compile(
    r"[A-Z][A-Za-z]{1,63}/[A-Za-z0-9\-.]{1,64}\.json"
    r"|[A-Z][A-Za-z]{1,63}\.[0-9]{3,}\.ndjson|manifest\.json|bundle-[0-9]{3,}\.json"
)
"""Files of a sink, by their path in its folder; what else lies there is an input like any other."""
_PASSING = ".dcm2fhir."
"""What the names of our locks and temporary files begin with."""


class Own(NamedTuple):
    """What the run itself writes, by real path: a walk that meets it passes by."""

    output: str = ""
    """Folder that resources go to."""
    files: frozenset[str] = frozenset()

    def near(self, folder: str) -> bool:
        """Whether any of it may lie in a folder, itself and not further down."""
        return folder in {self.output, *map(os.path.dirname, self.files)} or (
            self.output != "" and os.path.dirname(folder) == self.output
        )

    def holds(self, path: str) -> bool:
        """Whether a file in such a folder is part of it."""
        if path in self.files or os.path.basename(path).startswith(_PASSING):
            return True
        root = self.output.rstrip("/") + "/"
        found = bool(self.output) and path.startswith(root) and _WRITTEN.fullmatch(path, len(root))
        return bool(found)


NOTHING: Final = Own()


@dataclass(frozen=True)
class Filters:
    """What the command line asks to leave out. Empty is no filter."""

    modalities: tuple[str, ...] = ()
    study_uids: frozenset[str] = frozenset()
    include: tuple[str, ...] = ()
    """Globs: without a slash they match the name, else the path relative to its input."""
    exclude: tuple[str, ...] = ()
    own: Own = NOTHING

    @cached_property
    def _included(self) -> tuple[tuple[bool, re.Pattern[str]], ...]:
        return _globs(self.include)

    @cached_property
    def _excluded(self) -> tuple[tuple[bool, re.Pattern[str]], ...]:
        return _globs(self.exclude)

    def excludes(self, relative: str) -> bool:
        """Whether an ``--exclude`` glob names this path."""
        return _matches(self._excluded, relative)

    def takes(self, relative: str) -> bool:
        """Whether the globs let this path (relative to its input) through."""
        if self.include and not _matches(self._included, relative):
            return False
        return not self.excludes(relative)

    def key(self) -> str:
        """Text that is the same for the same filters: files are read again when it changes."""
        parts = (sorted(self.modalities), sorted(self.study_uids))
        globs = (sorted(self.include), sorted(self.exclude))
        return repr((*parts, *globs)) if any((*parts, *globs)) else ""


def _globs(globs: tuple[str, ...]) -> tuple[tuple[bool, re.Pattern[str]], ...]:
    return tuple(("/" in glob, re.compile(fnmatch.translate(glob.lstrip("/")))) for glob in globs)


def _matches(globs: tuple[tuple[bool, re.Pattern[str]], ...], relative: str) -> bool:
    name = relative.rpartition("/")[2]
    return any(glob.match(relative if whole else name) for whole, glob in globs)
