"""Rows of the outbox, as they are handed out and taken back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

__all__ = ["Letter", "Outlet", "Row", "Settled", "State"]

State: TypeAlias = Literal["due", "delivered", "dead", "held", "frozen"]
"""``held``: at the destination something must be put right first; ``frozen``: the study itself is held."""


class Row(NamedTuple):
    """A row that this process holds the lease of."""

    study_uid: str
    destination: str
    wanted: int
    delivered: int
    attempts: int
    server_id: str
    etag: str
    digest: str
    written: dict[str, str]
    """Element to digest of what we delivered there."""
    uncertain: bool
    """Whether an earlier attempt to create it may have gone through unseen."""
    token: str


class Settled(NamedTuple):
    """How an attempt ended."""

    row: Row
    state: State
    now: float
    next_attempt: float = 0.0
    server_id: str = ""
    etag: str = ""
    digest: str = ""
    written: Mapping[str, str] = {}
    uncertain: bool = False
    reason: str = ""
    refusal: bytes = b""
    """What is kept of a refusal: no value of anybody's in it."""
    failed: bool = True
    """Whether it counts as an attempt."""


class Letter(NamedTuple):
    """A study that waits for a person."""

    study_uid: str
    destination: str
    state: State
    reason: str
    refusal: bytes
    attempts: int
    wanted: int
    delivered: int
    server_id: str
    since: float


class Outlet(NamedTuple):
    """What is remembered of a destination."""

    name: str
    server_ids: bool = False
    circuit: str = ""
    """Why nothing is sent; empty: it is."""
    probe_at: float = 0.0
    paused_until: float = 0.0
