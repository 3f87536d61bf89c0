"""A study of one image, of which much is remembered, gives what it gives where nothing is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converter.core import remember
from converter.core.engine import Options, convert
from converter.core.study import assemble
from tests.core.making import blocks, shipped_rules, with_site
from tests.core.test_engine import FULL, SITE

VALUES = {
    "PatientID": ["1", "2", ""],
    "PatientBirthDate": ["19500312", "1950", "x"],
    "PatientSex": ["F", "?"],
    "AccessionNumber": ["A", "B", ""],
    "StudyID": ["A", "7"],
    "StudyDate": ["20240101", "20241399", ""],
    "StudyTime": ["1015", "99"],
    "Modality": ["CT", "??", ""],
    "SeriesNumber": ["1", "x", "99999999999"],
    "InstanceNumber": ["1", "x", "2"],
    "ImageType": ["ORIGINAL\\PRIMARY", "\x07"],
    "BodyPartExamined": ["CHEST", "PHANTOM", "NOWHERE"],
    "Laterality": ["L", "Q"],
    "ReferringPhysicianName": ["Referrer^R", "Umlaut^\xfc", ""],
    "RequestAttributesSequence": [FULL["RequestAttributesSequence"], []],
    "QualityControlImage": ["YES", "NO"],
    "InstitutionName": ["H", "I", ""],
    "RetrieveURL": ["https://p.example/rs/studies/1", "no url", ""],
}
STUDIES = st.lists(
    st.fixed_dictionaries({}, optional={key: st.sampled_from(of) for key, of in VALUES.items()}),
    min_size=2,
    max_size=6,
)
OPTIONS = st.sampled_from([Options(), Options(companions=True), Options("contained")])


def made(study, rules, options, trace=None):
    found = convert(study, rules, options, trace)
    return found.state, found.resource, found.companions, found.issues


def studies(several, rules):
    for number, one in enumerate(several):
        uid = f"1.2.3.{number}"
        told = {**one, "StudyInstanceUID": uid, "SeriesInstanceUID": f"{uid}.1"}
        yield assemble(uid, blocks([told], rules))


@settings(deadline=None, max_examples=60)
@given(STUDIES, OPTIONS, st.sampled_from([{}, SITE]))
def test_what_is_remembered_changes_nothing(several, options, site):
    rules = with_site(shipped_rules("uk-core", "ips"), **site)
    for study in studies([*several, *several], rules):
        # who is told of every element is told by the rules, not by what they made before
        plain = made(study, rules, options, lambda told: None)
        assert made(study, rules, options) == plain


@pytest.mark.parametrize(("most", "vain"), [(1, 200), (2000, 1)])
def test_what_is_forgotten_is_made_again(monkeypatch, most, vain):
    monkeypatch.setattr(remember, "MOST", most)
    monkeypatch.setattr(remember, "VAIN", vain)
    rules = with_site(shipped_rules("uk-core", "ips"), **SITE)
    several = [FULL, {**FULL, "Modality": "MR"}, FULL, {"PatientID": "9"}, FULL]
    for study in studies(several, rules):
        assert made(study, rules, Options()) == made(study, rules, Options(), lambda told: None)
