"""The table of answers, row by row."""

from __future__ import annotations

import random
from email.utils import formatdate

import pytest

from converter.delivery.answers import TABLE, Answer, backoff, decide, retry_after
from converter.delivery.redact import Refusal, refusal


def outcome(text="", code="processing", **more):
    return {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": code, "diagnostics": text, **more}],
    }


def answer(status, body=None, **headers):
    return Answer(status, headers, body, empty=body is None)


HTML = Answer(200, {}, None, empty=False)
MISSING = "HAPI-1094: Resource Patient/1 not found, specified in path: ImagingStudy.subject"
SEVERAL = "Failed to CREATE resource with match URL because this search matched 2 resources"

ROWS = [
    # no answer, or none that counts: again, without a limit
    (Answer(failure="connect"), "put", "again"),
    (Answer(failure="tls"), "read", "again"),
    (Answer(failure="timeout"), "update", "again"),
    (Answer(failure="broken"), "search", "again"),
    (answer(408), "put", "again"),
    (answer(425), "put", "again"),
    (answer(429, outcome()), "search", "again"),
    (answer(500, outcome()), "put", "again"),
    (answer(502), "read", "again"),
    (answer(503), "update", "again"),
    (answer(504), "create", "again"),
    (answer(501, outcome()), "put", "again"),
    # another writer
    (answer(409, outcome()), "put", "reread"),
    (answer(409, outcome()), "update", "reread"),
    (answer(409, outcome()), "create", "reread"),
    (answer(412, outcome('Version conflict: If-Match W/"9" but current is 1')), "update", "reread"),
    (answer(404, outcome()), "update", "reread"),
    (answer(412, outcome(SEVERAL)), "create", "several"),
    (answer(412), "create", "several"),
    (answer(412, outcome("multiple matches")), "update", "several"),
    # credentials and wrong addresses: everything is kept
    (answer(401, outcome()), "search", "renew"),
    (answer(403, outcome()), "put", "circuit"),
    (answer(404, outcome()), "search", "circuit"),
    (answer(404), "create", "circuit"),
    (answer(405, outcome()), "search", "circuit"),
    (HTML, "put", "circuit"),
    (HTML, "search", "circuit"),
    (Answer(404, {}, None, empty=False), "read", "circuit"),
    (Answer(400, {}, None, empty=False), "put", "circuit"),
    (answer(400), "put", "circuit"),
    (answer(200), "search", "circuit"),
    (answer(200, {"error": "x"}), "read", "circuit"),
    (Answer(failure="redirect"), "search", "circuit"),
    (answer(302), "search", "circuit"),
    (Answer(failure="token"), "read", "circuit"),
    # client ids
    (answer(405, outcome()), "put", "server-ids"),
    (answer(404, outcome()), "put", "server-ids"),
    (answer(400, outcome("Can not create resource with ID[x], no resource with this ID exists and "
        "clients may only assign IDs which begin with a non-numeric; server does not allow "
        "client-assigned ids")), "put", "server-ids"),
    (answer(422, outcome("The id may not be supplied on create")), "put", "server-ids"),
    (answer(405, outcome()), "update", "circuit"),
    # references
    (answer(400, outcome(MISSING)), "put", "missing"),
    (answer(422, outcome("Invalid reference: Patient/1 does not exist")), "update", "missing"),
    (answer(400, outcome("reference_not_found")), "create", "missing"),
    (answer(400, outcome(MISSING.replace("Patient", "Location"))), "put", "missing"),
    (answer(422, outcome("Unknown code at location ImagingStudy.modality")), "put", "refused"),
    # size, deletion, and the rest
    (answer(413), "put", "too-large"),
    (Answer(413, {}, None, empty=False), "put", "too-large"),
    (answer(413, outcome()), "update", "too-large"),
    (answer(410, outcome()), "read", "gone"),
    (answer(410), "put", "gone"),
    (answer(404, outcome()), "read", "absent"),
    (answer(404), "read", "absent"),
    (answer(422, outcome("ImagingStudy.status: minimum required = 1")), "put", "refused"),
    (answer(400, outcome("unknown search parameter")), "search", "refused"),
    (answer(406, outcome()), "read", "refused"),
    (answer(415, outcome()), "put", "refused"),
    # it stands
    (answer(200, {"resourceType": "ImagingStudy"}), "read", "done"),
    (answer(200, {"resourceType": "Bundle"}), "search", "done"),
    (answer(201), "put", "done"),
    (answer(204), "update", "done"),
    (answer(201, {"resourceType": "ImagingStudy"}), "create", "done"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "asked", "action"), ROWS)
def test_each_answer_has_its_row(given, asked, action):
    assert decide(given, asked) == action


def test_every_row_of_the_table_is_used():
    used = [next(rule for rule in TABLE if rule.fits(given, asked)) for given, asked, _ in ROWS]
    assert [rule.says for rule in TABLE if rule not in used] == []


@pytest.mark.parametrize("asked", ["read", "search", "put", "update", "create", "metadata"])
def test_every_status_has_an_answer(asked):
    for status in range(100, 600):
        for body in (None, outcome(), {"resourceType": "Bundle"}, {"no": "fhir"}):
            assert decide(Answer(status, {}, body, empty=body is None), asked)


@pytest.mark.parametrize("asked", ["read", "search", "put", "update", "create"])
@pytest.mark.parametrize("status", [400, 402, 406, 409, 411, 412, 415, 417, 422, 428, 451])
def test_html_is_never_taken_for_a_word_of_the_server_about_one_study(status, asked):
    assert decide(Answer(status, {}, None, empty=False), asked) == "circuit"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"retry-after": "120"}, 120),
        ({"retry-after": " 7 "}, 7),
        ({"retry-after": formatdate(1000 + 90, usegmt=True)}, 90),
        ({"retry-after": formatdate(10, usegmt=True)}, 0),
        ({"retry-after": "soon"}, 0),
        ({"retry-after": "-5"}, 0),
        ({"retry-after": "1.5"}, 0),
        ({"x-ms-retry-after-ms": "1500"}, 1.5),
        ({"x-ms-retry-after-ms": "x", "retry-after": "3"}, 3),
        ({"retry-after": "Tue, 99 Nov 2026 22:37:28 GMT"}, 0),
    ],
)
def test_retry_after_in_both_forms(headers, seconds):
    assert retry_after(headers, 1000) == seconds


def test_backoff_is_exponential_with_full_jitter_and_a_cap():
    assert [backoff(n, 1.0) for n in (1, 2, 3, 9, 10, 1000)] == [1, 2, 4, 256, 300, 300]
    assert backoff(5, 0.0) == 0
    chance = random.Random(1)
    spread = [backoff(12, chance.random()) for _ in range(1000)]
    assert 0 <= min(spread) < 15
    assert 285 < max(spread) <= 300


def test_a_refusal_keeps_codes_and_places_and_no_words():
    said = outcome(
        "HAPI-0574: Smith^John is no good", "invalid", expression=["ImagingStudy.series[2].number"]
    )
    said["issue"] += [
        {"severity": "Smith", "code": "Smith^John", "location": ["Smith", "/f:Smith"], "details": {"text": "Smith"}},
        {"severity": "warning", "code": "value", "expression": ["Patient.name.where(family='Smith')"]},
        "Smith",
    ]  # fmt: skip
    kept = refusal(answer(422, said), "refused", "PUT ImagingStudy")
    assert kept.issues == (
        ("error", "invalid (HAPI-0574)", "ImagingStudy.series[2].number"),
        ("error", "unknown", ""),
        ("warning", "value", ""),
    )
    assert "Smith" not in str(kept)
    assert "Smith" not in repr(kept)
    assert str(kept).startswith(
        "HTTP 422; to PUT ImagingStudy; error invalid (HAPI-0574) at Imaging"
    )


def test_refusals_that_say_the_same_have_one_fingerprint():
    def said(place, status=422):
        return refusal(answer(status, outcome("x", "value", expression=[place])), "refused")

    assert said("ImagingStudy.series[2].number").fingerprint == said("ImagingStudy.series[9].number").fingerprint  # fmt: skip
    assert said("ImagingStudy.status").fingerprint != said("ImagingStudy.subject").fingerprint
    assert said("ImagingStudy.status", 400).fingerprint != said("ImagingStudy.status").fingerprint


def test_an_answer_shows_nothing_of_its_body():
    held = answer(422, outcome("Smith^John"), location="Patient/Smith")
    assert "Smith" not in repr(held)
    assert isinstance(refusal(held, "refused"), Refusal)
