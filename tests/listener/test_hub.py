"""Associations that send small objects share one thread, one sync and nothing else: what is not for it comes out of it unchanged."""

from __future__ import annotations

import errno
import os
import threading
import zlib
from contextlib import ExitStack

import pytest

from converter.listener.wire import whole_store
from tools.dicom_sender import (
    CT,
    Gone,
    Sender,
    command,
    pdu,
    pdv,
    store,
)

DEFLATED = "1.2.840.10008.1.2.1.99"


class Disk:
    """A disk that notes in which thread it was synced, and waits or fails when told."""

    def __init__(self):
        self.threads = []
        self.entered, self.leave = threading.Event(), threading.Event()
        self.leave.set()
        self.code = 0

    write = staticmethod(os.pwrite)
    sync = staticmethod(os.fsync)

    def datasync(self, descriptor):
        self.threads.append(threading.current_thread().name)
        self.entered.set()
        assert self.leave.wait(10)
        if self.code:
            raise OSError(self.code, os.strerror(self.code))
        os.fdatasync(descriptor)

    def hold(self):
        self.entered.clear()
        self.leave.clear()


def message(sender, data, uid, **more):
    sender.send(*store(1, CT, uid, data, max_pdu=sender.max_pdu or 131072, **more))


@pytest.fixture
def disk():
    return Disk()


@pytest.fixture(autouse=True)
def one_is_enough(monkeypatch):
    """For the hub, which leaves one association alone to its own thread."""
    monkeypatch.setattr("converter.listener.hub.ENOUGH", 1)


def senders(stack, running, count, data_set):
    """Associations that are the hub's: each has sent one object."""
    made = []
    for _ in range(count):
        sender = stack.enter_context(Sender(running.port).associate())
        data, uid = data_set(len(made) + 1)
        assert sender.store(data, uid).status == 0
        made.append(sender)
    return made


def test_those_that_come_while_a_sync_runs_share_the_next_and_none_is_answered_before_it(
    listening, data_set, disk
):
    with listening(system=disk) as running, ExitStack() as stack:
        first, *others = senders(stack, running, 6, data_set)
        assert first.store(*data_set(1)).status == 0  # it may have been given back meanwhile
        disk.threads.clear()
        disk.hold()
        message(first, *data_set(10))
        assert disk.entered.wait(10)
        for number, sender in enumerate(others, 20):
            message(sender, *data_set(number))
        for sender in (first, *others):
            sender.sock.settimeout(0.05)
            with pytest.raises(TimeoutError):
                sender.sock.recv(1)
            sender.sock.settimeout(10)
        disk.leave.set()
        for sender in (first, *others):
            assert sender.response().status == 0
            sender.release()
        assert disk.threads[0] == "hub"
        assert len(running.kept()) == 13
        # those whose threads took them back meanwhile, for they had been silent, may have come a sync later
        assert len(disk.threads) <= 3


def test_one_association_alone_is_served_by_its_own_thread_and_two_are_not(
    listening, data_set, disk, monkeypatch
):
    monkeypatch.setattr("converter.listener.hub.ENOUGH", 2)
    with listening(system=disk) as running, ExitStack() as stack:
        (one,) = senders(stack, running, 1, data_set)
        for number in range(5):
            assert one.store(*data_set(number)).status == 0
        assert "hub" not in disk.threads
        (other,) = senders(stack, running, 1, data_set)

        def together():
            for sender in (one, other):
                assert sender.store(*data_set(1)).status == 0
            return "hub" in disk.threads

        running.until(together)
        other.release()

        def alone():
            disk.threads.clear()
            assert one.store(*data_set(1)).status == 0
            return "hub" not in disk.threads

        running.until(alone)
        one.release()


def test_where_the_sync_fails_all_are_told(listening, data_set, disk, monkeypatch):
    monkeypatch.setattr("converter.listener.journal.RETRY", 0.0)
    with listening(system=disk) as running, ExitStack() as stack:
        made = senders(stack, running, 4, data_set)
        disk.code = errno.EIO
        for sender in made:
            message(sender, *data_set(9))
        assert {sender.response().status for sender in made} == {0xA700}
        disk.code = 0
        for sender in made:
            message(sender, *data_set(9))
        assert {sender.response().status for sender in made} == {0}
        for sender in made:
            sender.release()
        assert running.counts()["cstore.journal-failed"] == 4


def test_one_that_is_refused_does_not_concern_the_others(listening, data_set):
    with listening() as running, ExitStack() as stack:
        one, other = senders(stack, running, 2, data_set)
        data, uid = data_set(7)
        for _ in range(20):
            message(one, data, "1.2.3.99")
            message(other, data, uid)
            assert one.response().status == 0xA900
            assert other.response().status == 0
        for sender in (one, other):
            sender.release()


def test_small_large_echo_and_release_by_turns(listening, data_set, disk):
    small, uid = data_set(1)
    large, other = data_set(2, tail=b"\xe0\x7f\x10\x00OW\0\0" + (400_000).to_bytes(4, "little"))
    large += bytes(400_000)
    with listening(system=disk) as running, Sender(running.port).associate() as sender:
        for _ in range(3):
            for _ in range(3):
                assert sender.store(small, uid).status == 0
            assert sender.store(large, other).status == 0
            assert sender.store(small, uid).status == 0
            assert sender.echo().status == 0
        sender.release()
        assert len(running.kept()) == 15
        assert {"hub"} < set(disk.threads)  # the associations' own as well


def test_many_messages_without_waiting_for_answers_are_answered_in_order(listening, data_set):
    with listening() as running, Sender(running.port).associate() as sender:
        data, uid = data_set(1)
        assert sender.store(data, uid).status == 0
        for number in range(200):
            message(sender, data, uid, message_id=number + 1)
        assert [sender.response().message_id for _ in range(200)] == list(range(1, 201))
        sender.release()
        assert len(running.kept()) == 201


def test_a_message_in_pieces_is_one_message_and_others_do_not_wait_for_it(listening, data_set):
    with listening() as running, ExitStack() as stack:
        slow, quick = senders(stack, running, 2, data_set)
        data, uid = data_set(5)
        whole = b"".join(store(1, CT, uid, data, max_pdu=131072))
        for at in range(0, len(whole), 60):
            slow.send(whole[at : at + 60])
            assert quick.store(*data_set(at)).status == 0
        assert slow.response().status == 0
        for sender in (slow, quick):
            sender.release()


@pytest.mark.parametrize(
    "bad",
    [
        pdu(pdv(5, b"\0" * 40, is_command=True)),
        pdu(pdv(1, b"\7" * 40, is_command=True)) + pdu(pdv(1, b"\0" * 40)),
        pdu(pdv(1, command(1, 1, sop_class=CT), is_command=True)) + pdu(pdv(3, b"\0" * 40)),
        pdu(pdv(1, b"\0" * 40)),
    ],
)
def test_who_breaks_the_protocol_goes_alone(listening, data_set, bad):
    with listening() as running, ExitStack() as stack:
        one, other = senders(stack, running, 2, data_set)
        one.send(bad)
        with pytest.raises(Gone):
            one.response()
        one.sock.close()
        assert other.store(*data_set(4)).status == 0
        other.release()
        running.until(lambda: not running.receiver.connections)


def test_who_goes_away_before_the_answer_keeps_nobody(listening, data_set, disk):
    with listening(system=disk) as running, ExitStack() as stack:
        one, other = senders(stack, running, 2, data_set)
        disk.hold()
        message(one, *data_set(8))
        assert disk.entered.wait(10)
        one.sock.close()
        disk.leave.set()
        assert other.store(*data_set(9)).status == 0
        other.release()
        running.until(lambda: not running.receiver.connections)
        assert len(running.kept()) == 4


def test_deflated_objects_are_taken_by_their_own_thread(listening, make_dicom, disk):
    whole = make_dicom(sop="1.2.3.4.1")
    data = whole[144 + int.from_bytes(whole[140:144], "little") :]
    squeezer = zlib.compressobj(wbits=-15)
    data = squeezer.compress(data) + squeezer.flush()
    data += b"\0" * (len(data) % 2)
    with (
        listening(system=disk) as running,
        Sender(running.port).associate([(1, CT, (DEFLATED,))]) as sender,
    ):
        for _ in range(3):
            assert sender.store(data, "1.2.3.4.1").status == 0
        sender.release()
        assert "hub" not in disk.threads


def test_where_it_fails_nobody_waits_for_an_answer_and_own_threads_go_on(
    listening, data_set, monkeypatch, caplog
):
    def broken(*_arguments):
        raise RuntimeError("P1")

    with listening() as running, ExitStack() as stack:
        monkeypatch.setattr("converter.listener.hub.Hub._answer", broken)
        sender = stack.enter_context(Sender(running.port).associate())

        def until_it_fails():
            while True:
                assert sender.store(*data_set(1)).status == 0

        with pytest.raises(Gone):
            until_it_fails()
        assert "the hub failed: RuntimeError" in caplog.messages
        (other,) = senders(stack, running, 1, data_set)
        for number in range(3):
            assert other.store(*data_set(number)).status == 0
        other.release()
        sender.sock.close()


def test_after_the_drain_each_association_is_answered_by_its_own_thread(listening, data_set):
    with listening() as running, ExitStack() as stack:
        (sender,) = senders(stack, running, 1, data_set)
        running.receiver.close()
        for number in range(3):
            assert sender.store(*data_set(number)).status == 0xA700
        sender.release()


CONTEXTS = pdu(pdv(1, command(1, 1, sop_class=CT, sop_instance="1.2"), is_command=True))


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (CONTEXTS + pdu(pdv(1, b"1234")), True),
        (CONTEXTS + pdu(pdv(1, b"1234", last=False), pdv(1, b"")), True),
        (CONTEXTS + pdu(pdv(1, b"1234")) + b"\4\0", True),
        (CONTEXTS + pdu(pdv(1, b"1234", last=False)), False),
        (CONTEXTS + pdu(pdv(1, b"1234"))[:-1], False),
        (CONTEXTS, False),
        (CONTEXTS[:20], False),
        (b"\4", False),
        (b"", False),
        (b"\5\0\0\0\0\4\0\0\0\0", None),
        (CONTEXTS + b"\7\0\0\0\0\4\0\0\0\0", None),
        (pdu(pdv(1, command(0x30, 1, data_set=False), is_command=True)), None),
        (CONTEXTS + pdu(pdv(1, bytes(120_000)))[:5000], None),
        (b"\4\0\0\0\0\x06\0\0\0\1\1\0", None),
        (b"\4\0\0\0\0\x06\0\0\0\x09\1\0" + bytes(20), None),
        (b"\4\0\xff\xff\xff\xff", None),
    ],
)
def test_what_is_a_whole_message_is_told_by_its_lengths(data, whole):
    before = b"other bytes"
    held = bytearray(before + data + bytes(50))
    assert whole_store(held, len(before), len(before) + len(data), 32 << 10) is whole


def test_any_cut_of_a_message_is_not_whole(data_set):
    data, uid = data_set(1)
    whole = b"".join(store(1, CT, uid, data, max_pdu=64))
    found = [whole_store(whole, 0, end, 32 << 10) for end in range(len(whole) + 1)]
    assert found[-1] is True
    assert set(found[:-1]) == {False}
