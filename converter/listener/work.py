"""What the daemon makes of objects: takes in journals, settles studies, publishes and sends them. A thread for each."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from converter.core.settle import Settler
from converter.errors import StoreAwayError, StoreError
from converter.listener.board import Board, Waiting
from converter.listener.files import sweep
from converter.listener.hosts import Hosts
from converter.listener.ledger import Ledger
from converter.listener.origins import TagSet, note
from converter.listener.publisher import MOST, Delivery, Publisher
from converter.listener.round import RoundStore
from converter.listener.starting import DaemonSettings
from converter.listener.writer import Writer, receiver_folders
from converter.pipeline import Request

__all__ = ["Ending", "Work"]

logger = logging.getLogger("converter.listener")
TICK = 0.05
INGEST = 0.5
"""Seconds between batches: each is a sync that the receivers would have to wait behind."""
NICE = 10
"""Of the thread that takes in journals: what is in them can wait, up to a limit, and who sends waits for an answer."""
LOOK = 5.0
"""Seconds between counts of the outbox."""
STEADY = 5.0
"""Seconds for which deliveries must go on without a fault to be said to go on."""


class Ending:
    """How far the end of the daemon has come."""

    def __init__(self) -> None:
        self.draining = threading.Event()
        """No delivery begins any more."""
        self.stopping = threading.Event()
        """Nothing comes any more: what is there is taken in, and each thread ends."""
        self.over = threading.Event()
        """Nobody is waited for any more."""


class Work:
    """Everything between the journals and the destinations.

    Parameters
    ----------
    settings : DaemonSettings
    request : Request
    delivery : Delivery, optional
    board : Board
        Told how it goes.
    ending : Ending
    """

    def __init__(
        self,
        settings: DaemonSettings,
        request: Request,
        delivery: Delivery | None,
        board: Board,
        ending: Ending,
    ) -> None:
        self._settings = settings
        self._request = request
        self._delivery = delivery
        self._board = board
        self._ending = ending
        self._stopping = ending.stopping
        self._settler = Settler(settings.quiet_period, settings.quiet_cap)
        self._settling = threading.Lock()
        self._hosts: Hosts | None = None
        if not isinstance(settings.state, Path):
            self._hosts = Hosts(settings.quiet_period, settings.quiet_cap)
        self._noted = False
        self.carried: frozenset[str] = frozenset()
        """Studies that open associations carry."""

    def recover(self) -> int:
        """Take in what an earlier run acknowledged, have its dirty studies settle anew; give the number of this run.

        A server that is away does not keep the daemon from receiving: what arrives is taken in when it is back.
        """
        ledger = Ledger(self._settings.state, patient=True, role="daemon")
        try:
            epoch = ledger.next_epoch()
            self._take_up(ledger)
            if self._settings.keep_files is not None:
                # Only now: files that a journal names are acknowledged.
                sweep(self._settings.keep_files, self._settings.journal)
        except StoreAwayError as error:
            logger.warning("%s What arrives is kept in the journals.", error)
        finally:
            ledger.close()
        return epoch

    def _take_up(self, ledger: Ledger) -> None:
        self._note(ledger)
        writer = Writer(ledger, lambda _study, _state: None, self._settings.policy.authoritative)
        taken = writer.recover(self._settings.journal)
        self._count(writer)
        writer.close()
        if taken:
            logger.info("taken in from an earlier run: %d records", taken)
        if self._hosts is not None:
            self._hosts.begin(ledger)
            return
        now, wall = time.monotonic(), time.time()
        for study, state, first in ledger.unpublished():
            if state == "receiving":
                self._settler.changed(study, now, first=now - max(0.0, wall - first))

    def _note(self, ledger: Ledger) -> None:
        if not self._noted:
            note(ledger.database, self._settings.policy.peers, TagSet.of(self._request.wanted))
            self._noted = True

    def _count(self, writer: Writer) -> None:
        lost, writer.damaged = writer.damaged, 0
        if lost:
            self._board.count("journal.damaged", lost)

    def write(self) -> None:
        """Take in journals as long as there is something in them."""
        if sys.platform == "linux":  # elsewhere it would be the whole process
            os.nice(NICE)
        ledger = Ledger(self._settings.state, patient=True, role="daemon")
        writer = Writer(ledger, self._changed, self._settings.policy.authoritative)
        next_totals = next_look = 0.0
        said = ""
        try:
            while True:
                last = self._stopping.is_set()
                fault = ""
                taken = 0
                try:
                    self._note(ledger)
                    folders = receiver_folders(self._settings.journal)
                    taken = writer.ingest(folders)
                    if self._hosts is not None:
                        self._hosts.beat(ledger, self.carried)
                    if not writer.behind:
                        self._board.journal_empty = time.monotonic()
                    if time.monotonic() >= next_totals or last:
                        next_totals = time.monotonic() + (1.0 if self._hosts is None else 5.0)
                        self._board.set_totals(writer.counts, ledger.counts())
                        self._board.oldest = ledger.oldest_unpublished()
                    if time.monotonic() >= next_look:
                        next_look = time.monotonic() + LOOK
                        self._board.waiting = Waiting(*ledger.waiting())
                except (StoreError, OSError) as error:
                    fault = "the study store cannot be written"
                    if fault != said:
                        logger.error("%s: %s", fault, _why(error))  # noqa: TRY400
                if said and not fault:
                    logger.warning("the study store is written again")
                said = fault
                self._count(writer)
                with suppress(
                    OSError
                ):  # what cannot be taken in is what one wants to know the size of
                    self._board.journal_bytes = writer.waiting(
                        receiver_folders(self._settings.journal)
                    )
                self._board.beat("writer", fault)
                if last and not taken:
                    return
                self._stopping.wait(1.0 if fault else INGEST)
        finally:
            writer.close()
            ledger.close()

    def _changed(self, study: str, state: str) -> None:
        if self._hosts is not None:
            return  # the database says what is due
        with self._settling:
            if state == "receiving":
                self._settler.changed(study, time.monotonic())
            else:
                self._settler.done(study)

    def publish(self) -> None:
        """Publish what is quiet, at its cap, or asked for."""
        publisher = Publisher(self._settings.state, self._request, self._delivery, self._hosts)
        try:
            while not self._stopping.wait(TICK * 2):
                now = time.monotonic()
                with self._settling:
                    # Taken out first: what comes while they are published starts its timer anew.
                    due = self._settler.due(now, self.carried)[:MOST]
                    for study in due:
                        self._settler.done(study)
                publisher.round(due)
                if publisher.fault:
                    self._board.count("publish.failures")
                    with self._settling:
                        for study in due:
                            self._settler.changed(study, now)
                self._board.beat("publisher", publisher.fault)
                if publisher.fault:
                    self._stopping.wait(1.0)
        finally:
            publisher.close()

    def send(self) -> None:
        """Bring to FHIR servers what the outbox holds; a server that is down never fails a C-STORE."""
        assert self._delivery is not None
        ledger = Ledger(self._settings.state, patient=True)
        store = RoundStore(self._settings.state, ledger)
        try:
            ending = self._ending
            said = ""
            began = 0.0

            def draining() -> bool:
                nonlocal said
                if said and time.monotonic() - began > STEADY:
                    logger.warning("studies are delivered again")
                    said = ""
                return ending.draining.is_set()

            while not ending.draining.is_set():
                began = time.monotonic()
                try:
                    self._delivery.run(store, draining, ending.over.is_set)
                except (StoreError, OSError) as error:
                    if (why := _why(error)) != said:
                        logger.error("studies cannot be delivered now: %s", why)  # noqa: TRY400
                    said = why
                    ending.draining.wait(1.0)
            with suppress(StoreError, OSError):
                if due := ledger.waiting()[0].get("due"):
                    logger.info("deliveries that wait for the next start: %d", due)
        finally:
            store.close()
            ledger.close()


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, StoreError) else type(error).__name__
