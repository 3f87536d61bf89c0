"""Files that a run is to write: refused before anything is read, where they would replace what they must not."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from converter.cli.common import usage
from converter.errors import SinkError
from converter.sources.task import Own
from converter.store.address import is_url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converter.settings import ConvertSettings

__all__ = ["own", "refuse_targets"]

_PREAMBLE = 128
_BESIDE = ("", ".lock", "-wal", "-shm", "-journal")
"""What a state file has beside it."""


def own(settings: ConvertSettings) -> Own:
    """What the run writes, which may lie in a folder that it reads."""
    output, report, state = (
        os.path.realpath(value) if value and value != "-" and not is_url(value) else ""
        for value in (settings.output, settings.report, settings.state)
    )
    files = {output, report, *(state + end for end in _BESIDE if state)} - {""}
    return Own(output, frozenset(files))


def refuse_targets(settings: ConvertSettings, inputs: Sequence[str]) -> None:
    """Refuse an output, report or state that is an input or another DICOM file, or two that are one file.

    Raises
    ------
    click.UsageError
    SinkError
        The report could not be written in the end.
    """
    named = {"output": settings.output, "report": settings.report, "state": settings.state}
    files = {
        option: Path(value)
        for option, value in named.items()
        if value and value != "-" and not is_url(value)
    }
    taken: dict[str, str] = {}
    for option, path in files.items():
        other = taken.setdefault(os.path.realpath(path), option)
        if other != option:
            raise usage(f"--{other} and --{option} name one file: name two.")
    # of an input folder nothing is known yet but what a file in it begins with
    sources = {os.path.realpath(name) for name in inputs if Path(name).is_file()}
    for option, path in files.items():
        if os.path.realpath(path) in sources:
            raise usage(f"--{option} names an input, which it would replace. Name another file.")
        if _is_dicom(path):
            raise usage(
                f"--{option} names a DICOM file, which it would replace. Name another file."
            )
    if report := files.get("report"):
        _refuse_report(report)


def _refuse_report(path: Path) -> None:
    if path.is_dir():
        raise usage("--report names a folder. Name a file in it.")
    if path.exists() and not path.is_file():
        return  # a pipe or device
    folder = path.parent
    if not folder.is_dir():
        raise SinkError(f"{path} cannot be written: there is no folder {folder}. Make it first.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SinkError(f"{path} cannot be written: this user may not write in {folder}.")


def _is_dicom(path: Path) -> bool:
    with suppress(OSError):
        if path.is_file():
            with path.open("rb") as file:
                return file.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"
    return False
