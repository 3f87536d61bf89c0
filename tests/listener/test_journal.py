"""What a journal acknowledged is there again, whatever happened: cuts, kills, full and failing disks."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converter.listener.journal import (
    Journal,
    JournalError,
    segments,
)
from converter.listener.tail import HEADER, MAX_RECORD, Tail, pack_record


def read_all(folder):
    """(epoch, payload) of every whole record."""
    found = []
    for _, path in segments(folder):
        tail = Tail(path)
        while payloads := tail.read(4096):
            found += [(tail.epoch, payload) for payload in payloads]
        tail.close()
    return found


def taken(*records):
    """Bytes that records take in a segment."""
    return sum(len(pack_record(record, bytes(8))) for record in records)


def payloads(folder):
    return [payload for _, payload in read_all(folder)]


class Disk:
    """The operating system, with faults to order."""

    def __init__(self):
        self.calls = []
        self.fail_write = self.fail_datasync = self.short_write = 0
        self.gate = None

    def write(self, descriptor, data, offset):
        self.calls.append("write")
        if self.fail_write:
            raise OSError(self.fail_write, os.strerror(self.fail_write))
        if self.short_write:
            return os.pwrite(descriptor, data[: len(data) // 2], offset)
        return os.pwrite(descriptor, data, offset)

    def datasync(self, descriptor):
        self.calls.append("datasync")
        if self.gate is not None:
            entered, leave = self.gate
            entered.set()
            assert leave.wait(10)
        if self.fail_datasync:
            raise OSError(self.fail_datasync, os.strerror(self.fail_datasync))
        os.fdatasync(descriptor)

    def sync(self, descriptor):
        self.calls.append("sync")
        os.fsync(descriptor)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "journal"


def test_what_was_appended_is_read_back_in_order_with_its_epoch(folder):
    journal = Journal(folder, 7)
    for number in range(50):
        journal.append(b"%d" % number)
    journal.close()
    assert read_all(folder) == [(7, b"%d" % number) for number in range(50)]


def test_reading_goes_on_where_it_stopped_while_more_comes(folder):
    journal = Journal(folder, 1)
    journal.append(b"a")
    tail = Tail(segments(folder)[0][1])
    assert tail.read() == [b"a"]
    assert tail.read() == []
    journal.append(b"b")
    journal.append(b"c")
    assert tail.read() == [b"b", b"c"]
    assert not tail.torn()
    tail.close()
    journal.close()


def test_a_full_segment_is_followed_by_the_next_and_a_large_record_gets_one_of_its_size(folder):
    journal = Journal(folder, 1, segment_size=320)
    expected = [b"x" * 100, b"y" * 100, b"z" * 5000, b"w"]
    for payload in expected:
        journal.append(payload)
    journal.close()
    assert payloads(folder) == expected
    assert len(segments(folder)) == 3


def test_a_record_beyond_the_limit_is_refused(folder):
    journal = Journal(folder, 1)
    with pytest.raises(JournalError):
        journal.append(bytes(MAX_RECORD + 1))
    journal.append(b"still open")
    journal.close()


def test_a_restart_leaves_what_stands_and_numbers_on(folder):
    for epoch in (1, 2, 3):
        journal = Journal(folder, epoch)
        journal.append(b"run %d" % epoch)
        journal.close()
    assert read_all(folder) == [(1, b"run 1"), (2, b"run 2"), (3, b"run 3")]


def test_a_second_process_is_refused(folder):
    journal = Journal(folder, 1)
    with pytest.raises(JournalError):
        Journal(folder, 1)
    journal.close()
    Journal(folder, 1).close()


def test_files_are_private(folder):
    journal = Journal(folder, 1)
    journal.append(b"a")
    journal.close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_tail_torn_at_any_byte_leaves_the_records_before_it(folder):
    journal = Journal(folder, 1, segment_size=400)
    journal.append(b"first")
    journal.append(b"second")
    journal.append(b"the last one")
    journal.close()
    ((_, path),) = segments(folder)
    whole = path.read_bytes()
    start = HEADER + taken(b"first", b"second")
    end = start + taken(b"the last one")
    for cut in range(start, end):
        # as a kill leaves it: the rest is as it was preallocated
        path.write_bytes(whole[:cut] + bytes(len(whole) - cut))
        assert payloads(folder) == [b"first", b"second"], cut
        # and as a file system that lost the end leaves it
        path.write_bytes(whole[:cut])
        assert payloads(folder) == [b"first", b"second"], cut
    path.write_bytes(whole)
    assert payloads(folder) == [b"first", b"second", b"the last one"]


def test_a_torn_tail_is_told_from_an_end(folder):
    journal = Journal(folder, 1)
    journal.append(b"first")
    journal.close()
    ((_, path),) = segments(folder)
    tail = Tail(path)
    tail.read()
    assert not tail.torn()
    assert not tail.skip()
    with path.open("r+b") as file:
        file.seek(tail.offset)
        file.write(pack_record(b"half of it", path.read_bytes()[16:24])[:9])
    assert tail.read() == []
    assert tail.torn() == 9
    assert not tail.skip()
    tail.close()


@settings(max_examples=60, deadline=None)
@given(
    records=st.lists(st.binary(min_size=1, max_size=90), min_size=1, max_size=12),
    flip=st.integers(min_value=0),
    mask=st.integers(1, 255),
)
def test_a_flipped_byte_never_gives_a_record_that_was_not_written(
    tmp_path_factory, records, flip, mask
):
    folder = tmp_path_factory.mktemp("journal")
    journal = Journal(folder, 1, segment_size=1500)
    for record in records:
        journal.append(record)
    journal.close()
    ((_, path),) = segments(folder)
    data = bytearray(path.read_bytes())
    end = HEADER + taken(*records)
    at = HEADER + flip % (end - HEADER)
    data[at] ^= mask
    path.write_bytes(data)
    found = payloads(folder)
    before, place = 0, HEADER
    for record in records:
        place += taken(record)
        if place > at:
            break
        before += 1
    assert found == records[:before]
    tail = Tail(path)
    found = tail.read()
    while tail.skip():
        found += tail.read()
    tail.close()
    assert found == records[:before] + records[before + 1 :], "all but the one that was hit"
    if before + 1 < len(records):
        (gap,) = tail.gaps.values()
        assert gap.records == 1


def test_no_file_of_another_kind_is_read(folder):
    folder.mkdir()
    (folder / "0000000001.journal").write_bytes(b"something else altogether")
    assert payloads(folder) == []


def test_the_sync_comes_after_the_write_and_before_the_return(folder):
    disk = Disk()
    journal = Journal(folder, 1, system=disk)
    journal.append(b"a")
    disk.calls.clear()
    journal.append(b"b")
    assert disk.calls == ["write", "datasync"]
    journal.close()


def test_all_that_wait_share_one_write_and_one_sync(folder):
    disk = Disk()
    journal = Journal(folder, 1, system=disk)
    journal.append(b"opens the segment")
    disk.calls.clear()
    entered, leave = threading.Event(), threading.Event()
    disk.gate = (entered, leave)
    threads = [threading.Thread(target=journal.append, args=(b"leader",))]
    threads[0].start()
    assert entered.wait(10)
    for number in range(8):
        threads.append(threading.Thread(target=journal.append, args=(b"%d" % number,)))
        threads[-1].start()
    deadline = time.monotonic() + 10
    while len(journal._segment.waiting) < 8:
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)
    leave.set()
    for thread in threads:
        thread.join(10)
    assert disk.calls == ["write", "datasync"] * 2
    journal.close()
    assert len(payloads(folder)) == 10


def test_who_was_told_is_waited_for_a_moment_so_that_one_sync_does_for_all(folder, monkeypatch):
    monkeypatch.setattr("converter.listener.journal.PATIENCE", 1.0)
    disk = Disk()
    plain = disk.datasync

    def slow(descriptor):
        threading.Event().wait(0.03)
        plain(descriptor)

    disk.datasync = slow
    journal = Journal(folder, 1, system=disk)

    def send():
        for _ in range(15):
            journal.append(b"one of many")

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert journal.records == 60
    assert journal.syncs < 60 * 0.4  # a half where each waits for the sync after the next
    journal.close()
    assert len(payloads(folder)) == 60


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_after_a_failed_sync_nothing_goes_through_that_file_again(folder, code, monkeypatch):
    monkeypatch.setattr("converter.listener.journal.RETRY", 0.0)
    disk = Disk()
    journal = Journal(folder, 1, system=disk)
    journal.append(b"good")
    disk.fail_datasync = code
    with pytest.raises(JournalError):
        journal.append(b"never acknowledged")
    disk.fail_datasync = 0
    journal.append(b"good again")
    journal.close()
    assert [path.name for _, path in segments(folder)] == [
        "0000000001.journal",
        "0000000002.journal",
    ]
    found = payloads(folder)
    assert found[0] == b"good"
    assert found[-1] == b"good again"


def test_who_waits_for_a_sync_that_fails_is_told_too(folder):
    disk = Disk()
    journal = Journal(folder, 1, system=disk)
    journal.append(b"opens")
    entered, leave = threading.Event(), threading.Event()
    disk.gate, disk.fail_datasync = (entered, leave), errno.EIO
    outcomes = []

    def append(payload):
        try:
            journal.append(payload)
        except JournalError:
            outcomes.append("refused")
        else:
            outcomes.append("durable")

    threads = [threading.Thread(target=append, args=(b"%d" % number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    assert entered.wait(10)
    leave.set()
    for thread in threads:
        thread.join(10)
    assert outcomes == ["refused"] * 3
    journal.close()


@pytest.mark.parametrize("fault", ["fail_write", "short_write"])
def test_a_failed_write_is_refused_and_the_next_goes_to_a_new_file(folder, fault, monkeypatch):
    monkeypatch.setattr("converter.listener.journal.RETRY", 0.0)
    disk = Disk()
    journal = Journal(folder, 1, system=disk)
    journal.append(b"good")
    setattr(disk, fault, errno.ENOSPC)
    with pytest.raises(JournalError):
        journal.append(b"refused")
    setattr(disk, fault, 0)
    journal.append(b"good again")
    journal.close()
    assert payloads(folder) == [b"good", b"good again"]
    assert not list(folder.glob("*.new"))


def test_after_a_failure_the_disk_is_not_asked_once_an_image(folder):
    disk = Disk()
    journal = Journal(folder, 1, system=disk)
    disk.fail_write = errno.ENOSPC
    with pytest.raises(JournalError):
        journal.append(b"a")
    calls = len(disk.calls)
    for _ in range(100):
        with pytest.raises(JournalError):
            journal.append(b"a")
    assert len(disk.calls) == calls
    journal.close()


def test_after_a_failure_it_heals_although_nobody_appends(folder, monkeypatch):
    monkeypatch.setattr("converter.listener.journal.RETRY", 0.0)
    monkeypatch.setattr("converter.listener.journal.HEAL", 0.0)
    disk = Disk()
    journal = Journal(folder, 1, system=disk)
    journal.heal()
    assert disk.calls == [], "nothing has failed"
    disk.fail_write = errno.EIO
    with pytest.raises(JournalError):
        journal.append(b"a")
    journal.heal()
    assert journal.failing
    disk.fail_write = 0
    journal.heal()
    assert not journal.failing
    journal.append(b"good again")
    journal.close()
    assert payloads(folder) == [b"good again"]


def test_the_backlog_counts_finished_segments(folder):
    journal = Journal(folder, 1, segment_size=320)
    journal.append(b"x" * 200)
    assert journal.backlog() == 0
    journal.append(b"y" * 200)
    assert journal.backlog() == 320
    journal.close()


def test_a_full_disk_refuses_and_recovers(tmp_path, monkeypatch):
    monkeypatch.setattr("converter.listener.journal.RETRY", 0.0)
    mount = tmp_path / "small"
    mount.mkdir()
    subprocess.run(
        [shutil.which("mount"), "-t", "tmpfs", "-o", "size=1m", "tmpfs", mount], check=True
    )
    try:
        journal = Journal(mount / "journal", 1, segment_size=100_000)
        acknowledged = []

        def fill():
            for number in range(10_000):
                payload = b"%d" % number + b"." * 1000
                journal.append(payload)
                acknowledged.append(payload)

        with pytest.raises(JournalError):
            fill()
        assert payloads(mount / "journal")[: len(acknowledged)] == acknowledged
        assert not list((mount / "journal").glob("*.new"))
        segments(mount / "journal")[0][1].unlink()
        journal.append(b"room again")
        journal.close()
        assert payloads(mount / "journal")[-1] == b"room again"
    finally:
        subprocess.run([shutil.which("umount"), "-l", mount], check=True)


WRITER = """
import sys
from pathlib import Path
from converter.listener.journal import Journal
journal = Journal(Path(sys.argv[1]), int(sys.argv[2]), segment_size=20_000)
number = 0
while True:
    payload = b"%s-%d" % (sys.argv[2].encode(), number)
    journal.append(payload)
    sys.stdout.buffer.write(payload + b"\\n")
    sys.stdout.buffer.flush()
    number += 1
"""


def test_a_killed_writer_loses_nothing_that_it_acknowledged(folder):
    acknowledged = []
    for epoch in range(1, 6):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, folder, str(epoch)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        ) as process:
            acknowledged += [process.stdout.readline().strip() for _ in range(60 + 17 * epoch)]
            process.send_signal(signal.SIGKILL)
            acknowledged += [
                line.strip() for line in process.stdout.readlines() if line.endswith(b"\n")
            ]
    assert set(acknowledged) <= set(payloads(folder))
