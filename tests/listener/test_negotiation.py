"""What a peer proposes that it may not, and asks that we do not do: each gets an answer and an end, and leaves nothing behind."""

from __future__ import annotations

import struct
import threading

import pytest

from converter.listener.policy import Policy
from tools.dicom_sender import (
    CT,
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    Gone,
    Rejected,
    Sender,
    command,
    element,
    pdu,
    pdv,
)

APPLICATION = b"1.2.840.10008.3.1.1.1"
MAXIMUM = struct.pack(">BBHI", 0x51, 0, 4, 131072)
ONE = ((1, CT, (EXPLICIT,)),)


def item(kind, body):
    return struct.pack(">BBH", kind, 0, len(body)) + body


def request(
    contexts=ONE,
    *,
    version=1,
    application=APPLICATION,
    user=MAXIMUM,
    more=b"",
    called=b"DCM2FHIR        ",
    calling=b"ODD             ",
):
    """An A-ASSOCIATE-RQ; `None` leaves out what it stands for."""
    body = struct.pack(">HH16s16s32x", version, 0, called, calling)
    if application is not None:
        body += item(0x10, application)
    for number, abstract, syntaxes in contexts:
        inner = b"" if abstract is None else item(0x30, abstract.encode())
        inner += b"".join(item(0x40, syntax.encode()) for syntax in syntaxes)
        body += item(0x20, bytes([number, 0, 0, 0]) + inner)
    body += more
    if user is not None:
        body += item(0x50, user + item(0x52, b"2.999.1"))
    return struct.pack(">BBI", 1, 0, len(body)) + body


@pytest.fixture(autouse=True)
def no_thread_dies(monkeypatch):
    """A thread that ends with an exception says so on stderr, and may leave its connection behind."""
    died = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    yield
    assert not died


@pytest.mark.parametrize(
    "bad",
    [
        request([(1, CT, ())]),
        request([(1, "1.2.3", ())]),
        request([(1, CT, ("",))]),
        request([(1, "", (EXPLICIT,))]),
        request([(1, None, (EXPLICIT,))]),
        request([(2, CT, (EXPLICIT,))]),
        request([(0, CT, (EXPLICIT,))]),
        request([(1, CT, (EXPLICIT,)), (1, VERIFICATION, (IMPLICIT,))]),
        request([(1, "1.2." + "3" * 300, (EXPLICIT,))]),
        request(application=b"\xff\xfe\x80"),
        request(user=None),
        request(user=b""),
        request(user=item(0x51, b"")),
        request(user=MAXIMUM + item(0x58, b"\x09\1\0\4user\0\0")),
        request(user=MAXIMUM + item(0x54, b"\0\4" + b"1.2\0" + b"\7\7")),
        request(user=MAXIMUM + item(0x53, b"\0")),
        request(user=MAXIMUM + item(0x55, b"x" * 400)),
        request(user=MAXIMUM + item(0x77, b"x" * 60000) + b"\x77\0\1\0x"),
        request(user=MAXIMUM + item(0x77, b"") * 15000 + b"\x77"),
        request(more=b"\x20\0\xff\xff"),
        request(calling=b"EVIL\r\nX".ljust(16)),
        request(called=b"\x1bc".ljust(16)),
        request(calling=b"M\xfcller".ljust(16)),
        request(calling=b" " * 16),
        request(called=bytes(16)),
    ],
)
def test_a_request_that_is_malformed_is_aborted_and_leaves_nothing(both, data_set, bad):
    data, uid = data_set()
    with both() as running:
        before = threading.active_count()
        with Sender(running.port) as sender:
            sender.send(bad)
            assert sender.pdu()[0] == 7
            with pytest.raises(Gone):  # and the connection is closed without our doing
                sender.read(1)
            running.until(lambda: not running.receiver.connections)
            running.until(lambda: threading.active_count() <= before)
        assert running.counts()["dropped.malformed-request"] == 1
        with Sender(running.port).associate() as sender:
            assert sender.store(data, uid).status == 0
            sender.release()


@pytest.mark.parametrize(
    "user",
    [
        MAXIMUM + item(0x5A, b"of a later edition"),
        item(0x77, b"x" * 60000) + MAXIMUM,
        item(0x59, b"\0\2ok") + MAXIMUM + item(0xFF, b"") * 15000,
    ],
    ids=["one", "long", "many"],
)
def test_user_information_of_later_editions_is_ignored(both, data_set, user):
    """PS3.8 section D.2: not even a reason to reject."""
    data, uid = data_set()
    with both() as running, Sender(running.port) as sender:
        sender.send(request(user=user))
        assert sender.answered().accepted == {1: EXPLICIT}
        assert sender.store(data, uid).status == 0
        sender.release()
        assert not running.counts().get("dropped.malformed-request")


@pytest.mark.parametrize("padded", [b"ODD".ljust(16, b"\0"), b"ODD\0left over\xff\r"])
def test_titles_that_end_with_a_nul_are_those_before_it(both, data_set, padded):
    """As a string ends in C: old devices pad so, and leave behind what was there."""
    data, uid = data_set()
    called = b"DCM2FHIR".ljust(16, b"\0")
    with (
        both(policy=Policy(require_called=True, calling=("ODD",))) as running,
        Sender(running.port) as sender,
    ):
        sender.send(request(called=called, calling=padded))
        assert sender.answered().accepted == {1: EXPLICIT}
        assert sender.store(data, uid).status == 0
        sender.release()
        assert [one.calling for one in running.kept()] == ["ODD"]


def test_an_exception_in_negotiation_ends_with_an_abort(both, monkeypatch):
    def broken(*_arguments):
        raise IndexError("P1")

    monkeypatch.setattr("pynetdicom.acse.negotiate_as_acceptor", broken)
    with both() as running:
        before = threading.active_count()
        with Sender(running.port) as sender:
            sender.send(request())
            assert sender.pdu()[0] == 7
            with pytest.raises(Gone):
                sender.read(1)
            running.until(lambda: not running.receiver.connections)
            running.until(lambda: threading.active_count() <= before)
        assert running.counts()["dropped.malformed-request"] == 1


@pytest.mark.parametrize(
    ("asked", "expected", "reason"),
    [
        (request(application=b"1.2.3"), (1, 1, 2), "application-context"),
        (request(application=None), (1, 1, 2), "application-context"),
        (request(version=0), (1, 2, 2), "protocol-version"),
        (request(version=2), (1, 2, 2), "protocol-version"),
    ],
)
def test_another_protocol_is_rejected(both, asked, expected, reason):
    with both() as running:
        with Sender(running.port) as sender:
            sender.send(asked)
            with pytest.raises(Rejected) as rejected:
                sender.answered()
        assert rejected.value.args[0] == expected
        running.until(lambda: running.counts()[f"rejected.{reason}"] == 1)


def test_of_the_versions_offered_only_the_first_counts(both):
    with both() as running, Sender(running.port) as sender:
        sender.send(request(version=3))
        assert sender.answered().accepted == {1: EXPLICIT}
        sender.release()


@pytest.mark.parametrize("pause", [0.0, 0.3])
@pytest.mark.parametrize(
    "asked",
    [
        command(0x0110, data_set=False) + element(0x0003, CT.encode()),
        command(0x0020, data_set=False, sop_class=CT),
    ],
    ids=["n-get", "c-find"],
)
def test_an_operation_that_is_not_ours_is_answered(both, data_set, asked, pause):
    data, uid = data_set()
    with both() as running, Sender(running.port).associate() as sender:
        threading.Event().wait(pause)
        sender.send(pdu(pdv(1, asked, is_command=True)))
        assert sender.response().status == 0x0211
        assert sender.store(data, uid).status == 0
        sender.release()


@pytest.mark.parametrize(
    "stray",
    [
        command(0x8001, data_set=False, sop_class=CT, sop_instance="1.2.3.4")
        + element(0x0120, b"\1\0")
        + element(0x0900, b"\0\0"),
        command(0x8001, data_set=False, sop_class=CT, sop_instance="1.2.3.4"),
        command(0x7777, data_set=False, sop_class=CT),
    ],
    ids=["response", "response to nothing", "no operation"],
)
def test_a_stray_response_and_what_is_no_request_are_the_end(both, stray):
    with both() as running:
        with Sender(running.port).associate() as sender:
            sender.send(pdu(pdv(1, stray, is_command=True)))
            assert sender.pdu()[0] == 7
        running.until(lambda: not running.receiver.connections)
