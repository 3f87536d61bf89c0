"""Rows 15 to 17: order and repetition change nothing, a late instance makes one new version, a slow study appears by its cap."""

from __future__ import annotations

import random
import threading
import time

from tests.servers.stub import Fault, Stub
from tools.dicom_sender import Sender

SCALE = 60
"""A minute of the matrix is a second here."""


def send(running, *objects):
    with Sender(running.port) as sender:
        sender.associate()
        for data, uid in objects:
            assert sender.store(data, uid).status == 0
        sender.release()


def test_a_thousand_instances_in_disorder_are_the_bytes_of_an_orderly_run(
    daemon, instance, tmp_path
):
    """Row 15: 5 studies, 10 associations, each instance once to three times."""
    objects = [instance(f"1.2.{study}", number) for study in range(5) for number in range(1, 201)]
    running = daemon("--quiet-period", "2s", folder=tmp_path / "orderly")
    send(running, *objects)
    running.published(5, 1000)
    running.until(lambda: running.metric('studies{state="published"}') == 5)
    running.end()
    expected = {path.name: path.read_bytes() for path in running.out.rglob("*.json")}
    order = random.Random(15)
    shuffled = [one for one in objects for _ in range(order.randint(1, 3))]
    order.shuffle(shuffled)
    other = daemon("--quiet-period", "2s", folder=tmp_path / "disorderly")
    threads = [threading.Thread(target=send, args=(other, *shuffled[n::10])) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    other.until(
        lambda: {path.name: path.read_bytes() for path in other.out.rglob("*.json")} == expected
    )
    other.until(lambda: other.metric('instances_total{kind="same"}') == len(shuffled) - 1000)
    other.end()


def test_a_late_instance_is_one_more_version_of_the_same_resource(daemon, instance):
    """Row 16: one instance, long after the study was published."""
    with Stub() as server:
        running = daemon("--to", server.base)
        send(running, *[instance("1.2.3", number) for number in (1, 2, 3)])
        running.until(server.studies)
        running.until(lambda: running.metric('studies{state="published"}') == 1)
        (before,) = server.studies()
        send(running, instance("1.2.3", 4))
        running.until(lambda: server.studies()[0]["numberOfInstances"] == 4)
        running.end()
        (after,) = server.studies()
        assert after["id"] == before["id"]
        assert int(after["meta"]["versionId"]) == int(before["meta"]["versionId"]) + 1


def test_a_slow_long_study_appears_by_its_cap_and_is_whole_soon_after_its_end(daemon, instance):
    """Row 17: an instance every five seconds for 20 minutes, quiet 60 s, cap 15 min: all 60 times as fast."""
    running = daemon("--quiet-period", "1s", "--quiet-cap", "15s")
    begin = time.monotonic()
    number, seen = 0, 0.0
    while time.monotonic() - begin < 20 * 60 / SCALE:
        number += 1
        send(running, instance("1.2.3", number))
        threading.Event().wait(max(0.0, begin + number * 5 / SCALE - time.monotonic()))
        if not seen and running.resources():
            seen = time.monotonic() - begin
    last = time.monotonic()
    running.published(1, number)
    assert time.monotonic() - last <= 1 + 5
    assert 0 < seen <= 15 + 2
    running.end()


def test_what_a_killed_daemon_was_sending_is_sent_at_once_by_the_next(daemon, instance):
    """Its lease would run for ten minutes; but nobody else has its state."""
    with Stub(lambda asked: Fault(delay=60) if asked.method == "PUT" else None) as server:
        running = daemon("--to", server.base)
        send(running, instance("1.2.3"))
        running.until(lambda: server.requests("PUT"))
        running.kill()
        server.fault = lambda _asked: None
        again = daemon("--to", server.base)
        again.until(server.studies)
        again.end()
