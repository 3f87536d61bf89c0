from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converter.core.ids import patient_id, study_id
from converter.core.merge import SHARED, Mismatch, study_uid, unite
from converter.core.narrative import narrative
from converter.core.rejection import is_withdrawn, withdraw
from converter.core.subject import carries_identifier

UID = "1.2.840.99999.1"
DCM = "http://dicom.nema.org/resources/ontology/DCM"
NHS = "https://fhir.nhs.uk/Id/nhs-number"
ACQUISITION = frozenset({"CT", "MR", "US"})
KINDS = {"1": "CT", "2": "MR", "3": "SR"}
WHOLE = {"1": ("1", "2", "3"), "2": ("4", "5"), "3": ("6",)}


def coding(code):
    return {"system": DCM, "code": code}


def study(content=WHOLE, **more):
    """A study as the engine would make it of the instances given."""
    series = [
        {
            "uid": f"{UID}.{uid}",
            "number": int(uid),
            "modality": coding(KINDS[uid]),
            "numberOfInstances": len(content[uid]),
            "instance": [
                {
                    "uid": f"{UID}.0.{sop}",
                    "sopClass": {"code": "urn:oid:1.2.3.4"},
                    "number": int(sop),
                }
                for sop in content[uid]
            ],
        }
        for uid in sorted(content)
    ]
    codes = [KINDS[uid] for uid in sorted(content) if KINDS[uid] in ACQUISITION]
    resource = {
        "resourceType": "ImagingStudy",
        "id": study_id(UID),
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{UID}"}],
        "status": "available",
        "modality": [coding(code) for code in codes],
        "subject": {"reference": f"Patient/{patient_id(NHS, '9000000009', UID)}"},
        "numberOfSeries": len(series),
        "numberOfInstances": sum(len(sops) for sops in content.values()),
        "description": "CT Chest",
        "series": series,
        **more,
    }
    resource = {k: v for k, v in resource.items() if v not in (None, [])}
    return {**resource, "text": narrative(resource)}


def merge(standing, ours, *args, **options):
    options.setdefault("acquisition", ACQUISITION)
    before = copy.deepcopy((standing, ours))
    merged = unite(standing, ours, *args, **options)
    assert (standing, ours) == before, "inputs stay as they are"
    if not isinstance(merged, Mismatch):
        counted = sum(len(s.get("instance", [])) for s in merged.get("series", []))
        assert merged.get("numberOfInstances", 0) >= counted
    return merged


def sops(resource):
    return {i["uid"]: s["uid"] for s in resource.get("series", []) for i in s.get("instance", [])}


def as_bytes(resource):
    return json.dumps(resource).encode()


def part():
    return st.fixed_dictionaries(
        {}, optional={uid: st.sets(st.sampled_from(WHOLE[uid]), min_size=1).map(sorted) for uid in WHOLE}
    ).filter(bool)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(part(), part())
def test_union_is_the_study_of_all_instances_in_whatever_order(one, other):
    both = {uid: sorted({*one.get(uid, ()), *other.get(uid, ())}) for uid in {*one, *other}}
    merged = merge(study(one), study(other))
    assert merged == study(both)
    assert as_bytes(merged) == as_bytes(merge(study(other), study(one)))


@settings(max_examples=60, deadline=None)
@given(part(), part())
def test_union_is_idempotent_and_never_shrinks(one, other):
    standing, ours = study(one), study(other)
    merged = merge(standing, ours)
    assert as_bytes(merge(merged, ours)) == as_bytes(merged)
    assert as_bytes(merge(merged, standing)) == as_bytes(merged)
    assert sops(standing).keys() <= sops(merged).keys()
    assert merged["numberOfInstances"] >= standing["numberOfInstances"]
    assert merged["numberOfSeries"] >= standing["numberOfSeries"]


@settings(max_examples=40, deadline=None)
@given(part(), part(), part())
def test_union_is_associative(one, two, three):
    left = merge(merge(study(one), study(two)), study(three))
    assert as_bytes(left) == as_bytes(merge(study(one), merge(study(two), study(three))))


def test_the_same_study_again_changes_no_byte():
    assert as_bytes(merge(study(), study())) == as_bytes(merge({}, study()))
    assert merge(study(), study()) == study()


def test_late_instance_does_not_overwrite_the_published_study():
    merged = merge(study(), study({"2": ("5",)}))
    assert merged == study()


def test_tombstones_alone_remove_and_counts_follow():
    gone = {f"{UID}.0.4", f"{UID}.0.5", f"{UID}.0.1"}
    merged = merge(study(), study({"1": ("2",)}), tombstones=gone)
    assert merged == study({"1": ("2", "3"), "3": ("6",)})


def test_tombstone_of_a_series_removes_it_where_nothing_is_listed_of_others():
    ours = study({"1": ("1",)})
    gone = {f"{UID}.2:2", f"{UID}.0.4", f"{UID}.0.5"}
    assert merge(study(), ours, tombstones=gone) == study({"1": ("1", "2", "3"), "3": ("6",)})
    standing = study()
    for series in standing["series"]:
        del series["instance"]
    merged = merge(standing, ours, tombstones=gone)
    assert [series["uid"] for series in merged["series"]] == [f"{UID}.1", f"{UID}.3"]
    assert merged["numberOfInstances"] == 4
    fewer = merge(standing, ours, tombstones={f"{UID}.2:1", f"{UID}.0.4"})
    assert fewer["numberOfInstances"] == 6, "of what it counts we know not all"


def test_tombstone_of_a_series_leaves_what_others_list_in_it():
    merged = merge(study(), study({"1": ("1",)}), tombstones={f"{UID}.2:1", f"{UID}.0.4"})
    assert merged == study({"1": ("1", "2", "3"), "2": ("5",), "3": ("6",)})


def test_withdrawn_study_shows_no_instance_and_says_that_it_is_cancelled():
    merged = merge(study(), withdraw(study()), tombstones=set(sops(study())))
    assert is_withdrawn(merged)
    assert merged["description"] == study()["description"], "what is known of it stays"
    assert merged["text"] == narrative(merged)


def test_withdrawn_study_keeps_what_others_added_and_its_status():
    ours = withdraw(study({"1": ("1",)}))
    merged = merge(study(), ours, tombstones={f"{UID}.0.1", f"{UID}.1:1"})
    assert merged == study({"1": ("2", "3"), "2": ("4", "5"), "3": ("6",)})


def test_withdrawn_study_comes_back_where_the_status_is_as_we_wrote_it():
    standing = merge(study(), withdraw(study()), tombstones=set(sops(study())))
    assert merge(standing, study(), written={"status"}) == study()
    assert merge(standing, study())["status"] == "cancelled"


def person(number, system=NHS):
    reference = f"Patient/{patient_id(system, number, UID)}"
    return {"reference": reference, "identifier": {"system": system, "value": number}}


def test_a_subject_that_we_published_gives_way_where_an_operator_said_so():
    old, new, third = person("9000000009"), person("9000000017"), person("9000000025")
    ours = study(subject=new)
    assert isinstance(merge(study(subject=old), ours), Mismatch)
    assert merge(study(subject=old), ours, replaces=[old])["subject"] == new
    there = {**old, "reference": "Patient/4711"}
    assert merge(study(subject=there), ours, replaces=[old])["subject"] == new
    assert isinstance(merge(study(subject=third), ours, replaces=[old]), Mismatch)
    relinked = {**third, "reference": old["reference"]}
    assert isinstance(merge(study(subject=relinked), ours, replaces=[old]), Mismatch)


def test_withdrawn_study_with_a_contained_patient_keeps_it_and_nothing_else():
    patient = {"resourceType": "Patient", "id": "patient"}
    other = {"resourceType": "Endpoint", "id": "e"}
    contained = study(contained=[other, patient], subject={"reference": "#patient"})
    left = withdraw(contained)
    assert left["contained"] == [patient]
    assert left["subject"] == contained["subject"]


def test_all_tombstoned_leaves_no_empty_list():
    merged = merge(study(), study(), tombstones=set(sops(study())))
    assert "series" not in merged
    assert "modality" not in merged
    assert (merged["numberOfSeries"], merged["numberOfInstances"]) == (0, 0)


def test_replace_takes_series_from_ours_alone():
    merged = merge(study(note=[{"text": "theirs"}]), study({"1": ("1",)}), "replace")
    assert sops(merged) == sops(study({"1": ("1",)}))
    assert (merged["numberOfSeries"], merged["numberOfInstances"]) == (1, 1)
    assert merged["note"] == [{"text": "theirs"}]
    assert merged["modality"] == [coding("CT")]


def test_instance_that_we_hold_stands_in_no_other_series():
    standing = study({"2": ("1",), "1": ("2",)})
    merged = merge(standing, study({"1": ("1",)}))
    assert merged == study({"1": ("1", "2")})


def test_counts_without_lists_are_not_lost():
    standing = study()
    for series in standing["series"]:
        del series["instance"]
    merged = merge(standing, study({"1": ("1",)}))
    assert merged["numberOfInstances"] == 6
    assert merged["series"][0]["numberOfInstances"] == 3
    assert as_bytes(merge(merged, study({"1": ("1",)}))) == as_bytes(merged)


def test_counts_that_the_study_alone_states_are_not_lost():
    standing = study({"1": ("1",)}, numberOfSeries=9, numberOfInstances=90)
    merged = merge(standing, study({"1": ("2",)}))
    assert merged["numberOfSeries"] == 9
    assert merged["numberOfInstances"] == 90


def test_listless_run_keeps_the_lists_that_stand():
    ours = study()
    for series in ours["series"]:
        del series["instance"]
    assert sops(merge(study(), ours)) == sops(study())


def test_ours_win_where_we_hold_them_and_foreign_content_stays():
    standing = study({"1": ("1",)}, note=[{"text": "seen"}], description="Old", language="en-GB")
    first = standing["series"][0]
    first["description"] = "Theirs"
    first["endpoint"] = [{"reference": "Endpoint/theirs"}]
    first["instance"][0].update(title="Wrong", extension=[{"url": "https://example.org/x"}])
    ours = study({"1": ("1",)})
    ours["series"][0]["endpoint"] = [{"reference": "Endpoint/ours"}]
    merged = merge(standing, ours)
    assert merged["description"] == "CT Chest"
    assert merged["note"] == [{"text": "seen"}]
    assert merged["language"] == "en-GB"
    got = merged["series"][0]
    assert got["description"] == "Theirs"
    assert got["endpoint"] == [{"reference": "Endpoint/ours"}, {"reference": "Endpoint/theirs"}]
    assert "title" not in got["instance"][0]
    assert got["instance"][0]["extension"] == [{"url": "https://example.org/x"}]


def test_series_are_sorted_by_number_then_uid_and_none_comes_last():
    standing = study({"1": ("1",)})
    del standing["series"][0]["number"]
    merged = merge(standing, study({"2": ("4",), "3": ("6",)}))
    assert [s["uid"] for s in merged["series"]] == [f"{UID}.2", f"{UID}.3", f"{UID}.1"]


def test_foreign_identifiers_stay_and_ours_stand_once():
    accession = {"type": {"coding": [{"code": "ACSN"}]}, "value": "A1"}
    foreign = {"system": "https://ris.example.org", "value": "77"}
    standing = study(
        identifier=[
            foreign,
            {"system": "urn:dicom:uid", "value": UID, "use": "official"},
            accession,
        ]
    )
    ours = study(
        identifier=[
            {"system": "urn:dicom:uid", "value": f"urn:oid:{UID}"},
            {**accession, "system": "https://ris.example.org/accession"},
        ]
    )
    merged = merge(standing, ours)
    assert merged["identifier"] == [
        {"system": "urn:dicom:uid", "value": f"urn:oid:{UID}", "use": "official"},
        {**accession, "system": "https://ris.example.org/accession"},
        foreign,
    ]


def test_modality_is_that_of_acquisitions_in_the_union():
    merged = merge(study({"2": ("4",)}), study({"1": ("1",), "3": ("6",)}))
    assert merged["modality"] == [coding("CT"), coding("MR")]


def test_modality_of_a_registered_study_without_series_stays():
    standing = {
        **study({"1": ("1",)}),
        "series": [],
        "modality": [coding("CT")],
        "status": "registered",
    }
    merged = merge(standing, study({"3": ("6",)}))
    assert merged["modality"] == [coding("CT")]
    assert merged["status"] == "available"


@pytest.mark.parametrize("status", ["cancelled", "entered-in-error"])
@pytest.mark.parametrize("ownership", ["merge", "replace"])
def test_status_that_others_ended_with_stays(status, ownership):
    assert merge(study(status=status), study(), ownership)["status"] == status
    assert merge(study(status=status), study(), ownership, written={"status"})["status"] == "available"  # fmt: skip


def test_profiles_of_others_stay_and_ours_are_what_we_claim_now():
    uk, ips, other = "https://uk.example", "https://ips.example", "https://other.example"
    standing = study(meta={"versionId": "4", "profile": [other, uk, ips], "tag": [{"code": "t"}]})
    merged = merge(standing, study(meta={"profile": [uk]}), our_profiles={uk, ips})
    assert merged["meta"] == {"versionId": "4", "profile": [uk, other], "tag": [{"code": "t"}]}


def test_endpoints_of_others_stay():
    merged = merge(
        study(endpoint=[{"reference": "Endpoint/theirs"}]),
        study(endpoint=[{"reference": "Endpoint/ours"}]),
    )
    assert [e["reference"] for e in merged["endpoint"]] == ["Endpoint/ours", "Endpoint/theirs"]


@pytest.mark.parametrize("name", SHARED)
def test_shared_elements_are_ours_only_where_nothing_stands_or_we_wrote_it(name):
    mine, theirs = [{"text": "ours"}], [{"text": "theirs"}]
    ours, standing = study(**{name: mine}), study(**{name: theirs})
    assert merge(study(), ours)[name] == mine
    assert merge(standing, ours)[name] == theirs
    assert merge(standing, ours, written={name})[name] == mine
    assert merge(standing, study(), written={name})[name] == theirs


def test_narrative_is_ours_and_tells_of_the_union():
    standing = {**study({"1": ("1",)}), "text": {"status": "additional", "div": "theirs"}}
    merged = merge(standing, study({"2": ("4",)}))
    assert "Instances: 2" in merged["text"]["div"]
    ours = {**study(), "text": {"status": "generated", "div": "as we made it"}}
    assert merge(study({"1": ("1",)}), ours)["text"] == ours["text"]


def test_server_id_stays():
    assert merge({**study(), "id": "77"}, study())["id"] == "77"


def test_another_study_is_never_united():
    other = study(identifier=[{"system": "urn:dicom:uid", "value": "urn:oid:1.2.3.4.5"}])
    assert merge(other, study()).reason == "study-mismatch"
    assert study_uid(other) == "1.2.3.4.5"
    assert study_uid({}) == ""


def subject(reference=None, system=None, value=None):
    made = {"reference": reference} if reference else {}
    if value:
        made["identifier"] = {k: v for k, v in (("system", system), ("value", value)) if v}
    return made


MINE = f"Patient/{patient_id(NHS, '9000000009', UID)}"
SCOPED = f"Patient/{patient_id(None, None, UID)}"


def whose(standing, ours, **options):
    result = merge(study(subject=standing), study(subject=ours), **options)
    return result if isinstance(result, Mismatch) else result["subject"]


@pytest.mark.parametrize(
    ("standing", "ours"),
    [
        (subject("Patient/77"), subject(MINE, NHS, "9000000009")),
        (subject("Patient/77", NHS, "9000000017"), subject(MINE, NHS, "9000000009")),
        (subject("Patient/77", "urn:mrn", "1"), subject(MINE, NHS, "9000000009")),
        (subject(SCOPED, None, "123"), subject(SCOPED, None, "456")),
        (subject(SCOPED, None, "123"), subject(MINE, NHS, "9000000009")),
        (subject(None, "urn:mrn", "1"), subject(MINE, NHS, "9000000009")),
        (subject("Patient/77"), subject(SCOPED, None, "123")),
    ],
)
def test_another_or_unproven_patient_is_a_mismatch(standing, ours):
    result = whose(standing, ours)
    assert isinstance(result, Mismatch)
    assert result.reason == "subject-mismatch"
    assert "77" not in repr(result)


def test_literal_subject_of_others_stays_if_that_patient_is_ours():
    ours = subject(MINE, NHS, "9000000009")
    assert whose(subject("Patient/77"), ours, carries=lambda r: r == "Patient/77") == subject("Patient/77")  # fmt: skip
    assert isinstance(whose(subject("Patient/77"), ours, carries=lambda _: False), Mismatch)
    known = subject("Patient/77", NHS, "9000000009")
    assert whose(known, ours) == known


def test_literal_subject_is_never_downgraded():
    logical = subject(None, NHS, "9000000009")
    standing = subject("Patient/77", NHS, "9000000009")
    assert whose(standing, logical) == standing
    assert whose(subject(SCOPED), logical) == {**logical, "reference": SCOPED}


def test_logical_subject_becomes_literal():
    ours = subject(MINE, NHS, "9000000009")
    assert whose(subject(None, NHS, "9000000009"), ours) == ours
    assert whose({"display": "unknown"}, ours) == ours


def test_no_patient_id_contradicts_nobody():
    known = subject("Patient/77", NHS, "9000000009")
    assert whose(known, subject(SCOPED)) == known
    assert whose(subject(SCOPED), subject(MINE, NHS, "9000000009")) == subject(MINE, NHS, "9000000009")  # fmt: skip


def test_patient_scoped_to_the_study_gives_way_once_its_number_has_a_system():
    ours = subject(MINE, NHS, "9000000009")
    assert whose(subject(SCOPED, None, "9000000009"), ours) == ours


def test_one_reference_written_in_three_ways_is_one():
    bare = MINE.removeprefix("Patient/")
    for written in (f"urn:uuid:{bare}", f"https://fhir.example.org/{MINE}", f"{MINE}/_history/2"):
        assert whose(subject(written), subject(MINE))["reference"] == MINE
    assert isinstance(whose(subject("Patient/1"), subject("Device/1", NHS, "1")), Mismatch)


def test_contained_patient_gives_way_to_a_literal_one_and_is_not_left_behind():
    contained = {"resourceType": "Patient", "id": "p", "identifier": [{"system": NHS, "value": "9000000009"}]}  # fmt: skip
    standing = study(subject={"reference": "#p"}, contained=[contained])
    merged = merge(standing, study(subject=subject(MINE, NHS, "9000000009")))
    assert merged["subject"]["reference"] == MINE
    assert "contained" not in merged
    other = {**contained, "identifier": [{"system": NHS, "value": "9000000017"}]}
    standing = study(subject={"reference": "#p"}, contained=[other])
    assert isinstance(merge(standing, study(subject={"reference": "#p"}, contained=[contained])), Mismatch)  # fmt: skip


def test_patient_carries_an_identifier_only_with_its_system():
    patient = {"identifier": [{"system": NHS, "value": "9000000009"}, {"value": "1"}]}
    assert carries_identifier(patient, subject(MINE, NHS, "9000000009"))
    assert not carries_identifier(patient, subject(MINE, None, "1"))
    assert not carries_identifier(None, subject(MINE, NHS, "9000000009"))


def of_side(content, code=None):
    resource = study(content)
    if code:
        resource["series"][0]["laterality"] = coding(code)
    return resource


@pytest.mark.parametrize(
    ("standing", "ours", "tombstones", "side"),
    [
        (of_side({"1": "1"}, "L"), of_side({"1": "2"}, "R"), (), None),
        (of_side({"1": "1"}, "L"), of_side({"1": "2"}, "L"), (), "L"),
        (of_side({"1": "1"}, "L"), of_side({"1": "2"}), (), "L"),
        # all that stands is among ours, and corrected
        (of_side({"1": "1"}, "L"), of_side({"1": "12"}, "R"), (), "R"),
        # we know of both sides, and wrote one before the other came
        (of_side({"1": "1"}, "L"), of_side({"1": "12"}), (f"{UID}.1:laterality",), None),
        (of_side({"1": "12"}), of_side({"1": "12"}), (f"{UID}.1:laterality",), None),
        (of_side({"1": "1"}, "L"), of_side({"1": "1"}, "R"), (f"{UID}.1:laterality",), "R"),
    ],
)
def test_a_series_with_instances_of_both_sides_is_of_none(standing, ours, tombstones, side):
    [series] = merge(standing, ours, tombstones=tombstones)["series"]
    assert series.get("laterality", {}).get("code") == side


def test_a_late_part_adds_its_procedure_and_takes_none_away():
    a, b, text = {"text": "a"}, {"coding": [{"system": "s:x", "code": "b"}], "text": "B"}, "B"
    one = study({"1": "1"}, procedureCode=[a, {"text": text}])
    other = study({"1": "2"}, procedureCode=[b])
    assert merge(one, other)["procedureCode"] == [b, a]
    assert merge(other, one)["procedureCode"] == [b, a]
    assert merge(one, study({"1": "2"}))["procedureCode"] == [{"text": text}, a]
    # who holds all that stands knows what it was
    assert merge(one, study({"1": "12"}, procedureCode=[b]))["procedureCode"] == [b]
    assert merge(one, other, "replace")["procedureCode"] == [b]
