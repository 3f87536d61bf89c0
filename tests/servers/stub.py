"""A FHIR server that misbehaves on demand: versions, search, conditional create, and a script of faults.

``python stub.py [PORT]`` serves until its standard input ends, and prints its base URL.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

FHIR = "application/fhir+json"


@dataclass
class Fault:
    """What is done in place of an answer, or to it."""

    status: int = 0
    """Answer this without doing anything; 0: do what was asked."""
    headers: dict = field(default_factory=dict)
    body: object = None
    """JSON, or bytes as they are."""
    delay: float = 0.0
    drop: str = ""
    """``before``: close without doing it; ``after``: do it and close; ``half``: do it and send half."""


@dataclass
class Asked:
    """One request, as it came."""

    number: int
    moment: float
    method: str
    path: str
    query: dict
    headers: dict
    status: int = 0

    @property
    def kind(self):
        return self.path.split("/")[0]


class Store:
    """Resources with all their versions."""

    def __init__(self):
        self.versions = {}
        self.made = 0

    def latest(self, key):
        held = self.versions.get(key)
        return held[-1] if held else None

    def standing(self, kind):
        return {
            key: held[-1]
            for key, held in self.versions.copy().items()  # it is served meanwhile
            if key.startswith(f"{kind}/") and held[-1] is not None
        }

    def put(self, key, resource):
        held = self.versions.setdefault(key, [])
        held.append(None)
        meta = {**resource.get("meta", {}), "versionId": str(len(held))}
        held[-1] = {**resource, "id": key.split("/")[1], "meta": meta}
        return held[-1]

    def find(self, kind, tokens):
        """Keys of resources with one of the identifiers ``system|value``."""
        found = []
        for key, resource in self.standing(kind).items():
            held = resource.get("identifier") or []
            for identifier in [held] if isinstance(held, dict) else held:
                if f"{identifier.get('system', '')}|{identifier.get('value', '')}" in tokens:
                    found.append(key)
                    break
        return found


class Stub:
    """The server, in a thread of its own.

    Parameters
    ----------
    fault : callable, optional
        `Asked` to a `Fault`, or to ``None`` where all is well.
    client_ids : bool
        Whether a PUT may create.
    integrity : bool
        Whether a reference to a Patient must lead somewhere.
    stale : int
        Status for a stale ``If-Match``: 409 as HAPI, or 412.
    largest : int
        Bytes of a body from which on it answers 413.
    index : bool
        Keep an index of identifiers, which a benchmark needs.
    tls : ssl.SSLContext, optional
    """

    def __init__(
        self,
        fault=None,
        *,
        client_ids=True,
        integrity=True,
        stale=409,
        largest=0,
        index=False,
        tls=None,
    ):
        self.fault = fault or (lambda asked: None)
        self.client_ids = client_ids
        self.integrity = integrity
        self.stale = stale
        self.largest = largest
        self.store = Store()
        self.log = []
        self.open = 0
        self.most_open = 0
        self.connections = 0
        self.token = ""
        self.tokens_given = 0
        self._index = {} if index else None
        self._tls = tls
        self._ready = threading.Event()
        self._loop = None
        self._port = 0
        self._running = False

    # life

    def __enter__(self):
        return self if self._running else self.start()

    def __exit__(self, *_):
        self.stop()

    def start(self, port=0):
        self._port = port or self._port
        self._ready.clear()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)
        self._running = True
        return self

    def stop(self):
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
        self._running = False

    @property
    def base(self):
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self._port}/fhir"

    def _serve(self):
        async def main():
            self._loop = asyncio.get_running_loop()
            self._end = asyncio.Event()
            self._transports = set()
            server = await self._loop.create_server(
                lambda: _Connection(self),
                "127.0.0.1",
                self._port,
                reuse_address=True,
                ssl=self._tls,
            )
            self._port = server.sockets[0].getsockname()[1]
            self._ready.set()
            await self._end.wait()
            server.close()
            for transport in list(self._transports):
                transport.abort()

        asyncio.run(main())

    # what stands

    def ids(self, kind="ImagingStudy"):
        return sorted(self.store.standing(kind))

    def studies(self):
        return list(self.store.standing("ImagingStudy").values())

    def requests(self, method="", kind=""):
        return [
            asked
            for asked in self.log
            if (not method or asked.method == method) and (not kind or asked.kind == kind)
        ]

    # what is answered, as status, headers and JSON

    def answer(self, asked, data):
        method, path, query = asked.method, asked.path, asked.query
        if path == "token":
            self.tokens_given += 1
            self.token = f"token-{self.tokens_given}"
            return 200, {}, {"access_token": self.token, "expires_in": 3600, "token_type": "bearer"}
        if path == "metadata":
            return 200, {}, {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"}
        parts = path.split("/")
        if method == "GET" and len(parts) == 1:
            return self._search(path, query)
        if method == "POST" and path.endswith("/_search"):
            return self._search(parts[0], parse_qs(data.decode()))
        if method == "GET" and path.endswith("/_history"):
            versions = self.store.versions.get("/".join(parts[:2]), [])
            entries = [{"resource": v} if v else {} for v in reversed(versions)]
            return 200, {}, {"resourceType": "Bundle", "type": "history", "entry": entries}
        if method == "GET":
            return self._read(path)
        if method == "DELETE":
            self.store.versions[path].append(None)
            return 204, {}, None
        if self.largest and len(data) > self.largest:
            return 413, {}, b"<html>too large</html>"
        resource = json.loads(data)
        missing = self._missing(resource)
        if missing:
            return 400, {}, outcome("processing", f"Resource {missing} not found")
        if method == "POST":
            return self._create(path, resource, asked.headers)
        return self._put(path, resource, asked.headers)

    def _missing(self, resource):
        if not self.integrity:
            return ""
        for reference in re.findall(r'"reference": "([A-Z][A-Za-z]+/[^"]+)"', json.dumps(resource)):
            if self.store.latest(reference) is None:
                return reference
        return ""

    def _search(self, kind, query):
        tokens = [token for held in query.get("identifier", []) for token in held.split(",")]
        if self._index is not None:
            found = [self._index[token] for token in tokens if token in self._index]
        else:
            found = self.store.find(kind, {token.replace("\\", "") for token in tokens})
        entries = [
            {"resource": self.store.latest(key), "search": {"mode": "match"}} for key in found
        ]
        bundle = {"resourceType": "Bundle", "type": "searchset", "total": len(found)}
        return 200, {}, {**bundle, "entry": entries} if entries else bundle

    def _read(self, key):
        if key not in self.store.versions:
            return 404, {}, outcome("not-found", "not known")
        held = self.store.latest(key)
        if held is None:
            return 410, {}, outcome("deleted", "deleted")
        return 200, {"ETag": f'W/"{held["meta"]["versionId"]}"'}, held

    def _put(self, key, resource, headers):
        held = self.store.latest(key)
        match = headers.get("if-match")
        if held is not None and match and match != f'W/"{held["meta"]["versionId"]}"':
            return self.stale, {}, outcome("conflict", "this is not the current version")
        if held is None and not self.client_ids:
            return 405, {}, outcome("not-supported", "client-assigned ids are not allowed")
        return self._stood(key, resource, 200 if held else 201)

    def _create(self, kind, resource, headers):
        condition = headers.get("if-none-exist", "")
        if condition:
            found = self.store.find(kind, {unquote(condition).removeprefix("identifier=")})
            if len(found) > 1:
                return 412, {}, outcome("multiple-matches", "several resources match")
            if found:
                held = self.store.latest(found[0])
                return 200, {"Location": f"{self.base}/{found[0]}", "ETag": f'W/"{held["meta"]["versionId"]}"'}, held  # fmt: skip
        self.store.made += 1
        return self._stood(f"{kind}/{self.store.made}", resource, 201)

    def _stood(self, key, resource, status):
        made = self.store.put(key, resource)
        if self._index is not None:
            for identifier in resource.get("identifier", []):
                self._index[f"{identifier.get('system', '')}|{identifier.get('value', '')}"] = key
        version = made["meta"]["versionId"]
        location = f"{self.base}/{key}/_history/{version}"
        return status, {"ETag": f'W/"{version}"', "Location": location}, made


def outcome(code, text, **more):
    issue = {"severity": "error", "code": code, "diagnostics": text, **more}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


class _Connection(asyncio.Protocol):
    def __init__(self, stub):
        self.stub = stub
        self.data = b""
        self.busy = False

    def connection_made(self, transport):
        self.transport = transport
        self.stub.connections += 1
        self.stub._transports.add(transport)

    def connection_lost(self, _):
        self.stub._transports.discard(self.transport)

    def data_received(self, data):
        self.data += data
        self._next()

    def _next(self):
        if self.busy:
            return
        end = self.data.find(b"\r\n\r\n")
        if end < 0:
            return
        first, *lines = self.data[:end].decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        length = int(headers.get("content-length", 0))
        if len(self.data) < end + 4 + length:
            return
        body = self.data[end + 4 : end + 4 + length]
        self.data = self.data[end + 4 + length :]
        method, target, _ = first.split(" ")
        url = urlsplit(target)
        path = url.path.removeprefix("/fhir").strip("/")
        stub = self.stub
        asked = Asked(len(stub.log), time.monotonic(), method, path, parse_qs(url.query), headers)
        stub.log.append(asked)
        stub.open += 1
        stub.most_open = max(stub.most_open, stub.open)
        self.busy = True
        fault = stub.fault(asked) or Fault()
        if fault.delay:
            asyncio.get_running_loop().call_later(fault.delay, self._do, asked, body, fault)
        else:
            self._do(asked, body, fault)

    def _do(self, asked, body, fault):
        stub = self.stub
        stub.open -= 1
        self.busy = False
        if fault.drop == "before":
            self.transport.abort()
            return
        if fault.status:
            status, headers, held = fault.status, fault.headers, fault.body
        else:
            status, headers, held = stub.answer(asked, body)
            headers = {**headers, **fault.headers}
        asked.status = status
        if fault.drop == "after":
            self.transport.abort()
            return
        if asked.headers.get("prefer") == "return=minimal" and status < 300:
            held = None
        data = (
            held if isinstance(held, bytes) else b"" if held is None else json.dumps(held).encode()
        )
        kind = "text/html" if isinstance(held, bytes) else FHIR
        head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(data)}"]
        if data:
            head.append(f"Content-Type: {kind}")
        head += [f"{name}: {value}" for name, value in headers.items()]
        whole = ("\r\n".join(head) + "\r\n\r\n").encode() + data
        if fault.drop == "half":
            self.transport.write(whole[: len(whole) // 2])
            self.transport.close()
            return
        self.transport.write(whole)
        self._next()


if __name__ == "__main__":
    served = Stub(index=True, integrity=False).start(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    sys.stdout.write(f"{served.base}\n")
    sys.stdout.flush()
    sys.stdin.read()
    counts = {
        "studies": len(served.ids()),
        "patients": len(served.ids("Patient")),
        "requests": len(served.log),
        "connections": served.connections,
        "most": served.most_open,
    }
    sys.stdout.write(json.dumps(counts) + "\n")
