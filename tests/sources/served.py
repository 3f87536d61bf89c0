"""Servers for the tests of inputs that are addresses: a relay that counts and breaks, a store behind it."""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["Relay", "WebFiles", "moto"]


@contextmanager
def moto():
    """Address of a server that speaks S3, in a process of its own."""
    command = [Path(sys.executable).parent / "moto_server", "-H", "127.0.0.1", "-p", "0"]
    with subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"},
    ) as process:  # fmt: skip
        try:
            for line in process.stdout:
                if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                    break
            else:
                raise AssertionError("no server")
            drain = threading.Thread(target=process.stdout.read, daemon=True)
            drain.start()
            yield found[0]
        finally:
            process.kill()


class _Server:
    def __init__(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                outer.answer(self)

            do_GET = do_HEAD = do_PUT = handle_any  # noqa: N815

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    @staticmethod
    def send(handler, status, body=b"", **headers):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)


class Relay(_Server):
    """Passes requests on, notes them as (method, key, range, bytes), and breaks those that it is told to."""

    def __init__(self, behind):
        super().__init__()
        self.behind = urlsplit(behind).netloc
        self.seen = []
        self.broken = {}
        """Key to statuses, one a request; the last one stays."""
        self.before = lambda key, start: None
        """Called before a request is passed on."""

    def gets(self):
        """Requests for objects, without listings."""
        return [one for one in self.seen if one[0] == "GET" and one[1]]

    def answer(self, handler):
        """Answer one request."""
        key = unquote(urlsplit(handler.path).path).strip("/").partition("/")[2]
        asked = handler.headers.get("Range", "")
        statuses = self.broken.get(key)
        if statuses:
            status = statuses.pop(0) if len(statuses) > 1 else statuses[0]
            if status != 200:
                code = {403: "AccessDenied", 404: "NoSuchKey"}.get(status, "ServiceUnavailable")
                self.seen.append((handler.command, key, asked, 0))
                self.send(handler, status, f"<Error><Code>{code}</Code></Error>".encode())
                return
        self.before(key, asked.partition("=")[2].partition("-")[0])
        peer = http.client.HTTPConnection(self.behind)
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        peer.request(handler.command, handler.path, body, dict(handler.headers))
        got = peer.getresponse()
        data = got.read()
        peer.close()
        self.seen.append((handler.command, key, asked, len(data)))
        length = got.headers["Content-Length"] if handler.command == "HEAD" else str(len(data))
        handler.send_response(got.status)
        for name, value in got.headers.items():
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                handler.send_header(name, value)
        handler.send_header("Content-Length", length)
        handler.end_headers()
        handler.wfile.write(data)


class WebFiles(_Server):
    """Files of a web server."""

    def __init__(self, files, *, ranges=True):
        super().__init__()
        self.files, self.ranges, self.seen, self.broken = files, ranges, [], {}

    def answer(self, handler):
        """Answer one request."""
        path = urlsplit(handler.path).path.strip("/")
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers.get("Range", ""))
        self.seen.append((handler.command, path, asked[0] if asked else ""))
        if self.broken.get(path):
            self.send(handler, self.broken[path].pop(0))
        elif path not in self.files:
            self.send(handler, 404)
        elif asked and self.ranges:
            data = self.files[path]
            start, end = int(asked[1]), min(int(asked[2]) + 1, len(data))
            self.send(
                handler,
                206,
                data[start:end],
                ETag='"1"',
                Content_Range=f"bytes {start}-{end - 1}/{len(data)}",
            )
        else:
            data = self.files[path]
            self.send(handler, 200, data, Content_Length=str(len(data)), ETag='"1"')
