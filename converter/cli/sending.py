"""Draining an outbox from the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from converter.cli.common import usage
from converter.cli.delivering import Destinations, clock_of, config_for, say
from converter.config import Loaded
from converter.delivery.destinations import named, resolve
from converter.pipeline.pool import Stop, catching_signals
from converter.settings import DestinationSettings, parse_duration
from converter.store import open_beside

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from converter.delivery.sender import Tally
    from converter.store import StatePlace
    from converter.store.outbox import Outbox
    from converter.store.sql import SqlStore

__all__ = ["chosen_of", "configurations", "drain"]

INTERRUPTED = 130


def drain(
    path: StatePlace,
    loaded: Loaded,
    to: Sequence[str],
    config_file: str | None,
    flags: Mapping[str, Any],
    *,
    quiet: bool,
) -> int:
    """Deliver what the outbox of a state holds; give the exit code."""
    store = open_beside(path, sending=True)
    try:
        configs = configurations(store.outbox, config_file, flags)
        chosen = chosen_of(loaded, configs, to)
        parked = sorted(configs.keys() - chosen.keys()) if not to else []
        for name in parked:
            click.echo(f"parked: {name} is in no configuration; its studies are kept", err=True)
        left = 6 if store.outbox.waiting(parked, 0.0) else 0
        if not chosen:
            if not quiet and not left:
                click.echo("nothing is queued", err=True)
            return left
        with catching_signals(stop := Stop()):
            tally = _send(store, {n: configs[n] for n in chosen}, chosen, loaded, stop)
        if not quiet or tally.waiting or tally.reasons:
            say(tally, path, unconverted=store.outbox.unconverted(list(chosen)))
        return _code(tally, stop) or left
    finally:
        store.close()


def configurations(
    outbox: Outbox, config_file: str | None, flags: Mapping[str, Any]
) -> dict[str, Loaded]:
    """Configuration that each destination of an outbox is served with."""
    return {
        name: config_for(outbox.settings(name), config_file, flags)
        for name in outbox.destinations()
    }


def chosen_of(
    loaded: Loaded, configs: Mapping[str, Loaded], to: Sequence[str]
) -> dict[str, DestinationSettings]:
    """Destinations of the outbox that there is an address for, of those asked for."""
    known: dict[str, DestinationSettings] = {}
    for name, own in configs.items():
        configured = {**loaded.config.destinations, **own.config.destinations}
        if name in configured:
            known[name] = named(name, configured)
        elif "://" in name:
            known[name] = DestinationSettings(url=name)
    if not to:
        return known
    asked = resolve(to, {**loaded.config.destinations, **known}, allow_http=True)
    for name in asked.keys() - configs.keys() - loaded.config.destinations.keys():
        there = ", ".join(sorted(configs)) or "nothing"
        raise usage(f"--to {name}: nothing was ever queued for it; this state has {there}.")
    return {name: settings for name, settings in known.items() if name in asked}


def _send(
    store: SqlStore,
    configs: Mapping[str, Loaded],
    chosen: Mapping[str, DestinationSettings],
    loaded: Loaded,
    stop: Stop,
) -> Tally:
    destinations = Destinations({name: own.config for name, own in configs.items()}, chosen)
    try:
        clock = clock_of(store)
        until = clock.now() + parse_duration(loaded.config.delivery.deliver_timeout)
        sender = destinations.sender(store, lambda _row, _delivery: None)
        return sender.run(until=until, stop=stop.__bool__)
    finally:
        destinations.close()


def _code(tally: Tally, stop: Stop) -> int:
    if stop:
        return INTERRUPTED
    if tally.waiting:
        return 6
    return 1 if sum(tally.reasons.values()) else 0
