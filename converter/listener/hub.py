"""One thread for all associations that send small objects: it takes those that are there, syncs once, answers them all.

A thread for each association costs two waits and several changes of the interpreter's lock for each object, which is more
than all there is to do for it. So, where there are several, an association's own thread leaves its connection here between
messages, and gets it back for whatever is not a small object that came as a whole: it goes on at the same boundary of a
message, with the same bytes in the same buffer. Nothing in here waits but for the sync.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from converter.listener.status import Answer
from converter.listener.stream import SLICE, Stream
from converter.listener.wire import Interruption, ProtocolError

__all__ = ["Elsewhere", "Guest", "Hub", "Pending", "Seat"]

logger = logging.getLogger("converter.listener")
ENOUGH: Final = 2
"""Associations that send small objects; one alone is served best by its own thread."""
PATIENCE: Final = 0.002
"""Seconds that a sync waits at most for those who may come; never longer than the last sync took."""


class Elsewhere(Interruption):
    """The association's own thread has to see to what is at hand, or to why nothing is."""


@dataclass(slots=True)
class Pending:
    """One object before the journal has it."""

    began: float
    name: str = ""
    """Of its status, where the journal has nothing to do with it."""
    payload: bytes = b""
    discard: Callable[[], None] | None = None
    """Drops what was put elsewhere, where it does not become a success."""
    sender: Any = None
    sop_instance: bytes = b""
    """Both for the log."""


class Guest(Protocol):
    """An association, as the hub knows it."""

    def hear(self) -> Pending | None:
        """Read what came, without waiting: an object, or nothing where more is to come.

        Raises
        ------
        Interruption
            For the association's own thread.
        """

    def reply(self, answer: Answer) -> bool:
        """Answer what was heard last, without waiting; whether nothing is left to be done."""


class Seat:
    """An association's place in a hub; made once, used by its own thread."""

    __slots__ = (
        "counted",
        "error",
        "guest",
        "heard",
        "hub",
        "number",
        "stream",
        "turn",
        "wanted",
        "working",
    )

    def __init__(self, hub: Hub, guest: Guest, stream: Stream) -> None:
        self.hub = hub
        self.guest = guest
        self.stream = stream
        self.number = stream.sock.fileno()
        self.turn = threading.Lock()
        """Held until the hub gives the connection back."""
        self.turn.acquire()
        self.working = False
        """Whether the hub is at a message of it, until that is answered."""
        self.wanted = False
        self.heard = 0
        self.counted = False
        """Whether it is among those who send small objects."""
        self.error: Exception | None = None

    def count(self, *, small: bool) -> None:
        """Say whether its association sends small objects now."""
        if small != self.counted:
            self.counted = small
            self.hub.count(1 if small else -1)

    def leave(self, error: Exception) -> None:
        """Have the connection given back to its own thread, to which the error is raised; a fault of ours ends it."""
        if not isinstance(error, Interruption):
            logger.error("the hub failed: %s", type(error).__name__, exc_info=error)
            error = ProtocolError("a fault of ours")
        self.error = error
        self.wanted = True

    def serve(self, stopped: Callable[[], bool]) -> bool:
        """Leave the connection to the hub until there is something that is not for it; ``False``: there is nothing.

        Raises
        ------
        Interruption
            As its own thread would have met it.
        """
        self.count(small=True)
        if self.stream.buffered or not self.hub.worth:
            return self.stream.begin()
        heard = -1
        self.hub.enter(self)
        while not self.turn.acquire(timeout=SLICE):
            silent = self.heard == heard or stopped()
            heard = self.heard
            if silent or not self.hub.worth:
                if not self.hub.withdraw(self):
                    break
                return bool(self.stream.buffered) if silent else self.stream.begin()
        error, self.error = self.error, None
        if error is not None and not isinstance(error, Elsewhere):
            raise error
        return self.stream.begin()


class Hub:
    """Takes small objects of many associations.

    Parameters
    ----------
    keep : callable
        Brings objects to the journal, all with one sync, and says what to answer each.
    """

    def __init__(self, keep: Callable[[Sequence[Pending]], list[Answer]]) -> None:
        self._keep = keep
        self._lock = threading.Lock()
        self._seats: dict[int, Seat] = {}
        """By descriptor; whoever takes a seat out of here has its connection."""
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._patience = 0.0
        self._small = 0
        self.closed = False
        threading.Thread(target=self._run, name="hub", daemon=True).start()

    @staticmethod
    def possible() -> bool:
        """Whether this system has what it takes."""
        return hasattr(select, "epoll") and hasattr(os, "eventfd")

    def seat(self, guest: Guest, stream: Stream) -> Seat:
        """Make a place for an association."""
        return Seat(self, guest, stream)

    def count(self, change: int) -> None:
        """Count associations that send small objects."""
        with self._lock:
            self._small += change

    @property
    def worth(self) -> bool:
        """Whether it has anything to do."""
        return self._small >= ENOUGH and not self.closed

    def enter(self, seat: Seat) -> None:
        """Take a connection over."""
        with self._lock:
            self._seats[seat.number] = seat
            self._epoll.register(seat.number, select.EPOLLIN)

    def withdraw(self, seat: Seat) -> bool:
        """Give a connection back; ``False`` where something came of it, and all that is to be done was done first."""
        with self._lock:
            idle = seat.number in self._seats and not seat.working
            if idle:
                self._give_back(seat)
            else:
                seat.wanted = seat.working
        seat.turn.acquire()
        return idle

    def _give_back(self, seat: Seat) -> None:
        seat.wanted = seat.working = False
        del self._seats[seat.number]
        with suppress(OSError):
            self._epoll.unregister(seat.number)
        seat.turn.release()

    def close(self) -> None:
        """Give all back, and end: each association is its own thread's from here on."""
        with self._lock:
            if not self.closed:
                self.closed = True
                os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        owing: set[Seat] = set()
        try:
            while not self.closed:
                owing = self._round(owing)
        except Exception as error:
            logger.exception("the hub failed: %s", type(error).__name__)
            for seat in list(self._seats.values()):
                if seat.working:  # at a message that nobody is going to answer
                    seat.leave(ProtocolError("a fault of ours"))
        finally:
            with self._lock:
                self.closed = True
                for seat in list(self._seats.values()):
                    self._give_back(seat)
                os.close(self._wake)

    def _round(self, owing: set[Seat]) -> set[Seat]:
        """Hear all who have something to say, and answer them; give those who were answered.

        These bring their next object at once, or never: one sync for all is worth a wait.
        """
        taken: list[Seat] = []
        objects: dict[Seat, Pending] = {}
        until = 0.0
        events = self._epoll.poll()
        while seats := self._take(events):
            taken += seats
            for seat in seats:
                owing.discard(seat)
                try:
                    pending = seat.guest.hear()
                except Exception as error:  # noqa: BLE001  for its own thread
                    seat.leave(error)
                    continue
                seat.heard += 1
                if pending is not None:
                    objects[seat] = pending
            if not objects or self.closed:
                break
            until = until or time.monotonic() + self._patience
            if owing and (left := until - time.monotonic()) > 0:
                select.select([self._epoll], [], [], left)  # epoll itself waits whole milliseconds
            events = self._epoll.poll(0)
        if objects:
            self._answer(list(objects), list(objects.values()))
        with self._lock:
            for seat in taken:
                seat.working = False
                if seat.wanted:
                    self._give_back(seat)
        return set(objects)

    def _take(self, events: list[tuple[int, int]]) -> list[Seat]:
        """Seats that have something to say, those left out that this round is at already."""
        with self._lock:
            seats = [
                seat
                for number, _ in events
                if (seat := self._seats.get(number)) is not None and not seat.working
            ]
            for seat in seats:
                seat.working = True
        return seats

    def _answer(self, asked: list[Seat], objects: list[Pending]) -> None:
        answers: list[Answer] = []
        began = time.monotonic()
        try:
            answers = self._keep(objects)
            self._patience = min(time.monotonic() - began, PATIENCE)
        except Exception as error:  # noqa: BLE001  as above: none of them is answered
            for seat in asked:
                seat.leave(error)
        for seat, answer in zip(asked, answers, strict=False):
            try:
                if not seat.guest.reply(answer) or seat.stream.buffered:
                    seat.wanted = True
            except Exception as error:  # noqa: BLE001  as above
                seat.leave(error)
