"""A kept state: what has not changed is not read again, and a run that was killed is finished by the next."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def folder(tmp_path, make_dicom):
    root = tmp_path / "in"
    root.mkdir()
    for index in range(20):
        study = f"1.2.{index % 4}"
        (root / f"{index:02}").write_bytes(make_dicom(study, sop=f"1.9.{index}", patient="A"))
    (root / "broken").write_bytes(make_dicom()[:200])
    return root


@pytest.fixture
def counted(parts):
    """Parts that note which files are read."""
    read = []

    def read_file(path, wanted, *, ignore_changed=False, opened=None):
        read.append(Path(path).name)
        return parts.read_file(path, wanted, ignore_changed=ignore_changed, opened=opened)

    def convert(study, rules, options):
        read.append(study.uid)
        return parts.convert(study, rules, options)

    return replace(parts, read_file=read_file, convert=convert), read


def test_a_second_run_reads_and_converts_nothing_and_says_the_same(
    folder, state, convert, counted, standing
):
    parts, read = counted
    first = convert(folder, state=state, parts=parts)
    expected = standing()
    assert len(read) == 25
    read.clear()
    second = convert(folder, state=state, parts=parts)
    assert read == []
    assert standing() == expected
    for name in (
        "counts",
        "resources",
        "skipped_counts",
        "exit_code",
        "all_studies",
        "all_skipped",
    ):
        assert getattr(second, name) == getattr(first, name), name


def test_other_rules_convert_again_without_reading(folder, state, convert, counted):
    parts, read = counted
    convert(folder, state=state, parts=parts)
    read.clear()
    convert(folder, state=state, parts=parts, rules="2")
    assert sorted(read) == [f"1.2.{n}" for n in range(4)]
    read.clear()
    convert(folder, state=state, parts=parts, rules="2", options="others")
    assert sorted(read) == [f"1.2.{n}" for n in range(4)]


def test_a_changed_file_is_read_again_and_its_study_alone_converted(
    folder, state, convert, counted, make_dicom, standing, instances
):
    parts, read = counted
    convert(folder, state=state, parts=parts)
    read.clear()
    (folder / "04").write_bytes(make_dicom("1.2.0", sop="1.9.4.1", patient="A"))
    os.utime(folder / "04", ns=(1, 1))
    convert(folder, state=state, parts=parts, out="anew")
    assert read == ["04", "1.2.0"]
    found = instances(standing("anew")["ImagingStudy/s-1.2.0.json"])
    assert found == ["1.9.0", "1.9.12", "1.9.16", "1.9.4.1", "1.9.8"]


def test_a_file_that_is_gone_stays_in_its_study_until_it_is_pruned(
    folder, state, convert, standing, instances
):
    name = "ImagingStudy/s-1.2.1.json"
    convert(folder, state=state)
    (folder / "01").unlink()
    for index in (3, 7, 11, 15, 19):
        (folder / f"{index:02}").unlink()
    convert(folder, state=state)
    assert "1.9.1" in instances(standing()[name])
    result = convert(folder, state=state, prune=True)
    assert instances(standing()[name]) == ["1.9.13", "1.9.17", "1.9.5", "1.9.9"]
    assert result.pruned == ("1.2.1", "1.2.3")
    assert result.counts["studies"] == 3


def test_a_file_that_could_not_be_read_is_tried_again(folder, state, convert, parts):
    from converter.core.header import Unreadable

    def refuse(path, wanted, *, ignore_changed=False, opened=None):
        if path.endswith("/03"):
            return Unreadable("permission-denied")
        return parts.read_file(path, wanted, ignore_changed=ignore_changed)

    first = convert(folder, state=state, parts=replace(parts, read_file=refuse))
    assert first.skipped_counts["permission-denied"] == 1
    second = convert(folder, state=state)
    assert "permission-denied" not in second.skipped_counts
    assert second.counts["instances"] == 20


def test_other_filters_read_again(folder, state, convert, counted):
    from converter.sources import Filters

    parts, _ = counted
    some = convert(
        folder, state=state, parts=parts, filters=Filters(study_uids=frozenset({"1.2.1"}))
    )
    assert some.counts["studies"] == 1
    assert convert(folder, state=state, parts=parts).counts["studies"] == 4


def held(folder, tmp_path, state, jobs, phase, count):
    path = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    return subprocess.Popen(
        [
            sys.executable,
            *map(str, (HERE / "held_run.py", folder, tmp_path / "out", state, jobs, phase, count)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(tmp_path)},
    )


@pytest.mark.parametrize(
    ("phase", "count", "jobs"),
    [
        ("reading", 9, 1),
        ("reading", 13, 2),
        ("converting", 1, 1),
        ("writing", 3, 1),
        ("writing", 3, 2),
    ],
)
def test_a_run_that_was_killed_is_finished_by_the_next(
    folder, tmp_path, state, convert, counted, standing, phase, count, jobs
):
    convert(folder, out="whole")
    with held(folder, tmp_path, state, jobs, phase, count) as process:
        assert process.stdout.readline() == "waiting\n"
        process.kill()
    parts, read = counted
    result = convert(folder, state=state, parts=parts)
    assert result.counts == {"files": 21, "instances": 20, "series": 4, "studies": 4}
    assert standing() == standing("whole")
    files = [name for name in read if "." not in name]
    assert len(files) < 21 - 4 if phase == "reading" else not files


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    ("phase", "kept", "jobs"),
    [("reading", True, 1), ("writing", True, 1), ("writing", True, 2), ("reading", False, 1)],
)
def test_an_interrupted_run_keeps_what_is_done_and_says_how_to_go_on(
    folder, tmp_path, state, convert, standing, number, phase, kept, jobs
):
    convert(folder, out="whole")
    with held(folder, tmp_path, state if kept else "-", jobs, phase, 2) as process:
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(number)
        said, _ = process.communicate("\n")
    assert process.returncode == 0
    code, ended, advice = said.split(maxsplit=2)
    assert (code, ended) == ("130", phase)
    assert "run the same command again" in advice.lower()
    assert ("--state" in advice) is not kept
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    convert(folder, state=state)
    assert standing() == standing("whole")


def test_workers_die_with_a_parent_that_was_killed(folder, tmp_path, state):
    with held(folder, tmp_path, state, 2, "reading", 13) as process:
        assert process.stdout.readline() == "waiting\n"
        # stdout of the workers is ours too: it ends only when the last of them is gone.
        process.kill()
        assert process.stdout.read() == ""
