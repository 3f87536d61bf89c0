"""The receivers of one port: who runs, who is least busy, who carries what."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec

from converter.listener.control import (
    Close,
    Connect,
    Drain,
    Log,
    Message,
    Ready,
    ReceiverSettings,
    State,
    receive,
    send,
)
from converter.listener.notes import Notes
from converter.listener.policy import Policy

__all__ = ["ReceiverProcess", "Receivers"]

logger = logging.getLogger("converter.listener")
PATIENCE: Final = 0.5
"""Seconds that one beyond a limit waits: receivers tell a moment late of those that ended."""
STILL: Final = 10.0
"""Seconds without a word of a receiver after which it gets no connections; each says something once a second."""

GIVEN_UP: Final = 300.0
"""Seconds without a word after which a receiver is killed: its senders gave up long ago, and what it acknowledged is
in its journal."""


class Waiting(NamedTuple):
    """A connection that was accepted, and would be one too many."""

    sock: socket.socket
    remote: tuple[Any, ...]
    until: float


@dataclass(slots=True)
class ReceiverProcess:
    """One receiver, as the supervisor knows it."""

    index: int
    process: subprocess.Popen[bytes]
    channel: socket.socket
    heard: float
    """When it last said something, on the monotonic clock."""
    ready: bool = False
    killed: bool = False
    taken: bool = False
    connections: dict[int, str] = field(default_factory=dict)
    """Number to address of what was passed to it and has not ended."""
    open: list[tuple[int, str, str]] = field(default_factory=list)


class Receivers:
    """Starts receivers, passes connections, hears what they say.

    Parameters
    ----------
    settings : callable
        Gives the `ReceiverSettings` of an index.
    policy : Policy
    told : callable
        Told of a receiver's counts: ``(index, counts)``.
    """

    def __init__(
        self,
        settings: Callable[[int], ReceiverSettings],
        policy: Policy,
        told: Callable[[int, dict[str, int]], None],
    ) -> None:
        self._settings = settings
        self._policy = policy
        self._told = told
        self._number = 0
        self._waiting: list[Waiting] = []
        self.running: dict[int, ReceiverProcess] = {}
        self.counts: Counter[str] = Counter()
        self.hung: set[int] = set()
        """Receivers that run and do not move."""
        self._watched = float("inf")
        self._notes = Notes()

    def start(self, index: int) -> ReceiverProcess:
        """Start one."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(  # noqa: S603  our own interpreter and module
                # -P: modules come from where they are installed, never from the working folder
                [sys.executable, "-P", "-m", "converter.listener.process", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        ours.settimeout(5.0)  # of a receiver that takes nothing
        ours.send(msgspec.msgpack.encode(self._settings(index)))
        started = self.running[index] = ReceiverProcess(index, process, ours, time.monotonic())
        return started

    def hear(self, receiver: ReceiverProcess) -> bool:
        """Take one message; ``False`` where the receiver has gone."""
        try:
            got = receive(receiver.channel)
        except TimeoutError:
            return True  # it says nothing yet
        except OSError:
            got = None
        if got is None:
            return False
        receiver.heard = time.monotonic()
        self._take(receiver, got[0])
        return True

    def watch(self, now: float) -> None:
        """See who does not move, after hearing what there was to hear: a supervisor that was late blames nobody."""
        if now - self._watched > STILL:  # a suspended machine: they get as long as ever
            for receiver in self.running.values():
                receiver.heard = now
        self._watched = now
        hung = {r.index for r in self._ready() if now - r.heard > STILL}
        for index in sorted(hung - self.hung):
            logger.error("receiver %d does not move: it gets no connections until it does", index)
        for index in sorted(self.hung - hung):
            logger.warning("receiver %d moves again, or has ended", index)
        self.hung = hung
        for receiver in self.running.values():
            if now - receiver.heard > GIVEN_UP and not receiver.killed:
                logger.error("receiver %d said nothing for %d s: killed", receiver.index, GIVEN_UP)
                receiver.killed = True
                receiver.process.kill()

    def _ready(self) -> list[ReceiverProcess]:
        return [receiver for receiver in self.running.values() if receiver.ready]

    def _moving(self) -> list[ReceiverProcess]:
        return [receiver for receiver in self._ready() if receiver.index not in self.hung]

    def _take(self, receiver: ReceiverProcess, message: Message) -> None:
        if isinstance(message, Ready):
            receiver.ready = True
            if message.missing:
                logger.warning(
                    "this pynetdicom is not known (%s missing): receiving on its own slower path",
                    ", ".join(message.missing),
                )
        elif isinstance(message, State):
            receiver.open = message.open
            receiver.taken = message.taken
            for number in message.ended:
                receiver.connections.pop(number, None)
            self._told(receiver.index, message.counts)
        elif isinstance(message, Log):
            logger.log(message.level, "receiver %d: %s", receiver.index, message.text)

    def ended(self, receiver: ReceiverProcess) -> None:
        """Forget a receiver that has gone."""
        receiver.channel.close()
        with suppress(subprocess.TimeoutExpired):
            receiver.process.wait(5)
        if receiver.process.poll() is None:
            receiver.process.kill()
            receiver.process.wait()
        del self.running[receiver.index]
        self.hung.discard(receiver.index)

    def open(self) -> Iterator[tuple[int, str, str]]:
        """(number, address, study) of all associations."""
        for receiver in self.running.values():
            yield from receiver.open

    @property
    def connections(self) -> int:
        """Associations, and connections on their way to one."""
        return sum(len(receiver.connections) for receiver in self.running.values())

    @property
    def full(self) -> bool:
        """Whether the next connection has to wait in the system's queue: too many are open, or no receiver moves."""
        total = self.connections + len(self._waiting)
        return not self._moving() or total >= self._policy.max_sockets

    def accept(self, sock: socket.socket, remote: tuple[Any, ...]) -> None:
        """Take a connection: refuse its address, or pass it to the least busy receiver."""
        address = str(remote[0]).removeprefix("::ffff:")  # IPv4 on a socket of both
        remote = (address, *remote[1:])
        if not self._policy.admits(address):
            self.counts["dropped.address"] += 1
            self._notes.note("connection closed, its address may not send", address)
            sock.close()
            return
        self._waiting.append(Waiting(sock, remote, time.monotonic() + PATIENCE))
        self.settle()

    def settle(self) -> None:
        """Pass on what waits: where there is room, and what waited long enough for its refusal."""
        self._notes.settle()
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            over = self._over(str(one.remote[0]))
            if over and time.monotonic() < one.until:
                self._waiting.append(one)
            else:
                self._pass(one.sock, one.remote, over=over)

    def _over(self, address: str) -> bool:
        """Whether one more from an address is beyond a limit."""
        # who connects and says nothing does not count, or it would keep others out
        held = [source for _, source, _ in self.open()]
        return (
            len(held) >= self._policy.max_associations
            or held.count(address) >= self._policy.max_per_address
        )

    def _pass(self, sock: socket.socket, remote: tuple[Any, ...], *, over: bool) -> None:
        ready = self._moving()
        if not ready:
            sock.close()
            self.counts["dropped.no-receiver"] += 1
            return
        receiver = min(ready, key=lambda one: (len(one.connections), one.index))
        self._number += 1
        receiver.connections[self._number] = str(remote[0])
        try:
            send(receiver.channel, Connect(self._number, remote, over), sock)
        except OSError:
            receiver.connections.pop(self._number, None)
            self.counts["dropped.no-receiver"] += 1
        finally:
            sock.close()

    def tell(self, message: Drain | Close) -> None:
        """Tell all; what still waits for room gets none."""
        self._drop_waiting()
        for receiver in self.running.values():
            with suppress(OSError):
                send(receiver.channel, message)

    def kill(self) -> None:
        """End all at once."""
        self._drop_waiting()
        for receiver in list(self.running.values()):
            receiver.process.kill()
            self.ended(receiver)

    def _drop_waiting(self) -> None:
        for one in self._waiting:
            one.sock.close()
        self._waiting.clear()

    @staticmethod
    def default_count() -> int:
        """How many receivers a machine gets: one a core, four at most."""
        return max(1, min(4, len(os.sched_getaffinity(0))))
