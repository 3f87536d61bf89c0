"""``--prune`` takes what the inputs no longer hold, and never what could not be looked at."""

from __future__ import annotations

import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from converter.core.header import Unreadable
from converter.pipeline.reading import NOTHING
from converter.sources import Filters

STUDIES = {"ImagingStudy/s-1.2.0.json", "ImagingStudy/s-1.2.1.json"}


@pytest.fixture
def folder(tmp_path, make_dicom):
    """Two folders of three files each, of two studies."""
    root = tmp_path / "in"
    for index in range(6):
        path = root / f"p{index // 3}" / f"{index:02}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_dicom(f"1.2.{index % 2}", sop=f"1.9.{index}", patient="A"))
    return root


@pytest.fixture
def listed(standing, instances):
    """Instances of all studies that stand."""

    def look():
        return sorted(uid for name in STUDIES for uid in instances(standing()[name]))

    return look


ALL = [f"1.9.{index}" for index in range(6)]


@pytest.fixture
def closed(monkeypatch):
    """Let a folder refuse to be listed, as its permissions do to who is not root."""

    def close(path, error=PermissionError):
        real = os.scandir

        def scandir(folder):
            if str(folder) == str(path):
                raise error(5, "refused")
            return real(folder)

        monkeypatch.setattr(os, "scandir", scandir)

    return close


@pytest.mark.parametrize("error", [PermissionError, OSError])
def test_a_folder_that_cannot_be_listed_is_not_gone_and_nothing_else_is_either(
    folder, state, convert, listed, closed, error, monkeypatch
):
    convert(folder, state=state)
    (folder / "p1" / "05").unlink()
    closed(folder / "p0", error)
    result = convert(folder, state=state, prune=True)
    assert (result.exit_code, result.pruned) == (1, ())
    assert result.unpruned.path == str(folder / "p0")
    assert listed() == ALL
    monkeypatch.undo()
    result = convert(folder, state=state, prune=True)
    assert (result.exit_code, result.pruned, result.unpruned) == (0, ("1.2.1",), None)
    assert listed() == ALL[:5]


def test_an_input_folder_that_is_empty_now_is_not_gone(folder, state, convert, listed):
    convert(folder / "p0", folder / "p1", state=state)
    shutil.move(folder / "p0", folder / "aside")
    (folder / "p0").mkdir()
    result = convert(folder / "p0", folder / "p1", state=state, prune=True)
    assert result.exit_code == 1
    assert result.unpruned[:2] == (str(folder / "p0"), NOTHING)
    assert listed() == ALL


@pytest.mark.parametrize("names", [[], ["p0", "p1"]], ids=["nothing", "a folder that is gone"])
def test_a_list_that_finds_nothing_where_there_was_something_prunes_nothing(
    folder, state, convert, listed, names
):
    convert(names=[str(folder / "p0"), str(folder / "p1")], state=state)
    shutil.rmtree(folder / "p1")
    result = convert(names=[str(folder / name) for name in names], state=state, prune=True)
    assert (result.exit_code, result.unpruned.reason) == (1, NOTHING)
    assert listed() == ALL


def test_a_file_that_a_list_names_and_that_is_gone_goes(folder, state, convert, listed):
    names = sorted(map(str, folder.rglob("0*")))
    convert(names=names, state=state)
    (folder / "p1" / "05").unlink()
    assert convert(names=names, state=state, prune=True).pruned == ("1.2.1",)
    assert listed() == ALL[:5]


@pytest.mark.parametrize(
    "reason", ["permission-denied", "read-error", "changed-while-reading", "not-found"]
)
def test_a_file_that_cannot_be_read_now_keeps_what_was_read_of_it(
    folder, state, convert, listed, parts, reason
):
    def refuse(path, wanted, *, ignore_changed=False, opened=None):
        if path.endswith("/03"):
            return Unreadable(reason)
        return parts.read_file(path, wanted, ignore_changed=ignore_changed)

    convert(folder, state=state)
    os.utime(folder / "p1" / "03", ns=(1, 1))
    (folder / "p1" / "05").unlink()
    result = convert(folder, state=state, prune=True, parts=replace(parts, read_file=refuse))
    assert result.pruned == ("1.2.1",)
    assert result.skipped_counts == {reason: 1}
    assert listed() == ALL[:5]
    assert convert(folder, state=state, prune=True).counts["instances"] == 5, "and is read again"


def overwritten(path, make_dicom):
    path.write_bytes(make_dicom("1.2.1", sop="1.9.77", patient="A"))
    return "1.9.77"


def replaced(path, make_dicom):
    path.write_bytes(b"nothing that anybody could read")


@pytest.mark.parametrize("change", [overwritten, replaced])
@pytest.mark.parametrize("later", [False, True])
def test_an_instance_that_its_file_no_longer_holds_goes_now_or_with_a_later_prune(
    folder, state, convert, listed, make_dicom, change, later
):
    convert(folder, state=state)
    new = change(folder / "p1" / "03", make_dicom)
    if later:
        assert convert(folder, state=state).pruned == ()
        assert "1.9.3" in listed(), "a run is a partial view"
    result = convert(folder, state=state, prune=True)
    assert (result.pruned, result.gone) == (("1.2.1",), ())
    assert listed() == sorted({*ALL, *filter(None, [new])} - {"1.9.3"})
    assert convert(folder, state=state, prune=True).pruned == ()


@pytest.mark.parametrize("size", [0, 200, 300])
def test_a_file_that_was_cut_keeps_what_was_read_of_it(folder, state, convert, listed, size):
    convert(folder, state=state)
    path = folder / "p1" / "03"
    whole = path.read_bytes()
    path.write_bytes(whole[:size])
    for _ in range(2):
        result = convert(folder, state=state, prune=True)
        assert (result.exit_code, result.pruned) == (1, ())
        assert listed() == ALL
    path.write_bytes(whole)
    assert convert(folder, state=state, prune=True).exit_code == 0
    path.unlink()
    assert convert(folder, state=state, prune=True).pruned == ("1.2.1",)


def test_a_file_that_was_touched_or_moved_loses_nothing(folder, state, convert, listed):
    convert(folder, state=state)
    os.utime(folder / "p1" / "03", ns=(1, 1))
    (folder / "p1" / "04").rename(folder / "p1" / "moved")
    assert convert(folder, state=state, prune=True).pruned == ()
    assert listed() == ALL


def zipped(folder, indices, path, make_dicom):
    with zipfile.ZipFile(path, "w") as archive:
        for index in indices:
            data = make_dicom(f"1.2.{index % 2}", sop=f"1.9.{index}", patient="A")
            archive.writestr(f"{index}", data)
    os.utime(path, ns=(len(indices), len(indices)))


def test_a_member_that_was_taken_from_an_archive_goes(
    folder, state, convert, listed, make_dicom, tmp_path
):
    zipped(folder, range(6), tmp_path / "a.zip", make_dicom)
    convert(tmp_path / "a.zip", state=state)
    zipped(folder, range(5), tmp_path / "a.zip", make_dicom)
    assert convert(tmp_path / "a.zip", state=state, prune=True).pruned == ("1.2.1",)
    assert listed() == ALL[:5]


@pytest.mark.parametrize("part", ["whole", "member"])
def test_an_archive_that_cannot_be_read_in_whole_keeps_what_was_read_of_it_and_nothing_is_pruned(
    folder, state, convert, listed, make_dicom, tmp_path, part
):
    archive = tmp_path / "a.zip"
    zipped(folder, range(5), archive, make_dicom)
    inputs = (archive, folder / "p1")
    convert(*inputs, state=state)
    data = bytearray(archive.read_bytes())
    if part == "whole":
        data = data[:-100]
    else:
        data[data.index(b"1.9.2\0")] = ord("7")  # its CRC is wrong now
    archive.write_bytes(data)
    (folder / "p1" / "05").unlink()
    result = convert(*inputs, state=state, prune=True)
    assert (result.exit_code, result.pruned) == (1, ())
    assert result.unpruned.reason.startswith("unreadable-")
    assert listed() == ALL
    result = convert(*inputs, state=state, prune=True)
    assert result.pruned == ("1.2.1",), "what is kept of the archive is safe"
    assert listed() == ALL[:5]
    (folder / "p1" / "05").write_bytes(make_dicom("1.2.1", sop="1.9.5", patient="A"))
    zipped(folder, range(4), archive, make_dicom)
    (folder / "p1" / "04").unlink()
    result = convert(*inputs, state=state, prune=True)
    assert result.pruned == ("1.2.0",)
    assert listed() == ["1.9.0", "1.9.1", "1.9.2", "1.9.3", "1.9.5"]


def test_what_was_lost_is_remembered_until_a_run_that_prunes_has_written(
    folder, state, convert, listed
):
    convert(folder, state=state)
    (folder / "p1" / "05").unlink()
    dry = convert(folder, state=state, prune=True, dry=True)
    assert dry.pruned == ("1.2.1",)
    convert(folder, state=state)
    assert listed() == ALL
    assert convert(folder, state=state, prune=True).pruned == ("1.2.1",)
    assert listed() == ALL[:5]


def test_files_that_a_filter_leaves_out_are_no_longer_in_the_inputs(folder, state, convert, listed):
    convert(folder, state=state)
    result = convert(folder, state=state, prune=True, filters=Filters(exclude=("05",)))
    assert result.pruned == ("1.2.1",)
    assert listed() == ALL[:5]


def test_of_a_study_of_which_nothing_is_left_the_result_says_so(folder, state, convert, standing):
    convert(folder, state=state)
    for path in folder.rglob("0[135]"):
        Path(path).unlink()
    result = convert(folder, state=state, prune=True)
    assert (result.pruned, result.gone) == (("1.2.1",), ("1.2.1",))
    assert result.counts["studies"] == 1
    result = convert(folder, state=state, prune=True)
    assert (result.pruned, result.gone) == ((), ())
    assert standing().keys() >= STUDIES
