"""``--state postgresql://...``: convert, send, dead and studies, and two runs beside each other into one FHIR server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from converter.cli.main import run
from tests.servers.stub import Fault, Stub, outcome

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def url(postgres):
    return postgres.url()


@pytest.fixture
def folder(tmp_path, monkeypatch, make_dicom):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    for n in range(3):
        path = tmp_path / "in" / f"{n}.dcm"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(make_dicom(f"1.2.3.{n}"))
    return tmp_path


def test_what_a_run_could_not_deliver_is_sent_later(url, folder, capsys):
    with Stub(lambda asked: Fault(503) if asked.method == "PUT" else None) as stub:
        given = ["--state", url, "--deliver-timeout", "1s"]
        assert run(["convert", "in", "--to", stub.base, *given]) == 6
        assert f"dcm2fhir send --state '{url}'" in capsys.readouterr().err
        assert run(["convert", "in", "--state", url, "-o", "out", "-q"]) == 0
        assert len(list((folder / "out" / "ImagingStudy").iterdir())) == 3
        stub.fault = lambda asked: None
        assert run(["send", "--state", url]) == 0
        assert len(stub.ids()) == 3


def test_dead_letters_are_there_for_everybody(url, folder, capsys):
    said = outcome("invalid", "no")
    with Stub(lambda asked: Fault(422, {}, said) if asked.kind == "ImagingStudy" and asked.method == "PUT" else None) as stub:  # fmt: skip
        assert run(["convert", "in", "--to", stub.base, "--state", url]) == 1
        capsys.readouterr()
        assert run(["dead", "list", "--state", url]) == 0
        listed = capsys.readouterr()
        assert listed.out.count("1.2.3.") == 3
        assert "state: postgresql://" in listed.err
        stub.fault = lambda asked: None
        assert run(["dead", "replay", "--all", "--state", url]) == 0
        assert run(["send", "--state", url]) == 0
        assert len(stub.ids()) == 3


def test_studies_of_a_server_and_how_to_copy_them(url, folder, capsys):
    assert run(["studies", "list", "--state", url]) == 0
    assert run(["studies", "backup", "copy.db", "--state", url]) == 7
    assert "pg_dump" in capsys.readouterr().err
    assert not (folder / "copy.db").exists()


def test_a_server_that_is_away_is_told_apart_from_damage(folder, capsys):
    away = "postgresql://me@127.0.0.1:1/none"
    for command in (["studies", "list"], ["dead", "list"], ["convert", "in", "-o", "out"]):
        assert run([*command, "--state", away]) == 7
        assert "PostgreSQL server cannot be reached" in capsys.readouterr().err
    assert run(["convert", "in", "-o", "other", "--state", "postgresql://me:secret@db/x"]) == 3
    assert "secret" not in capsys.readouterr().err


@pytest.mark.parametrize("apart", [0.0, 0.25, 0.55])  # one is converting when the other adds
def test_two_runs_beside_each_other_deliver_every_instance_once(url, tmp_path, make_dicom, apart):
    studies = [f"1.2.3.{n}" for n in range(12)]
    for host in range(2):
        folder = tmp_path / f"in{host}"
        folder.mkdir()
        for study in studies:
            for n in range(5):
                number = 2 * n + host
                data = make_dicom(study, sop=f"{study}.1.{number}", number=str(number))
                (folder / f"{study}-{number}").write_bytes(data)
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "home")}
    with Stub() as stub:
        both = [
            subprocess.Popen(
                [
                    "sh", "-c", f'sleep {apart * host}; exec "$@"', "sh",
                    sys.executable, "-m", "converter", "convert", str(tmp_path / f"in{host}"),
                    "--to", stub.base, "--state", url, "-j", "1",
                ],
                stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment,
            )
            for host in range(2)
        ]  # fmt: skip
        for process in both:
            _, said = process.communicate(timeout=120)
            assert process.returncode == 0, said
        found = stub.studies()
        assert sorted(s["numberOfInstances"] for s in found) == [10] * 12
        assert len(stub.ids("Patient")) == len({s["subject"]["reference"] for s in found})
