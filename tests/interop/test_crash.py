"""Kills under load, the order of system calls, and peers that try to bring the daemon down."""

from __future__ import annotations

import json
import random
import re
import shutil
import socket
import sqlite3
import statistics
import struct
import subprocess
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.reliability.figures import NIGHTLY, figure, size
from tools.dicom_sender import CT, Rejected, Sender, command, pdu, pdv, store

pytestmark = pytest.mark.interop

KILLS = size("kills", 50, 200)
SENDERS = 4


@pytest.fixture
def instance(make_dicom):
    """A data set and its SOP Instance UID."""

    def make_one(study, number=1):
        uid = f"{study}.1.{number}"
        whole = make_dicom(study=study, sop=uid, number=str(number))
        return whole[144 + int.from_bytes(whole[140:144], "little") :], uid

    return make_one


@pytest.mark.nightly
def test_nothing_that_was_acknowledged_is_lost_by_kills(daemon, instance, tmp_path):
    chance = random.Random(1)
    running = daemon()
    port = running.port
    acknowledged: list[list[tuple[str, str]]] = [[] for _ in range(SENDERS)]
    stopping = threading.Event()

    def sends(index):
        number = 0
        while not stopping.is_set():
            try:
                with Sender(port, timeout=5) as sender:
                    sender.associate()
                    while not stopping.is_set():
                        study = f"1.2.{index + 1}.{number // 25}"
                        data, uid = instance(study, number % 25 + 1)
                        if sender.store(data, uid).status == 0:
                            acknowledged[index].append((study, uid))
                            number += 1
            except (OSError, Rejected):
                stopping.wait(0.05)

    threads = [threading.Thread(target=sends, args=(index,)) for index in range(SENDERS)]
    for thread in threads:
        thread.start()
    restarts = []
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.1, 0.7))
        running.kill()
        begin = time.monotonic()
        running = daemon("--port", str(port))
        restarts.append(time.monotonic() - begin)
    stopping.set()
    for thread in threads:
        thread.join(30)
    expected: dict[str, set[str]] = {}
    for study, uid in (one for part in acknowledged for one in part):
        expected.setdefault(f"urn:oid:{study}", set()).add(f"urn:oid:{uid}")
    assert sum(map(len, acknowledged)) > 10 * KILLS

    def published():
        found: dict[str, set[str]] = {}
        for study in running.resources():
            key = study["identifier"][0]["value"]
            assert key not in found, "one study, one resource"
            listed = {f"urn:oid:{i['uid']}" for s in study["series"] for i in s["instance"]}
            found[key] = listed
        return all(uids <= found.get(study, set()) for study, uids in expected.items())

    running.until(published, 60 + KILLS)  # all of it is read again and again meanwhile
    running.end()
    with sqlite3.connect(running.state) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        held = {f"urn:oid:{uid}" for (uid,) in db.execute("SELECT sop_uid FROM received_instance")}
    db.close()
    assert set().union(*expected.values()) <= held
    # in flight at a kill: at most one a sender and kill
    assert len(held) <= sum(map(len, acknowledged)) + SENDERS * (KILLS + 1)
    figure(
        "kills", kills=KILLS, acknowledged=sum(map(len, acknowledged)), lost=0,
        restart_median_s=round(statistics.median(restarts), 2), restart_slowest_s=round(max(restarts), 2),
    )  # fmt: skip
    # a test that shares its cores measures them as well
    assert statistics.median(restarts) < (3 if NIGHTLY else 10)


@contextmanager
def traced(running, path):
    """Trace what the one receiver writes, syncs and sends; give a list that has it afterwards: (thread, call, descriptor)."""
    (receiver,) = children(running)
    strace = shutil.which("strace")
    assert strace, "strace is missing: apt-get install strace"
    calls = "trace=fdatasync,fsync,pwrite64,sendto,write"
    found = []
    with subprocess.Popen(
        [strace, "-f", "-e", calls, "-o", str(path), "-p", receiver],
        stderr=subprocess.PIPE,
        text=True,
    ) as tracing:
        assert "attached" in tracing.stderr.readline()
        yield found
        tracing.terminate()
    for line in path.read_text().splitlines():
        thread = line.split()[0]
        if "pwrite64(" in line and "D2FJ" not in line:
            found.append((thread, "write", ""))
        elif re.search(r"f(data)?sync\(\d+\)\s+= 0", line) or "sync resumed" in line:
            found.append((thread, "sync", ""))
        elif "sendto(" in line and r'"\4\0\0\0' in line:
            found.append((thread, "answer", re.search(r"sendto\((\d+)", line)[1]))


def test_the_sync_precedes_the_answer(daemon, instance, tmp_path):
    running = daemon("--receivers", "1")
    with (
        traced(running, tmp_path / "trace") as found,
        Sender(running.port).associate() as sender,
    ):
        for number in range(1, 11):
            assert sender.store(*instance("1.2.3", number)).status == 0
        sender.release()
    calls = [call for _, call, _ in found]
    assert calls.count("answer") == 10
    before: list[str] = []
    for call in calls:
        before.append(call)
        if call == "answer":
            assert "write" in before
            assert before[::-1].index("sync") < before[::-1].index("write")
            before = []
    running.end()


def test_the_sync_precedes_the_answers_where_one_does_for_several(daemon, instance, tmp_path):
    running = daemon("--receivers", "1")
    with traced(running, tmp_path / "trace") as found, ExitStack() as stack:
        senders = [stack.enter_context(Sender(running.port).associate()) for _ in range(4)]
        for number in range(1, 31):
            for at, sender in enumerate(senders):
                data, uid = instance(f"1.2.{at}", number)
                sender.send(*store(1, CT, uid, data, max_pdu=sender.max_pdu or 131072))
            assert [sender.response().status for sender in senders] == [0] * 4
        for sender in senders:
            sender.release()
    assert sum(call == "answer" for _, call, _ in found) == 120
    (shared, _), *_ = Counter(thread for thread, call, _ in found if call == "answer").most_common()
    own = [(call, peer) for thread, call, peer in found if thread == shared]
    assert len({peer for call, peer in own if call == "answer"}) > 1
    latest = ""
    for call, _ in own:
        assert (latest, call) not in {("write", "answer"), ("write", "write")}
        latest = call if call != "answer" else latest
    assert [call for call, _ in own].count("sync") < [call for call, _ in own].count("answer")
    running.end()


def children(running):
    """Processes of the receivers."""
    found = subprocess.run(
        ["pgrep", "-P", str(running.process.pid)], capture_output=True, text=True, check=True
    )
    return found.stdout.split()


def resident(running):
    """Bytes of memory of the daemon and its receivers, one by one."""
    found = []
    for pid in [str(running.process.pid), *children(running)]:
        status = Path(f"/proc/{pid}/status").read_text()
        found.append(1024 * int(re.search(r"VmRSS:\s+(\d+)", status)[1]))
    return found


def threads(running):
    return sum(1 for pid in children(running) for _ in Path(f"/proc/{pid}/task").iterdir())


def test_probes_stalled_peers_and_giants(daemon, instance, tmp_path):
    configuration = tmp_path / "dcm2fhir.toml"
    configuration.write_text('[listen]\nmax_message = "64MiB"\n')
    running = daemon("--config", str(configuration), "--receivers", "1")

    def works(number):
        with Sender(running.port).associate() as sender:
            assert sender.store(*instance("1.2.3", number)).status == 0
            sender.release()

    works(1)
    before, idle = max(resident(running)), threads(running)

    for _ in range(500):
        socket.create_connection(("127.0.0.1", running.port)).close()
    works(2)

    stalled = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(200)]
    for sock in stalled:
        sock.sendall(b"\1\0\0\0\1\0")
    works(3)
    begin = time.monotonic()
    for sock in stalled:
        sock.settimeout(20)
        assert sock.recv(1) == b""
        sock.close()
    assert time.monotonic() - begin < 12

    with (
        socket.create_connection(("127.0.0.1", running.port)) as giant,
        pytest.raises(ConnectionError),
    ):
        giant.sendall(b"\1\0" + struct.pack(">I", 600 << 20) + bytes(64 << 20))
    works(4)

    data, uid = instance("1.2.3", 5)
    with Sender(running.port).associate() as endless:
        fragment = pdu(pdv(1, bytes(120_000), last=False))
        head = command(1, 1, sop_class=CT, sop_instance=uid)
        endless.send(pdu(pdv(1, head, is_command=True)), pdu(pdv(1, data, last=False)))
        sent = []

        def go_on():
            while len(sent) < 3500:
                endless.send(fragment)
                sent.append(fragment)

        with pytest.raises(ConnectionError):
            go_on()
        assert 60 << 20 < len(sent) * 120_000 < 100 << 20
    works(6)

    assert max(resident(running)) < before + (64 << 20)
    running.until(lambda: threads(running) <= idle + 2)
    running.published(1, 5)
    running.end()


def test_a_large_object_costs_no_memory(daemon, instance):
    running = daemon("--receivers", "1")
    data, uid = instance("1.2.3")
    size = 300 << 20
    pixels = b"\xe0\x7f\x10\0OW\0\0" + struct.pack("<I", size)
    with Sender(running.port).associate() as sender:
        head = command(1, 1, sop_class=CT, sop_instance=uid)
        fragment = pdu(pdv(1, bytes(1 << 17)[:-6], last=False))
        sender.send(pdu(pdv(1, head, is_command=True)), pdu(pdv(1, data + pixels, last=False)))
        piece = (1 << 17) - 6
        for _ in range(size // piece):
            sender.send(fragment)
        sender.send(pdu(pdv(1, bytes(size % piece))))
        assert sender.response().status == 0
        sender.release()
    receivers = resident(running)[1:]
    assert max(receivers) < 120 << 20, json.dumps(receivers)
    running.published(1, 1)
    running.end()
