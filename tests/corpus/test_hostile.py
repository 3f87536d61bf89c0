"""Broken and hostile files, made by a seeded script: rows 28, 31 and 33 of the acceptance matrix."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file

from converter.core.reasons import REASONS
from tools.make_hostile import CANARY, CANARY_YEAR, make, make_good

LIMIT_SECONDS = 60
COPIES = {"duplicate", "duplicate-differs"}
"""Reasons for which one of several files with one UID is left out, good ones among damaged ones too."""
LIMIT_MIB = 300

RUN = """
import re, resource, sys
from converter.cli.main import run
code = run(sys.argv[1:])
# ru_maxrss of a process itself counts what its parent held when it forked, VmHWM does not
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
peak += resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(f"code={code} kib={peak}")
"""


def convert(*arguments, cwd):
    command = [sys.executable, "-c", RUN, "convert", *map(str, arguments)]
    where = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=where,
        timeout=LIMIT_SECONDS,
        check=True,
    )


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    manifest = make(folder / "in", 950, 1)
    make_good(folder / "in" / "good", 3)
    done = convert(
        folder / "in", "-o", folder / "out", "--report", folder / "r.json", "-vv", cwd=folder
    )
    return folder, manifest, done, json.loads((folder / "r.json").read_bytes())


def test_every_hostile_file_is_classified_and_the_run_ends_in_order(hostile):
    _, manifest, done, report = hostile
    code, kib = (int(word.partition("=")[2]) for word in done.stdout.split()[-2:])
    assert code == 1
    assert kib / 1024 < LIMIT_MIB
    assert "Traceback" not in done.stderr
    skipped = {entry["path"].split("!/")[0]: entry["reason"] for entry in report["skipped"]}
    for file in manifest:
        if file.outcome == "skipped":
            assert file.name in skipped, file
        elif file.outcome == "converted":
            assert skipped.get(file.name) in {None, *COPIES}, file
    assert set(skipped.values()) <= set(REASONS)
    assert not {"reader-crashed", "study-failed"} & set(skipped.values())


def test_good_files_among_hostile_ones_are_converted(hostile):
    folder, _, _, report = hostile
    good = {path.name for path in (folder / "in" / "good").iterdir()}
    skipped = {
        Path(entry["path"]).name for entry in report["skipped"] if entry["reason"] not in COPIES
    }
    assert not skipped & good


def test_nothing_is_written_outside_of_the_output_folder(hostile):
    folder, _, _, _ = hostile
    assert {path.name for path in folder.iterdir()} == {"in", "out", "r.json"}
    for path in (folder / "out").rglob("*"):
        assert path.is_dir() or path.suffix == ".json" or path.name.startswith(".dcm2fhir")


def test_no_value_of_a_patient_is_in_messages_or_report(hostile):
    folder, _, done, _ = hostile
    told = done.stderr + done.stdout + (folder / "r.json").read_text("utf-8")
    assert CANARY not in told
    assert f"{CANARY_YEAR}-" not in told
    assert f"{CANARY_YEAR}0" not in told


def test_outputs_are_for_their_owner_only(hostile):
    folder, _, _, _ = hostile
    for path in [folder / "r.json", *(folder / "out").rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_file_cut_anywhere_is_never_silently_whole(tmp_path, jobs):
    """CT_small at 1 to 99 %: left out, or converted with the finding ``truncated``."""
    content = Path(str(get_testdata_file("CT_small.dcm"))).read_bytes()
    uid = pydicom.dcmread(str(get_testdata_file("CT_small.dcm"))).SOPInstanceUID.encode()
    inputs = tmp_path / "in"
    inputs.mkdir()
    for percent in range(1, 100):
        other = uid[:-2] + f"{percent:02}".encode()  # an instance of its own for each
        cut = content.replace(uid, other)[: len(content) * percent // 100]
        (inputs / f"{percent:02}.dcm").write_bytes(cut)
    report = tmp_path / "r.json"
    convert(inputs, "-o", tmp_path / "out", "--report", report, "-j", jobs, "-q", cwd=tmp_path)
    told = json.loads(report.read_bytes())
    left_out = {entry["path"]: entry["reason"] for entry in told["skipped"]}
    assert set(left_out.values()) <= {"truncated-header", "not-dicom", "no-study-uid", "no-sop-uid"}
    truncated = sum(
        finding["count"]
        for study in told["studies"]
        for finding in study["findings"]
        if finding["code"] == "truncated"
    )
    assert len(left_out) + truncated == 99
    assert truncated > 0
