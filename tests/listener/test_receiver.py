"""Receiving, on the fast path and on pynetdicom's own: what is kept, what is answered, what ends an association."""

from __future__ import annotations

import errno
import os
import struct
import threading
import time

import pytest

from converter.listener import private
from converter.listener.policy import Policy
from tools.dicom_sender import (
    CT,
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    Gone,
    Rejected,
    Sender,
    associate_rq,
    command,
    pdu,
    pdv,
    store,
)

PIXELS = b"\xe0\x7f\x10\x00OW\0\0"


def pixels(size):
    return PIXELS + struct.pack("<I", size) + bytes(size)


def test_an_object_is_kept_and_acknowledged(both, data_set):
    data, uid = data_set()
    with both() as running, Sender(running.port).associate() as sender:
        assert sender.store(data, uid).status == 0x0000
        (received,) = running.kept()
        assert received.sop_instance_uid == uid
        assert received.calling == "TESTER"
        assert received.header[0x00100020] == b"P1"
        assert running.receiver.state().open == [(1, "127.0.0.1", "1.2.3")]
        sender.release()
        running.until(lambda: running.receiver.state().ended == [1])


def test_many_objects_on_one_association_with_pixels_of_all_sizes(both, data_set):
    with both() as running, Sender(running.port).associate() as sender:
        for number, size in enumerate([0, 1, 5, 16000, 16380, 100_000, 700_000], 1):
            data, uid = data_set(number, tail=pixels(size) if size else b"")
            for max_pdu in (4096, 16384, 131072):
                response = sender.store(data, uid, message_id=number, max_pdu=max_pdu)
                assert (response.status, response.message_id) == (0x0000, number)
        sender.release()
        assert len(running.kept()) == 21


def test_echo_between_stores(both, data_set):
    data, uid = data_set()
    with both() as running, Sender(running.port).associate() as sender:
        for _ in range(3):
            assert sender.echo().status == 0
            assert sender.store(data, uid).status == 0
        sender.release()
        assert running.counts()["cecho.success"] == 3


def test_a_pause_between_objects_hands_back_and_goes_on(both, data_set):
    data, uid = data_set()
    with both() as running, Sender(running.port).associate() as sender:
        for _ in range(3):
            assert sender.store(data, uid).status == 0
            running.until(lambda: not private_parked(running))
        sender.release()
        assert len(running.kept()) == 3


def private_parked(running):
    """Whether an association's own thread rests, which it does while the fast path has it."""
    return any(
        not thread._reactor_checkpoint.is_set()
        for thread in threading.enumerate()
        if isinstance(thread, private.Association) and thread.is_acceptor
    )


def test_a_message_split_at_any_place_is_one_message(both, data_set):
    data, uid = data_set(tail=pixels(40))
    head = command(1, 9, sop_class=CT, sop_instance=uid)
    whole = pdu(pdv(1, head, is_command=True)) + pdu(pdv(1, data))
    with both() as running, Sender(running.port).associate() as sender:
        for at in range(1, len(whole), 7):
            sender.send(whole[:at])
            time.sleep(0)
            sender.send(whole[at:])
            assert sender.response().status == 0
        sender.release()


def test_a_slow_sender_is_never_split_between_two_decoders(both, data_set, monkeypatch):
    monkeypatch.setattr("converter.listener.stream.SLICE", 0.001)
    data, uid = data_set()
    whole = b"".join(store(1, CT, uid, data, max_pdu=64))
    with both() as running, Sender(running.port).associate() as sender:
        for at in range(0, len(whole), 97):
            sender.send(whole[at : at + 97])
            threading.Event().wait(0.012)  # longer than the silence that hands back
        assert sender.response().status == 0
        assert sender.echo().status == 0
        sender.release()


@pytest.mark.parametrize("step", [1, 3, 50, 1000])
def test_a_command_in_fragments(both, data_set, step):
    data, uid = data_set()
    head = command(1, 9, sop_class=CT, sop_instance=uid)
    parts = [head[at : at + step] for at in range(0, len(head), step)]
    fragments = [
        pdv(1, part, is_command=True, last=index == len(parts) - 1)
        for index, part in enumerate(parts)
    ]
    with both() as running, Sender(running.port).associate() as sender:
        sender.send(*[pdu(fragment) for fragment in fragments], pdu(pdv(1, data)))
        assert sender.response().status == 0
        sender.send(pdu(*fragments, pdv(1, data[:100], last=False)), pdu(pdv(1, data[100:])))
        assert sender.response().status == 0
        sender.release()
        assert len(running.kept()) == 2


def test_several_values_in_one_pdu(both, data_set):
    data, uid = data_set()
    head = command(1, 9, sop_class=CT, sop_instance=uid)
    thirds = [
        pdv(1, data[at : at + 60], last=at + 60 >= len(data)) for at in range(0, len(data), 60)
    ]
    with both() as running, Sender(running.port).associate() as sender:
        sender.send(pdu(pdv(1, head, is_command=True), *thirds))
        assert sender.response().status == 0
        sender.release()


def test_two_messages_in_one_pdu_and_an_echo_behind_a_store(listening, data_set):
    """Which pynetdicom itself drops: it takes one message from a PDU."""
    data, uid = data_set()
    head = command(1, 9, sop_class=CT, sop_instance=uid)
    one = (pdv(1, head, is_command=True), pdv(1, data))
    echo = pdv(3, command(0x30, 7, data_set=False, sop_class=VERIFICATION), is_command=True)
    with listening() as running, Sender(running.port).associate() as sender:
        sender.send(pdu(*one, *one, echo, *one))
        assert [sender.response().field for _ in range(4)] == [0x8001, 0x8001, 0x8030, 0x8001]
        sender.release()
        assert len(running.kept()) == 3


def test_a_cancel_is_no_reason_to_stop(both, data_set):
    data, uid = data_set()
    cancel = command(0x0FFF, 1, data_set=False)
    with both() as running, Sender(running.port).associate() as sender:
        for _ in range(2):
            sender.send(pdu(pdv(1, cancel, is_command=True)))
            assert sender.store(data, uid).status == 0
        sender.release()


def test_a_store_without_a_data_set_is_answered(listening, data_set):
    data, uid = data_set()
    head = command(1, 9, data_set=False, sop_class=CT, sop_instance=uid)
    with listening() as running, Sender(running.port).associate() as sender:
        sender.send(pdu(pdv(1, head, is_command=True)))
        assert sender.response().status == 0xC001
        assert sender.store(data, uid).status == 0
        sender.release()
        assert running.counts()["cstore.truncated"] == 1


@pytest.mark.parametrize(
    "bad",
    [
        pdu(pdv(5, b"\0" * 40, is_command=True)),  # a context that was not accepted
        pdu(pdv(1, b"\0" * 40)),  # a data set first
        pdu(pdv(1, b"\7" * 40, is_command=True)),  # no command set
        pdu(pdv(1, command(0x30)[:-3], is_command=True)),
        b"\4\0" + struct.pack(">I", 10) + struct.pack(">IBB", 100, 1, 3) + bytes(4),
        b"\4\0" + struct.pack(">I", 10) + struct.pack(">IBB", 1, 1, 3) + bytes(4),
        b"\4\0" + struct.pack(">I", 3) + bytes(3),
        b"\x09\0\0\0\0\4\0\0\0\0",
        b"\1\0\0\0\0\4\0\0\0\0",
    ],
)
def test_what_breaks_the_protocol_ends_the_association_and_nothing_else(listening, data_set, bad):
    data, uid = data_set()
    with listening() as running:
        with Sender(running.port).associate() as other:
            with Sender(running.port).associate() as sender:
                assert sender.store(data, uid).status == 0
                sender.send(bad)
                with pytest.raises(Gone):
                    sender.response()
            assert other.store(data, uid).status == 0
            other.release()
        running.until(lambda: not running.receiver.connections)


def test_another_context_within_a_message_is_refused(listening, data_set):
    data, uid = data_set()
    contexts = ((1, CT, (EXPLICIT,)), (3, CT, (IMPLICIT,)))
    head = command(1, 9, sop_class=CT, sop_instance=uid)
    with listening() as running, Sender(running.port).associate(contexts) as sender:
        sender.send(pdu(pdv(1, head, is_command=True)), pdu(pdv(3, data)))
        with pytest.raises(Gone):
            sender.response()
        assert running.kept() == []


def test_an_abort_in_the_middle_of_an_object_keeps_nothing_of_it(both, data_set):
    data, uid = data_set(tail=pixels(300_000))
    with both() as running:
        with Sender(running.port).associate() as sender:
            assert sender.store(data, uid).status == 0
            parts = list(store(1, CT, uid, data, max_pdu=16384))
            sender.send(*parts[:-4])
            sender.abort()
        running.until(lambda: not running.receiver.connections)
        assert len(running.kept()) == 1


def test_a_peer_that_goes_away_in_the_middle_keeps_nothing(both, data_set):
    data, uid = data_set(tail=pixels(300_000))
    with both() as running:
        with Sender(running.port).associate() as sender:
            sender.send(*list(store(1, CT, uid, data, max_pdu=16384))[:-4])
        running.until(lambda: running.receiver.state().ended == [1])
        assert running.kept() == []


def test_whoever_ends_an_association_does_not_wait_for_its_peer(both, data_set):
    data, uid = data_set(tail=pixels(100_000))
    with both(pdu_timeout=60.0) as running, Sender(running.port).associate() as sender:
        assert sender.store(data, uid).status == 0
        sender.send(*list(store(1, CT, uid, data, max_pdu=16384))[:3])
        (association,) = running.until(
            lambda: [
                thread
                for thread in threading.enumerate()
                if isinstance(thread, private.Association) and thread.is_acceptor
            ]
        )
        began = time.monotonic()
        threading.Thread(target=association.abort, daemon=True).start()
        assert sender.pdu()[0] == 7
        assert time.monotonic() - began < 10
        assert len(running.kept()) == 1


def test_a_release_in_the_middle_of_an_object_keeps_nothing(both, data_set):
    data, uid = data_set()
    with both() as running:
        with Sender(running.port).associate() as sender:
            head = command(1, 9, sop_class=CT, sop_instance=uid)
            sender.send(pdu(pdv(1, head, is_command=True)), pdu(pdv(1, data, last=False)))
            sender.release()
        running.until(lambda: not running.receiver.connections)
        assert running.kept() == []


# what is answered


def test_uids_of_command_and_data_set_must_agree(both, data_set):
    data, uid = data_set()
    with both() as running, Sender(running.port).associate() as sender:
        assert sender.store(data, uid + ".1").status == 0xA900
        other = data.replace(b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.5.1.4.1.1.4\0")
        response = sender.store(other, uid)
        assert response.status == 0xA900
        assert response.comment == "Command and data set name different UIDs"
        sender.release()
        assert running.kept() == []


def test_a_class_other_than_the_context_s_is_refused(listening, data_set):
    data, uid = data_set()
    with listening() as running, Sender(running.port).associate() as sender:
        assert sender.store(data, uid, sop_class="1.2.840.10008.5.1.4.1.1.4").status == 0x0122
        assert sender.store(data, uid).status == 0
        sender.release()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda data: b"", 0xC001),
        (lambda data: data[:60], 0xC001),
        (lambda data: b"nothing of the kind" * 20, 0xC001),
        (lambda data: data.replace(b"\x20\0\x0d\0UI\6\0001.2.3\0", b""), 0xC010),
        (lambda data: data.replace(b"\x20\0\x0e\0UI\x08\0001.2.3.1\0", b""), 0xC011),
        (lambda data: data.replace(b"\x08\0\x18\0UI\x0a\0001.2.3.4.1\0", b""), 0xC012),
        (lambda data: data.replace(b"1.2.3\0", b"1..3\0\0"), 0xC013),
        (lambda data: data.replace(b"1.2.3\0", b"../..\0"), 0xC013),
        (lambda data: data.replace(b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.1.3.10".ljust(26, b"\0")), 0xC002),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_never_a_success(both, data_set, change, status):
    data, uid = data_set()
    assert change(data) != data
    with both() as running, Sender(running.port).associate() as sender:
        assert sender.store(change(data), uid).status == status
        assert sender.store(data, uid).status == 0
        sender.release()
        assert len(running.kept()) == 1


def test_success_status_may_be_a_warning(both, data_set):
    data, uid = data_set()
    with both(success="elements-discarded") as running:
        with Sender(running.port).associate() as sender:
            assert sender.store(data, uid).status == 0xB006
            sender.release()
        assert len(running.kept()) == 1


class Failing:
    """A disk that fails when told."""

    code = 0

    def write(self, descriptor, data, offset):
        return os.pwrite(descriptor, data, offset)

    def datasync(self, descriptor):
        if self.code:
            raise OSError(self.code, os.strerror(self.code))
        os.fdatasync(descriptor)

    sync = staticmethod(os.fsync)


def test_a_failing_sync_is_answered_a700_and_recovers(both, data_set, monkeypatch):
    monkeypatch.setattr("converter.listener.journal.RETRY", 0.0)
    data, uid = data_set()
    disk = Failing()
    with both(system=disk) as running, Sender(running.port).associate() as sender:
        assert sender.store(data, uid).status == 0
        disk.code = errno.EIO
        assert sender.store(data, uid).status == 0xA700
        assert sender.store(data, uid).status == 0xA700
        disk.code = 0
        assert sender.store(data, uid).status == 0
        sender.release()


def test_a_fault_of_ours_is_answered_a700_and_the_association_goes_on(
    both, data_set, monkeypatch, caplog
):
    data, uid = data_set()
    with both() as running, Sender(running.port).associate() as sender:
        with monkeypatch.context() as patch:

            def broken(*_arguments, **_more):
                raise RuntimeError("P1")

            patch.setattr("converter.listener.storing.read_bytes", broken)
            assert sender.store(data, uid).status == 0xA700
        assert sender.store(data, uid).status == 0
        sender.release()
        assert running.counts()["cstore.internal"] == 1


def test_under_the_disk_reserve_nothing_is_taken(both, data_set):
    data, uid = data_set(tail=pixels(200_000))
    with both(disk_reserve=1 << 60) as running, Sender(running.port).associate() as sender:
        response = sender.store(data, uid)
        assert (response.status, response.comment) == (0xA700, "Disk under its reserve")
        assert sender.store(data, uid).status == 0xA700
        sender.release()
        assert running.kept() == []


def test_when_the_drain_is_over_nothing_is_taken(both, data_set):
    data, uid = data_set()
    with both() as running, Sender(running.port).associate() as sender:
        assert sender.store(data, uid).status == 0
        running.receiver.close()
        assert sender.store(data, uid).status == 0xA700
        sender.release()


def test_a_value_over_the_limit_is_refused(both, data_set):
    long = struct.pack("<HH2sHI", 0x0010, 0x0010, b"UN", 0, 2 << 20) + b"x" * (2 << 20)
    data, uid = data_set(name="")
    at = data.index(b"\x10\0\x20\0LO")
    empty = data[:at].rindex(b"\x10\0\x10\0PN")
    with both() as running, Sender(running.port).associate() as sender:
        assert sender.store(data[:empty] + long + data[at:], uid).status == 0xC022
        sender.release()


# who may


def test_rejections_say_why(both, data_set):
    policy = Policy(require_called=True, calling=("TESTER",))
    with both(policy=policy) as running:
        for called, calling, expected in [
            ("OTHER", "TESTER", (1, 1, 7)),
            ("DCM2FHIR", "STRANGER", (1, 1, 3)),
        ]:
            with Sender(running.port) as sender, pytest.raises(Rejected) as rejected:
                sender.associate(called=called, calling=calling)
            assert rejected.value.args[0] == expected
        with Sender(running.port).associate() as sender:
            sender.release()
        counts = running.counts()
        assert counts["rejected.called-aet"] == counts["rejected.calling-aet"] == 1


def test_over_a_limit_is_a_transient_rejection(both):
    with both() as running:
        running.over = True
        with Sender(running.port) as sender, pytest.raises(Rejected) as rejected:
            sender.associate()
        assert rejected.value.args[0] == (2, 3, 2)


def test_one_receiver_serves_as_many_associations_as_it_is_given(both, data_set):
    with both() as running:
        senders = [Sender(running.port).associate() for _ in range(40)]
        for number, sender in enumerate(senders, 1):
            data, uid = data_set(number)
            assert sender.store(data, uid).status == 0
        for sender in senders:
            sender.release()
        assert len(running.kept()) == 40


def test_private_classes_only_if_told(both, data_set):
    private_class = "1.2.246.352.70.1.70"
    data, uid = data_set()
    data = data.replace(CT.encode() + b"\0", private_class.encode().ljust(26, b"\0"))
    contexts = ((1, private_class, (EXPLICIT,)), (3, VERIFICATION, (IMPLICIT,)))
    with both() as running, Sender(running.port).associate(contexts) as sender:
        assert sender.accepted == {3: IMPLICIT}
        sender.release()
    with (
        both(policy=Policy(accept_private=True)) as running,
        Sender(running.port).associate(contexts) as sender,
    ):
        assert sender.accepted == {1: EXPLICIT, 3: IMPLICIT}
        assert sender.store(data, uid, private_class).status == 0
        sender.release()


def test_128_contexts_with_45_syntaxes_are_answered_at_once(both):
    syntaxes = [EXPLICIT, IMPLICIT] + [f"1.2.840.10008.1.2.4.{n}" for n in range(50, 93)]
    contexts = [(2 * n + 1, f"1.2.840.10008.5.1.4.1.1.{n + 300}", syntaxes) for n in range(128)]
    with both() as running, Sender(running.port) as sender:
        begin = time.process_time()
        sender.associate(contexts)
        assert time.process_time() - begin < 0.5
        assert sender.accepted == {2 * n + 1: EXPLICIT for n in range(128)}
        sender.release()


# peers that do not behave


def test_connections_that_say_nothing_or_nonsense_cost_nobody_anything(listening, data_set):
    data, uid = data_set()
    with listening() as running:
        before = threading.active_count()
        for _ in range(200):
            Sender(running.port).close()
        for greeting in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"SSH-2.0-x\r\n",
            b"\x16\x03\x01\x02\0\1",
            b"\4\0\0\0\0\4abcd",
        ):
            with Sender(running.port) as probe:
                probe.send(greeting)
                with pytest.raises(Gone):
                    probe.read(1)
        with Sender(running.port).associate() as sender:
            assert sender.store(data, uid).status == 0
            sender.release()
        running.until(lambda: not running.receiver.connections)
        assert running.counts()["dropped.probe"] == 200
        assert running.counts()["dropped.not-dicom"] == 4
        running.until(lambda: threading.active_count() <= before)


def test_stalled_connections_keep_nobody_out_and_are_dropped(listening, data_set):
    data, uid = data_set()
    request = associate_rq([(1, CT, (EXPLICIT,))], "DCM2FHIR", "SLOW")
    with listening(gate_timeout=1.0) as running:
        before = threading.active_count()
        stalled = [Sender(running.port) for _ in range(200)]
        for sender in stalled:
            sender.send(request[:6])
        with Sender(running.port).associate() as sender:
            assert sender.store(data, uid).status == 0
            assert threading.active_count() <= before + 2
            sender.release()
        for sender in stalled:
            with pytest.raises(Gone):
                sender.read(1)
            sender.close()
        assert running.counts()["dropped.too-slow"] == 200


def test_a_peer_that_stalls_within_a_pdu_is_cut_off(both, data_set):
    data, uid = data_set()
    with both(pdu_timeout=0.5) as running:
        with Sender(running.port).associate() as sender:
            assert sender.store(data, uid).status == 0
            sender.send(pdu(pdv(1, data))[:20])
            with pytest.raises(Gone):
                sender.response()
        running.until(lambda: not running.receiver.connections)


def test_a_pdu_that_comes_when_it_may_not_is_the_end_of_its_association_alone(both, data_set):
    data, uid = data_set()
    request = associate_rq([(1, CT, (EXPLICIT,))], "DCM2FHIR", "ODD")
    with both() as running:
        for _ in range(20):  # whether the answer is made before or after it is a matter of chance
            with Sender(running.port) as sender:
                sender.send(request, b"\xff\0\0\0\0\4abcd", struct.pack(">BBII", 5, 0, 4, 0))
                sender.pdu()
        running.until(lambda: not running.receiver.connections)
        with Sender(running.port).associate() as sender:
            assert sender.store(data, uid).status == 0
            sender.release()


def test_a_giant_pdu_is_not_waited_for(both):
    with both() as running, Sender(running.port) as sender:
        sender.send(b"\1\0" + struct.pack(">I", 600 << 20))
        with pytest.raises(Gone):
            sender.read(1)
    with both() as running, Sender(running.port).associate() as sender:
        sender.send(b"\4\0" + struct.pack(">I", 600 << 20) + bytes(1000))
        with pytest.raises(Gone):
            sender.response()


def test_an_endless_data_set_is_cut_off_at_the_limit(both, data_set):
    data, uid = data_set()
    with both(max_message=3 << 20) as running, Sender(running.port).associate() as sender:
        head = command(1, 9, sop_class=CT, sop_instance=uid)
        fragment = pdu(pdv(1, bytes(100_000), last=False))

        def endless():
            sender.send(pdu(pdv(1, head, is_command=True)), pdu(pdv(1, data, last=False)))
            for _ in range(100):
                sender.send(fragment)
            sender.response()

        with pytest.raises(ConnectionError):
            endless()
    assert not running.receiver.connections


def test_an_idle_association_is_ended_by_the_network_timeout(both, data_set):
    data, uid = data_set()
    with both(network_timeout=0.6) as running, Sender(running.port).associate() as sender:
        assert sender.store(data, uid).status == 0
        with pytest.raises(Gone):
            sender.response()


def test_a_busy_association_is_not_ended_by_the_network_timeout(both, data_set):
    data, uid = data_set()
    with both(network_timeout=0.4) as running, Sender(running.port).associate() as sender:
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            assert sender.store(data, uid).status == 0
        sender.release()


def test_a_name_of_pynetdicom_that_is_gone_is_noticed():
    assert private.missing(private.FAST) == []
    assert private.missing(("dul._read_pdu_data", "dul.nothing.such")) == ["dul.nothing.such"]


def test_without_the_private_names_the_stock_path_serves(listening, data_set, monkeypatch):
    monkeypatch.setattr(private, "FAST", (*private.FAST, "dul.gone_in_a_newer_version"))
    data, uid = data_set()
    with listening() as running, Sender(running.port).associate() as sender:
        assert running.receiver.missing == ["dul.gone_in_a_newer_version"]
        assert sender.store(data, uid).status == 0
        sender.release()
