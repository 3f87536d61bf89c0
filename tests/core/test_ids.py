"""Ids are published: these literals must never change."""

from __future__ import annotations

import hashlib
import hmac
from uuid import UUID

import pytest

from converter.core.ids import NS, companion_id, patient_id, study_id

UID = "1.2.840.113619.2.1"
OTHER_UID = "1.2.840.113619.2.2"
NHS = "https://fhir.nhs.uk/Id/nhs-number"


def test_namespace_is_frozen():
    assert UUID("b50a029a-cc30-4d14-831e-8906f9f6a13c") == NS


def test_uuid5_of_a_study_is_made_by_the_book():
    digest = bytearray(hashlib.sha1(NS.bytes + b"study|" + UID.encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    assert study_id(UID) == str(UUID(bytes=bytes(digest)))


def test_frozen_study_id():
    assert study_id(UID) == "cbe32aea-7fcf-5663-98e4-fd6afc814ef2"


def test_frozen_patient_ids():
    assert patient_id(NHS, "9000000009", UID) == "3fb48131-eb9e-5b39-80a3-88946d042806"
    assert patient_id("", "9000000009", UID) == "ff5983cd-f7a8-5d00-9013-3df3b2494743"
    assert patient_id(NHS, "9000000009", UID, "secret") == "d7084e94-d481-561c-bd2d-9e74ca460906"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("practitioner", "255c7bdb-1792-5a37-bc05-7a8f87f6f5cd"),
        ("organization", "d2fe179b-cbb7-5334-8162-8722a8d34a77"),
        ("location", "13bda697-4e61-55f8-ad54-ab351b3f14f5"),
        ("endpoint", "353b2a66-e16d-52e0-8edf-1ba89a1bb6cf"),
        ("service-request", "0d526ff7-19ea-5791-8598-b4ae822df4c7"),
        ("encounter", "34d8318e-ce5a-594d-a082-92789111f10a"),
        ("device", "f5ccc339-b9d2-5fde-b1e4-0798fee1a428"),
    ],
)
def test_frozen_companion_ids(word, expected):
    assert companion_id(word, "urn:oid:1.2.3.4", "7", UID) == expected


def test_frozen_companion_ids_without_system():
    assert companion_id("practitioner", "", "DOE", UID) == "8a3867ab-b5d9-5707-9da8-0edbd738dde7"
    assert companion_id("practitioner", None, None, UID) == "8157f1e6-a12c-5b92-95b6-ba05c681acd0"
    assert (
        companion_id("practitioner", "urn:oid:1.2.3.4", "7", UID, "secret")
        == "b6d80978-3b54-5851-9f49-7880b382d2f5"
    )


def test_patient_with_a_system_is_the_same_person_in_every_study():
    assert patient_id(NHS, "9000000009", UID) == patient_id(NHS, "9000000009", OTHER_UID)


@pytest.mark.parametrize(
    ("system", "value"), [("", "123"), (None, "123"), (NHS, ""), (NHS, None), (None, None)]
)
def test_patient_without_system_or_value_is_scoped_to_its_study(system, value):
    assert patient_id(system, value, UID) != patient_id(system, value, OTHER_UID)


def test_same_number_of_two_hospitals_is_two_people():
    assert patient_id("urn:oid:1.2.3.4", "123", UID) != patient_id("urn:oid:1.2.3.5", "123", UID)


def test_key_makes_ids_unguessable_and_stable():
    plain = patient_id(NHS, "9000000009", UID)
    keyed = patient_id(NHS, "9000000009", UID, "one")
    assert keyed != plain
    assert keyed == patient_id(NHS, "9000000009", OTHER_UID, "one")
    assert keyed != patient_id(NHS, "9000000009", UID, "two")
    secret = hmac.new(b"one", f"patient|{NHS}|9000000009".encode(), hashlib.sha256).hexdigest()
    assert secret not in keyed


def test_two_performers_without_system_in_one_study_stay_two():
    assert companion_id("practitioner", "", "DOE", UID) != companion_id(
        "practitioner", "", "ROE", UID
    )
    assert companion_id("practitioner", "", "DOE", UID) != companion_id(
        "practitioner", "", "DOE", OTHER_UID
    )


def test_one_identifier_of_two_kinds_gives_two_ids():
    assert companion_id("organization", "urn:oid:1.2.3.4", "7", UID) != companion_id(
        "location", "urn:oid:1.2.3.4", "7", UID
    )
