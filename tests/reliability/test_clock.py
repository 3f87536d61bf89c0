"""Rows 35 and 36: the clock of the machine is set, and the hour that comes twice; nothing waits or hurries for it.

A few lines of C stand between the daemon and the clock; the monotonic clock goes on, as it does when a clock is set.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.servers.stub import Fault, Stub
from tools.dicom_sender import Sender
from tools.dicom_writer import encode

pytestmark = pytest.mark.interop

QUIET = 2
CAP = 6


HOUR = 3600


class Clock:
    """A clock that a test sets."""

    def __init__(self, folder):
        compiler = shutil.which("cc") or shutil.which("gcc")
        assert compiler, "a C compiler is missing: apt-get install gcc libc6-dev"
        library = folder / "clock.so"
        source = Path(__file__).with_name("clock.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-O", "-o", library, source], check=True)
        self._file = folder / "ahead"
        self._file.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_AHEAD": str(self._file)}

    def set(self, ahead):
        """Show so many seconds more than there are."""
        with self._file.open("r+b") as file:
            file.write(ahead.to_bytes(8, "little", signed=True))


@pytest.fixture
def clock(tmp_path):
    return Clock(tmp_path)


def store(running, *objects):
    with Sender(running.port) as sender:
        sender.associate()
        for data, uid in objects:
            assert sender.store(data, uid).status == 0
        sender.release()
    return time.monotonic()


def told(running):
    """Moments of its log lines."""
    lines = [line for line in running.text().splitlines() if line.startswith("{")]
    return [datetime.fromisoformat(json.loads(line)["time"]) for line in lines]


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["+1h", "-1h"])
def test_a_clock_that_is_set_publishes_nothing_early_and_nothing_late(
    daemon, instance, clock, tmp_path, jump
):
    (tmp_path / "dcm2fhir.toml").write_text('[log]\nformat = "json"\n')
    running = daemon(
        "--config", str(tmp_path / "dcm2fhir.toml"), "--quiet-period", f"{QUIET}s",
        "--quiet-cap", f"{CAP}s", "--receivers", "1", env=clock.environment,
    )  # fmt: skip
    before = store(running, instance("1.2.3"))
    clock.set(jump)
    after = store(running, instance("1.2.3", 2))
    running.published(1, 2)
    seconds = time.monotonic() - before
    assert seconds > QUIET - 0.1
    assert time.monotonic() - after < QUIET + 5
    # the next one begins and ends on the other clock, and the cap holds for what is never quiet
    begin = time.monotonic()
    number = 0
    while not any(s["identifier"][0]["value"].endswith("1.2.4") for s in running.resources()):
        number += 1
        store(running, instance("1.2.4", number))
        if number == 5:
            clock.set(0)
        assert time.monotonic() - begin < CAP + 5
    assert time.monotonic() - begin > CAP - 0.5
    running.end()
    moments = told(running)
    apart = max((b - a).total_seconds() for a in moments for b in moments)
    assert apart > 3500, "its clock was set"


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["+1h", "-1h"])
def test_a_clock_that_is_set_makes_no_delivery_wait(daemon, instance, clock, jump):
    """A server that is away is tried again in seconds, by whatever clock."""
    refused = []

    def away(asked):
        if asked.path == "metadata" or len(refused) >= 3:
            return None
        refused.append(time.monotonic())
        return Fault(503)

    with Stub(away) as server:
        running = daemon("--to", server.base, "--receivers", "1", env=clock.environment)
        store(running, instance("1.2.3"))
        running.until(lambda: refused)
        clock.set(jump)
        running.until(server.studies, 30)
        # and what is wanted later is sent at once
        store(running, instance("1.2.4"))
        running.until(lambda: len(server.studies()) == 2, 15)
        running.end()


def test_what_waits_for_a_server_asked_to_be_left_alone_waits_as_long_as_it_was_asked(
    daemon, instance, clock
):
    asked = []

    def busy(request):
        if request.path != "metadata":
            asked.append(time.monotonic())
        if len(asked) == 1:
            return Fault(503, headers={"Retry-After": "6"})
        return None

    with Stub(busy) as server:
        running = daemon("--to", server.base, "--receivers", "1", env=clock.environment)
        store(running, instance("1.2.3"))
        running.until(lambda: asked)
        clock.set(HOUR)
        running.until(server.studies, 30)
        assert 5.5 < asked[1] - asked[0] < 15
        running.end()


@pytest.mark.parametrize(
    ("zone", "date", "study_time", "started"),
    [
        ("Europe/Berlin", "20261025", "013000", "2026-10-25T01:30:00+02:00"),
        ("Europe/Berlin", "20261025", "023000", "2026-10-25T02:30:00+02:00"),
        ("Europe/Berlin", "20261025", "033000", "2026-10-25T03:30:00+01:00"),
        (None, "20261025", "023000", "2026-10-25"),
    ],
    ids=["before", "twice", "after", "no zone"],
)
def test_the_hour_that_comes_twice(daemon, clock, zone, date, study_time, started):
    """The daemon runs through it: the first of the two, with a finding. Without a zone: the date, and no offset."""
    night = datetime(2026, 10, 25, 0, 59, 58, tzinfo=UTC)
    ahead = int(night.timestamp() - time.time())
    clock.set(ahead)
    options = ("--timezone", zone) if zone else ()
    running = daemon("--receivers", "1", *options, env={**clock.environment, "TZ": "Europe/Berlin"})
    declared = {
        "SOPClassUID": "CTImageStorage", "SOPInstanceUID": ".1.1.1", "StudyInstanceUID": ".1",
        "SeriesInstanceUID": ".1.1", "Modality": "CT", "PatientID": "P1", "PatientName": "Test^One",
        "StudyDate": date, "StudyTime": study_time,
    }  # fmt: skip
    whole = encode(declared, "2.999.35")
    begin = store(
        running, (whole[144 + int.from_bytes(whole[140:144], "little") :], "2.999.35.1.1.1")
    )
    (study,) = running.published(1)
    assert time.monotonic() - begin < 6
    assert study["started"] == started
    if study_time == "023000" and zone:
        assert "ambiguous" in running.studies("show", study["identifier"][0]["value"][8:])
    running.end()
