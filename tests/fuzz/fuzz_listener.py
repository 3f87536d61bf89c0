"""Fuzzing of the listener's socket: random bytes and broken PDUs for a while, and a good peer in between.

Run ``python -m tests.fuzz.fuzz_listener 60`` (seconds); a seed of its own each time, printed, or the second argument.
"""

from __future__ import annotations

import random
import socket
import struct
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tests.listener.daemon_process import Daemon
from tests.reliability.watching import processes, resident
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
)
from tools.dicom_writer import encode
from tools.make_hostile import base

MOST_MIB = 500
GREETINGS = (
    b"GET / HTTP/1.1\r\n\r\n",
    b"SSH-2.0-x\r\n",
    b"\x16\x03\x01\2\0\1\0\1\xfc\3\3",
    b"\0" * 100,
)
CONTEXTS = ((1, CT, (EXPLICIT,)), (3, VERIFICATION, (IMPLICIT,)))


def good(number):
    """A data set and its SOP Instance UID."""
    whole = encode({**base(number), "pixels": False}, "2.999.39")
    return whole[144 + int.from_bytes(whole[140:144], "little") :], f"2.999.39.{number}.1.1"


def mutated(dice, data):
    """Bytes after some edits."""
    held = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(held) + 1)
        kind = dice.randrange(6)
        if kind == 0 and held:
            held[at % len(held)] ^= 1 << dice.randrange(8)
        elif kind == 1:
            del held[at : at + dice.randint(1, 64)]
        elif kind == 2:
            held[at:at] = dice.randbytes(dice.randint(1, 64))
        elif kind == 3 and len(held) > 8:
            where = dice.choice((2, at % (len(held) - 4)))  # a length, often
            held[where : where + 4] = struct.pack(
                dice.choice((">I", "<I")), dice.choice((0, 1, 5, 0x7FFFFFFF, 0xFFFFFFFF, 70_000))
            )
        elif kind == 4:
            held[at:at] = held[: dice.randint(1, 200)]
        else:
            del held[at:]
    return bytes(held)


def conversation(dice):
    """What a peer of no good sends, in pieces."""
    request = associate_rq(CONTEXTS, "DCM2FHIR", "FUZZ")
    data, uid = good(dice.randrange(1000))
    head = command(1, dice.randrange(65536), sop_class=CT, sop_instance=uid)
    cut = dice.randrange(len(data))
    parts = [
        pdu(pdv(1, head, is_command=True)),
        pdu(pdv(1, data[:cut], last=False)),
        pdu(pdv(1, data[cut:])),
        pdu(pdv(3, command(0x30, 7, data_set=False, sop_class=VERIFICATION), is_command=True)),
        struct.pack(">BBII", dice.choice((5, 6, 7, 4, 2, 3, 9, 255)), 0, 4, 0),
    ]
    kind = dice.randrange(6)
    if kind == 0:
        return [dice.randbytes(dice.randint(1, 5000))]
    if kind == 1:
        return [dice.choice(GREETINGS) + dice.randbytes(dice.randrange(50))]
    if kind == 2:
        return [mutated(dice, request), *parts]
    which = dice.randrange(len(parts))
    if kind == 3:
        parts[which] = mutated(dice, parts[which])
    elif kind == 4:
        dice.shuffle(parts)
    else:
        parts = [mutated(dice, part) for part in parts]
    return [request, *parts]


def attack(dice, port):
    """Say it, read what comes back, and go, politely or not."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.5) as sock:
        sock.settimeout(0.05)
        for part in conversation(dice):
            at = 0
            while at < len(part):
                step = dice.choice((1, 7, 100, 100_000))
                sock.sendall(part[at : at + step])
                at += step if step > 10 or at < 60 else 100_000
            with suppress(TimeoutError):
                while dice.randrange(3):
                    if not sock.recv(65536):
                        return
        if dice.randrange(2):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def run(seconds, seed, folder):
    """Attack for so long; give the number of connections and the slowest good association.

    Raises
    ------
    AssertionError
        A process ended, a traceback was logged, memory grew beyond its bound, or a good peer was not served.
    """
    dice = random.Random(seed)
    daemon = Daemon(folder, "--receivers", "2").ready()
    try:
        before = processes(daemon)
        began = time.monotonic()
        attacks = served = 0
        slowest = most = 0.0
        while time.monotonic() - began < seconds:
            for _ in range(20):
                attack(dice, daemon.port)
                attacks += 1
            begin = time.monotonic()
            with Sender(daemon.port, timeout=10) as sender:
                sender.associate()
                assert sender.store(*good(2000 + served)).status == 0
                sender.release()
            served += 1
            slowest = max(slowest, time.monotonic() - begin)
            most = max(most, *resident(daemon))
            assert most < MOST_MIB
        assert processes(daemon) == before, "a process ended"
        assert "Traceback" not in daemon.text(), daemon.text()
        assert slowest < 5
        daemon.until(lambda: not daemon.metric("associations_active"), 90)
        daemon.end()
    except (AssertionError, Gone, Rejected, OSError):
        sys.stderr.write(f"seed {seed}\n{daemon.text()}")
        raise
    finally:
        daemon.kill()
    return attacks, served, slowest, most


def main(seconds=60, seed=None):
    """Fuzz with a seed of its own."""
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    with tempfile.TemporaryDirectory() as folder:
        attacks, served, slowest, most = run(seconds, seed, Path(folder))
    sys.stdout.write(
        f"{attacks} broken connections, {served} good ones, the slowest {slowest:.2f} s, {most:.0f} MiB\n"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
