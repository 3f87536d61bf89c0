"""What supervisor and receivers tell each other over their socket pair; sockets travel beside the messages."""

from __future__ import annotations

import array
import socket
from typing import Any, Final

import msgspec

from converter.listener.policy import Policy

__all__ = [
    "Close",
    "Connect",
    "Drain",
    "Log",
    "Message",
    "Ready",
    "ReceiverSettings",
    "State",
    "receive",
    "send",
]

LARGEST: Final = 1 << 20


class ReceiverSettings(msgspec.Struct, frozen=True):
    """What a receiver is started with."""

    index: int
    epoch: int
    journal: str
    """Its own folder."""
    wanted: list[Any]
    """`flat` of the tags to keep."""
    policy: Policy
    max_pdu: int = 131072
    max_message: int = 4 << 30
    gate_timeout: float = 8.0
    pdu_timeout: float = 30.0
    acse_timeout: float = 10.0
    network_timeout: float = 60.0
    disk_reserve: int = 0
    backlog_limit: int = 1 << 30
    segment_size: int = 8 << 20
    success: str = "success"
    keep_headers: bool = False
    keep_files: str = ""
    """Folder of whole objects; empty: none are kept."""
    fast: bool = True
    tls_cert: str = ""
    tls_key: str = ""
    tls_ca: str = ""
    local: tuple[Any, ...] = ("127.0.0.1", 0)


class Connect(msgspec.Struct, tag="connect"):
    """A connection, with its socket beside it."""

    number: int
    remote: tuple[Any, ...]
    over: bool = False


class Drain(msgspec.Struct, tag="drain"):
    """Take nothing new; let what runs finish."""


class Close(msgspec.Struct, tag="close"):
    """The drain time is over: answer 0xA700 from here on, and end."""


class Ready(msgspec.Struct, tag="ready"):
    """The receiver takes connections."""

    missing: list[str] = []
    """Names of pynetdicom without which it runs on the stock path."""


class State(msgspec.Struct, tag="state"):
    """How a receiver is."""

    open: list[tuple[int, str, str]]
    """(number, address, study) of established associations."""
    ended: list[int]
    """Connections that ended since the last message."""
    counts: dict[str, int]
    """``cstore.success`` and the like: totals since its start."""
    taken: bool = False
    """It has begun to drain, and is empty: it may end."""


class Log(msgspec.Struct, tag="log"):
    """A line of the receiver's log."""

    level: int
    text: str


Message = Connect | Drain | Close | Ready | State | Log
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode


def flat(wanted: Any) -> list[Any]:
    """Wanted tags as lists, for a message."""
    return [[tag, flat(inner) if inner is not None else None] for tag, inner in wanted.items()]


def unflat(items: list[Any]) -> dict[int, Any]:
    """Read back what `flat` made."""
    return {tag: unflat(inner) if inner is not None else None for tag, inner in items}


def send(channel: socket.socket, message: Message, sock: socket.socket | None = None) -> None:
    """Send one message, with a socket if wished."""
    data = _encode(message)
    if sock is None:
        channel.send(data)
    else:
        rights = array.array("i", [sock.fileno()])
        channel.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])


def receive(channel: socket.socket) -> tuple[Message, int] | None:
    """Receive one message and the descriptor beside it (-1 for none); ``None`` when the other side has gone."""
    data, descriptors, flags, _ = socket.recv_fds(channel, LARGEST, 1)
    if not data:
        return None
    if flags & socket.MSG_TRUNC:
        raise OSError("a message too large")
    return _decode(data), descriptors[0] if descriptors else -1
