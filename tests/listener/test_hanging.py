"""A receiver that hangs is seen: it gets no connections, health says so, and in the end it is killed; one that is late is not blamed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time

import pytest

from converter.listener.board import Board
from converter.listener.control import Ready, State, send
from converter.listener.policy import Policy
from converter.listener.pool import GIVEN_UP, STILL, ReceiverProcess, Receivers
from tools.dicom_sender import Gone, Sender


@pytest.fixture
def pool():
    """Receivers with one that runs, and the receiver's end of its channel."""
    made = Receivers(lambda _: None, Policy(), lambda *_: None)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.running[0] = ReceiverProcess(0, None, ours, time.monotonic())
    send(theirs, Ready())
    assert made.hear(made.running[0])
    with ours, theirs:
        yield made, theirs


def test_a_stall_of_a_few_seconds_is_none(pool):
    receivers, _ = pool
    receivers.watch(receivers.running[0].heard + STILL - 1)
    assert not receivers.hung
    assert not receivers.full


def test_who_says_nothing_for_longer_gets_no_connections_until_it_does(pool, caplog):
    receivers, theirs = pool
    for later in (1, 2):
        receivers.watch(receivers.running[0].heard + STILL + later)
        assert receivers.hung == {0}
        assert receivers.full, "the next waits in the system's queue"
    assert caplog.text.count("receiver 0 does not move") == 1
    send(theirs, State([], [], {}))
    assert receivers.hear(receivers.running[0])
    receivers.watch(time.monotonic())
    assert not receivers.hung
    assert not receivers.full


def test_a_supervisor_that_was_late_blames_nobody(pool):
    """It hears what was said meanwhile before it judges."""
    receivers, theirs = pool
    receivers.running[0].heard -= 2 * STILL
    send(theirs, State([], [], {}))
    receivers.hear(receivers.running[0])
    receivers.watch(time.monotonic())
    assert not receivers.hung


def test_a_machine_that_was_suspended_blames_nobody(pool):
    receivers, _ = pool
    begin = receivers.running[0].heard
    receivers.watch(begin + 1)
    receivers.watch(begin + 2 * GIVEN_UP)
    assert not receivers.hung
    assert not receivers.running[0].killed


def test_health_says_which_part_does_not_move(tmp_path, monkeypatch):
    board = Board(tmp_path, 0)
    board.bound, board.running = True, 2
    board.receiver(0, {})
    board.receiver(1, {})
    board.beat("publisher")
    assert board.not_ready() == board.alive() == []
    board.hung = [1]
    assert board.not_ready() == ["receiver 1 does not move"]
    assert board.alive() == [], "after longer"
    assert "dcm2fhir_receivers_hung 1\n" in board.metrics()
    monkeypatch.setattr("converter.listener.board.STALE", -1.0)
    assert board.alive() == ["receiver 0", "receiver 1", "publisher"]
    assert board.not_ready() == ["receiver 1 does not move", "receiver 0 does not move"]
    assert board.summary().faults.count("receiver 1 does not move") == 1
    board.receiver_ended(0)
    assert board.alive() == ["receiver 1", "publisher"]


def test_a_stopped_receiver_is_left_alone_while_the_other_serves(daemon):
    running = daemon("--receivers", "2")
    children = subprocess.run(
        ["pgrep", "-P", str(running.process.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    stopped = int(children[0])
    os.kill(stopped, signal.SIGSTOP)
    try:
        running.until(lambda: running.metric("receivers_hung") == 1)
        code, said = running.get("/readyz")
        assert code == 503
        assert "does not move" in said
        assert running.get("/livez")[0] == 200, "after longer"
        for _ in range(4):
            with Sender(running.port).associate() as sender:
                assert sender.echo().status == 0
                sender.release()
        running.until(lambda: running.get("/livez")[0] == 503, 60)
        assert "receiver" in running.get("/livez")[1]
    finally:
        os.kill(stopped, signal.SIGCONT)
    running.until(lambda: running.get("/readyz") == (200, "ok\n"))
    assert running.get("/livez") == (200, "ok\n")
    assert "does not move: it gets no connections" in running.text()
    running.end()


SOON = "from converter.listener import pool; pool.GIVEN_UP = 5.0; from converter.cli.main import main; main()"


def test_a_receiver_that_never_moves_again_is_killed_and_loses_nothing(daemon, data_set):
    """After five minutes; here sooner."""
    running = daemon("--receivers", "1", "--quiet-period", "60s", program=("-c", SOON))
    with Sender(running.port).associate() as kept:
        assert kept.store(*data_set(1)).status == 0
        children = subprocess.run(
            ["pgrep", "-P", str(running.process.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        os.kill(int(children[0]), signal.SIGSTOP)
        running.until(lambda: running.metric("receiver_restarts_total") == 1)
        running.until(lambda: running.get("/readyz") == (200, "ok\n"))
        with pytest.raises(Gone):
            kept.read(1)
    with Sender(running.port).associate() as sender:
        assert sender.store(*data_set(2)).status == 0
        sender.release()
    running.until(lambda: running.metric('instances_total{kind="new"}') == 2)
    assert "receiver 0 said nothing for 5 s: killed" in running.text()
    running.end()
