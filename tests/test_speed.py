"""A guard against getting slow: ratios to pydicom in the same run, never seconds.

Each bound is a little more than half of what is measured, so that twice as slow is noticed.
"""

from __future__ import annotations

import time

import pytest
from fhir.resources.R4B import get_fhir_model_class
from pydicom import dcmread

from benchmarks.corpora import Place, instance
from converter.cli.rules import judge_of
from converter.core.engine import convert
from converter.core.study import assemble, pack, pack_block, unpack_block
from converter.mapping import load
from converter.reading import read_file
from converter.reading.trace import Follower
from converter.reading.walk import plan
from converter.sinks.files import encode

KEYWORDS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "Modality",
    "ReferringPhysicianName",
    "StudyDescription",
    "SeriesDescription",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "BodyPartExamined",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "InstanceNumber",
]
COUNT = 60


def with_pydicom(path):
    dataset = dcmread(path, stop_before_pixels=True)
    return [dataset.get(keyword) for keyword in KEYWORDS]


def ratio(theirs, ours, paths):
    """Least CPU time of five goes over the files: what else the machine does adds and never takes away."""
    goes = {theirs: [], ours: []}
    for _ in range(5):
        for read, costs in goes.items():
            begin = time.process_time()
            for path in paths:
                read(path)
            costs.append(time.process_time() - begin)
    return min(goes[theirs]) / min(goes[ours])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    for number in range(COUNT):
        (folder / f"{number:03d}").write_bytes(instance(Place(1, 1, 100 + number)))
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def wanted():
    return load(["uk-core", "ips"]).wanted


def test_a_header_of_a_series_is_read_many_times_as_fast_as_pydicom_reads_it(files, wanted):
    assert ratio(with_pydicom, lambda path: read_file(path, wanted), files) > 45


def test_a_header_like_none_before_is_read_several_times_as_fast(files, wanted):
    alone = dict(wanted)
    follower = plan(alone).follower = Follower(plan(alone))
    follower.follow = lambda *_: None
    follower.missed = lambda *_: None
    assert ratio(with_pydicom, lambda path: read_file(path, alone), files) > 15


def test_a_study_of_one_image_is_made_and_checked_several_times_as_fast_as_models_of_it_are(
    tmp_path,
):
    paths = []
    for number in range(COUNT):
        paths.append(tmp_path / f"{number:03d}")
        paths[-1].write_bytes(instance(Place(1 + number, 1, 1), "single"))
    rules = load(["uk-core", "ips"])
    judge = judge_of(rules)
    made = {}

    def ours(path):
        read = read_file(path, rules.wanted)
        block = pack("1.2", "1.2.3", [("1.2.3.4", read.header, "", [])])
        conversion = convert(assemble("1.2", [unpack_block(pack_block(block))]), rules)
        [patient] = conversion.companions
        made[path] = conversion.resource, patient
        assert len(judge(conversion.resource, patient, []).profiles) == 2
        judge(patient, None, [])
        return encode(conversion.resource), encode(patient)

    def theirs(path):
        with_pydicom(path)
        return [
            get_fhir_model_class(one["resourceType"]).model_validate(one).model_dump_json()
            for one in made[path]
        ]

    for path in paths:
        ours(path)
    theirs(paths[0])
    assert ratio(theirs, ours, paths) > 4.5
