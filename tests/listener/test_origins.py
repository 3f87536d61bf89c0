"""Who sent what, what is assumed of them, and which tags were kept: the ledger's memory of it."""

from __future__ import annotations

import zlib

import pytest
from test_ledger import STUDY, ingest, one, publish

from converter.core.header import ASSUMED_CHARSET, ASSUMED_ZONE
from converter.core.study import assemble
from converter.listener.dataset import preamble
from converter.listener.desk import Desk
from converter.listener.ledger import study_blocks
from converter.listener.origins import TagSet, lacking, note, unkept
from converter.listener.policy import Peer
from converter.store import place_of
from tests.core.making import overlaid, shipped_rules

ISSUER = 0x00100021
COMMENTS = 0x00104000
TAGS = TagSet.of(dict.fromkeys([0x00080018, 0x00100020, ISSUER, 0x0020000D]))
WIDER = TagSet.of({**TAGS.wanted, COMMENTS: None})
LISBON = Peer("lisbon", ("CT1",), timezone="Europe/Lisbon", charset="ISO_IR 100", issuer="LIS")
OSLO = Peer("oslo", ("CT2",), timezone="Europe/Oslo", issuer="OSL")


@pytest.fixture(params=["file", "server"])
def ledger(request, tmp_path, monkeypatch):
    place = tmp_path / "listen.db"
    if request.param == "server":
        place = place_of(request.getfixturevalue("postgres").url())
    made = Desk(place)
    monkeypatch.setattr(made.database, "now", lambda: 0.0)
    yield made
    made.close()


def headers(ledger, tags=None, study=STUDY):
    with ledger.database.guard():
        made = assemble(study, study_blocks(ledger.database.connection, study, tags))
    return {
        instance.uid: (instance.header(), instance.row.findings)
        for series in made.series
        for instance in series.instances
    }


def header(ledger, number=1):
    return headers(ledger)[f"{STUDY}.1.{number}"][0]


def test_what_a_sender_does_not_state_is_put_to_its_objects(ledger):
    note(ledger.database, [LISBON, OSLO], TAGS)
    ingest(ledger, one(1, peer="lisbon"), one(2, peer="oslo"), one(3))
    assert header(ledger, 1)[ASSUMED_ZONE] == b"Europe/Lisbon"
    assert header(ledger, 1)[ASSUMED_CHARSET] == b"ISO_IR 100"
    assert header(ledger, 1)[ISSUER] == b"LIS"
    assert header(ledger, 2)[ASSUMED_ZONE] == b"Europe/Oslo"
    assert ASSUMED_CHARSET not in header(ledger, 2)
    assert not header(ledger, 3).keys() & {ASSUMED_ZONE, ASSUMED_CHARSET}
    assert not header(ledger, 3)[ISSUER]


def test_an_issuer_that_is_stated_stays_and_one_without_a_number_is_not_assumed(ledger):
    note(ledger.database, [LISBON], TAGS)
    ingest(
        ledger,
        one(1, peer="lisbon", issuer=b"OWN"),
        one(2, peer="lisbon", patient=b"", study="1.9"),
    )
    assert header(ledger)[ISSUER] == b"OWN"
    assert not headers(ledger, study="1.9")["1.9.1.2"][0][ISSUER]


def test_an_assumed_issuer_conflicts_with_another_and_never_with_none_or_itself(ledger):
    note(ledger.database, [LISBON, OSLO], TAGS)
    done = ingest(
        ledger,
        one(1, peer="lisbon"),
        one(2),
        one(3, issuer=b"LIS"),
        one(4, peer="lisbon", study="1.9"),
        one(5, peer="oslo", study="1.9"),
    )
    assert done.changed == {STUDY: "receiving", "1.9": "conflict"}
    assert ledger.patients("1.9") == [("P1", "LIS", 1), ("P1", "OSL", 1)]
    # and an operator can say whose it is
    assert ledger.resolve("1.9", "P1", "OSL", 200.0)
    assert list(headers(ledger, study="1.9")) == ["1.9.1.5"]


def test_a_configuration_that_was_put_right_counts_for_what_came_before(ledger):
    note(ledger.database, [LISBON], TAGS)
    ingest(ledger, one(1, peer="lisbon"), one(2, calling="CT2"), one(3, calling="CT3"))
    right = Peer("lisbon", ("CT1",), timezone="Atlantic/Azores", issuer="AZO")
    twice = [Peer("a", ("CT3",), ("10.1.0.0/16",)), Peer("b", ("CT3",), timezone="Europe/Rome")]
    note(ledger.database, [right, OSLO, *twice], TAGS)
    assert header(ledger, 1)[ASSUMED_ZONE] == b"Atlantic/Azores"
    assert header(ledger, 1)[ISSUER] == b"AZO"
    assert ASSUMED_CHARSET not in header(ledger, 1)
    # it had no section when it came, and one alone has its title now
    assert header(ledger, 2)[ASSUMED_ZONE] == b"Europe/Oslo"
    assert header(ledger, 2)[ISSUER] == b"OSL"
    # two sections have its title: nobody can say which
    assert ASSUMED_ZONE not in header(ledger, 3)
    note(ledger.database, [], TAGS)
    assert header(ledger, 1).keys() == header(ledger, 3).keys()
    assert not header(ledger, 1)[ISSUER]


def test_tags_that_were_not_kept_are_told_and_never_silently_empty(ledger):
    note(ledger.database, [], TAGS)
    ingest(ledger, tagged(one(1), TAGS))
    assert headers(ledger, TAGS)[f"{STUDY}.1.1"][1] == []
    assert headers(ledger, WIDER)[f"{STUDY}.1.1"][1] == ["tags-not-kept"]
    # what reads less than was kept lacks nothing
    less = TagSet.of({0x00080018: None})
    assert headers(ledger, less)[f"{STUDY}.1.1"][1] == []


def tagged(received, tags, kept=b""):
    received.tag_set = tags.version
    received.kept = kept
    return received


def element(tag, vr, value):
    value += b" " * (len(value) % 2)
    group, number = tag >> 16, tag & 0xFFFF
    return (
        group.to_bytes(2, "little")
        + number.to_bytes(2, "little")
        + vr
        + len(value).to_bytes(2, "little")
        + value
    )


def whole(received, **more):
    """The header of an instance as `listen --keep-headers` keeps it."""
    data = element(0x00080016, b"UI", b"1.2.840.10008.5.1.4.1.1.2\0")
    data += element(0x00080018, b"UI", received.sop_instance_uid.encode())
    data += element(0x00100020, b"LO", received.header[0x00100020])
    data += element(COMMENTS, b"LT", b"seldom read")
    data += element(0x0020000D, b"UI", received.study_instance_uid.encode())
    data += element(0x0020000E, b"UI", received.series_instance_uid.encode())
    return zlib.compress(preamble("1.2.840.10008.1.2.1") + data)


def test_tags_that_a_new_mapping_reads_come_from_the_whole_header(ledger):
    note(ledger.database, [LISBON], TAGS)
    received = one(1, peer="lisbon")
    ingest(ledger, tagged(received, TAGS, whole(received)))
    found, findings = headers(ledger, WIDER)[f"{STUDY}.1.1"]
    assert found[COMMENTS].strip() == b"seldom read"
    assert findings == []
    assert found[ISSUER] == b"LIS"
    assert COMMENTS not in headers(ledger, TAGS)[f"{STUDY}.1.1"][0]


def test_an_object_that_comes_again_brings_what_is_kept_of_it_up_to_date(ledger):
    note(ledger.database, [], TAGS)
    ingest(ledger, tagged(one(1), TAGS))
    note(ledger.database, [], WIDER)
    again = one(1, 2)
    done = ingest(ledger, tagged(again, WIDER, whole(again)))
    assert done.counts == {"same": 1}
    assert headers(ledger, WIDER)[f"{STUDY}.1.1"][1] == []
    # more was kept of it this time: that is no other object
    wider = one(1, 3, **{f"{COMMENTS:x}": b"x"})
    done = ingest(ledger, tagged(one(2, 4), TAGS), tagged(wider, WIDER))
    assert done.counts == {"new": 1, "changed": 1}
    assert len(done.replaced) == 1  # of the same tags as before
    done = ingest(ledger, tagged(one(2, 5, **{f"{COMMENTS:x}": b"y"}), WIDER))
    assert (done.counts, done.replaced) == ({"changed": 1}, [])


def test_purging_drops_whole_headers_too(ledger):
    note(ledger.database, [], TAGS)
    received = one(1)
    ingest(ledger, tagged(received, TAGS, whole(received)))
    publish(ledger)
    assert ledger.all("SELECT count(*) FROM received_header") == [(1,)]
    assert ledger.purge(1e9) == (1, 1)
    assert ledger.all("SELECT count(*) FROM received_header") == [(0,)]


def test_lacking_goes_into_sequences():
    wanted = {1: None, 2: {3: None, 4: {5: None}}}
    assert lacking(wanted, wanted) == []
    assert lacking(wanted, {1: None, 2: {3: None, 4: {}}}) == [(2, 4, 5)]
    assert lacking(wanted, {2: {3: None}}) == [(1,), (2, 4)]
    assert lacking(wanted, {1: None, 2: {}}) == [(2, 3), (2, 4)]


def test_a_set_of_tags_has_one_name_in_any_order():
    assert (
        TagSet.of({1: None, 2: {3: None, 4: None}}).version
        == TagSet.of({2: {4: None, 3: None}, 1: None}).version
    )
    assert TagSet.of({1: None}).version != TagSet.of({1: {}}).version


def test_rules_that_read_what_was_not_kept_are_named(ledger):
    rules = overlaid('[ImagingStudy]\ndescription = { from = ["ImageComments"], as = "string" }')
    base = TagSet.of(shipped_rules().wanted)
    note(ledger.database, [], base)
    received = one(5)
    ingest(
        ledger,
        tagged(one(1), base),
        tagged(one(2), base),
        tagged(one(3, study="1.9"), base),
        tagged(received, base, whole(received)),
    )
    assert unkept(shipped_rules(), ledger.not_kept()) == []
    (found,) = unkept(rules, ledger.not_kept())
    assert found == ("ImagingStudy.description", ["ImageComments"], 2, 3)
    # nobody noted what was kept of it
    ingest(ledger, one(4, study="1.10"))
    assert len(unkept(rules, ledger.not_kept())) > 20
