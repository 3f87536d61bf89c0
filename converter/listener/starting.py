"""How the daemon is set up, and what it takes hold of before it starts: locks, ports."""

from __future__ import annotations

import logging
import os
import socket
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import msgspec

from converter.errors import ConfigurationError, PortError, StoreError
from converter.listener.board import Board
from converter.listener.http import serve
from converter.listener.policy import Policy
from converter.listener.web import StatusPages, token_of
from converter.listener.window import Window
from converter.store import StatePlace
from converter.store.place import Lock, refuse_network

__all__ = ["TOKEN_FILE", "DaemonSettings", "bind", "locks_of", "serve_http", "take_locks"]

logger = logging.getLogger("converter.listener")
TOKEN_FILE = "status.token"  # noqa: S105  a name, no secret
"""In the folder of the journals, which only the daemon's user may enter."""


class DaemonSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the daemon runs."""

    bind: str = "127.0.0.1"
    port: int = 11112
    http_port: int = 8080
    state: StatePlace
    journal: Path
    output: Path | None = None
    """Folder of the resources, for the status page."""
    policy: Policy = Policy()
    open: bool = False
    receivers: int = 0
    quiet_period: float = 60.0
    quiet_cap: float = 900.0
    drain_timeout: float = 30.0
    disk_reserve: int = 1 << 30
    backlog_limit: int = 4 << 30
    max_pdu: int = 131072
    max_message: int = 4 << 30
    network_timeout: float = 60.0
    success: str = "success"
    keep_headers: bool = False
    keep_files: Path | None = None
    """Folder of whole objects."""
    fast: bool = True
    tls_cert: str = ""
    tls_key: str = ""
    tls_ca: str = ""


def locks_of(settings: DaemonSettings) -> list[Path]:
    """Files that a daemon locks: beside the state file, in the folder of the journals, in that of whole objects."""
    locks = [settings.journal / "daemon.lock"]
    if isinstance(settings.state, Path):
        locks.insert(0, settings.state.with_name(settings.state.name + ".lock"))
    if settings.keep_files is not None:
        locks.append(settings.keep_files / "daemon.lock")
    return locks


def take_locks(settings: DaemonSettings, stack: ExitStack) -> None:
    """Take the locks of the state file (a server has its own) and of the journal folder.

    Raises
    ------
    StoreError
        Another process holds one; it is named.
    """
    if isinstance(settings.state, Path):
        refuse_network(settings.state)
    locks = locks_of(settings)
    for folder in (path.parent for path in locks):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"The folder {folder} cannot be made ({error.strerror}).") from error
    for path in locks:
        try:
            lock = Lock(path)
        except OSError as error:
            raise StoreError(f"{path} cannot be locked ({error.strerror}).") from error
        stack.callback(lock.close)
        if not lock.take():
            raise StoreError(
                f"Another dcm2fhir holds {path}. End it, or name another --state and --journal (and --keep-files)."
            )
    if isinstance(settings.state, Path):
        with suppress(FileExistsError):
            os.close(os.open(settings.state, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def bind(settings: DaemonSettings, stack: ExitStack) -> socket.socket:
    """Listen: once, and without SO_REUSEPORT, so that nobody joins the port unseen; ``::`` is IPv4 as well.

    Raises
    ------
    ConfigurationError
        There is no such address.
    PortError
    """
    try:
        family = socket.AF_INET6 if ":" in settings.bind else socket.AF_INET
        listening = socket.create_server(
            (settings.bind, settings.port),
            family=family,
            backlog=512,
            dualstack_ipv6=settings.bind == "::" and socket.has_dualstack_ipv6(),
        )
    except socket.gaierror as error:
        raise ConfigurationError(f"--bind {settings.bind} is no address of this machine") from error
    except OSError as error:
        raise PortError(
            f"cannot listen on {settings.bind} port {settings.port}: {error.strerror or error}"
        ) from error
    stack.callback(listening.close)
    listening.setblocking(False)
    return listening


def serve_http(settings: DaemonSettings, board: Board, stack: ExitStack) -> Any:
    """Serve health, metrics and the status page on loopback.

    Raises
    ------
    ConfigurationError
        The file of the password cannot be used.
    PortError
    """
    file = settings.journal / TOKEN_FILE
    token = token_of(file)
    pages = StatusPages(board, lambda: Window(settings.state, settings.output))
    try:
        web = serve(("127.0.0.1", settings.http_port), board, pages, token)
    except OSError as error:
        raise PortError(
            f"cannot listen on 127.0.0.1 port {settings.http_port} (--http-port): {error.strerror}"
        ) from error
    logger.info("status page: the password of http://127.0.0.1:%d/ is in %s", web.server_port, file)
    stack.callback(web.server_close)
    stack.callback(web.shutdown)
    return web
