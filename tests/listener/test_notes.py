"""What an operator finds in the log of peers that are refused, and what does not get there."""

from __future__ import annotations

import errno
import logging
import os
import socket
import ssl
import warnings

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from converter.listener import notes
from converter.listener.notes import Notes, log_name, quiet_warnings
from converter.listener.policy import Peer, Policy
from converter.listener.tls import Certificates
from tests.servers.certificates import certificate, written
from tools.dicom_sender import (
    CT,
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    Gone,
    Rejected,
    Sender,
    command,
    pdu,
    pdv,
)

CANARY = "CANARY^X"


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, logger="converter.listener")
    return lambda: [record.getMessage() for record in caplog.records]


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_the_first_of_a_kind_is_told_at_once_and_the_others_once_a_minute(lines):
    clock = Clock()
    told = Notes(clock)
    for _ in range(1000):
        told.note("refused", "10.1.2.3", "CT1")
        told.settle()
    told.note("refused", "10.1.2.4", "CT1")
    assert lines() == [
        "refused: 10.1.2.3, AE title 'CT1'",
        "refused: 10.1.2.4, AE title 'CT1'",
    ]
    clock.now = notes.INTERVAL
    told.settle()
    told.settle()
    assert lines()[2:] == ["refused: 10.1.2.3, AE title 'CT1', 999 more within 60 s"]
    told.note("refused", "10.1.2.4", "CT1")  # of which there was no other: told anew
    assert lines()[3:] == ["refused: 10.1.2.4, AE title 'CT1'"]


def test_a_scanner_of_many_names_writes_few_lines(lines):
    clock = Clock()
    told = Notes(clock)
    for number in range(5000):
        told.note("rejected", f"10.1.{number // 250}.{number % 250}", f"T{number}")
    assert len(lines()) == notes.MOST + 1
    clock.now = notes.INTERVAL
    told.settle()
    assert f"{5000 - notes.MOST - 1} more" in lines()[-1]


def test_a_title_is_hostile_text(lines):
    Notes().note("rejected", "10.1.2.3", "a'\n\x1b[31m\xff\\" + "x" * 100)
    assert lines() == ["rejected: 10.1.2.3, AE title 'a???[31m??xxxxxx'"]


def test_only_what_is_a_uid_is_logged_as_one(lines):
    told = Notes()
    told.note("refused", "a", sop_instance=b"1.2.3.4\0")
    told.note("refused", "b", sop_instance=CANARY.encode())
    assert lines() == ["refused: a, SOP instance 934f6e06", "refused: b"]


def test_a_warning_of_a_library_is_told_without_its_words(lines, capfd):
    with warnings.catch_warnings():
        quiet_warnings(Notes())
        warnings.warn(f"Invalid value for VR UI: {CANARY!r}", stacklevel=1)
    (line,) = lines()
    assert line.startswith("UserWarning of a library: listener/test_notes.py:")
    assert CANARY not in line + "".join(capfd.readouterr())


def test_rejections_are_logged(both, lines):
    policy = Policy(require_called=True, calling=("TESTER",))
    with both(policy=policy) as running:
        for called, calling in [("OTHER", "TESTER"), ("DCM2FHIR", "STRANGER")] * 5:
            with Sender(running.port) as sender, pytest.raises(Rejected):
                sender.associate(called=called, calling=calling)
        running.over = True
        with Sender(running.port) as sender, pytest.raises(Rejected):
            sender.associate()
    assert sorted(line for line in lines() if "rejected" in line) == [
        "association rejected, called-aet: 127.0.0.1, AE title 'TESTER'",
        "association rejected, calling-aet: 127.0.0.1, AE title 'STRANGER'",
        "association rejected, limit: 127.0.0.1, AE title 'TESTER'",
    ]


def test_a_title_from_another_place_than_it_is_bound_to_is_told_as_such(both, lines):
    policy = Policy(peers=(Peer("ct", ("CT1",), addresses=("10.0.0.0/8",)),))
    with both(policy=policy) as running:
        for calling in ("CT1", "STRANGER"):
            with Sender(running.port) as sender, pytest.raises(Rejected):
                sender.associate(calling=calling)
    bound = "with another address or certificate than the configuration binds it to"
    assert [line for line in lines() if "rejected" in line] == [
        f"association rejected, calling-aet ({bound}): 127.0.0.1, AE title 'CT1'",
        "association rejected, calling-aet: 127.0.0.1, AE title 'STRANGER'",
    ]


def test_why_tls_refuses_a_peer_is_told(listening, lines, tmp_path):
    ours, theirs = certificate("ours"), certificate("theirs")
    ca, _ = written(tmp_path, "ca", ours)
    shown = {
        "no authority of tls_ca vouches for its certificate": certificate("x", theirs),
        "its certificate has expired": certificate("x", ours, days=(-2, -1)),
        "its certificate is not made for who opens a connection (clientAuth)": certificate(
            "x", ours, purpose=ExtendedKeyUsageOID.SERVER_AUTH
        ),
        "its certificate is not valid yet": certificate("x", ours, days=(1, 2)),
        "it shows no certificate": None,
    }
    tls = Certificates(*written(tmp_path, "server", certificate("server", ours)), ca)
    with listening(tls=tls) as running:
        for name, made in shown.items():
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(ca)
            if made is not None:
                context.load_cert_chain(*written(tmp_path, "client", made))
            with (
                socket.create_connection(("127.0.0.1", running.port)) as sock,
                pytest.raises(ssl.SSLError),
                context.wrap_socket(sock, server_hostname="127.0.0.1") as secured,
            ):
                secured.recv(1)
            running.until(
                lambda name=name: f"connection dropped, tls ({name}): 127.0.0.1" in lines()
            )
        with Sender(running.port) as sender, pytest.raises(Gone):
            sender.associate()
        running.until(
            lambda: "connection dropped, tls (it does not speak TLS): 127.0.0.1" in lines()
        )


def test_refused_objects_are_logged_with_their_sender(both, data_set, lines):
    data, uid = data_set()
    with both() as running, Sender(running.port).associate() as sender:
        for _ in range(3):
            assert sender.store(data[:60], uid).status == 0xC001
        assert sender.store(data, uid).status == 0
        sender.release()
    with both(disk_reserve=1 << 60) as running, Sender(running.port).associate() as sender:
        assert sender.store(data, uid).status == 0xA700
        sender.release()
    assert [line for line in lines() if "object" in line] == [
        f"object refused with 0xC001, truncated: 127.0.0.1, AE title 'TESTER', SOP instance {log_name(uid)}",
        f"object refused with 0xA700, disk-reserve: 127.0.0.1, AE title 'TESTER', SOP instance {log_name(uid)}",
    ]


@pytest.mark.parametrize(
    ("code", "name"), [(errno.ENOSPC, "disk-reserve"), (errno.EIO, "file-failed")]
)
def test_a_disk_of_whole_objects_that_is_full_or_fails_is_logged_as_such(
    both, data_set, lines, tmp_path, monkeypatch, code, name
):
    data, uid = data_set()

    def full(*_arguments):
        raise OSError(code, os.strerror(code))

    (tmp_path / "files").mkdir()
    with (
        both(keep_files=str(tmp_path / "files")) as running,
        Sender(running.port).associate() as sender,
    ):
        monkeypatch.setattr(os, "fsync", full)
        assert sender.store(data, uid).status == 0xA700
        monkeypatch.undo()
        sender.release()
    assert any(line.startswith(f"object refused with 0xA700, {name}: 127") for line in lines())


@pytest.mark.parametrize("context", [(1, CT, ()), (2, CT, (EXPLICIT,))])
def test_a_malformed_request_is_logged(both, lines, context):
    with both() as running, Sender(running.port) as sender, pytest.raises(Gone):
        sender.associate([context])
    assert [line for line in lines() if "assoc" in line] == [
        "association aborted, malformed-request: 127.0.0.1"
    ]


def test_a_title_that_is_none_is_told_as_the_reason(both, lines):
    with both() as running, Sender(running.port) as sender, pytest.raises(Gone):
        sender.associate(calling="EVIL\r\nX")
    assert [line for line in lines() if "assoc" in line] == [
        "association aborted, malformed-request (an AE title that is none): 127.0.0.1"
    ]


def test_a_response_to_nothing_is_logged_and_counted(both, lines):
    with both() as running, Sender(running.port).associate() as sender:
        answer = command(0x8001, data_set=False, sop_class=CT, sop_instance="1.2.3.4")
        sender.send(pdu(pdv(1, answer, is_command=True)))
        with pytest.raises(Gone):
            sender.response()
        running.until(lambda: running.counts()["dropped.broken-off"] == 1)
    assert lines()[-1] == (
        "association broke off, a response to nothing, or a request without what it needs: "
        "127.0.0.1, AE title 'TESTER'"
    )


def test_an_association_that_breaks_the_protocol_is_logged_and_counted(both, lines):
    with both() as running:
        with Sender(running.port).associate() as sender:
            sender.send(pdu(pdv(9, bytes(40), is_command=True)))
            with pytest.raises(Gone):
                sender.response()
        if both.fast:
            running.until(lambda: running.counts()["dropped.broken-off"] == 1)
            assert lines()[-1] == (
                "association broke off, a context that was not accepted, or not this message's: "
                "127.0.0.1, AE title 'TESTER'"
            )


def test_an_address_that_may_not_send_is_logged(daemon):
    running = daemon("--receivers", "1", "--allow-ip", "10.0.0.0/8")
    for _ in range(20):
        with Sender(running.port) as sender, pytest.raises(Gone):
            sender.associate()
    running.until(lambda: running.metric('connections_dropped_total{reason="address"}') == 20)
    running.end()
    assert running.text().count("its address may not send: 127.0.0.1") == 1


def test_nothing_that_a_peer_says_reaches_the_log(daemon):
    """The receivers' stderr is the daemon's, where Python's warnings and dying threads would print values."""
    running = daemon(
        "--receivers", "1", "--allow-calling-aet", "CT1", env={"PYTHONWARNINGS": "default"}
    )
    with Sender(running.port) as sender, pytest.raises(Rejected):
        sender.associate(calling="STRANGER")
    contexts = [(1, CT, (EXPLICIT,)), (3, VERIFICATION, (IMPLICIT,)), (5, CANARY, (CANARY,))]
    with Sender(running.port).associate(contexts, calling="CT1") as sender:
        sender.send(
            pdu(
                pdv(
                    1,
                    command(0x0110, data_set=False, sop_class=CT, sop_instance=CANARY),
                    is_command=True,
                )
            )
        )
        assert sender.response().status == 0x0211
        sender.release()
    running.until(lambda: "of a library" in running.text())
    text = running.until(lambda: "rejected" in running.text() and running.text())
    assert "association rejected, calling-aet: 127.0.0.1, AE title 'STRANGER'" in text
    running.end()
    assert "CANARY" not in running.text()
    assert "Traceback" not in running.text()
