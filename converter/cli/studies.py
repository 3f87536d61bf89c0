"""``dcm2fhir studies``: what the daemon's store holds, and what an operator says about it."""

from __future__ import annotations

import os
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from converter.cli.common import Command, configuration, option, usage, verbosity
from converter.cli.output import one_line, table
from converter.cli.places import ELSEWHERE, state_folder
from converter.errors import ConfigurationError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converter.listener.desk import Desk, StudyRow

__all__ = ["studies"]

SHOWN = 20
"""Instances that `show` lists of a rejection note."""
STATES = ("receiving", "settled", "published", "conflict", "held", "excluded")


@click.group()
def studies() -> None:
    """See and steer what the daemon received.

    Conflicts, exclusions, publishing again. Each command is a short transaction beside the running daemon, which takes up what it says within a second.
    """


def place(function: Any) -> Any:
    """Add ``--state`` and ``--config``."""
    for decorate in (
        verbosity,
        option("--config", "config_file", metavar="FILE", help="Configuration file."),
        option("--state", metavar="FILE|URL", help="State of the daemon (default: its own)."),
    ):
        function = decorate(function)
    return function


@contextmanager
def _opened(
    state: str | None, config_file: str | None, *, fresh: bool = False
) -> Iterator[Desk | None]:
    """Open the ledger of the daemon's state; ``fresh``: ``None`` where nobody named one and none is kept yet."""
    from converter.listener.desk import Desk
    from converter.store import place_of

    loaded = configuration(config_file, {"listen.state": state})
    path = place_of(loaded.config.listen.state or str(state_folder() / "listen.db"))
    if isinstance(path, Path) and not path.is_file():
        if fresh and not loaded.config.listen.state:
            yield None
            return
        raise ConfigurationError(f"there is no state file {path}: name it with --state.")
    with closing(Desk(path)) as ledger:
        yield ledger


@contextmanager
def opened(state: str | None, config_file: str | None) -> Iterator[Desk]:
    """Open the ledger of the daemon's state."""
    with _opened(state, config_file) as ledger:
        assert ledger is not None
        yield ledger


def when(moment: float) -> str:
    """Moment in UTC."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def age(moment: float) -> str:
    """How long ago, in one unit."""
    seconds = max(0, int(time.time() - moment))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


@studies.command(
    "list", cls=Command, examples="dcm2fhir studies list\ndcm2fhir studies list --state-is conflict"
)
@option("--state-is", type=click.Choice(STATES), help="Only studies in this state.")
@place
def list_(state: str | None, config_file: str | None, state_is: str | None, **_: Any) -> None:
    """List studies, those that wait for a person first: UID, state, revision, instances, reason, age, delivery."""
    with _opened(state, config_file, fresh=True) as ledger:
        if ledger is None:
            click.echo(
                f"no state is kept yet in {state_folder()}, so nothing was received; {ELSEWHERE}",
                err=True,
            )
            return
        table(
            ("study", "state", "revision", "published", "instances", "reason", "age", "delivery"),
            [
                (
                    row.study_uid,
                    row.state,
                    str(row.revision),
                    str(row.published),
                    str(row.instances),
                    row.reason,
                    age(row.last_change),
                    row.delivery,
                )
                for row in ledger.studies(state_is or "")
            ],
        )


def _one(ledger: Desk, uid: str) -> StudyRow:
    row = ledger.study(uid)
    if row is None:
        raise usage(f"no study {uid} was received; `dcm2fhir studies list` shows all.")
    return row


FILES_IN = option(
    "--keep-files",
    metavar="PATH",
    help="Folder of the files (default: as `dcm2fhir listen` is configured).",
)


def _files_in(keep_files: str | None, config_file: str | None) -> Path:
    given = keep_files or configuration(config_file, {}).config.listen.keep_files
    if not given:
        raise usage("Nothing says where whole objects are kept: name the folder with --keep-files.")
    return Path(given)


@studies.command(
    cls=Command,
    examples="dcm2fhir studies show 1.2.3 --patients\ndcm2fhir studies show 1.2.3 --files --keep-files /srv/files",
)
@click.argument("uid")
@option("--patients", is_flag=True, help="Also the patient identifiers in it: patient data.")
@option("--files", is_flag=True, help="Also the file of each instance (`listen --keep-files`).")
@FILES_IN
@place
def show(
    uid: str,
    state: str | None,
    config_file: str | None,
    patients: bool,
    files: bool,
    keep_files: str | None,
    **_: Any,
) -> None:
    """Show one study."""
    from converter.listener.files import place_of as file_of
    from converter.listener.notes import log_name

    with opened(state, config_file) as ledger:
        row = _one(ledger, uid)
        rows = [
            ("study", row.study_uid),
            ("in log lines", log_name(row.study_uid)),
            ("state", row.state),
            ("reason", row.reason),
            ("revision", str(row.revision)),
            ("published revision", str(row.published)),
            ("delivery", row.delivery),
            ("resource", f"ImagingStudy/{row.resource_id}" if row.resource_id else ""),
            ("instances", str(row.instances)),
            ("headers purged", str(ledger.purged(uid)[0])),
            ("left out by resolution", str(row.left_out)),
            ("first unpublished change", when(row.first_change)),
            ("last change", when(row.last_change)),
            ("findings", ", ".join(row.findings)),
        ]
        rows += [("sender", f"{name} ({count})") for name, count in ledger.senders(uid)]
        for note, title, named in ledger.rejections(uid):
            rows.append(("rejection note", f"{note} ({title}, instances here: {len(named)})"))
            rows += [("rejected by it", sop) for sop in named[:SHOWN]]
            rows += [("rejected by it", f"{len(named) - SHOWN} more")] if named[SHOWN:] else []
        if patients:
            rows += [
                ("patient", f"{_label(patient, issuer) or '(none)'} ({count})")
                for patient, issuer, count in ledger.patients(uid)
            ]
        if files:
            root = _files_in(keep_files, config_file)
            found = [(sop, file_of(root, uid, sop)) for sop in ledger.instances(uid)]
            rows += [("file", f"{sop} {path}") for sop, path in found if path.is_file()]
            rows.append(("without a file", str(sum(not path.is_file() for _, path in found))))
        table(("", ""), rows)


def _label(patient: str, issuer: str) -> str:
    """How a patient is shown, and may be named: ``ID|ISSUER``; a bar at the end where the ID has bars and no issuer."""
    return f"{patient}|{issuer}" if issuer or "|" in patient else patient


def _meant(text: str, known: list[tuple[str, str, int]]) -> set[tuple[str, str | None]]:
    """(PatientID, issuer; ``None``: any) that an operator may mean: bars may stand in both."""
    for written in (str, one_line):  # as received, else as it was printed
        label = written(text)
        if shown := {(a, b) for a, b, _ in known if a and written(_label(a, b)) == label}:
            return {(one, issuer if "|" in text else None) for one, issuer in shown}
    if any(one == text for one, _, _ in known):
        return {(text, None)}
    places = [place for place, letter in enumerate(text) if letter == "|"]
    split = {(text[:place].strip(), text[place + 1 :].strip()) for place in places}
    ids = {one for one, _, _ in known}
    return {(one, issuer) for one, issuer in split if one in ids}


def _rests(row: StudyRow) -> bool:
    """Whether a study is published wherever it is to be."""
    return row.state == "published" and row.delivery in {"", "delivered"}


@studies.command(
    cls=Command,
    examples="dcm2fhir studies resolve 1.2.3 --patient 123456\ndcm2fhir studies resolve 1.2.3 --patient '123456|HOSPITAL'",
)
@click.argument("uid")
@option(
    "--patient",
    metavar="ID[|ISSUER]",
    required=True,
    help="PatientID as received, and its issuer where that is what differs.",
)
@place
def resolve(uid: str, state: str | None, config_file: str | None, patient: str, **_: Any) -> None:
    """Say whose study it is. Instances of others are kept and counted, and never published."""
    with opened(state, config_file) as ledger:
        row = _one(ledger, uid)
        known = ledger.patients(uid)
        meant = _meant(patient.strip(), known)
        if len(meant) > 1:
            raise usage(
                "that may be two patients of that study, by the bars in it: exclude it, or correct it at its source."
            )
        if len(known) == 1 and meant and _rests(row):
            click.echo(
                "that study is its only patient's and waits for nobody: nothing changed", err=True
            )
            return
        if not any(ledger.resolve(uid, *one, time.time()) for one in meant):
            raise usage(
                "that study has no instance of that patient; see `studies show --patients`."
            )
    click.echo("resolved; it is published next", err=True)


@studies.command(cls=Command, examples="dcm2fhir studies exclude 1.2.3")
@click.argument("uid")
@place
def exclude(uid: str, state: str | None, config_file: str | None, **_: Any) -> None:
    """Publish a study no more: what is published of it is taken back, and it says that it is cancelled."""
    with opened(state, config_file) as ledger:
        _one(ledger, uid)
        ledger.exclude(uid, time.time())
    click.echo("excluded; it is taken back next, and `studies include` undoes it", err=True)


@studies.command(cls=Command, examples="dcm2fhir studies include 1.2.3")
@click.argument("uid")
@place
def include(uid: str, state: str | None, config_file: str | None, **_: Any) -> None:
    """Undo an exclusion."""
    with opened(state, config_file) as ledger:
        _one(ledger, uid)
        excluded = ledger.exclude(uid, time.time(), undo=True)
        gone = ledger.purged(uid)[0]
    click.echo("included again" if excluded else "it was not excluded: nothing changed", err=True)
    if excluded and gone:
        click.echo(
            f"headers were purged of {gone} instances: what was taken back of these comes back when they are sent again",
            err=True,
        )


@studies.command(
    cls=Command, examples="dcm2fhir studies republish 1.2.3\ndcm2fhir studies republish --all"
)
@click.argument("uid", required=False)
@option("--all", "all_", is_flag=True, help="All published studies, after a change of the mapping.")
@place
def republish(
    uid: str | None, state: str | None, config_file: str | None, all_: bool, **_: Any
) -> None:
    """Have a study published again as it is. One whose headers were purged stays as it is published."""
    if bool(uid) == all_:
        raise usage("Name one study, or --all.")
    with opened(state, config_file) as ledger:
        if uid is not None:
            _one(ledger, uid)
        uids = [uid] if uid is not None else ledger.to_republish()
        done = sum(ledger.republish(one, time.time()) for one in uids)
    if uid is not None and not done:
        raise usage(
            f"study {uid} cannot be published again: its headers were purged: send it again."
        )
    click.echo(f"studies to be published again: {done}", err=True)
    if refused := len(uids) - done:
        click.echo(
            f"not published again: {refused}, their headers were purged: send them again", err=True
        )


@studies.command(
    cls=Command,
    examples="dcm2fhir studies purge --older-than 90d\ndcm2fhir studies purge --files --older-than 14d",
)
@option(
    "--older-than", metavar="TIME", required=True, help="Such as 90d or 12h: since the last change."
)
@option(
    "--files", is_flag=True, help="Delete their files (`listen --keep-files`) and nothing else."
)
@FILES_IN
@place
def purge(
    older_than: str,
    state: str | None,
    config_file: str | None,
    files: bool,
    keep_files: str | None,
    **_: Any,
) -> None:
    """Drop the headers of published studies; identity and digest stay, and what is published too.

    With --files it is the files of whole objects that are deleted, and headers stay.
    """
    from converter.listener.files import purge as purge_files
    from converter.settings import parse_duration

    try:
        days = older_than.endswith("d") and older_than[:-1].isascii() and older_than[:-1].isdigit()
        seconds = int(older_than[:-1]) * 86400.0 if days else parse_duration(older_than)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--older-than") from error
    with opened(state, config_file) as ledger:
        before = time.time() - seconds
        if files:
            root = _files_in(keep_files, config_file)
            counts = [purge_files(root, uid, before) for uid in ledger.published_before(before)]
            click.echo(
                f"deleted: {sum(counts)} files of {sum(map(bool, counts))} studies", err=True
            )
            return
        studies_, instances = ledger.purge(before)
    click.echo(f"purged: {studies_} studies, {instances} instances", err=True)


@studies.command(cls=Command, examples="dcm2fhir studies backup /var/backups/listen-copy.db")
@click.argument("file", type=click.Path(path_type=Path))
@place
def backup(file: Path, state: str | None, config_file: str | None, **_: Any) -> None:
    """Copy the state file while the daemon runs; it holds patient data (mode 0600)."""
    if file.exists():
        raise usage(f"{file} is there already: name another file.")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        why = "this user may not write there" if file.parent.is_dir() else "there is no such folder"
        raise usage(f"{file.parent}: {why}; name another file.")
    before = os.umask(0o077)
    try:
        with opened(state, config_file) as ledger:
            ledger.backup(file)
    except StoreError:
        file.unlink(missing_ok=True)
        raise
    finally:
        os.umask(before)
    click.echo(f"copied to {file}", err=True)
