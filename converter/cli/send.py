"""``dcm2fhir send``: delivers what an outbox holds, and ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from converter.cli.common import Command, State, configuration, duration, option, verbosity

__all__ = ["send"]

EXAMPLES = """
# go on with what convert could not deliver
dcm2fhir send
# of a state of its own, to one of its destinations
dcm2fhir send --state run.db --to https://fhir.example/r4
"""


@click.command(cls=Command, examples=EXAMPLES)
@option(
    "--state",
    metavar="FILE|URL",
    help="The study store (default: convert.db in $XDG_STATE_HOME/dcm2fhir).",
)
@option("--to", metavar="URL|NAME", multiple=True, help="Only to this destination (repeatable).")
@option(
    "--deliver-timeout",
    metavar="DURATION",
    callback=duration,
    help="Go on trying for so long, such as 30s or 2h (default 10m).",
)
@option(
    "--allow-http",
    is_flag=True,
    default=None,
    help="Plain http beyond this machine: others can read what is sent.",
)
@option(
    "--config",
    "config_file",
    metavar="FILE",
    help="Configuration file (default: that of the run that queued it).",
)
@verbosity
@click.pass_obj
def send(
    state: State,
    /,
    to: tuple[str, ...],
    config_file: str | None,
    deliver_timeout: str | None,
    allow_http: bool | None,
    **given: Any,
) -> int:
    """Deliver what is queued for FHIR servers, and exit.

    Each study is rendered as it is now, and tried when its time has come. Exit code 6: something
    still waits; 1: something was refused (see dcm2fhir dead).
    """
    flags = {"delivery.deliver_timeout": deliver_timeout, "delivery.allow_http": allow_http}
    flags = {key: value for key, value in flags.items() if value is not None}
    log = {"log.format": given["log_format"]} if given.get("log_format") else {}
    loaded = configuration(config_file, {**flags, **log}, verbose=state.verbose, quiet=state.quiet)
    from converter.cli.delivering import state_file

    named = given.get("state") or loaded.config.convert.state
    from converter.store import place_of

    path = place_of(named or str(state_file("convert.db")))
    if not named and isinstance(path, Path) and not path.is_file():
        click.echo("nothing is queued: no state is kept yet", err=True)
        return 0
    from converter.cli.sending import drain

    return drain(path, loaded, to, config_file, flags, quiet=state.quiet)
