"""``/livez``, ``/readyz`` and ``/metrics`` on a loopback port."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from converter.listener.board import Board

__all__ = ["serve"]


class _Handler(BaseHTTPRequestHandler):
    board: Board
    timeout = 5
    server_version = "dcm2fhir"
    sys_version = ""

    def do_GET(self) -> None:
        status, kind, body = 404, "text/plain; charset=utf-8", "not found\n"
        if self.path == "/livez":
            stuck = self.board.alive()
            status, body = (503, "\n".join(stuck) + "\n") if stuck else (200, "ok\n")
        elif self.path == "/readyz":
            reasons = self.board.not_ready()
            status, body = (503, "\n".join(reasons) + "\n") if reasons else (200, "ok\n")
        elif self.path == "/metrics":
            status, kind, body = (
                200,
                "text/plain; version=0.0.4; charset=utf-8",
                self.board.metrics(),
            )
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_HEAD = do_GET  # noqa: N815  the base's name

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base's name
        """Log nothing: a probe each second is no news."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A prober that goes away in mid-answer is no news either."""


def serve(address: tuple[str, int], board: Board) -> ThreadingHTTPServer:
    """Serve in a thread; close it with ``shutdown`` and ``server_close``."""
    handler = type("Handler", (_Handler,), {"board": board})
    server = _Server(address, handler)
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return server
