from __future__ import annotations

import io
import json
import os
import stat
import tracemalloc
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest
from jsonschema import Draft202012Validator
from rich.console import Console

from converter.core.issues import Issue
from converter.errors import ConfigurationError, SinkError
from converter.report import FailedRun, RunLike, report, retry_inputs, summary, write_report
from converter.sources import printable

SCHEMA = json.loads((Path(__file__).parents[1] / "docs" / "report.schema.json").read_text())
UK = "https://fhir.hl7.org.uk/StructureDefinition/UKCore-ImagingStudy"


class Study(NamedTuple):
    study_instance_uid: str = "1.2.840.99999.1"
    resource: str = "ImagingStudy/5f3c2b5e-3f8d-5a55-9b57-2a5d0a4d1c11"
    profiles: tuple = (UK,)
    state: str = "published"
    reason: str = ""
    issues: tuple = (
        Issue("warning", "partial-date", "Patient.birthDate", "PatientBirthDate", "Of a year only.", ("1.2.3.4", "Doe_Ann/1.dcm"), 2),
    )  # fmt: skip
    series: int = 2
    instances: int = 3


class Skipped(NamedTuple):
    path: str
    reason: str = "truncated-header"
    detail: str = ""


@dataclass
class Run:
    inputs: tuple = ()
    found: list = field(default_factory=lambda: [Study()])
    left_out: list = field(default_factory=list)
    interrupted: bool = False
    outputs: tuple = ("ImagingStudy/",)
    pruned: tuple = ()
    gone: tuple = ()
    unpruned: Skipped | None = None
    counts: dict = field(default_factory=lambda: {"files": 4, "instances": 3, "series": 2, "studies": 1})  # fmt: skip
    resources: dict = field(default_factory=lambda: {"ImagingStudy": 1, "Patient": 1})
    skipped_counts: dict = field(default_factory=lambda: {"truncated-header": 1200})
    held_counts: dict = field(default_factory=lambda: {"patient-conflict": 1})
    issue_counts: dict = field(default_factory=lambda: {"partial-date": 2})
    profiles_asked: tuple = (UK,)
    profiles_met: dict = field(default_factory=lambda: {UK: 1})

    def studies(self):
        return iter(self.found)

    def skipped(self):
        return iter(self.left_out)


def as_json(run, **options):
    options.setdefault("exit_code", 0)
    return json.loads(b"".join(report(run, **options)))


def faults(document):
    return [e.message for e in Draft202012Validator(SCHEMA).iter_errors(document)]


@pytest.mark.parametrize(
    "run",
    [
        Run(),
        Run(found=[], left_out=[]),
        Run(left_out=[Skipped("a.dcm"), Skipped("b.zip!/c", "encrypted-member", "x")]),
        Run(found=[Study(state="conflict", resource="", reason="patient-conflict", profiles=(), issues=()), Study()]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("redact", [False, True])
def test_report_keeps_to_its_schema(run, redact):
    Draft202012Validator.check_schema(SCHEMA)
    document = as_json(run, redact=redact, exit_code=1)
    assert faults(document) == []
    assert document["exit_code"] == 1
    assert len(document["studies"]) == len(run.found)


@pytest.mark.parametrize(
    ("run", "error", "ended"),
    [
        (Run(), "", "done"),
        (Run(interrupted=True), "", "interrupted"),
        (FailedRun(("/in",), {"files": 3}), "No space left for Doe_Ann.", "failed"),
    ],
)
@pytest.mark.parametrize("redact", [False, True])
def test_report_says_how_the_run_ended(run, error, ended, redact):
    document = as_json(run, exit_code=7, error=error, redact=redact)
    assert faults(document) == []
    assert document["ended"] == ended
    assert document["error"] == (error if error and not redact else None)


def test_schema_refuses_what_is_not_promised():
    document = as_json(Run())
    assert faults({**document, "patient": "x"})
    document["studies"][0]["state"] = "lost"
    assert faults(document)


def test_report_tells_findings_and_counts():
    document = as_json(Run(left_out=[Skipped("sub/a.dcm", detail="It ends early.")]))
    assert document["counts"]["skipped"] == {"truncated-header": 1200}
    assert document["counts"]["findings"] == {"partial-date": 2}
    assert document["profiles"] == {"asked": [UK], "met": {UK: 1}}
    assert document["skipped"] == [
        {"path": "sub/a.dcm", "reason": "truncated-header", "detail": "It ends early."}
    ]
    (finding,) = document["studies"][0]["findings"]
    assert finding["code"] == "partial-date"
    assert finding["examples"] == ["1.2.3.4", "Doe_Ann/1.dcm"]


def test_redacted_report_shows_no_path(tmp_path):
    run = Run(inputs=(str(tmp_path / "Doe_Ann"),), left_out=[Skipped("Doe_Ann/1.dcm")])
    text = json.dumps(as_json(run, redact=True))
    assert "Doe" not in text
    assert "1.2.3.4" in text
    assert as_json(run, redact=True) == as_json(run, redact=True)


def test_file_name_that_is_no_utf_8_is_still_json():
    name = os.fsdecode(b"M\xfcller.dcm")
    assert as_json(Run(left_out=[Skipped(name)]))["skipped"][0]["path"] == "M\\xfcller.dcm"
    assert as_json(Run(left_out=[Skipped(name)]), redact=True)["skipped"][0]["path"].startswith("sha256:")  # fmt: skip


def test_report_is_private_and_takes_the_place_of_an_older_one(tmp_path):
    path = tmp_path / "report.json"
    path.write_text("old")
    path.chmod(0o644)
    write_report(str(path), Run(), exit_code=0)
    assert json.loads(path.read_text())["tool"] == "dcm2fhir"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_report_that_fails_half_way_leaves_the_older_one(tmp_path):
    path = tmp_path / "report.json"
    path.write_text("old")

    class Broken(Run):
        def studies(self):
            yield Study()
            raise RuntimeError("store")

    with pytest.raises(RuntimeError):
        write_report(str(path), Broken(), exit_code=0)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_report_to_a_full_device_or_below_a_file_says_so(tmp_path):
    with pytest.raises(SinkError, match="No space"):
        write_report("/dev/full", Run(found=[Study()] * 200), exit_code=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError):
        write_report(str(tmp_path / "file" / "report.json"), Run(), exit_code=0)


def test_memory_does_not_grow_with_the_number_of_entries():
    class Many(Run):
        def studies(self):
            return (Study() for _ in range(5_000))

        def skipped(self):
            return (Skipped(f"{n}.dcm") for n in range(20_000))

    tracemalloc.start()
    size = sum(len(piece) for piece in report(Many(), exit_code=0))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size > 2_000_000
    assert peak < 300_000


def retried(tmp_path, run, **options):
    path = tmp_path / "report.json"
    write_report(str(path), run, exit_code=1, **options)
    return retry_inputs(path)


def test_retry_takes_failures_and_leaves_what_fails_nothing(tmp_path):
    folder, other = tmp_path / "in", tmp_path / "other"
    (folder / "sub").mkdir(parents=True)
    other.mkdir()
    for file in (folder / "sub" / "a.dcm", folder / "b.zip", other / "c.dcm"):
        file.write_bytes(b"x")
    run = Run(
        inputs=(str(folder), str(other / "c.dcm")),
        left_out=[
            Skipped("sub/a.dcm"),
            Skipped("b.zip!/x", "unreadable-member"),
            Skipped("b.zip!/y", "unreadable-member"),
            Skipped("c.dcm", "read-error"),
            Skipped("notes.txt", "not-dicom"),
            Skipped("sub/d.dcm", "duplicate"),
        ],
    )
    expected = [folder / "b.zip", folder / "sub" / "a.dcm", other / "c.dcm"]
    assert retried(tmp_path, run) == sorted(map(str, expected))


def test_retry_finds_files_beside_a_dicomdir_and_names_those_that_have_gone(tmp_path):
    (tmp_path / "IM1").write_bytes(b"x")
    (tmp_path / "DICOMDIR").write_bytes(b"x")
    run = Run(inputs=(str(tmp_path / "DICOMDIR"),), left_out=[Skipped("IM1"), Skipped("gone")])
    assert retried(tmp_path, run) == [str(tmp_path / "IM1"), str(tmp_path / "gone")]


def test_retry_of_a_failed_study_takes_all_inputs(tmp_path):
    run = Run(inputs=(str(tmp_path),), found=[Study(state="failed", reason="study-failed")])
    assert retried(tmp_path, run) == [str(tmp_path)]


def test_retry_of_a_run_without_failures_is_empty(tmp_path):
    assert retried(tmp_path, Run(inputs=(str(tmp_path),))) == []


def test_retry_works_from_another_working_folder(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.dcm").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    write_report("report.json", Run(inputs=("in",), left_out=[Skipped("a.dcm")]), exit_code=1)
    monkeypatch.chdir("/")
    assert retry_inputs(tmp_path / "report.json") == [str(tmp_path / "in" / "a.dcm")]


def test_retry_finds_names_that_are_no_utf8(tmp_path):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/f\xe9")
    Path(folder).mkdir()
    names = [os.fsdecode(b"\xff\xfe.dcm"), "\\xe9 as text", "plain"]
    for name in names:
        Path(folder, name).write_bytes(b"x")
    run = Run(inputs=(folder,), left_out=[Skipped(printable(name)) for name in names])
    assert retried(tmp_path, run) == sorted(f"{folder}/{name}" for name in names)
    run = Run(inputs=(folder,), found=[Study(state="failed", reason="study-failed")])
    assert retried(tmp_path, run) == [folder]


def test_retry_finds_what_lies_in_a_folder_named_as_an_archive_is_shown(tmp_path):
    (tmp_path / "in!").mkdir()
    (tmp_path / "in!" / "a.zip").touch()
    (tmp_path / "in!" / "b.dcm").touch()
    failed = [Skipped("in!/a.zip!/c!/d"), Skipped("in!/b.dcm"), Skipped("gone.zip!/d")]
    expected = [f"{tmp_path}/{name}" for name in ("gone.zip", "in!/a.zip", "in!/b.dcm")]
    run = Run(inputs=(str(tmp_path),), left_out=failed)
    assert retried(tmp_path, run) == expected
    run = Run(left_out=[Skipped(f"{tmp_path}/{item.path}") for item in failed])
    assert retried(tmp_path, run) == expected


@pytest.mark.parametrize(
    ("inputs", "failed", "expected"),
    [
        ((), ["s3://b/x", "s3://b/a.zip!/m"], ["s3://b/a.zip", "s3://b/x"]),
        (("s3://b/p/",), ["x", "a.zip!/m"], ["s3://b/p/a.zip", "s3://b/p/x"]),
        (("http://h/1", "http://h/2.zip"), ["2.zip!/m"], ["http://h/2.zip"]),
        (("s3://a", "s3://b"), ["x"], ["s3://a", "s3://b"]),
    ],
)
def test_retry_of_objects_in_a_store(tmp_path, inputs, failed, expected):
    run = Run(inputs=inputs, left_out=[Skipped(name) for name in failed])
    assert retried(tmp_path, run) == expected


def test_retry_of_paths_beside_a_store(tmp_path):
    (tmp_path / "x").touch()
    run = Run(inputs=(str(tmp_path), "s3://b"), left_out=[Skipped("x"), Skipped("y")])
    assert retried(tmp_path, run) == [str(tmp_path / "x"), "s3://b/y"]


def test_retry_of_a_signed_address_of_a_list_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="signed"):
        retried(tmp_path, Run(left_out=[Skipped("https://h/x?hidden-00")]))


def test_retry_of_a_list_of_paths(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"x")
    run = Run(left_out=[Skipped(str(tmp_path / "a.dcm"))])
    assert retried(tmp_path, run) == [str(tmp_path / "a.dcm")]
    with pytest.raises(ConfigurationError, match="--from-file"):
        retried(tmp_path, Run(found=[Study(state="failed", reason="study-failed")]))


def test_retry_refuses_what_it_cannot_use(tmp_path):
    run = Run(inputs=(str(tmp_path),), left_out=[Skipped("a.dcm")])
    with pytest.raises(ConfigurationError, match="redact-paths"):
        retried(tmp_path, run, redact=True)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        retry_inputs(tmp_path / "none.json")
    for content in ("", "{}", '{"name": "CANARY', "\xff"):
        (tmp_path / "bad.json").write_text(content, "latin-1")
        with pytest.raises(ConfigurationError, match="no report") as caught:
            retry_inputs(tmp_path / "bad.json")
        assert "CANARY" not in str(caught.value)
    document = as_json(Run())
    (tmp_path / "new.json").write_text(json.dumps({**document, "report_version": 2}))
    with pytest.raises(ConfigurationError, match="newer"):
        retry_inputs(tmp_path / "new.json")


def shown(run, **options):
    console = Console(file=io.StringIO(), width=160)
    summary(run, console, **{"exit_code": 0, **options})
    return console.file.getvalue()


def test_summary_says_what_was_done_what_was_left_out_and_why():
    text = shown(Run())
    for expected in ("Studies", "1,200", "truncated-header: The file ends", "patient-conflict: ", "partial-date: ", f"of 1: {UK}"):  # fmt: skip
        assert expected in text
    assert "Exit code" not in text


def test_summary_says_how_to_go_on():
    text = shown(Run(interrupted=True), exit_code=130, advice="Run it again.")
    assert "Interrupted; what was done stays. Run it again." in text
    assert "Exit code 1." in shown(Run(), exit_code=1)


def test_summary_takes_no_markup_from_outside():
    assert "[red]odd[/red]" in shown(Run(skipped_counts={"[red]odd[/red]": 1}))


def test_a_pipeline_result_is_what_a_report_needs():
    from converter.pipeline.result import RunResult

    needed = set(RunLike.__annotations__) | {"studies", "skipped"}
    made = set(dir(RunResult)) | set(RunResult.__init__.__code__.co_names)
    assert needed <= made


def test_summary_outside_a_terminal_has_no_blanks_at_the_ends_of_lines():
    lines = shown(Run()).splitlines()
    assert len(lines) > 5
    assert all(line == line.rstrip() for line in lines)
