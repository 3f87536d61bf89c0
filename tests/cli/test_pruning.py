"""``dcm2fhir convert --prune``: what is said of it, and what stands afterwards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from converter.cli.main import run

ROOT = Path(__file__).resolve().parent.parent.parent
DEMO = ROOT / "testdata" / "dicom" / "demo"
SCHEMA = json.loads((ROOT / "docs" / "report.schema.json").read_text())
KNEE = "2.999.1.2"


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(DEMO, "in")


def convert(*arguments, output="-oout"):
    given = ("in", output, "--state", "s.db", "--report", "r.json", "-j1", *arguments)
    return run(["convert", *given])


def reported():
    held = json.loads(Path("r.json").read_bytes())
    assert not list(Draft202012Validator(SCHEMA).iter_errors(held))
    return {name: held[name] for name in ("pruned", "gone", "not_pruned")}


def standing():
    """Study UID to status and instances of what stands in the output."""
    found = [json.loads(path.read_bytes()) for path in Path("out/ImagingStudy").iterdir()]
    return {
        one["identifier"][0]["value"].removeprefix("urn:oid:"): (
            one["status"],
            one["numberOfInstances"],
            "series" in one,
        )
        for one in found
    }


def test_a_study_of_which_nothing_is_left_is_emptied_cancelled_and_named(capsys):
    assert convert() == 0
    whole = standing()
    shutil.move("in/mr-knee", "aside")
    assert convert() == 0
    assert standing() == whole
    assert convert("--prune") == 0
    assert reported() == {"pruned": [KNEE], "gone": [KNEE], "not_pruned": None}
    assert f"nothing is left: {KNEE}" in capsys.readouterr().err
    assert standing() == {**whole, KNEE: ("cancelled", 0, False)}
    assert convert("--prune") == 0
    assert reported()["gone"] == []
    shutil.move("aside", "in/mr-knee")
    assert convert("--prune") == 0
    assert standing() == whole, "it came again"


def test_what_never_stood_in_the_output_is_not_written_to_be_cancelled():
    assert convert() == 0
    shutil.rmtree("in/mr-knee")
    assert convert("--prune", output="-oelsewhere") == 0
    assert len(list(Path("elsewhere/ImagingStudy").iterdir())) == 2


@pytest.mark.parametrize("more", [(), ("-q",), ("--log-format", "json")], ids=str)
def test_an_input_that_is_empty_now_prunes_nothing_and_says_so(more, capsys):
    assert convert("-q") == 0
    whole = standing()
    shutil.rmtree("in")
    Path("in").mkdir()
    assert convert("--prune", *more) == 1
    assert capsys.readouterr().err.count("--prune took nothing away") == 1
    assert reported() == {
        "pruned": [],
        "gone": [],
        "not_pruned": {"path": None, "reason": "nothing-there"},
    }
    assert standing() == whole


def test_verbose_names_what_could_not_be_looked_at_and_redacts_it_where_asked(capsys):
    Path("in/scans.zip").write_bytes(b"PK\3\4 that breaks off")
    assert convert("-q") == 1
    Path("in/scans.zip").write_bytes(b"PK\3\4 that breaks off again")
    assert convert("--prune", "-v") == 1
    assert reported()["not_pruned"]["path"].endswith("in/scans.zip")
    assert "not pruned, unreadable-archive: " in capsys.readouterr().err
    Path("in/scans.zip").write_bytes(b"PK\3\4 that breaks off once more")
    assert convert("--prune", "-v", "--redact-paths") == 1
    assert reported()["not_pruned"]["path"].startswith("sha256:")
    assert "scans.zip" not in capsys.readouterr().err
