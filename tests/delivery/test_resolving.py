"""Whose study it is at a server: a Patient without a system belongs to one study, and only a person's word changes it."""

from __future__ import annotations

import pytest

from converter.core.ids import patient_id
from converter.core.rejection import withdraw
from tests.delivery.made import patient, send, study
from tests.servers.stub import Stub

SCOPED = patient_id(None, None, "1.2.3")


def someone(number, **more):
    return patient(number=number, system=None, **more)


def subject(number):
    return {
        "reference": f"Patient/{SCOPED}",
        "type": "Patient",
        "identifier": {"value": number},
    }


def about(number):
    return study(subject=subject(number))


def value(resource):
    return [one["value"] for one in resource["identifier"] if one.get("system") != OWN]


OWN = "urn:ietf:rfc:3986"


@pytest.fixture(params=["our-ids", "server-ids"])
def stub(request):
    with Stub(**({"client_ids": False} if request.param == "server-ids" else {})) as running:
        yield running


def stands(stub):
    """(subject of the study, PatientID of the Patient that it links to)."""
    (held,) = stub.studies()
    kind, _, id_ = held["subject"]["reference"].partition("/")
    person = stub.store.standing(kind)[f"{kind}/{id_}"]
    return held["subject"]["identifier"]["value"], value(person)


def test_resolving_brings_the_patient_along(stub):
    first = send(stub.base, about("P1"), [someone("P1")])
    assert stands(stub) == ("P1", ["P1"])
    other = someone("P2", name=[{"family": "Other"}], birthDate="1980-01-01")
    done = send(stub.base, about("P2"), [other], held=first, replaces=[subject("P1")])
    assert done.state == "delivered"
    assert stands(stub) == ("P2", ["P2"])
    assert len(stub.ids("Patient")) == 1
    back = send(stub.base, about("P1"), [someone("P1")], held=done, replaces=[subject("P2")])
    assert back.state == "delivered"
    assert stands(stub) == ("P1", ["P1"])


def test_without_a_word_the_study_is_held_and_nothing_is_linked(stub):
    first = send(stub.base, about("P1"), [someone("P1")])
    done = send(stub.base, about("P2"), [someone("P2")], held=first)
    assert (done.state, done.reason) == ("held", "subject-mismatch")
    assert stands(stub) == ("P1", ["P1"])


def test_a_study_that_never_arrived_is_not_linked_to_the_patient_that_did(stub):
    first = send(stub.base, about("P1"), [someone("P1")])
    for key in [key for key in stub.store.versions if key.startswith("ImagingStudy")]:
        del stub.store.versions[key]
    first.server_id = ""
    done = send(stub.base, about("P2"), [someone("P2")], held=first)
    assert (done.state, done.reason) == ("held", "subject-mismatch")
    lost = send(stub.base, about("P2"), [someone("P2")])
    assert (lost.state, lost.reason) == ("held", "subject-mismatch")
    assert not stub.studies()


def test_a_patient_that_others_made_somebody_else_stays(stub):
    first = send(stub.base, about("P1"), [someone("P1")])
    ((key, person),) = stub.store.standing("Patient").items()
    stub.store.put(key, {**person, "identifier": [{"value": "P9"}]})
    done = send(stub.base, about("P2"), [someone("P2")], held=first, replaces=[subject("P1")])
    assert (done.state, done.reason) == ("held", "subject-mismatch")
    assert value(stub.store.standing("Patient")[key]) == ["P9"]
    assert stub.studies()[0]["subject"]["identifier"]["value"] == "P1"


def test_what_is_taken_back_keeps_its_subject_and_its_patient(stub):
    first = send(stub.base, about("P1"), [someone("P1")])
    held = send(stub.base, about("P2"), [someone("P2")], held=first)
    assert held.state == "held"
    gone = frozenset({"1.2.3.1:2", "1.2.3.1.1", "1.2.3.1.2"})
    done = send(
        stub.base, withdraw(about("P2")), [someone("P2")],
        held=first, tombstones=gone, withdrawn=True, replaces=[subject("P1")],
    )  # fmt: skip
    assert done.state == "delivered"
    (left,) = stub.studies()
    assert (left["status"], left["numberOfInstances"]) == ("cancelled", 0)
    assert stands(stub) == ("P1", ["P1"])


def test_the_same_patient_is_not_written_again(stub):
    first = send(stub.base, about("P1"), [someone("P1")])
    before = {key: len(held) for key, held in stub.store.versions.items()}
    done = send(stub.base, about("P1"), [someone("P1")], held=first)
    assert (done.state, done.wrote) == ("delivered", False)
    assert {key: len(held) for key, held in stub.store.versions.items()} == before
