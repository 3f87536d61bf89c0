"""Rounds of publishing: what is due, and what an operator asked for beside the daemon."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from converter.errors import SinkError, StoreError
from converter.listener.ledger import Ledger
from converter.listener.round import RoundStore, publish
from converter.pipeline import Request
from converter.pipeline.pool import Stop
from converter.store.sql import SqlStore

__all__ = ["MOST", "Delivery", "Publisher"]


class Delivery(Protocol):
    """Brings published studies to FHIR servers."""

    def enqueue(self, store: SqlStore, study_uids: Sequence[str]) -> None:
        """Put studies into the outbox; in the publisher's thread."""

    def run(self, store: SqlStore, stop: Callable[[], bool]) -> None:
        """Send until asked to stop; in a thread of its own."""


logger = logging.getLogger("converter.listener")
MOST = 20
"""Studies of one round."""
ASKED = 0.5
"""Seconds between looks at what an operator asked for."""


class Publisher:
    """Publishes studies from one thread.

    Parameters
    ----------
    state : Path
    request : Request
    delivery : Delivery, optional
        Gets what was published.
    """

    def __init__(
        self,
        state: Path,
        request: Request,
        delivery: Delivery | None = None,
    ) -> None:
        self._ledger = Ledger(state)
        self._store = RoundStore(state, self._ledger)
        self._request = request
        self._delivery = delivery
        self._next_look = 0.0
        self.fault = ""

    def round(self, due: Iterable[str]) -> None:
        """Publish what is due, and what is settled already.

        When the machine cannot go on, `fault` says why, and the studies stay as they are.
        """
        self.fault = ""
        try:
            todo = dict.fromkeys(due)
            todo.update(dict.fromkeys(self._asked()[:MOST]))
            revisions = self._ledger.settle(todo) if todo else {}
            if not revisions:
                return
            states = publish(self._request, self._store, self._ledger, revisions, Stop())
            published = [uid for uid, state in states.items() if state == "published"]
            if self._delivery is not None:
                self._delivery.enqueue(self._store, published)
            logger.info("published: %d of %d studies that were due", len(published), len(revisions))
        except (StoreError, SinkError) as error:
            self.fault = "studies cannot be published"
            logger.error("%s: %s", self.fault, error)  # noqa: TRY400

    def _asked(self) -> list[str]:
        now = time.monotonic()
        if now < self._next_look:
            return []
        self._next_look = now + ASKED
        return [uid for uid, state, _ in self._ledger.unpublished() if state == "settled"]

    def close(self) -> None:
        """Close the store."""
        self._store.close()
        self._ledger.close()
