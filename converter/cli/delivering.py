"""From the configuration to a sender: destinations, their rules and credentials, and what is said at the end."""

from __future__ import annotations

import os
import shlex
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from converter.cli.places import state_folder
from converter.cli.rules import judge_of, merge_options, options_of, rules_of
from converter.config import Loaded, load
from converter.core.wanted import assuming
from converter.delivery.client import FhirClient
from converter.delivery.clock import Clock
from converter.delivery.destinations import look, resolve
from converter.delivery.job import Policy
from converter.delivery.rendering import Recipe, StoreRenderer
from converter.delivery.sender import Sender, Tally, Timing
from converter.delivery.target import Target
from converter.settings import Config, parse_duration, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from converter.core.issues import Issue
    from converter.core.rules import RuleSet
    from converter.delivery.talk import Delivery
    from converter.pipeline import Progress
    from converter.settings import DestinationSettings
    from converter.store import StatePlace
    from converter.store.outbox import Row
    from converter.store.sql import SqlStore

__all__ = [
    "Destinations",
    "RunDelivery",
    "clock_of",
    "config_for",
    "remembered",
    "say",
    "state_file",
]

Json = dict[str, Any]

KEPT = (
    ("convert", "profile"),
    ("convert", "patient"),
    ("convert", "companions"),
    ("convert", "instances"),
    ("convert", "mappings"),
    ("convert", "ownership"),
    ("delivery", "patient_lookup"),
    ("delivery", "link_orders"),
    ("delivery", "allow_http"),
    ("site", "timezone"),
)
"""Keys that a run remembers when they came from its command line or environment, so that `send` does the same."""

_CHECKING = threading.Lock()
"""The check compiles itself on the way, and is made for one thread at a time."""


def state_file(name: str) -> Path:
    """Default place of a kept state: ``convert.db`` or ``listen.db``; its folder is made, 0700."""
    folder = state_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / name


def remembered(loaded: Loaded) -> str:
    """What `send` needs to know of a run, as JSON: no secret is among it."""
    flags: dict[str, Any] = {}
    for key in KEPT:
        origin = loaded.origins.get(key, "default")
        if origin == "default" or (loaded.file is not None and origin == str(loaded.file)):
            continue
        value: Any = loaded.config
        for name in key:
            value = getattr(value, name)
        if key == ("convert", "mappings"):
            value = os.path.abspath(value)  # noqa: PTH100  keeps links
        if key == ("convert", "profile"):
            value = [os.path.abspath(v) if v.endswith(".toml") else v for v in value]  # noqa: PTH100
        flags[".".join(key)] = value
    file = os.path.abspath(loaded.file) if loaded.file else ""  # noqa: PTH100
    return msgspec.json.encode({"flags": flags, "config": file}).decode()


class Destinations:
    """Targets and recipes of a run; to be closed.

    Parameters
    ----------
    configs : mapping
        Destination to the configuration that it is served with.
    settings : mapping
        Destination to its settings.
    """

    def __init__(
        self, configs: Mapping[str, Config], settings: Mapping[str, DestinationSettings]
    ) -> None:
        self._configs = configs
        self._settings = settings
        self._recipes: dict[str, tuple[Recipe, Policy]] = {}
        self.rules: dict[tuple[str, ...], RuleSet] = {}
        """Compiled mappings by profiles: a run has its own already."""
        self.targets: list[Target] = []
        with ExitStack() as stack:
            for name, destination in settings.items():
                delivery = configs[name].delivery
                client = FhirClient(
                    name,
                    destination,
                    timeout=parse_duration(delivery.request_timeout),
                    connections=delivery.workers,
                    allow_http=delivery.allow_http,
                )
                stack.callback(client.close)
                self.targets.append(Target(name, client))
            self.close = stack.pop_all().close

    def recipe(self, name: str) -> Recipe:
        """What a destination asks of a conversion."""
        return self._made(name)[0]

    def _made(self, name: str) -> tuple[Recipe, Policy]:
        if name not in self._recipes:
            config, own = self._configs[name], self._settings[name]
            if own.profile:
                convert = msgspec.structs.replace(config.convert, profile=own.profile)
                config = msgspec.structs.replace(config, convert=convert)
            # what was published of a daemon's study rests on what is assumed of its senders, so what is sent does
            rules = self.rules.get(config.convert.profile) or assuming(rules_of(config))
            self._recipes[name] = _recipe(config, own, rules)
        return self._recipes[name]

    def sender(self, store: SqlStore, settled: Callable[[Row, Delivery], None]) -> Sender:
        """Make the sender of a store, and look at what the servers say of themselves."""
        delivery = next(iter(self._configs.values())).delivery
        timing = Timing(
            parse_duration(delivery.lease),
            parse_duration(delivery.retry_base),
            parse_duration(delivery.retry_cap),
            parse_duration(delivery.probe_every),
        )
        sender = Sender(
            store.outbox,
            StoreRenderer(store, self.recipe),
            self.targets,
            workers=delivery.workers,
            timing=timing,
            clock=clock_of(store),
            settled=settled,
        )
        for target in self.targets:
            target.policy = self._made(target.name)[1]
            capability = look(target.client)
            if capability.server_ids:
                target.remember(server_ids=True)
            if capability.wrong_version:
                why = f"it speaks FHIR {capability.wrong_version}, not R4 (4.0.1)"
                target.open(why, float("inf"))
        return sender


def clock_of(store: SqlStore) -> Clock:
    """Clock of all who send from a store: leases and waiting times of several hosts are on it."""
    return Clock(ahead=store.outbox.now() - time.time())


def _recipe(config: Config, own: DestinationSettings, rules: RuleSet) -> tuple[Recipe, Policy]:
    from converter.pipeline.publishing import stamped

    judge = judge_of(rules, trusted=False, twice=False)

    def finish(resource: Json, patient: Json | None, dropped: Sequence[str]) -> Json:
        with _CHECKING:
            profiles = judge(resource, patient, dropped).profiles
        return stamped(resource, profiles)

    policy = Policy(
        ownership=config.convert.ownership,
        patient_lookup=config.delivery.patient_lookup,
        link_orders=config.delivery.link_orders,
        finish=finish,
        max_body=parse_size(own.max_body) if own.max_body else 0,
        **merge_options(rules),
    )
    return Recipe(rules, options_of(config.convert)), policy


class RunDelivery:
    """Delivers what a run of `convert` made: `converter.pipeline.Request.deliver`."""

    def __init__(self, loaded: Loaded) -> None:
        config = loaded.config
        self.settings = resolve(
            config.convert.to, config.destinations, allow_http=config.delivery.allow_http
        )
        self._loaded = loaded
        self._destinations = Destinations(dict.fromkeys(self.settings, config), self.settings)
        self.tally = Tally()
        self._findings: dict[str, list[Issue]] = {}
        self._delivered: set[tuple[str, str]] = set()
        """Study and destination, where other runs may have queued it again since."""

    def close(self) -> None:
        """Close all connections."""
        self._destinations.close()

    def share(self, rules: RuleSet) -> None:
        """Take the mapping that the run has compiled."""
        self._destinations.rules[self._loaded.config.convert.profile] = rules

    def __call__(self, store: SqlStore, progress: Progress, stop: Callable[[], bool]) -> None:
        """Queue the studies of the run and send them, for so long as the configuration says."""
        names = list(self.settings)
        clock = clock_of(store)
        kept = remembered(self._loaded)
        for name in names:
            store.outbox.configure(name, kept)
        store.outbox.reclaim()  # a run has its state file alone
        store.outbox.enqueue(names, clock.now(), store.outbox.seen(store.run))
        due = store.outbox.waiting(names, clock.now())
        progress.phase("delivering", sum(count for count, _ in due.values()))

        def settled(row: Row, delivery: Delivery) -> None:
            if delivery.findings:
                self._findings[row.study_uid] = delivery.findings
            if delivery.state != "due":
                progress.advance()
            if delivery.state == "delivered" and store.several:
                self._delivered.add((row.study_uid, row.destination))

        sender = self._destinations.sender(store, settled)
        until = clock.now() + parse_duration(self._loaded.config.delivery.deliver_timeout)
        self.tally = sender.run(until=until, stop=stop)
        while store.several and store.outbox.unconverted(names):
            # another run has just added to these studies, and is about to convert them
            if stop() or clock.now() >= until:
                break
            time.sleep(0.5)
            self.tally = sender.run(until=until, stop=stop)
        self._note(store, names)

    def _note(self, store: SqlStore, names: Sequence[str]) -> None:
        """Write into the results of the run what became of each study at its destinations."""
        for uid, name, state, reason in store.outbox.states(names):
            outcome = store.study_outcome(uid)
            if outcome is None or (
                outcome.reason and (outcome.reason != "rejected" or state == "delivered")
            ):
                continue  # not of this run, held, or at another destination worse off already
            word, why = "published", ""
            if state == "due" and (uid, name) not in self._delivered:
                word = "queued"
                why = "circuit-open" if name in self.tally.circuits else "not-delivered"
            elif state not in {"due", "delivered"}:
                word, why = state, reason
            issues = [*outcome.issues, *self._findings.pop(uid, [])]
            store.save_outcomes(
                [msgspec.structs.replace(outcome, state=word, reason=why, issues=issues)]
            )


def say(tally: Tally, state: StatePlace, *, unconverted: int = 0) -> None:
    """Tell on stderr what was delivered, what was not and why, and how to go on."""
    # always named: without it `dead` looks into the daemon's state first, and `send` into convert's
    at = f" --state {shlex.quote(str(state))}"
    lines = [f"delivered {_studies(tally.delivered)}"]
    if tally.unchanged:
        lines[0] += f", {tally.unchanged} of them stood there as they are"
    for reason, count in sorted(tally.reasons.items()):
        if count:
            lines.append(f"not delivered, {reason}: {_studies(count)}")
    if sum(tally.reasons.values()):
        lines.append(f"see why and what to do:\n    dcm2fhir dead list{at}")
    for name, count in tally.waiting.items():
        why = tally.circuits.get(name) or tally.last.get(name) or "not tried yet"
        lines.append(f"{_studies(count)} waiting for {name}: {why}")
    if tally.waiting:
        lines.append(f"they are kept in {state}; go on with:\n    dcm2fhir send{at}")
    if unconverted:
        lines.append(f"{_studies(unconverted)} wait for their conversion: run convert again")
    click.echo("\n".join(lines), err=True)


def _studies(count: int) -> str:
    return f"{count:,} stud{'y' if count == 1 else 'ies'}"


def config_for(settings: str, config_file: str | None, flags: Mapping[str, Any]) -> Loaded:
    """Configuration that a destination is served with: what its latest run was told, then what is told now."""
    kept = msgspec.json.decode(settings) if settings else {}
    file = config_file or kept.get("config") or None
    if file and not config_file and not Path(file).is_file():
        file = None
    return load(file, flags={**kept.get("flags", {}), **flags})
