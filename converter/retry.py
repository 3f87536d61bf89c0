"""What of an earlier run is worth another try, by its report."""

from __future__ import annotations

import os
import re
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from converter.core.reasons import REASONS
from converter.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["REPORT_VERSION", "TOOL", "retry_inputs"]

REPORT_VERSION = 1
"""Version of ``docs/report.schema.json``: goes up when something a script relies on changes."""

TOOL = "dcm2fhir"
HIDDEN = "?hidden-"
"""What a report shows of an address that asks for something, which may be a signature."""


class _SkippedEntry(msgspec.Struct):
    path: str
    reason: str


class _StudyEntry(msgspec.Struct):
    state: str


class _Report(msgspec.Struct):
    tool: str
    report_version: int
    inputs: list[str]
    redacted: bool
    studies: list[_StudyEntry]
    skipped: list[_SkippedEntry]
    ended: str = "done"


def retry_inputs(report_file: str | os.PathLike[str]) -> list[str]:
    """Inputs of an earlier run that are worth another try (``--retry-from``).

    These are the skipped inputs whose reason is a failure; of an archive's member the archive. If a study
    failed, all inputs are, since a report does not say which files a study came from, and so they are where the
    run did not come to its end. Studies that were
    held for a person to decide are not tried again.

    Parameters
    ----------
    report_file : path

    Returns
    -------
    list of str
        Paths, sorted; empty where nothing failed.

    Raises
    ------
    ConfigurationError
        No such report, no report of ours, or one with hashes for paths.
    """
    where = os.fspath(report_file)
    try:
        held = msgspec.json.decode(Path(where).read_bytes(), type=_Report)
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise ConfigurationError(f"--retry-from {where}: cannot be read: {why}.") from error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        # from None: the decoder's message may show the document
        raise ConfigurationError(f"--retry-from {where}: this is no report of {TOOL}.") from None
    if held.tool != TOOL or held.report_version > REPORT_VERSION:
        raise ConfigurationError(
            f"--retry-from {where}: written by another program or a newer version."
        )
    if held.redacted:
        raise ConfigurationError(
            f"--retry-from {where}: it holds hashes instead of paths (--redact-paths); name the inputs again."
        )
    if held.ended != "done" or any(study.state == "failed" for study in held.studies):
        if not held.inputs:
            raise ConfigurationError(
                f"--retry-from {where}: its inputs came from a list (--from-file); name that list again."
            )
        return sorted({_as_named(path) for path in held.inputs})
    failed = {item.path for item in held.skipped if _failure(item.reason)}
    return sorted(set(chain.from_iterable(_candidates(path, held.inputs) for path in failed)))


def _failure(reason: str) -> bool:
    known = REASONS.get(reason)
    return known is None or known.failure


_ESCAPE = re.compile(r"\\x([89a-f][0-9a-f])")


def _as_named(path: str) -> str:
    """Path as the file system has it: a report holds bytes that are no UTF-8 as escapes."""
    if os.path.lexists(path):
        return path
    # a report is UTF-8 whatever the locale
    here = os.fsdecode(path.encode("utf-8", "surrogateescape"))
    # Python's form of such a byte in a name (PEP 383)
    named = _ESCAPE.sub(lambda found: chr(0xDC00 + int(found[1], 16)), here)
    return named if os.path.lexists(named) else here


def _candidates(path: str, inputs: Sequence[str]) -> list[str]:
    """Where a path of a report lies, of an archive's member the archive."""
    file, mark, _ = path.rpartition("!/")
    places = _places(path, inputs)
    if not mark or any(map(os.path.lexists, places)):  # a folder's name may end with the mark
        return places
    return _candidates(file, inputs)


def _places(file: str, inputs: Sequence[str]) -> list[str]:
    """Where a file of a report lies: it is relative to one of the inputs, the report does not say which."""
    stores = [given for given in inputs if "://" in given and not given.startswith("file://")]
    if any(HIDDEN in address for address in (file, *stores)):
        raise ConfigurationError(
            "--retry-from: a signed address is in no report; name the inputs again."
        )
    if "://" in file:  # it came from a list, as does the next
        return [file]
    if os.path.isabs(file):  # noqa: PTH117
        return [_as_named(file)]
    if itself := [given for given in stores if given.rstrip("/").rpartition("/")[2] == file]:
        return itself
    places = []
    for given in map(_as_named, (given for given in inputs if given not in stores)):
        # a DICOMDIR stands for its folder
        folder = os.path.dirname(given) if os.path.basename(given).upper() == "DICOMDIR" else given  # noqa: PTH119, PTH120
        if os.path.basename(given) == file and not os.path.isdir(given):  # noqa: PTH112, PTH119
            places.append(given)
        else:
            places.append(_as_named(os.path.join(folder, file)))  # noqa: PTH118
    there = [place for place in places if os.path.lexists(place)]
    if not there and stores:  # which are not asked now: all of them where it may lie in several
        return stores if stores[1:] else [f"{stores[0].rstrip('/')}/{file}"]
    return there or places[:1]  # one that has gone is named by the error of the next run
