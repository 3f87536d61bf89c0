"""``dcm2fhir validate``: does FHIR JSON conform to R4 and to profiles."""

from __future__ import annotations

import sys
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from converter.cli.common import Command, State, option, size, verbosity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from converter.fhir.checker import Checker
    from converter.fhir.judging import Verdict

__all__ = ["validate"]

COLUMNS = ("file", "severity", "code", "place", "message")
SUFFIXES = (".json", ".ndjson", ".jsonl")
LINES = (".ndjson", ".jsonl")
DRAWN = 1000
"""Rows that are gathered before a table is drawn on a terminal."""
NOTHING_FOUND = 4


@click.command(
    cls=Command,
    examples="""
    dcm2fhir validate ImagingStudy.json
    dcm2fhir validate fhir/ --profile uk-core --strict
    dcm2fhir convert scans/ -o - | dcm2fhir validate -
    dcm2fhir validate study.json --format operation-outcome
    """,
)
@click.argument(
    "inputs",
    metavar="FILE|FOLDER|-...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, allow_dash=True),
)
@option(
    "--profile",
    "profiles",
    metavar="NAME|FILE",
    multiple=True,
    help="Hold everything against this profile, too: uk-core, ips or a TOML file (repeatable).",
)
@option(
    "--mappings",
    metavar="PATH",
    type=click.Path(exists=True, file_okay=False),
    help="Folder with the site's mapping overlays: what they define is known.",
)
@option(
    "--strict",
    is_flag=True,
    help="Make errors of what FHIR leaves open and DICOM never needs; see below.",
)
@option(
    "--format",
    "form",
    type=click.Choice(["table", "operation-outcome"]),
    default="table",
    help="How it is printed (default table).",
)
@option(
    "--max-size",
    metavar="SIZE",
    default="256MiB",
    callback=size,
    help="Largest resource that is read (default 256MiB).",
)
@verbosity
@click.pass_obj
def validate(
    state: State,
    /,
    inputs: tuple[str, ...],
    profiles: tuple[str, ...],
    mappings: str | None,
    strict: bool,
    form: str,
    max_size: str,
    **_: Any,
) -> int:
    """Check FHIR JSON against profiles, offline.

    Reads resources, Bundles and NDJSON; ``-`` is standard input. Every resource is held against FHIR R4 (4.0.1),
    the profiles that it claims in meta.profile, and those of --profile. Exit code 1: a resource has an error;
    5: only --strict makes it one (a modality that is no DICOM code, a SOP class or Study UID in another form than
    urn:oid:, a string of blanks); 4: no JSON found.
    """
    from converter.core.check_reasons import STRICT
    from converter.settings import parse_size

    checker, asked = _checker(profiles, mappings)
    promoted = STRICT if strict else frozenset[str]()
    printer = _Printer(form, promoted, state)
    for verdict in _verdicts(inputs, checker, asked, parse_size(max_size), state.verbose > 0):
        printer.add(verdict)
    return printer.end()


def _checker(profiles: Sequence[str], mappings: str | None) -> tuple[Checker, tuple[str, ...]]:
    """Checker with all shipped profiles and what a site's files define; names of those asked for."""
    from converter.errors import ProfileNotFoundError
    from converter.fhir.shipped import read_profile, shipped_checker, shipped_profiles

    known = {profile.name: profile for profile in shipped_profiles()}
    asked: list[str] = []
    for wanted in profiles:
        if wanted in known:
            asked.append(wanted)
        elif wanted.endswith(".toml"):
            profile = read_profile(Path(wanted))
            known[profile.name] = profile
            asked.append(profile.name)
        else:
            names = ", ".join(sorted(known))
            raise ProfileNotFoundError(
                f"no profile {wanted}; there are {names}, or name a .toml file"
            )
    files = [name if "/" in name else f"./{name}" for name in profiles if name.endswith(".toml")]
    if not files and mappings is None:
        return shipped_checker(known.values()), tuple(dict.fromkeys(asked))
    from converter.fhir.declared import declared_extensions
    from converter.mapping import load

    rules = load(files, overlays=Path(mappings) if mappings else None)
    known |= {profile.name: profile for profile in rules.profiles}
    extensions = declared_extensions(rules.resources.values())
    return shipped_checker(known.values(), extensions), tuple(dict.fromkeys(asked))


def _verdicts(
    inputs: Sequence[str], checker: Checker, asked: Sequence[str], limit: int, absent: bool
) -> Iterator[Verdict]:
    for name in inputs:
        path = Path(name)
        if name == "-":
            yield from _stream(sys.stdin.buffer, "-", checker, asked, limit, absent)
        elif path.is_dir():
            for file in sorted(path.rglob("*")):
                if file.suffix in SUFFIXES and file.is_file() and not _manifest(file):
                    yield from _file(file, checker, asked, limit, absent)
        else:
            yield from _file(path, checker, asked, limit, absent)


def _manifest(path: Path) -> bool:
    """Whether a file of a folder is the manifest that convert writes beside NDJSON."""
    from converter.sinks.ndjson import MANIFEST, is_manifest

    try:
        return path.name == MANIFEST and is_manifest(path.read_bytes())
    except OSError:  # told when it is checked
        return False


def _file(
    path: Path, checker: Checker, asked: Sequence[str], limit: int, absent: bool
) -> Iterator[Verdict]:
    from converter.fhir.judging import unreadable

    try:
        with path.open("rb") as file:
            yield from _stream(file, str(path), checker, asked, limit, absent)
    except OSError as error:
        yield unreadable(str(path), "cannot-be-read", error.strerror or type(error).__name__)


def _stream(
    file: IO[bytes], name: str, checker: Checker, asked: Sequence[str], limit: int, absent: bool
) -> Iterator[Verdict]:
    """Give the verdicts of one file: one resource, or one a line."""
    from converter.fhir.jsontext import parse
    from converter.fhir.judging import judge, judge_lines, unreadable

    lines: Iterator[bytes] = iter(lambda: file.readline(limit + 1), b"")
    first = next(lines, b"")
    if name.endswith(LINES):
        yield from judge_lines(chain([first], lines), name, checker, asked, limit, absent=absent)
        return
    head = [first]
    for line in lines:
        head.append(line)
        if line.strip():
            break
    if (
        head[-1].strip()
        and len(head) > 1
        and first.rstrip().endswith(b"}")
        and parse(first).readable
    ):
        every = chain(head, lines)
        yield from judge_lines(every, name, checker, asked, limit, absent=absent)
        return
    first = b"".join(head)
    rest = file.read(max(limit + 1 - len(first), 0)) if first else b""
    if len(first) + len(rest) > limit:
        yield unreadable(name, "too-large", f"larger than the limit of {limit} bytes")
    else:
        yield judge(first + rest, name, checker, asked, absent=absent)


class _Printer:
    """Prints verdicts as they come, and counts them."""

    def __init__(self, form: str, promoted: frozenset[str], state: State) -> None:
        self.form = form
        self.promoted = promoted
        self.state = state
        self.rows: list[tuple[str, ...]] = []
        self.resources = self.failed = self.strict = self.warned = 0

    def add(self, verdict: Verdict) -> None:
        """Count and print one verdict."""
        self.resources += 1
        if verdict.failed():
            self.failed += 1
        elif verdict.failed(self.promoted):
            self.strict += 1
        elif any(issue.severity == "warning" for issue in verdict.issues):
            self.warned += 1
        if self.form == "operation-outcome":
            import orjson

            from converter.fhir.outcome import operation_outcome

            click.echo(orjson.dumps(operation_outcome(verdict, self.promoted)).decode())
            return
        for issue in verdict.issues:
            severity = "error" if issue.code in self.promoted else issue.severity
            if severity == "error" or not self.state.quiet:
                self.rows.append((verdict.name, severity, issue.code, issue.path, issue.message))
        if len(self.rows) > DRAWN or not sys.stdout.isatty():
            self._flush()

    def _flush(self) -> None:
        from converter.cli.output import table

        if self.rows:
            table(COLUMNS, self.rows)
        self.rows = []

    def end(self) -> int:
        """Print what is left and the sum; give the exit code."""
        self._flush()
        if not self.resources:
            click.echo("error: no FHIR JSON found (*.json, *.ndjson)", err=True)
            return NOTHING_FOUND
        if not self.state.quiet:
            sound = self.resources - self.failed - self.strict
            words = [f"{self.resources} checked", f"{sound} conform", f"{self.failed} with errors"]
            if self.strict:
                words.append(f"{self.strict} with errors by --strict alone")
            if self.warned:
                words.append(f"{self.warned} with warnings only")
            click.echo("; ".join(words), err=True)
        return 1 if self.failed else 5 if self.strict else 0
