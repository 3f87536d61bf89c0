"""Every file that pydicom carries for its own tests: right study, or left out for the right reason."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pydicom
import pytest

from converter.cli.main import run
from converter.core.ids import study_id

HERE = Path(pydicom.__file__).parent / "data"
DATA = ("charset_files", "palettes", "test_files")

SKIPPED = {
    "dicomdir": 8,
    "duplicate": 31,
    "duplicate-differs": 1,
    "no-study-uid": 11,
    "not-an-instance": 8,
    "not-dicom": 11,
    "truncated-header": 2,
}
"""Inputs left out, by reason. What claims to be DICOM and is none: cuts and files without UIDs."""
FAILURES = {"no-study-uid", "truncated-header"}
STUDIES, SERIES, INSTANCES = 44, 51, 131


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pydicom")
    report = folder / "report.json"
    arguments = [str(HERE / name) for name in DATA]
    arguments += ["-o", str(folder / "out"), "--report", str(report), "-q"]
    code = run(["convert", *arguments, "--profile", "uk-core", "--profile", "ips"])
    return code, json.loads(report.read_bytes()), folder / "out"


def test_nothing_crashes_and_every_other_file_has_its_reason(converted):
    code, report, _ = converted
    assert report["counts"]["skipped"] == SKIPPED
    assert code == 1  # some of what should have been DICOM could not be read
    assert not {"reader-crashed", "study-failed", "malformed"} & set(report["counts"]["skipped"])


@pytest.mark.filterwarnings("ignore:::pydicom")
def test_every_composite_instance_is_in_its_study(converted):
    _, report, output = converted
    counts = report["counts"]
    assert (counts["studies"], counts["series"], counts["instances"]) == (
        STUDIES,
        SERIES,
        INSTANCES,
    )
    left_out = {skipped["path"] for skipped in report["skipped"]}
    expected: dict[str, set[tuple[str, str, str]]] = {}
    for root in DATA:
        for path in sorted((HERE / root).rglob("*")):
            if not path.is_file() or path.suffix in {".gz", ".zip"}:
                continue
            name = path.relative_to(HERE / root).as_posix()
            if any(known.endswith(name) for known in left_out):
                continue
            tags = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"]
            found = pydicom.dcmread(path, force=True, specific_tags=tags, stop_before_pixels=True)
            key = (found.SeriesInstanceUID, found.SOPInstanceUID, found.SOPClassUID)
            expected.setdefault(found.StudyInstanceUID, set()).add(key)
    for study, instances in expected.items():
        resource = json.loads((output / "ImagingStudy" / f"{study_id(study)}.json").read_bytes())
        held = {
            (series["uid"], one["uid"], one["sopClass"]["code"].removeprefix("urn:oid:"))
            for series in resource["series"]
            for one in series["instance"]
        }
        assert held == instances, study
    assert len(list((output / "ImagingStudy").iterdir())) == len(expected) == STUDIES


def test_all_of_it_meets_the_profiles_that_were_asked_for(converted):
    _, report, _ = converted
    assert report["profiles"], report
    assert set(report["profiles"]["met"].values()) == {STUDIES}


def test_one_file_at_a_time_gives_the_same_verdicts(converted):
    """Which inputs are left out does not hang on what stands beside them, copies aside."""
    from converter.core.header import Unreadable
    from converter.mapping import load
    from converter.reading import read_file

    _, report, _ = converted
    reasons = [one["reason"] for one in report["skipped"]]
    together = Counter(one for one in reasons if not one.startswith("duplicate"))
    wanted = load(["uk-core", "ips"]).wanted
    alone: Counter[str] = Counter()
    for root in DATA:
        for folder, _, names in os.walk(HERE / root):
            for name in names:
                if name.endswith((".gz", ".zip")):
                    continue
                found = read_file(Path(folder) / name, wanted)
                if isinstance(found, Unreadable):
                    alone[found.reason] += 1
    assert alone == together
