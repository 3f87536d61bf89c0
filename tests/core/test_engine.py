from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from converter.core import ids
from converter.core.companions import reduce
from converter.core.engine import Options, convert, explain
from converter.core.narrative import narrative
from tests.core.making import (
    STUDY,
    codes,
    companions,
    converted,
    empty_places,
    imaging_study,
    overlaid,
    shipped_rules,
    study,
    with_site,
)

WITH = Options(companions=True)
FULL = {
    "PatientID": "1",
    "PatientName": "Adams^Ann",
    "AccessionNumber": "A",
    "AdmissionID": "V",
    "ReasonForVisit": "fall",
    "InstitutionName": "H",
    "StationName": "CT1",
    "Manufacturer": "Maker",
    "ManufacturerModelName": "Model",
    "DeviceSerialNumber": "S",
    "ReferringPhysicianName": "Referrer^R",
    "PerformingPhysicianName": "Performer^P",
    "RetrieveURL": "https://p.example/rs/studies/1",
    "RequestAttributesSequence": [
        {
            "AccessionNumber": "A",
            "RequestedProcedureDescription": "CT",
            "RequestingPhysician": "Asker^A",
            "ImagingServiceRequestComments": "please",
            "IssueDateOfImagingServiceRequest": "20240101",
        }
    ],
}
SITE = {
    "patient": {"system": "https://s.example/mrn"},
    "encounter": {
        "system": "https://s.example/visit",
        "status": "finished",
        "encounter_class": {"system": "urn:x:class", "code": "IMP"},
    },
    "organization": {"system": "https://s.example/org", "value": "O", "name": "Org"},
}


# --- the study ------------------------------------------------------------------------------------


def test_a_study_has_one_uid_identifier_counts_and_a_narrative():
    found = imaging_study({}, {"SeriesInstanceUID": "1.2.3"})
    assert found["id"] == ids.study_id(STUDY)
    assert found["identifier"][0]["value"] == f"urn:oid:{STUDY}"
    assert (found["numberOfSeries"], found["numberOfInstances"]) == (2, 2)
    assert [one["numberOfInstances"] for one in found["series"]] == [1, 1]
    assert found["text"]["status"] == "generated"


def test_series_and_instances_are_sorted_by_number_then_uid_those_without_last():
    found = imaging_study(
        {"SeriesInstanceUID": "1.9", "SeriesNumber": "2", "SOPInstanceUID": "1.1.1"},
        {"SeriesInstanceUID": "1.8", "SeriesNumber": "", "SOPInstanceUID": "1.1.2"},
        {
            "SeriesInstanceUID": "1.9",
            "SeriesNumber": "2",
            "SOPInstanceUID": "1.1.9",
            "InstanceNumber": "1",
        },
        {"SeriesInstanceUID": "1.7", "SeriesNumber": "2", "SOPInstanceUID": "1.1.3"},
        {"SeriesInstanceUID": "1.6", "SeriesNumber": "10", "SOPInstanceUID": "1.1.4"},
    )
    assert [one["uid"] for one in found["series"]] == ["1.7", "1.9", "1.6", "1.8"]
    assert [one["uid"] for one in found["series"][1]["instance"]] == ["1.1.9", "1.1.1"]


def test_modalities_are_those_that_acquire_in_the_order_of_the_series():
    found = imaging_study(
        {"SeriesInstanceUID": "1.1", "SeriesNumber": "3", "Modality": "CT"},
        {"SeriesInstanceUID": "1.2", "SeriesNumber": "1", "Modality": "SR"},
        {"SeriesInstanceUID": "1.3", "SeriesNumber": "2", "Modality": "PT"},
        {"SeriesInstanceUID": "1.4", "SeriesNumber": "4", "Modality": "CT"},
    )
    assert [one["code"] for one in found["modality"]] == ["PT", "CT"]


def test_what_differs_within_a_series_is_told_of_that_series_only():
    made = converted(
        {"SeriesInstanceUID": "1.1", "SeriesDescription": "a"},
        {"SeriesInstanceUID": "1.2", "SeriesDescription": "b"},
        {"SeriesInstanceUID": "1.2", "SeriesDescription": "c"},
    )
    assert [one["description"] for one in made.resource["series"]] == ["a", "b"]
    [issue] = [issue for issue in made.issues if issue.code == "values-differ"]
    assert issue.count == 2


def test_an_instance_without_its_required_value_is_dropped_and_told():
    made = converted({"SOPClassUID": "", "SOPInstanceUID": "1.1.1"}, {"SOPInstanceUID": "1.1.2"})
    [series] = made.resource["series"]
    assert [one["uid"] for one in series["instance"]] == ["1.1.2"]
    [issue] = [issue for issue in made.issues if issue.code == "required-missing"]
    assert (issue.path, issue.keyword, issue.examples) == (
        "ImagingStudy.series.instance.sopClass",
        "SOPClassUID",
        ("1.1.1",),
    )


def test_a_series_without_a_value_that_the_site_requires_is_dropped_and_told():
    rules = overlaid(
        '[ImagingStudy.series]\ndescription = { from = "SeriesDescription", required = true }'
    )
    made = converted(
        {"SeriesInstanceUID": "1.1"},
        {"SeriesInstanceUID": "1.2", "SeriesDescription": "x"},
        rules=rules,
    )
    assert [one["uid"] for one in made.resource["series"]] == ["1.2"]
    [issue] = [issue for issue in made.issues if issue.code == "required-missing"]
    assert (issue.path, issue.examples) == ("ImagingStudy.series.description", ("1.1",))


def test_only_the_nearest_repeating_item_is_dropped():
    rules = overlaid(
        """
        [ImagingStudy."identifier:x"]
        system = { from = "InstitutionName", as = "uri" }
        [ImagingStudy."identifier:x".assigner]
        display = { from = "StationName", required = true }
        """
    )
    made = converted({"InstitutionName": "urn:x:y"}, rules=rules)
    assert len(made.resource["identifier"]) == 1
    assert made.resource["series"]


def test_a_study_without_a_value_that_the_site_requires_of_it_fails_alone_and_tells_why():
    rules = overlaid('[ImagingStudy]\ndescription = { from = "StudyDescription", required = true }')
    made = converted({}, rules=rules)
    assert (made.state, made.resource) == ("failed", None)
    assert "required-missing" in codes(made)


@pytest.mark.parametrize(
    ("limit", "listed"), [("all", True), ("none", False), (2, True), (1, False)]
)
def test_instances_are_listed_all_none_or_up_to_a_number(limit, listed):
    made = converted({}, {}, options=Options(instances=limit))
    assert ("instance" in made.resource["series"][0]) is listed
    assert made.resource["numberOfInstances"] == 2
    assert made.dropped == (() if listed else ("ImagingStudy.series.instance",))
    assert ("instances-not-listed" in codes(made)) is not listed


def test_rules_of_instances_may_be_trees():
    rules = overlaid(
        "[ImagingStudy.series.instance]\nsopClass = false",
        """
        [ImagingStudy.series.instance.sopClass]
        system = { const = "urn:ietf:rfc:3986" }
        code = { from = "SOPClassUID", as = "code", codes = "sop-class-modality" }
        """,
    )
    [series] = imaging_study({}, {"SOPClassUID": "1.2.3"}, rules=rules)["series"]
    assert [one["sopClass"].get("code") for one in series["instance"]] == ["CT", None]


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ({"PatientIdentityRemoved": "YES"}, "de-identified"),
        ({"LongitudinalTemporalInformationModified": "MODIFIED"}, "de-identified"),
        ({"QualityControlImage": "YES "}, "quality-control"),
        ({"GroupOfPatientsIdentificationSequence": [{"PatientID": "M1"}]}, "group-of-subjects"),
        ({"findings": ["truncated"]}, "truncated"),
        ({"findings": ["wrong-vr StudyDescription"]}, "wrong-vr"),
    ],
)
def test_what_an_object_says_of_itself_is_a_finding(attributes, code):
    made = converted(attributes, {})
    [issue] = [issue for issue in made.issues if issue.code == code]
    assert issue.count == 1
    assert code not in codes(converted({}))


def test_an_empty_group_is_no_group():
    made = converted({"GroupOfPatientsIdentificationSequence": []})
    assert "group-of-subjects" not in codes(made)


# --- the subject ----------------------------------------------------------------------------------

IDENTIFIED = {"patient": {"system": "https://s.example/mrn"}}


def subject(mode, **site):
    made = converted(FULL, options=Options(patient=mode), **site)
    return made.resource["subject"], made


def test_a_patient_is_a_resource_beside_the_study():
    found, made = subject("resource", **IDENTIFIED)
    expected = ids.patient_id("https://s.example/mrn", "1", STUDY)
    assert found["reference"] == f"Patient/{expected}"
    assert found["identifier"]["value"] == "1"
    assert [one["id"] for one in companions(made, "Patient")] == [expected]


def test_what_spans_studies_is_what_reducing_it_alone_gives():
    made = converted({"PatientBirthDate": "", **FULL}, options=WITH, **SITE)
    assert len(made.companions) > 5
    for companion in made.companions:
        reduced = reduce([("1.2", companion)]).resource
        assert orjson.dumps(reduced) == orjson.dumps(companion)
        assert reduced["text"] == narrative({k: v for k, v in reduced.items() if k != "text"})


def test_a_reference_alone_makes_no_patient():
    found, made = subject("reference", **IDENTIFIED)
    assert found["reference"].startswith("Patient/")
    assert companions(made, "Patient") == []


def test_a_logical_subject_has_the_identifier_and_no_reference():
    found, made = subject("logical", **IDENTIFIED)
    assert "reference" not in found
    assert found["identifier"]["value"] == "1"
    assert companions(made, "Patient") == []


def test_a_logical_subject_without_a_number_says_that_it_is_unknown():
    made = converted({}, options=Options(patient="logical"))
    assert made.resource["subject"]["extension"][0]["valueCode"] == "unknown"


def test_a_contained_patient_is_named_from_within():
    found, made = subject("contained")
    assert found["reference"] == "#patient"
    assert [one["id"] for one in made.resource["contained"]] == ["patient"]
    assert companions(made, "Patient") == []


def test_resources_beside_the_study_never_name_a_contained_patient():
    made = converted(FULL, options=Options(patient="contained", companions=True), **SITE)
    for resource_type in ("ServiceRequest", "Encounter"):
        [one] = companions(made, resource_type)
        assert "reference" not in one["subject"]
        assert one["subject"]["identifier"]["value"] == "1"


def test_a_number_without_a_system_belongs_to_its_study_alone():
    one = converted({"PatientID": "1"})
    assert "patient-scoped-to-study" in codes(one)
    assert one.companions[0]["id"] == ids.patient_id(None, None, STUDY)


def test_a_key_makes_the_id_of_a_person_unguessable():
    plain, _ = subject("resource", **IDENTIFIED)
    keyed, _ = subject("resource", **IDENTIFIED, identity_key="secret")
    assert plain["reference"] != keyed["reference"]


QC = {"QualityControlImage": "YES", "PatientName": "Phantom^QA", "PatientID": "PH1"}


def test_a_device_is_the_subject_only_where_all_is_quality_control_and_the_site_says_so():
    device = {"patient": {"subject": "Device"}}
    made = converted(QC, QC, **device)
    assert made.resource["subject"]["reference"].startswith("Device/")
    assert [one["resourceType"] for one in made.companions] == ["Device"]
    assert converted(QC, QC).resource["subject"]["type"] == "Patient"
    assert converted(QC, {**QC, "QualityControlImage": ""}, **device).resource["subject"][
        "type"
    ] == ("Patient")


def test_an_encounter_has_no_device_as_subject():
    site = {**SITE, "patient": {"subject": "Device"}}
    made = converted({**FULL, **QC}, options=WITH, **site)
    [encounter] = companions(made, "Encounter")
    assert "subject" not in encounter
    [request] = companions(made, "ServiceRequest")
    assert request["subject"]["type"] == "Device"


# --- companions -----------------------------------------------------------------------------------


def test_without_companions_references_are_logical_and_only_an_endpoint_is_made():
    made = converted(FULL, **SITE)
    assert {one["resourceType"] for one in made.companions} == {"Patient", "Endpoint"}
    assert "reference" not in made.resource["referrer"]


def test_with_companions_every_reference_leads_to_a_resource():
    made = converted(FULL, options=WITH, **SITE)
    there = {f"{one['resourceType']}/{one['id']}" for one in made.companions}

    def references(value):
        if isinstance(value, dict):
            if "reference" in value:
                yield value["reference"]
            for one in value.values():
                yield from references(one)
        elif isinstance(value, list):
            for one in value:
                yield from references(one)

    found = set(references([made.resource, *made.companions]))
    assert found <= there
    assert {one["resourceType"] for one in made.companions} == {
        "Patient",
        "Practitioner",
        "ServiceRequest",
        "Encounter",
        "Location",
        "Organization",
        "Device",
        "Endpoint",
    }
    assert empty_places([made.resource, made.companions]) == []


def test_what_a_request_item_says_is_in_its_service_request():
    made = converted(FULL, options=WITH, **SITE)
    [request] = companions(made, "ServiceRequest")
    assert request["code"] == {"text": "CT"}
    assert request["authoredOn"] == "2024-01-01"
    assert request["note"] == [{"text": "please"}]
    assert request["requester"]["display"] == "A Asker"
    assert (request["status"], request["intent"]) == ("unknown", "order")


def test_a_request_item_reads_in_the_character_set_and_schemes_of_its_object():
    item = {
        "AccessionNumber": "A",
        "RequestedProcedureDescription": "Thorax über",
        "RequestedProcedureCodeSequence": [
            {"CodeValue": "X", "CodingSchemeDesignator": "99L", "CodeMeaning": "über"}
        ],
    }
    scheme = {"CodingSchemeDesignator": "99L", "CodingSchemeUID": "1.2.840.99999.77"}
    made = converted(
        {"RequestAttributesSequence": [item], "CodingSchemeIdentificationSequence": [scheme]},
        options=WITH,
    )
    [request] = companions(made, "ServiceRequest")
    assert request["code"]["text"] == "über"
    assert request["code"]["coding"][0]["system"] == "urn:oid:1.2.840.99999.77"


def test_an_encounter_is_made_only_with_a_configured_status_and_class():
    made = converted(FULL, options=WITH, encounter={"system": "https://s.example/visit"})
    assert companions(made, "Encounter") == []
    assert "reference" not in made.resource["encounter"]
    [one] = companions(converted(FULL, options=WITH, **SITE), "Encounter")
    assert (one["status"], one["class"]["code"]) == ("finished", "IMP")
    assert one["reasonCode"] == [{"text": "fall"}]


def test_a_device_without_a_station_has_no_device_name_and_stands():
    made = converted({"Manufacturer": "Maker", "DeviceSerialNumber": "S"}, options=WITH)
    [device] = companions(made, "Device")
    assert "deviceName" not in device
    assert device["manufacturer"] == "Maker"


def test_a_resource_that_cannot_be_made_leaves_a_logical_reference_each_time():
    rules = overlaid(
        '[Practitioner]\nlanguage = { from = "StudyID", as = "code", codes = "gender", required = true }'
    )
    made = converted(
        {"ReferringPhysicianName": "A^B", "NameOfPhysiciansReadingStudy": "A^B"},
        rules=rules,
        options=WITH,
    )
    assert companions(made, "Practitioner") == []
    assert "reference" not in made.resource["referrer"]
    assert "reference" not in made.resource["interpreter"][0]


def test_one_person_named_twice_is_one_resource():
    made = converted(
        {"ReferringPhysicianName": "A^B", "PerformingPhysicianName": "A^B"}, options=WITH
    )
    assert len(companions(made, "Practitioner")) == 1


# --- explain --------------------------------------------------------------------------------------


def explained(*instances, rules=None, **site):
    rules = with_site(rules or shipped_rules(), **site)
    return {one.path: one for one in explain(study(*instances, rules=rules), rules)}


def test_explain_names_rule_file_keyword_and_code_row_of_a_value():
    found = explained({"BodyPartExamined": "CHEST", "source": "a.dcm"})
    [one] = [e for path, e in found.items() if path.endswith(".bodySite")]
    assert one.rule == "base/imaging-study.toml: ImagingStudy.series.bodySite"
    assert one.keywords == ("BodyPartExamined",)
    assert one.source == "a.dcm"
    assert one.code_row.startswith("body-part.csv:")
    assert "816094009" in one.value


def test_explain_says_why_there_is_no_value():
    found = explained({"SeriesNumber": "-1"})
    assert found["ImagingStudy.description"].reason == "no value in StudyDescription"
    [number] = [
        e for path, e in found.items() if path.endswith(".number") and "instance" not in path
    ]
    assert number.reason == "value-out-of-range"


def test_explain_says_what_the_engine_makes_of_the_whole_study_is_made_of():
    found = explained(
        {"Modality": "CT", "PatientID": "7", "source": "a.dcm"},
        {"Modality": "SR", "SeriesInstanceUID": "1.9", "PatientID": "7", "source": "b.dcm"},
        patient={"system": "urn:x:mrn"},
    )
    modality, subject = found["ImagingStudy.modality"], found["ImagingStudy.subject"]
    assert (modality.keywords, modality.source) == (("Modality",), "a.dcm")
    assert modality.code_row.startswith("modality.csv:")
    assert "," not in modality.code_row
    assert subject.keywords[0] == "PatientID"
    assert subject.source in {"a.dcm", "b.dcm"}
    none = explained({"Modality": "SR"})["ImagingStudy.modality"]
    assert none.reason == "no series has an acquisition modality (CID 29)"


def test_explain_of_an_endpoint_names_what_would_make_one():
    reason = explained({})["ImagingStudy.endpoint"].reason
    assert reason == "no value in RetrieveURL, and the settings name no endpoint (site.endpoint)"


@pytest.mark.parametrize(
    ("dicom", "keywords", "findings"),
    [
        ({}, ("StudyDate",), ()),
        ({"StudyTime": "10"}, ("StudyDate", "StudyTime"), ("no-time-zone",)),
        ({"StudyTime": "99"}, ("StudyDate", "StudyTime"), ("value-malformed",)),
        (
            {"StudyTime": "10", "TimezoneOffsetFromUTC": "+0100"},
            ("StudyDate", "StudyTime", "TimezoneOffsetFromUTC"),
            (),
        ),
    ],
)
def test_explain_says_why_a_date_has_no_time_and_names_what_was_read(dicom, keywords, findings):
    found = explained({"StudyDate": "20240312", **dicom})["ImagingStudy.started"]
    assert found.value.startswith("2024-03-12")
    assert (found.keywords, found.findings) == (keywords, findings)


def test_explain_names_only_what_is_empty():
    found = explained({"TimezoneOffsetFromUTC": "+0100"})["ImagingStudy.started"]
    assert found.reason == "no value in StudyDate, StudyTime"
    assert explained({"StudyTime": "10"})["ImagingStudy.started"].reason == "time-without-date"


def test_explain_of_a_study_in_conflict_names_keyword_and_files():
    rules = shipped_rules("ips")
    one = {"PatientID": "A", "SOPInstanceUID": "1.1", "source": "a.dcm"}
    two = {"PatientID": "B", "SOPInstanceUID": "1.2", "source": "b.dcm"}
    told = explain(study(one, two, rules=rules), rules)
    assert [(row.keywords, row.source) for row in told] == [
        (("PatientID",), "a.dcm"),
        (("PatientID",), "b.dcm"),
    ]
    assert told[0].reason.startswith("patient-conflict: 2 different values in one study")


def test_explain_goes_down_to_each_instance():
    found = explained({"SOPInstanceUID": "1.1.1", "InstanceNumber": "7"})
    [one] = [e for path, e in found.items() if "instance.where(uid='1.1.1').number" in path]
    assert one.value == "7"


def test_explaining_changes_no_result():
    rules = shipped_rules()
    told = []
    one = convert(study(FULL), rules, WITH, told.append)
    assert one == convert(study(FULL), rules, WITH)
    assert told


def test_explain_tells_of_each_profile_element_that_no_rule_makes():
    rules = shipped_rules("uk-core")
    root = rules.resources["ImagingStudy"]
    bare = replace(root, children=tuple(c for c in root.children if c.name != "encounter"))
    rules = replace(rules, resources={**rules.resources, "ImagingStudy": bare}, memo={})
    found = explained({}, rules=rules)
    assert "no rule makes it" in found["ImagingStudy.encounter"].reason


def test_explain_asks_for_no_part_of_an_element_that_is_there_with_it_or_not_there_at_all():
    rules = shipped_rules("ips", "uk-core")
    found = explained({"PatientName": "One", "PerformingPhysicianName": "Two"}, rules=rules)
    assert not {"ImagingStudy.subject.reference", "Patient.name.family"} & set(found)
    assert found["Patient.name.given"].reason == "ips asks for it, and Patient.name holds none"
    assert found["Patient.name.given"].keywords == ("PatientName",)
    assert not [path for path in found if path.startswith("ImagingStudy.series.performer.")]
    nobody = explained({"PatientName": ""}, rules=shipped_rules("uk-core"))
    assert not [path for path in nobody if path.startswith("ImagingStudy.series.performer.")]


def test_explain_names_each_keyword_for_itself():
    found = explained({"ReasonForTheRequestedProcedure": "cough"})["ImagingStudy.reasonCode"]
    assert "ReasonForTheRequestedProcedure" in found.keywords


def test_what_could_not_be_read_is_told_with_its_keyword():
    odd = {"findings": ["wrong-vr StudyDescription"]}
    [issue] = [one for one in convert(study(odd), shipped_rules()).issues if one.code == "wrong-vr"]
    assert issue.keyword == "StudyDescription"
    assert explained(odd)["ImagingStudy.description"].reason == "wrong-vr StudyDescription"


@pytest.mark.parametrize("turn", [1, -1])
def test_of_instances_that_name_one_order_or_visit_the_one_that_tells_most_of_it_is_taken(turn):
    item = {"AccessionNumber": "A1", "RequestedProcedureDescription": "CT chest"}
    said = {"RequestAttributesSequence": [item], "AdmissionID": "V1", "ReasonForVisit": "fall"}
    bare = {"AccessionNumber": "A1", "AdmissionID": "V1"}
    instances = [{**said, "SOPInstanceUID": "1.1.1"}]
    instances += [{**bare, "SOPInstanceUID": f"1.1.{number}"} for number in range(2, 5)]
    site = {"encounter": SITE["encounter"]}
    made = converted(*instances[::turn], options=WITH, **site)
    [order], [visit] = (companions(made, kind) for kind in ("ServiceRequest", "Encounter"))
    assert order["code"] == {"text": "CT chest"}
    assert visit["reasonCode"] == [{"text": "fall"}]


@pytest.mark.parametrize(
    "instances",
    [
        [{"ImageLaterality": "L"}, {"ImageLaterality": "R", "SOPInstanceUID": "1.1.2"}],
        [{"ImageLaterality": "L", "Laterality": "R"}],
    ],
)
def test_a_side_in_doubt_is_taken_from_what_stands(instances):
    made = converted(*instances)
    assert made.tombstones == (f"{made.resource['series'][0]['uid']}:laterality",)
    assert converted({"ImageLaterality": "L"}).tombstones == ()
