"""The sender against a server that misbehaves: rows 6 to 12 of what is promised, each with its figure."""

from __future__ import annotations

import itertools
import logging
import os
import re
import resource
import socket
import threading
import time
from collections import Counter
from email.utils import formatdate
from pathlib import Path

import pytest

from converter.delivery.clock import Clock
from converter.delivery.sender import Timing, refusal_of
from tests.delivery.made import instances
from tests.servers.stub import Fault, Stub, outcome

HOUR = 3600.0


def rss():
    """Resident memory in MiB."""
    with Path("/proc/self/statm").open(encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def quiet_port():
    """A free port that the system gives to no client: thousands of attempts would meet themselves."""
    for port in range(20_000 + os.getpid() % 5000, 30_000):
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError


def whole(stub, uids):
    """Each study once, with all its instances, and its own patient."""
    held = stub.studies()
    found = sorted(s["identifier"][0]["value"].removeprefix("urn:oid:") for s in held)
    assert found == sorted(uids)
    for study in held:
        assert len(instances(study)) == 2
        person = stub.store.latest(study["subject"]["reference"])
        assert person["identifier"][0] == study["subject"]["identifier"]
    return True


def test_all_is_delivered_and_the_second_run_has_nothing_to_do(stub, box):
    uids = box.fill(30, stub.base)
    tally = box.sender(stub.base).run()
    assert (tally.delivered, tally.undelivered, dict(tally.reasons)) == (30, 0, {})
    assert whole(stub, uids)
    before = len(stub.log)
    assert box.sender(stub.base).run().delivered == 0
    assert len(stub.log) == before


def test_queued_again_it_is_looked_at_and_not_written(stub, box):
    uids = box.fill(10, stub.base)
    box.sender(stub.base).run()
    writes = len(stub.requests("PUT"))
    box.outbox.enqueue([stub.base], 0.0, uids)
    tally = box.sender(stub.base).run()
    assert (tally.delivered, tally.unchanged) == (10, 10)
    assert len(stub.requests("PUT")) == writes


def test_connections_are_kept_and_shared(stub, box):
    box.fill(60, stub.base)
    box.sender(stub.base, workers=4).run()
    assert stub.connections <= 4
    assert stub.most_open <= 4


def test_a_server_that_is_away_for_72_hours_costs_nothing(box):
    """Row 6: 100 studies, no dead letter, retries spread out."""
    stub = Stub().start(quiet_port())
    stub.stop()
    clock = Clock(scale=72 * HOUR / 6)
    uids = box.fill(100, stub.base, now=clock.now())
    began = clock.now()
    patient = Timing(lease=1e9)  # a second is twelve hours here
    sender = box.sender(stub.base, clock=clock, timing=patient)
    tried, waits = [], []
    speaker = sender.targets[stub.base].client
    real, wait = speaker.request, sender._wait

    def noted(*arguments, **more):
        tried.append(clock.now())
        return real(*arguments, **more)

    def waited(attempts):
        waits.append(wait(attempts))
        return waits[-1]

    speaker.request, sender._wait = noted, waited
    before = rss()
    tally = sender.run(until=began + 72 * HOUR)
    assert rss() - before < 50
    assert (tally.delivered, tally.undelivered, dict(tally.reasons)) == (0, 100, {})
    assert tally.last == {stub.base: "nobody answers"}
    assert max(waits) <= 300
    late = waits[len(waits) // 2 :]
    assert len({wait // 60 for wait in late}) == 5, "over the whole of the five minutes"
    windows = Counter(moment // 0.1 for moment in tried[40:])
    assert max(windows.values()) <= max(1, 0.05 * len(tried))
    assert len(tried) < 40 + 72 * 60, "together, not each study for itself"
    with stub.start(stub._port):
        tally = box.sender(stub.base, clock=clock, timing=patient).run(
            until=clock.now() + 500 * HOUR
        )
        assert tally.delivered == 100
        assert whole(stub, uids)
    assert box.outbox.letters() == []


@pytest.mark.parametrize("form", ["seconds", "date"])
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_obeyed_and_concurrency_drops(stub, box, form, status):
    """Row 7: nothing comes earlier than asked, in either form."""
    asked_until = [0.0]

    def busy(asked):
        if 20 <= asked.number < 24:
            # a date has no fractions: two seconds ahead is at least one
            value = "1" if form == "seconds" else formatdate(time.time() + 2, usegmt=True)
            asked_until[0] = max(asked_until[0], asked.moment + 1)
            return Fault(status, {"Retry-After": value}, outcome("throttled", "busy"))
        return None

    stub.fault = busy
    uids = box.fill(40, stub.base)
    sender = box.sender(stub.base)
    assert sender.run(until=time.time() + 60).delivered == 40
    assert whole(stub, uids)
    refused = [a for a in stub.log if a.status == status]
    later = [a for a in stub.log if a.number > refused[-1].number + 8]
    assert later
    assert min(a.moment for a in later) >= refused[0].moment + 0.95
    assert sender.targets[stub.base].limit < 8


def test_errors_timeouts_and_broken_answers_end_in_one_resource_each(stub, box):
    """Row 8: 500 fifty times, then time-outs, resets and half answers."""

    def broken(asked):
        if asked.number < 50:
            return Fault(500, {}, outcome("exception", "x"))
        if asked.number < 400:
            return {
                0: Fault(delay=0.6),
                3: Fault(drop="before"),
                6: Fault(drop="half"),
                9: Fault(502, {}, b"<html>bad gateway</html>"),
            }.get(asked.number % 12)
        return None

    stub.fault = broken
    uids = box.fill(40, stub.base)
    tally = box.sender(stub.base, clock=Clock(scale=50), timeout=0.3).run()
    assert (tally.delivered, dict(tally.reasons)) == (40, {})
    assert whole(stub, uids)


def test_an_answer_lost_after_the_commit_makes_no_second_resource(stub, box):
    """Row 9: of 30 % of all requests, writes included."""
    stub.fault = lambda asked: Fault(drop="after") if asked.number % 10 in {2, 5, 8} else None
    uids = box.fill(60, stub.base)
    tally = box.sender(stub.base, clock=Clock(scale=100)).run()
    assert (tally.delivered, dict(tally.reasons)) == (60, {})
    assert whole(stub, uids)


def test_an_answer_lost_where_the_server_gives_ids_makes_no_second_resource(box):
    with Stub(client_ids=False) as stub:
        stub.fault = lambda asked: Fault(drop="after") if asked.number % 10 in {2, 5, 8} else None
        uids = box.fill(40, stub.base)
        assert box.sender(stub.base, clock=Clock(scale=100)).run().delivered == 40
        assert whole(stub, uids)
        assert len(stub.ids("Patient")) == 40


def test_storms_of_conflicts_converge(stub, box):
    """Row 10: another writer is faster, or says so, at every second write."""

    def storm(asked):
        if asked.method == "PUT" and asked.kind == "ImagingStudy":
            if asked.number % 4 == 1:
                return Fault(409, {}, outcome("conflict", "x"))
            if asked.number % 4 == 3:
                return Fault(412, {}, outcome("conflict", "x"))
            held = stub.store.latest(asked.path)
            if held and asked.number % 3 == 0:
                stub.store.put(asked.path, {**held, "note": [{"text": str(asked.number)}]})
        return None

    stub.fault = storm
    uids = box.fill(60, stub.base)
    tally = box.sender(stub.base, clock=Clock(scale=100)).run()
    assert (tally.delivered, dict(tally.reasons)) == (60, {})
    assert whole(stub, uids)


def test_one_refusal_in_a_hundred_delays_nobody(stub, box):
    """Row 11: 99 delivered, one dead letter with a redacted reason, replayed after the fix."""
    uids = box.fill(100, stub.base)
    said = outcome("invalid", "Canary^Robin 7", expression=["ImagingStudy.status"])
    fixed = []

    def refuse(asked):
        bad = asked.method == "PUT" and asked.path.endswith(bad_id)
        return Fault(422, {}, said) if bad and not fixed else None

    from converter.core.ids import study_id

    bad_id = study_id(uids[41])
    stub.fault = refuse
    began = time.monotonic()
    tally = box.sender(stub.base).run()
    assert (tally.delivered, tally.undelivered, dict(tally.reasons)) == (99, 0, {"refused": 1})
    assert time.monotonic() - began < 10
    (letter,) = box.outbox.letters()
    assert (letter.study_uid, letter.reason) == (uids[41], "refused")
    assert str(refusal_of(letter.refusal)) == "HTTP 422; to PUT ImagingStudy; error invalid at ImagingStudy.status"  # fmt: skip
    assert b"Canary" not in letter.refusal
    fixed.append(True)
    assert box.outbox.replay([letter], 0.0) == 1
    assert box.sender(stub.base).run().delivered == 1
    assert whole(stub, uids)


def test_a_token_endpoint_that_is_away_is_told_apart_from_the_server(stub, box):
    box.fill(3, stub.base)
    with socket.create_server(("127.0.0.1", 0)) as held:
        away = f"http://127.0.0.1:{held.getsockname()[1]}/token"  # and nobody listens any more
    known = {"auth": "oauth2", "client_id": "x", "client_secret": "y", "token_url": away}
    clock = Clock(scale=100)
    tally = box.sender(stub.base, clock=clock, **known).run(until=clock.now() + 300)
    assert (tally.waiting, tally.circuits) == ({stub.base: 3}, {})
    assert tally.last == {stub.base: "the token endpoint does not answer"}
    assert stub.log == []


def test_a_resource_that_others_write_all_the_time_waits_and_says_so(stub, box):
    box.fill(1, stub.base)
    stub.fault = lambda asked: Fault(412, {}, outcome("conflict", "x")) if asked.method == "PUT" and asked.path.startswith("ImagingStudy") else None  # fmt: skip
    clock = Clock(scale=100)
    tally = box.sender(stub.base, clock=clock).run(until=clock.now() + 60)
    assert tally.waiting == {stub.base: 1}
    assert tally.last == {
        stub.base: "what is written does not last: somebody else writes the resource, too"
    }


def test_a_replay_renders_anew(stub, box):
    box.fill(1, stub.base)
    stub.fault = lambda asked: Fault(422, {}, outcome("value", "x")) if asked.method == "PUT" and asked.kind == "ImagingStudy" else None  # fmt: skip
    box.sender(stub.base).run()
    stub.fault = lambda asked: None
    box.convert("1.2.3.1", description="mapped as it should be")
    box.outbox.replay(box.outbox.letters(), 0.0)
    box.sender(stub.base).run()
    assert stub.studies()[0]["description"] == "mapped as it should be"


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Fault(403, {}, outcome("forbidden", "x")), "HTTP 403"),
        (Fault(404, {}, b"<html>nginx</html>"), "HTTP 404"),
        (Fault(200, {}, b"<html>log in</html>"), "HTTP 200"),
    ],
)
def test_a_circuit_opens_keeps_everything_and_is_probed(stub, box, fault, why):
    """Row 12: nothing is a dead letter, and one study is tried every 5 minutes."""
    stub.fault = lambda asked: fault
    uids = box.fill(20, stub.base)
    tally = box.sender(stub.base).run()
    assert (tally.delivered, tally.undelivered, dict(tally.reasons)) == (0, 20, {})
    assert why in tally.circuits[stub.base]
    assert why in box.outbox.outlet(stub.base).circuit
    tried = len(stub.log)
    assert box.sender(stub.base).run().undelivered == 20
    assert len(stub.log) - tried <= 2, "one probe when a sender starts, no more"
    stub.fault = lambda asked: None
    assert box.sender(stub.base).run().delivered == 20
    assert box.outbox.outlet(stub.base).circuit == ""
    assert whole(stub, uids)


def test_a_daemon_says_once_that_nothing_goes_and_once_that_it_goes_again(stub, box, caplog):
    stub.fault = lambda asked: Fault(401, {}, outcome("login", "Bearer secret of DOE^JANE"))
    box.fill(3, stub.base)
    sender = box.sender(stub.base)
    (target,) = sender.targets.values()
    target.aloud = True
    with caplog.at_level(logging.WARNING, "converter.delivery"):
        sender.run()
        target.outlet = target.outlet._replace(probe_at=0.0)
        sender.run()
        (said,) = caplog.messages
        assert f"{stub.base}: nothing is delivered: HTTP 401" in said
        assert "look at the credentials" in said
        assert re.search(r"the next try is at \d\d:\d\d:\d\dZ$", said)
        assert "DOE" not in said
        stub.fault = lambda asked: None
        target.outlet = target.outlet._replace(probe_at=0.0)
        assert sender.run().delivered == 3
    assert caplog.messages[1:] == [f"{stub.base}: studies are delivered again"]


def test_a_daemon_says_once_that_a_server_is_away(box, caplog):
    base = f"http://127.0.0.1:{quiet_port()}/fhir"
    box.fill(2, base, now=time.time())
    sender = box.sender(base, timing=Timing(base=0.01, cap=0.01))
    sender.targets[base].aloud = True
    with caplog.at_level(logging.WARNING, "converter.delivery"):
        sender.run(until=sender.clock.now() + 0.5)
    assert sender.targets[base].failures > 1
    (said,) = caplog.messages
    assert "nobody answers" in said


def test_a_daemon_says_once_that_a_server_only_fails_and_once_that_it_takes_again(
    stub, box, caplog
):
    stub.fault = lambda asked: Fault(503, {}, outcome("exception", "no room for DOE^JANE"))
    box.fill(4, stub.base, now=time.time())
    sender = box.sender(stub.base, timing=Timing(base=0.01, cap=0.02))
    sender.targets[stub.base].aloud = True
    with caplog.at_level(logging.WARNING, "converter.delivery"):
        sender.run(until=sender.clock.now() + 0.5)
        assert sender.tally.attempts > 8
        (said,) = caplog.messages
        assert said.startswith(f"{stub.base}: nothing is delivered: HTTP 503, 3 tries in a row. ")
        assert re.search(r"the next try is at \d\d:\d\d:\d\dZ$", said)
        stub.fault = lambda asked: None
        assert sender.run().delivered == 4
    assert caplog.messages[1:] == [f"{stub.base}: studies are delivered again"]


def test_a_server_that_fails_now_and_then_fills_no_log(stub, box, caplog):
    """A failure beside successes is none of the server as a whole; rows of them are told once a minute."""
    failing = itertools.cycle([True] * 5 + [False] * 5)
    stub.fault = lambda asked: Fault(500, {}, b"") if next(failing) else None
    box.fill(30, stub.base, now=time.time())
    sender = box.sender(stub.base, workers=1, timing=Timing(base=0.001, cap=0.002))
    sender.targets[stub.base].aloud = True
    with caplog.at_level(logging.WARNING, "converter.delivery"):
        assert sender.run().delivered == 30
    assert len(caplog.messages) <= 2


def test_a_circuit_is_probed_every_five_minutes_while_a_sender_runs(stub, box):
    stub.fault = lambda asked: Fault(403, {}, outcome("forbidden", "x"))
    box.fill(20, stub.base, now=time.time())
    clock = Clock(scale=600)
    sender = box.sender(stub.base, clock=clock)
    sender.keep_on = True
    began = clock.now()
    threading.Timer(1.6, lambda: setattr(stub, "fault", lambda asked: None)).start()
    tally = sender.run(until=began + HOUR)
    assert tally.delivered == 20
    refused = [a for a in stub.log if a.status == 403]
    assert len(refused) <= 20 + (clock.now() - began) / 300, "those on their way, then the probes"


def test_a_token_that_is_refused_is_renewed_once(stub, box, tmp_path):
    """Row 12: 401, then 200."""
    (tmp_path / "secret").write_text("s3cret")

    def guard(asked):
        if asked.path == "token":
            return None
        known = asked.headers.get("authorization") == f"Bearer {stub.token}"
        if asked.number == 40:
            stub.token = "revoked"
        return None if known else Fault(401, {}, outcome("login", "x"))

    stub.fault = guard
    uids = box.fill(30, stub.base)
    tally = box.sender(
        stub.base, auth="oauth2", client_id="c", client_secret_file=str(tmp_path / "secret"),
        token_url=f"{stub.base}/token",
    ).run()  # fmt: skip
    assert (tally.delivered, tally.circuits) == (30, {})
    assert stub.tokens_given == 2
    assert whole(stub, uids)


def test_ten_refusals_that_say_the_same_are_no_fault_of_the_studies(stub, box):
    said = outcome("processing", "database is read-only")
    stub.fault = lambda asked: Fault(422, {}, said) if asked.method == "PUT" else None
    uids = box.fill(40, stub.base)
    tally = box.sender(stub.base).run()
    assert tally.undelivered >= 40 - sum(tally.reasons.values())
    assert box.outbox.letters() == []
    assert tally.circuits[stub.base].endswith(
        "in a row: HTTP 422; to PUT Patient; error processing"
    )
    stub.fault = lambda asked: None
    assert box.sender(stub.base).run().delivered == 40
    assert whole(stub, uids)


def test_different_refusals_stay_dead_letters(stub, box):
    def refuse(asked):
        if asked.method == "PUT" and asked.kind == "ImagingStudy":
            place = "ImagingStudy.status" if asked.number % 2 else "ImagingStudy.subject"
            return Fault(422, {}, outcome("value", "x", expression=[place]))
        return None

    stub.fault = refuse
    box.fill(8, stub.base)
    box.sender(stub.base, workers=1).run()
    assert box.states(stub.base) == ["dead"] * 8


def test_several_destinations_do_not_wait_for_each_other(stub, box):
    away = Stub().start()
    away.stop()
    uids = box.fill(20, stub.base)
    box.outbox.enqueue([away.base], 0.0, uids)
    sender = box.sender(stub.base, away.base)
    tally = sender.run(until=time.time() + 3)
    assert tally.delivered == 20
    assert tally.waiting == {away.base: 20}


def test_two_senders_on_one_state_share_the_work(stub, box):
    uids = box.fill(60, stub.base)
    second = box.beside()
    tallies = []
    try:
        other = box.sender(stub.base, store=second)
        done = threading.Event()

        def run():
            # SQLite connections stay with their thread
            mine = box.beside()
            try:
                tallies.append(box.sender(stub.base, store=mine).run())
            finally:
                mine.close()
                done.set()

        thread = threading.Thread(target=run)
        thread.start()
        tallies.append(other.run())
        thread.join()
    finally:
        second.close()
    assert sum(t.delivered for t in tallies) == 60
    assert whole(stub, uids)
    assert len([a for a in stub.requests("PUT", "ImagingStudy") if a.status == 201]) == 60


def test_a_sender_that_died_leaves_its_rows_to_the_next(stub, box):
    uids = box.fill(10, stub.base)
    box.outbox.claim(stub.base, 10, time.time(), time.time() + 0.5)
    tally = box.sender(stub.base, timing=Timing(lease=60)).run(until=time.time() + 20)
    assert tally.delivered == 10
    assert whole(stub, uids)


def test_asked_to_stop_it_finishes_what_is_on_its_way(stub, box):
    box.fill(60, stub.base)
    tally = box.sender(stub.base, workers=2).run(stop=lambda: len(stub.log) > 40)  # fmt: skip
    assert 0 < tally.delivered < 60
    assert tally.delivered + tally.undelivered == 60
    assert box.sender(stub.base).run().delivered == tally.undelivered


def test_what_is_given_up_stays_due_and_may_have_gone_through(box):
    """A server that takes 30 s a request is not waited for, and nothing stays leased."""
    with Stub(lambda _asked: Fault(delay=30)) as slow:
        uids = box.fill(4, slow.base)
        sender = box.sender(slow.base)
        began = time.monotonic()
        tally = sender.run(stop=lambda: bool(slow.log), give_up=lambda: bool(slow.log))
        assert time.monotonic() - began < 10
        assert tally.undelivered == 4
        now = time.time()
        rows = box.outbox.claim(slow.base, 9, now, now + 60)
        assert sorted(row.study_uid for row in rows) == uids
        assert all(row.uncertain for row in rows)


def test_until_a_moment_and_no_longer(box):
    away = Stub().start()
    away.stop()
    box.fill(3, away.base)
    began = time.monotonic()
    tally = box.sender(away.base).run(until=time.time() + 1.0)
    assert tally.undelivered == 3
    assert 0.9 < time.monotonic() - began < 3


def test_a_fault_of_ours_stays_with_its_study(stub, box):
    uids = box.fill(5, stub.base)
    sender = box.sender(stub.base)
    real = sender.targets[stub.base].client.request

    def broken(method, path, asked, **more):
        if method == "PUT" and more.get("body") and uids[2].encode() in more["body"] and "ImagingStudy" in path:  # fmt: skip
            raise ZeroDivisionError("Canary^Robin")
        return real(method, path, asked, **more)

    sender.targets[stub.base].client.request = broken
    tally = sender.run()
    assert (tally.delivered, dict(tally.reasons)) == (4, {"delivery-failed": 1})
    (letter,) = box.outbox.letters()
    assert "ZeroDivisionError in" in str(refusal_of(letter.refusal))
    assert "Canary" not in str(refusal_of(letter.refusal))
