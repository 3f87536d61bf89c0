"""Delivery of what the daemon publishes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from converter.cli.delivering import Destinations, remembered
from converter.delivery.destinations import resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from converter.config import Loaded
    from converter.delivery.sender import Sender
    from converter.store.sql import SqlStore

__all__ = ["DaemonDelivery"]

PAUSE = 0.5
"""Seconds between looks at an empty outbox."""


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
        self._sender: Sender | None = None

    def close(self) -> None:
        """Close all connections."""
        self._destinations.close()

    def enqueue(self, store: SqlStore, study_uids: Sequence[str]) -> None:
        """See `converter.listener.publisher.Delivery.enqueue`."""
        store.outbox.enqueue(self._names, store.outbox.now(), study_uids)

    def run(self, store: SqlStore, stop: Callable[[], bool]) -> None:
        """See `converter.listener.publisher.Delivery.run`."""
        if self._sender is not None:  # the store failed it
            self._sender.give_back()
            self._sender = None
        for name in self._names:
            store.outbox.configure(name, self._kept)
        store.outbox.reclaim()  # a daemon has its state alone: what was on its way is on nobody's
        sender = self._sender = self._destinations.sender(store, lambda _row, _delivery: None)
        while not stop():
            sender.run(stop=stop)
            time.sleep(PAUSE)
