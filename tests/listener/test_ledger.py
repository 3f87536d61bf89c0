"""The ledger: what was received, once; states and revisions; what an operator says."""

from __future__ import annotations

import stat
import time

import msgspec
import pytest

from converter.core.study import assemble
from converter.errors import StoreError
from converter.listener import subjects
from converter.listener.desk import Desk
from converter.listener.ledger import removed, study_blocks
from converter.listener.record import Received
from converter.listener.tail import Tail
from converter.listener.writer import Writer
from converter.store import place_of

STUDY = "1.2.3"


@pytest.fixture
def on_file(tmp_path):
    made = Desk(tmp_path / "listen.db")
    yield made
    made.close()


@pytest.fixture
def on_server(postgres):
    made = Desk(place_of(postgres.url()))
    yield made
    made.close()


@pytest.fixture(params=["on_file", "on_server"])
def ledger(request, monkeypatch):
    made = request.getfixturevalue(request.param)
    # the times that tests give, not those of the server
    monkeypatch.setattr(made.database, "now", lambda: 0.0)
    return made


def one(
    number=1, stamp=None, *, patient=b"P1", study=STUDY, issuer=b"", calling="CT1", peer="", **more
):
    sop = f"{study}.1.{number}"
    header = {
        0x00080018: sop.encode(),
        0x00100020: patient,
        0x00100021: issuer,
        0x0020000D: study.encode(),
    }
    header.update({int(tag, 16): value for tag, value in more.items()})
    return Received(stamp or number, 1, calling, study, f"{study}.1", sop, [], header, peer)


def ingest(ledger, *received, epoch=1, now=100.0, authoritative=()):
    return ledger.ingest([(epoch, item) for item in received], now, authoritative)


def listed(ledger, study=STUDY):
    with ledger.database.guard():
        made = assemble(study, study_blocks(ledger.database.connection, study))
    return [instance.uid for series in made.series for instance in series.instances]


def publish(ledger, *studies):
    for study, revision in ledger.settle(studies or [STUDY]).items():
        ledger.published(study, revision, "published", "", "id", ["no-time-zone"])


def test_instances_become_a_study_that_is_receiving(ledger):
    done = ingest(ledger, one(1), one(2))
    assert done.changed == {STUDY: "receiving"}
    assert done.counts == {"new": 2}
    row = ledger.study(STUDY)
    assert (row.state, row.revision, row.published, row.instances) == ("receiving", 1, 0, 2)
    assert listed(ledger) == ["1.2.3.1.1", "1.2.3.1.2"]
    assert ledger.unpublished() == [(STUDY, "receiving", 100.0)]


def test_taking_in_twice_changes_nothing(ledger):
    batch = [one(1), one(2), one(1, 3, patient=b"P1 ")]
    ingest(ledger, *batch)
    before = ledger.study(STUDY)
    done = ingest(ledger, *batch, now=500.0)
    assert done.changed == {}
    assert done.counts == {"known": 3}
    assert ledger.study(STUDY) == before


def test_the_later_copy_stands_whatever_the_order_of_journals(ledger):
    ingest(ledger, one(1, 20, **{"00081030": b"new"}))
    done = ingest(ledger, one(1, 10, **{"00081030": b"old"}))
    assert done.counts == {"known": 1}
    with ledger.database.guard():
        (block,) = study_blocks(ledger.database.connection, STUDY)
    assert block.shared[0x00081030] == b"new"


def test_a_later_run_comes_later_whatever_the_clock_of_the_boot_says(on_file):
    ledger = on_file
    ingest(ledger, one(1, 9000, **{"00081030": b"old"}), epoch=1)
    done = ingest(ledger, one(1, 5, **{"00081030": b"new"}), epoch=2)
    assert done.counts == {"changed": 1}
    assert len(done.replaced[0][1]) == 32
    assert done.replaced[0][1] != done.replaced[0][2]
    assert ledger.study(STUDY).instances == 1


def test_the_same_again_is_no_change(ledger):
    ingest(ledger, one(1, 1))
    publish(ledger)
    done = ingest(ledger, one(1, 2))
    assert (done.counts, done.changed) == ({"same": 1}, {})
    assert ledger.study(STUDY).state == "published"


def test_a_late_instance_makes_a_new_revision(ledger):
    ingest(ledger, one(1))
    publish(ledger)
    row = ledger.study(STUDY)
    assert (row.state, row.revision, row.published, row.findings) == (
        "published",
        1,
        1,
        ["no-time-zone"],
    )
    ingest(ledger, one(2), now=900.0)
    row = ledger.study(STUDY)
    assert (row.state, row.revision, row.published) == ("receiving", 2, 1)
    assert row.first_change == 900.0


def test_what_comes_while_it_is_published_is_not_lost(ledger):
    ingest(ledger, one(1))
    revisions = ledger.settle([STUDY])
    ingest(ledger, one(2), now=130.0)
    assert not ledger.published(STUDY, revisions[STUDY], "published", "", "id", [])
    row = ledger.study(STUDY)
    assert (row.state, row.revision, row.published, row.first_change) == ("receiving", 2, 1, 130.0)


# two patients


@pytest.mark.parametrize(
    ("first", "second", "state"),
    [
        ({"patient": b"P1"}, {"patient": b"P2"}, "conflict"),
        ({"patient": b"P1"}, {"patient": b""}, "receiving"),
        ({"patient": b"P1"}, {"patient": b"P1 "}, "receiving"),
        ({"patient": b"P1"}, {"patient": b"p1"}, "conflict"),
        ({"patient": b"P\x001"}, {"patient": b"P1"}, "conflict"),
        ({"patient": b"P\x001"}, {"patient": b"P\x001 "}, "receiving"),
        ({"issuer": b"A"}, {"issuer": b"B"}, "conflict"),
        ({"issuer": b"A"}, {"issuer": b""}, "receiving"),
    ],
)
def test_conflict_is_two_values_and_empty_is_none(ledger, first, second, state):
    ingest(ledger, one(1, **first))
    done = ingest(ledger, one(2, **second))
    assert done.changed == {STUDY: state}
    assert ledger.settle([STUDY]) == ({} if state == "conflict" else {STUDY: 2})


def test_a_conflict_leaves_what_is_published_and_freezes_the_outbox(ledger):
    ingest(ledger, one(1))
    publish(ledger)
    with ledger.database.transaction() as db:
        db.execute(
            "INSERT INTO outbox (destination, study_uid, wanted, state, next_attempt, since) "
            "VALUES ('d', ?, 1, 'due', 0, 0)",
            (STUDY,),
        )
    ingest(ledger, one(2, patient=b"P2"))
    row = ledger.study(STUDY)
    assert (row.state, row.reason, row.published) == ("conflict", "patient-conflict", 1)
    with ledger.database.guard():
        found = ledger.database.connection.execute("SELECT state, reason FROM outbox").fetchall()
    assert found == [("frozen", "patient-conflict")]


def test_a_study_is_listed_with_what_the_worst_of_its_servers_has_of_it(ledger):
    ingest(ledger, one(1))
    publish(ledger)
    assert ledger.study(STUDY).delivery == ""
    seen = []
    for state in ("delivered", "due", "frozen", "held", "dead"):
        with ledger.database.transaction() as db:
            db.execute(
                "INSERT INTO outbox (destination, study_uid, wanted, state, next_attempt, since) "
                "VALUES (?, ?, 1, ?, 0, 0)",
                (f"to {state}", STUDY, state),
            )
        (row,) = ledger.studies()
        seen.append(row.delivery)
    assert seen == ["delivered", "queued", "frozen", "held", "dead"]
    assert row.state == "published"


def test_copies_of_one_instance_within_a_batch_are_taken_in_order(ledger):
    done = ingest(
        ledger,
        one(1, 11),
        one(2, 12),
        one(1, 13),
        one(1, 14, patient=b"P7"),
        one(3, 15),
        one(2, 16, patient=b"P7"),
    )
    assert dict(done.counts) == {"new": 3, "same": 1, "changed": 2}
    assert ledger.study(STUDY).instances == 3


def test_resolving_keeps_the_others_and_never_publishes_them(ledger):
    ingest(ledger, one(1), one(2, patient=b"P2"), one(3, patient=b""))
    assert not ledger.resolve(STUDY, "P3", None, 200.0)
    assert ledger.resolve(STUDY, "P1", None, 200.0)
    row = ledger.study(STUDY)
    assert (row.state, row.instances, row.left_out) == ("settled", 3, 1)
    assert listed(ledger) == ["1.2.3.1.1", "1.2.3.1.3"]
    ingest(ledger, one(4, patient=b"P2"))
    assert ledger.study(STUDY).state == "receiving"
    assert listed(ledger) == ["1.2.3.1.1", "1.2.3.1.3"]


def test_resolving_by_issuer(ledger):
    ingest(ledger, one(1, issuer=b"A"), one(2, issuer=b"B"))
    assert ledger.resolve(STUDY, "P1", "B", 200.0)
    assert listed(ledger) == ["1.2.3.1.2"]


def test_when_a_resend_leaves_one_patient_somebody_must_confirm_it(ledger):
    ingest(ledger, one(1), one(2, patient=b"P2"))
    done = ingest(ledger, one(2, 9, patient=b"P1"))
    assert done.changed == {STUDY: "held"}
    assert ledger.study(STUDY).reason == "patient-unconfirmed"
    assert ledger.resolve(STUDY, "P1", None, 300.0)
    assert ledger.study(STUDY).state == "settled"


def test_unless_the_sender_is_believed(ledger):
    ingest(ledger, one(1), one(2, patient=b"P2"))
    done = ingest(ledger, one(2, 9, patient=b"P1", peer="ris"), authoritative=["ris"])
    assert done.changed == {STUDY: "receiving"}


def test_whom_a_study_was_published_for_gives_way_to_whom_somebody_says(ledger):
    ingest(ledger, one(1))
    publish(ledger)

    def given():
        with ledger.database.transaction() as db:
            subjects.remember(db, STUDY, [b'{"identifier":{"value":"P1"}}'])
            assert len(subjects.former(db, STUDY)) == 1
            return len(subjects.replaceable(db, STUDY))

    ingest(ledger, one(1, 5, patient=b"P2"))
    assert given() == 0, "nobody said anything"
    ingest(ledger, one(1, 6, patient=b"P3", peer="ris"), authoritative=["ris"])
    assert given() == 1
    ingest(ledger, one(1, 7, patient=b"P2", peer="ct"), authoritative=["ris"])
    assert given() == 0, "the believed sender said it of another one"
    assert ledger.resolve(STUDY, "P2", None, 300.0)
    assert given() == 1


# an operator


def test_excluding_and_including_again(ledger):
    ingest(ledger, one(1))
    assert ledger.exclude(STUDY, 200.0)
    assert ledger.study(STUDY)[1:3] == ("settled", "excluded"), (
        "what is published is taken back first"
    )
    ingest(ledger, one(2))
    [(uid, revision)] = ledger.settle([STUDY]).items()
    assert ledger.published(uid, revision, "excluded", "excluded", "id", [])
    assert ledger.study(STUDY).state == "excluded"
    ingest(ledger, one(3))
    assert ledger.study(STUDY)[1:3] == ("excluded", "excluded")
    assert ledger.all("SELECT * FROM held") == [], "that it is taken back may be on its way"
    assert ledger.settle([STUDY]) == {}
    assert ledger.exclude(STUDY, 300.0, undo=True)
    assert ledger.study(STUDY).state == "settled"
    assert not ledger.exclude("1.9", 300.0)


def test_what_an_operator_takes_away_is_known_by_its_uids(ledger):
    ingest(ledger, one(1), one(2, patient=b"P2"))

    def gone():
        with ledger.database.transaction() as db:
            return removed(db, STUDY)

    def sops(*numbers):
        return {one(number).sop_instance_uid for number in numbers}

    assert gone() == (False, set())
    assert ledger.resolve(STUDY, "P1", None, 200.0)
    assert gone() == (False, sops(2)), "the series still has an instance that counts"
    assert ledger.exclude(STUDY, 300.0)
    assert gone() == (True, sops(1, 2) | {f"{one(1).series_instance_uid}:2"})
    assert ledger.exclude(STUDY, 400.0, undo=True)
    assert gone() == (False, sops(2))


def test_an_exclusion_that_could_not_be_carried_out_is_tried_again(ledger):
    ingest(ledger, one(1))
    assert ledger.exclude(STUDY, 200.0)
    [(uid, revision)] = ledger.settle([STUDY]).items()
    assert ledger.published(uid, revision, "held", "standing-unreadable", "id", [])
    assert ledger.study(STUDY)[1:3] == ("held", "standing-unreadable")
    assert ledger.republish(STUDY, 300.0)
    assert ledger.study(STUDY)[1:3] == ("settled", "excluded")


def test_republishing_is_a_new_revision(ledger):
    ingest(ledger, one(1))
    publish(ledger)
    assert ledger.republish(STUDY, 300.0)
    assert ledger.settle([STUDY]) == {STUDY: 2}
    assert not ledger.republish("1.9", 300.0)


def test_purging_keeps_identity_and_digest(ledger):
    ingest(ledger, one(1), now=100.0)
    ingest(ledger, one(1, study="1.4"), now=900.0)
    publish(ledger, STUDY, "1.4")
    assert ledger.purge(500.0) == (1, 1)
    assert ledger.purge(500.0) == (0, 0)
    assert listed(ledger) == []
    assert ledger.study(STUDY).instances == 1


def test_what_was_purged_is_stored_again_when_it_comes_again(ledger):
    batch = [one(1), one(2)]
    ingest(ledger, *batch)
    publish(ledger)
    assert ledger.purge(500.0) == (1, 2)
    assert ingest(ledger, *batch).counts == {"known": 2}, "a journal that is read again"
    assert listed(ledger) == []
    done = ingest(ledger, one(1, 50))
    assert (done.counts, done.changed) == ({"restored": 1}, {STUDY: "receiving"})
    assert listed(ledger) == ["1.2.3.1.1"]
    assert ledger.purged(STUDY) == (1, True)
    assert ingest(ledger, one(1, 60)).counts == {"same": 1}
    ingest(ledger, one(2, 70))
    assert ledger.purged(STUDY) == (0, True)


def test_a_study_of_which_no_header_is_left_is_not_published_again(ledger):
    ingest(ledger, one(1), one(2))
    publish(ledger)
    ledger.purge(500.0)
    before = ledger.study(STUDY)
    assert not ledger.republish(STUDY, 200.0)
    assert ledger.study(STUDY) == before
    assert ledger.exclude(STUDY, 300.0)
    assert ledger.republish(STUDY, 400.0), "to take it back needs no header"
    ledger.exclude(STUDY, 500.0, undo=True)
    ingest(ledger, one(1, 50))
    assert ledger.republish(STUDY, 600.0)


def test_a_purge_leaves_what_came_meanwhile(on_file, tmp_path):
    ingest(on_file, one(1))
    publish(on_file)
    beside = Desk(tmp_path / "listen.db")
    look = beside.all

    def look_and_take_in(*asked):
        rows = look(*asked)
        ingest(on_file, one(2))
        return rows

    beside.all = look_and_take_in
    assert beside.purge(500.0) == (0, 0)
    assert listed(on_file) == ["1.2.3.1.1", "1.2.3.1.2"]
    beside.close()


def test_a_backup_is_a_store_of_its_own(on_file, tmp_path):
    ingest(on_file, one(1))
    on_file.backup(tmp_path / "copy.db")
    copy = Desk(tmp_path / "copy.db")
    assert copy.study(STUDY).instances == 1
    copy.close()


def test_a_state_on_a_server_is_copied_by_its_own_tool(on_server, tmp_path):
    with pytest.raises(StoreError, match="pg_dump"):
        on_server.backup(tmp_path / "copy.db")


def test_epochs_count_up(on_file):
    assert [on_file.next_epoch() for _ in range(3)] == [1, 2, 3]


def test_on_a_server_what_came_later_by_the_clocks_of_the_hosts_stands(on_server):
    before = time.time_ns()
    epoch = on_server.next_epoch()
    stamp = time.monotonic_ns()
    assert before <= epoch + stamp <= time.time_ns()
    # another machine runs for longer, and took its copy a second before
    other, second = epoch - 10**12, stamp + 10**12 - 10**9
    assert ingest(on_server, one(1, stamp), epoch=epoch).counts == {"new": 1}
    late = one(1, second, **{"00081030": b"old"})
    assert ingest(on_server, late, epoch=other).counts == {"known": 1}
    newer = one(1, second + 2 * 10**9, **{"00081030": b"new"})
    assert ingest(on_server, newer, epoch=other).counts == {"changed": 1}


def test_a_journal_of_a_host_that_comes_to_a_file_is_older_than_what_comes_next(on_file):
    epoch = time.time_ns()
    assert ingest(on_file, one(1, 5), epoch=epoch).counts == {"new": 1}
    again = one(1, 6, **{"00081030": b"new"})
    assert ingest(on_file, again, epoch=on_file.next_epoch()).counts == {"changed": 1}


def test_counts(ledger):
    ingest(ledger, one(1), one(1, study="1.4"), one(2, study="1.4", patient=b"P2"))
    assert ledger.counts() == {"receiving": 1, "conflict": 1}
    assert ledger.senders("1.4") == [("CT1", 2)]
    assert ledger.patients("1.4") == [("P1", "", 1), ("P2", "", 1)]


# the writer


@pytest.fixture
def journals(tmp_path):
    from converter.listener.journal import Journal

    opened = {}

    def append(index, *received, epoch=1, **more):
        if index not in opened:
            opened[index] = Journal(tmp_path / "journal" / f"r{index}", epoch, **more)
        for item in received:
            opened[index].append(msgspec.msgpack.encode(item))

    append.folder = tmp_path / "journal"
    append.opened = opened
    yield append
    for journal in opened.values():
        journal.close()


def test_the_writer_takes_in_what_comes_and_deletes_what_is_finished(ledger, journals):
    from converter.listener.writer import receiver_folders

    told = []
    writer = Writer(ledger, lambda study, state: told.append((study, state)), lambda _: False)
    journals(0, *[one(number) for number in range(1, 40)], segment_size=2000)
    journals(1, one(50))
    assert writer.ingest(receiver_folders(journals.folder)) == 40
    assert told == [(STUDY, "receiving")]
    assert writer.ingest(receiver_folders(journals.folder)) == 0
    assert len(list((journals.folder / "r0").glob("*.journal"))) == 1
    journals(0, one(60))
    assert writer.ingest(receiver_folders(journals.folder)) == 1
    assert ledger.study(STUDY).instances == 41
    writer.close()


def test_two_copies_on_two_receivers_are_put_in_order(ledger, journals):
    from converter.listener.writer import receiver_folders

    writer = Writer(ledger, lambda *_: None, lambda _: False)
    journals(0, one(1, 30, **{"00081030": b"later"}))
    journals(1, one(1, 20, **{"00081030": b"earlier"}))
    writer.ingest(receiver_folders(journals.folder))
    with ledger.database.guard():
        (block,) = study_blocks(ledger.database.connection, STUDY)
    assert block.shared[0x00081030] == b"later"
    assert writer.counts == {"new": 1, "changed": 1}
    writer.close()


def test_recovering_takes_in_and_clears_what_a_killed_run_left(ledger, journals):
    journals(0, one(1), one(2))
    journals.opened.pop(0).close()
    (path,) = (journals.folder / "r0").glob("*.journal")
    tail = Tail(path)
    tail.read()
    tail.close()
    with path.open("r+b") as file:
        file.seek(tail.offset)
        file.write(b"\x40\0\0\0torn")
    writer = Writer(ledger, lambda *_: None, lambda _: False)
    assert writer.recover(journals.folder) == 2
    assert [path.suffix for path in (journals.folder / "r0").iterdir() if path.name != "lock"] == [
        ".torn"
    ]
    assert writer.recover(journals.folder) == 0
    writer.close()


def test_what_the_store_does_not_take_stays_in_the_journal(ledger, journals, monkeypatch):
    from converter.errors import StoreError
    from converter.listener.writer import receiver_folders

    writer = Writer(ledger, lambda *_: None, lambda _: False)
    journals(0, one(1))

    def broken(*_):
        raise StoreError("full")

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "ingest", broken)
        with pytest.raises(StoreError):
            writer.ingest(receiver_folders(journals.folder))
    assert writer.ingest(receiver_folders(journals.folder)) == 1
    writer.close()


def test_a_record_of_another_kind_is_counted_and_left_out(ledger, journals):
    from converter.listener.writer import receiver_folders

    writer = Writer(ledger, lambda *_: None, lambda _: False)
    journals(0, one(1))
    journals.opened[0].append(b"\x93\x01\x02\x03")
    journals(0, one(2))
    assert writer.ingest(receiver_folders(journals.folder)) == 2
    assert writer.counts["unreadable"] == 1
    writer.close()


def test_journals_are_private(ledger, journals):
    journals(0, one(1))
    assert stat.S_IMODE((journals.folder / "r0").stat().st_mode) == 0o700
