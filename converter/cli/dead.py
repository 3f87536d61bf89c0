"""``dcm2fhir dead``: what a FHIR server refused, or what was held back at it; why, and again after the fix."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from converter.cli.common import Command, configuration, option, usage, verbosity
from converter.cli.output import table
from converter.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from converter.store import StatePlace
    from converter.store.outbox import Letter, Outbox

__all__ = ["dead"]

STATE = option(
    "--state",
    metavar="FILE|URL",
    help="The study store (default: the daemon's, which is listen.db in $XDG_STATE_HOME/dcm2fhir, or that of convert where it is not there).",
)
TO = option("--to", metavar="URL|NAME", default="", help="Only of this destination.")
CONFIG = option("--config", "config_file", metavar="FILE", help="Configuration file.")


@click.group()
def dead() -> None:
    """List, show, replay and drop what a FHIR server refused.

    Studies that were held back there are among them. A dead letter keeps codes and places of the server's answer, never its words, which may quote patient data.
    """


@dead.command(
    "list",
    cls=Command,
    examples="""
    dcm2fhir dead list
    dcm2fhir dead list --state run.db --format json
    """,
)
@STATE
@TO
@CONFIG
@option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    help="How it is written.",
)
@verbosity
def list_(state: str | None, to: str, config_file: str | None, form: str, **_: Any) -> int:
    """List what waits for a person, the oldest first."""
    return _beside(state, config_file, lambda outbox: _list(outbox.letters(to), form))


@dead.command(cls=Command, examples="dcm2fhir dead show 1.2.826.0.1.3680043.1")
@click.argument("study_uid")
@STATE
@TO
@CONFIG
@verbosity
def show(study_uid: str, state: str | None, to: str, config_file: str | None, **_: Any) -> int:
    """Show one study: what was answered, what it means and what to do."""
    return _beside(state, config_file, lambda outbox: _show(_found(outbox, to, [study_uid])))


@dead.command(
    cls=Command,
    examples="""
    dcm2fhir dead replay 1.2.826.0.1.3680043.1
    dcm2fhir dead replay --all && dcm2fhir send
    """,
)
@click.argument("study_uids", nargs=-1)
@option("--all", "every", is_flag=True, help="All of them.")
@STATE
@TO
@CONFIG
@verbosity
def replay(
    study_uids: tuple[str, ...],
    every: bool,
    state: str | None,
    to: str,
    config_file: str | None,
    **_: Any,
) -> int:
    """Queue studies again; they are rendered anew when they are sent."""
    count = 0

    def change(outbox: Outbox) -> int:
        nonlocal count
        letters = _chosen(outbox, to, study_uids, every=every)
        count = outbox.replay(letters, datetime.now(UTC).timestamp())
        return 0

    def tell(place: StatePlace) -> None:
        click.echo(f"queued again: {count}; {_deliverer(place)}")

    return _beside(state, config_file, change, tell)


@dead.command(
    cls=Command,
    examples="""
    dcm2fhir dead drop 1.2.826.0.1.3680043.1
    dcm2fhir dead drop --all --to https://old.example/fhir
    # a server that is no more: what waits for it, too
    dcm2fhir dead drop --all --waiting --to https://old.example/fhir
    """,
)
@click.argument("study_uids", nargs=-1)
@option("--all", "every", is_flag=True, help="All of them.")
@option(
    "--waiting",
    is_flag=True,
    help="With --all and --to: also what waits to be sent there, to a server that is no more.",
)
@STATE
@TO
@CONFIG
@verbosity
def drop(
    study_uids: tuple[str, ...],
    every: bool,
    waiting: bool,
    state: str | None,
    to: str,
    config_file: str | None,
    **_: Any,
) -> int:
    """Give studies up at a destination; the study store keeps them."""
    if waiting and not (every and to):
        raise usage("--waiting goes with --all and --to: it gives up all that is queued there.")

    def change(outbox: Outbox) -> int:
        if waiting and to not in outbox.destinations():
            there = ", ".join(outbox.destinations()) or "nothing"
            raise usage(f"--to {to}: nothing was ever queued for it; this state has {there}.")
        count = (
            outbox.abandon(to)
            if waiting
            else outbox.drop(_chosen(outbox, to, study_uids, every=every))
        )
        click.echo(f"dropped: {count}")
        return 0

    return _beside(state, config_file, change)


def _deliverer(place: StatePlace) -> str:
    """Who delivers what is queued in a state."""
    from converter.cli.delivering import state_file
    from converter.store.place import held

    if not isinstance(place, Path):
        return "a daemon with this state delivers them"
    if held(place.with_name(place.name + ".lock")):
        return "the daemon that holds the state delivers them"
    own = "" if place == state_file("convert.db") else f" --state {place}"
    return f"deliver them with: dcm2fhir send{own}"


def _beside(
    state: str | None,
    config_file: str | None,
    work: Callable[[Outbox], int],
    after: Callable[[StatePlace], None] = lambda _: None,
) -> int:
    """Do something with an outbox beside whoever uses it, and say whose it is."""
    config = configuration(config_file, {"listen.state": state}).config
    state = config.listen.state
    from converter.cli.delivering import state_file
    from converter.cli.places import ELSEWHERE
    from converter.store import open_beside, place_of

    path = place_of(state or str(state_file("listen.db")))
    if not state and isinstance(path, Path) and not path.is_file():
        convert = state_file("convert.db")
        if not config.convert.state and not convert.is_file():
            click.echo(
                f"no state is kept yet in {convert.parent}, so nothing was refused; {ELSEWHERE}",
                err=True,
            )
            return 0
        path = place_of(config.convert.state or str(convert))
    store = open_beside(path)
    try:
        click.echo(f"state: {path}", err=True)
        code = work(store.outbox)
    finally:
        store.close()
    after(path)
    return code


def _chosen(outbox: Outbox, to: str, uids: Sequence[str], *, every: bool) -> list[Letter]:
    if bool(uids) == every:
        raise usage("Name studies by their UIDs, or all of them with --all.")
    return outbox.letters(to) if every else _found(outbox, to, uids)


def _found(outbox: Outbox, to: str, uids: Sequence[str]) -> list[Letter]:
    found = [letter for uid in uids for letter in outbox.letters(to, uid)]
    missing = set(uids) - {letter.study_uid for letter in found}
    if missing:
        raise SourceError(f"no dead letter of study {min(missing)}; see dcm2fhir dead list")
    return found


def _list(letters: Sequence[Letter], form: str) -> int:
    if form == "json":
        import msgspec

        rows = [{**_fields(letter), "refusal": _said(letter)} for letter in letters]
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
        return 0
    rows_ = [
        (letter.study_uid, letter.state, letter.reason, _since(letter), letter.destination, _said(letter))
        for letter in letters
    ]  # fmt: skip
    if rows_:
        table(("study", "state", "reason", "since", "destination", "answer"), rows_)
    else:
        click.echo("nothing was refused or held back", err=True)
    return 0


def _show(letters: Sequence[Letter]) -> int:
    from converter.core.reasons import REASONS

    for letter in letters:
        rows = [(name, str(value)) for name, value in _fields(letter).items()]
        rows.append(("answer", _said(letter)))
        reason = REASONS.get(letter.reason)
        if reason is not None:
            rows += [("meaning", reason.meaning), ("what to do", reason.action)]
        table(("key", "value"), rows)
    return 0


def _fields(letter: Letter) -> dict[str, Any]:
    return {
        "study_instance_uid": letter.study_uid,
        "destination": letter.destination,
        "state": letter.state,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "revision_wanted": letter.wanted,
        "revision_delivered": letter.delivered,
        "resource": f"ImagingStudy/{letter.server_id}" if letter.server_id else "",
        "since": _since(letter),
    }


def _since(letter: Letter) -> str:
    return datetime.fromtimestamp(letter.since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _said(letter: Letter) -> str:
    from converter.delivery.sender import refusal_of

    return str(refusal_of(letter.refusal) or "")
