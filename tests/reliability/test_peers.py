"""Rows 20 to 27 and 29: peers that would bring a daemon down keep nobody out, and each gets what it deserves."""

from __future__ import annotations

import itertools
import re
import socket
import ssl
import threading
import time
from collections import Counter

import pytest

from converter.core.values import parse_uid
from tests.listener.test_paths_agree import parts
from tests.reliability.watching import descriptors, processes, receivers, resident, threads
from tools.dicom_sender import CT, EXPLICIT, IMPLICIT, VERIFICATION, Gone, Rejected, Sender
from tools.make_hostile import DEFLATED, bomb, make, nested

ROW_20 = 500


class Meanwhile:
    """A sender that associates, stores and releases all the time, and how long each took."""

    def __init__(self, running, instance):
        self.seconds = []
        self._running, self._instance = running, instance
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def _send(self):
        while not self._stopping.is_set():
            begin = time.monotonic()
            number = len(self.seconds) + 1
            with Sender(self._running.port).associate() as sender:
                assert sender.store(*self._instance("1.2.9", number)).status == 0
                sender.release()
            self.seconds.append(time.monotonic() - begin)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopping.set()
        self._thread.join(30)


def works(running, instance, number):
    with Sender(running.port).associate() as sender:
        assert sender.store(*instance("1.2.3", number)).status == 0
        sender.release()


def test_health_checks_keep_nobody_out_and_leave_nothing_behind(daemon, instance):
    """Row 20: 500 connects and closes, 50 a second and more, while a peer stores."""
    running = daemon("--receivers", "1")
    works(running, instance, 1)
    running.until(lambda: not running.metric("associations_active"))
    memory = max(resident(running))
    base, files = threads(*receivers(running)), 1 + descriptors(*receivers(running))
    with Meanwhile(running, instance) as peer:
        for number in range(ROW_20):
            socket.create_connection(("127.0.0.1", running.port)).close()
            if number % 5 == 0:
                threading.Event().wait(0.04)
    assert len(peer.seconds) > 10
    assert max(peer.seconds) < 2
    running.until(lambda: running.metric('connections_dropped_total{reason="probe"}') == ROW_20)
    assert not re.search(r"associations_rejected_total\S* [1-9]", running.get("/metrics")[1])
    assert max(resident(running)) < memory + 50
    # of the receiver: the supervisor opens the store for each of its parts as they come to need it
    running.until(lambda: threads(*receivers(running)) <= base, 15)
    running.until(lambda: descriptors(*receivers(running)) <= files, 15)
    running.end()


def test_stalled_peers_keep_nobody_out_and_are_gone_in_ten_seconds(daemon, instance):
    """Row 21: 200 sockets that send six bytes and nothing more."""
    running = daemon("--receivers", "1")
    works(running, instance, 1)
    memory = max(resident(running))
    stalled = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(200)]
    begin = time.monotonic()
    for sock in stalled:
        sock.sendall(b"\1\0\0\0\1\0")
    with Meanwhile(running, instance) as peer:
        for sock in stalled:
            sock.settimeout(20)
            assert sock.recv(1) == b""
            sock.close()
    assert time.monotonic() - begin <= 10
    assert len(peer.seconds) > 10
    assert max(peer.seconds) < 2
    assert max(resident(running)) < memory + 50
    running.end()


def test_stalled_handshakes_keep_nobody_out(daemon, tmp_path, certificate):
    """Row 23: 20 connections to the TLS port that say nothing; who comes next associates within a second."""
    chain, key = certificate
    running = daemon("--tls-cert", str(chain), "--tls-key", str(key), "--receivers", "1")
    stalled = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(20)]
    context = ssl.create_default_context(cafile=str(chain))
    begin = time.monotonic()
    with Sender(running.port) as sender:
        sender.sock = context.wrap_socket(sender.sock, server_hostname="localhost")
        sender.associate()
        assert sender.echo().status == 0
        assert time.monotonic() - begin < 1
        sender.release()
    for sock in stalled:
        sock.close()
    running.end()


@pytest.fixture
def certificate(tmp_path):
    """A certificate that vouches for itself, and its key."""
    import datetime as dt

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain = tmp_path / "chain.pem"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    file = tmp_path / "key.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return chain, file


def test_who_may_not_send_is_told_and_counted_by_reason(daemon):
    """Row 25: wrong called title 1/1/7, wrong calling title 1/1/3, an address outside: closed without a thread."""
    running = daemon(
        "--require-called-aet", "--allow-calling-aet", "CT1", "--allow-ip", "127.0.0.1",
        "--receivers", "1",
    )  # fmt: skip
    for called, calling, expected in (("OTHER", "CT1", (1, 1, 7)), ("DCM2FHIR", "X", (1, 1, 3))):
        with Sender(running.port) as sender, pytest.raises(Rejected) as rejected:
            sender.associate(called=called, calling=calling)
        assert rejected.value.args[0] == expected
    with Sender(running.port).associate(calling="CT1") as sender:
        sender.release()
    running.until(
        lambda: (
            running.metric('associations_rejected_total{reason="calling-aet"}') == 1
            and running.metric('associations_rejected_total{reason="called-aet"}') == 1
        )
    )
    running.end()
    closed = daemon("--allow-ip", "10.0.0.0/8", "--receivers", "1")
    before = threads(*receivers(closed))
    for _ in range(20):
        with Sender(closed.port) as sender, pytest.raises(Gone):
            sender.associate()
    closed.until(lambda: closed.metric('connections_dropped_total{reason="address"}') == 20)
    assert threads(*receivers(closed)) == before
    closed.end()


# objects


def answer(sender, content, sop_class, sop_instance):
    """Status of one object, and the seconds that it took."""
    begin = time.monotonic()
    response = sender.store(content, sop_instance, sop_class, max_pdu=131072)
    return response.status, time.monotonic() - begin


def test_deflate_bombs_are_refused_at_once_and_cost_no_memory(daemon, instance):
    """Row 26: a megabyte that inflates to 1 GiB."""
    running = daemon("--receivers", "1")
    works(running, instance, 1)
    memory = max(resident(running))
    contexts = [(1, CT, (DEFLATED,)), (3, CT, (EXPLICIT,))]
    with Sender(running.port).associate(contexts) as sender:
        for in_header in (True, False):
            content = bomb(1 << 30, in_header=in_header)
            sop_class, sop_instance, _, data = parts(content)
            assert len(data) < 2 << 20
            status, seconds = answer(sender, data, sop_class, sop_instance)
            assert seconds <= 1
            if in_header:
                assert status == 0xC021
        data, uid = instance("1.2.3", 2)
        assert sender.store(data, uid, context=3).status == 0
        sender.release()
    assert max(resident(running)) < memory + 128
    running.end()


def test_deep_nesting_is_answered_within_a_second(daemon, instance):
    """Row 27: four depths, both encodings, with lengths and with delimiters, in a sequence that is read and in another."""
    running = daemon("--receivers", "1")
    number = 0
    ways = itertools.product((EXPLICIT, IMPLICIT), (True, False), (0x00400275, 0x0040A730))
    for syntax, undefined, tag in ways:
        contexts = [(1, CT, (syntax,)), (3, CT, (EXPLICIT,))]
        with Sender(running.port).associate(contexts) as sender:
            for depth in (64, 250, 1_000, 100_000):
                content = nested(depth, undefined=undefined, implicit=syntax == IMPLICIT, tag=tag)
                sop_class, sop_instance, _, data = parts(content)
                status, seconds = answer(sender, data, sop_class, sop_instance)
                assert status == 0 or 0xC000 <= status <= 0xCFFF
                assert seconds <= 1
                number += 1
                data, uid = instance("1.2.3", number)
                assert sender.store(data, uid, context=3).status == 0
            sender.release()
    assert "Traceback" not in running.text()
    assert running.metric("receiver_restarts_total") == 0
    running.until(lambda: any(s["numberOfInstances"] == number for s in running.resources()))
    running.end()


def test_of_950_hostile_objects_none_without_its_uids_is_a_success(daemon, instance, tmp_path):
    """Row 29: the corpus of the command line, by C-STORE; the process lives, and good objects go in between."""
    made = make(tmp_path / "hostile", 950, 1)
    running = daemon("--receivers", "2")
    before = processes(running)
    statuses = Counter()
    good = 0
    for number, one in enumerate(made):
        content = (tmp_path / "hostile" / one.name).read_bytes()
        sop_class, sop_instance, syntax, data = parts(content)
        contexts = [(1, sop_class, (syntax,)), (3, CT, (EXPLICIT,)), (5, VERIFICATION, (IMPLICIT,))]
        with Sender(running.port) as sender:
            try:
                sender.associate(contexts)
            except Gone:
                statuses["request refused"] += 1  # its own syntax made a bad request of it
                continue
            if 1 in sender.accepted:
                status = sender.store(data, sop_instance, sop_class, max_pdu=131072).status
                statuses[f"{status:04X}"] += 1
                if one.outcome == "skipped":
                    assert status != 0, (one.name, one.detail)
            if number % 10 == 0:
                good += 1
                assert sender.store(*instance("1.2.3", good), context=3).status == 0
            sender.release()
    assert processes(running) == before, "no process ended"
    assert running.metric("receiver_restarts_total") == 0
    assert "Traceback" not in running.text()
    running.until(lambda: any(s["numberOfInstances"] == good for s in running.resources()), 60)
    acknowledged = statuses["0000"] + good
    running.until(
        lambda: (
            sum(
                running.metric(f'instances_total{{kind="{kind}"}}')
                for kind in ("new", "same", "changed")
            )
            == acknowledged
        )
    )
    for study in running.resources():
        uids = [study["identifier"][0]["value"].removeprefix("urn:oid:")]
        uids += [series["uid"] for series in study["series"]]
        uids += [i["uid"] for series in study["series"] for i in series["instance"]]
        assert all(parse_uid(uid.removeprefix("urn:oid:").encode()).value for uid in uids)
    assert statuses["0000"] < 900
    running.end()
