"""``dcm2fhir convert``: what its options mean, end to end, on the demo's DICOM."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
import tarfile
import zipfile
from codecs import BOM_UTF8
from pathlib import Path

import pytest

from converter.cli.main import run

ROOT = Path(__file__).resolve().parent.parent.parent
DEMO = ROOT / "testdata" / "dicom" / "demo"


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def convert(*arguments):
    return run(["convert", *map(str, arguments), "-j", "1"])


def resources(folder):
    return {
        path.relative_to(folder).as_posix(): json.loads(path.read_bytes())
        for path in Path(folder).rglob("*.json")
    }


def kinds(folder):
    return sorted(resource["resourceType"] for resource in resources(folder).values())


def test_a_folder_becomes_one_file_a_resource(tmp_path, capsys):
    assert convert(DEMO, "-o", "out") == 0
    assert kinds("out") == ["ImagingStudy"] * 3 + ["Patient"] * 3
    for name, resource in resources("out").items():
        assert name == f"{resource['resourceType']}/{resource['id']}.json"
        assert (tmp_path / "out" / name).stat().st_mode & 0o777 == 0o600
    out, err = capsys.readouterr()
    assert out == ""
    assert "studies" in err.lower()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([DEMO], "-o OUT"),
        (["-o", "out"], "Name what to convert"),
        ([DEMO, "-o", "out", "-0"], "--from-file"),
        ([DEMO, "-o", "out", "--prune"], "--state"),
        (["--retry-from", "r", "-o", "out", "--state", "s", "--prune"], "taken for gone"),
        ([DEMO, "-o", "out", "--bundle-type", "batch"], "--format bundle"),
        ([DEMO, "-o", "out", "--max-file-size", "1MiB"], "--format ndjson"),
        ([DEMO, "-o", "out", "--max-file-size", "1XB"], "no size"),
        ([DEMO, "-o", "out", "--instances", "some"], "neither 'all' nor 'none'"),
        ([DEMO, "-o", "out", "--instances", "0"], "neither 'all' nor 'none'"),
        ([DEMO, "-o", "out", "--timezone", "Europe/Londn"], "IANA"),
        ([DEMO, "-o", "out", "--retry-from", "report.json"], "name no others"),
        (["nowhere", "-o", "out"], "no such file"),
        (["--from-file", "nowhere", "-o", "out"], "nowhere"),
        (["", "-o", "out"], "empty"),
        ([DEMO, "", "-o", "out"], "empty"),
        (["file://", "-o", "out"], "empty"),
        ([DEMO, "-o", "out", "--modality", ""], "--modality is empty"),
        ([DEMO, "-o", "out", "--study-uid", "1.2", "--study-uid", ""], "--study-uid is empty"),
        ([DEMO, "-o", "out", "--include", ""], "--include is empty"),
        ([DEMO, "-o", "out", "--study-uid", "1.2.x"], "digits and dots"),
        ([DEMO, "-o", "out", "--report", ""], "--report names a file"),
        ([DEMO, "-o", "out", "--report", "-"], "--report names a file"),
        ([DEMO, "-o", "out", "--state", ""], "--state names a file"),
    ],
    ids=lambda value: " ".join(str(part) for part in value[-3:]) if isinstance(value, list) else "",
)
def test_wrong_use_says_what_to_do_and_makes_nothing(arguments, said, capsys, tmp_path):
    assert convert(*arguments) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_profile_is_exit_3_and_names_the_nearest(capsys):
    assert convert(DEMO, "-o", "out", "--profile", "uk-cor") == 3
    assert "did you mean uk-core?" in capsys.readouterr().err
    assert not Path("out").exists()


def test_no_dicom_at_all_is_exit_4(tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("hello")
    assert convert("text", "--dry-run") == 4


def test_a_broken_file_is_exit_1_and_the_others_are_converted(tmp_path):
    shutil.copytree(DEMO / "mr-knee", tmp_path / "in")
    (tmp_path / "in" / "empty.dcm").touch()
    assert convert("in", "-o", "out") == 1
    assert kinds("out") == ["ImagingStudy", "Patient"]


def test_an_input_without_permission_is_told_and_the_others_are_converted(tmp_path, monkeypatch):
    closed, open_ = str(tmp_path / "closed.dcm"), os.open
    shutil.copy(DEMO / "us-abdomen" / "1.dcm", closed)

    def refuse(path, *arguments, **options):
        if path == closed:
            raise PermissionError(13, "no")
        return open_(path, *arguments, **options)

    # whoever runs the tests may read everything
    monkeypatch.setattr(os, "access", lambda path, *_, **__: path != "closed.dcm")
    monkeypatch.setattr(os, "open", refuse)
    assert convert("closed.dcm", DEMO / "mr-knee", "-o", "out", "--report", "report.json") == 1
    skipped = json.loads(Path("report.json").read_bytes())["skipped"]
    assert [(item["path"], item["reason"]) for item in skipped] == [
        ("closed.dcm", "permission-denied")
    ]
    assert kinds("out") == ["ImagingStudy", "Patient"]


def test_dry_run_writes_nothing_but_the_report(tmp_path):
    assert convert(DEMO, "--dry-run", "-o", "out", "--report", "report.json") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    assert json.loads(Path("report.json").read_bytes())["counts"]["studies"] == 3


@pytest.mark.parametrize("options", [["--format", "ndjson"], ["--format", "json"]])
def test_standard_output_is_ndjson(options, capfdbinary):
    assert convert(DEMO, "-o", "-", "-q", *options) == 0
    out, err = capfdbinary.readouterr()
    assert (
        sorted(json.loads(line)["resourceType"] for line in out.splitlines())
        == ["ImagingStudy"] * 3 + ["Patient"] * 3
    )
    assert err == b""


def test_bundles_have_their_type_and_at_most_so_many_entries(tmp_path):
    assert (
        convert(
            DEMO,
            "-o",
            "out",
            "--format",
            "bundle",
            "--bundle-type",
            "batch",
            "--max-bundle-entries",
            "2",
        )
        == 0
    )
    bundles = list(resources("out").values())
    assert {bundle["type"] for bundle in bundles} == {"batch"}
    assert sum(len(bundle["entry"]) for bundle in bundles) == 6
    assert len(bundles) >= 3


@pytest.mark.parametrize("output", ["-", "all.json"])
def test_one_file_with_a_limit_of_entries_is_wrong_use_before_anything_is_read(
    tmp_path, capsys, output
):
    options = ("--format", "bundle", "--max-bundle-entries", "2")
    assert convert(DEMO, "-o", output, *options) == 2
    assert "--max-bundle-entries needs a folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_two_runs_into_ndjson_folders_are_the_same_bytes_and_validate_takes_the_folder(capsys):
    held = []
    for name in ("a", "b"):
        assert convert(DEMO, "-o", name, "--format", "ndjson") == 0
        held.append({path.name: path.read_bytes() for path in Path(name).iterdir()})
    assert held[0] == held[1]
    assert "manifest.json" in held[0]
    capsys.readouterr()
    assert run(["validate", "a"]) == 0
    out, err = capsys.readouterr()
    assert "manifest.json" not in out
    assert err.startswith("6 checked; 6 conform")


def test_bundle_entries_put_by_id_or_create_where_none_is(capfdbinary):
    requests = {}
    for method in ("put", "create"):
        assert convert(DEMO, "-o", "-", "--format", "bundle", "--bundle-method", method) == 0
        bundle = json.loads(capfdbinary.readouterr().out)
        studies = [e for e in bundle["entry"] if e["resource"]["resourceType"] == "ImagingStudy"]
        requests[method] = studies[0]["request"], studies[0]["fullUrl"]
    request, full_url = requests["put"]
    identity = full_url.removeprefix("urn:uuid:")
    assert request == {"method": "PUT", "url": f"ImagingStudy/{identity}"}
    request, _ = requests["create"]
    assert request["method"] == "POST"
    assert request["ifNoneExist"].startswith("identifier=urn:dicom:uid|urn:oid:")


@pytest.mark.parametrize("kind", ["batch", "collection"])
def test_only_a_transaction_creates_and_never_puts_instead(capsys, kind):
    options = ("--format", "bundle", "--bundle-type", kind, "--bundle-method", "create")
    assert convert(DEMO, "-o", "-", *options) == 2
    assert "needs --bundle-type transaction" in capsys.readouterr().err


def test_ndjson_begins_a_new_file_beyond_a_size():
    assert convert(DEMO, "-o", "out", "--format", "ndjson", "--max-file-size", "1kB") == 0
    assert len(list(Path("out").glob("ImagingStudy.*.ndjson"))) == 3


@pytest.mark.parametrize(("separator", "flag"), [(b"\n", []), (b"\0", ["-0"])])
def test_a_list_of_paths(separator, flag, tmp_path):
    (tmp_path / "list").write_bytes(
        separator.join(os.fsencode(path) for path in sorted(DEMO.rglob("*.dcm"))[:3])
    )
    assert convert("--from-file", "list", *flag, "-o", "out") == 0
    assert kinds("out") == ["ImagingStudy", "Patient"]


def test_a_byte_order_mark_is_no_part_of_the_first_path(tmp_path):
    (tmp_path / "list").write_bytes(BOM_UTF8 + os.fsencode(DEMO / "us-abdomen") + b"\r\n")
    assert convert("--from-file", "list", "-o", "out") == 0


def test_names_are_read_whatever_the_locale(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(DEMO / "us-abdomen" / "1.dcm", "\u65e5\u672c.dcm")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(DEMO / "us-abdomen" / "2.dcm", "\u65e5\u672c.dcm")
    (tmp_path / "\u65e5.dcm").touch()
    run = [sys.executable, "-m", "converter", "convert", "-o", "out"]
    locale = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for inputs, more, files in (
        ([str(tmp_path)], ["--report", "r.json"], 3),
        (["--retry-from", "r.json"], ["--report", "s.json"], 1),
    ):
        done = subprocess.run(
            [*run, *inputs, *more], env={**os.environ, **locale, "PYTHONPATH": str(ROOT)}, check=False, capture_output=True,
        )  # fmt: skip
        assert done.returncode == 1, done.stderr
        report = json.loads(Path(more[1]).read_text("utf-8"))
        assert report["counts"]["files"] == files
        assert report["counts"]["skipped"] == {"empty": 1}


def test_a_list_of_paths_from_standard_input(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "converter", "convert", "--from-file", "-", "-o", "out"],
        input=os.fsencode(DEMO / "us-abdomen"), env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert kinds("out") == ["ImagingStudy", "Patient"]


@pytest.mark.parametrize(
    ("options", "studies"),
    [
        (["--modality", "mr"], 1),
        (["--modality", "MR", "--modality", "US"], 2),
        (["--study-uid", "2.999.1.3"], 1),
        (["--include", "*/1.dcm"], 1),
        (["--include", "1.dcm"], 1),
        (["--exclude", "ct-chest/*"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_filters_are_counted(options, studies):
    assert convert(DEMO, "--dry-run", "--report", "report.json", *options) == 0
    counts = json.loads(Path("report.json").read_bytes())["counts"]
    assert counts["studies"] == studies
    assert counts["skipped"]["filtered"] > 0


def test_the_subject_as_asked_for():
    for choice in ("resource", "reference", "logical", "contained"):
        assert convert(DEMO / "us-abdomen", "-o", choice, "--patient", choice) == 0
    assert kinds("resource") == ["ImagingStudy", "Patient"]
    for choice in ("reference", "logical", "contained"):
        assert kinds(choice) == ["ImagingStudy"]
    subjects = {
        choice: next(iter(resources(choice).values()))["subject"]
        for choice in ("reference", "logical", "contained")
    }
    assert subjects["reference"]["reference"].startswith("Patient/")
    assert "reference" not in subjects["logical"]
    assert subjects["contained"]["reference"] == "#patient"


def test_instances_none_lists_none():
    assert convert(DEMO / "us-abdomen", "-o", "out", "--instances", "none") == 0
    study = next(
        resource
        for resource in resources("out").values()
        if resource["resourceType"] == "ImagingStudy"
    )
    assert all("instance" not in series for series in study["series"])
    assert study["numberOfInstances"] == 2


def test_a_zone_gives_times_an_offset():
    assert convert(DEMO / "ct-chest", "-o", "out", "--timezone", "Europe/London") == 0
    study = next(
        resource
        for resource in resources("out").values()
        if resource["resourceType"] == "ImagingStudy"
    )
    assert study["started"][-6:] in {"+00:00", "+01:00"}


def test_the_environment_and_the_file_are_obeyed(tmp_path, monkeypatch):
    (tmp_path / "dcm2fhir.toml").write_text("[convert]\noutput = 'there'\npatient = 'contained'")
    monkeypatch.setenv("DCM2FHIR_CONVERT__PATIENT", "reference")
    assert convert(DEMO / "us-abdomen") == 0
    assert kinds("there") == ["ImagingStudy"]
    assert "contained" not in next(iter(resources("there").values()))


def test_workers_change_no_byte(tmp_path):
    assert run(["convert", str(DEMO), "-o", "one", "-j", "1"]) == 0
    with zipfile.ZipFile("scans.zip", "w") as archive:
        for path in sorted(DEMO.rglob("*.dcm"), reverse=True):
            archive.write(path, path.relative_to(DEMO))
    assert run(["convert", "scans.zip", "-o", "two", "-j", "2"]) == 0
    assert resources("one") == resources("two")


def test_a_kept_state_is_kept(tmp_path):
    assert convert(DEMO, "-o", "out", "--state", "run.db") == 0
    assert Path("run.db").stat().st_mode & 0o777 == 0o600
    assert convert(DEMO, "-o", "out", "--state", "run.db") == 0


def test_retry_reads_only_what_failed(tmp_path):
    shutil.copytree(DEMO / "mr-knee", tmp_path / "in")
    broken = tmp_path / "in" / "broken.dcm"
    broken.touch()
    assert convert("in", "-o", "out", "--report", "report.json") == 1
    shutil.copy(DEMO / "us-abdomen" / "1.dcm", broken)
    assert convert("--retry-from", "report.json", "-o", "again", "--report", "second.json") == 0
    assert json.loads(Path("second.json").read_bytes())["counts"]["files"] == 1
    assert kinds("again") == ["ImagingStudy", "Patient"]


def test_retry_where_nothing_failed_says_so(capsys):
    assert convert(DEMO, "--dry-run", "--report", "report.json") == 0
    assert convert("--retry-from", "report.json", "-o", "again") == 0
    assert "Nothing failed" in capsys.readouterr().err
    assert not Path("again").exists()


def test_retry_from_a_redacted_report_is_refused(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.dcm").touch()
    assert convert("in", "--dry-run", "--report", "report.json", "--redact-paths") == 1
    assert convert("--retry-from", "report.json", "--dry-run") == 3
    assert "--redact-paths" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{", "[]", '{"tool": "other"}'])
def test_retry_from_what_is_no_report_is_refused(content, tmp_path, capsys):
    (tmp_path / "report.json").write_text(content)
    assert convert("--retry-from", "report.json", "--dry-run") == 3
    assert "no report" in capsys.readouterr().err


def on_a_terminal(command, folder):
    main, other = pty.openpty()
    process = subprocess.Popen(
        command,
        cwd=folder,
        stderr=other,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(other)
    shown = b""
    while True:
        try:
            part = os.read(main, 4096)
        except OSError:  # the other side has closed
            break
        if not part:
            break
        shown += part
    os.close(main)
    assert process.wait() == 0
    return shown.decode()


def test_progress_is_for_terminals(tmp_path):
    command = [sys.executable, "-m", "converter", "convert", str(DEMO), "-o", "out"]
    shown = on_a_terminal(command, tmp_path)
    assert "reading" in shown
    assert "writing" in shown
    never = on_a_terminal([*command, "--progress", "never"], tmp_path)
    assert "reading" not in never
    piped = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "\x1b" not in piped.stderr
    assert "reading" not in piped.stderr


def test_json_log_lines_stand_in_the_place_of_the_summary(capsys):
    assert convert(DEMO, "--dry-run", "--log-format", "json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert lines[-1]["message"] == "finished"
    assert lines[-1]["counts"]["studies"] == 3
    assert lines[-1]["exit_code"] == 0


def test_verbose_says_what_is_in_force(capsys):
    assert convert(DEMO, "--dry-run", "-v", "--profile", "ips") == 0
    err = capsys.readouterr().err
    assert "info: configuration: no file" in err
    assert "info: profiles: ips" in err
    assert "base/imaging-study.toml" in err


def test_verbose_names_what_was_skipped_and_otherwise_the_summary_says_where_to_look(
    tmp_path, capsys
):
    shutil.copytree(DEMO / "mr-knee", tmp_path / "in")
    (tmp_path / "in" / "DOE.txt").write_text("no DICOM")
    (tmp_path / "in" / "cut\x1b[2J\n.dcm").write_bytes(
        (DEMO / "us-abdomen/1.dcm").read_bytes()[:300]
    )
    assert convert("in", "--dry-run") == 1
    assert "Exit code 1. -v names the files that were skipped" in capsys.readouterr().err
    assert convert("in", "--dry-run", "-v") == 1
    err = capsys.readouterr().err
    assert "\nskipped, not-dicom: DOE.txt\n" in err
    assert "\nskipped, truncated-header: cut[2J .dcm\n" in err
    assert convert("in", "--dry-run", "-q", "-v") == 1
    err = capsys.readouterr().err
    assert "\nskipped, not-dicom: DOE.txt\n" in err
    assert "Skipped" not in err, "no summary"
    assert convert("in", "--dry-run", "-v", "--redact-paths") == 1
    err = capsys.readouterr().err
    assert "skipped, not-dicom: sha256:" in err
    assert "DOE" not in err


def test_verbose_says_of_which_of_several_inputs_a_file_was_skipped(tmp_path, capsys):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("no DICOM")
    convert("one", "two", "--dry-run", "-v")
    err = capsys.readouterr().err
    assert {
        f"skipped, not-dicom: {tmp_path.resolve() / name / 'notes.txt'}" for name in ("one", "two")
    } <= set(err.splitlines())


def test_nothing_said_holds_a_patients_value(tmp_path, capsys):
    assert convert(DEMO, "-o", "out", "-vv", "--report", "report.json") == 0
    names = {
        part
        for resource in resources("out").values()
        if resource["resourceType"] == "Patient"
        for name in resource["name"]
        for part in (name["family"], *name.get("given", []))
    }
    assert names
    said = "".join(capsys.readouterr()) + Path("report.json").read_text()
    assert not [name for name in names if name in said]
