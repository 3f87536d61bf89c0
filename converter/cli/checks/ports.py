"""Ports: free, held by a daemon of ours, or by somebody else."""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from converter.cli.checks.finding import CONFIGURATION, MACHINE, Finding
from converter.cli.places import ELSEWHERE
from converter.cli.refusals import PORTS, title_fault
from converter.errors import PortError
from converter.listener.files import IMPLEMENTATION
from converter.listener.starting import bind, locks_of
from converter.store.place import held

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converter.cli.checks.finding import SetUp
    from converter.listener.starting import DaemonSettings

__all__ = ["dicom", "http_port"]

PATIENCE = 3.0
LARGEST = 4096
ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  what is asked to reach a port that is bound everywhere


def dicom(setup: SetUp) -> Iterator[Finding]:
    """The port of `listen`: bound for a moment, to see whether it can be had."""
    settings = setup.daemon
    where = f"{settings.port} on {settings.bind}"
    if settings.port > PORTS:
        return  # told as a fault of the configuration
    try:
        with ExitStack() as stack:
            bind(settings, stack)
    except PortError as error:
        number = getattr(error.__cause__, "errno", 0)
        if number == errno.EADDRINUSE:
            yield _taken(settings, where)
        else:
            fix = (
                "a port from 1024 on (listen.port), or CAP_NET_BIND_SERVICE for the service"
                if number == errno.EACCES
                else "listen.bind: an address of this machine, as `ip address` shows them"
            )
            yield Finding("problem", str(error), fix, MACHINE)
        return
    found = f"{where} is free" if settings.port else f"a free one is asked for on {settings.bind}"
    busy = _busy(settings)
    if busy:
        yield Finding(
            "warning",
            f"{found}, but another dcm2fhir holds {busy[0]}: listen would not start",
            f"fuser {busy[0]} names it; end it, or name another --state and --journal",
        )
    else:
        yield Finding("ok", found)


def _busy(settings: DaemonSettings) -> list[str]:
    """Locks of a daemon that another one holds; what may not be looked at is told with the store."""
    found = []
    for lock in locks_of(settings):
        with suppress(OSError):
            found += [str(lock)] if held(lock) else []
    return found


def _elsewhere(settings: DaemonSettings) -> bool:
    """Whether no daemon holds this state, as far as this user may see."""
    try:
        return isinstance(settings.state, Path) and not any(map(held, locks_of(settings)))
    except OSError:
        return False


def _taken(settings: DaemonSettings, where: str) -> Finding:
    echo = _echo(settings)
    if echo.ours and echo.answered:
        if _elsewhere(settings):
            return Finding(
                "warning",
                f"{where}: a dcm2fhir daemon ({echo.name}) answers C-ECHO, and its state is not {settings.state}",
                ELSEWHERE,
            )
        return Finding("ok", f"{where}: a dcm2fhir daemon ({echo.name}) answers C-ECHO")
    if _busy(settings):
        return Finding(
            "ok",
            f"{where}: taken, as it seems by the daemon that holds the state; from here it lets nobody in",
        )
    who = "something that does not speak DICOM" + (" over TLS" if settings.tls_cert else "")
    if echo.answered:
        who = f"a DICOM application that is not dcm2fhir ({echo.name or 'it gives no name'})"
    elif echo.rejected:
        who = "a DICOM application that rejects our C-ECHO"
    return Finding(
        "problem",
        f"{where} is taken by {who}",
        f"ss -ltnp 'sport = :{settings.port}' names it; end it, or take another port (listen.port)",
        MACHINE,
    )


class _Echo(NamedTuple):
    answered: bool = False
    rejected: bool = False
    ours: bool = False
    name: str = ""
    """Implementation version name of the other side."""


def _echo(settings: DaemonSettings) -> _Echo:
    """Ask whoever has our port for a C-ECHO, as somebody who may."""
    from pynetdicom import AE

    from converter.listener.policy import VERIFICATION
    from converter.listener.private import quiet_library

    quiet_library()
    policy = settings.policy
    titles = [*policy.calling, *(title for peer in policy.peers for title in peer.ae_titles)]
    called, calling = policy.ae_title, next(iter(titles), "")
    ae = AE("DCM2FHIR-DOCTOR" if title_fault(calling) else calling.strip())
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = PATIENCE
    ae.add_requested_context(VERIFICATION)
    host = ANY.get(settings.bind, settings.bind)
    tls = (_client_context(settings), host) if settings.tls_cert else None
    if tls is not None and not _shakes(tls[0], host, settings.port):
        return _Echo()
    association = ae.associate(
        host,
        settings.port,
        ae_title="ANY-SCP" if title_fault(called) else called,
        tls_args=tls,
    )
    if not association.is_established:
        return _Echo(rejected=bool(association.is_rejected))
    try:
        answered = association.send_c_echo().get("Status") == 0
        other = association.acceptor
        name = other.implementation_version_name or ""
        return _Echo(
            answered=answered,
            ours=str(other.implementation_class_uid) == IMPLEMENTATION,
            name="".join(c for c in name if c.isascii() and c.isprintable()),
        )
    finally:
        association.release()


def _client_context(settings: DaemonSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # it is our own port, and nothing is told to it
    with suppress(OSError, ssl.SSLError):
        context.load_cert_chain(settings.tls_cert, settings.tls_key or None)
    return context


def _shakes(context: ssl.SSLContext, host: str, port: int) -> bool:
    """Whether TLS comes about: pynetdicom leaves a socket open where it does not."""
    try:
        with socket.create_connection((host, port), PATIENCE) as raw, context.wrap_socket(raw):
            return True
    except OSError:
        return False


def http_port(setup: SetUp) -> Iterator[Finding]:
    """The port of health, metrics and status page."""
    settings = setup.daemon
    port = settings.http_port
    if port > PORTS:
        return
    where = f"{port} on 127.0.0.1"
    if port and port == settings.port and settings.bind in {"127.0.0.1", "localhost", *ANY}:
        yield Finding(
            "problem",
            f"{port} is the port of DICOM as well",
            "another listen.http_port (--http-port)",
            CONFIGURATION,
        )
        return
    try:
        with ExitStack() as stack:
            bind(_only_http(settings), stack)
    except PortError as error:
        if getattr(error.__cause__, "errno", 0) == errno.EADDRINUSE:
            yield _http_taken(port, where)
        else:
            yield Finding("problem", str(error), "listen.http_port from 1024 on", MACHINE)
        return
    yield Finding("ok", f"{where} is free" if port else "a free one is asked for on 127.0.0.1")


def _only_http(settings: DaemonSettings) -> DaemonSettings:
    import msgspec

    return msgspec.structs.replace(settings, bind="127.0.0.1", port=settings.http_port)


def _http_taken(port: int, where: str) -> Finding:
    status, server, text = _ready(port)
    if not server.startswith("dcm2fhir"):
        return Finding(
            "problem",
            f"{where} is taken by something that is not dcm2fhir",
            f"ss -ltnp 'sport = :{port}' names it; end it, or take another port (listen.http_port)",
            MACHINE,
        )
    why = ", ".join(text.split("\n")).strip(", ")
    if status == 200:
        if hindered := why.removeprefix("ok").strip(", "):
            return Finding(
                "warning",
                f"{where}: a dcm2fhir daemon, which receives and is hindered: {hindered}",
                "its log says why",
            )
        return Finding("ok", f"{where}: a dcm2fhir daemon, which is ready")
    return Finding(
        "warning" if why == "draining" else "problem",
        f"{where}: a dcm2fhir daemon, which is not ready: {why}",
        f"docs/listener.md says what each means; curl http://127.0.0.1:{port}/readyz",
        MACHINE,
    )


def _ready(port: int) -> tuple[int, str, str]:
    """(status, server, text) of ``/readyz``."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        text = answer.read(LARGEST).decode("ascii", "replace")
        return answer.status, answer.headers.get("Server", ""), text
    except (OSError, http.client.HTTPException):
        return 0, "", ""
    finally:
        connection.close()
