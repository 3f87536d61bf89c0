"""Fetching ahead changes nothing but the time that reading takes."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from converter import reading
from converter.sources import Entry, Filters, Task, read_task, worker
from converter.sources.ahead import LOCAL, WINDOW, Ahead, ask, is_cold

WANTED = {0x00100020: None}


@pytest.fixture
def paths(tmp_path, make_dicom):
    for number in range(300):
        (tmp_path / f"{number:03d}").write_bytes(make_dicom(sop=f"1.2.3.1.{number}"))
    return [str(path) for path in sorted(tmp_path.iterdir())]


def read(paths):
    task = Task("files", tuple(map(Entry, paths)))
    return list(read_task(task, WANTED, Filters(), reading))


@pytest.fixture(params=["ext4", "nfs4", "zfs"])
def all_cold(request, monkeypatch):
    """Let every file be fetched from now on."""

    def ahead(some):
        return Ahead(some, cold=lambda path: True, kind=lambda path: request.param)

    return lambda: monkeypatch.setattr(worker, "Ahead", ahead)


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_what_is_fetched_ahead_is_read_as_it_is_without(paths, all_cold):
    plain = read(paths)
    before = open_files()
    all_cold()
    assert read(paths) == plain
    assert plain[0].instances == 300
    assert open_files() == before


def test_files_that_vanish_are_told_by_reading(paths, all_cold):
    all_cold()
    Path(paths[7]).unlink()
    (result,) = read(paths)
    assert result.instances == 299
    assert [row[0] for row in result.skipped] == [7]


def test_a_folder_in_the_place_of_a_file_is_told_by_reading(paths, all_cold):
    all_cold()
    Path(paths[7]).unlink()
    Path(paths[8]).unlink()
    Path(paths[8]).mkdir()
    (result,) = read(paths)
    assert [row[0] for row in result.skipped] == [7, 8]


def test_a_file_that_changes_between_fetching_and_reading_is_told(paths, make_dicom):
    with Ahead(paths, lambda path: True, lambda path: "nfs4") as ahead:
        opened = ahead.reach(0)
        Path(paths[0]).write_bytes(make_dicom(sop="1.2.3.1.9999") + b"more")
        told = reading.read_file(paths[0], WANTED, opened=opened)
    assert told.reason == "changed-while-reading"


def test_no_more_than_a_window_is_fetched_ahead_and_threads_and_files_end(paths):
    asked = []
    threads, files = threading.active_count(), open_files()
    with Ahead(paths, lambda path: bool(asked.append(path) or True), lambda path: "nfs4") as ahead:
        for index in range(0, 300, 3):
            opened = ahead.reach(index)
            assert ahead._fetched <= index + WINDOW
            os.close(opened.descriptor)
        assert ahead._fetched == 300
    assert (threading.active_count(), open_files()) == (threads, files)
    assert len(asked) == 1, "where threads are needed nobody asks any more"


def test_files_in_memory_start_nothing(paths):
    with Ahead(paths, lambda path: False, lambda path: "nfs4") as ahead:
        for index in range(300):
            assert ahead.reach(index) is None
        assert ahead._pool is None
        assert ahead._fetched == 0


def test_nobody_waits_to_tell_whether_a_file_is_cold(paths, tmp_path):
    Path(paths[0]).read_bytes()
    assert not is_cold(paths[0])
    assert is_cold(str(tmp_path / "absent")) is False
    os.mkfifo(tmp_path / "pipe")
    assert not is_cold(str(tmp_path / "pipe"))


def test_a_file_that_was_asked_for_comes_and_nobody_waits_for_it(paths):
    for path in paths:
        with Path(path).open("rb") as file:
            os.fsync(file)
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        ask(path)
    deadline = time.monotonic() + 30
    while any(map(is_cold, paths)):
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


@pytest.mark.parametrize("kind", sorted(LOCAL))
def test_on_a_disk_of_this_machine_files_are_asked_for_and_no_thread_is_started(paths, kind):
    looked = []
    with Ahead(paths, lambda path: True, lambda path: looked.append(path) or kind) as ahead:
        for index in range(300):
            assert ahead.reach(index) is None
        assert ahead._pool is None
        assert ahead._fetched == 300
    assert len(looked) == 1


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.s3fs", "virtiofs", "tmpfs", "proc", ""])
def test_where_nobody_can_tell_threads_open_what_lies_elsewhere_and_nothing_else(paths, kind):
    far = kind in {"nfs4", "cifs", "fuse.s3fs", "virtiofs"}
    with Ahead(paths, lambda path: None, lambda path: kind) as ahead:
        for index in range(300):
            opened = ahead.reach(index)
            assert (opened is not None) == far
            if opened is not None:
                assert opened.head == Path(paths[index]).read_bytes()
                os.close(opened.descriptor)
