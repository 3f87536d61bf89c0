"""``dcm2fhir dead``: listed with what may be said, shown with what to do, replayed and dropped."""

from __future__ import annotations

import json
import re
from contextlib import closing

import pytest

from converter.cli.main import run
from converter.store.place import Lock
from tests.servers.stub import Fault, Stub, outcome


@pytest.fixture
def refused(tmp_path, monkeypatch, make_dicom):
    """Two studies that a server refused."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    (tmp_path / "in").mkdir()
    for n in range(2):
        (tmp_path / "in" / f"{n}.dcm").write_bytes(make_dicom(f"1.2.3.{n}"))
    with Stub() as stub:
        said = outcome("value", "words", expression=["ImagingStudy.status"])
        stub.fault = lambda asked: Fault(422, {}, said) if asked.method == "PUT" and asked.kind == "ImagingStudy" else None  # fmt: skip
        assert run(["convert", "in", "--to", stub.base, "-q"]) == 1
        yield stub


def test_list_tells_study_reason_and_answer(refused, capsys):
    capsys.readouterr()
    assert run(["dead", "list"]) == 0
    told = capsys.readouterr()
    assert "1.2.3.0" in told.out
    assert "HTTP 422; to PUT ImagingStudy; error value at ImagingStudy.status" in told.out
    assert "words" not in told.out
    assert "convert.db" in told.err


def test_list_as_json(refused, capsys):
    capsys.readouterr()
    run(["dead", "list", "--format", "json"])
    letters = json.loads(capsys.readouterr().out)
    assert [letter["study_instance_uid"] for letter in letters] == ["1.2.3.0", "1.2.3.1"]
    assert letters[0]["reason"] == "refused"
    assert letters[0]["since"].endswith("Z")


def test_show_says_what_it_means_and_what_to_do(refused, capsys):
    capsys.readouterr()
    assert run(["dead", "show", "1.2.3.1"]) == 0
    out = capsys.readouterr().out
    assert "what to do" in out
    assert "replay" in out
    assert run(["dead", "show", "1.2.99"]) == 2
    assert "no dead letter of study 1.2.99" in capsys.readouterr().err


def test_replay_after_the_fix_delivers(refused, capsys):
    refused.fault = lambda asked: None
    assert run(["send", "-q"]) == 0
    assert refused.ids() == []
    assert run(["dead", "replay", "1.2.3.0"]) == 0
    assert "queued again: 1" in capsys.readouterr().out
    assert run(["send", "-q"]) == 0
    assert len(refused.ids()) == 1
    assert run(["dead", "replay", "--all"]) == 0
    assert run(["send", "-q"]) == 0
    assert len(refused.ids()) == 2


def test_replay_says_who_delivers(refused, tmp_path, capsys):
    def said(*given):
        capsys.readouterr()
        assert run(["dead", "replay", "1.2.3.0", *given]) == 0
        return capsys.readouterr().out

    assert said().endswith("deliver them with: dcm2fhir send\n")
    (tmp_path / "home" / "dcm2fhir" / "convert.db").rename(tmp_path / "mine.db")
    assert run(["send", "-q", "--state", "mine.db"]) == 1
    assert said("--state", "mine.db").endswith("dcm2fhir send --state mine.db\n")
    assert run(["send", "-q", "--state", "mine.db"]) == 1
    with closing(Lock(tmp_path / "mine.db.lock")) as lock:
        assert lock.take()
        assert "the daemon that holds the state delivers them" in said("--state", "mine.db")


def test_drop_gives_up(refused, capsys):
    assert run(["dead", "drop", "1.2.3.0", "--to", refused.base]) == 0
    assert run(["dead", "drop", "--all"]) == 0
    capsys.readouterr()
    run(["dead", "list", "--format", "json"])
    assert json.loads(capsys.readouterr().out) == []
    refused.fault = lambda asked: None
    assert run(["send", "-q"]) == 0
    assert refused.ids() == []


def test_drop_gives_up_what_waits_for_a_server_that_is_no_more(refused, capsys):
    """Else each `send` ends with 6 for ever, and nothing can be done about it."""
    assert run(["dead", "replay", "--all"]) == 0
    assert run(["dead", "drop", "--all", "--to", refused.base]) == 0
    refused.fault = lambda asked: Fault(503)
    assert run(["send", "-q", "--deliver-timeout", "1s"]) == 6
    assert run(["dead", "drop", "--all", "--waiting"]) == 2
    assert run(["dead", "drop", "--all", "--waiting", "--to", "main"]) == 2
    capsys.readouterr()
    assert run(["dead", "drop", "--all", "--waiting", "--to", refused.base]) == 0
    assert re.fullmatch(r"dropped: [1-9]\n", capsys.readouterr().out)
    assert run(["send", "-q"]) == 0
    assert refused.ids() == []


@pytest.mark.parametrize("command", ["replay", "drop"])
@pytest.mark.parametrize("given", [[], ["1.2.3.0", "--all"]])
def test_which_ones_must_be_said(refused, command, given):
    assert run(["dead", command, *given]) == 2


def test_the_daemons_state_comes_first(refused, tmp_path, capsys):
    from converter.store import open_kept

    open_kept(tmp_path / "home" / "dcm2fhir" / "listen.db").close()
    capsys.readouterr()
    assert run(["dead", "list"]) == 0
    assert "listen.db" in capsys.readouterr().err


def test_the_state_of_the_configuration_is_the_daemons(refused, tmp_path, capsys):
    (tmp_path / "home" / "dcm2fhir" / "convert.db").rename(tmp_path / "mine.db")
    (tmp_path / "mine.toml").write_text('[listen]\nstate = "mine.db"\n')
    capsys.readouterr()
    assert run(["dead", "list", "--config", "mine.toml"]) == 0
    assert "1.2.3.0" in capsys.readouterr().out


def test_without_a_daemon_the_state_of_the_configuration_is_that_of_convert(
    refused, tmp_path, capsys
):
    """Where `send` with the same configuration looks as well."""
    (tmp_path / "home" / "dcm2fhir" / "convert.db").rename(tmp_path / "mine.db")
    (tmp_path / "mine.toml").write_text('[convert]\nstate = "mine.db"\n')
    assert run(["send", "-q", "--config", "mine.toml"]) == 0
    capsys.readouterr()
    assert run(["dead", "list", "--config", "mine.toml"]) == 0
    assert "1.2.3.0" in capsys.readouterr().out


def test_without_a_state_there_is_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert run(["dead", "list"]) == 0
    assert "nothing was refused" in capsys.readouterr().err


def test_studies_list_says_the_same(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert run(["studies", "list"]) == 0
    assert "nothing was received" in capsys.readouterr().err
    assert run(["studies", "list", "--state", str(tmp_path / "none.db")]) == 3
    assert run(["studies", "show", "1.2.3"]) == 3
