"""Fetching ahead changes nothing but the time that reading takes."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from converter import reading
from converter.sources import Entry, Filters, Task, read_task, worker
from converter.sources.ahead import WINDOW, Ahead, is_cold

WANTED = {0x00100020: None}


@pytest.fixture
def paths(tmp_path, make_dicom):
    for number in range(300):
        (tmp_path / f"{number:03d}").write_bytes(make_dicom(sop=f"1.2.3.1.{number}"))
    return [str(path) for path in sorted(tmp_path.iterdir())]


def read(paths):
    task = Task("files", tuple(map(Entry, paths)))
    return list(read_task(task, WANTED, Filters(), reading))


def test_what_is_fetched_ahead_is_read_as_it_is_without(paths, monkeypatch):
    plain = read(paths)
    monkeypatch.setattr(worker, "Ahead", lambda some: Ahead(some, cold=lambda path: True))
    assert read(paths) == plain
    assert plain[0].instances == 300


def test_files_that_vanish_are_told_by_reading(paths, monkeypatch):
    monkeypatch.setattr(worker, "Ahead", lambda some: Ahead(some, cold=lambda path: True))
    Path(paths[7]).unlink()
    (result,) = read(paths)
    assert result.instances == 299
    assert [row[0] for row in result.skipped] == [7]


def test_no_more_than_a_window_is_fetched_ahead_and_the_threads_end(paths):
    asked = []
    before = threading.active_count()
    with Ahead(paths, cold=lambda path: bool(asked.append(path) or True)) as ahead:
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
