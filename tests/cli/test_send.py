"""``convert --to`` and ``send``: exit codes, what is said to go on, what is kept, and nothing of a patient."""

from __future__ import annotations

import json
import os
import socket
import stat

import pytest

from converter.cli.main import run
from tests.servers.stub import Fault, Stub, outcome

SITE = '[site.patient]\nsystem = "https://hospital.example/mrn"\n'
CANARY = "CANARYFAMILY"


@pytest.fixture
def stub():
    with Stub() as server:
        yield server


@pytest.fixture
def folder(tmp_path, monkeypatch, make_dicom):
    """Three studies of two patients, a site's configuration, and a state folder of this test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    (tmp_path / "dcm2fhir.toml").write_text(SITE)
    (tmp_path / "in").mkdir()
    for n in range(3):
        data = make_dicom(f"1.2.3.{n}", patient=f"CANARYID{n // 2}", name=f"{CANARY}^Robin")
        (tmp_path / "in" / f"{n}.dcm").write_bytes(data)
    return tmp_path


def away():
    """A base URL that nobody answers at."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{bound.getsockname()[1]}/fhir"


def refuse(kind="ImagingStudy", status=422):
    said = outcome("invalid", f"{CANARY}^Robin CANARYID0", expression=[f"{kind}.status"])
    return lambda asked: Fault(status, {}, said) if asked.method == "PUT" and asked.kind == kind else None  # fmt: skip


def test_studies_and_patients_stand_and_the_state_is_kept(stub, folder, capsys):
    assert run(["convert", "in", "--to", stub.base]) == 0
    assert len(stub.ids()) == 3
    assert len(stub.ids("Patient")) == 2
    assert "delivered 3 studies" in capsys.readouterr().err
    state = folder / "home" / "dcm2fhir" / "convert.db"
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    assert stat.S_IMODE(state.parent.stat().st_mode) == 0o700


def test_files_and_server_are_both_served(stub, folder):
    assert run(["convert", "in", "-o", "out", "--to", stub.base, "-q"]) == 0
    assert len(list((folder / "out" / "ImagingStudy").iterdir())) == len(stub.ids()) == 3


def test_a_second_run_writes_nothing(stub, folder, capsys):
    run(["convert", "in", "--to", stub.base, "-q"])
    writes = len(stub.requests("PUT"))
    assert run(["convert", "in", "--to", stub.base]) == 0
    assert len(stub.requests("PUT")) == writes
    assert "3 of them stood there as they are" in capsys.readouterr().err


def test_a_run_is_about_its_own_inputs(stub, folder, make_dicom, capsys):
    run(["convert", "in", "--to", stub.base, "-q"])
    (folder / "more").mkdir()
    (folder / "more" / "x.dcm").write_bytes(make_dicom("1.2.4", patient="CANARYID9"))
    asked = len(stub.log)
    assert run(["convert", "more", "-o", "out", "--to", stub.base, "--report", "r.json"]) == 0
    report = json.loads((folder / "r.json").read_bytes())
    assert [study["study_instance_uid"] for study in report["studies"]] == ["1.2.4"]
    assert report["counts"]["studies"] == 1
    assert len(list((folder / "out" / "ImagingStudy").iterdir())) == 1
    assert len(stub.ids()) == 4
    assert not [a for a in stub.log[asked:] if "1.2.3" in str(a.query)]


def test_a_late_object_of_a_known_study_adds_to_it(stub, folder, make_dicom):
    run(["convert", "in", "--to", stub.base, "-q"])
    (folder / "late").mkdir()
    data = make_dicom("1.2.3.0", sop="1.2.3.0.1.9", patient="CANARYID0", name=f"{CANARY}^Robin")
    (folder / "late" / "x.dcm").write_bytes(data)
    assert run(["convert", "late", "--to", stub.base, "-q"]) == 0
    held = [s for s in stub.studies() if s["identifier"][0]["value"] == "urn:oid:1.2.3.0"]
    assert [s["numberOfInstances"] for s in held] == [2]


def test_a_server_that_is_away_is_exit_6_with_the_line_to_go_on(folder, capsys):
    server = Stub().start()
    server.stop()
    base = server.base
    assert (
        run(["convert", "in", "--to", base, "--deliver-timeout", "1s", "--report", "r.json"]) == 6
    )
    told = capsys.readouterr().err
    assert "dcm2fhir send" in told
    assert "convert.db" in told
    assert f"3 studies waiting for {base}: nobody answers" in told
    report = json.loads((folder / "r.json").read_bytes())
    assert {study["state"] for study in report["studies"]} == {"queued"}
    assert report["exit_code"] == 6
    assert run(["send", "--deliver-timeout", "500ms"]) == 6
    with server.start(server._port):
        assert run(["send", "--deliver-timeout", "60s"]) == 0
        assert len(server.ids()) == 3
    assert run(["dead", "list"]) == 0


def test_a_named_state_stands_in_the_line_to_go_on(folder, capsys):
    assert run(["convert", "in", "--to", away(), "--deliver-timeout", "0s", "--state", "a b.db"]) == 6  # fmt: skip
    assert "dcm2fhir send --state 'a b.db'" in capsys.readouterr().err


@pytest.mark.parametrize("again", [["send"], ["convert", "in"]])
def test_what_a_killed_process_held_goes_on_at_once(stub, folder, again):
    from converter.store import open_beside

    stub.fault = lambda asked: Fault(403, {}, outcome("forbidden", "x"))
    assert run(["convert", "in", "--to", stub.base, "--state", "s.db", "-q"]) == 6
    stub.fault = lambda asked: None
    held = open_beside(folder / "s.db")
    assert len(held.outbox.claim(stub.base, 9, 1e12, 1e12 + 600)) == 3
    held.close()
    assert (
        run([*again, "--to", stub.base, "--state", "s.db", "-q", "--deliver-timeout", "20s"]) == 0
    )
    assert len(stub.ids()) == 3


def test_a_circuit_ends_the_run_at_once_and_says_what_to_look_at(stub, folder, capsys):
    stub.fault = lambda asked: Fault(403, {}, outcome("forbidden", "x"))
    assert run(["convert", "in", "--to", stub.base]) == 6
    assert "HTTP 403" in capsys.readouterr().err
    stub.fault = lambda asked: None
    assert run(["send", "-q"]) == 0
    assert len(stub.ids()) == 3


def test_a_refusal_is_exit_1_and_the_others_are_delivered(stub, folder, capsys):
    from converter.core.ids import study_id

    bad = f"ImagingStudy/{study_id('1.2.3.1')}"
    stub.fault = lambda asked: refuse()(asked) if asked.path == bad else None
    assert run(["convert", "in", "--to", stub.base, "--report", "r.json"]) == 1
    told = capsys.readouterr().err
    assert "not delivered, refused: 1 study" in told
    assert "dcm2fhir dead list" in told
    report = json.loads((folder / "r.json").read_bytes())
    states = {study["study_instance_uid"]: study["state"] for study in report["studies"]}
    assert states == {"1.2.3.0": "published", "1.2.3.1": "dead", "1.2.3.2": "published"}
    assert report["counts"]["held"] == {"refused": 1}


def test_what_is_held_is_not_sent(stub, folder, make_dicom):
    for n, patient in enumerate(("A", "B")):
        data = make_dicom("1.2.9", sop=f"1.2.9.1.{n}", patient=patient)
        (folder / "in" / f"two-{n}.dcm").write_bytes(data)
    assert run(["convert", "in", "--to", stub.base, "-q"]) == 1
    assert len(stub.ids()) == 3


def test_send_does_as_the_run_was_told(stub, folder):
    ips = "http://hl7.org/fhir/uv/ips/StructureDefinition/ImagingStudy-uv-ips"
    stub.fault = lambda asked: Fault(403, {}, outcome("forbidden", "x"))
    assert run(["convert", "in", "--to", stub.base, "--profile", "ips", "-q"]) == 6
    stub.fault = lambda asked: None
    assert run(["send", "-q"]) == 0
    assert {tuple(study["meta"]["profile"]) for study in stub.studies()} == {(ips,)}


def test_destinations_have_names_profiles_and_credentials(stub, folder, monkeypatch):
    monkeypatch.setenv("DCM2FHIR_DESTINATIONS__MAIN__TOKEN", "hunter2")
    (folder / "dcm2fhir.toml").write_text(
        f'{SITE}[destinations.main]\nurl = "{stub.base}"\nprofile = ["uk-core"]\nauth = "bearer"\n'
    )
    assert run(["convert", "in", "--to", "main", "-q"]) == 0
    (profile,) = {tuple(study["meta"]["profile"]) for study in stub.studies()}
    assert profile == ("https://fhir.hl7.org.uk/StructureDefinition/UKCore-ImagingStudy",)
    assert {a.headers.get("authorization") for a in stub.log} == {"Bearer hunter2"}


def test_a_destination_that_is_gone_is_parked_and_told(stub, folder, capsys):
    named = f'[destinations.main]\nurl = "{away()}"\n'
    (folder / "dcm2fhir.toml").write_text(SITE + named)
    assert run(["convert", "in", "--to", "main", "--deliver-timeout", "0s", "-q"]) == 6
    (folder / "dcm2fhir.toml").write_text(SITE)
    assert run(["send"]) == 6
    assert "parked: main" in capsys.readouterr().err
    assert run(["send", "--to", f"{stub.base}/typo"]) == 2
    assert "nothing was ever queued for it; this state has main" in capsys.readouterr().err
    (folder / "dcm2fhir.toml").write_text(f'{SITE}[destinations.main]\nurl = "{stub.base}"\n')
    assert run(["send", "-q", "--to", "main"]) == 0
    assert len(stub.ids()) == 3


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["--to", "mian"], 3, "no [destinations.mian]"),
        (["--to", "http://fhir.example/r4"], 3, "--allow-http"),
        (["--to", "https://user:hunter2@fhir.example/r4"], 3, "password_file"),
        (["--to", "https://x.example", "--deliver-timeout", "soon"], 2, "90s"),
        (["--to", "https://x.example", "--patient-lookup", "maybe"], 2, "hold"),
        ([], 2, "--to URL"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_read(folder, capsys, options, code, told):
    assert run(["convert", "in", *options]) == code
    err = capsys.readouterr().err
    assert told in err
    assert "hunter2" not in err
    assert not (folder / "home").exists()


def test_a_dry_run_sends_nothing(stub, folder):
    assert run(["convert", "in", "--to", stub.base, "--dry-run", "-q"]) == 0
    assert stub.log == []


def test_send_without_a_state_has_nothing_to_do(folder, capsys):
    assert run(["send"]) == 0
    assert "nothing is queued" in capsys.readouterr().err
    assert run(["send", "--state", "nowhere.db"]) == 7


def test_send_beside_a_run_is_refused(stub, folder, capsys):
    from converter.store import open_kept

    run(["convert", "in", "--to", stub.base, "--state", "s.db", "-q"])
    held = open_kept(folder / "s.db")
    try:
        assert run(["send", "--state", "s.db"]) == 7
        assert "A run uses this state file" in capsys.readouterr().err
    finally:
        held.close()


def test_a_second_half_that_was_interrupted_is_sent_later(stub, folder, capsys):
    killed = []

    def stop(asked):
        if asked.method == "PUT" and asked.kind == "ImagingStudy" and not killed:
            killed.append(os.kill(os.getpid(), 15))
            return Fault(503)
        return None

    stub.fault = stop
    assert run(["convert", "in", "--to", stub.base]) == 130
    assert "dcm2fhir send" in capsys.readouterr().err
    assert len(stub.ids()) < 3
    stub.fault = lambda asked: None
    assert run(["send", "-q"]) == 0
    assert len(stub.ids()) == 3


@pytest.mark.parametrize("status", [422, 400, 500])
def test_nothing_of_a_patient_in_logs_errors_dead_letters_or_reports(stub, folder, capsys, status):
    """Row 33 for delivery: a server that quotes what it was sent, with everything said that can be said."""
    stub.fault = refuse(status=status)
    code = run(["convert", "in", "--to", stub.base, "-vv", "--report", "r.json", "--deliver-timeout", "1s"])  # fmt: skip
    assert code == (6 if status == 500 else 1)
    run(["send", "-vv", "--log-format", "json", "--deliver-timeout", "0s"])
    run(["dead", "list"])
    run(["dead", "list", "--format", "json"])
    for n in range(3):
        run(["dead", "show", f"1.2.3.{n}"])
    told = capsys.readouterr()
    everything = told.out + told.err + (folder / "r.json").read_text()
    assert "CANARY" not in everything
    import sqlite3

    with sqlite3.connect(folder / "home" / "dcm2fhir" / "convert.db") as db:
        kept = db.execute("SELECT * FROM outbox").fetchall() + db.execute("SELECT * FROM destination").fetchall()  # fmt: skip
    assert "CANARY" not in str(kept)
