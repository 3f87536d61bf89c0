"""Rejection notes in batch runs: whatever the order, what a note rejects is not to be seen in the folder."""

from __future__ import annotations

import json

import pytest

from converter.cli.main import run
from tests.notes import images, note
from tests.servers.stub import Stub


def convert(source, output, *more):
    return run(["convert", str(source), "-o", str(output), "-q", "-j", "1", *more])


def written(output):
    return {p.relative_to(output).as_posix(): p.read_bytes() for p in output.rglob("*.json")}


def study(output):
    (path,) = (output / "ImagingStudy").iterdir()
    return json.loads(path.read_bytes())


def listed(output):
    return [i["uid"] for s in study(output).get("series", []) for i in s["instance"]]


@pytest.fixture
def together(tmp_path):
    """What one run over all of it gives."""
    folder = tmp_path / "together"
    images(folder, 1, 2, 3)
    note(folder, 2)
    assert convert(folder, tmp_path / "expected") == 0
    assert listed(tmp_path / "expected") == ["2.999.1.1.1", "2.999.1.1.3"]
    return written(tmp_path / "expected")


def test_a_note_of_a_later_run_removes_what_stands(tmp_path, together):
    output = tmp_path / "out"
    assert convert(images(tmp_path / "a", 1, 2, 3), output) == 0
    assert convert(note(tmp_path / "b", 2), output) == 0
    assert listed(output) == ["2.999.1.1.1", "2.999.1.1.3"]
    assert convert(images(tmp_path / "c", 1, 3), output) == 0
    assert written(output) == together


def test_with_a_state_the_note_may_come_first(tmp_path, together):
    output, state = tmp_path / "out", ("--state", str(tmp_path / "state.db"))
    assert convert(note(tmp_path / "a", 2), output, *state) == 0
    assert not written(output), "a note alone publishes nothing, no patient either"
    assert convert(images(tmp_path / "b", 1, 2, 3), output, *state) == 0
    assert written(output) == together


def test_a_rejected_instance_that_comes_again_stays_rejected(tmp_path, together):
    output, state = tmp_path / "out", ("--state", str(tmp_path / "state.db"))
    images(tmp_path / "a", 1, 2, 3)
    assert convert(note(tmp_path / "a", 2), output, *state) == 0
    assert convert(images(tmp_path / "again", 2), output, *state) == 0
    assert written(output) == together


def test_a_study_of_which_nothing_is_left_is_cancelled_where_it_stands(tmp_path):
    output = tmp_path / "out"
    assert convert(images(tmp_path / "a", 1, 2), output, "--profile", "ips") == 0
    patient = {name: body for name, body in written(output).items() if name.startswith("Patient")}
    before = study(output)
    report = tmp_path / "report.json"
    given = ("--profile", "ips", "--report", str(report))
    assert convert(note(tmp_path / "b", 1, 2), output, *given) == 0
    left = study(output)
    assert "series" not in left
    assert (left["status"], left["numberOfSeries"], left["numberOfInstances"]) == (
        "cancelled",
        0,
        0,
    )
    for kept in ("id", "identifier", "subject", "started", "meta"):
        assert left[kept] == before[kept]
    assert patient.items() <= written(output).items()
    assert json.loads(report.read_bytes())["counts"]["findings"]["rejection-note"] == 1
    assert convert(images(tmp_path / "c", 5), output, "--profile", "ips") == 0
    assert (study(output)["status"], listed(output)) == ("available", ["2.999.1.1.5"])


def test_a_series_that_is_only_counted_goes_when_nothing_of_it_is_left(tmp_path):
    output = tmp_path / "out"
    assert convert(images(tmp_path / "a", 1, 2), output, "--instances", "none") == 0
    note(tmp_path / "a", 1, 2)
    assert convert(tmp_path / "a", output, "--instances", "none") == 0
    assert "series" not in study(output)


def test_a_note_of_another_patient_changes_nothing(tmp_path):
    output = tmp_path / "out"
    assert convert(images(tmp_path / "a", 1, 2), output) == 0
    before = written(output)
    assert convert(note(tmp_path / "b", 1, 2, PatientID="P2"), output) == 1
    assert written(output) == before


def test_at_a_server_a_note_of_a_later_run_empties_the_study_and_a_note_alone_begins_none(tmp_path):
    with Stub() as stub:
        given = ("-q", "--to", stub.base, "--state", str(tmp_path / "s.db"))
        report = tmp_path / "report.json"
        told = ("--report", str(report))
        only = note(tmp_path / "only", 1, StudyInstanceUID="2.999.7")
        assert run(["convert", str(only), *given, *told]) == 0
        assert (stub.ids("Patient"), stub.studies()) == ([], [])
        assert json.loads(report.read_bytes())["counts"]["held"] == {"rejected": 1}
        assert run(["convert", str(images(tmp_path / "a", 1, 2)), *given]) == 0
        assert stub.studies()[0]["numberOfInstances"] == 2
        assert run(["convert", str(note(tmp_path / "b", 2)), *given]) == 0
        assert stub.studies()[0]["numberOfInstances"] == 1
        assert run(["convert", str(note(tmp_path / "c", 1, number=2)), *given, *told]) == 0
        (left,) = stub.studies()
        assert (left["status"], "series" in left) == ("cancelled", False)
        assert run(["convert", str(images(tmp_path / "d", 1, 2)), *given]) == 0
        assert stub.studies() == [left]


def test_bundles_are_made_without_what_is_rejected(tmp_path):
    images(tmp_path / "a", 1, 2)
    note(tmp_path / "a", 1, 2)
    target = tmp_path / "out.ndjson"
    assert convert(tmp_path / "a", target, "--format", "ndjson") == 0
    assert not target.exists() or target.read_bytes() == b""


def test_what_is_rejected_is_explained(tmp_path, capsys):
    images(tmp_path / "a", 1, 2)
    note(tmp_path / "a", 2)
    assert run(["explain", str(tmp_path / "a"), "ImagingStudy.series.instance"]) == 0
    said = capsys.readouterr().out
    assert "rejected-safety by the note 2.999.1.9.1, instances: 1" in said


def test_a_site_may_list_what_was_rejected_for_quality_reasons(tmp_path):
    config = tmp_path / "dcm2fhir.toml"
    config.write_text('[site.rejection_notes]\nquality = "ignore"\n')
    output = tmp_path / "out"
    images(tmp_path / "a", 1, 2)
    note(tmp_path / "a", 1, title="113001")
    note(tmp_path / "a", 2, title="113037", number=2)
    assert convert(tmp_path / "a", output, "--config", str(config)) == 0
    assert listed(output) == ["2.999.1.1.1", "2.999.1.9.1"]
    config.write_text('[site.rejection_notes]\nquality = "sometimes"\n')
    assert convert(tmp_path / "a", output, "--config", str(config)) == 3
