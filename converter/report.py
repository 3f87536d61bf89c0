# ruff: noqa: D102  the properties of a protocol say by their names what they are
"""The report of a run: JSON for machines, a table for people.

Streamed: a million studies are written one by one, so memory does not grow with them. No attribute value
of a patient's is in a report; paths may name one, so the file is private and paths can be hashed.
``docs/report.schema.json`` is its schema.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from converter import __version__
from converter.core.reasons import REASONS
from converter.retry import REPORT_VERSION, TOOL, retry_inputs
from converter.sinks.atomic import guarded, is_stream
from converter.sinks.output import SingleFile, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from rich.console import Console
    from rich.table import Table

    from converter.core.issues import Issue

__all__ = [
    "REPORT_VERSION",
    "FailedRun",
    "RunLike",
    "SkippedLike",
    "StudyLike",
    "redacted",
    "report",
    "retry_inputs",
    "summary",
    "write_report",
]

NAMED = 3
"""Studies that a summary names of some."""
_UID = re.compile(r"[0-9.]{1,64}")


class StudyLike(Protocol):
    """What became of one study."""

    @property
    def study_instance_uid(self) -> str: ...
    @property
    def resource(self) -> str: ...
    @property
    def profiles(self) -> Sequence[str]: ...
    @property
    def state(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def issues(self) -> Sequence[Issue]: ...
    @property
    def series(self) -> int: ...
    @property
    def instances(self) -> int: ...


class SkippedLike(Protocol):
    """An input that was left out."""

    @property
    def path(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def detail(self) -> str: ...


class RunLike(Protocol):
    """What a report needs of a run (`converter.pipeline.RunResult`)."""

    inputs: tuple[str, ...]
    interrupted: bool
    outputs: tuple[str, ...]
    pruned: tuple[str, ...]
    gone: tuple[str, ...]
    counts: dict[str, int]
    resources: dict[str, int]
    skipped_counts: dict[str, int]
    held_counts: dict[str, int]
    issue_counts: dict[str, int]
    profiles_asked: tuple[str, ...]
    profiles_met: dict[str, int]

    @property
    def unpruned(self) -> SkippedLike | None: ...

    def studies(self) -> Iterable[StudyLike]:
        """Every study, by UID."""

    def skipped(self) -> Iterable[SkippedLike]:
        """Every input that was left out, by path."""


def redacted(path: str) -> str:
    """Hash that stands for a path. It hides the path from a reader, not from one who guesses names."""
    return f"sha256:{hashlib.sha256(path.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}"


def report(
    run: RunLike, *, exit_code: int, redact: bool = False, error: str = ""
) -> Iterator[bytes]:
    """Give the report in pieces, one entry a line.

    Parameters
    ----------
    run : RunLike
    exit_code : int
        What the process will end with.
    redact : bool
        Hashes instead of paths (``--redact-paths``).
    error : str
        What ended the run before its end.
    """
    shown: Callable[[str], str] = redacted if redact else _printable
    head: dict[str, Any] = {
        "report_version": REPORT_VERSION,
        "tool": TOOL,
        "version": __version__,
        "redacted": redact,
        "inputs": [
            shown(path if "://" in path else os.path.abspath(path))  # noqa: PTH100  keeps links
            for path in run.inputs
        ],
        "ended": "failed" if error else "interrupted" if run.interrupted else "done",
        # a message names the output, as the user did
        "error": None if redact else error or None,
        "interrupted": run.interrupted,
        "exit_code": exit_code,
        "counts": {
            **{
                name: run.counts.get(name, 0)
                for name in ("files", "instances", "series", "studies")
            },
            "resources": run.resources,
            "skipped": run.skipped_counts,
            "held": run.held_counts,
            "findings": run.issue_counts,
        },
        "profiles": {"asked": list(run.profiles_asked), "met": run.profiles_met},
        "outputs": list(run.outputs),
        "pruned": list(run.pruned),
        "gone": list(run.gone),
        "not_pruned": _unpruned(run.unpruned, shown),
    }
    yield orjson.dumps(head, option=orjson.OPT_INDENT_2)[:-2]
    yield b',\n  "studies": ['
    yield from _lines(_study(study, shown) for study in run.studies())
    yield b'],\n  "skipped": ['
    yield from _lines(
        {"path": shown(item.path), "reason": item.reason, "detail": item.detail}
        for item in run.skipped()
    )
    yield b"]\n}\n"


def _lines(entries: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    separator = b"\n    "
    for entry in entries:
        yield separator + orjson.dumps(entry)
        separator = b",\n    "
    if separator.startswith(b","):
        yield b"\n  "


def _unpruned(place: SkippedLike | None, shown: Callable[[str], str]) -> dict[str, Any] | None:
    if place is None:
        return None
    return {"path": shown(place.path) if place.path else None, "reason": place.reason}


def _study(study: StudyLike, shown: Callable[[str], str]) -> dict[str, Any]:
    return {
        "study_instance_uid": study.study_instance_uid,
        "resource": study.resource or None,
        "profiles": list(study.profiles),
        "state": study.state,
        "reason": study.reason or None,
        "series": study.series,
        "instances": study.instances,
        "findings": [
            {
                "severity": issue.severity,
                "code": issue.code,
                "path": issue.path,
                "keyword": issue.keyword,
                "message": issue.message,
                # an example is a UID, or the place of an input
                "examples": [e if _UID.fullmatch(e) else shown(e) for e in issue.examples],
                "count": issue.count,
            }
            for issue in study.issues
        ],
    }


def _printable(path: str) -> str:
    """Write what is no UTF-8 in a file name, which JSON cannot hold, as escapes."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@dataclass
class FailedRun:
    """All that is known of a run that ended before its end: what it was to read, and how far it came."""

    inputs: tuple[str, ...]
    counts: dict[str, int]
    interrupted: bool = False
    outputs: tuple[str, ...] = ()
    pruned: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    unpruned: SkippedLike | None = None
    resources: dict[str, int] = field(default_factory=dict)
    skipped_counts: dict[str, int] = field(default_factory=dict)
    held_counts: dict[str, int] = field(default_factory=dict)
    issue_counts: dict[str, int] = field(default_factory=dict)
    profiles_asked: tuple[str, ...] = ()
    profiles_met: dict[str, int] = field(default_factory=dict)

    def studies(self) -> Iterable[StudyLike]:
        """None: what became of them nobody knows."""
        return ()

    def skipped(self) -> Iterable[SkippedLike]:
        """None, likewise."""
        return ()


def write_report(
    path: str, run: RunLike, *, exit_code: int, redact: bool = False, error: str = ""
) -> None:
    """Write the report to a file, 0600, whole or not at all; to a pipe or device as it comes.

    Raises
    ------
    SinkError
        The file cannot be written.
    """
    target = Path(path)
    output: SingleFile | Stream
    if is_stream(target):
        with guarded(path):
            output = Stream(target.open("wb"), path, owned=True)
    else:
        output = SingleFile(target)
    try:
        for piece in report(run, exit_code=exit_code, redact=redact, error=error):
            output.write(piece)
        output.close()
    except BaseException:
        output.abort()
        raise


def summary(run: RunLike, console: Console, *, exit_code: int, advice: str = "") -> None:
    """Print the one table at the end of a run.

    Parameters
    ----------
    run : RunLike
    console : rich.console.Console
        Of standard error.
    exit_code : int
    advice : str
        How to go on, such as after an interruption.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    for name in ("studies", "series", "instances", "files"):
        table.add_row(name.capitalize(), _number(run.counts.get(name, 0)), "")
    _rows(table, "Resources", run.resources, lambda name: name)
    _rows(table, "Skipped", run.skipped_counts, _meaning)
    _rows(table, "Held", run.held_counts, _meaning)
    _rows(table, "Findings", run.issue_counts, _meaning)
    studies = run.resources.get("ImagingStudy", 0)
    for number, url in enumerate(run.profiles_asked):
        met = f"{_number(run.profiles_met.get(url, 0))}"
        table.add_row("" if number else "Profiles met", met, Text(f"of {_number(studies)}: {url}"))
    if run.pruned:
        table.add_row("Pruned", _number(len(run.pruned)), "studies, of which the inputs hold less")
    if run.gone:
        some = ", ".join(run.gone[:NAMED])
        more = f" and {_number(len(run.gone) - NAMED)} more" if len(run.gone) > NAMED else ""
        table.add_row("", _number(len(run.gone)), Text(f"of which nothing is left: {some}{more}"))
    if console.is_terminal:
        console.print(table)
    else:  # rich fills each line with blanks
        with console.capture() as drawn:
            console.print(table)
        console.file.writelines(f"{line.rstrip()}\n" for line in drawn.get().splitlines())
    if run.interrupted:
        console.print(Text(f"Interrupted; what was done stays. {advice}".rstrip()))
    elif exit_code:
        console.print(Text(f"Exit code {exit_code}. {advice}".rstrip()))


def _rows(table: Table, title: str, counts: Mapping[str, int], say: Callable[[str], str]) -> None:
    from rich.text import Text

    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    for number, (name, count) in enumerate(ordered):
        table.add_row("" if number else title, _number(count), Text(say(name)))


def _meaning(code: str) -> str:
    known = REASONS.get(code)
    return f"{code}: {known.meaning}" if known else code


def _number(value: int) -> str:
    return f"{value:,}"
