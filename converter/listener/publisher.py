"""Rounds of publishing: what is due, and what an operator asked for beside the daemon."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Protocol

from converter.errors import SinkError, StoreError
from converter.listener.hosts import Hosts
from converter.listener.ledger import Ledger
from converter.listener.origins import TagSet
from converter.listener.round import RoundStore, publish
from converter.pipeline import Request
from converter.pipeline.pool import Stop
from converter.store import StatePlace
from converter.store.sql import SqlStore

__all__ = ["MOST", "Delivery", "Publisher"]


class Delivery(Protocol):
    """Brings published studies to FHIR servers."""

    def enqueue(self, store: SqlStore, study_uids: Sequence[str]) -> None:
        """Put studies into the outbox; in the publisher's thread."""

    def run(self, store: SqlStore, stop: Callable[[], bool], give_up: Callable[[], bool]) -> None:
        """Send until asked to stop, then wait for what is on its way until it is to be given up; in a thread of its own."""


logger = logging.getLogger("converter.listener")
MOST = 20
"""Studies of one round."""
ASKED = 0.5
"""Seconds between looks at what an operator asked for."""


class Publisher:
    """Publishes studies from one thread.

    Parameters
    ----------
    state : Path or ServerPlace
    request : Request
    delivery : Delivery, optional
        Gets what was published.
    hosts : Hosts, optional
        Tells what is due, where other hosts publish as well.
    """

    def __init__(
        self,
        state: StatePlace,
        request: Request,
        delivery: Delivery | None = None,
        hosts: Hosts | None = None,
    ) -> None:
        self._ledger = Ledger(state, patient=True)
        self._ledger.tags = TagSet.of(request.wanted)
        self._store = RoundStore(state, self._ledger, request.parts.unite)
        self._request = request
        self._delivery = delivery
        self._hosts = hosts
        self._next_look = 0.0
        self.fault = ""
        self._said = ""

    def round(self, due: Iterable[str]) -> None:
        """Publish what is due, and what is settled already.

        When the machine cannot go on, `fault` says why, and the studies stay as they are.
        """
        self.fault = ""
        try:
            looked = time.monotonic() >= self._next_look
            revisions = self._take(due)
            if not revisions:
                if looked:  # nothing is left to publish
                    self._went_on()
                return
            states = publish(
                self._request, self._store, self._ledger, revisions, Stop(), self._enqueue
            )
            published = sum(state == "published" for state in states.values())
            back = sum(state == "excluded" for state in states.values())
            logger.info(
                "published: %d of %d studies that were due%s",
                published,
                len(revisions),
                f"; taken back: {back}" if back else "",
            )
        except (StoreError, SinkError, OSError) as error:
            self.fault = "studies cannot be published"
            # the words of the system name a path
            why = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
            if why != self._said:
                logger.error("%s: %s", self.fault, why)  # noqa: TRY400
            self._said = why
            self._release()
        else:
            self._went_on()

    def _went_on(self) -> None:
        if self._said:
            logger.warning("studies are published again")
        self._said = ""

    def _enqueue(self, study_uids: Sequence[str]) -> None:
        if self._delivery is not None:
            self._delivery.enqueue(self._store, study_uids)

    def _take(self, due: Iterable[str]) -> dict[str, int]:
        if self._hosts is not None:
            return self._hosts.claim(self._ledger, MOST) if self._looks() else {}
        todo = dict.fromkeys(due)
        if self._looks():
            todo.update(dict.fromkeys(self._asked()[:MOST]))
        return self._ledger.settle(todo) if todo else {}

    def _release(self) -> None:
        if self._hosts is not None:
            with suppress(StoreError):  # then it runs out
                self._hosts.release(self._ledger)

    def _looks(self) -> bool:
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + ASKED
        return True

    def _asked(self) -> list[str]:
        return [uid for uid, state, _ in self._ledger.unpublished() if state == "settled"]

    def close(self) -> None:
        """Leave the rest to others, and close the store."""
        self._release()
        self._store.close()
        self._ledger.close()
