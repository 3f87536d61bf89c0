"""What a profile makes us populate: there where DICOM has it, absent where it has not.

Shown on the golden cases, which are whole runs from DICOM to FHIR.
"""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from converter.core.check_reasons import STRICT
from converter.fhir.definitions import load_structure
from converter.fhir.judging import judge
from converter.fhir.profiles import reach
from converter.fhir.report import root
from converter.fhir.shipped import shipped_checker, shipped_profiles

ROOT = Path(__file__).parents[2]
ALWAYS = {
    "ImagingStudy.identifier": "the Study Instance UID is always known",
    "ImagingStudy.series": "a study without series is none",
    "ImagingStudy.subject.reference": "left out with --patient logical only, which claims no IPS",
    "ImagingStudy.series.numberOfInstances": "it is counted",
    "ImagingStudy.series.performer.function": "the attribute that names the person says it",
    "Patient.name": "IPS: without one, the text says that it is unknown",
    "Patient.name.text": "made of the parts of the name",
}
"""Always there, and why."""
NEVER = {
    "ImagingStudy.series.endpoint": "the service of the study serves its series: ImagingStudy.endpoint says it once",
    "Patient.generalPractitioner": "DICOM does not have it",
}
"""Never there, and why."""


def golden():
    for path in sorted((ROOT / "tests" / "golden").glob("*/expected.json")):
        for name, resource in json.loads(path.read_bytes()).get("resources", {}).items():
            yield f"{path.parent.name}/{name}", resource


GOLDEN = dict(golden())
OBLIGATIONS = sorted(
    {(profile.name, path) for profile in shipped_profiles() for path in profile.populated}
)


def holders(path):
    kind, *steps = path.split(".")
    for resource in GOLDEN.values():
        if resource["resourceType"] == kind:
            for holder, _ in reach(resource, tuple(steps[:-1]), root(kind)):
                yield holder.keys() & {steps[-1], f"_{steps[-1]}"}


@pytest.mark.parametrize(("profile", "path"), OBLIGATIONS)
def test_populated_where_known_and_absent_where_not(profile, path):
    found = [bool(names) for names in holders(path)]
    assert found
    assert any(found) == (path not in NEVER)
    if path not in ALWAYS and not load_structure().element(path).min:
        assert not all(found)


@pytest.fixture(scope="module")
def checker():
    return shipped_checker()


def test_every_golden_output_conforms(checker):
    wrong = [
        (name, issue)
        for name, resource in GOLDEN.items()
        for issue in judge(json.dumps(resource).encode(), name, checker).issues
        if issue.severity == "error" or issue.code in STRICT or issue.code == "models-disagree"
    ]
    assert wrong == []


def test_page_of_conformance_is_current():
    tool = runpy.run_path(str(ROOT / "tools" / "build_conformance.py"))
    page = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    assert page == tool["render"](shipped_profiles()), "run python -m tools.build_conformance"


def test_every_element_on_the_page_says_how_and_where():
    for profile in shipped_profiles():
        for row in profile.constraints:
            assert row.source, (profile.name, row.path)
            assert row.how, (profile.name, row.path)
