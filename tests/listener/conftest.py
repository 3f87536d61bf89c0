"""A receiver in this process behind a port of its own, and what it kept."""

from __future__ import annotations

import itertools
import socket
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from daemon_process import Daemon

from converter.listener.control import ReceiverSettings, flat
from converter.listener.journal import Journal, segments
from converter.listener.policy import Policy
from converter.listener.receiver import Receiver
from converter.listener.record import unpack_received
from converter.listener.tail import Tail

WANTED = dict.fromkeys(
    [
        *(0x00080005, 0x00080016, 0x00080018, 0x00080020, 0x00080060, 0x00100010),
        *(0x00100020, 0x00100030, 0x0020000D, 0x0020000E, 0x00200013, 0x00281052),
    ]
)


@dataclass
class Running:
    """A receiver that listens."""

    receiver: Receiver
    journal: Journal | None
    port: int
    over: bool = False
    """Whether new connections count as over a limit."""
    states: list = field(default_factory=list)

    def kept(self):
        """What the journal holds, in order."""
        found = []
        for _, path in segments(self.journal.folder):
            tail = Tail(path)
            while payloads := tail.read():
                found += map(unpack_received, payloads)
            tail.close()
        return found

    def counts(self):
        state = self.receiver.state()
        self.states.append(state)
        return state.counts

    def until(self, condition, timeout=10.0):
        """Wait for something that becomes true when other threads have come so far."""
        deadline = time.monotonic() + timeout
        while not (result := condition()):
            assert time.monotonic() < deadline, "it never became true"
            threading.Event().wait(0.005)
        return result


@contextmanager
def running(folder, *, tls=None, system=None, journal=True, policy=None, **settings):
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)
    kept = Journal(folder, 1, system=system) if journal else None
    made = ReceiverSettings(
        0,
        1,
        str(folder),
        flat(WANTED),
        policy or Policy(),
        local=listening.getsockname(),
        **settings,
    )
    receiver = Receiver(made, kept, tls)
    handle = Running(receiver, kept, listening.getsockname()[1])
    numbers = itertools.count(1)

    def accept():
        while True:
            try:
                sock, remote = listening.accept()
            except OSError:
                return
            receiver.take(sock, next(numbers), remote, over=handle.over)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield handle
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        receiver.close()
        thread.join(5)
        handle.until(lambda: not receiver.connections, 20)
        if kept is not None:
            kept.close()


@pytest.fixture
def listening(tmp_path):
    """Start receivers: ``with listening(...) as running``."""
    folder = tmp_path / "journal"
    folder.mkdir(exist_ok=True)

    def start(**settings):
        return running(folder, **settings)

    return start


@pytest.fixture(params=["fast", "stock"])
def both(request, listening):
    """The same for the fast path and for the stock path."""

    def start(**settings):
        return listening(fast=request.param == "fast", **settings)

    start.fast = request.param == "fast"
    return start


@pytest.fixture
def data_set(make_dicom):
    """A data set (explicit little endian, without meta information) and its SOP Instance UID."""

    def make(number=1, *, tail=b"", **attributes):
        whole = make_dicom(sop=f"1.2.3.4.{number}", **attributes)
        size = int.from_bytes(whole[140:144], "little")
        return whole[144 + size :] + tail, f"1.2.3.4.{number}"

    return make


@pytest.fixture
def daemon(tmp_path):
    """Start daemons; what is still there at the end is killed."""
    started = []

    def start(*options, folder=tmp_path, ready=True, **given):
        made = Daemon(folder, *options, **given)
        started.append(made)
        return made.ready() if ready else made

    yield start
    for made in started:
        made.kill()
