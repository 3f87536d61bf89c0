"""What is refused of a configuration, all at once: `listen`, ``config check`` and `doctor` tell the same."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.errors import ConfigurationError, Fault, MappingError, ProfileNotFoundError
from converter.listener.policy import networks
from converter.settings import parse_duration
from converter.store import place_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converter.config import Loaded

__all__ = [
    "PORTS",
    "destination_faults",
    "listen_faults",
    "mapping_faults",
    "missing_files",
    "state_fault",
    "title_fault",
]

Key = tuple[str, ...]
LONGEST_TITLE = 16
PORTS = 65535


def listen_faults(loaded: Loaded) -> list[Fault]:
    """Every fault of ``[listen]`` that one value, or several together, have; the origin is where the first stands."""
    found = []
    for keys, message in [*_titles(loaded), *_addresses(loaded), *_together(loaded)]:
        paths = [("listen", *key) for key in keys]
        given = [path for path in paths if path in loaded.origins]
        path = given[0] if given else paths[0]
        found.append(Fault(loaded.origins.get(path, "default"), ".".join(path), message))
    return found


def _lists(loaded: Loaded, name: str, of_peers: str) -> Iterator[tuple[Key, str]]:
    """(key, value) of a list of ``[listen]``, and of those of its peers."""
    held = loaded.config.listen
    yield from (((name,), value) for value in getattr(held, name))
    for peer, settings in held.peers.items():
        yield from ((("peers", peer, of_peers), value) for value in getattr(settings, of_peers))


def _titles(loaded: Loaded) -> Iterator[tuple[list[Key], str]]:
    named: list[tuple[Key, str]] = [(("ae_title",), loaded.config.listen.ae_title)]
    for key, title in [*named, *_lists(loaded, "allow_calling_aet", "ae_titles")]:
        if why := title_fault(title):
            yield [key], why


def title_fault(title: str) -> str:
    """Why a text is no AE title (PS3.5 table 6.2-1), or empty."""
    if not title.strip():
        return "is blank, and so no AE title"
    if not (title.isascii() and title.isprintable()) or "\\" in title:
        return "is no AE title: ASCII without backslash and control characters"
    if len(title.strip()) > LONGEST_TITLE:
        return f"is no AE title: {len(title.strip())} characters, and {LONGEST_TITLE} are the most"
    return ""


def _addresses(loaded: Loaded) -> Iterator[tuple[list[Key], str]]:
    for key, text in _lists(loaded, "allow_ip", "addresses"):
        try:
            networks([text])
        except ConfigurationError as error:
            yield [key], str(error).rstrip(".")


def state_fault(text: str) -> str:
    """Why a text names no state, or empty."""
    try:
        place_of(text)
    except ConfigurationError as error:
        return str(error).removeprefix("--state: ")
    return ""


def _together(loaded: Loaded) -> Iterator[tuple[list[Key], str]]:
    held: Any = loaded.config.listen
    if why := state_fault(held.state):
        yield [("state",)], why
    for key in ("port", "http_port"):
        if getattr(held, key) > PORTS:
            yield [(key,)], f"is no port: {PORTS} is the last"
    for key in ("tls_key", "tls_ca"):
        if getattr(held, key) and not held.tls_cert:
            yield [(key,)], "goes with tls_cert (--tls-cert)"
    for name, peer in held.peers.items():
        if peer.certificate and not held.tls_ca:
            yield (
                [("peers", name, "certificate")],
                "binds titles to a certificate: that needs tls_ca (--tls-ca)",
            )
    if held.keep_files and held.success_status == "0xB006":
        yield (
            [("success_status",), ("keep_files",)],
            "0xB006 says that pixel data is discarded: not with keep_files (--keep-files)",
        )
    output = loaded.config.convert.output
    if held.keep_files and output and Path(held.keep_files).resolve() == Path(output).resolve():
        yield [("keep_files",)], "is the folder of the resources (-o): name another (--keep-files)"
    if parse_duration(held.quiet_period) > parse_duration(held.quiet_cap):
        yield (
            [("quiet_period",), ("quiet_cap",)],
            (
                f"a quiet_period (--quiet-period) of {held.quiet_period} is longer than "
                f"a quiet_cap (--quiet-cap) of {held.quiet_cap}"
            ),
        )


def destination_faults(loaded: Loaded) -> list[Fault]:
    """What of ``convert.to`` and of the addresses of ``[destinations]`` a run refuses."""
    from converter.delivery.address import normalised
    from converter.delivery.destinations import resolve

    config = loaded.config
    plain = config.delivery.allow_http
    found: dict[Key, Fault] = {}

    def fault(at: Key, error: ConfigurationError) -> Fault:
        return Fault(loaded.origins.get(at, ""), ".".join(at), str(error).removeprefix("--to "))

    for name, settings in config.destinations.items():
        for key in ("url", "token_url"):
            at = ("destinations", name, key)
            try:
                if address := getattr(settings, key):
                    normalised(address, allow_http=plain)
            except ConfigurationError as error:
                found[at] = fault(at, error)
    usable = {
        name: settings
        for name, settings in config.destinations.items()
        if ("destinations", name, "url") not in found
    }
    others = []
    for text in config.convert.to:
        try:
            if text in usable or text not in config.destinations:
                resolve([text], usable, allow_http=plain)
        except ConfigurationError as error:
            others.append(fault(("convert", "to"), error))
    return [*found.values(), *dict.fromkeys(others)]


READ = (
    "token_file", "password_file", "client_secret_file", "key_file", "certificate", "certificate_key", "ca",
    "tls_cert", "tls_key", "tls_ca",
)  # fmt: skip
"""Keys that name a file which is read."""


def missing_files(loaded: Loaded) -> list[Fault]:
    """What a configuration names of secrets and certificates and is not there, or may not be read."""
    config = loaded.config
    sections = {f"destinations.{name}": held for name, held in config.destinations.items()}
    found = []
    for section, held in {"identity": config.identity, "listen": config.listen, **sections}.items():
        for name in READ:
            path = getattr(held, name, "")
            if path and not os.access(path, os.R_OK):
                key = f"{section}.{name}"
                why = "may not be read" if Path(path).exists() else "is not there"
                origin = loaded.origins.get(tuple(key.split(".")), "")
                found.append(Fault(origin, key, f"{path} {why}"))
    return found


def mapping_faults(loaded: Loaded) -> list[Fault]:
    """What of the mapping that a configuration names is not there or wrong: of the run, and of each destination."""
    from converter.mapping import load

    settings = loaded.config.convert
    named = {"convert.profile": settings.profile} | {
        f"destinations.{name}.profile": held.profile
        for name, held in loaded.config.destinations.items()
        if held.profile
    }
    faults: list[Fault] = []
    for key, profiles in named.items():
        try:
            load(
                profiles,
                site=loaded.config.site,
                overlays=Path(settings.mappings) if settings.mappings else None,
            )
        except ProfileNotFoundError as error:
            origin = loaded.origins.get(tuple(key.split(".")), "")
            faults.append(Fault(origin, key, str(error)))
        except MappingError as error:
            faults += error.faults
    return list(dict.fromkeys(faults))
