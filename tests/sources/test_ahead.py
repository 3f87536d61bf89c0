"""Fetching ahead changes nothing but the time that reading takes."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from converter import reading
from converter.sources import Entry, Filters, Task, read_task, worker
from converter.sources.ahead import LOCAL, WINDOW, Ahead, ask, brings, is_cold

WANTED = {0x00100020: None}


@pytest.fixture
def paths(tmp_path, make_dicom):
    for number in range(300):
        (tmp_path / f"{number:03d}").write_bytes(make_dicom(sop=f"1.2.3.1.{number}"))
    return [str(path) for path in sorted(tmp_path.iterdir())]


def read(paths):
    task = Task("files", tuple(map(Entry, paths)))
    return list(read_task(task, WANTED, Filters(), reading))


@pytest.fixture(params=["asked", "threads"])
def all_cold(request, monkeypatch):
    """Let every file be fetched from now on."""

    def ahead(some):
        return Ahead(some, cold=lambda path: True, brings=lambda path: request.param == "asked")

    return lambda: monkeypatch.setattr(worker, "Ahead", ahead)


def test_what_is_fetched_ahead_is_read_as_it_is_without(paths, all_cold):
    plain = read(paths)
    all_cold()
    assert read(paths) == plain
    assert plain[0].instances == 300


def test_files_that_vanish_are_told_by_reading(paths, all_cold):
    all_cold()
    Path(paths[7]).unlink()
    (result,) = read(paths)
    assert result.instances == 299
    assert [row[0] for row in result.skipped] == [7]


def test_no_more_than_a_window_is_fetched_ahead_and_the_threads_end(paths):
    asked = []
    before = threading.active_count()
    with Ahead(paths, lambda path: bool(asked.append(path) or True), lambda path: False) as ahead:
        ahead.reach(0)
        assert ahead._fetched == WINDOW
        for index in range(300):
            ahead.reach(index)
        assert ahead._fetched == 300
    assert threading.active_count() == before
    assert len(asked) < 10


def test_warm_files_start_no_thread(paths):
    with Ahead(paths, cold=lambda path: False) as ahead:
        for index in range(300):
            ahead.reach(index)
        assert ahead._pool is None


def test_nobody_waits_to_tell_whether_a_file_is_cold(paths, tmp_path):
    Path(paths[0]).read_bytes()
    assert not is_cold(paths[0])
    assert not is_cold(str(tmp_path / "absent"))
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


def test_on_a_local_disk_files_are_asked_for_and_no_thread_is_started(paths):
    looked = []
    with Ahead(paths, lambda path: True, lambda path: bool(looked.append(path) or True)) as ahead:
        for index in range(300):
            ahead.reach(index)
        assert ahead._pool is None
    assert len(looked) == 1


def test_what_lies_elsewhere_is_waited_for_by_threads(monkeypatch):
    for kind in ("nfs4", "cifs", "fuse.s3fs", "zfs", ""):
        monkeypatch.setattr("converter.sources.ahead.lies_on", lambda _, kind=kind: kind)
        assert not brings("/x")
    for kind in LOCAL:
        monkeypatch.setattr("converter.sources.ahead.lies_on", lambda _, kind=kind: kind)
        assert brings("/x")
