"""Whole objects as files: on the disk before the answer, whole or not at all, in a place that no peer names."""

from __future__ import annotations

import io
import os
import stat
import struct
from pathlib import Path

import pydicom
import pytest
from test_ledger import one
from test_receiver import Failing, pixels

from converter.core.ids import study_id
from converter.errors import StoreError
from converter.listener import files
from converter.listener.desk import Desk
from converter.listener.files import IMPLEMENTATION, Incoming, place_of, purge, settle, sweep
from converter.listener.journal import Journal
from converter.listener.record import pack_received
from converter.listener.writer import Writer
from tools.dicom_sender import CT, EXPLICIT, Sender, command, pdu, pdv

STUDY = "1.2.3"


@pytest.fixture
def keeping(both, tmp_path):
    """A receiver that keeps files: ``with keeping(...) as running``."""
    root = tmp_path / "files"
    root.mkdir()

    def start(**settings):
        return both(keep_files=str(root), **settings)

    start.root = root
    start.fast = both.fast
    return start


def incoming(root):
    return sorted(path for path in root.glob("incoming/*/*"))


@pytest.mark.parametrize("size", [0, 100, 40_000, 700_001])
def test_a_file_is_what_was_sent_with_meta_information(keeping, data_set, size):
    data, uid = data_set(tail=pixels(size + size % 2) if size else b"")
    with keeping() as running, Sender(running.port).associate() as sender:
        assert sender.store(data, uid, max_pdu=16384).status == 0
        sender.release()
        (received,) = running.kept()
    (path,) = incoming(keeping.root)
    assert received.file == str(path)
    content = path.read_bytes()
    assert content.endswith(data)
    read = pydicom.dcmread(io.BytesIO(content))
    meta = read.file_meta
    assert content[128:132] == b"DICM"
    assert meta.FileMetaInformationGroupLength == len(content) - len(data) - 132 - 12
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (CT, uid)
    assert meta.TransferSyntaxUID == EXPLICIT
    assert meta.ImplementationClassUID == IMPLEMENTATION
    assert meta.ImplementationVersionName.startswith("DCM2FHIR_")
    assert meta.SourceApplicationEntityTitle == "TESTER"
    assert len(read.get("PixelData", b"")) == (size + size % 2)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for folder in (path.parent, path.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_file_and_folder_are_synced_before_the_journal_and_the_answer(
    keeping, data_set, monkeypatch
):
    order = []
    fsync, folder = os.fsync, files.sync_folder

    def synced(descriptor):
        order.append("file")
        fsync(descriptor)

    def folder_synced(path):
        order.append("folder")
        folder(path)

    class Watching(Failing):
        def datasync(self, descriptor):
            order.append("journal")
            super().datasync(descriptor)

    data, uid = data_set()
    with (
        keeping(system=Watching()) as running,
        Sender(running.port).associate() as sender,
    ):
        Watching.sync = lambda _self, descriptor: fsync(descriptor)
        sender.store(data, uid)
        order.clear()
        monkeypatch.setattr(files.os, "fsync", synced)
        monkeypatch.setattr(files, "sync_folder", folder_synced)
        assert sender.store(data, uid).status == 0
        monkeypatch.undo()
        assert order[0] == "file"
        assert order.index("folder") < order.index("journal")
        sender.release()


def test_what_is_refused_or_broken_off_leaves_nothing(keeping, data_set):
    data, uid = data_set(tail=pixels(200_000))
    with keeping() as running:
        with Sender(running.port).associate() as sender:
            assert sender.store(data, "1.2.3.4.99").status == 0xA900
            assert sender.store(data[:40], uid).status >= 0xC000
            head = command(1, 1, sop_class=CT, sop_instance=uid)
            sender.send(pdu(pdv(1, head, is_command=True)))
            sender.send(pdu(pdv(1, data[:100_000], last=False)))
            if keeping.fast:
                running.until(lambda: incoming(keeping.root))
            sender.abort()
        running.until(lambda: not running.receiver.connections)
        assert incoming(keeping.root) == []
        assert running.kept() == []


def test_when_the_journal_fails_nothing_is_left(keeping, data_set):
    data, uid = data_set()
    disk = Failing()
    disk.sync = os.fsync
    with keeping(system=disk) as running, Sender(running.port).associate() as sender:
        assert sender.store(data, uid).status == 0
        disk.code = 5
        assert sender.store(data, uid).status == 0xA700
        assert len(incoming(keeping.root)) == 1
        disk.code = 0
        sender.release()


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_when_the_file_fails_the_answer_is_a700_and_nothing_is_left(
    keeping, data_set, monkeypatch, call
):
    data, uid = data_set(tail=pixels(300_000))

    class Broken:
        def __getattr__(self, name):
            if name == call:
                return self.fail
            return getattr(os, name)

        def fail(self, *_):
            raise OSError(5, "Input/output error")

    with keeping() as running, Sender(running.port).associate() as sender:
        monkeypatch.setattr(files, "os", Broken())
        response = sender.store(data, uid)
        assert (response.status, response.comment) == (0xA700, "File not writable")
        monkeypatch.undo()
        assert incoming(keeping.root) == []
        assert sender.store(data, uid).status == 0
        sender.release()
        assert len(running.kept()) == 1


def test_the_disk_reserve_is_of_the_disk_of_the_files_too(keeping, data_set, monkeypatch):
    data, uid = data_set(tail=pixels(300_000))
    with keeping(disk_reserve=1 << 20) as running, Sender(running.port).associate() as sender:
        real = os.statvfs

        def full(path):
            held = real(path)
            if Path(path) != keeping.root:
                return held
            return os.statvfs_result((*held[:4], 10, *held[5:]))

        monkeypatch.setattr(os, "statvfs", full)
        running.receiver._storer.guard._next = 0
        assert sender.store(data, uid).status == 0xA700
        assert incoming(keeping.root) == []
        sender.release()


def test_a_receiver_that_starts_removes_what_a_dead_one_had_begun(keeping):
    with keeping():
        (folder,) = (keeping.root / "incoming").iterdir()
    (folder / "a.part").write_bytes(b"half")
    (folder / "b.dcm").write_bytes(b"acknowledged, and still in the journal")
    with keeping():
        assert [path.name for path in incoming(keeping.root)] == ["b.dcm"]


# --- places ---------------------------------------------------------------------------------------


def arrived(root, content, name):
    journal = root / "journal" / "r0"
    folder = Incoming(root, journal)._folder
    path = folder / name
    path.write_bytes(content)
    return str(path)


def test_a_place_is_made_of_digests_and_never_of_what_a_peer_says(tmp_path):
    place = place_of(tmp_path, "../../etc/passwd", "/../x")
    assert place.is_relative_to(tmp_path)
    assert len(place.relative_to(tmp_path).parts) == 3
    assert ".." not in str(place)
    place = place_of(tmp_path, STUDY, "1.2.3.4.1")
    assert place.parent.name == study_id(STUDY)
    assert place.parent.parent.name == study_id(STUDY)[:2]


def test_files_are_moved_to_their_places_once_and_the_later_stays(tmp_path):
    first = (arrived(tmp_path, b"first", "1.dcm"), STUDY, "1.2.3.4.1")
    other = (arrived(tmp_path, b"other", "2.dcm"), STUDY, "1.2.3.4.2")
    later = (arrived(tmp_path, b"later", "3.dcm"), STUDY, "1.2.3.4.1")
    settle([first, other, later], [])
    place = place_of(tmp_path, STUDY, "1.2.3.4.1")
    assert place.read_bytes() == b"later"
    assert place_of(tmp_path, STUDY, "1.2.3.4.2").read_bytes() == b"other"
    # as after a crash before the journal was deleted
    settle([first, other, later], [])
    assert place.read_bytes() == b"later"
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    older = arrived(tmp_path, b"older", "4.dcm")
    settle([], [older, older])
    assert place.read_bytes() == b"later"
    assert incoming(tmp_path) == []


def test_sweeping_removes_what_no_journal_names(tmp_path):
    arrived(tmp_path, b"x", "1.dcm")
    arrived(tmp_path, b"x", "2.part")
    assert sweep(tmp_path, tmp_path / "other-journal") == 0
    assert sweep(tmp_path, tmp_path / "journal") == 2
    assert sweep(tmp_path / "nowhere", tmp_path / "journal") == 0


def test_purging_a_study_removes_old_files_and_empty_folders(tmp_path):
    settle([(arrived(tmp_path, b"x", f"{n}.dcm"), STUDY, f"1.2.{n}") for n in range(3)], [])
    os.utime(place_of(tmp_path, STUDY, "1.2.0"), (1000, 1000))
    assert purge(tmp_path, STUDY, 2000.0) == 1
    assert place_of(tmp_path, STUDY, "1.2.1").is_file()
    assert purge(tmp_path, STUDY, 1e12) == 2
    assert not place_of(tmp_path, STUDY, "1.2.1").parent.parent.exists()
    assert purge(tmp_path, STUDY, 1e12) == 0


def test_when_files_cannot_be_moved_studies_settle_and_the_journal_waits(tmp_path, monkeypatch):
    told = []
    ledger = Desk(tmp_path / "listen.db")
    journal = Journal(tmp_path / "journal" / "r0", 1)
    received = one(1)
    received.file = arrived(tmp_path, b"whole", "1.dcm")
    journal.append(pack_received(received))
    writer = Writer(ledger, lambda study, state: told.append((study, state)), lambda _: False)

    def broken(*_):
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", broken)
        for _ in range(2):
            with pytest.raises(StoreError, match="--keep-files"):
                writer.ingest([journal.folder])
    assert told == [(STUDY, "receiving")]
    assert writer.ingest([journal.folder]) == 1
    assert place_of(tmp_path, STUDY, received.sop_instance_uid).read_bytes() == b"whole"
    # what comes late, of an earlier moment, replaces nothing
    earlier = one(1, stamp=0)
    earlier.stamp, earlier.file = 0, arrived(tmp_path, b"earlier", "2.dcm")
    journal.append(pack_received(earlier))
    assert writer.ingest([journal.folder]) == 1
    assert place_of(tmp_path, STUDY, received.sop_instance_uid).read_bytes() == b"whole"
    assert incoming(tmp_path) == []
    writer.close()
    journal.close()
    ledger.close()


def test_meta_information_of_odd_lengths_is_padded():
    made = files.meta("1.2.840.10008.1.2", b"1.2.3", b"1.2.34\0", "A" * 30)
    read = pydicom.dcmread(io.BytesIO(made + b"\x08\0\x60\0" + struct.pack("<I", 2) + b"CT"))
    assert read.file_meta.MediaStorageSOPInstanceUID == "1.2.34"
    assert read.file_meta.SourceApplicationEntityTitle == "A" * 16
    assert read.Modality == "CT"
