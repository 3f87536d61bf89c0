"""What tombstones and withdrawals do at a server: ours goes, what others added stays, and nothing begins anew."""

from __future__ import annotations

from converter.core.ids import study_id
from converter.core.rejection import withdraw
from tests.delivery.made import instances, send, series, study

OURS = f"ImagingStudy/{study_id('1.2.3')}"


def only(stub):
    (held,) = stub.studies()
    return held


def writes(stub):
    return [a for a in stub.log if a.method in {"PUT", "POST"} and not a.path.endswith("_search")]


def given(stub, resource):
    stub.store.put(OURS, {**resource, "id": study_id("1.2.3")})


def test_a_tombstone_takes_an_instance_from_what_stands(stub):
    first = send(stub.base, study(series(1, 1, 2)))
    done = send(stub.base, study(series(1, 1)), held=first, tombstones=frozenset({"1.2.3.1.2"}))
    assert done.wrote
    assert instances(only(stub)) == ["1.2.3.1.1"]
    assert only(stub)["numberOfInstances"] == 1


def test_a_tombstone_for_what_another_writer_added_goes_out_though_our_part_is_as_it_was(stub):
    given(stub, study(series(2, 8)))
    first = send(stub.base, study(series(1, 1)))
    assert instances(only(stub)) == ["1.2.3.1.1", "1.2.3.2.8"]
    gone = frozenset({"1.2.3.2.8"})
    assert send(stub.base, study(series(1, 1)), held=first, tombstones=gone).wrote
    assert instances(only(stub)) == ["1.2.3.1.1"]


def test_a_withdrawn_study_shows_none_of_our_instances(stub):
    first = send(stub.base)
    gone = frozenset({"1.2.3.1:2", "1.2.3.1.1", "1.2.3.1.2"})
    done = send(stub.base, withdraw(study()), held=first, tombstones=gone, withdrawn=True)
    held = only(stub)
    assert (done.state, done.wrote) == ("delivered", True)
    assert "series" not in held
    assert (held["status"], held["numberOfSeries"], held["numberOfInstances"]) == (
        "cancelled",
        0,
        0,
    )
    back = send(stub.base, held=done)
    assert back.wrote
    assert only(stub)["status"] == "available", "it is ours to take back: we wrote it"
    assert instances(only(stub)) == ["1.2.3.1.1", "1.2.3.1.2"]


def test_a_withdrawn_study_keeps_what_others_added(stub):
    given(stub, study(series(2, 8), note=[{"text": "theirs"}]))
    first = send(stub.base)
    gone = frozenset({"1.2.3.1:2", "1.2.3.1.1", "1.2.3.1.2"})
    send(stub.base, withdraw(study()), held=first, tombstones=gone, withdrawn=True)
    held = only(stub)
    assert instances(held) == ["1.2.3.2.8"]
    assert (held["status"], held["note"]) == ("available", [{"text": "theirs"}])


def test_a_withdrawn_study_begins_nothing_where_nothing_stands(stub):
    done = send(stub.base, withdraw(study()), withdrawn=True)
    assert (done.state, done.wrote) == ("delivered", False)
    assert not writes(stub)
    assert not stub.studies()


def test_a_withdrawn_study_that_others_deleted_is_as_it_should_be(stub):
    first = send(stub.base)
    stub.store.versions[OURS].append(None)
    before = len(writes(stub))
    done = send(stub.base, withdraw(study()), held=first, withdrawn=True)
    assert (done.state, done.wrote) == ("delivered", False)
    assert len(writes(stub)) == before
