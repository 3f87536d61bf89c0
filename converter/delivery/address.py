"""Base URLs: one form for each, and which of them may be spoken to without TLS."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit, urlunsplit

from converter.errors import ConfigurationError

__all__ = ["is_loopback", "is_open", "normalised", "shown"]

PORTS = {"http": 80, "https": 443}


def normalised(url: str, *, allow_http: bool = False) -> str:
    """Write a base URL in one form: lower case, no default port, no slash at the end.

    Raises
    ------
    ConfigurationError
        It is no base URL, holds a password, or is plain http to another machine.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise ConfigurationError("a FHIR server's base URL cannot be read") from error
    scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(
            f"the URL of {host} holds a name or password, which others see in the list of processes: "
            'name the server in [destinations.NAME] with auth = "basic" and a password_file'
        )
    if scheme not in PORTS or not host:
        raise ConfigurationError(f"{shown(url)} is no base URL such as https://fhir.example/r4")
    if parts.query or parts.fragment:
        raise ConfigurationError(f"the base URL of {host} has a query or a fragment")
    if not allow_http and is_open(url):
        raise ConfigurationError(
            f"http://{host} would send patients' data readable to all on the way: use https, or say "
            "--allow-http (delivery.allow_http) if the network is secured otherwise"
        )
    name = f"[{host}]" if ":" in host else host
    if port is not None and port != PORTS[scheme]:
        name = f"{name}:{port}"
    return urlunsplit((scheme, name, parts.path.rstrip("/"), "", ""))


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_open(url: str) -> bool:
    """Whether others on the way can read what is sent to a URL."""
    parts = urlsplit(url.strip())
    return parts.scheme.lower() != "https" and not is_loopback((parts.hostname or "").lower())


def shown(url: str) -> str:
    """A URL as a message may show it: scheme, host and path, nothing secret."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "the URL"
    return (
        f"{parts.scheme}://{host}{port}{parts.path}"
        if host
        else (url.rsplit("@", maxsplit=1)[-1] or "an empty text")
    )
