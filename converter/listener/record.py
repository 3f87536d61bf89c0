"""What a receiver writes into its journal of one instance."""

from __future__ import annotations

import msgspec

__all__ = ["Received", "pack_received", "unpack_received"]


class Received(msgspec.Struct, array_like=True, gc=False):
    """One acknowledged instance."""

    stamp: int
    """Monotonic nanoseconds of this boot: with the journal's epoch it tells which of two came later."""
    connection: int
    """Number of the connection, unique within a run of the daemon."""
    calling: str
    """AE title of the sender."""
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    findings: list[str]
    header: dict[int, bytes]
    peer: str = ""
    """Name of the sender's section in the configuration, if it has one."""
    tag_set: str = ""
    """Which tags the header was taken by (`converter.listener.origins.TagSet`)."""
    kept: bytes = b""
    """The whole header up to the pixel data as a file (PS3.10), compressed; empty where that is not kept."""
    file: str = ""
    """File of the whole object, until it is moved to its place; empty where none is kept."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Received).decode


def pack_received(received: Received) -> bytes:
    """Serialise for the journal."""
    return _encode(received)


def unpack_received(payload: bytes) -> Received:
    """Read back.

    Raises
    ------
    msgspec.MsgspecError
        It is no such record.
    """
    return _decode(payload)
