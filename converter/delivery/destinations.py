"""Destinations by name: what ``--to`` means, and what is known of a server before the first study."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from converter.delivery.address import normalised
from converter.delivery.talk import Client
from converter.errors import ConfigurationError
from converter.settings import DestinationSettings

__all__ = ["Capability", "look", "named", "resolve"]


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


def look(client: Client) -> Capability:
    """Read the CapabilityStatement; believed until the first real study shows otherwise."""
    body = client.request("GET", "metadata", "metadata").body or {}
    if body.get("resourceType") != "CapabilityStatement":
        return Capability()
    version = str(body.get("fhirVersion", ""))
    wrong = "" if version.startswith("4.0") or not version else version[:12]
    for rest in body.get("rest") or []:
        for resource in rest.get("resource") or [] if isinstance(rest, dict) else []:
            if isinstance(resource, dict) and resource.get("type") == "ImagingStudy":
                return Capability(resource.get("updateCreate") is False, wrong)
    return Capability(False, wrong)
