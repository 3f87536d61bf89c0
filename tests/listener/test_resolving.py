"""Whose study it is, from C-STORE to folder and server: what resolving, excluding, authority and notes do to what is published."""

from __future__ import annotations

import pytest

from tests.servers.stub import Stub
from tools.dicom_sender import Sender

UID = "1.2.3"


def send(daemon, *objects, calling="CT1"):
    with Sender(daemon.port).associate(calling=calling) as sender:
        assert [sender.store(data, uid).status for data, uid in objects] == [0] * len(objects)
        sender.release()


@pytest.fixture
def instance(make_dicom):
    def make_one(number=1, patient="P1", **attributes):
        uid = f"{UID}.1.{number}"
        whole = make_dicom(study=UID, sop=uid, number=str(number), patient=patient, **attributes)
        return whole[144 + int.from_bytes(whole[140:144], "little") :], uid

    return make_one


class Folder:
    """What stands in the output folder."""

    def __init__(self, running):
        self.running = running

    def whose(self):
        """(PatientID of the subject, of the Patient that it refers to, instances, status)."""
        studies = self.running.resources()
        people = {one["id"]: one for one in self.running.resources("Patient")}
        return seen(studies, people)


class Server(Folder):
    """What stands at the server."""

    def __init__(self, stub):
        self.stub = stub

    def whose(self):
        people = {one["id"]: one for one in self.stub.store.standing("Patient").values()}
        return seen(self.stub.studies(), people)


def seen(studies, people):
    if not studies:
        return None
    (study,) = studies
    person = people.get(study["subject"]["reference"].partition("/")[2], {})
    (number,) = {one["value"] for one in person.get("identifier", [{"value": ""}])}
    said = study["subject"]["identifier"]["value"]
    return said, number, study["numberOfInstances"], study["status"]


@pytest.fixture(params=["folder", "server"])
def published(request, daemon):
    """Start a daemon that publishes to a folder or a server: (daemon, what stands there)."""
    with Stub() as stub:

        def start(*options, **given):
            if request.param == "folder":
                running = daemon(*options, **given)
                return running, Folder(running)
            return daemon("--to", stub.base, *options, out=False, **given), Server(stub)

        yield start


def until(running, place, *wanted):
    running.until(lambda: place.whose() == wanted)


def test_a_study_that_was_resent_and_resolved_is_the_other_patients_with_his_patient(
    published, instance
):
    running, place = published()
    send(running, instance(1), instance(2))
    until(running, place, "P1", "P1", 2, "available")
    send(running, instance(1, "P2"))
    running.until(lambda: running.metric('studies{state="conflict"}') == 1)
    send(running, instance(2, "P2"))
    running.until(lambda: running.metric('studies{state="held"}') == 1)
    running.studies("resolve", UID, "--patient", "P2")
    until(running, place, "P2", "P2", 2, "available")
    running.end()


def test_a_study_of_two_patients_goes_to_one_and_then_to_the_other(published, instance):
    running, place = published()
    send(running, instance(1), instance(2, "P2"), instance(3, "P2"))
    running.until(lambda: running.metric('studies{state="conflict"}') == 1)
    running.studies("resolve", UID, "--patient", "P1")
    until(running, place, "P1", "P1", 1, "available")
    running.studies("resolve", UID, "--patient", "P2")
    until(running, place, "P2", "P2", 2, "available")
    running.end()


def replaced(running, place, instance):
    """A study that is another patient's at once, without a conflict."""
    send(running, instance())
    until(running, place, "P1", "P1", 1, "available")
    send(running, instance(1, "P2"))
    running.until(lambda: "subject-mismatch" in running.text())
    assert place.whose() == ("P1", "P1", 1, "available")


def test_what_is_held_for_its_subject_is_published_when_it_is_resolved(published, instance):
    running, place = published()
    replaced(running, place, instance)
    running.studies("resolve", UID, "--patient", "P2")
    until(running, place, "P2", "P2", 1, "available")
    running.end()


def test_what_is_held_for_its_subject_can_be_taken_back(published, instance):
    running, place = published()
    replaced(running, place, instance)
    running.studies("exclude", UID)
    until(running, place, "P1", "P1", 0, "cancelled")
    running.until(lambda: running.metric('studies{state="excluded"}') == 1)
    running.end()


@pytest.mark.parametrize("count", [1, 2])
def test_an_authoritative_sender_says_whose_study_it_is(published, instance, tmp_path, count):
    config = tmp_path / "c.toml"
    config.write_text(
        '[listen.peers.pacs]\nae_titles = ["PACS"]\nauthoritative = true\n'
        '[listen.peers.ct]\nae_titles = ["CT1"]\n'
    )
    running, place = published("--config", str(config))
    numbers = range(1, count + 1)
    send(running, *[instance(n) for n in numbers])
    until(running, place, "P1", "P1", count, "available")
    for n in numbers:
        send(running, instance(n, "P2"), calling="PACS")
    until(running, place, "P2", "P2", count, "available")
    running.end()
