"""Several daemons on one PostgreSQL server: one load between them, each revision published once, deaths, a server that is away."""

from __future__ import annotations

import itertools
import threading

import pytest

from converter.listener.desk import Desk
from converter.listener.hosts import ARRIVING, CLAIM, Hosts
from converter.listener.ledger import Ledger
from converter.store import place_of
from tests.listener.test_ledger import ingest, one
from tests.servers.postgres import server
from tests.servers.stub import Stub
from tools.dicom_sender import Gone, Rejected, Sender

SHORT = {"DCM2FHIR_DELIVERY__LEASE": "6s", "DCM2FHIR_DELIVERY__REQUEST_TIMEOUT": "3s"}


@pytest.fixture
def url(postgres):
    return postgres.url()


@pytest.fixture
def start(daemon, tmp_path):
    """Start a daemon of a host with this name."""

    def make(name, url, *options, **given):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        journal = ("--journal", str(folder / "journal"))
        return daemon("--state", url, *journal, *options, folder=folder, env=SHORT, **given)

    return make


@pytest.fixture
def instance(make_dicom):
    def make_one(study, number=1, **attributes):
        uid = f"{study}.1.{number}"
        whole = make_dicom(study=study, sop=uid, number=str(number), **attributes)
        return whole[144 + int.from_bytes(whole[140:144], "little") :], uid

    return make_one


class Load(threading.Thread):
    """Sends objects on one association after the other, until all are acknowledged or it is told to stop."""

    def __init__(self, running, objects):
        super().__init__()
        self.running = running
        self.left = list(objects)
        self.acknowledged = []
        self.start()

    def run(self):
        while self.left:
            try:
                with Sender(self.running.port).associate() as sender:
                    while self.left:
                        study, data, uid = self.left[0]
                        assert sender.store(data, uid).status == 0
                        self.acknowledged.append((study, uid))
                        del self.left[0]
                    sender.release()
            except (Gone, Rejected, OSError):
                return


def instances(study):
    return {i["uid"] for s in study.get("series", []) for i in s.get("instance", [])}


def standing(stub):
    """Study UID to the instances that stand at the server; each study stands there once."""
    found = {}
    for study in stub.studies():
        uid = study["identifier"][0]["value"].removeprefix("urn:oid:")
        assert uid not in found
        found[uid] = instances(study)
    return found


def complete(stub, acknowledged):
    wanted = {}
    for study, uid in acknowledged:
        wanted.setdefault(study, set()).add(uid)
    return standing(stub) == wanted


def each_revision_once(stub):
    """Whether every version of every study that was written there says more than the one before."""
    for key, versions in stub.store.versions.items():
        if key.startswith("ImagingStudy/"):
            counts = [version["numberOfInstances"] for version in versions]
            assert counts == sorted(set(counts)), f"{key}: {counts}"


def objects(instance, studies, numbers):
    return [(s, *instance(s, n)) for n in numbers for s in studies]


@pytest.mark.slow
def test_two_daemons_take_one_load_and_publish_each_revision_once(start, url, instance):
    studies = [f"1.2.{n}" for n in range(3, 13)]
    with Stub() as stub:
        two = [
            start(name, url, "--to", stub.base, "--quiet-period", "2s", "--receivers", "1")
            for name in "ab"
        ]
        # every study comes to both hosts at once
        loads = [
            Load(running, objects(instance, studies, range(first, 25, 4)))
            for first, running in zip((1, 2, 3, 4), itertools.cycle(two), strict=False)
        ]
        for load in loads:
            load.join(60)
        acknowledged = [item for load in loads for item in load.acknowledged]
        assert len(acknowledged) == 240
        two[0].until(lambda: complete(stub, acknowledged), 90)
        each_revision_once(stub)
        for running in two:
            assert running.metric('cstore_total{status="success"}') == 120
            running.end()


@pytest.mark.slow
def test_what_a_killed_daemon_had_taken_in_another_publishes_and_nothing_is_lost(
    start, url, instance
):
    with Stub() as stub:
        options = ("--to", stub.base, "--receivers", "1", "--quiet-period", "3s")
        dying, staying = start("a", url, *options), start("b", url, *options)
        alone = Load(dying, objects(instance, ["1.2.50"], range(1, 4)))
        alone.join(30)
        desk = Desk(place_of(url))
        try:
            staying.until(lambda: getattr(desk.study("1.2.50"), "instances", 0) == 3)
        finally:
            desk.close()
        studies = [f"1.2.{n}" for n in range(60, 66)]
        loads = [
            Load(dying, objects(instance, studies, range(1, 2000, 2))),
            Load(staying, objects(instance, studies, range(2, 60, 2))),
        ]
        staying.until(lambda: len(loads[0].acknowledged) > 100)
        dying.kill()
        for load in loads:
            load.join(60)
        assert loads[0].left
        assert not loads[1].left
        staying.until(lambda: len(standing(stub).get("1.2.50", ())) == 3, 60)
        again = start("a", url, *options)
        acknowledged = [item for load in (alone, *loads) for item in load.acknowledged]
        unanswered = {loads[0].left[0][2]}  # it may have come to the disk before the kill

        def all_there():
            held = standing(stub)
            have = {uid for uids in held.values() for uid in uids} - unanswered
            return have == {uid for _, uid in acknowledged}

        again.until(all_there, 120)
        each_revision_once(stub)
        again.end()
        staying.end()


@pytest.mark.slow
def test_a_database_that_is_away_never_stops_receiving(start, instance):
    database = server()
    try:
        url = database.url("mine")
        with Stub() as stub:
            options = ("--to", stub.base, "--receivers", "1")
            running = start("a", url, *options)
            first = Load(running, objects(instance, ["1.2.3"], [1, 2]))
            first.join(30)
            running.until(lambda: complete(stub, first.acknowledged), 60)
            database.stop()
            second = Load(running, objects(instance, ["1.2.3", "1.2.4"], [3, 4]))
            second.join(30)
            assert not second.left
            fault = "writer: the study store cannot be written"
            running.until(lambda: fault in running.get("/readyz")[1], 60)
            assert running.get("/readyz")[0] == 503
            assert running.get("/livez")[0] == 200
            # a host that starts now receives as well
            other = start("b", url, *options)
            third = Load(other, objects(instance, ["1.2.4", "1.2.5"], [5, 6]))
            third.join(30)
            assert not third.left
            database.start()
            everything = [*first.acknowledged, *second.acknowledged, *third.acknowledged]
            running.until(lambda: complete(stub, everything), 90)
            for daemon in (running, other):
                daemon.until(lambda daemon=daemon: daemon.get("/readyz")[0] == 200, 60)
                assert daemon.text().count("the study store is written again") == 1
                daemon.end()
            each_revision_once(stub)
    finally:
        database.close()


# what hosts tell each other


@pytest.fixture
def two_hosts(url):
    made = [(Hosts(2.0, 100.0), Ledger(place_of(url))) for _ in range(2)]
    yield made
    for _, ledger in made:
        ledger.close()


def at(ledger, moment):
    """Let the clock of the database stand."""
    ledger.database.now = lambda: moment


def test_a_study_is_one_hosts_to_publish_until_it_is_published_or_the_host_is_gone(two_hosts):
    (mine, ledger), (other, its) = two_hosts
    at(ledger, 1000.0)
    ingest(ledger, one(1))
    at(its, 1001.9)
    assert other.claim(its, 20) == {}, "it is not quiet yet"
    at(ledger, 1002.0)
    assert mine.claim(ledger, 20) == {"1.2.3": 1}
    at(its, 1003.0)
    assert other.claim(its, 20) == {}
    at(ledger, 1020.0)
    mine.beat(ledger, [])
    at(its, 1002.0 + CLAIM + 1)
    assert other.claim(its, 20) == {}, "it said that it is at it"
    at(its, 1020.0 + CLAIM + 1)
    assert other.claim(its, 20) == {"1.2.3": 1}, "it died"
    its.published("1.2.3", 1, "published", "", "id", [])
    at(ledger, 2000.0)
    assert mine.claim(ledger, 20) == {}


def test_what_still_arrives_at_another_host_is_not_published_before_the_cap(two_hosts):
    (mine, ledger), (other, its) = two_hosts
    for each in (ledger, its):
        at(each, 1000.0)
    ingest(ledger, one(1))
    other.beat(its, ["1.2.3"])
    at(ledger, 1000.0 + ARRIVING - 1)
    assert mine.claim(ledger, 20) == {}
    other.beat(its, [])
    assert mine.claim(ledger, 20) == {"1.2.3": 1}
    mine.release(ledger)
    ingest(ledger, one(2))
    other.beat(its, ["1.2.3"])
    at(ledger, 1101.0)
    at(its, 1101.0)
    other.beat(its, ["1.2.3", "1.2.4"])
    assert mine.claim(ledger, 20) == {"1.2.3": 2}, "the cap wins"


def test_of_many_claims_at_once_each_study_has_one_winner(two_hosts, url):
    (_, ledger), _ = two_hosts
    now = ledger.database.now()
    at(ledger, now - 60)
    ingest(ledger, *(one(1, study=f"1.2.{n}") for n in range(40)))
    won = [set() for _ in range(4)]

    def take(mine):
        own = Ledger(place_of(url))
        hosts = Hosts(2.0, 100.0)
        try:
            for _ in range(20):
                mine.update(hosts.claim(own, 15))
        finally:
            own.close()

    threads = [threading.Thread(target=take, args=(mine,)) for mine in won]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(map(len, won)) == 40
    assert set.union(*won) == {f"1.2.{n}" for n in range(40)}
