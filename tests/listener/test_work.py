"""What the daemon says while it cannot go on: once, and once more when it can again."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from converter.errors import StoreError
from converter.listener import work
from converter.listener.board import Board
from converter.listener.ledger import Ledger
from converter.listener.publisher import Publisher
from converter.listener.work import Ending, Work


class Away:
    """A delivery whose store is away for two rounds."""

    def __init__(self, ending):
        self.ending = ending
        self.rounds = 0

    def run(self, _store, stop, _give_up):
        self.rounds += 1
        if self.rounds <= 2:
            raise StoreError("away")
        stop()
        self.ending.draining.set()


def test_a_store_that_is_away_is_said_once_by_who_delivers_and_once_when_it_is_back(
    tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(work, "STEADY", -1.0)
    ending = Ending()
    settings = SimpleNamespace(state=tmp_path / "listen.db", quiet_period=1.0, quiet_cap=2.0)
    delivery = Away(ending)
    with caplog.at_level(logging.WARNING, "converter.listener"):
        Work(settings, None, delivery, Board(tmp_path, 0), ending).send()
    assert delivery.rounds == 3
    assert caplog.messages == [
        "studies cannot be delivered now: away",
        "studies are delivered again",
    ]


def test_a_full_disk_is_said_to_a_daemon_in_words_that_fit_it(tmp_path):
    ledger = Ledger(tmp_path / "listen.db", patient=True, role="daemon")
    ledger.database.connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(StoreError) as said:
        ledger.database.prepare(["CREATE TABLE large AS SELECT zeroblob(1000000)"])
    ledger.close()
    assert "full. Free some space and a daemon goes on by itself" in str(said.value)


def test_a_publisher_that_cannot_go_on_says_it_once_and_once_when_it_can(
    tmp_path, caplog, monkeypatch
):
    request = SimpleNamespace(wanted={}, parts=SimpleNamespace(unite=None))
    publisher = Publisher(tmp_path / "listen.db", request)
    looks = iter([StoreError("away"), StoreError("away"), None, None])

    def take(_due):
        if (fault := next(looks)) is not None:
            raise fault
        return {}

    monkeypatch.setattr(publisher, "_take", take)
    with caplog.at_level(logging.WARNING, "converter.listener"):
        for _ in range(4):
            publisher.round([])
    publisher.close()
    assert caplog.messages == ["studies cannot be published: away", "studies are published again"]
