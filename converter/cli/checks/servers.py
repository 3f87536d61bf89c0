"""FHIR servers, asked as a delivery would ask: name, TLS, credentials, what they claim, their clock. Nothing is written."""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import closing, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from converter.cli.checks.certificates import files, runs_out
from converter.cli.checks.finding import NETWORK, Finding, lasted
from converter.cli.sending import chosen_of, configurations
from converter.delivery.address import is_loopback
from converter.delivery.answers import decide
from converter.delivery.auth import TokenError
from converter.delivery.client import FhirClient
from converter.delivery.destinations import capability, resolve
from converter.delivery.job import KIND, uid_tokens
from converter.delivery.redact import refusal
from converter.delivery.talk import why
from converter.errors import ConfigurationError, ConverterError
from converter.store.looking import look
from converter.store.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from converter.cli.checks.finding import SetUp
    from converter.delivery.answers import Answer
    from converter.settings import Config, DestinationSettings
    from converter.store import StatePlace

__all__ = ["Destination", "destinations", "server"]

PATIENCE = 5.0
"""Seconds for a connection."""
ANSWER = 10.0
"""Seconds for an answer: a server that has just started makes its CapabilityStatement when it is first asked."""
SKEW = 60.0
"""Seconds that a server's clock may be apart: a signed assertion lives for 240, and a proxy's answer has an age."""
NOBODY = uid_tokens("2.25.0")
"""A study that no server has (the nil UUID): the answer is as short as it can be."""
FAILURES = {
    "connect": "nobody answers",
    "timeout": f"no answer within {ANSWER:.0f} s",
    "broken": "the connection is cut off",
    "tls": "TLS fails: the server wants another certificate of ours, or none fits",
}


class Destination(NamedTuple):
    """A FHIR server that something is, or may be, delivered to."""

    name: str
    settings: DestinationSettings
    allow_http: bool


def destinations(
    setup: SetUp, stores: Sequence[StatePlace]
) -> tuple[list[Destination], list[ConfigurationError]]:
    """Servers that the configuration, the command line and the queues name; and what is wrong with a name."""
    config = setup.loaded.config
    found: dict[str, Destination] = {}
    wrong: list[ConfigurationError] = []

    def add(settings: dict[str, DestinationSettings], config: Config) -> None:
        for name, own in settings.items():
            found.setdefault(name, Destination(name, own, config.delivery.allow_http))

    asked = dict.fromkeys([*config.convert.to, *(() if setup.alone else config.destinations)])
    for name in asked:
        try:
            add(resolve([name], config.destinations, allow_http=True), config)
        except ConfigurationError as error:
            wrong.append(error)
    if not setup.alone:
        for name, (own, kept) in _queued(setup, stores).items():
            add({name: own}, kept)
    return list(found.values()), wrong


def _queued(
    setup: SetUp, stores: Sequence[StatePlace]
) -> dict[str, tuple[DestinationSettings, Config]]:
    """Servers that something is queued for, as their latest run was told; what is wrong with a store is told as its own."""
    found: dict[str, tuple[DestinationSettings, Config]] = {}
    for place in stores:
        with suppress(ConverterError, OSError), closing((sight := look(place)).database):
            if sight.current:
                outbox = Outbox(sight.database)
                configs = configurations(outbox, setup.config_file, setup.flags)
                for name, own in chosen_of(setup.loaded, configs, ()).items():
                    found[name] = own, configs[name].config
    return found


def server(destination: Destination) -> Iterator[Finding]:
    """One server."""
    name, settings, allow_http = destination
    client = FhirClient(name, settings, timeout=ANSWER, connections=2, allow_http=allow_http)
    with closing(client):
        at = client.base if name == client.base else f"{name} ({client.base})"
        key = settings.certificate_key or settings.certificate
        yield from files(
            f"destinations.{name}.", {"certificate": settings.certificate, "ca": settings.ca}, key
        )
        trouble = list(_way(at, client))
        yield from trouble
        if any(one.status == "problem" for one in trouble):
            return
        try:
            client.credentials.headers()
        except TokenError as error:
            yield Finding("problem", f"{at}: {error}", _credentials(destination), NETWORK)
            return
        answer = client.request("GET", "metadata", "metadata")
        claims = capability(answer)
        # many let anybody read what they claim, so credentials show with a search alone
        asked = client.request(
            "GET", KIND, "search", params={"identifier": NOBODY, "_summary": "count"}
        )
        yield from _clock(at, asked if asked.headers else answer)
        if decide(asked, "search") != "done":
            yield _refused(at, client.base, destination, asked)
            return
        if not claims.stated:
            yield Finding(
                "warning",
                f"{at}: finds studies, but says nothing of itself ({_words(answer, 'GET metadata')})",
                f"curl {client.base}/metadata should answer with a CapabilityStatement",
            )
            return
    if claims.wrong_version:
        yield Finding(
            "problem",
            f"{at}: speaks FHIR {claims.wrong_version}, not R4 (4.0.1)",
            "look for the R4 base URL of that server",
            NETWORK,
        )
    elif KIND in claims.lacks:
        yield Finding(
            "problem",
            f"{at}: knows no {KIND}, by what it says of itself",
            f"have the server's operator enable {KIND}",
            NETWORK,
        )
    elif claims.lacks:
        yield Finding(
            "warning",
            f"{at}: has no {'; no '.join(claims.lacks)}, by what it says of itself",
            "have the server's operator enable it; the first study shows whether it is so",
        )
    else:
        ids = ", gives ids itself" if claims.server_ids else ""
        proof = "" if settings.auth == "none" and not settings.token_file else ", lets us in"
        yield Finding("ok", f"{at}: FHIR R4, finds and takes {KIND}{ids}{proof}")


def _way(at: str, client: FhirClient) -> Iterator[Finding]:
    """The way there: name, connection, TLS. Through a proxy it is the proxy's."""
    parts = urlsplit(client.base)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if _proxied(parts.scheme, host):
        return
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        yield Finding(
            "problem",
            f"{at}: the name {host} is not known (DNS)",
            f"getent hosts {host}; look at the URL, and at /etc/resolv.conf",
            NETWORK,
        )
        return
    try:
        with socket.create_connection((host, port), PATIENCE) as raw:
            if parts.scheme == "https":
                with client.tls().wrap_socket(raw, server_hostname=host) as safe:
                    yield from _holds(at, safe.getpeercert())
    except ssl.SSLCertVerificationError as error:
        known = f"ca = FILE in [destinations.{client.name}]"
        unnamed = "ca = FILE, with its url, in a [destinations.NAME]"
        yield Finding(
            "problem",
            f"{at}: its certificate is not believed: {error.verify_message}",
            f"{unnamed if client.name == client.base else known}, of the authority that signed it; or a new certificate there",
            NETWORK,
        )
    except ssl.SSLError as error:
        why_not = str(error.reason or "no TLS").replace("_", " ").lower()
        yield Finding(
            "problem",
            f"{at}: TLS fails ({why_not})",
            f"openssl s_client -connect {host}:{port} shows more; is it https at all?",
            NETWORK,
        )
    except OSError as error:
        late = f"no connection within {PATIENCE:.0f} s"
        told = late if isinstance(error, TimeoutError) else FAILURES["connect"]
        yield Finding(
            "problem",
            f"{at}: {told} at {host} port {port}",
            "is the server up, and is there a firewall between? What is queued is kept",
            NETWORK,
        )


def _holds(at: str, certificate: object) -> Iterator[Finding]:
    held = certificate if isinstance(certificate, dict) else {}
    if "notAfter" in held and "notBefore" in held:
        begin, end = (
            datetime.fromtimestamp(ssl.cert_time_to_seconds(str(held[key])), UTC)
            for key in ("notBefore", "notAfter")
        )
        yield from runs_out(f"{at}: its certificate", [(begin, end)], datetime.now(UTC))


def _proxied(scheme: str, host: str) -> bool:
    """Whether requests go through a proxy of the environment."""
    from urllib.request import getproxies, proxy_bypass

    if is_loopback(host):
        return False
    proxies = getproxies()
    return bool((scheme in proxies or "all" in proxies) and not proxy_bypass(host))


def _refused(at: str, base: str, destination: Destination, answer: Answer) -> Finding:
    words = _words(answer, f"GET {KIND}")
    if answer.status in {401, 403}:
        told = f"{at}: HTTP {answer.status} to GET {KIND}: it does not let us in"
        return Finding("problem", told, _credentials(destination), NETWORK)
    fix = f"curl -sI {base}/metadata shows what is there, and where it leads"
    if not answer.failure and decide(answer, "search") == "again":
        fix = "look at the server's log; what is queued is kept, and tried again"
    return Finding("problem", f"{at}: {words}", fix, NETWORK)


def _words(answer: Answer, asked: str) -> str:
    """An answer in words of ours: those of the server may quote what they were sent."""
    if answer.failure in FAILURES:
        return FAILURES[answer.failure]
    if answer.failure or answer.foreign or answer.empty or answer.status in {404, 405}:
        return why(answer, asked)
    return str(refusal(answer, "refused", asked))


def _credentials(destination: Destination) -> str:
    name, settings, _ = destination
    at = f"[destinations.{name}]" if "://" not in name else "a [destinations.NAME] with that url"
    keys = {
        "bearer": "token_file",
        "basic": "username and password_file",
        "oauth2": "token_url, client_id, client_secret_file and scope",
        "smart": "client_id, key_file, scope and token_url; is our public key registered there?",
    }
    if settings.auth == "none" and not settings.token_file:
        return f"auth = and what it needs in {at}: docs/delivery.md"
    return (
        f"look at {keys.get(settings.auth, keys['bearer'])} in {at}, and at what they allow there"
    )


def _clock(at: str, answer: Answer) -> Iterator[Finding]:
    try:
        said = parsedate_to_datetime(answer.headers.get("date", ""))
    except ValueError:
        return
    apart = (said if said.tzinfo else said.replace(tzinfo=UTC)).timestamp() - time.time()
    if abs(apart) > SKEW:
        ahead = "ahead of" if apart > 0 else "behind"
        yield Finding(
            "warning",
            f"{at}: its clock is {lasted(apart)} {ahead} ours; tokens and certificates hang on it",
            "keep both in time (NTP): timedatectl set-ntp true",
        )
