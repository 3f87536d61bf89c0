"""Rejection notes and exclusions in the daemon, sent by dcmtk: before, after, again, in the folder and at a server."""

from __future__ import annotations

import pytest

from converter.cli.main import run
from tests.notes import images, note
from tests.servers.stub import Stub


def listed(study):
    return [i["uid"] for s in study.get("series", []) for i in s["instance"]]


KEPT = ["2.999.1.1.1", "2.999.1.1.3"]


@pytest.fixture
def send(dcmtk):
    def send_folder(running, folder):
        dcmtk("storescu", "-xe", "+sd", "127.0.0.1", running.port, folder)

    return send_folder


def written(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*.json")}


@pytest.fixture(params=["file", "server"])
def start(request, daemon, tmp_path):
    """Start a daemon with its state in a file, and with it on a PostgreSQL server."""

    def make(*options):
        if request.param == "file":
            return daemon(*options)
        url = request.getfixturevalue("postgres").url()
        running = daemon("--state", url, "--journal", str(tmp_path / "journal"), *options)
        running.state = url
        return running

    return make


def settled(running, state="published"):
    running.until(lambda: running.metric(f'studies{{state="{state}"}}') == 1)


@pytest.fixture
def stub():
    with Stub() as server:
        yield server


@pytest.mark.parametrize("order", [("both",), ("note", "images"), ("images", "note")])
def test_the_order_in_which_a_note_comes_changes_nothing(daemon, send, tmp_path, order):
    images(tmp_path / "images", 1, 2, 3)
    note(tmp_path / "note", 2)
    note(images(tmp_path / "both", 1, 2, 3), 2)
    assert run(["convert", str(tmp_path / "both"), "-o", str(tmp_path / "batch"), "-q"]) == 0
    running = daemon()
    for part in order:
        send(running, tmp_path / part)
        settled(running, "excluded" if part == "note" and part == order[0] else "published")
    running.until(lambda: written(running.out) == written(tmp_path / "batch"))
    assert [listed(study) for study in running.resources()] == [KEPT]
    shown = running.studies("show", "2.999.1")
    assert "2.999.1.9.1 (113037, instances here: 1)" in shown
    assert "rejected by it\t2.999.1.1.2" in shown
    send(running, images(tmp_path / "again", 2))
    running.until(lambda: running.metric('instances_total{kind="same"}') == 1)
    send(running, images(tmp_path / "changed", 2, StudyDescription="Again"))
    running.until(lambda: running.metric('instances_total{kind="changed"}') == 1)
    settled(running)
    assert written(running.out) == written(tmp_path / "batch")
    running.end()


def test_a_note_alone_publishes_nothing_and_a_note_over_all_empties_the_study(
    start, send, tmp_path, stub
):
    running = start("--to", stub.base, "--profile", "ips", "--patient", "resource")
    send(running, note(tmp_path / "other", 1, StudyInstanceUID="2.999.7"))
    settled(running, "excluded")
    assert not running.resources()
    send(running, images(tmp_path / "images", 1, 2))
    running.until(lambda: stub.studies() and listed(stub.studies()[0]))
    send(running, note(tmp_path / "note", 1, 2))
    for studies in (running.resources, stub.studies):
        running.until(lambda studies=studies: studies()[0]["numberOfInstances"] == 0)
        (left,) = studies()
        assert "series" not in left
        assert left["status"] == "cancelled"
        assert left["meta"]["profile"]
    send(running, images(tmp_path / "new", 3))
    for studies in (running.resources, stub.studies):
        running.until(lambda studies=studies: listed(studies()[0]) == ["2.999.1.1.3"])
        assert studies()[0]["status"] == "available"
    running.end()


def test_an_excluded_study_is_taken_back_and_comes_back(start, send, tmp_path, stub):
    running = start("--to", stub.base)
    send(running, images(tmp_path / "a", 1, 2))
    running.until(lambda: stub.studies() and listed(stub.studies()[0]))
    settled(running)
    (before,) = running.resources()
    running.studies("exclude", "2.999.1")
    settled(running, "excluded")
    for studies in (running.resources, stub.studies):
        running.until(lambda studies=studies: studies()[0]["status"] == "cancelled")
        assert listed(studies()[0]) == []
    send(running, images(tmp_path / "b", 3))
    running.until(lambda: running.metric('instances_total{kind="new"}') == 3)
    assert listed(running.resources()[0]) == []
    running.studies("include", "2.999.1")
    expected = ["2.999.1.1.1", "2.999.1.1.2", "2.999.1.1.3"]
    for studies in (running.resources, stub.studies):
        running.until(lambda studies=studies: listed(studies()[0]) == expected)
        assert studies()[0]["status"] == "available"
    assert running.resources()[0]["id"] == before["id"]
    running.end()


def test_what_came_again_for_another_patient_goes_when_the_study_is_resolved(
    daemon, send, tmp_path, stub
):
    running = daemon("--to", stub.base)
    send(running, images(tmp_path / "a", 1, 2, 3))
    running.until(lambda: stub.studies() and listed(stub.studies()[0]))
    settled(running)
    send(running, images(tmp_path / "b", 2, PatientID="P2"))
    settled(running, "conflict")
    assert len(listed(running.resources()[0])) == 3, "what is published stays as it is"
    running.studies("resolve", "2.999.1", "--patient", "P1")
    for studies in (running.resources, stub.studies):
        running.until(lambda studies=studies: listed(studies()[0]) == KEPT)
    running.end()


def test_resolving_to_the_other_patient_replaces_what_was_published_of_the_first(
    start, send, tmp_path, stub
):
    config = tmp_path / "dcm2fhir.toml"
    config.write_text('[site.patient]\nsystem = "https://hospital.example/mrn"\n')
    running = start("--to", stub.base, "--config", str(config))
    send(running, images(tmp_path / "a", 1, 2))
    running.until(lambda: stub.studies() and listed(stub.studies()[0]))
    settled(running)
    (before,) = running.resources()
    send(running, images(tmp_path / "b", 3, PatientID="P2", PatientName="Other^Person"))
    settled(running, "conflict")
    running.studies("resolve", "2.999.1", "--patient", "P2")
    for studies in (running.resources, stub.studies):
        running.until(lambda studies=studies: listed(studies()[0]) == ["2.999.1.1.3"])
        (study,) = studies()
        assert study["subject"]["identifier"]["value"] == "P2"
        assert (study["id"], study["status"]) == (before["id"], "available")
    running.studies("republish", "2.999.1")
    settled(running)
    running.studies("resolve", "2.999.1", "--patient", "P1")
    for studies in (running.resources, stub.studies):
        running.until(lambda studies=studies: len(listed(studies()[0])) == 2)
        assert studies()[0]["subject"] == before["subject"]
    running.end()


def test_a_purge_keeps_notes(start, send, tmp_path):
    running = start()
    images(tmp_path / "a", 1, 2)
    send(running, note(tmp_path / "a", 2))
    settled(running)
    assert "purged: 1 studies, 2 instances" in running.studies("purge", "--older-than", "0s")
    assert "purged: 0 studies, 0 instances" in running.studies("purge", "--older-than", "0s")
    send(running, images(tmp_path / "b", 2, 3, StudyDescription="Again"))
    running.until(lambda: listed(running.resources()[0]) == KEPT)
    running.end()


def row(running):
    """(state, reason) of the one study, as `studies list` says."""
    (line,) = [x for x in running.studies("list").splitlines() if x.startswith("2.999.1\t")]
    return line.split("\t")[1], line.split("\t")[5]


@pytest.mark.parametrize("out", [True, False], ids=["folder", "server"])
def test_notes_that_leave_nothing_say_so_wherever_it_is_published(
    daemon, send, tmp_path, stub, out
):
    running = daemon(*(() if out else ("--to", stub.base)), out=out)
    studies = running.resources if out else stub.studies
    send(running, images(tmp_path / "images", 1, 2))
    running.until(studies)
    send(running, note(tmp_path / "note", 1, 2))
    running.until(lambda: studies()[0]["status"] == "cancelled")
    settled(running, "excluded")
    assert row(running) == ("excluded", "rejected")
    running.end()


def test_a_note_of_another_patient_is_not_shown_to_reject_anything(daemon, send, tmp_path):
    running = daemon()
    send(running, images(tmp_path / "images", 1, 2))
    settled(running)
    send(running, note(tmp_path / "note", 1, PatientID="P2"))
    settled(running, "conflict")
    shown = running.studies("show", "2.999.1")
    assert "2.999.1.9.1 (113037, instances here: 0)" in shown
    assert "rejected by it" not in shown
    running.end()
