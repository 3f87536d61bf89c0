"""``dcm2fhir studies``: whom an operator means."""

from __future__ import annotations

from contextlib import closing

import pytest

from converter.cli.main import run
from converter.cli.studies import _label, _meant
from converter.listener.desk import Desk
from converter.listener.record import Received


@pytest.mark.parametrize("command", ["studies", "dead"])
def test_where_no_state_is_it_is_said_where_one_was_looked_for(
    command, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert run([command, "list"]) == 0
    said = capsys.readouterr().err
    assert f"no state is kept yet in {tmp_path}/dcm2fhir" in said
    assert "/var/lib/dcm2fhir/listen.db: name it" in said


@pytest.mark.parametrize(
    "patients",
    [
        [("A", ""), ("B|X", "")],
        [("B|X", ""), ("B", "X")],
        [("B|X", ""), ("B|X", "LIS")],
        [("|", ""), ("|X", ""), ("||", "Y|")],
        [("A", ""), ("A", "X"), ("A", "1.2|3")],
    ],
)
def test_what_show_prints_of_a_patient_names_that_patient(patients):
    known = [(patient, issuer, 1) for patient, issuer in patients]
    for patient, issuer in patients:
        ((meant, of),) = _meant(_label(patient, issuer), known)
        assert (meant, of or "") == (patient, issuer)


def test_a_patient_may_be_named_without_an_issuer_and_with_its_universal_one():
    known = [("B|X", "", 1), ("A", "X", 2)]
    assert _meant("B|X", known) == {("B|X", None)}
    assert _meant("A", known) == {("A", None)}
    assert _meant("A | 1.2.3", known) == {("A", "1.2.3")}
    assert _meant("C", known) == set()


def test_a_patient_may_be_named_as_it_was_printed():
    """What turns text round is not printed, and blanks in a row are one."""
    known = [("12\u200e34", "", 1), ("A  B", "", 1), ("A B", "", 1)]
    assert _meant("1234", known) == {("12\u200e34", None)}
    assert _meant("A  B", known) == {("A  B", None)}
    assert _meant("A B", known) == {("A B", None)}
    assert len(_meant("A   B", known)) == 2


@pytest.fixture
def state(tmp_path):
    """A state with one study of one patient, which is published."""
    header = {0x00100020: b"P1"}
    with closing(Desk(tmp_path / "listen.db")) as ledger:
        one = Received(1, 1, "CT1", "1.2.3", "1.2.3.1", "1.2.3.1.1", [], header)
        ledger.ingest([(1, one)], 100.0)
        for uid, revision in ledger.settle(["1.2.3"]).items():
            ledger.published(uid, revision, "published", "", "id", [])
    return tmp_path / "listen.db"


def test_what_changes_nothing_says_so_and_is_no_revision(state, capsys):
    at = ["--state", str(state)]
    assert run(["studies", "resolve", "1.2.3", "--patient", "P1", *at]) == 0
    assert "waits for nobody: nothing changed" in capsys.readouterr().err
    assert run(["studies", "include", "1.2.3", *at]) == 0
    assert "it was not excluded: nothing changed" in capsys.readouterr().err
    assert run(["studies", "resolve", "1.2.3", "--patient", "P2", *at]) == 2
    with closing(Desk(state)) as ledger:
        assert ledger.study("1.2.3").revision == 1


def test_a_backup_into_a_folder_that_is_not_there_blames_that_folder(state, tmp_path, capsys):
    target = tmp_path / "gone" / "copy.db"
    assert run(["studies", "backup", str(target), "--state", str(state)]) == 2
    assert f"{target.parent}: there is no such folder" in capsys.readouterr().err


def test_two_that_are_shown_alike_are_not_told_apart_by_chance():
    known = [("A|X", "Y", 1), ("A", "X|Y", 1)]
    assert len(_meant("A|X|Y", known)) == 2
