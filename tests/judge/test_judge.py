"""Our verdict and that of the HL7 validator, side by side; a difference is listed with its reason or a failure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from converter.core.check_reasons import STRICT
from converter.core.merge import unite
from converter.core.rejection import is_withdrawn, withdraw
from converter.fhir.judging import judge as judge_ours
from converter.fhir.shipped import shipped_checker
from converter.pipeline.publishing import stamped
from tests.fhir.cases import BASES, CASES
from tests.judge.harness import judge

pytestmark = [pytest.mark.judge, pytest.mark.slow]

GOLDEN = Path(__file__).parent.parent / "golden"


@dataclass(frozen=True)
class Sample:
    name: str
    data: bytes
    bad: bool
    reason: str = ""
    """Why the two differ."""


def samples() -> list[Sample]:
    found = [Sample(f"bad/{case.name}", case.bad, bad=True, reason=case.judge) for case in CASES]
    found += [Sample(f"twin/{case.name}", case.good, bad=False) for case in CASES if case.good]
    found += [Sample(f"base/{name}", data, bad=False) for name, data in BASES.items()]
    for path in sorted(GOLDEN.glob("*/expected.json")):
        resources = json.loads(path.read_bytes()).get("resources", {})
        found += [
            Sample(f"golden/{path.parent.name}/{name}", json.dumps(resource).encode(), bad=False)
            for name, resource in resources.items()
        ]
        found += [
            Sample(
                f"withdrawn/{path.parent.name}", json.dumps(emptied(resource)).encode(), bad=False
            )
            for resource in resources.values()
            if path.parent.name in WITHDRAWN and resource["resourceType"] == "ImagingStudy"
        ]
    return found


WITHDRAWN = {"rejected-some", "patient-mode-contained", "patient-mode-logical", "accession-issuer"}
"""Golden cases that are looked at as what is left of them when nothing is listed any more, too."""


def emptied(study: dict) -> dict:
    """A published study that is taken back."""
    gone = [one["uid"] for series in study["series"] for one in series["instance"]]
    united = unite(study, withdraw(study), tombstones=gone)
    assert is_withdrawn(united)
    return stamped(united, study.get("meta", {}).get("profile", []))


SAMPLES = samples()


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge")
    paths = []
    for index, sample in enumerate(SAMPLES):
        paths.append(folder / f"{index}.json")
        paths[-1].write_bytes(sample.data)
    answers = judge(paths, folder / "definitions")
    return {sample.name: answer for sample, answer in zip(SAMPLES, answers, strict=True)}


@pytest.fixture(scope="module")
def checker():
    return shipped_checker()


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_verdicts_agree_or_the_difference_is_listed(sample, verdicts, checker):
    theirs = [message for message in verdicts[sample.name] if message.error]
    ours = judge_ours(sample.data, sample.name, checker).failed(STRICT)
    assert ours == sample.bad
    assert bool(theirs) == (sample.bad and not sample.reason), theirs
