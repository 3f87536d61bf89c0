"""A run from files to resources: same bytes whatever the order and the workers, studies apart, counts right."""

from __future__ import annotations

import io
import shutil
import stat
import tarfile
import zipfile
from dataclasses import replace

import msgspec
import pipeline_standins as standins
import pytest

from converter.core.issues import Issue
from converter.errors import SinkError, SourceError, StoreError
from converter.pipeline import Verdict, converting, reading
from converter.sources import Filters

KILL = b"KILL THE READER"


@pytest.fixture
def folder(tmp_path, make_dicom):
    """Three studies of two patients, in two folders, with a copy and a text between them."""
    root = tmp_path / "in"
    for index in range(12):
        study = f"1.2.{index % 3}"
        name = root / f"f{index % 2}" / f"{index:02}"
        name.parent.mkdir(parents=True, exist_ok=True)
        patient = "B" if index % 3 == 2 else "A"
        name.write_bytes(make_dicom(study, sop=f"1.9.{index}", patient=patient))
    shutil.copy(root / "f0" / "00", root / "f1" / "copy")
    (root / "notes.txt").write_text(
        "these are only notes, and long enough to be none of DICOM's\n" * 9
    )
    return root


def test_studies_are_told_apart_and_counted(folder, convert, standing, instances):
    result = convert(folder, profiles=("urn:p",))
    assert result.exit_code == 0
    assert result.counts == {"files": 14, "instances": 12, "series": 3, "studies": 3}
    assert result.resources == {"ImagingStudy": 3, "Patient": 2}
    assert result.skipped_counts == {"duplicate": 1, "not-dicom": 1}
    assert [(row.path, row.reason) for row in result.all_skipped] == [
        ("f1/copy", "duplicate"),
        ("notes.txt", "not-dicom"),
    ]
    assert instances(standing()["ImagingStudy/s-1.2.0.json"]) == [
        "1.9.0",
        "1.9.3",
        "1.9.6",
        "1.9.9",
    ]
    assert [study.resource for study in result.all_studies] == [
        f"ImagingStudy/s-1.2.{n}" for n in range(3)
    ]
    assert {study.state for study in result.all_studies} == {"published"}
    assert (result.phase, result.advice) == ("done", "")


def test_order_grouping_and_workers_change_no_byte(
    folder, tmp_path, convert, standing, monkeypatch, make_dicom
):
    # the same SOP Instance UID with other content, to be sure that it is decided by content
    (folder / "f0" / "zz").write_bytes(make_dicom("1.2.0", sop="1.9.0", patient="A", number="7"))
    convert(folder, out="plain")
    expected = standing("plain")
    assert expected

    files = sorted(path for path in folder.rglob("*") if path.is_file())
    convert(*reversed(files), out="reversed")
    names = io.BytesIO("\n".join(map(str, files[::2] + files[1::2])).encode())
    convert(names=[line.decode().strip() for line in names], out="listed")
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as archive:
        for path in reversed(files):
            archive.add(path, path.name + path.parent.name)
    convert(tmp_path / "a.tgz", out="archive")
    monkeypatch.setattr(reading, "FEW", 1)
    monkeypatch.setattr(converting, "SMALL", 1)
    monkeypatch.setattr(converting, "ROWS", 1)
    monkeypatch.setattr("converter.sources.planning.LEAST", 2)
    monkeypatch.setattr("converter.sources.planning.MOST", 3)
    convert(folder, out="workers", jobs=2)
    for out in ("reversed", "listed", "archive", "workers"):
        assert standing(out) == expected, out


def test_an_archive_of_many_parts_comes_through_workers(tmp_path, convert, make_dicom, monkeypatch):
    monkeypatch.setattr(reading, "FEW", 0)
    root = tmp_path / "in"
    root.mkdir()
    with zipfile.ZipFile(root / "a.zip", "w") as archive:
        for index in range(2500):  # more than one part of a result holds
            archive.writestr(str(index), make_dicom(sop=f"1.2.{index}"))
    result = convert(root, jobs=2, state=tmp_path / "state.db")
    assert result.counts["instances"] == 2500
    assert convert(root, jobs=2, state=tmp_path / "state.db").counts["instances"] == 2500


def test_two_patients_in_one_study_are_held_and_leave_no_trace(
    folder, convert, standing, make_dicom
):
    (folder / "odd").write_bytes(make_dicom("1.2.2", sop="1.9.99", patient="C"))
    result = convert(folder)
    assert result.exit_code == 1
    assert result.held_counts == {"patient-conflict": 1}
    assert [(s.study_instance_uid, s.state) for s in result.all_studies][2] == ("1.2.2", "conflict")
    assert sorted(standing()) == [
        "ImagingStudy/s-1.2.0.json",
        "ImagingStudy/s-1.2.1.json",
        "Patient/A.json",
    ]


def test_one_patient_key_of_two_people_holds_their_studies_and_no_others(
    folder, convert, standing, make_dicom
):
    other = {"patient": "A", "name": "Other^Person", "born": "19800202"}
    (folder / "odd").write_bytes(make_dicom("1.7", sop="1.9.99", **other))
    result = convert(folder)
    assert result.exit_code == 1
    assert result.held_counts == {"patient-mismatch": 3}
    assert sorted(standing()) == ["ImagingStudy/s-1.2.2.json", "Patient/B.json"]


def test_a_resource_that_stands_is_united_and_never_shrunk(folder, convert, standing, instances):
    convert(folder)
    before = standing()
    shutil.rmtree(folder / "f0")
    convert(folder)
    assert standing() == before
    convert(folder, ownership="replace")
    assert instances(standing()["ImagingStudy/s-1.2.0.json"]) == ["1.9.0", "1.9.3", "1.9.9"]


def test_a_study_that_stands_for_somebody_else_is_held(folder, convert, standing):
    convert(folder)
    path = "ImagingStudy/s-1.2.0.json"
    before = standing()[path]
    for file in (folder / "f0", folder / "f1"):
        for dicom in file.iterdir():
            dicom.write_bytes(dicom.read_bytes().replace(b"LO\2\0A ", b"LO\2\0Z "))
    result = convert(folder)
    assert result.held_counts == {"subject-mismatch": 2}
    assert result.exit_code == 1
    assert standing()[path] == before
    assert "Patient/Z.json" not in standing()


def test_claims_follow_the_check_and_a_failed_one_is_written_without(folder, convert, standing):
    def judge(resource, patient, dropped):
        if resource["id"] == "s-1.2.1":
            return Verdict([Issue("error", "cardinality")], [])
        if resource["resourceType"] == "ImagingStudy":
            assert patient["id"] == resource["subject"]["reference"].removeprefix("Patient/")
            return Verdict([], ["urn:p"])
        return Verdict([], [])

    result = convert(folder, judge=judge, profiles=("urn:p", "urn:q"))
    assert result.profiles_met == {"urn:p": 2, "urn:q": 0}
    assert result.exit_code == 0
    assert result.issue_counts["cardinality"] == 1
    assert b'"urn:p"' in standing()["ImagingStudy/s-1.2.0.json"]
    assert b"meta" not in standing()["ImagingStudy/s-1.2.1.json"]
    assert convert(folder, judge=judge, strict=True).exit_code == 5


def test_one_study_that_breaks_the_engine_is_held_and_tells_nothing_of_the_patient(
    folder, convert, make_dicom
):
    (folder / "odd").write_bytes(make_dicom("1.7", sop="1.9.99", patient="BROKEN"))
    result = convert(folder)
    assert result.held_counts == {"study-failed": 1}
    assert result.resources["ImagingStudy"] == 3
    (issue,) = next(s.issues for s in result.all_studies if s.state == "failed")
    assert issue.message.startswith("ValueError in convert, line ")


def test_a_file_that_kills_its_reader_is_reported_and_the_others_are_read(
    folder, convert, monkeypatch
):
    monkeypatch.setattr(reading, "FEW", 0)
    monkeypatch.setattr("converter.sources.planning.LEAST", 4)
    monkeypatch.setattr("converter.sources.planning.MOST", 4)
    (folder / "f0" / "05-bad").write_bytes(KILL)
    result = convert(folder, jobs=2)
    assert result.skipped_counts["reader-crashed"] == 1
    assert [r.path for r in result.all_skipped if r.reason == "reader-crashed"] == ["f0/05-bad"]
    assert result.counts["instances"] == 12
    assert result.exit_code == 1


def test_a_study_that_kills_its_converter_is_held_and_the_others_are_converted(
    folder, convert, make_dicom, monkeypatch
):
    monkeypatch.setattr(converting, "SMALL", 0)
    (folder / "odd").write_bytes(make_dicom("1.7", sop="1.9.99", patient="FATAL"))
    result = convert(folder, jobs=2)
    assert result.held_counts == {"study-failed": 1}
    assert result.resources["ImagingStudy"] == 3


def test_filters_count_what_they_leave_out_and_fail_nothing(folder, convert):
    result = convert(folder, filters=Filters(study_uids=frozenset({"1.2.1"})))
    assert result.counts["studies"] == 1
    assert result.skipped_counts["filtered"] == 9
    assert result.exit_code == 0


def test_no_dicom_at_all_is_exit_4_and_leaves_nothing(tmp_path, convert, standing):
    (tmp_path / "in").mkdir()
    assert convert(tmp_path / "in").exit_code == 4
    (tmp_path / "in" / "a.txt").write_text("words " * 100)
    assert convert(tmp_path / "in").exit_code == 4
    assert standing() == {}


def test_an_input_that_does_not_exist_ends_the_run_before_it_begins(folder, tmp_path, convert):
    with pytest.raises(SourceError, match="nowhere"):
        convert(folder, tmp_path / "nowhere", state=tmp_path / "state.db")
    assert not (tmp_path / "state.db").exists()


def test_a_study_that_breaks_the_check_is_held_and_the_others_are_written(
    folder, convert, standing
):
    def judge(resource, patient, dropped):
        if resource["id"] == "s-1.2.2":
            raise KeyError("Secret^Name")
        return Verdict([], [])

    result = convert(folder, judge=judge)
    assert result.held_counts == {"study-failed": 1}
    assert sorted(standing()) == [
        "ImagingStudy/s-1.2.0.json",
        "ImagingStudy/s-1.2.1.json",
        "Patient/A.json",
    ]
    assert "Secret" not in repr(result.all_studies)


class FullSink:
    """A destination that is full after the first resource."""

    def __init__(self):
        self.written, self.aborted = 0, False

    def holds(self, resource_type):
        return False

    def stands(self, resource_type, resource_id):
        return None

    def write(self, resource):
        if self.written:
            raise SinkError("The disk is full.")
        self.written += 1
        return ""

    def close(self):
        raise AssertionError

    def abort(self):
        self.aborted = True


def test_a_full_destination_ends_the_run_cleanly(folder, convert, tmp_path):
    sink = FullSink()
    with pytest.raises(SinkError, match="full") as caught:
        convert(folder, sink=sink)
    assert caught.value.exit_code == 7
    assert sink.aborted


def test_a_full_disk_of_the_store_ends_the_run_and_the_next_one_goes_on(
    folder, convert, tmp_path, monkeypatch, standing
):
    from converter.store import sql

    real = sql.SqlStore.save

    def full(self, conversions):
        # SQLite's own page limit gives the same answer as a full disk.
        self._database.connection.execute("PRAGMA max_page_count = 1")
        real(self, [msgspec.structs.replace(c, resource=bytes(1 << 20)) for c in conversions])

    monkeypatch.setattr(sql.SqlStore, "save", full)
    with pytest.raises(StoreError, match="full") as caught:
        convert(folder, state=tmp_path / "state.db")
    assert caught.value.exit_code == 7
    monkeypatch.setattr(sql.SqlStore, "save", real)
    assert convert(folder, state=tmp_path / "state.db").exit_code == 0
    assert len(standing()) == 5


class Told:
    def __init__(self):
        self.phases, self.done = [], {}

    def phase(self, name, total=None):
        self.phases.append((name, total))
        self.done[name] = 0

    def advance(self, count=1):
        self.done[self.phases[-1][0]] += count


def test_progress_tells_phases_and_ends_where_it_said(folder, convert):
    told = Told()
    convert(folder, progress=told)
    assert told.phases == [("reading", None), ("converting", 13), ("writing", 5)]
    assert told.done == {"reading": 14, "converting": 12, "writing": 5}


def test_outputs_are_for_this_user_only(folder, convert, tmp_path):
    convert(folder, state=tmp_path / "state.db")
    for path in (tmp_path / "out").rglob("*.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_instance_in_two_studies_stays_in_both_with_a_finding(folder, convert, make_dicom):
    before = convert(folder)
    assert "instance-in-several-studies" not in before.issue_counts
    (folder / "again").write_bytes(make_dicom("1.7", sop="1.9.3", patient="A"))
    result = convert(folder)
    assert result.counts["instances"] == 13
    assert result.exit_code == 0
    told = {
        study.study_instance_uid: issue.examples
        for study in result.all_studies
        for issue in study.issues
        if issue.code == "instance-in-several-studies"
    }
    assert told == {"1.2.0": ("1.9.3",), "1.7": ("1.9.3",)}


@pytest.mark.parametrize("found", [b"{", b'{"resourceType": "Observation"}', b"[]"])
def test_a_study_whose_file_cannot_be_read_is_held_and_the_others_are_written(
    folder, convert, standing, found, tmp_path
):
    path = tmp_path / "out" / "ImagingStudy" / "s-1.2.0.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(found)
    result = convert(folder)
    assert result.exit_code == 1
    assert result.held_counts == {"standing-unreadable": 1}
    (held,) = (study for study in result.all_studies if study.reason)
    assert [issue.message.split(" ")[0] for issue in held.issues] == ["ImagingStudy/s-1.2.0"]
    assert standing()["ImagingStudy/s-1.2.0.json"] == found
    assert {"ImagingStudy/s-1.2.1.json", "ImagingStudy/s-1.2.2.json"} <= standing().keys()


def test_a_patient_whose_file_cannot_be_read_holds_its_studies_and_no_others(
    folder, convert, standing, tmp_path
):
    path = tmp_path / "out" / "Patient" / "A.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"{")
    result = convert(folder)
    assert result.held_counts == {"standing-unreadable": 2}
    assert standing()["Patient/A.json"] == b"{"
    assert sorted(standing()) == ["ImagingStudy/s-1.2.2.json", "Patient/A.json", "Patient/B.json"]


def test_another_resource_that_cannot_be_read_holds_the_studies_that_name_it(
    folder, convert, standing, parts, tmp_path
):
    path = tmp_path / "out" / "Device" / "D.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"{")
    result = convert(folder, parts=replace(parts, convert=standins.convert_with_device))
    assert result.held_counts == {"standing-unreadable": 2}
    assert standing()["Device/D.json"] == b"{"
    assert sorted(standing()) == ["Device/D.json", "ImagingStudy/s-1.2.2.json", "Patient/B.json"]


def test_a_differing_copy_that_is_not_used_is_in_the_list_of_what_was_left_out(
    folder, convert, make_dicom
):
    before = convert(folder)
    (folder / "zz").write_bytes(make_dicom("1.2.0", sop="1.9.3", patient="A", number="77"))
    result = convert(folder)
    assert result.counts["instances"] == before.counts["instances"]
    assert result.skipped_counts == {**before.skipped_counts, "duplicate-differs": 1}
    assert len(result.all_skipped) == len(before.all_skipped) + 1
    assert result.exit_code == before.exit_code
