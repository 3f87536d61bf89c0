"""Which files are read, in which order, and what is left out."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest

from converter.errors import SourceError
from converter.sources import Filters, Input, Own, Skipped, look, plan
from converter.sources.archives import sniff
from converter.sources.planning import LEAST, MEMBERS, MOST, PARTS, listed


@pytest.fixture
def folder(tmp_path, make_dicom):
    root = tmp_path / "in"
    for name in ("b/2.dcm", "b/1.dcm", "a/x/deep", "top"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(make_dicom(sop=f"1.2.3.{len(name)}.{ord(name[-1])}"))
    return root


def paths(tasks):
    return [Path(entry.path).name for task in tasks for entry in task.entries]


def test_a_folder_is_walked_in_an_order_that_never_changes(folder):
    tasks = list(plan([str(folder)]))
    assert paths(tasks) == ["top", "deep", "1.dcm", "2.dcm"]
    assert tasks == list(plan([str(folder)]))


def test_a_file_without_extension_is_read(folder, gather):
    assert "in/a/x/deep" in gather(folder).sources


@pytest.mark.parametrize("output", ["", "b", "fhir"])
@pytest.mark.parametrize("with_stat", [False, True])
def test_what_the_run_writes_itself_is_passed_by_and_nothing_else(folder, output, with_stat):
    """An output may be the input, or lie in it, and hold objects as well."""
    out = folder / output
    written = ("Patient/1.json", "Encounter.000.ndjson", "manifest.json", "bundle-001.json")
    for name in (*written, ".dcm2fhir.lock", "Patient/.dcm2fhir.tmp"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(b"{}")
    (folder / "report.json").write_bytes(b"{}")
    kept = {"notes.json", "patient/2.json", "a/Patient/1.json", "a/report.json"}
    for name in kept:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(b"{}")
    own = Own(str(out), frozenset({str(out), str(folder / "report.json")}))
    items = list(plan([str(folder)], filters=Filters(own=own), with_stat=with_stat))
    assert sorted(Path(e.path) for task in items for e in task.entries) == sorted(
        [*(folder / n for n in ("b/1.dcm", "b/2.dcm", "a/x/deep", "top")), *(out / n for n in kept)]
    )


def test_an_input_that_does_not_exist_is_told_before_anything_is_read(folder, tmp_path):
    with pytest.raises(SourceError, match="nowhere: no such file"):
        plan([str(folder), str(tmp_path / "nowhere")])


def test_a_file_that_two_inputs_reach_is_read_once(folder):
    again = [str(folder / "b"), str(folder), str(folder / "b" / "1.dcm"), str(folder / "b/../b")]
    assert sorted(paths(plan(again))) == ["1.dcm", "2.dcm", "deep", "top"]


def test_a_listed_file_in_a_listed_folder_is_read_once(folder):
    names = [str(folder / "b" / "1.dcm"), str(folder / "b"), str(folder), str(folder / "top")]
    assert sorted(paths(plan([], names=names))) == ["1.dcm", "2.dcm", "deep", "top"]


def test_a_listed_path_that_is_gone_is_skipped_with_a_reason(folder, tmp_path):
    items = list(plan([], names=[str(tmp_path / "gone"), str(folder / "top")]))
    assert items[0] == Skipped(str(tmp_path / "gone"), "not-found")
    assert paths(items[1:]) == ["top"]


def test_a_list_ends_paths_by_line_or_by_nul():
    assert list(listed(io.BytesIO(b"a b\r\n\nc\n/d"))) == ["a b", "c", "/d"]
    assert list(listed(io.BytesIO(b"a\nb\0c"), nul=True)) == ["a\nb", "c"]


@pytest.mark.parametrize("text", [b"a\0b\0c\0", b"a\n" * 40_000 + b"b\0\n" + b"c\n" * 40_000])
def test_a_list_whose_lines_hold_nul_is_refused_and_told_of_the_option(text):
    with pytest.raises(SourceError, match="Use -0"):
        list(listed(io.BytesIO(text)))


def test_an_address_of_nothing_in_a_list_is_not_the_working_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert [item.reason for item in plan([], names=["file://"])] == ["not-found"]


def test_symbolic_links_in_a_folder_are_not_followed(folder, tmp_path, make_dicom):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "o").write_bytes(make_dicom())
    (folder / "link").symlink_to(outside)
    (folder / "broken").symlink_to(tmp_path / "nowhere")
    items = list(plan([str(folder)]))
    assert [i for i in items if isinstance(i, Skipped)] == [
        Skipped(str(folder / "broken"), "symbolic-link"),
        Skipped(str(folder / "link"), "symbolic-link"),
    ]


def test_links_that_are_followed_lead_to_each_file_once(folder, tmp_path, make_dicom):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "o").write_bytes(make_dicom())
    for name, target in (("l1", outside), ("l2", outside), ("loop", folder), ("f", outside / "o")):
        (folder / name).symlink_to(target)
    found = paths(plan([str(folder)], follow_links=True))
    assert sorted(found) == ["1.dcm", "2.dcm", "deep", "o", "top"]


def test_an_input_that_is_a_link_is_followed(folder, tmp_path):
    (tmp_path / "named").symlink_to(folder)
    assert len(paths(plan([str(tmp_path / "named")]))) == 4


def test_a_pipe_is_no_file(folder):
    os.mkfifo(folder / "pipe")
    skipped = [item for item in plan([str(folder)]) if isinstance(item, Skipped)]
    assert skipped == [Skipped(str(folder / "pipe"), "special-file")]


def test_a_large_archive_makes_few_tasks_that_hold_all_of_it(tmp_path):
    """Each task reads the directory of the archive, and that grows with it."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(MEMBERS * PARTS + 1):
            archive.writestr(zipfile.ZipInfo(f"{number}"), b"")
    tasks = list(plan([str(path)]))
    assert len(tasks) == PARTS
    ends = [task.last for task in tasks]
    assert [task.first for task in tasks] == [0, *ends[:-1]]
    assert ends[-1] == MEMBERS * PARTS + 1


@pytest.mark.parametrize("name", ["pipe", "pipe.zip"])
def test_a_pipe_in_a_list_is_told_and_not_waited_for(folder, name):
    os.mkfifo(folder / name)
    (skipped,) = plan([], names=[str(folder / name)])
    assert skipped == Skipped(str(folder / name), "special-file")
    assert sniff(str(folder / name)) == ""  # it took the place of a file


def test_globs_match_names_or_paths_and_what_they_leave_out_is_told(folder):
    filters = Filters(include=("*.dcm",), exclude=("b/2*",))
    items = list(plan([str(folder)], filters=filters))
    assert paths(i for i in items if not isinstance(i, Skipped)) == ["1.dcm"]
    assert sorted(Path(i.path).name for i in items if isinstance(i, Skipped)) == [
        "2.dcm",
        "deep",
        "top",
    ]


def test_tasks_are_large_enough_and_bounded(tmp_path):
    for number in range(3):
        (tmp_path / f"many{number}").mkdir()
        for index in range(LEAST - 50):
            (tmp_path / f"many{number}" / str(index)).touch()
    (tmp_path / "huge").mkdir()
    for index in range(MOST + 10):
        (tmp_path / "huge" / str(index)).touch()
    sizes = [len(task.entries) for task in plan([str(tmp_path)])]
    assert sum(sizes) == MOST + 10 + 3 * (LEAST - 50)
    assert max(sizes) <= MOST
    assert all(size >= LEAST for size in sizes[:-1])


def test_a_dicomdir_stands_for_its_folder(folder):
    uid = b"1.2.840.10008.1.3.10"
    meta = b"\2\0\0\0UL\4\0\x1c\0\0\0\2\0\2\0UI\x14\0" + uid
    (folder / "INDEX").write_bytes(bytes(128) + b"DICM" + meta)
    (item,) = look([str(folder / "INDEX")])
    assert item == Input(str(folder / "INDEX"), str(folder), folder=True)


def test_paths_are_told_relative_to_their_input(folder):
    (item,) = look([str(folder)])
    assert item.relative(f"{folder}/b/1.dcm") == "b/1.dcm"
    assert item.relative("/elsewhere") is None
    (archive,) = look([str(folder / "top")])
    assert archive.relative(f"{folder}/top") == "top"
    assert archive.relative(f"{folder}/top!/m/1") == "top!/m/1"


def test_a_name_that_is_no_utf8_is_read_and_told_with_escapes(tmp_path, make_dicom, gather):
    (tmp_path / os.fsdecode(b"\xff.dcm")).write_bytes(make_dicom())
    assert gather(tmp_path).sources == ["\\xff.dcm"]


def test_the_root_of_all_is_a_folder_like_any_other(folder, monkeypatch):
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: real(folder if path == "/" else path))
    assert paths(plan(["/"])) == ["top", "deep", "1.dcm", "2.dcm"]
    assert paths(plan(["/", str(folder / "top")])) == ["top", "deep", "1.dcm", "2.dcm"]


def test_a_folder_that_cannot_be_entered_is_told(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "no")

    monkeypatch.setattr(os, "scandir", refuse)
    assert list(plan([str(tmp_path)])) == [Skipped(str(tmp_path), "permission-denied")]


def test_an_input_that_may_not_be_looked_at_is_told_and_the_next_one_is_read(folder, monkeypatch):
    closed, real = str(folder / "b" / "1.dcm"), os.stat

    def refuse(path, **options):
        if path == closed:
            raise PermissionError(13, "no")
        return real(path, **options)

    monkeypatch.setattr(os, "stat", refuse)
    skipped, *tasks = plan([closed, str(folder / "top")])
    assert skipped == Skipped(closed, "permission-denied")
    assert paths(tasks) == ["top"]
