"""``dcm2fhir studies``: whom an operator means."""

from __future__ import annotations

import pytest

from converter.cli.main import run
from converter.cli.studies import _label, _meant


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


def test_two_that_are_shown_alike_are_not_told_apart_by_chance():
    known = [("A|X", "Y", 1), ("A", "X|Y", 1)]
    assert len(_meant("A|X|Y", known)) == 2
