"""A damaged journal costs the records that were hit, and no other; it is said, counted, and kept to be looked at."""

from __future__ import annotations

import logging
import struct
from contextlib import closing
from zlib import crc32

import pytest

from converter.listener.desk import Desk
from converter.listener.journal import Journal, segments
from converter.listener.record import Received, pack_received
from converter.listener.tail import HEADER, Tail, pack_record
from converter.listener.writer import Writer

STUDY = "1.2.3"


def one(number, junk=b"\x01"):
    sop = f"{STUDY}.1.{number}"
    header = {0x00080018: sop.encode(), 0x0020000D: STUDY.encode(), 0x00081030: junk}
    return pack_received(Received(number, 1, "CT1", STUDY, f"{STUDY}.1", sop, [], header))


class Bench:
    """A journal of 40 records whose writer was killed, to be damaged and taken in."""

    def __init__(self, folder):
        self.folder = folder
        self.ledger = Desk(folder / "listen.db")
        self.writer = Writer(self.ledger, lambda *_: None, lambda _: False)
        self.written = [one(number) for number in range(1, 41)]
        self.write(self.written)

    def write(self, payloads, epoch=1):
        journal = Journal(self.folder / "journal" / "r0", epoch, segment_size=1 << 16)
        for payload in payloads:
            journal.append(payload)
        journal.close()
        ((_, self.path),) = segments(self.folder / "journal" / "r0")

    def at(self, number):
        """Where a record begins."""
        return HEADER + sum(len(pack_record(record, bytes(8))) for record in self.written[:number])

    def damage(self, at, content=None):
        data = bytearray(self.path.read_bytes())
        content = bytes([data[at] ^ 0x40]) if content is None else content
        data[at : at + len(content)] = content
        self.path.write_bytes(data)

    def recover(self):
        """How many instances are there after a start."""
        self.writer.recover(self.folder / "journal")
        with self.ledger.database.guard():
            asked = "SELECT count(*) FROM received_instance"
            return self.ledger.database.connection.execute(asked).fetchone()[0]

    def kept(self):
        return sorted(path.suffix for path in self.path.parent.iterdir() if path.name != "lock")


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    yield made
    made.writer.close()
    made.ledger.close()


@pytest.mark.parametrize(
    "place", ["marker", "length", "length beyond the end", "checksum", "payload", "first"]
)
def test_a_flipped_byte_costs_one_record(bench, caplog, place):
    number = 0 if place == "first" else 19
    start = bench.at(number)
    into = {"marker": 3, "length": 8, "length beyond the end": 10, "checksum": 13}.get(place, 40)
    bench.damage(start + into)
    with caplog.at_level(logging.WARNING):
        assert bench.recover() == 39
    assert bench.writer.damaged == 1
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    size = bench.at(number + 1) - start
    told = f"r0/0000000001.journal is damaged: {size} bytes from {start} on; at least 1 record"
    assert told in record.getMessage()
    assert bench.kept() == [".damaged"]


def test_a_sector_that_came_back_as_zeros_costs_what_it_held(bench):
    bench.damage(bench.at(10) + 5, bytes(512))
    found = bench.recover()
    assert 30 <= found < 40
    assert 1 <= bench.writer.damaged <= 40 - found
    assert bench.kept() == [".damaged"]


@pytest.mark.parametrize("at", [0, 3, 9, 17, 25])
def test_a_damaged_header_costs_nothing(bench, caplog, at):
    bench.damage(at)
    assert bench.recover() == 40
    assert "the header of the journal r0/0000000001.journal is damaged" in caplog.text
    assert bench.kept() == [".damaged"]


def test_the_header_at_the_end_is_not_missed_where_the_first_is_whole(bench, caplog):
    bench.damage(bench.path.stat().st_size - HEADER + 3)
    assert bench.recover() == 40
    assert "lost" not in caplog.text


def test_a_journal_without_any_header_is_kept_and_counted(bench, caplog):
    bench.damage(3)
    bench.damage(bench.path.stat().st_size - HEADER + 3)
    assert bench.recover() == 0
    assert bench.writer.damaged == 1
    assert "cannot be read" in caplog.text
    assert bench.kept() == [".damaged"]


def test_a_record_that_was_being_written_is_no_damage(bench, caplog):
    bench.damage(bench.at(39) + 40)
    assert bench.recover() == 39
    assert bench.writer.damaged == 0
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert bench.kept() == [".torn"]


def test_what_is_kept_of_one_crash_is_not_written_over_by_the_next(bench):
    for _ in range(3):
        bench.damage(bench.at(19) + 40)
        bench.recover()
        bench.write(bench.written)
        assert bench.path.name == "0000000001.journal", "numbers begin again"
    assert bench.kept() == [".damaged"] * 3 + [".journal"]


def test_what_a_peer_sends_never_passes_for_a_record(bench):
    """Whole records within a payload that is damaged: of the version before, and with a marker that was guessed."""
    forged = one(99)
    old = struct.pack("<II", len(forged), crc32(forged, len(forged))) + forged
    bench.recover()
    bench.written = [one(50, (old + pack_record(forged, b"guessed!")) * 3), one(51)]
    bench.write(bench.written)
    bench.damage(bench.at(0) + 30)
    assert bench.recover() == 41
    assert bench.writer.damaged == 1


def test_what_lay_in_the_place_of_a_segment_is_not_raised_again(bench):
    """Records of another run, as a file that is used again would hold them, have another marker."""
    old = bench.path.read_bytes()[bench.at(20) : bench.at(40)]
    bench.path.unlink()
    bench.write(bench.written[:5], epoch=2)
    bench.damage(bench.at(20), old)
    assert bench.recover() == 5
    assert bench.writer.damaged == 0


def test_a_segment_of_the_version_before_is_taken_in(bench):
    old = b"".join(
        struct.pack("<II", len(record), crc32(record, len(record))) + record
        for record in bench.written
    )
    bench.path.write_bytes(struct.pack("<8sQ", b"D2FJ\x01\0\0\0", 7) + old + bytes(4096))
    with closing(Tail(bench.path)) as tail:
        assert tail.epoch == 7
        assert tail.read() == bench.written
    assert bench.recover() == 40
    assert bench.kept() == []


def test_what_waits_in_the_segment_in_use_is_counted(bench):
    """With a store that takes nothing, 40 acknowledged objects used to be 0 bytes."""
    folder = bench.folder / "journal" / "r0"
    assert bench.writer.waiting([folder]) == bench.at(40) - HEADER
    bench.writer.ingest([folder])
    assert bench.writer.waiting([folder]) == 0
    journal = Journal(folder, 2, segment_size=1 << 16)
    journal.append(one(41))
    assert bench.writer.waiting([folder]) == len(one(41)) + 16
    journal.close()


def test_what_was_damaged_is_said_once_where_the_store_refuses_first(bench, monkeypatch, caplog):
    from converter.errors import StoreError

    bench.damage(bench.at(19) + 40)
    take = bench.writer._take

    def refuse(batch):
        monkeypatch.setattr(bench.writer, "_take", take)
        raise StoreError("full")

    monkeypatch.setattr(bench.writer, "_take", refuse)
    with pytest.raises(StoreError):
        bench.recover()
    assert bench.recover() == 39
    assert bench.writer.damaged == 1
    assert caplog.text.count("is damaged") == 1
