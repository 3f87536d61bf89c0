"""One JSON file a resource: ``ImagingStudy/<id>.json``, ``Patient/<id>.json``."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING

import orjson

from converter.core.merge import study_uid
from converter.errors import SinkError, StandingError
from converter.sinks.atomic import (
    LOCK_NAME,
    Lock,
    content_of,
    guarded,
    make_private_folder,
    refusal,
    replace_file,
    sync_folder,
)

if TYPE_CHECKING:
    from pathlib import Path

    from converter.sinks.interface import Json

__all__ = ["FileSink", "Files", "encode", "read_standing", "relative_path"]

_TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}")
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
TEMPORARY = ".dcm2fhir.tmp"
_LEFT = re.compile(r"\.dcm2fhir\.[0-9]+\.tmp")
"""Temporary files of workers."""


def encode(resource: Json, *, pretty: bool = True) -> bytes:
    """Bytes of a resource file: by default with an indent of two, and a newline at the end."""
    options = orjson.OPT_APPEND_NEWLINE | (orjson.OPT_INDENT_2 if pretty else 0)
    return orjson.dumps(resource, option=options)


def relative_path(resource_type: str, resource_id: str) -> str:
    """Path of a resource in the output; only what FHIR allows in type and id becomes one.

    Raises
    ------
    SinkError
        Type or id would be no safe name.
    """
    if not _TYPE.fullmatch(resource_type) or not _ID.fullmatch(resource_id):
        raise SinkError("A resource has no valid type or id, so it has no file name.")
    return f"{resource_type}/{resource_id}.json"


def read_standing(folder: Path, resource_type: str, resource_id: str) -> Json | None:
    """Resource that stands in an output folder.

    Raises
    ------
    StandingError
        The file is there and cannot be read, or is no such resource.
    """
    path = f"{os.fspath(folder)}/{relative_path(resource_type, resource_id)}"
    try:
        content = content_of(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unreadable(folder, resource_type) from error
    try:
        resource = orjson.loads(content)
    except orjson.JSONDecodeError:
        # from None: the decoder's message shows the document
        raise _unreadable(folder, resource_type) from None
    if not isinstance(resource, dict) or resource.get("resourceType") != resource_type:
        raise _unreadable(folder, resource_type)
    return resource


def _unreadable(folder: Path, resource_type: str) -> StandingError:
    return StandingError(
        f"The {resource_type} that stands in {folder} cannot be read: look at it, and move it away."
    )


class Files:
    """Resources in a folder that a `FileSink` holds: what reads and writes them, picklable for its workers.

    Parameters
    ----------
    folder : Path
    pretty, durable : bool
        See `FileSink`.
    looked_for : frozenset of str, optional
        Types of which something may stand; default: any.
    """

    def __init__(
        self,
        folder: Path,
        *,
        pretty: bool = True,
        durable: bool = False,
        looked_for: frozenset[str] | None = None,
    ) -> None:
        self.folder = folder
        self.pretty = pretty
        self.durable = durable
        self._looked_for = looked_for
        self._temporary = TEMPORARY
        self._folders: set[str] = set()
        self._absent = ""
        """What was looked for last and is not there."""
        self._root = os.fspath(folder)

    def in_worker(self) -> None:
        """Take temporary names that no other process takes."""
        self._temporary = f".dcm2fhir.{os.getpid()}.tmp"

    def stands(self, resource_type: str, resource_id: str) -> Json | None:
        """Resource that stands in the folder."""
        if self._is_new(resource_type):
            return None
        found = read_standing(self.folder, resource_type, resource_id)
        self._absent = relative_path(resource_type, resource_id) if found is None else ""
        return found

    def _is_new(self, resource_type: str) -> bool:
        return self._looked_for is not None and resource_type not in self._looked_for

    def write(self, resource: Json) -> str:
        """Write a resource; a file that holds the same bytes is left alone."""
        resource_type = str(resource.get("resourceType", ""))
        relative = relative_path(resource_type, str(resource.get("id", "")))
        path = f"{self._root}/{relative}"
        data = encode(resource, pretty=self.pretty)
        absent = relative == self._absent or self._is_new(resource_type)
        temporary = f"{self._root}/{resource_type}/{self._temporary}"
        try:
            if resource_type not in self._folders:
                make_private_folder(self.folder / resource_type)
                self._folders.add(resource_type)
            if absent or not _holds(path, data):
                try:
                    replace_file(path, temporary, data, durable=self.durable)
                except FileNotFoundError:
                    # somebody took the folder away since it was made
                    make_private_folder(self.folder / resource_type)
                    replace_file(path, temporary, data, durable=self.durable)
        except OSError as error:
            uid = study_uid(resource) if resource_type == "ImagingStudy" else ""
            raise refusal(error, self.folder, uid) from error
        return relative


class FileSink(Files):
    """Folder of JSON files.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    pretty : bool
        Indent, so that people and ``diff`` can read it.
    durable : bool
        Sync each file before it takes its name: a power cut then loses none that was reported.
    once : bool
        Each resource is written but once while it is open, so that types of which none stood when it was opened
        need not be looked for.
    """

    def __init__(
        self, folder: Path, *, pretty: bool = True, durable: bool = False, once: bool = False
    ) -> None:
        super().__init__(folder, pretty=pretty, durable=durable)
        self._stood: set[str] = set()
        self._shared = False
        if folder.exists() and not folder.is_dir():
            raise SinkError(f"{folder} is a file: --format json wants a folder.")
        with guarded(folder):
            make_private_folder(folder)
        self._lock = Lock(folder / LOCK_NAME, folder)
        try:
            with guarded(folder):
                self._look()
            if once:
                self._looked_for = frozenset(self._stood)
            if self._lock.left:
                self.sweep()
        except BaseException:
            self._lock.release()
            raise

    def _look(self) -> None:
        """Note which types stand, and remove what a killed run left of the file that it wrote itself."""
        for entry in os.scandir(self.folder):
            if _TYPE.fullmatch(entry.name) and entry.is_dir():
                self._stood.add(entry.name)
                (self.folder / entry.name / TEMPORARY).unlink(missing_ok=True)

    def holds(self, resource_type: str) -> bool:
        """Whether the folder held resources of a type when it was opened."""
        return resource_type in self._stood

    def for_workers(self) -> Files:
        """What worker processes of this run write with, which call `Files.in_worker` first."""
        self._shared = True
        return Files(
            self.folder, pretty=self.pretty, durable=self.durable, looked_for=self._looked_for
        )

    def wrote(self, resource_type: str) -> None:
        """Note that a worker wrote a resource."""
        self._folders.add(resource_type)

    def sweep(self) -> None:
        """Remove what workers left that were killed in the middle of a file."""
        with guarded(self.folder):
            for kind in os.scandir(self.folder):
                if _TYPE.fullmatch(kind.name) and kind.is_dir():
                    for entry in os.scandir(kind.path):
                        if _LEFT.fullmatch(entry.name):
                            os.unlink(entry.path)  # noqa: PTH108

    def close(self) -> list[str]:
        """Let go of the folder."""
        try:
            if self.durable:
                with guarded(self.folder):
                    for name in self._folders:
                        sync_folder(self.folder / name)
                    sync_folder(self.folder)
        finally:
            self._lock.release()
        return [f"{name}/" for name in sorted(self._folders)]

    def abort(self) -> None:
        """Let go of the folder; each file that was written is whole and stays."""
        if self._shared and self._lock.held:
            with suppress(SinkError):  # the run ends for a reason of its own
                self.sweep()
        self._lock.release()


def _holds(path: str, data: bytes) -> bool:
    try:
        return os.stat(path).st_size == len(data) and content_of(path) == data  # noqa: PTH116
    except FileNotFoundError:
        return False
