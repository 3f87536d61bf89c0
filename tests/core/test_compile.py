from __future__ import annotations

import pickle

import pytest

from converter.core.compile import OPTIONS
from converter.core.dictionary import tag_of
from converter.core.engine import Options
from converter.core.header import SPECIFIC_CHARACTER_SET
from converter.core.rules import Node, Rule
from converter.core.transforms import TRANSFORMS
from tests.core.making import (
    base_layers,
    compiled,
    converted,
    faults_of,
    layer,
    overlaid,
    shipped_rules,
)

WHOLE = """
[ImagingStudy]
status = { const = "available" }
subject = { from = [], as = "subject" }
[ImagingStudy.series]
uid = { from = "SeriesInstanceUID", required = true }
modality = { from = "Modality", as = "modality", codes = "modality" }
[ImagingStudy.series.instance]
uid = { from = "SOPInstanceUID", required = true }
sopClass = { from = "SOPClassUID", as = "sopClass", required = true }
"""
"""All that FHIR asks for in an ImagingStudy."""


def told(rules: str) -> list[str]:
    """Faults of rules of the ImagingStudy, beside all that it must have."""
    site = layer(f"[ImagingStudy]\n{rules}", "site")
    return [str(fault) for fault in faults_of(layer(WHOLE), site)]


def rule_at(node: Node, path: str) -> Rule:
    return next(rule for rule in every_rule(node) if rule.path == path)


def every_rule(node: Node) -> list[Rule]:
    own = [node.rule] if node.rule else []
    return own + [rule for child in node.children for rule in every_rule(child)]


ASKED = "write required = true, so that none stands without"


@pytest.mark.parametrize(
    ("part", "faults"),
    [
        ('note.text = { from = "StudyComments" }', [f"site.toml: ImagingStudy.note.text: FHIR R4 asks for it in each ImagingStudy.note: {ASKED}"]),
        ('note.text = { from = "StudyComments", required = true }', []),
        ('extension.url = { const = "https://a.example/b" }\nextension.valueString = { from = "StationName" }', [f"site.toml: ImagingStudy.extension.valueString: FHIR R4 asks for it in each ImagingStudy.extension: {ASKED}"]),
        ('extension.url = { const = "https://a.example/b" }\nextension.valueCode = { const = "c" }', []),
    ],
)  # fmt: skip
def test_a_part_that_fhir_asks_for_is_never_left_out_alone(part, faults):
    """Else a note without text, or an extension without a value, would stand where the DICOM holds nothing."""
    assert told(part) == faults


def test_what_fhir_asks_for_is_missed_in_the_file_that_took_it_away():
    [fault] = told("status = false")
    assert fault == "site.toml: ImagingStudy: FHIR R4 asks for ImagingStudy.status, and no rule makes it"  # fmt: skip


def test_what_fhir_asks_for_is_enough():
    assert told('description = { from = "StudyDescription" }') == []


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        # FHIR on the left
        (
            'descripton = { from = "StudyDescription" }',
            (
                "site.toml: ImagingStudy.descripton: FHIR R4 has no element ImagingStudy.descripton; "
                "did you mean description?"
            ),
        ),
        ('"description:a" = { from = "StudyDescription" }', "description does not repeat"),
        # DICOM on the right
        (
            'description = { from = "StudyDescripton" }',
            (
                "ImagingStudy.description.from: StudyDescripton is no DICOM keyword; "
                "did you mean StudyDescription?"
            ),
        ),
        ('description = { from = "zzz" }', "zzz is no DICOM keyword"),
        ("description = { from = 17 }", "expected a DICOM keyword in quotes, not int"),
        ("description = { from = [[]] }", "expected a DICOM keyword in quotes, not list"),
        (
            'description = { from = "StudyDescription.CodeMeaning" }',
            "StudyDescription is no sequence",
        ),
        ('description = { from = "ProcedureCodeSequence" }', "is a sequence: string reads values"),
        ('description = { from = "Rows" }', "Rows is binary (US)"),
        ('started = { from = "StudyDate", with = ["StudyTme"] }', "did you mean StudyTime?"),
        ('started = { from = "StudyDate", with = ["Rows"] }', "Rows is binary (US)"),
        (
            'started = { from = "StudyDescription" }',
            "StudyDescription is LO: dateTime reads DA or DT",
        ),
        # options
        ('description = { from = "StudyDescription", cods = "x" }', "did you mean codes?"),
        ('description = { from = "StudyDescription", zzzz = "x" }', "options are from, with, as"),
        ('description = { from = "StudyDescription", as = 1 }', "expected text in quotes"),
        ('description = { from = "StudyDescription", required = "yes" }', "expected true or false"),
        ('description = { from = "StudyDescription", as = "strng" }', "did you mean string?"),
        (
            'description = { from = "StudyDescription", as = "uid" }',
            "uid gives id, this element is a string",
        ),
        ('description = { from = "StudyDescription", const = "x" }', "const stands alone"),
        ('referrer = { from = "ReferringPhysicianName" }', "say with `as` how a Reference is made"),
        ('description = { ref = "Patient" }', "string needs `from`"),
        (
            '"identifier:accession" = { from = "AccessionNumber", as = "accession", system = "https://a.example" }',
            "accession reads no system",
        ),
        ('description = { const = "x", type = "PRF" }', "const reads no type"),
        (
            'series."performer:a" = { from = "OperatorsName", as = "performers", type = "OPER" }',
            "performers needs `type`, a code of v3-ParticipationType",
        ),
        # what is written as a number
        ('description = { from = "(0008,1030)" }', "write StudyDescription"),
        ('description = { from = "(0019,xx10,ACME 1.0)" }', "a private attribute has none"),
        # code tables
        ('description = { from = "StudyDescription", codes = "modality" }', "reads no code table"),
        ('reasonCode = { from = "StudyDescription", codes = "modalty" }', "did you mean modality?"),
        ('status = { from = "Modality", as = "code" }', "code needs `codes`"),
        (
            'status = { from = "Modality", as = "code", codes = "coding-schemes" }',
            "code needs a column code, which code table coding-schemes has not",
        ),
        # references
        ('subject = { from = [], as = "subject", ref = "Patent" }', "Patent is no resource type"),
        (
            'subject = { from = [], as = "subject", ref = "Location" }',
            "allowed here: Patient, Device, Group",
        ),
        # when
        ('description = { from = "StudyDescription", when = "CT" }', "expected a table such as"),
        ('description = { from = "StudyDescription", when = { Modalty = "CT" } }', "Modality?"),
        ('description = { from = "StudyDescription", when = { Modality = 1 } }', "only equality"),
        ('description = { from = "StudyDescription", when = { Rows = "1" } }', "Rows is no text"),
        # constants
        ('description = { const = "" }', "const: is no string of FHIR R4"),
        ("status = { const = 1 }", "const: is no code of FHIR R4"),
        (
            'status = { const = "availble" }',
            "const: R4 requires a code of http://hl7.org/fhir/ValueSet/imagingstudy-status; did you mean available?",
        ),
        (
            'identifier = { const = [{ use = "offical" }] }',
            "const.use: R4 requires a code of http://hl7.org/fhir/ValueSet/identifier-use; did you mean official?",
        ),
        ("numberOfSeries = { const = -1 }", "const: is no unsignedInt of FHIR R4"),
        ('reasonCode = { const = { text = "x" } }', "this element repeats"),
        ('reasonCode = { const = [{ txt = "x" }] }', "no element txt; did you mean text?"),
        ('reasonCode = { const = ["x"] }', "expected a table, this is a CodeableConcept"),
        ('reasonCode = { const = [{ coding = { code = "x" } }] }', "const.coding: repeats"),
    ],
)
def test_each_kind_of_fault_is_told_with_its_place_and_the_nearest_name(rule, fault):
    found = told(rule)
    assert len(found) == 1
    assert fault in found[0]
    assert found[0].startswith("site.toml: ImagingStudy.")


def test_all_faults_of_all_files_are_told_at_once():
    base = layer(WHOLE + '[Patient]\nnme = { from = "PatientName" }')
    site = layer('[ImagingStudy]\ndescription = { from = "X" }\nnote = { from = "Y" }', "site")
    assert {str(fault).split(":")[0] for fault in faults_of(base, site)} == {
        "base.toml",
        "site.toml",
    }
    assert len(faults_of(base, site)) == 4  # note says no transform, either


def test_a_resource_type_that_is_not_known_is_told_with_the_nearest():
    [fault] = faults_of(layer(WHOLE), layer('[Patent]\nname = { from = "PatientName" }', "site"))
    assert "did you mean Patient?" in fault.message


def test_faults_of_laying_files_over_each_other_are_told_with_the_others():
    site = layer('[ImagingStudy.status]\nx = { from = "X" }', "site")
    assert ["as a whole" in fault.message for fault in faults_of(layer(WHOLE), site)] == [True]


@pytest.mark.parametrize(
    ("removed", "missing"),
    [
        ("[ImagingStudy]\nstatus = false", "ImagingStudy.status"),
        ("[ImagingStudy.series]\nuid = false", "ImagingStudy.series.uid"),
        (
            "[ImagingStudy.series.instance]\nsopClass = false",
            "ImagingStudy.series.instance.sopClass",
        ),
    ],
)
def test_what_fhir_asks_for_cannot_be_removed(removed, missing):
    [fault] = faults_of(layer(WHOLE), layer(removed, "site"))
    assert fault.message == f"FHIR R4 asks for {missing}, and no rule makes it"


def test_a_whole_element_may_be_removed_with_what_it_would_need():
    rules = compiled(layer(WHOLE), layer("[ImagingStudy]\nseries = false", "site"))
    assert "series" not in [child.name for child in rules.resources["ImagingStudy"].children]


def test_every_option_of_the_language_is_taken():
    rules = overlaid(
        """
        [ImagingStudy."reasonCode:a"]
        text = { from = ["StudyDescription"], with = ["Modality"], as = "string", when = { Modality = "CT" }, required = true }
        [ImagingStudy."identifier:a"]
        value = { from = "StudyID" }
        [ImagingStudy.series]
        bodySite = { from = "BodyPartExamined", as = "coding", codes = "body-part", system = "urn:x:y" }
        "performer:a" = { from = "OperatorsName", as = "performers", type = "SPRF" }
        [ImagingStudy."note:a"]
        text = { const = "x" }
        [ImagingStudy]
        referrer = { from = "ReferringPhysicianName", as = "practitioner", ref = "Practitioner" }
        """
    )
    root = rules.resources["ImagingStudy"]
    rule = rule_at(root, "ImagingStudy.reasonCode:a.text")
    assert (rule.element, rule.level, rule.required) == (
        "ImagingStudy.reasonCode.text",
        "study",
        True,
    )
    assert rule_at(root, "ImagingStudy.series.bodySite").system == "urn:x:y"
    assert rule_at(root, "ImagingStudy.series.performer:a").type == "SPRF"
    assert len(OPTIONS) == 10


@pytest.mark.parametrize(
    ("path", "level"),
    [
        ("ImagingStudy.description", "study"),
        ("ImagingStudy.series.description", "series"),
        ("ImagingStudy.series.instance.title", "instance"),
        ("Patient.gender", "study"),
    ],
)
def test_the_level_follows_from_the_path(path, level):
    assert rule_at(shipped_rules().resources[path.split(".")[0]], path).level == level


def test_a_required_value_is_asked_for_up_to_the_nearest_repeating_item():
    rules = overlaid(
        """
        [ImagingStudy."identifier:x".assigner]
        display = { from = "InstitutionName", required = true }
        """
    )
    root = rules.resources["ImagingStudy"]
    identifier = next(c for c in root.children if c.path == "ImagingStudy.identifier:x")
    [assigner] = identifier.children
    assert (assigner.required, identifier.required) == (True, False)


@pytest.mark.parametrize("rule", every_rule(shipped_rules().resources["ImagingStudy"]))
def test_a_rule_depends_on_all_that_its_transform_reads(rule):
    # what the memo of evaluate.py stands on
    transform = TRANSFORMS.get(rule.transform)
    read = {source.tags[0] for source in (*rule.sources, *rule.others)}
    read |= {tag_of(keyword) for keyword in (transform.also if transform else ())}
    assert read <= set(rule.tags)
    assert SPECIFIC_CHARACTER_SET in rule.tags or not transform


def test_what_a_site_reads_in_a_resource_beside_the_study_is_there_when_it_is_made():
    rules = overlaid(
        """
        [Location]
        description = { from = "StationName" }
        [ServiceRequest]
        patientInstruction = { from = "RequestedProcedureComments" }
        """
    )
    found = converted(
        {
            "InstitutionName": "H",
            "StationName": "S1",
            "RequestAttributesSequence": [
                {"AccessionNumber": "A", "RequestedProcedureComments": "drink water"}
            ],
        },
        rules=rules,
        options=Options(companions=True),
    ).companions
    made = {one["resourceType"]: one for one in found}
    assert made["Location"]["description"] == "S1"
    assert made["ServiceRequest"]["patientInstruction"] == "drink water"


def test_the_reader_keeps_what_the_engine_itself_looks_at():
    keywords = (
        "PatientID",
        "IssuerOfPatientIDQualifiersSequence",
        "PatientIdentityRemoved",
        "QualityControlImage",
        "GroupOfPatientsIdentificationSequence",
        "TimezoneOffsetFromUTC",
        "Modality",
        "CodingSchemeIdentificationSequence",
    )
    bare = compiled(layer(WHOLE))
    assert {tag_of(keyword) for keyword in keywords[:7]} <= set(bare.wanted)
    assert {tag_of(keyword) for keyword in keywords} <= set(shipped_rules().wanted)


def test_items_of_sequences_keep_their_character_set_at_every_depth():
    def check(wanted):
        for inner in wanted.values():
            if inner is not None:
                assert SPECIFIC_CHARACTER_SET in inner or set(inner) == {tag_of("PatientID")}
                check(inner)

    check(shipped_rules().wanted)


def test_a_rule_set_survives_pickling_without_its_memo():
    rules = shipped_rules()
    converted({"StudyDescription": "x"})
    copy = pickle.loads(pickle.dumps(rules))
    assert copy == rules
    assert copy.memo == {}
    assert rules.memo


def test_the_shipped_base_compiles_without_faults():
    assert faults_of(*base_layers()) == []
