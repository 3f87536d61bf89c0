"""``dcm2fhir demo``: a first look, offline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from converter.cli.main import run


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def test_it_shows_a_summary_and_one_resource_that_claims_both_profiles(
    capsys, tmp_path, monkeypatch
):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert run(["demo"]) == 0
    out, err = capsys.readouterr()
    resource = json.loads(out)
    assert resource["resourceType"] == "ImagingStudy"
    assert len(resource["meta"]["profile"]) == 2
    assert "Profiles met" in err


def test_it_leaves_nothing_behind_unless_a_folder_is_given(tmp_path):
    assert run(["demo"]) == 0
    assert list(tmp_path.iterdir()) == []
    assert run(["demo", "fhir"]) == 0
    assert len(list(Path("fhir").rglob("*.json"))) == 6


def test_it_does_not_need_the_configuration_of_the_place_it_runs_in(tmp_path):
    (tmp_path / "dcm2fhir.toml").write_text("[convert]\nformat = 'ndjson'")
    assert run(["demo", "fhir"]) == 0
    assert len(list(Path("fhir").rglob("*.json"))) == 6
