"""Receiving by C-STORE, ours beside the peers: ``python -m benchmarks.receiving [--rounds 3] [--seconds 1.5]``.

The sender is our own and saturates: its PDUs are made beforehand, each association is a process, and it waits for each
answer, as DIMSE demands. All receivers run on this machine in one run, interleaved; the table gives medians as
ratios. With ``--dcmsend`` dcmtk's sender follows, with and without TCP_NODELAY=1. Peers: dcmtk and Orthanc from
the distribution (``apt-get install dcmtk orthanc``), pynetdicom from the environment.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.dicom_sender import CT, EXPLICIT, Sender, store

ROOT = Path(__file__).resolve().parent.parent
SIZES = {"5 KB": 5_000, "0.5 MB": 500_000}
ASSOCIATIONS = (1, 4, 10)

STOCK = """
import sys
from pynetdicom import AE, evt, AllStoragePresentationContexts
import logging
logging.getLogger("pynetdicom").setLevel(100)
ae = AE("DCM2FHIR")
ae.supported_contexts = AllStoragePresentationContexts
ae.maximum_associations = 50
ae.maximum_pdu_size = 131072
ae.start_server(("127.0.0.1", int(sys.argv[1])), evt_handlers=[(evt.EVT_C_STORE, lambda event: 0)])
"""

BARE = """
import os, socket, struct, sys, threading
from converter.listener.wire import parse_command, store_response
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=64)
def read(sock, size):
    data = bytearray()
    while len(data) < size:
        part = sock.recv(min(262144, size - len(data)))
        if not part: raise EOFError
        data += part
    return data
def serve(sock, number):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    log = os.open(sys.argv[2] + f"/bare{number}", os.O_RDWR | os.O_CREAT, 0o600)
    os.pwrite(log, bytes(1 << 24), 0); os.fsync(log); at = 0
    head = read(sock, 6); body = read(sock, struct.unpack(">I", head[2:])[0])
    answer = body[:68] + b"\\x10\\0\\0\\x151.2.840.10008.3.1.1.1" + b"\\x21\\0\\0\\x1b\\1\\0\\0\\0\\x40\\0\\0\\x131.2.840.10008.1.2.1"
    answer += b"\\x50\\0\\0\\x08\\x51\\0\\0\\4\\0\\2\\0\\0"
    sock.sendall(b"\\2\\0" + struct.pack(">I", len(answer)) + answer)
    command = None; kept = b""
    try:
        while True:
            head = read(sock, 6); body = read(sock, struct.unpack(">I", head[2:])[0])
            if head[0] != 4:
                sock.sendall(struct.pack(">BBII", 6, 0, 4, 0)); sock.close(); break
            place = 0
            while place < len(body):
                size, context, control = struct.unpack_from(">IBB", body, place)
                if control & 1: command = parse_command(body[place + 6 : place + 4 + size])
                elif not kept: kept = bytes(body[place + 6 : place + 1006])
                place += 4 + size
                if not control & 1 and control & 2:
                    at = at if at < (1 << 24) - 2000 else 0
                    os.pwrite(log, kept, at); at += len(kept); os.fdatasync(log)
                    sock.sendall(store_response(context, command, 0, "")); kept = b""
    except EOFError: pass
number = 0
while True:
    sock, _ = listening.accept(); number += 1
    threading.Thread(target=serve, args=(sock, number), daemon=True).start()
"""

NULL = """
import itertools, socket, sys
from converter.listener.control import ReceiverSettings, flat
from converter.listener.policy import Policy
from converter.listener.receiver import Receiver
from converter.mapping import load
listening = socket.socket()
listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
listening.bind(("127.0.0.1", int(sys.argv[1])))
listening.listen(64)
receiver = Receiver(ReceiverSettings(0, 1, sys.argv[2], flat(load(("r4",)).wanted), Policy()), None)
for number in itertools.count(1):
    sock, remote = listening.accept()
    receiver.take(sock, number, remote)
"""


def instance(size: int) -> tuple[bytes, str]:
    """Make a data set of about this size."""

    def element(tag: int, vr: str, value: str) -> bytes:
        data = value.encode()
        data += (b"\0" if vr == "UI" else b" ") * (len(data) % 2)
        return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), len(data)) + data

    uid = "1.2.826.0.1.3680043.10.1500.1.1"
    head = b"".join(
        [
            element(0x00080005, "CS", "ISO_IR 100"),
            element(0x00080008, "CS", "ORIGINAL\\PRIMARY\\AXIAL"),
            element(0x00080016, "UI", CT),
            element(0x00080018, "UI", uid),
            element(0x00080020, "DA", "20240102"),
            element(0x00080030, "TM", "101112"),
            element(0x00080050, "SH", "A123"),
            element(0x00080060, "CS", "CT"),
            element(0x00080070, "LO", "Manufacturer"),
            element(0x00081030, "LO", "CT abdomen"),
            element(0x00100010, "PN", "Test^Patient"),
            element(0x00100020, "LO", "123456"),
            element(0x00100030, "DA", "19700101"),
            element(0x00100040, "CS", "F"),
            element(0x00180015, "CS", "ABDOMEN"),
            element(0x0020000D, "UI", uid[:-4]),
            element(0x0020000E, "UI", uid[:-2]),
            element(0x00200011, "IS", "1"),
            element(0x00200013, "IS", "1"),
            element(0x00280010, "US", "ab"),
        ]
    )
    rest = max(size - len(head) - 12, 2) & ~1
    return head + b"\xe0\x7f\x10\0OW\0\0" + struct.pack("<I", rest) + bytes(rest), uid


def send(port: int, size: int, seconds: float, begin: Any, counts: Any) -> None:
    """Send one object over and over on one association."""
    data, uid = instance(size)
    sender = Sender(port, timeout=60).associate([(1, CT, (EXPLICIT,))])
    limit = min(sender.max_pdu or 131072, 131072)
    message = b"".join(store(1, CT, uid, data, max_pdu=limit))
    sock = sender.sock
    sock.sendall(message)
    kind, body = sender.pdu()  # some receivers send it in two parts
    assert kind == 4
    answer = 6 + len(body)
    begin.wait()
    count, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        sock.sendall(message)
        got = len(sock.recv(65536))
        while got < answer:
            got += len(sock.recv(65536))
        count += 1
    counts.put((count, time.monotonic() - end + seconds))
    sender.release()


def rate(port: int, size: int, associations: int, seconds: float) -> float:
    """Images a second."""
    context = multiprocessing.get_context("fork")
    begin, counts = context.Barrier(associations), context.Queue()
    senders = [
        context.Process(target=send, args=(port, size, seconds, begin, counts))
        for _ in range(associations)
    ]
    for process in senders:
        process.start()
    total = 0.0
    for _ in senders:
        count, took = counts.get(timeout=120)
        total += count / took
    for process in senders:
        process.join()
    return total


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


@contextmanager
def running(name: str, folder: Path, associations: int) -> Iterator[int]:
    """Run a receiver; give its port."""
    port = free_port()
    environment = {**os.environ, "TCP_NODELAY": "1", "PYTHONPATH": str(ROOT)}
    python = sys.executable
    commands = [[]]
    if name == "pynetdicom":
        commands = [[python, "-c", STOCK, str(port)]]
    elif name == "storescp --ignore":
        commands = [["storescp", "--ignore", "--max-pdu", "131072", str(port)]]
    elif name == "storescp --fork":
        commands = [["storescp", "--fork", "--ignore", "--max-pdu", "131072", str(port)]]
    elif name == "sync per reply":
        commands = [[python, "-c", BARE, str(port), str(folder)]]
    elif name == "ours, null commit":
        count = 1 if associations == 1 else 2
        commands = [[python, "-c", NULL, str(port), str(folder)]] * count
    elif name == "ours, durable":
        commands = [
            [python, "-m", "converter", "listen", "-o", str(folder / "out"), "--state", str(folder / "l.db"),
             "-p", str(port), "--http-port", "0", "--receivers", "1" if associations == 1 else "2",
             "--quiet-period", "1h", "--quiet-cap", "2h"]
        ]  # fmt: skip
    elif name == "Orthanc":
        settings = {
            "DicomPort": port, "HttpServerEnabled": False, "DicomAlwaysAllowStore": True, "OverwriteInstances": False,
            "DicomCheckCalledAet": False, "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"),
        }  # fmt: skip
        (folder / "orthanc.json").write_text(json.dumps(settings))
        commands = [["/usr/sbin/Orthanc", str(folder / "orthanc.json")]]
    processes = [
        subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder,
            start_new_session=True,
        )
        for command in commands
    ]  # fmt: skip
    try:
        for _ in range(len(processes)):
            wait_for(port)
        time.sleep(1.0 if name == "ours, null commit" else 0.2)
        yield port
    finally:
        for process in processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(port: int) -> None:
    """Wait until somebody takes associations there."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with Sender(port, timeout=20).associate([(1, CT, (EXPLICIT,))]) as sender:
                sender.release()
        except (OSError, Exception):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def dcmsend(port: int, folder: Path, *, nodelay: bool, count: int) -> float:
    """Images a second of dcmtk's sender."""
    environment = {k: v for k, v in os.environ.items() if k != "TCP_NODELAY"}
    if nodelay:
        environment["TCP_NODELAY"] = "1"
    begin = time.monotonic()
    subprocess.run(
        ["dcmsend", "--max-pdu", "131072", "+sd", "127.0.0.1", str(port), str(folder)],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return count / (time.monotonic() - begin)


RECEIVERS = (
    "pynetdicom",
    "storescp --ignore",
    "storescp --fork",
    "sync per reply",
    "Orthanc",
    "ours, null commit",
    "ours, durable",
)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--only", action="append", choices=RECEIVERS)
    parser.add_argument("--associations", type=int, action="append")
    parser.add_argument("--dcmsend", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[tuple[str, int, str], list[float]] = {}
    receivers = options.only or RECEIVERS
    for _ in range(options.rounds):
        for associations in options.associations or ASSOCIATIONS:
            for name in receivers:
                if name == "storescp --ignore" and associations > 1:
                    continue  # it serves one association at a time
                folder = Path(tempfile.mkdtemp(prefix="receiving-", dir=os.environ.get("TMPDIR")))
                try:
                    with running(name, folder, associations) as port:
                        for label, size in SIZES.items():
                            found.setdefault((label, associations, name), []).append(
                                rate(port, size, associations, options.seconds)
                            )
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
    report(found, receivers)
    if options.dcmsend:
        senders(receivers)
    if options.json:
        rows = [
            {"size": s, "associations": a, "receiver": n, "images_per_second": v}
            for (s, a, n), v in found.items()
        ]
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


def report(found: dict[tuple[str, int, str], list[float]], receivers: Any) -> None:
    """Print medians and the ratio to pynetdicom."""
    cells = sorted(
        {(size, n) for size, n, _ in found}, key=lambda c: (list(SIZES).index(c[0]), c[1])
    )
    print("| receiver | " + " | ".join(f"{size}, {n} assoc." for size, n in cells) + " |")
    print("|---|" + "---|" * len(cells))
    for name in receivers:
        row = []
        for size, n in cells:
            values = found.get((size, n, name))
            base = found.get((size, n, "pynetdicom"))
            if not values:
                row.append("-")
                continue
            middle = statistics.median(values)
            ratio = f" (x{middle / statistics.median(base):.1f})" if base else ""
            row.append(f"{middle:.0f}{ratio}")
        print(f"| {name} | " + " | ".join(row) + " |")


def senders(receivers: Any) -> None:
    """Print dcmsend's rates into each receiver."""
    print("\n| receiver, sender dcmsend | default | TCP_NODELAY=1 |\n|---|---|---|")
    for name in receivers:
        row = []
        for nodelay, count in ((False, 100), (True, 500)):
            folder = Path(tempfile.mkdtemp(prefix="receiving-"))
            files = folder / "files"
            files.mkdir()
            data, uid = instance(5000)
            for number in range(count):
                own = uid[:-2] + f".{number + 10}"
                body = data.replace(uid.encode() + b"\0", own.encode().ljust(len(uid) + 1, b"\0"))
                if len(own) > len(uid) + 1:
                    body = data
                meta = b"\x02\0\x10\0UI\x14\0" + EXPLICIT.encode() + b"\0"
                (files / f"{number}.dcm").write_bytes(
                    bytes(128) + b"DICM\2\0\0\0UL\4\0" + struct.pack("<I", len(meta)) + meta + body
                )
            try:
                with running(name, folder, 1) as port:
                    row.append(f"{dcmsend(port, files, nodelay=nodelay, count=count):.0f}")
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        print(f"| {name} | " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
