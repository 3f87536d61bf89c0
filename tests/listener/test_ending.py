"""The end of the daemon is bounded, whatever it waits for; what it was at is done by the next."""

from __future__ import annotations

import signal
import time

import pytest

from tests.servers.stub import Fault, Stub
from tools.dicom_sender import Sender


@pytest.fixture
def instance(make_dicom):
    """A data set and its SOP Instance UID."""

    def make_one(study):
        uid = f"{study}.1.1"
        whole = make_dicom(study=study, sop=uid, number="1")
        return whole[144 + int.from_bytes(whole[140:144], "little") :], uid

    return make_one


def send(daemon, *objects):
    with Sender(daemon.port).associate() as sender:
        for data, uid in objects:
            assert sender.store(data, uid).status == 0
        sender.release()


def test_the_drain_time_bounds_what_a_slow_server_is_asked(daemon, instance):
    """A request of 40 s, several a study: the end used to wait for all of them."""
    with Stub(lambda asked: Fault(delay=40) if asked.kind != "metadata" else None) as server:
        running = daemon("--drain-timeout", "1s", "--to", server.base)
        send(running, *[instance(f"1.2.{number}") for number in range(6)])
        running.until(lambda: any(asked.kind != "metadata" for asked in server.log))
        running.until(lambda: running.metric('studies{state="published"}') == 6)
        begin = time.monotonic()
        running.end(timeout=15)
        assert time.monotonic() - begin < 15
        assert "deliveries given up, to be sent again: " in running.text()
        assert "deliveries that wait for the next start: 6" in running.text()
        server.fault = lambda _asked: None
        again = daemon("--to", server.base)
        again.until(lambda: len(server.studies()) == 6)
        again.until(lambda: again.metric('outbox{state="delivered"}') == 6)
        again.end()
        assert "given up" not in again.text()


def test_a_request_that_ends_within_the_drain_time_is_taken(daemon, instance):
    with Stub(lambda asked: Fault(delay=1.0) if asked.method == "PUT" else None) as server:
        running = daemon("--drain-timeout", "30s", "--to", server.base)
        send(running, instance("1.2.3"))
        running.until(lambda: server.requests("PUT"))
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(25) == 0
        assert "given up" not in running.text()
        assert "wait for the next start" not in running.text()
        assert len(server.studies()) == 1
