"""The outbox: revisions, leases, what is frozen, and states of an older version."""

from __future__ import annotations

import sqlite3

import pytest

from converter.store import (
    Converted,
    FileStamp,
    PackedBlock,
    Part,
    open_beside,
    open_kept,
    place_of,
)
from converter.store.database import APPLICATION_ID
from converter.store.outbox import Outlet, Settled
from converter.store.schema import MIGRATIONS, SCHEMA

HERE = "https://fhir.example/r4"


@pytest.fixture(params=["file", "server"])
def path(request, tmp_path):
    if request.param == "file":
        return tmp_path / "state.db"
    return place_of(request.getfixturevalue("postgres").url())


@pytest.fixture
def store(path):
    opened = open_kept(path)
    yield opened
    opened.close()


def converted(uid, state="converted"):
    return Converted(uid, state, b"{}", [], [], 1, 1, [], [])


def fill(store, *uids, now=0.0, destinations=(HERE,)):
    store.save([converted(uid) for uid in uids])
    store.outbox.enqueue(destinations, now, uids)


def claim(store, limit=10, now=0.0, until=60.0, destination=HERE):
    return store.outbox.claim(destination, limit, now, until)


def delivered(row, now=1.0):
    return Settled(row, "delivered", now, 0.0, "id", 'W/"1"', "digest", {"status": "x"})


def test_a_row_is_claimed_once(store):
    fill(store, "1.1", "1.2", "1.3")
    assert [row.study_uid for row in claim(store, 2)] == ["1.1", "1.2"]
    assert [row.study_uid for row in claim(store)] == ["1.3"]
    assert claim(store) == []


def test_what_was_delivered_is_remembered_and_no_longer_due(store):
    fill(store, "1.1")
    assert store.outbox.settle([delivered(claim(store)[0])]) == 0
    assert store.outbox.waiting([HERE], 9.0) == {}
    store.outbox.enqueue([HERE], 9.0, ["1.1"])
    (row,) = claim(store, now=9.0)
    assert (row.wanted, row.delivered) == (2, 1)
    assert (row.server_id, row.etag, row.digest, row.written) == (
        "id",
        'W/"1"',
        "digest",
        {"status": "x"},
    )


def test_a_revision_that_comes_while_one_is_sent_stays_due(store):
    fill(store, "1.1")
    (row,) = claim(store)
    store.outbox.enqueue([HERE], 1.0, ["1.1"])
    store.outbox.settle([delivered(row)])
    (again,) = claim(store, now=2.0)
    assert (again.wanted, again.delivered) == (2, 1)


def test_a_lease_that_ran_out_is_taken_and_its_holder_changes_nothing(store):
    fill(store, "1.1")
    (slow,) = claim(store, until=60.0)
    assert claim(store, now=59.0) == []
    (row,) = claim(store, now=61.0, until=120.0)
    assert row.uncertain
    assert store.outbox.settle([delivered(slow)]) == 1
    assert store.outbox.waiting([HERE], 61.0)[HERE][0] == 1
    assert store.outbox.settle([delivered(row)]) == 0


def test_a_lease_can_be_kept(store):
    fill(store, "1.1")
    rows = claim(store, until=60.0)
    store.outbox.renew(rows, 200.0)
    assert claim(store, now=100.0) == []


def test_two_stores_on_one_state_share_the_rows(store, path):
    fill(store, *(f"1.{n}" for n in range(10)))
    other = open_beside(path)
    try:
        first, rest = claim(store, 5), claim(other)
        assert len(first) == len(rest) == 5
        assert len({row.study_uid for row in [*first, *rest]}) == 10
    finally:
        other.close()


def test_the_next_attempt_is_in_the_row(store, path):
    fill(store, "1.1")
    (row,) = claim(store)
    store.outbox.settle([Settled(row, "due", 1.0, 50.0, reason="x", uncertain=True)])
    store.close()
    again = open_kept(path)
    try:
        assert claim(again, now=49.0) == []
        assert again.outbox.waiting([HERE], 2.0) == {HERE: (1, 50.0)}
        (row,) = claim(again, now=50.0)
        assert (row.attempts, row.uncertain) == (1, True)
    finally:
        again.close()


def test_dead_letters_are_listed_replayed_and_dropped(store):
    fill(store, "1.1", "1.2")
    for row in claim(store):
        store.outbox.settle([Settled(row, "dead", 5.0, reason="refused", refusal=b"r")])
    letters = store.outbox.letters()
    assert [(letter.study_uid, letter.reason, letter.refusal) for letter in letters] == [
        ("1.1", "refused", b"r"),
        ("1.2", "refused", b"r"),
    ]
    assert store.outbox.replay(letters[:1], 6.0) == 1
    assert [row.study_uid for row in claim(store, now=6.0)] == ["1.1"]
    assert store.outbox.drop(letters) == 1
    assert store.outbox.letters() == []


def test_a_newer_revision_of_a_dead_letter_has_its_own_chance(store):
    fill(store, "1.1")
    (row,) = claim(store)
    store.outbox.enqueue([HERE], 1.0, ["1.1"])
    store.outbox.settle([Settled(row, "dead", 5.0, reason="refused")])
    assert [row.wanted for row in claim(store, now=5.0)] == [2]


def test_what_is_held_is_frozen_and_thaws(store):
    fill(store, "1.1", "1.2")
    (first, _) = claim(store)
    store.hold(["1.1"], "patient-mismatch")
    store.outbox.enqueue([HERE], 2.0, [])
    assert store.outbox.settle([delivered(first)]) == 1, "its lease went with the freezing"
    assert {row[0]: row[2:] for row in store.outbox.states([HERE])}["1.1"] == (
        "frozen",
        "patient-mismatch",
    )
    store.begin_run()
    store.narrow(["1.1"])  # on a server what is held of other studies stays held
    store.outbox.enqueue([HERE], 3.0, [])
    assert store.outbox.waiting([HERE], 3.0)[HERE][0] == 1
    store.outbox.enqueue([HERE], 3.0, ["1.1"])
    assert [row.study_uid for row in claim(store, now=3.0)] == ["1.1"]


def test_two_patients_in_a_study_freeze_it(store):
    fill(store, "1.1")
    store.save([converted("1.1", "conflict")])
    store.outbox.enqueue([HERE], 1.0, ["1.1"])
    assert claim(store, now=1.0) == []


def test_a_study_without_its_conversion_waits(store):
    fill(store, "1.1")
    store.add([Part([PackedBlock("1.1", "1.1.1", 1, b"x")])], "v")
    assert claim(store) == []
    assert store.outbox.waiting([HERE], 0.0) == {}


def test_a_run_wants_only_what_its_inputs_hold(store):
    for run, uid in enumerate(("1.1", "1.2"), 1):
        store.begin_run()
        name = f"/in/{run}".encode()
        block = PackedBlock(uid, f"{uid}.1", 1, b"x", (name,))
        store.add([Part([block], (), [FileStamp(name, 1, 1)])], "v", fresh=[name])
        assert list(store.outbox.seen(store.run)) == [uid]
    store.begin_run()
    store.unchanged([FileStamp(b"/in/1", 1, 1)], "v")
    assert list(store.outbox.seen(store.run)) == ["1.1"]


def test_what_is_learnt_of_a_destination_is_kept(store):
    outbox = store.outbox
    assert outbox.outlet(HERE) == Outlet(HERE)
    outbox.configure(HERE, "{}")
    outbox.remember(Outlet(HERE, server_ids=True, circuit="HTTP 403", probe_at=5.0))
    assert outbox.outlet(HERE) == Outlet(HERE, True, "HTTP 403", 5.0, 0.0)
    assert outbox.settings(HERE) == "{}"
    outbox.learn(HERE, {"Patient/a": "Patient/7", "Patient/b": "Patient/8"})
    outbox.learn(HERE, {"Patient/b": ""})
    assert outbox.known(HERE, ["Patient/a", "Patient/b"]) == {"Patient/a": "Patient/7"}


def test_a_state_of_the_version_before_gets_an_outbox(tmp_path):
    path = tmp_path / "old.db"
    old = sqlite3.connect(path)
    old.executescript(
        f"{SCHEMA} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1;"
        "INSERT INTO converted (study_uid, state, series, instances, data) VALUES ('1.1', 'converted', 1, 1, x'')"
    )
    old.close()
    assert list(MIGRATIONS) == [1]
    store = open_kept(path)
    try:
        store.outbox.enqueue([HERE], 0.0, ["1.1"])
        assert [row.study_uid for row in claim(store)] == ["1.1"]
    finally:
        store.close()
