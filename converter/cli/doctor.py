"""``dcm2fhir doctor``: what is wrong with a set-up, in words, and what to do about it."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import click

from converter.cli.common import Command, State, configuration, option, size, verbosity
from converter.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from converter.cli.checks.examining import Check
    from converter.cli.checks.finding import Finding

__all__ = ["doctor"]

WIDTH = 100
STATUS, NAME = 9, 15
COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}
LISTEN = "As for listen"
SERVER = "As for convert, listen and send"

ELSEWHERE = {
    "output": "convert.output",
    "to": "convert.to",
    "profile": "convert.profile",
    "mappings": "convert.mappings",
    "timezone": "site.timezone",
    "allow_http": "delivery.allow_http",
    "log_format": "log.format",
    "open_": "listen.open",
}

EXAMPLES = """
# before the daemon is started, and beside it
dcm2fhir doctor --config /etc/dcm2fhir/dcm2fhir.toml
# what a command line would meet
dcm2fhir doctor listen -o /srv/fhir --bind 0.0.0.0 --allow-ip 10.1.2.0/24
# why nothing arrives at a FHIR server
dcm2fhir doctor send --to https://fhir.example/r4
# for a script
dcm2fhir doctor --format json
"""


@click.command(cls=Command, examples=EXAMPLES)
@click.argument(
    "purposes",
    metavar="[listen|convert|send]...",
    nargs=-1,
    type=click.Choice(["listen", "convert", "send"]),
)
@option("--config", "config_file", metavar="FILE", help="Configuration file.")
@option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    help="Lines for people (default), or JSON.",
)
@option(
    "--state",
    metavar="FILE|URL",
    heading=SERVER,
    help="This study store alone (default: those of the configuration, listen.db and convert.db).",
)
@option("-o", "--output", metavar="PATH", heading=SERVER, help="Folder of the resources.")
@option(
    "--to",
    metavar="URL|NAME",
    multiple=True,
    heading=SERVER,
    help="These FHIR servers alone (default: all that the configuration and the queues name).",
)
@option(
    "--allow-http",
    is_flag=True,
    default=None,
    heading=SERVER,
    help="Plain http beyond this machine.",
)
@option("--profile", metavar="NAME|FILE", multiple=True, heading=SERVER, help="Profiles.")
@option("--mappings", metavar="PATH", heading=SERVER, help="Folder with the site's overlays.")
@option("--timezone", metavar="ZONE", heading=SERVER, help="IANA zone.")
@option("-aet", "--ae-title", metavar="TITLE", heading=LISTEN, help="Our AE title.")
@option("-p", "--port", type=click.IntRange(0, 65535), metavar="PORT", heading=LISTEN, help="Port.")
@option("--bind", metavar="ADDRESS", heading=LISTEN, help="Address to listen on.")
@option("--tls-cert", metavar="FILE", heading=LISTEN, help="Our certificate.")
@option("--tls-key", metavar="FILE", heading=LISTEN, help="Its key.")
@option("--tls-ca", metavar="FILE", heading=LISTEN, help="Authorities of the peers.")
@option("--allow-ip", metavar="CIDR", multiple=True, heading=LISTEN, help="Addresses.")
@option(
    "--allow-calling-aet",
    metavar="TITLE",
    multiple=True,
    heading=LISTEN,
    help="Calling AE titles.",
)
@option("--open", "open_", is_flag=True, default=None, heading=LISTEN, help="No list at all.")
@option("--journal", metavar="DIR", heading=LISTEN, help="Folder of the journals.")
@option("--keep-files", metavar="PATH", heading=LISTEN, help="Folder of whole objects.")
@option(
    "--disk-reserve",
    metavar="SIZE",
    callback=size,
    heading=LISTEN,
    help="Least free space.",
)
@option(
    "--http-port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    heading=LISTEN,
    help="Port of health and status page.",
)
@verbosity
@click.pass_obj
def doctor(
    state: State,
    /,
    purposes: tuple[str, ...],
    config_file: str | None,
    form: str,
    **given: Any,
) -> int:
    """Say what is wrong with a set-up, and what to do about it.

    Looks at what listen, convert and send would meet with the same configuration and options, or one of
    them alone: study store, journals, disk, port, who may send, TLS, FHIR servers, queue. Changes nothing, and may run
    beside a daemon. Exit code 0: no problem (a warning is none); else that of the commands, such as 3, 6 or 7.
    """
    from converter.cli.checks.examining import examine
    from converter.cli.checks.finding import worst

    found = []
    for name, finding in examine(_checks(state, purposes, config_file, given)):
        found.append((name, finding))
        if form == "text" and not (state.quiet and finding.status == "ok"):
            _print(name, finding)
    code = worst({finding.code for _, finding in found if finding.status == "problem"})
    if form == "json":
        click.echo(_json(found, code))
    elif not state.quiet:
        click.echo(_summary(finding for _, finding in found), err=True)
    return code


def _checks(
    state: State, purposes: tuple[str, ...], config_file: str | None, given: dict[str, Any]
) -> list[Check]:
    from converter.cli.checks.examining import checks_of, without_configuration
    from converter.cli.checks.finding import SetUp

    named = given.pop("state") or ""
    flags = {
        ELSEWHERE.get(name, f"listen.{name}"): value
        for name, value in given.items()
        if name not in {"quiet", "verbose"}
    }
    if named:
        flags |= {"listen.state": named, "convert.state": named}
    try:
        loaded = configuration(config_file, flags, verbose=state.verbose, quiet=state.quiet)
    except ConfigurationError as error:
        return without_configuration(error)
    told = {"delivery.allow_http": True} if given.get("allow_http") else {}
    return checks_of(
        SetUp(
            loaded,
            config_file,
            told,
            named,
            frozenset(purposes or ("listen", "convert", "send")),
            alone=bool(given["to"]),
        )
    )


def _print(name: str, finding: Finding) -> None:
    """Print one finding: the same in a pipe, for it is passed on to people; scripts take JSON."""
    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns) if _terminal() else WIDTH
    indent = " " * (STATUS + NAME)
    status = f"{finding.status:{STATUS}}"
    colour = COLOURS[finding.status] if _terminal() and not os.environ.get("NO_COLOR") else None
    body = _wrapped(finding.found, indent, max(width, len(indent) + 30))
    lines = [click.style(status, fg=colour) + f"{name:{NAME}}" + body[0], *body[1:]]
    if finding.fix:
        fix = _wrapped(f"-> {finding.fix}", indent, max(width, len(indent) + 30), hang="   ")
        lines += [indent + fix[0], *fix[1:]]
    click.echo("\n".join(lines))


def _wrapped(text: str, indent: str, width: int, hang: str = "") -> list[str]:
    """Lines of a text beside an indent; a path or a URL is not broken, so that it can be copied."""
    lines = textwrap.wrap(
        " ".join(text.split()),
        width - len(indent),
        subsequent_indent=hang,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [lines[0], *(indent + line for line in lines[1:])] if lines else [""]


def _terminal() -> bool:
    return sys.stdout.isatty()


def _summary(found: Iterable[Finding]) -> str:
    statuses = [finding.status for finding in found]
    words = list(_counted(statuses))
    return ", ".join(words) if words else "nothing is wrong"


def _counted(statuses: Sequence[str]) -> Iterator[str]:
    from converter.cli.checks.finding import counted

    for status in ("problem", "warning"):
        if count := statuses.count(status):
            yield counted(count, status)


def _json(found: list[tuple[str, Finding]], code: int) -> str:
    import msgspec

    from converter import __version__

    checks = [
        {
            "check": name,
            "status": finding.status,
            "found": " ".join(finding.found.split()),
            "fix": finding.fix,
        }
        for name, finding in found
    ]
    whole = {"tool": "dcm2fhir", "version": __version__, "exit_code": code, "checks": checks}
    return msgspec.json.format(msgspec.json.encode(whole), indent=2).decode()
