"""What a configuration says: is it readable, does its mapping compile, does what it says of senders make sense."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from converter.cli.checks.finding import CONFIGURATION, Finding, counted
from converter.cli.mappings import compiled
from converter.cli.refusals import listen_faults, mapping_faults
from converter.config import settings_of
from converter.listener.policy import is_loopback, networks, refuse_exposure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from converter.cli.checks.finding import SetUp
    from converter.errors import Fault

__all__ = ["configuration", "faulty", "mapping", "senders"]


def faulty(faults: Iterable[Fault]) -> Iterator[Finding]:
    """Faults as `config check` tells them."""
    for fault in faults:
        fix = f"put it right in {fault.file}, then: dcm2fhir config check"
        if fault.file == "command line":
            fix = "another value on the command line"
        yield Finding("problem", str(fault), fix, CONFIGURATION)


def configuration(setup: SetUp) -> Iterator[Finding]:
    """Which file is in force; it was read already."""
    loaded = setup.loaded
    count = sum(setting.origin != "default" for setting in settings_of(loaded))
    keys = f"{counted(count, 'key')} set"
    if loaded.file is None:
        yield Finding("ok", f"no file, {keys}")
    else:
        yield Finding("ok", f"{loaded.file}, {keys}")


def mapping(setup: SetUp) -> Iterator[Finding]:
    """Whether profiles and mappings compile, and all examples hold."""
    config = setup.loaded.config
    if faults := mapping_faults(setup.loaded):
        yield from faulty(faults)
        return
    faults, examples = compiled(config, (), Path(config.convert.mappings or ""))
    yield from faulty(faults)
    if not faults:
        profiles = ", ".join(config.convert.profile)
        overlays = f", overlays of {config.convert.mappings}" if config.convert.mappings else ""
        yield Finding("ok", f"profiles {profiles}{overlays}: {examples} examples hold")


def senders(setup: SetUp) -> Iterator[Finding]:
    """Who may send: what `listen` refuses, and what it takes and nobody can have meant."""
    # a state that cannot be named so is told where the store is looked at
    faults = [fault for fault in listen_faults(setup.loaded) if fault.key != "listen.state"]
    if faults:
        yield from faulty(faults)
        return
    held = setup.daemon
    refuse_exposure(held.bind, held.policy, mutual_tls=bool(held.tls_ca), open_=held.open)
    yield from _exposure(setup)
    yield from _peers(setup)
    policy = held.policy
    titles = [title for peer in policy.peers for title in peer.ae_titles] + [*policy.calling]
    words = [
        f"{policy.ae_title} on {held.bind}",
        counted(len(policy.addresses), "network") if policy.addresses else "from any address",
        counted(len(set(titles)), "calling AE title") if titles else "any calling AE title",
    ]
    if policy.peers:
        words.append(counted(len(policy.peers), "peer"))
    words.append("a certificate from each" if held.tls_ca else "TLS" if held.tls_cert else "no TLS")
    yield Finding("ok", ", ".join(words))


def _exposure(setup: SetUp) -> Iterator[Finding]:
    held = setup.daemon
    where = setup.origin("listen", "allow_ip")
    named = [("allow_ip", held.policy.addresses)]
    named += [(f"peers.{peer.name}.addresses", peer.addresses) for peer in held.policy.peers]
    for key, texts in named:
        for text, network in zip(texts, networks(texts), strict=True):
            if not network.prefixlen:
                yield Finding(
                    "warning",
                    f"listen.{key}: {text} is every address, so it keeps out nobody",
                    f"name the networks of the senders in {where}, such as 10.1.2.0/24",
                )
    ranges = networks(text for _, texts in named for text in texts)
    if is_loopback(held.bind):
        if any(not network.is_loopback for network in ranges if network.prefixlen):
            yield Finding(
                "warning",
                f"addresses of other machines may send, and we listen on {held.bind} alone",
                'bind = "0.0.0.0" in [listen], or --bind',
            )
    elif held.open and not ranges and not held.tls_ca:
        yield Finding(
            "warning",
            f"anybody who reaches {held.bind} may send (open)",
            "allow_ip or tls_ca in [listen], without open",
        )


def _peers(setup: SetUp) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for peer in setup.daemon.policy.peers:
        at = f"listen.peers.{peer.name}"
        if not peer.ae_titles:
            yield Finding(
                "warning",
                f"{at} names no AE title, so no sender is ever this one",
                f'ae_titles = ["..."] in [{at}]',
            )
        for title in peer.ae_titles:
            first = seen.setdefault(title, peer.name)
            # sections are asked in the order of their names, and the first that fits wins
            bound = next(p for p in setup.daemon.policy.peers if p.name == first)
            if first != peer.name and not bound.addresses and not bound.certificate:
                yield Finding(
                    "warning",
                    f"{at} is never asked for {title}: listen.peers.{first} takes it from anywhere",
                    f"addresses or certificate in [listen.peers.{first}]",
                )
