"""Two runs into one folder: a run is a partial view, and two patients never share a resource."""

from __future__ import annotations

import json

import pytest

from converter.cli.main import run


def write(folder, data, name="1.dcm"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    return folder


def convert(source, output, *more):
    return run(["convert", str(source), "-o", str(output), "-q", *more])


def only(output, kind):
    (path,) = (output / kind).iterdir()
    return json.loads(path.read_bytes())


@pytest.mark.parametrize("mode", ["resource", "reference", "logical", "contained"])
def test_another_patient_of_the_same_study_is_held_in_a_later_run(make_dicom, tmp_path, mode):
    first = write(tmp_path / "a", make_dicom(patient="111", name="Aa^A", born="19500101"))
    other = make_dicom(sop="1.2.3.1.2", patient="222", name="Bb^B", born="19900101")
    second = write(tmp_path / "b", other)
    output = tmp_path / "out"
    assert convert(first, output, "--patient", mode) == 0
    before = {path: path.read_bytes() for path in output.rglob("*.json")}
    assert convert(second, output, "--patient", mode) == 1
    assert {path: path.read_bytes() for path in output.rglob("*.json")} == before


def test_another_person_without_an_id_is_held_in_a_later_run(make_dicom, tmp_path):
    first = write(tmp_path / "a", make_dicom(patient="", name="Aa^A", born="19500101"))
    other = make_dicom(sop="1.2.3.1.2", patient="", name="Bb^B", born="19900101")
    output = tmp_path / "out"
    assert convert(first, output) == 0
    before = {path: path.read_bytes() for path in output.rglob("*.json")}
    assert convert(write(tmp_path / "b", other), output) == 1
    assert {path: path.read_bytes() for path in output.rglob("*.json")} == before


def test_another_person_under_the_same_id_is_held_where_the_patient_is_contained(
    make_dicom, tmp_path
):
    output = tmp_path / "out"
    first = write(tmp_path / "a", make_dicom(name="Aa^A", born="19500101"))
    other = make_dicom(sop="1.2.3.1.2", name="Bb^B", born="19900101")
    assert convert(first, output, "--patient", "contained") == 0
    before = {path: path.read_bytes() for path in output.rglob("*.json")}
    assert convert(write(tmp_path / "b", other), output, "--patient", "contained") == 1
    assert {path: path.read_bytes() for path in output.rglob("*.json")} == before


def test_what_a_later_run_does_not_know_of_a_patient_stays(make_dicom, tmp_path):
    output = tmp_path / "out"
    assert convert(write(tmp_path / "a", make_dicom(born="19500101")), output) == 0
    later = make_dicom(sop="1.2.3.1.2", born="")
    assert convert(write(tmp_path / "b", later), output) == 0
    assert only(output, "Patient")["birthDate"] == "1950-01-01"
    assert only(output, "ImagingStudy")["numberOfInstances"] == 2


def test_what_a_later_run_knows_better_is_written_and_replace_forgets_the_rest(
    make_dicom, tmp_path
):
    output = tmp_path / "out"
    assert convert(write(tmp_path / "a", make_dicom(born="")), output, "--profile", "ips") == 0
    assert "_birthDate" in only(output, "Patient")
    later = write(tmp_path / "b", make_dicom(sop="1.2.3.1.2", born="19500101"))
    assert convert(later, output, "--profile", "ips") == 0
    assert only(output, "Patient")["birthDate"] == "1950-01-01"
    assert "_birthDate" not in only(output, "Patient")
    silent = write(tmp_path / "c", make_dicom(sop="1.2.3.1.3", born=""))
    assert convert(silent, output, "--profile", "ips", "--ownership", "replace") == 0
    assert "birthDate" not in only(output, "Patient")
    assert only(output, "ImagingStudy")["numberOfInstances"] == 1
