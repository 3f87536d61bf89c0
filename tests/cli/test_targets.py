"""What a run must not replace, and what it would find out too late."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from converter import pipeline
from converter import report as summaries
from converter.cli.main import run

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "testdata" / "dicom" / "demo"
SCHEMA = json.loads((ROOT / "docs" / "report.schema.json").read_text())


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(DEMO, tmp_path / "in")
    return tmp_path


@pytest.fixture
def image():
    return next(path for path in sorted(Path("in").rglob("*.dcm")))


def convert(*arguments):
    return run(["convert", *map(str, arguments)])


@pytest.mark.parametrize(
    "options",
    [
        ["--format", "ndjson", "-o", "{image}"],
        ["--format", "bundle", "-o", "{image}"],
        ["-o", "out", "--report", "{image}"],
        ["-o", "out", "--state", "{image}"],
    ],
)
@pytest.mark.parametrize("source", ["in", "{image}", "other"])
def test_no_dicom_is_replaced_by_what_is_made_of_it(options, source, image, capsys):
    shutil.copytree("in", "other")
    before = image.read_bytes()
    given = [text.format(image=image) for text in (source, *options)]
    assert convert(*given) == 2
    assert image.read_bytes() == before
    assert not Path("out").exists()
    assert "would replace" in capsys.readouterr().err


def test_an_input_that_is_no_dicom_is_not_replaced_either(capsys):
    shutil.make_archive("all", "zip", "in")
    before = Path("all.zip").read_bytes()
    assert convert("all.zip", "--format", "bundle", "-o", "./all.zip") == 2
    assert Path("all.zip").read_bytes() == before
    assert "--output names an input" in capsys.readouterr().err


def test_two_outputs_are_two_files(capsys):
    assert convert("in", "--format", "bundle", "-o", "b.json", "--report", "./b.json") == 2
    assert "--output and --report name one file" in capsys.readouterr().err
    assert not Path("b.json").exists()


def test_a_report_that_cannot_be_written_is_told_before_anything_is_read(capsys):
    for name, code, word in (("in", 2, "names a folder"), ("no/where/r.json", 7, "no folder")):
        assert convert("in", "-o", "out", "--report", name) == code
        assert word in capsys.readouterr().err
        assert not Path("out").exists()


def test_an_address_of_dask_without_a_port_is_refused_at_once(capsys):
    options = ("--engine", "dask", "--engine-address", "127.0.0.1")
    assert convert("in", "-o", "out", *options) == 2
    assert "tcp://HOST:8786" in capsys.readouterr().err


def test_what_stood_there_of_a_run_is_replaced():
    for _ in range(2):
        assert convert("in", "--format", "bundle", "-o", "b.json", "--report", "r.json") == 0
    assert Path("b.json").stat().st_size > 1000


def test_the_summary_is_printed_where_the_report_cannot_be(capsys):
    assert convert("in", "-o", "out", "--report", "/dev/full") == 7
    err = capsys.readouterr().err
    assert "Studies" in err
    assert "/dev/full" in err


@pytest.mark.parametrize(
    "options",
    [
        ["-o", "in/fhir", "--report", "in/report.json", "--state", "in/run.db"],
        ["-o", "in"],
        ["-o", "in", "--format", "ndjson"],
        ["-o", "in/fhir", "--format", "bundle"],
        ["-o", "in/all.ndjson", "--format", "ndjson"],
    ],
    ids=" ".join,
)
def test_what_a_run_writes_among_its_inputs_is_none_of_the_next(options):
    for _ in range(2):
        assert convert("in", "--report", "report.json", *options) == 0
        report = "in/report.json" if "in/report.json" in options else "report.json"
        counts = json.loads(Path(report).read_bytes())["counts"]
        assert (counts["files"], counts["skipped"]) == (len(list(DEMO.rglob("*.dcm"))), {})


@pytest.mark.parametrize("form", ["json", "ndjson", "bundle"])
def test_a_run_that_is_refused_leaves_no_lock(form, capsys):
    Path("bad.db").write_text("no database")
    assert convert("in", "-o", "out", "--format", form, "--state", "bad.db") == 7
    assert "bad.db is damaged" in capsys.readouterr().err
    assert list(Path("out").iterdir()) == []


def test_a_run_that_this_machine_ends_leaves_a_report_that_says_so(capsys):
    """In the place of an older one, which would tell of another run; another try takes all of its inputs."""
    assert convert("in", "-o", "out", "--report", "r.json") == 0
    assert json.loads(Path("r.json").read_bytes())["ended"] == "done"
    full = ["-o", "/dev/full", "--format", "ndjson"]
    assert convert("in", *full, "--report", "r.json") == 7
    report = json.loads(Path("r.json").read_bytes())
    assert (report["ended"], report["exit_code"]) == ("failed", 7)
    assert report["counts"]["files"] == len(list(DEMO.rglob("*.dcm")))
    assert "No space left for /dev/full" in report["error"]
    assert convert("--retry-from", "r.json", "-o", "again") == 0
    assert len(list(Path("again").rglob("*.json"))) == 6


def broken(*_arguments, **_options):
    raise KeyError("a value that nobody is to see")


def stopped(*_arguments, **_options):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("arguments", "instead", "ended", "code"),
    [
        (["nowhere"], None, "failed", 2),
        (["--from-file", "list"], None, "failed", 2),
        (["in", "--mappings", "nowhere"], None, "failed", 3),
        (["in"], broken, "failed", 70),
        (["in"], stopped, "interrupted", 130),
    ],
    ids=["no input", "a list with NUL", "configuration", "a fault of ours", "interrupted early"],
)
def test_whatever_ends_a_run_no_report_of_the_night_before_stays(
    arguments, instead, ended, code, monkeypatch
):
    assert convert("in", "-o", "out", "--report", "r.json") == 0
    Path("list").write_bytes(b"in\0")
    if instead is not None:
        monkeypatch.setattr(pipeline, "run", instead)
    assert convert(*arguments, "-o", "out", "--report", "r.json") == code
    report = json.loads(Path("r.json").read_bytes())
    assert not list(Draft202012Validator(SCHEMA).iter_errors(report))
    assert (report["ended"], report["exit_code"]) == (ended, code)
    assert "nobody is to see" not in json.dumps(report)


def test_a_report_that_was_written_stays_when_what_comes_after_it_fails(monkeypatch):
    monkeypatch.setattr(summaries, "summary", broken)
    assert convert("in", "-o", "out", "--report", "r.json") == 70
    assert json.loads(Path("r.json").read_bytes())["ended"] == "done"


def test_the_cause_for_which_there_is_no_report_is_said_once(capsys):
    assert convert("in", "-o", "out", "--report", "/dev/full") == 7
    err = capsys.readouterr().err
    assert err.count("No space left") == 1
    assert err.count("there is no report of this run") == 1


def test_an_output_that_cannot_be_made_is_in_the_report_too(capsys):
    Path("file").touch()
    assert convert("in", "-o", "file/out", "--report", "r.json") == 7
    assert json.loads(Path("r.json").read_bytes())["ended"] == "failed"
    assert "no report" not in capsys.readouterr().err
    assert convert("in", "-o", "file/out", "--report", "/dev/full") == 7
    assert "there is no report of this run" in capsys.readouterr().err


def test_the_folder_of_a_state_is_made_as_doctor_says(capsys):
    options = ["-o", "out", "--state", "not/there/run.db"]
    assert run(["doctor", "convert", *options]) == 0
    assert "made when first used" in capsys.readouterr().out
    assert convert("in", *options) == 0
    assert Path("not/there").stat().st_mode & 0o777 == 0o700
