"""Bundles: a folder of ``bundle-000.json`` ..., one file, or a stream.

What goes into which Bundle can be told only when all is known, so resources wait in an unnamed temporary
file and memory holds no more than where each one is and what it refers to.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, BinaryIO

import orjson

from converter.core.bundle import bundle_id, entry, group, key, references
from converter.core.merge import study_uid
from converter.sinks.atomic import Replacement, guarded
from converter.sinks.files import relative_path
from converter.sinks.interface import Anew

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from converter.core.bundle import BundleType, Key, Method
    from converter.sinks.interface import Json
    from converter.sinks.output import Output

__all__ = ["BundleSink"]


class BundleSink(Anew):
    """Shares resources out to Bundles, a study never apart from its Patient.

    Parameters
    ----------
    output : Path or Output
        A folder, or one file or stream, which holds one Bundle of all.
    kind : {"transaction", "batch", "collection"}
    method : {"put", "create"}
        What a transaction asks for, see `converter.core.bundle.entry`.
    max_entries : int
        Greatest number of entries of a Bundle in a folder; 0 is no limit.
    """

    def __init__(
        self,
        output: Path | Output,
        kind: BundleType = "transaction",
        method: Method = "put",
        *,
        max_entries: int = 0,
    ) -> None:
        self.kind = kind
        self.method = method
        self.max_entries = max_entries
        self._single: Output | None = None
        self._files: Replacement | None = None
        if isinstance(output, os.PathLike):
            self._where, folder = str(output), output
            self._files = Replacement(folder)
        else:
            self._where, folder = output.name, None
            self._single = output
        self._places: dict[Key, tuple[int, int]] = {}
        self._links: dict[Key, tuple[Key, ...]] = {}
        try:
            with guarded(self._where):
                self._spool: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed by close and abort
        except BaseException:
            self._undo()
            raise
        self._end = 0

    def write(self, resource: Json) -> str:
        """Keep a resource until all are there."""
        resource_type = str(resource.get("resourceType", ""))
        relative_path(
            resource_type, str(resource.get("id", ""))
        )  # refuses what has no proper type or id
        data = orjson.dumps(resource)
        with guarded(self._where, study_uid(resource) if resource_type == "ImagingStudy" else ""):
            self._spool.write(data)
        of = key(resource)
        self._places[of] = (self._end, len(data))
        self._links[of] = tuple(sorted(references(resource)))
        self._end += len(data)
        return self._where

    def _read(self, of: Key) -> Json:
        offset, length = self._places[of]
        self._spool.seek(offset)
        resource: Json = orjson.loads(self._spool.read(length))
        return resource

    def _bundle(self, keys: list[Key]) -> Iterator[bytes]:
        """Bundle in pieces, each entry on a line of its own."""
        present = set(keys)
        head = {"resourceType": "Bundle", "id": bundle_id(keys, self.kind), "type": self.kind}
        yield orjson.dumps(head)[:-1]
        for number, of in enumerate(keys):
            made = entry(self._read(of), self.kind, self.method, present.__contains__)
            yield (b",\n" if number else b',"entry":[\n') + orjson.dumps(made)
        yield (b"\n]" if keys else b"") + b"}\n"

    def close(self) -> list[str]:
        """Write the Bundles."""
        try:
            with guarded(self._where):
                self._spool.flush()
            written = self._to_folder() if self._files else self._to_single()
        except BaseException:
            self.abort()
            raise
        self._spool.close()
        return written

    def _to_folder(self) -> list[str]:
        assert self._files is not None
        with guarded(self._where):
            for number, keys in enumerate(group(self._links.items(), self.max_entries)):
                with self._files.create(f"bundle-{number:03d}.json") as file:
                    for piece in self._bundle(keys):
                        file.write(piece)
                    file.flush()
                    os.fsync(file.fileno())
        return self._files.commit()

    def _to_single(self) -> list[str]:
        assert self._single is not None
        for piece in self._bundle(next(group(self._links.items()), [])):
            self._single.write(piece)
        self._single.close()
        return [self._single.name]

    def abort(self) -> None:
        """Leave what an earlier run wrote."""
        self._undo()
        try:
            self._spool.close()
        except OSError:  # a full disk refuses the buffer; the file has no name and goes anyway
            return

    def _undo(self) -> None:
        if self._files is not None:
            self._files.abort()
        if self._single is not None:
            self._single.abort()
