"""Profile files: read strictly, checked as they say."""

from __future__ import annotations

import json
import tomllib

import pytest

from converter.core.profile import parse_profile
from converter.errors import MappingError
from converter.fhir.definitions import load_structure
from converter.fhir.shipped import shipped_checker, shipped_profiles
from tests.fhir.cases import BASES

HEAD = '[profile]\nname = "site"\ntitle = "Site"\n'


def parse(text):
    return parse_profile(tomllib.loads(text), "site.toml", load_structure())


def faults(text):
    with pytest.raises(MappingError) as caught:
        parse(text)
    return [str(fault) for fault in caught.value.faults]


def issues(text, resource):
    checker = shipped_checker([parse(HEAD + text)])
    return [
        (issue.code, issue.severity, issue.path)
        for issue in checker.check_profile(resource, "site")
    ]


@pytest.fixture
def study():
    return json.loads(BASES["study"])


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ('ImagingStudy = "notaurl"', "claims.ImagingStudy: is no canonical"),
        ('ImagingStudy = "https://"', "is no canonical"),
        ('ImagingStudy = "https://a.example/x y"', "is no canonical"),
        ('ImagingStudy = "https://a.example/x|1.0"', "is no canonical"),
        ('ImaginStudy = "https://a.example/x"', "did you mean ImagingStudy?"),
    ],
)
def test_a_claim_is_a_canonical_of_a_known_resource_type(claims, message):
    assert message in faults(f"{HEAD}claims = {{ {claims} }}")[0]


@pytest.mark.parametrize("canonical", ["https://a.example/x", "http://a.example/x", "urn:oid:1.2"])
def test_a_canonical_is_taken_as_it_is(canonical):
    text = f'{HEAD}claims = {{ ImagingStudy = "{canonical}" }}'
    assert parse(text).claims == {"ImagingStudy": canonical}


def test_messages_of_what_is_missing_or_too_much_read_well(study):
    text = (
        HEAD
        + """
    [[constraint]]
    path = "ImagingStudy.interpreter"
    min = 1
    [[constraint]]
    path = "ImagingStudy.identifier"
    min = 9
    [[constraint]]
    path = "ImagingStudy.status"
    max = 0
    """
    )
    found = [one.message for one in shipped_checker([parse(text)]).check_profile(study, "site")]
    count = len(study["identifier"])
    assert sorted(found) == [
        f"site: identifier: at least 9 are needed, {count} stand" + ("s" if count == 1 else ""),
        "site: interpreter is missing",
        "site: status: at most 0 may stand, 1 does",
    ]


def test_shipped_profiles_are_sound():
    assert {"r4", "uk-core", "ips"} <= {profile.name for profile in shipped_profiles()}


def test_every_fault_is_told_at_once():
    text = """
    [profile]
    name = "x"
    titel = "X"
    [[constraint]]
    path = "ImagingStudy.serie"
    [[constraint]]
    path = "ImagingStudy.subject"
    mni = 1
    [[constraint]]
    path = "ImagingStudy.subject"
    min = 2
    max = 1
    targets = ["Pation"]
    invariant = "no-1"
    """
    told = "\n".join(faults(text))
    for part in (
        "constraint[0].path: R4 has no element ImagingStudy.serie; ImagingStudy.series?",
        "constraint[1].mni: unknown key; min?",
        "constraint[2].min: min is above max",
        "constraint[2].targets: no resource type Pation",
        "constraint[2].invariant",
        "profile.titel: unknown key; title?",
    ):
        assert part in told


def test_a_binding_that_nothing_could_ever_meet_or_break_is_a_fault():
    """One would be claimed unchecked, the other never."""
    text = """
    [profile]
    name = "x"
    title = "X"
    [[constraint]]
    path = "ImagingStudy.modality"
    min = -1
    [constraint.binding]
    strength = "required"
    value_set = "https://hospital.example/ValueSet/modalities"
    [[constraint]]
    path = "ImagingStudy.modality"
    [constraint.binding]
    strength = "required"
    codes = ["CT"]
    [[constraint]]
    path = "ImagingStudy.status"
    [constraint.binding]
    strength = "required"
    codes = ["available"]
    """
    assert faults(text) == [
        "site.toml: constraint[0].min: is below 0",
        "site.toml: constraint[0].binding: nobody can check it: write its codes, or name their table",
        "site.toml: constraint[1].binding.system: ImagingStudy.modality is a Coding: write the system of the codes beside them",
    ]


def test_a_file_without_profile_is_a_fault():
    assert faults('extends = "base"') == [
        "site.toml: profile: a profile file needs a [profile] table"
    ]


def test_mapping_rules_beside_it_are_left_alone():
    assert parse(HEAD + '[ImagingStudy]\nstatus = { const = "available" }').constraints == ()


def test_least_number(study):
    text = '[[constraint]]\npath = "ImagingStudy.interpreter"\nmin = 1\n'
    assert issues(text, study) == [("profile-missing", "error", "ImagingStudy.interpreter")]
    study["interpreter"] = [{"display": "x"}]
    assert issues(text, study) == []


def test_greatest_number(study):
    text = '[[constraint]]\npath = "ImagingStudy.identifier"\nmax = 1\n'
    assert issues(text, study) == [("profile-too-many", "error", "ImagingStudy.identifier")]


def test_number_in_each_parent(study):
    text = '[[constraint]]\npath = "ImagingStudy.series.instance.title"\nmin = 1\n'
    assert issues(text, study) == [
        ("profile-missing", "error", "ImagingStudy.series[0].instance[0].title")
    ]


def test_slice_is_counted_by_its_value(study):
    text = """[[constraint]]
    path = "ImagingStudy.identifier"
    slice = { name = "accession", by = "type.coding.code", value = "ACSN" }
    min = 1
    max = 1
    """
    assert issues(text, study) == []
    del study["identifier"][1]
    assert issues(text, study) == [("profile-missing", "error", "ImagingStudy.identifier")]


def test_child_of_a_slice(study):
    text = """[[constraint]]
    path = "ImagingStudy.identifier"
    slice = { name = "accession", by = "type.coding.code", value = "ACSN" }
    child = "assigner.identifier"
    min = 1
    """
    assert issues(text, study) == [
        ("profile-missing", "error", "ImagingStudy.identifier[1].assigner.identifier")
    ]


def test_fixed_value(study):
    text = '[[constraint]]\npath = "ImagingStudy.status"\nfixed = "available"\n'
    assert issues(text, study) == []
    study["status"] = "unknown"
    assert issues(text, study) == [("profile-value", "error", "ImagingStudy.status")]


def test_pattern(study):
    text = '[[constraint]]\npath = "ImagingStudy.series.laterality"\npattern = { system = "http://snomed.info/sct" }\n'
    assert issues(text, study) == []
    study["series"][0]["laterality"] = {"display": "left"}
    assert issues(text, study) == [("profile-value", "error", "ImagingStudy.series[0].laterality")]


def test_targets(study):
    text = '[[constraint]]\npath = "ImagingStudy.subject"\ntargets = ["Group"]\n'
    assert issues(text, study) == [("profile-target", "error", "ImagingStudy.subject.reference")]


@pytest.mark.parametrize(
    ("strength", "said"),
    [("required", ("profile-code", "error")), ("extensible", ("outside-value-set", "warning"))],
)
def test_binding_with_its_strength(study, strength, said):
    text = f"""[[constraint]]
    path = "ImagingStudy.series.modality"
    [constraint.binding]
    strength = "{strength}"
    system = "http://dicom.nema.org/resources/ontology/DCM"
    codes = ["MR"]
    """
    assert issues(text, study) == [(*said, "ImagingStudy.series[0].modality")]


def test_binding_to_a_code_table(study):
    text = """[[constraint]]
    path = "ImagingStudy.series.modality"
    [constraint.binding]
    strength = "required"
    system = "http://dicom.nema.org/resources/ontology/DCM"
    table = "modality"
    """
    assert issues(text, study) == []
    study["series"][0]["modality"]["code"] = "110180"
    assert issues(text, study) == [("profile-code", "error", "ImagingStudy.series[0].modality")]


def test_warning_where_the_file_says_so(study):
    text = '[[constraint]]\npath = "ImagingStudy.interpreter"\nmin = 1\nseverity = "warning"\n'
    assert issues(text, study) == [("profile-missing", "warning", "ImagingStudy.interpreter")]


def test_must_support_is_told_on_request_only():
    checker = shipped_checker()
    study = json.loads(BASES["claimed"])
    del study["encounter"]
    assert checker.check_profile(study, "uk-core") == []
    told = checker.absent(study, "uk-core")
    assert ("must-support", "information", "ImagingStudy.encounter") in [
        (issue.code, issue.severity, issue.path) for issue in told
    ]
    assert "ImagingStudy.series[0].uid" not in [issue.path for issue in told]
    assert "ImagingStudy.series[0].specimen" in [issue.path for issue in told]


def test_unknown_profile_name_checks_nothing_and_other_types_pass():
    checker = shipped_checker()
    assert checker.check_profile(json.loads(BASES["endpoint"]), "ips") == []
