"""A DICOM sender that does what it is told, well-behaved or not: for the listener's tests and the benchmark.

It knows PS3.8 and C-STORE and nothing else: every byte that it sends was asked for.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

__all__ = ["CT", "EXPLICIT", "IMPLICIT", "Gone", "Rejected", "Sender", "command", "pdv", "store"]

CT = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"

Context = tuple[int, str, Sequence[str]]


class Gone(ConnectionError):  # noqa: N818
    """The other side closed the connection or aborted."""


class Rejected(Exception):  # noqa: N818
    """A-ASSOCIATE-RJ: (result, source, diagnostic)."""


class Response(NamedTuple):
    """A DIMSE response."""

    field: int
    message_id: int
    status: int
    comment: str


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(body)) + body


def _uid(kind: int, uid: str) -> bytes:
    return _item(kind, uid.encode())


def associate_rq(
    contexts: Sequence[Context], called: str, calling: str, max_pdu: int = 131072
) -> bytes:
    """Make an A-ASSOCIATE-RQ."""
    body = struct.pack(">HH16s16s32x", 1, 0, called.encode().ljust(16), calling.encode().ljust(16))
    body += _uid(0x10, "1.2.840.10008.3.1.1.1")
    for number, abstract, syntaxes in contexts:
        inner = _uid(0x30, abstract) + b"".join(_uid(0x40, syntax) for syntax in syntaxes)
        body += _item(0x20, bytes([number, 0, 0, 0]) + inner)
    user = _item(0x51, struct.pack(">I", max_pdu)) + _uid(0x52, "2.999.1")
    body += _item(0x50, user)
    return struct.pack(">BBI", 1, 0, len(body)) + body


def element(number: int, value: bytes) -> bytes:
    """Make an element of a command set."""
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHI", 0, number, len(value)) + value


def command(field: int, message_id: int = 1, *, data_set: bool = True, **uids: str) -> bytes:
    """Make a command set: ``sop_class``, ``sop_instance``."""
    body = b""
    if "sop_class" in uids:
        body += element(0x0002, uids["sop_class"].encode())
    body += element(0x0100, struct.pack("<H", field))
    body += element(0x0110, struct.pack("<H", message_id))
    body += element(0x0700, b"\0\0")
    body += element(0x0800, struct.pack("<H", 0x0001 if data_set else 0x0101))
    if "sop_instance" in uids:
        body += element(0x1000, uids["sop_instance"].encode())
    return element(0x0000, struct.pack("<I", len(body))) + body


def pdv(context: int, data: bytes, *, is_command: bool = False, last: bool = True) -> bytes:
    """Make a presentation data value."""
    return struct.pack(">IBB", len(data) + 2, context, is_command | last << 1) + data


def pdu(*pdvs: bytes) -> bytes:
    """Make a P-DATA-TF."""
    body = b"".join(pdvs)
    return struct.pack(">BBI", 4, 0, len(body)) + body


def store(
    context: int,
    sop_class: str,
    sop_instance: str,
    data: bytes,
    *,
    message_id: int = 1,
    max_pdu: int = 131072,
) -> Iterator[bytes]:
    """Make the PDUs of a C-STORE-RQ."""
    head = command(1, message_id, sop_class=sop_class, sop_instance=sop_instance)
    yield pdu(pdv(context, head, is_command=True))
    step = max_pdu - 6
    for at in range(0, max(len(data), 1), step):
        yield pdu(pdv(context, data[at : at + step], last=at + step >= len(data)))


class Sender:
    """One connection."""

    def __init__(self, port: int, host: str = "127.0.0.1", *, timeout: float = 20.0) -> None:
        self.sock: socket.socket = socket.create_connection((host, port), timeout=timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.accepted: dict[int, str] = {}
        self.max_pdu = 0

    def send(self, *parts: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(b"".join(parts))

    def read(self, size: int) -> bytes:
        """Read exactly so many bytes."""
        data = bytearray()
        while len(data) < size:
            try:
                part = self.sock.recv(size - len(data))
            except ConnectionError as error:
                raise Gone("the connection broke") from error
            if not part:
                raise Gone("the connection was closed")
            data += part
        return bytes(data)

    def pdu(self) -> tuple[int, bytes]:
        """Read one PDU: (type, body)."""
        kind, _, size = struct.unpack(">BBI", self.read(6))
        return kind, self.read(size)

    def associate(
        self,
        contexts: Sequence[Context] = ((1, CT, (EXPLICIT,)), (3, VERIFICATION, (IMPLICIT,))),
        called: str = "DCM2FHIR",
        calling: str = "TESTER",
        *,
        max_pdu: int = 131072,
    ) -> Self:
        """Ask for an association; `accepted` maps context IDs to their transfer syntax."""
        self.send(associate_rq(contexts, called, calling, max_pdu))
        return self.answered()

    def answered(self) -> Self:
        """Read the answer to a request."""
        kind, body = self.pdu()
        if kind == 3:
            raise Rejected(tuple(body[1:4]))
        if kind != 2:
            raise Gone("aborted")
        at = 68
        while at + 4 <= len(body):
            item, _, size = struct.unpack_from(">BBH", body, at)
            inner = body[at + 4 : at + 4 + size]
            if item == 0x21 and inner[2] == 0:
                self.accepted[inner[0]] = inner[8:].decode()
            if item == 0x50:
                self.max_pdu = struct.unpack_from(">I", inner, 4)[0]
            at += 4 + size
        return self

    def response(self) -> Response:
        """Read one response."""
        data = bytearray()
        while True:
            kind, body = self.pdu()
            if kind != 4:
                raise Gone(f"PDU {kind} instead of a response")
            at, done = 0, False
            while at < len(body):
                size, _, control = struct.unpack_from(">IBB", body, at)
                data += body[at + 6 : at + 4 + size]
                done = bool(control & 2)
                at += 4 + size
            if done:
                break
        values: dict[int, bytes] = {}
        at = 0
        while at < len(data):
            _, number, size = struct.unpack_from("<HHI", data, at)
            values[number] = bytes(data[at + 8 : at + 8 + size])
            at += 8 + size
        field, message_id, status = (
            int.from_bytes(values.get(number, b""), "little") for number in (0x100, 0x120, 0x900)
        )
        return Response(field, message_id, status, values.get(0x902, b"").decode().strip())

    def store(
        self,
        data: bytes,
        sop_instance: str,
        sop_class: str = CT,
        *,
        context: int = 1,
        message_id: int = 1,
        max_pdu: int = 16384,
    ) -> Response:
        """Send an object and wait for the answer."""
        self.send(
            *store(context, sop_class, sop_instance, data, message_id=message_id, max_pdu=max_pdu)
        )
        return self.response()

    def echo(self, context: int = 3) -> Response:
        """C-ECHO."""
        head = command(0x30, 7, data_set=False, sop_class=VERIFICATION)
        self.send(pdu(pdv(context, head, is_command=True)))
        return self.response()

    def release(self) -> None:
        """Release the association and close."""
        self.send(struct.pack(">BBII", 5, 0, 4, 0))
        kind, _ = self.pdu()
        if kind != 6:
            raise Gone(f"PDU {kind} instead of A-RELEASE-RP")
        self.close()

    def abort(self) -> None:
        """Abort the association and close."""
        self.send(struct.pack(">BBII", 7, 0, 4, 0))
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
