"""Destinations by name: what ``--to`` means, and what is known of a server before the first study."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from converter.delivery.address import normalised
from converter.delivery.answers import Answer
from converter.delivery.talk import Client
from converter.errors import ConfigurationError
from converter.settings import DestinationSettings

__all__ = ["Capability", "capability", "look", "named", "resolve"]


def resolve(
    to: Sequence[str], configured: Mapping[str, DestinationSettings], *, allow_http: bool = False
) -> dict[str, DestinationSettings]:
    """Settings of the destinations that ``--to`` names, each once.

    A bare URL is named by its normalised form, unless a destination of the configuration has that URL.

    Raises
    ------
    ConfigurationError
        A name is not configured, or a URL cannot be used.
    """
    urls = {
        normalised(settings.url, allow_http=True): name
        for name, settings in configured.items()
        if settings.url
    }
    found: dict[str, DestinationSettings] = {}
    for text in to:
        if text in configured:
            found[text] = named(text, configured)
        elif "://" in text:
            url = normalised(text, allow_http=True)
            name = urls.get(url, url)
            found[name] = configured.get(name) or DestinationSettings(url=url)
        else:
            near = difflib.get_close_matches(text, list(configured), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigurationError(
                f"--to {text}: no URL, and no [destinations.{text}] in the configuration{hint}"
            )
    for settings in found.values():
        normalised(settings.url, allow_http=allow_http)
    return found


def named(name: str, configured: Mapping[str, DestinationSettings]) -> DestinationSettings:
    """Settings of one destination of the configuration.

    Raises
    ------
    ConfigurationError
        It has no URL.
    """
    settings = configured[name]
    if not settings.url:
        raise ConfigurationError(f"destinations.{name}.url: says where the FHIR server is")
    return settings


class Capability(NamedTuple):
    """What a server claims of itself."""

    server_ids: bool = False
    """It says that a PUT creates nothing."""
    wrong_version: str = ""
    """FHIR version that is not R4; empty where it is, or says nothing."""
    stated: bool = False
    """Whether it is a CapabilityStatement at all."""
    lacks: tuple[str, ...] = ()
    """What it says of its resources and we need."""


NEEDED = {
    "ImagingStudy": ("read", "search-type", "create", "update"),
    "Patient": ("read", "create", "update"),
}
"""Interactions that a delivery may need."""


def look(client: Client) -> Capability:
    """Read the CapabilityStatement; believed until the first real study shows otherwise."""
    return capability(client.request("GET", "metadata", "metadata"))


def capability(answer: Answer) -> Capability:
    """What an answer to ``metadata`` claims; a server that says nothing of a resource lacks nothing."""
    body = answer.body or {}
    if body.get("resourceType") != "CapabilityStatement":
        return Capability()
    version = str(body.get("fhirVersion", ""))
    wrong = "" if version.startswith("4.0") or not version else version[:12]
    held = {str(one.get("type")): one for one in _resources(body)}
    study = held.get("ImagingStudy", {})
    server_ids = study.get("updateCreate") is False
    lacks = [lack for kind in NEEDED if held for lack in _lacks(kind, held.get(kind))]
    if server_ids and study.get("conditionalCreate") is False:
        lacks.append("conditional create of ImagingStudy, while it gives ids itself")
    return Capability(server_ids, wrong, stated=True, lacks=tuple(lacks))


def _resources(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for rest in _dicts(body.get("rest")):
        yield from _dicts(rest.get("resource"))


def _dicts(value: Any) -> Iterator[Mapping[str, Any]]:
    yield from (one for one in (value if isinstance(value, list) else ()) if isinstance(one, dict))


def _lacks(kind: str, stated: Mapping[str, Any] | None) -> Iterator[str]:
    if stated is None:
        yield kind
        return
    offered = {one.get("code") for one in _dicts(stated.get("interaction"))}
    missing = [word for word in NEEDED[kind] if offered and word not in offered]
    if missing:
        yield f"{', '.join(missing)} of {kind}"
