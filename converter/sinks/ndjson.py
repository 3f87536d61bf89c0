"""NDJSON (FHIR R4 ``nd-json.html``): one resource a line, one file a type, with a manifest.

The manifest has the shape of the Bulk Data Access output manifest, so that loaders which take one find
the files. It is no answer of a server: it has no ``transactionTime`` and no ``request``, so that the same
input gives the same bytes. Each run writes all of it anew.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from converter.core.merge import study_uid
from converter.sinks.atomic import Replacement, guarded
from converter.sinks.files import relative_path
from converter.sinks.interface import Anew

if TYPE_CHECKING:
    from pathlib import Path

    from converter.sinks.interface import Json
    from converter.sinks.output import Output

__all__ = ["MANIFEST", "NdjsonSink", "NdjsonStream", "encode_line", "is_manifest"]

MANIFEST = "manifest.json"


def is_manifest(data: bytes) -> bool:
    """Whether a file named `MANIFEST` is one that we wrote, and so no resource."""
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return isinstance(found, dict) and found.keys() == {"requiresAccessToken", "output", "error"}


def encode_line(resource: Json) -> tuple[bytes, str, str]:
    """Line of a resource, its type, and its study's UID where it is a study."""
    resource_type = str(resource.get("resourceType", ""))
    relative_path(
        resource_type, str(resource.get("id", ""))
    )  # refuses what has no proper type or id
    uid = study_uid(resource) if resource_type == "ImagingStudy" else ""
    return orjson.dumps(resource, option=orjson.OPT_APPEND_NEWLINE), resource_type, uid


class NdjsonSink(Anew):
    """Folder of ``ImagingStudy.000.ndjson``, ``Patient.000.ndjson`` ... and ``manifest.json``.

    Parameters
    ----------
    folder : Path
    max_file_size : int
        Bytes after which a type goes on in its next file; a resource is never cut. 0 is no limit.
    """

    def __init__(self, folder: Path, *, max_file_size: int = 0) -> None:
        self.folder = folder
        self.max_file_size = max_file_size
        self._files = Replacement(folder)
        self._open: dict[str, BinaryIO] = {}
        self._sizes: dict[str, int] = {}
        self._outputs: dict[str, list[dict[str, Any]]] = {}

    def write(self, resource: Json) -> str:
        """Add a line."""
        line, resource_type, uid = encode_line(resource)
        with guarded(self.folder, uid):
            file = self._file(resource_type, len(line))
            file.write(line)
        self._sizes[resource_type] += len(line)
        part = self._outputs[resource_type][-1]
        part["count"] += 1
        return str(part["url"])

    def _file(self, resource_type: str, size: int) -> BinaryIO:
        file = self._open.get(resource_type)
        held = self._sizes.get(resource_type, 0)
        if file is not None and not (
            self.max_file_size and held and held + size > self.max_file_size
        ):
            return file
        if file is not None:
            self._finish(file)
        parts = self._outputs.setdefault(resource_type, [])
        name = f"{resource_type}.{len(parts):03d}.ndjson"
        parts.append({"type": resource_type, "url": name, "count": 0})
        self._sizes[resource_type] = 0
        self._open[resource_type] = self._files.create(name)
        return self._open[resource_type]

    @staticmethod
    def _finish(file: BinaryIO) -> None:
        file.flush()
        os.fsync(file.fileno())
        file.close()

    def close(self) -> list[str]:
        """Put the files in place, the manifest last."""
        outputs = [part for name in sorted(self._outputs) for part in self._outputs[name]]
        manifest: dict[str, Any] = {"requiresAccessToken": False, "output": outputs, "error": []}
        try:
            with guarded(self.folder):
                for file in self._open.values():
                    self._finish(file)
                with self._files.create(MANIFEST) as file:
                    file.write(
                        orjson.dumps(
                            manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
                        )
                    )
                    file.flush()
                    os.fsync(file.fileno())
            self._files.commit(MANIFEST)
        except BaseException:
            self.abort()
            raise
        return [*(str(part["url"]) for part in outputs), MANIFEST]

    def abort(self) -> None:
        """Remove this run's files; those of an earlier run stand."""
        close_quietly(self._open)
        self._files.abort()


def close_quietly(files: dict[str, BinaryIO]) -> None:
    """Close files that are given up: what their buffers hold is of no use any more."""
    for file in files.values():
        try:
            file.close()
        except OSError:  # a full disk refuses the buffer; the file goes anyway
            continue


class NdjsonStream(Anew):
    """All resources in one file or stream."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def write(self, resource: Json) -> str:
        """Add a line."""
        line, _, uid = encode_line(resource)
        self._output.write(line, uid)
        return self._output.name

    def close(self) -> list[str]:
        """Finish the file."""
        self._output.close()
        return [self._output.name]

    def abort(self) -> None:
        """Give the file up."""
        self._output.abort()
