"""Delivery of what the daemon publishes."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from converter.cli.delivering import Destinations, remembered
from converter.delivery.destinations import resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from converter.config import Loaded
    from converter.delivery.sender import Sender
    from converter.delivery.talk import Delivery
    from converter.store.outbox import Row
    from converter.store.sql import SqlStore

__all__ = ["DaemonDelivery"]

PAUSE = 0.5
"""Seconds between looks at an empty outbox."""

logger = logging.getLogger("converter.delivery")


class DaemonDelivery:
    """`converter.listener.publisher.Delivery` to the destinations of a configuration."""

    def __init__(self, loaded: Loaded) -> None:
        config = loaded.config
        settings = resolve(
            config.convert.to, config.destinations, allow_http=config.delivery.allow_http
        )
        self._names = list(settings)
        self._kept = remembered(loaded)
        self._destinations = Destinations(dict.fromkeys(settings, config), settings)
        for target in self._destinations.targets:
            target.aloud = True
        self._sender: Sender | None = None

    def close(self) -> None:
        """Close all connections."""
        self._destinations.close()

    def enqueue(self, store: SqlStore, study_uids: Sequence[str]) -> None:
        """See `converter.listener.publisher.Delivery.enqueue`."""
        store.outbox.enqueue(self._names, store.outbox.now(), study_uids)

    def run(self, store: SqlStore, stop: Callable[[], bool], give_up: Callable[[], bool]) -> None:
        """See `converter.listener.publisher.Delivery.run`."""
        if self._sender is not None:  # the store failed it
            self._sender.give_back()
            self._sender = None
        for name in self._names:
            store.outbox.configure(name, self._kept)
        store.outbox.reclaim()  # a daemon has its state alone: what was on its way is on nobody's
        sender = self._sender = self._destinations.sender(store, _told)
        while not stop():
            sender.run(stop=stop, give_up=give_up)
            time.sleep(PAUSE)


def _told(row: Row, delivery: Delivery) -> None:
    """Say which study waits for a person: its own list says that it is published."""
    if delivery.state in {"held", "dead"}:
        from converter.listener.notes import log_name

        name = log_name(row.study_uid)
        logger.warning("study %s waits in `dcm2fhir dead list`: %s", name, delivery.reason)
