"""What waits for FHIR servers, what waits for a person, and what nobody serves any more."""

from __future__ import annotations

import shlex
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from converter.cli.checks.finding import Finding, counted, lasted
from converter.cli.sending import chosen_of, configurations
from converter.errors import ConfigurationError, StoreError
from converter.store.looking import look
from converter.store.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converter.cli.checks.finding import SetUp
    from converter.store import StatePlace

__all__ = ["queue"]

LATE = 3600.0
"""Seconds after which a delivery that waits is worth a word; between attempts there are 300 at most."""
SECONDS = 5.0


def queue(setup: SetUp, place: StatePlace) -> Iterator[Finding]:
    """The outbox of one state."""
    if isinstance(place, Path) and not place.is_file():
        return
    try:
        sight = look(place)
    except (StoreError, ConfigurationError):
        return  # told where the store is looked at
    with closing(sight.database):
        if not sight.current:
            return
        sight.database.only_read(SECONDS)
        outbox = Outbox(sight.database)
        rows = sight.database.rows(
            "SELECT destination, state, count(*), min(since) FROM outbox GROUP BY 1, 2 ORDER BY 1, 2"
        )
        now = outbox.now()
        circuits = [(name, outbox.outlet(name).circuit) for name in outbox.destinations()]
        configs = configurations(outbox, setup.config_file, setup.flags)
    at = f" --state {shlex.quote(str(place))}"
    told = False
    for name, state, count, since in rows:
        found = _waits(f"{name}: ", state, int(count), now - float(since), at)
        told |= found is not None
        if found is not None:
            yield found
    for name, circuit in circuits:
        if circuit:
            told = True
            yield Finding(
                "warning",
                f"{name}: nothing is sent but one try every 5 min: {circuit}",
                f"put right what it says, then: dcm2fhir send{at}",
            )
    for name in sorted(configs.keys() - chosen_of(setup.loaded, configs, ()).keys()):
        told = True
        yield Finding(
            "warning",
            f"{name}: is in no configuration; its studies are kept, and sent to nobody",
            f"[destinations.{name}] with its url, or dcm2fhir dead drop --all --waiting --to {name}{at}",
        )
    if not told:
        due = sum(int(count) for _, state, count, _ in rows if state == "due")
        done = sum(int(count) for _, state, count, _ in rows if state == "delivered")
        yield Finding("ok", f"{Path(str(place)).name}: {due} due, {done} delivered, none refused")


def _waits(at: str, state: str, count: int, age: float, option: str) -> Finding | None:
    studies = counted(count, "study", "studies")
    if state in {"dead", "held"}:
        word = "refused" if state == "dead" else "held back"
        return Finding(
            "warning",
            f"{at}{studies} {word}, the oldest {lasted(age)} ago: a person must look",
            f"dcm2fhir dead list{option}",
        )
    if state == "due" and age > LATE:
        return Finding(
            "warning",
            f"{at}{studies} waiting, the oldest for {lasted(age)}",
            f"dcm2fhir send{option} tries now; the daemon does so by itself",
        )
    return None
