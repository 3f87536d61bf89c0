"""One study at one server: found, united, written once, never shrunk, never linked wrongly."""

from __future__ import annotations

from typing import ClassVar

import pytest

from converter.core.ids import patient_id, study_id
from converter.delivery.job import Policy
from tests.delivery.made import (
    ACCESSIONS,
    SYSTEM,
    instances,
    patient,
    send,
    series,
    study,
)
from tests.servers.stub import Fault, Stub, outcome

OURS = f"ImagingStudy/{study_id('1.2.3')}"
PATIENT = f"Patient/{patient()['id']}"


def writes(stub):
    return [a for a in stub.log if a.method in {"PUT", "POST"} and not a.path.endswith("_search")]


def only(stub):
    (held,) = stub.studies()
    return held


def given(stub, key, resource):
    stub.store.put(key, {**resource, "id": key.split("/")[1]})


def test_patient_goes_first_then_the_study_under_our_ids(stub):
    done = send(stub.base)
    assert done.state == "delivered"
    assert [a.path for a in writes(stub)] == [PATIENT, OURS]
    assert instances(only(stub)) == ["1.2.3.1.1", "1.2.3.1.2"]
    assert (done.server_id, done.etag, done.wrote) == (study_id("1.2.3"), 'W/"1"', True)
    assert done.learnt == {PATIENT: PATIENT}


def test_the_same_again_writes_nothing(stub):
    first = send(stub.base)
    before = len(writes(stub))
    again = send(stub.base, held=first)
    assert again.state == "delivered"
    assert not again.wrote
    assert len(writes(stub)) == before
    forgotten = send(stub.base)
    assert not forgotten.wrote
    assert len(writes(stub)) == before


def test_profiles_in_another_order_are_no_change(stub):
    profiles = ["https://example.org/a", "https://example.org/b"]
    made = study(series(1, 1), meta={"profile": profiles})
    send(stub.base, made)
    held = only(stub)
    given(stub, OURS, {**held, "meta": {**held["meta"], "profile": profiles[::-1]}})
    before = len(writes(stub))
    assert not send(stub.base, made).wrote
    assert len(writes(stub)) == before


def test_a_late_half_is_united_with_what_stands(stub):
    send(stub.base, study(series(1, 1, 2)))
    done = send(stub.base, study(series(1, 3), series(2, 1)))
    assert done.wrote
    held = only(stub)
    assert instances(held) == ["1.2.3.1.1", "1.2.3.1.2", "1.2.3.1.3", "1.2.3.2.1"]
    assert (held["numberOfSeries"], held["numberOfInstances"]) == (2, 4)


def test_ownership_replace_shrinks_on_purpose(stub):
    send(stub.base, study(series(1, 1, 2), series(2, 1)))
    send(stub.base, study(series(1, 1)), policy=Policy(ownership="replace"))
    assert instances(only(stub)) == ["1.2.3.1.1"]


@pytest.mark.parametrize("before", ["full", "less"])
def test_ownership_replace_takes_away_what_we_make_no_more(stub, before):
    """Also where the same was said before, and united with what stood."""
    about = {"description": "CT", "location": {"display": "Ward"}}
    said = send(stub.base, study(**about))
    given(stub, OURS, {**only(stub), "encounter": {"display": "theirs"}})
    if before == "less":
        said = send(stub.base, study(), held=said)
        assert only(stub)["description"] == "CT"
    replaced = send(stub.base, study(), held=said, policy=Policy(ownership="replace"))
    assert replaced.wrote
    held = only(stub)
    assert not about.keys() & held.keys()
    assert held["encounter"] == {"display": "theirs"}
    assert not send(stub.base, study(), held=replaced, policy=Policy(ownership="replace")).wrote


def test_what_others_wrote_stays(stub):
    first = send(stub.base)
    theirs = {
        **only(stub),
        "note": [{"text": "seen"}],
        "status": "cancelled",
        "identifier": [*only(stub)["identifier"], {"system": "https://ris.example", "value": "9"}],
    }
    stub.store.put(OURS, theirs)
    send(stub.base, study(series(1, 3)), held=first)
    held = only(stub)
    assert held["note"] == [{"text": "seen"}]
    assert held["status"] == "cancelled"
    assert {"system": "https://ris.example", "value": "9"} in held["identifier"]
    assert len(instances(held)) == 3


def test_what_we_wrote_follows_us_and_what_others_changed_since_stays(stub):
    first = send(stub.base, study(referrer={"display": "A"}, location={"display": "Room 1"}))
    stub.store.put(OURS, {**only(stub), "location": {"display": "Theirs"}})
    send(stub.base, study(referrer={"display": "B"}, location={"display": "Room 2"}), held=first)
    assert only(stub)["referrer"] == {"display": "B"}
    assert only(stub)["location"] == {"display": "Theirs"}


def test_a_study_of_others_is_found_by_its_uid_and_keeps_its_id(stub):
    given(stub, PATIENT, patient())
    given(stub, "ImagingStudy/77", study(series(9, 1)))
    done = send(stub.base)
    assert done.server_id == "77"
    assert stub.ids() == ["ImagingStudy/77"]
    assert len(instances(only(stub))) == 3


def test_a_bare_uid_is_found_too(stub):
    given(stub, PATIENT, patient())
    given(
        stub, "ImagingStudy/77", study(identifier=[{"system": "urn:dicom:uid", "value": "1.2.3"}])
    )
    assert send(stub.base).server_id == "77"


def test_a_server_that_ignores_the_search_does_not_mislead(stub):
    given(stub, PATIENT, patient())
    given(stub, "ImagingStudy/88", study(uid="1.2.999"))
    everything = {"resourceType": "Bundle", "entry": [{"resource": stub.studies()[0]}]}
    stub.fault = lambda asked: (
        Fault(200, {}, everything)
        if asked.kind == "ImagingStudy" and asked.method == "GET" and asked.query
        else None
    )
    assert send(stub.base).server_id == study_id("1.2.3")
    assert len(stub.ids()) == 2


def test_a_study_without_a_uid_asks_the_server_nothing(stub):
    done = send(stub.base, study(identifier=[]))
    assert (done.state, done.reason) == ("dead", "delivery-failed")
    assert stub.requests() == []


def test_several_are_a_dead_letter_that_names_them(stub):
    given(stub, PATIENT, patient())
    given(stub, "ImagingStudy/1", study())
    given(stub, "ImagingStudy/2", study())
    done = send(stub.base)
    assert (done.state, done.reason) == ("dead", "several-matches")
    assert done.refusal.names == ("ImagingStudy/1", "ImagingStudy/2")


@pytest.mark.parametrize("remembered", [True, False])
def test_what_was_deleted_is_not_brought_back(stub, remembered):
    first = send(stub.base)
    stub.store.versions[OURS].append(None)
    done = send(stub.base, held=first if remembered else None)
    assert (done.state, done.reason) == ("dead", "deleted-on-server")
    assert stub.ids() == []


def test_a_deleted_patient_is_not_brought_back(stub):
    given(stub, PATIENT, patient())
    stub.store.versions[PATIENT].append(None)
    done = send(stub.base)
    assert (done.state, done.reason) == ("dead", "deleted-on-server")
    assert stub.ids("Patient") == []


def test_a_server_that_was_set_up_anew_gets_the_study_again(stub):
    first = send(stub.base)
    stub.store.versions.clear()
    done = send(stub.base, held=first)
    assert done.state == "delivered"
    assert stub.ids() == [OURS]
    assert stub.ids("Patient") == [PATIENT]


def test_a_missing_patient_is_sent_once_more(stub):
    done = send(stub.base, known={PATIENT: PATIENT})
    assert done.state == "delivered"
    assert stub.ids("Patient") == [PATIENT]


def test_a_patient_that_stays_missing_is_a_dead_letter(stub):
    done = send(stub.base, companions=[])
    assert (done.state, done.reason) == ("dead", "patient-missing")
    assert done.refusal.status == 400


COMPANIONS = [
    {
        "resourceType": "Location",
        "id": "l",
        "managingOrganization": {"reference": "Organization/o"},
    },
    {"resourceType": "Organization", "id": "o"},
]
NAMED = {"Location/l": "Location/l", "Organization/o": "Organization/o"}


@pytest.mark.parametrize("known", [NAMED, {"Organization/o": "Organization/o"}])
def test_companions_that_a_server_lost_are_sent_once_more(stub, known):
    """It was set up anew, and the study is one that it never had: only a refusal tells of it."""
    located = study(location={"reference": "Location/l"})
    done = send(stub.base, located, [*COMPANIONS, patient()], known=known)
    assert done.state == "delivered"
    assert stub.ids("Location") == ["Location/l"]
    assert stub.ids("Organization") == ["Organization/o"]
    assert {key: done.learnt[key] for key in NAMED} == NAMED


def test_a_new_study_refers_to_nothing_that_a_server_lost_and_does_not_miss(stub):
    stub.integrity = False
    located = study(location={"reference": "Location/l"})
    done = send(stub.base, located, [*COMPANIONS, patient()], known={**NAMED, PATIENT: PATIENT})
    assert done.state == "delivered"
    assert stub.ids("Patient") == [PATIENT]
    assert stub.ids("Location") == ["Location/l"]
    assert stub.ids("Organization") == ["Organization/o"]


def test_a_new_study_does_not_bring_back_a_patient_that_was_deleted(stub):
    stub.integrity = False
    given(stub, PATIENT, patient())
    stub.store.versions[PATIENT].append(None)
    done = send(stub.base, known={PATIENT: PATIENT})
    assert (done.state, done.reason) == ("dead", "deleted-on-server")
    assert stub.ids() == []


@pytest.mark.parametrize("missing", [["Location/l"], ["Organization/o"]])
def test_a_companion_that_stays_missing_is_a_refusal(stub, missing):
    located = study(location={"reference": "Location/l"})
    given = [c for c in COMPANIONS if f"{c['resourceType']}/{c['id']}" not in missing]
    done = send(stub.base, located, [*given, patient()])
    assert (done.state, done.reason) == ("dead", "refused")
    assert done.refusal.status == 400


def test_a_create_that_met_another_writer_keeps_both(stub):
    """The other one writes between our look and our write: a plain PUT would have replaced it."""
    theirs = study(series(1, 1), series(5, 1, 2))

    def meet(asked):
        if asked.method == "PUT" and asked.path == OURS and not stub.ids():
            stub.store.put(OURS, theirs)

    stub.fault = meet
    done = send(stub.base, study(series(1, 2)))
    assert done.state == "delivered"
    assert instances(only(stub)) == ["1.2.3.1.1", "1.2.3.1.2", "1.2.3.5.1", "1.2.3.5.2"]


def test_a_create_that_met_another_writer_and_lost_its_answer_keeps_both(stub):
    def meet(asked):
        if asked.method == "PUT" and asked.path == OURS and not stub.ids():
            stub.store.put(OURS, study(series(5, 1, 2)))
            return Fault(drop="after")
        return None

    stub.fault = meet
    first = send(stub.base, study(series(1, 2)))
    assert (first.state, first.uncertain) == ("due", True)
    assert instances(only(stub)) == ["1.2.3.1.2"], "the other half is only in the history now"
    done = send(stub.base, study(series(1, 2)), held=first)
    assert done.state == "delivered"
    assert not done.uncertain
    assert instances(only(stub)) == ["1.2.3.1.2", "1.2.3.5.1", "1.2.3.5.2"]


@pytest.mark.parametrize("status", [409, 412])
def test_a_writer_who_was_faster_is_united_with(stub, status):
    stub.stale = status
    first = send(stub.base)

    def faster(asked):
        if asked.method == "PUT" and asked.path == OURS and len(stub.store.versions[OURS]) < 4:
            stub.store.put(OURS, {**only(stub), "series": [*only(stub)["series"], series(len(stub.store.versions[OURS]) + 10, 1)]})  # fmt: skip

    stub.fault = faster
    done = send(stub.base, study(series(1, 3)), held=first)
    assert done.state == "delivered"
    assert len(instances(only(stub))) == 6


def test_a_storm_of_conflicts_is_left_for_later(stub):
    first = send(stub.base)
    stub.fault = lambda asked: Fault(409, {}, outcome("conflict", "x")) if asked.method == "PUT" else None  # fmt: skip
    done = send(stub.base, study(series(1, 3)), held=first)
    assert (done.state, done.reason) == ("due", "not-delivered")
    assert len([a for a in stub.log if a.status == 409]) == 6


@pytest.mark.parametrize("strange", ["../../admin", "..", "a?b=c", "a\r\nX: y", "\u202ea"])
@pytest.mark.parametrize("found", ["read", "search"])
def test_an_id_that_leads_elsewhere_is_gone_to_by_nobody(stub, strange, found):
    send(stub.base)
    before = len(stub.log)
    real = stub.answer

    def led(asked, data):
        status, headers, body = real(asked, data)
        if found == "read" and asked.path == OURS:
            body = {**body, "id": strange}
        if found == "search" and asked.path == "ImagingStudy" and asked.query:
            body = {**body, "entry": [{"resource": {**only(stub), "id": strange}}]}
        return status, headers, body

    stub.answer = led
    done = send(stub.base, study(series(1, 3)))
    assert (done.state, done.reason) == ("dead", "standing-unreadable")
    known = {"metadata", "ImagingStudy", OURS, PATIENT}
    assert {asked.path for asked in stub.log[before:]} <= known


def test_a_server_without_versions_is_written_without_if_match(stub):
    real = stub.answer

    def bare(asked, data):
        status, _, body = real(asked, data)
        return status, {}, {k: v for k, v in (body or {}).items() if k != "meta"} or None

    stub.answer = bare
    send(stub.base)
    assert send(stub.base, study(series(1, 3))).state == "delivered"
    assert len(instances(only(stub))) == 3


class TestServerIds:
    @pytest.fixture
    def stub(self):
        with Stub(client_ids=False) as server:
            yield server

    def test_it_creates_on_a_condition_and_remembers(self, stub):
        done = send(stub.base)
        assert done.state == "delivered"
        assert done.server_ids
        assert done.learnt == {PATIENT: "Patient/1"}
        assert only(stub)["subject"]["reference"] == "Patient/1"
        assert done.server_id == "2"
        before = len(writes(stub))
        assert not send(stub.base, held=done).wrote
        assert len(writes(stub)) == before

    def test_a_state_that_was_lost_finds_what_stands(self, stub):
        send(stub.base)
        done = send(stub.base, study(series(1, 3)), server_ids=True)
        assert done.state == "delivered"
        assert len(stub.ids()) == len(stub.ids("Patient")) == 1
        assert len(instances(only(stub))) == 3

    def test_another_writer_between_look_and_create_is_united_with(self, stub):
        def meet(asked):
            if asked.method == "POST" and asked.path == "ImagingStudy" and not stub.ids():
                stub.store.put("ImagingStudy/77", {**study(series(5, 1)), "subject": {"reference": "Patient/1"}})  # fmt: skip

        stub.fault = meet
        assert send(stub.base).state == "delivered"
        assert stub.ids() == ["ImagingStudy/77"]
        assert len(instances(only(stub))) == 3

    def test_a_patient_without_a_system_is_known_by_our_id(self, stub):
        person = patient(system="")
        about = {"reference": f"Patient/{person['id']}", "type": "Patient"}
        for _ in range(2):
            assert send(stub.base, study(subject=about), [person], server_ids=True).state == "delivered"  # fmt: skip
        (key,) = stub.ids("Patient")
        assert {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{person['id']}"} in stub.store.latest(key)["identifier"]  # fmt: skip

    def test_two_patients_with_our_identifier_hold_the_study(self, stub):
        given(stub, "Patient/a", patient())
        given(stub, "Patient/b", patient())
        done = send(stub.base, server_ids=True)
        assert (done.state, done.reason) == ("held", "patient-ambiguous")


class TestPatients:
    lookup = Policy(patient_lookup="create")

    def test_one_hit_is_used(self, stub):
        given(stub, "Patient/77", patient(id="77"))
        done = send(stub.base, policy=self.lookup)
        assert done.state == "delivered"
        assert stub.ids("Patient") == ["Patient/77"]
        assert only(stub)["subject"]["reference"] == "Patient/77"

    def test_none_is_created_or_holds_the_study(self, stub):
        done = send(stub.base, policy=Policy(patient_lookup="hold"))
        assert (done.state, done.reason) == ("held", "patient-not-found")
        assert stub.ids() == stub.ids("Patient") == []
        assert send(stub.base, policy=self.lookup).state == "delivered"
        assert stub.ids("Patient") == [PATIENT]

    @pytest.mark.parametrize("lookup", ["create", "hold"])
    def test_several_hold_the_study(self, stub, lookup):
        given(stub, "Patient/1", patient())
        given(stub, "Patient/2", patient())
        done = send(stub.base, policy=Policy(patient_lookup=lookup))
        assert (done.state, done.reason) == ("held", "patient-ambiguous")
        assert stub.ids() == []

    def test_a_hit_that_is_another_person_holds_the_study(self, stub):
        other = patient(birthDate="1999-09-09", name=[{"family": "Other"}])
        given(stub, "Patient/77", other)
        done = send(stub.base, policy=self.lookup)
        assert (done.state, done.reason) == ("held", "patient-mismatch")
        assert done.refusal.names == ("Patient/77",)

    def test_a_merged_patient_holds_the_study(self, stub):
        link = [{"type": "replaced-by", "other": {"reference": "Patient/78"}}]
        given(stub, "Patient/77", patient(link=link))
        assert send(stub.base, policy=self.lookup).reason == "patient-ambiguous"

    def test_a_number_of_another_system_is_no_hit(self, stub):
        given(stub, "Patient/77", patient(system="https://other.example"))
        send(stub.base, policy=self.lookup)
        assert only(stub)["subject"]["reference"] == PATIENT

    def test_without_a_system_nobody_is_searched(self, stub):
        person = patient(system="")
        about = {"reference": f"Patient/{person['id']}", "type": "Patient"}
        given(stub, "Patient/77", person)
        send(stub.base, study(subject=about), [person], policy=self.lookup)
        assert only(stub)["subject"]["reference"] == f"Patient/{person['id']}"
        held = send(stub.base, study(subject=about), [person], policy=Policy(patient_lookup="hold"))
        assert held.reason == "patient-not-found"

    def test_a_logical_subject_becomes_literal(self, stub):
        given(stub, "Patient/77", patient())
        about = {"type": "Patient", "identifier": {"system": SYSTEM, "value": "7"}}
        send(stub.base, study(subject=about), [], policy=self.lookup)
        assert only(stub)["subject"] == {"reference": "Patient/77", **about}

    def test_identifiers_are_searched_for_in_bodies_not_urls(self, stub):
        send(stub.base, policy=self.lookup)
        assert [a.path for a in stub.log if a.kind == "Patient" and a.method == "POST"] == ["Patient/_search"]  # fmt: skip
        assert all("7" not in str(a.query) for a in stub.requests(kind="Patient"))

    def test_a_server_without_search_by_post_is_asked_by_get(self, stub):
        given(stub, "Patient/77", patient())
        stub.fault = lambda asked: Fault(405, {}, outcome("not-supported", "x")) if asked.path.endswith("_search") else None  # fmt: skip
        send(stub.base, policy=self.lookup)
        assert only(stub)["subject"]["reference"] == "Patient/77"

    def test_our_patient_is_created_and_never_updated(self, stub):
        given(stub, PATIENT, patient(telecom=[{"value": "1"}]))
        send(stub.base, companions=[patient(gender="male")])
        (held,) = stub.store.standing("Patient").values()
        assert held["gender"] == "female"
        assert held["telecom"]

    def test_another_person_under_our_id_holds_the_study(self, stub):
        given(stub, PATIENT, patient(number="8"))
        done = send(stub.base)
        assert (done.state, done.reason) == ("held", "subject-mismatch")
        assert stub.ids() == []

    def test_a_study_of_another_patient_is_never_relinked(self, stub):
        given(stub, "Patient/other", patient(number="8"))
        about = {"reference": "Patient/other"}
        given(stub, "ImagingStudy/1", study(subject=about))
        done = send(stub.base)
        assert (done.state, done.reason) == ("held", "subject-mismatch")
        assert only(stub)["subject"] == about

    def test_a_subject_that_others_set_stays_where_it_is_our_patient(self, stub):
        given(stub, "Patient/mpi", patient())
        about = {"reference": f"{stub.base}/Patient/mpi"}
        given(stub, "ImagingStudy/1", study(subject=about))
        assert send(stub.base).state == "delivered"
        assert only(stub)["subject"] == about

    def test_a_subject_at_another_server_is_not_followed(self, stub):
        about = {"reference": "https://elsewhere.example/fhir/Patient/1"}
        given(stub, "ImagingStudy/1", study(subject=about))
        assert send(stub.base).reason == "subject-mismatch"

    def test_two_systems_never_make_one_person(self, stub):
        other = patient_id("https://b.example", "7", "1.2.4")
        about = {"reference": f"Patient/{other}", "identifier": {"system": "https://b.example", "value": "7"}}  # fmt: skip
        send(stub.base)
        person = patient(system="https://b.example")
        send(stub.base, study(uid="1.2.4", subject=about), [person], policy=self.lookup)
        assert len(stub.ids("Patient")) == 2


class TestOrders:
    link = Policy(link_orders=True)
    order: ClassVar = {
        "identifier": {"system": ACCESSIONS, "value": "A1"},
        "type": "ServiceRequest",
    }

    def request(self, **more):
        return {
            "resourceType": "ServiceRequest",
            "identifier": [{"system": ACCESSIONS, "value": "A1"}],
            "subject": {"reference": PATIENT},
            **more,
        }

    def test_exactly_one_order_of_this_patient_is_linked(self, stub):
        given(stub, PATIENT, patient())
        given(stub, "ServiceRequest/5", self.request())
        given(stub, "Encounter/6", {**self.request(), "resourceType": "Encounter"})
        done = send(stub.base, study(basedOn=[self.order], encounter=self.order), policy=self.link)
        assert done.findings == []
        assert only(stub)["basedOn"][0] == {"reference": "ServiceRequest/5", **self.order}
        assert only(stub)["encounter"]["reference"] == "Encounter/6"

    @pytest.mark.parametrize(
        "orders",
        [
            [],
            [{}, {}],
            [{"subject": {"reference": "Patient/other"}}],
            [{"identifier": [{"system": "https://x.example", "value": "A1"}]}],
        ],
    )
    def test_otherwise_it_stays_logical_with_a_finding(self, stub, orders):
        given(stub, "Patient/other", patient(number="8"))
        for number, more in enumerate(orders):
            given(stub, f"ServiceRequest/{number}", self.request(**more))
        done = send(stub.base, study(basedOn=[self.order]), policy=self.link)
        assert done.state == "delivered"
        assert [issue.code for issue in done.findings] == ["order-not-linked"]
        assert only(stub)["basedOn"] == [self.order]

    def test_an_accession_number_without_a_system_is_not_searched(self, stub):
        bare = {"identifier": {"value": "A1"}, "type": "ServiceRequest"}
        given(stub, "ServiceRequest/5", self.request())
        done = send(stub.base, study(basedOn=[bare]), policy=self.link)
        assert only(stub)["basedOn"] == [bare]
        assert [issue.code for issue in done.findings] == ["order-not-linked"]

    def test_an_order_that_we_would_make_is_not_made_beside_the_real_one(self, stub):
        given(stub, "ServiceRequest/5", self.request())
        made = self.request(id="mine", subject={"reference": PATIENT})
        based = {"reference": "ServiceRequest/mine", **self.order}
        send(stub.base, study(basedOn=[based]), [patient(), made], policy=self.link)
        assert stub.ids("ServiceRequest") == ["ServiceRequest/5"]
        assert only(stub)["basedOn"][0]["reference"] == "ServiceRequest/5"

    def test_off_by_default(self, stub):
        given(stub, "ServiceRequest/5", self.request())
        send(stub.base, study(basedOn=[self.order]))
        assert only(stub)["basedOn"] == [self.order]


class TestSize:
    def test_a_first_publication_falls_back_to_counts(self):
        with Stub(largest=1500) as stub:
            done = send(stub.base, study(series(1, *range(1, 40))))
            assert done.state == "delivered"
            assert instances(only(stub)) == []
            assert only(stub)["series"][0]["numberOfInstances"] == 39
            assert only(stub)["numberOfInstances"] == 39
            assert [issue.code for issue in done.findings] == ["instances-not-listed"]

    def test_what_was_left_out_costs_the_claims(self, stub):
        asked = []

        def finish(resource, person, dropped):
            asked.append((resource["resourceType"], list(dropped)))
            return resource

        send(stub.base, policy=Policy(finish=finish, max_body=700))
        assert asked[-1] == ("ImagingStudy", ["ImagingStudy.series.instance"])

    def test_lists_that_stand_are_never_taken_away(self):
        with Stub() as stub:
            send(stub.base)
            stub.largest = 800
            done = send(stub.base, study(series(1, *range(1, 40))))
            assert (done.state, done.reason) == ("dead", "too-large-for-server")
            assert len(instances(only(stub))) == 2

    def test_counts_that_stand_stay_counts(self):
        with Stub(largest=1500) as stub:
            send(stub.base, study(series(1, *range(1, 40))))
            done = send(stub.base, study(series(1, *range(1, 41))))
            assert done.state == "delivered"
            assert only(stub)["numberOfInstances"] == 40

    def test_too_large_even_so_is_a_dead_letter(self):
        with Stub(largest=100) as stub:
            given(stub, PATIENT, patient())
            assert send(stub.base).reason == "too-large-for-server"


def test_a_refusal_is_a_dead_letter_without_its_words(stub):
    said = outcome("invalid", "HAPI-0574: Canary^Robin", expression=["ImagingStudy.status"])
    stub.fault = lambda asked: Fault(422, {}, said) if asked.path == OURS and asked.method == "PUT" else None  # fmt: skip
    done = send(stub.base)
    assert (done.state, done.reason) == ("dead", "refused")
    assert str(done.refusal) == "HTTP 422; to PUT ImagingStudy; error invalid (HAPI-0574) at ImagingStudy.status"  # fmt: skip
    assert "Canary" not in repr(done)


def test_a_patient_that_is_refused_is_not_called_missing(stub):
    said = outcome("processing", "Profile of the Patient could not be resolved, unknown")
    stub.fault = lambda asked: Fault(422, {}, said) if asked.path == PATIENT and asked.method == "PUT" else None  # fmt: skip
    done = send(stub.base)
    assert (done.state, done.reason) == ("dead", "refused")
    assert "PUT Patient" in str(done.refusal)


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Fault(403, {}, outcome("forbidden", "x")), "HTTP 403"),
        (Fault(401, {}, outcome("login", "x")), "HTTP 401"),
        (Fault(404, {}, b"<html>nginx</html>"), "no FHIR"),
        (Fault(200, {}, b"<html>login</html>"), "no FHIR"),
        (Fault(302, {"Location": "https://elsewhere.example/"}), "redirect"),
    ],
)
def test_what_concerns_all_opens_the_circuit_and_keeps_the_study(stub, fault, why):
    stub.fault = lambda asked: fault
    done = send(stub.base)
    assert done.state == "due"
    assert why in done.circuit


def test_companions_go_in_the_order_of_their_references(stub):
    request = {"resourceType": "ServiceRequest", "id": "r", "status": "active", "intent": "order", "subject": {"reference": PATIENT}, "requester": {"reference": "Practitioner/p"}}  # fmt: skip
    person = {"resourceType": "Practitioner", "id": "p"}
    send(
        stub.base, study(basedOn=[{"reference": "ServiceRequest/r"}]), [request, person, patient()]
    )
    assert [a.path for a in writes(stub)] == [PATIENT, "Practitioner/p", "ServiceRequest/r", OURS]
