"""Health, metrics and the status page on a loopback port: read only, bounded in time, memory and threads.

Whoever is on this machine may read the numbers; pages that name a study or a peer, or show a resource, ask for the
token (RFC 7617, any user name). A name that is not loopback's in ``Host`` is refused: a page of the web whose name was
made to lead here (DNS rebinding) reads nothing.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import io
import ipaddress
import re
import socket
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Protocol

from converter.listener.board import Board

__all__ = ["Pages", "serve"]

HEAD = 16 << 10
"""Bytes of a request's head."""
SECONDS = 5.0
"""For a request's head to come, and for the answer to go."""
MOST = 32
"""Connections at the same time; beyond, the one that has said nothing for longest goes."""

_TEXT: Final = "text/plain; charset=utf-8"
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_HOST = re.compile(r"(localhost|\[[0-9a-f:.]+\]|[0-9.]+)(?::[0-9]{1,5})?", re.IGNORECASE)
_CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="dcm2fhir", charset="UTF-8"'}


class Pages(Protocol):
    """The status page."""

    def get(self, target: str, *, trusted: bool) -> tuple[int, str, bytes] | None:
        """(status, type, body) of a page; ``None``: it wants the token."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "dcm2fhir"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BytesIO(self.server.head(self.connection))

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        if self.command not in {"GET", "HEAD"}:
            self._answer(405, _TEXT, b"only GET and HEAD\n", {"Allow": "GET, HEAD"})
        elif not _is_loopback(self.headers.get_all("Host", [])):
            self._answer(421, _TEXT, b"not a name of this machine's loopback\n")
        else:
            self._get()
        return False

    def _get(self) -> None:
        board = self.server.board
        if self.path == "/livez":
            self._said([f"{part} does not move" for part in board.alive()])
        elif self.path == "/readyz":
            self._said(board.not_ready(), board.unpublished())
        elif self.path == "/metrics":
            kind = "text/plain; version=0.0.4; charset=utf-8"
            self._answer(200, kind, board.metrics().encode())
        else:
            found = self.server.pages.get(self.path, trusted=self._trusted())
            if found is None:
                text = b"The content of the file status.token in the journal folder is the password; any user name goes.\n"
                self._answer(401, _TEXT, text, _CHALLENGE)
            else:
                self._answer(*found)

    def _said(self, faults: list[str], remarks: list[str] = []) -> None:  # noqa: B006  never changed
        text = "\n".join((faults or ["ok"]) + remarks) + "\n"
        self._answer(503 if faults else 200, _TEXT, text.encode())

    def _trusted(self) -> bool:
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            held = base64.b64decode(given.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        return hmac.compare_digest(held.partition(b":")[2], self.server.token.encode())

    def _answer(
        self, status: int, kind: str, body: bytes, more: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in {**_HEADERS, **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is no request, without a word of it."""
        del message, explain
        self.command = self.command or ""
        self._answer(code, _TEXT, b"not understood\n")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base's name
        """Log nothing: a probe each second is no news."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 2 * MOST

    def __init__(self, address: tuple[str, int], board: Board, pages: Pages, token: str) -> None:
        self.board = board
        self.pages = pages
        self.token = token
        self._lock = threading.Lock()
        self._running = 0
        self._silent: dict[socket.socket, None] = {}
        """Connections whose request has not come, the oldest first."""
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve in a thread; where all are taken, end whoever keeps one by saying nothing, or else this one."""
        with self._lock:
            if self._running >= MOST:
                oldest = next(iter(self._silent), None)
                if oldest is None:
                    self.shutdown_request(request)
                    return
                del self._silent[oldest]
                with suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)
            self._running += 1
            self._silent[request] = None
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread is to be had
            self._left(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """As the base's, and give the place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._left(request)

    def _left(self, request: Any) -> None:
        with self._lock:
            self._running -= 1
            self._silent.pop(request, None)

    def head(self, connection: socket.socket) -> bytes:
        """Head of a request; empty where none came in time, or one too large."""
        until = time.monotonic() + SECONDS
        data = b""
        try:
            while b"\r\n\r\n" not in data and b"\n\n" not in data:
                connection.settimeout(max(0.01, until - time.monotonic()))
                more = connection.recv(4096)
                data += more
                if not more or len(data) > HEAD or time.monotonic() > until:
                    return b""
        except OSError:
            return b""
        finally:
            with self._lock:
                self._silent.pop(connection, None)
        connection.settimeout(SECONDS)  # of each answer as a whole: `sendall` counts on
        return data

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A prober that goes away in mid-answer is no news either."""


def _is_loopback(hosts: list[str]) -> bool:
    """Whether ``Host`` names loopback. Without one it is no browser; the port may be that of a tunnel."""
    if not hosts:
        return True
    match = _HOST.fullmatch(hosts[0].strip())
    if len(hosts) > 1 or match is None:
        return False
    name = match[1].strip("[]").lower()
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def serve(address: tuple[str, int], board: Board, pages: Pages, token: str) -> ThreadingHTTPServer:
    """Serve in a thread; close it with ``shutdown`` and ``server_close``."""
    server = _Server(address, board, pages, token)
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return server
