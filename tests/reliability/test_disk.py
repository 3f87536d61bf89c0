"""Rows 2, 4 and 5: a disk that is full, read-only or broken refuses with 0xA700, loses nothing and recovers by itself."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from converter.cli.main import run
from tests.reliability.watching import processes
from tests.servers.stub import Fault, Stub
from tools.dicom_sender import Sender

pytestmark = pytest.mark.interop

DEMO = Path(__file__).resolve().parents[2] / "testdata" / "dicom" / "demo"
REFUSED = 0xA700


def system(name, *arguments):
    """Run a program of the system as root, which mounting needs."""
    found = shutil.which(name)
    assert found, f"{name} is missing"
    done = subprocess.run(
        [found, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def small(tmp_path):
    """A file system of 20 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    system("mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", place)
    yield place
    system("umount", "-l", place)


@pytest.fixture
def server():
    """A FHIR server: what delivers to it uses the same disk."""
    with Stub() as stub:
        yield stub


def uids(studies):
    """SOP Instance UIDs of some ImagingStudies."""
    return {
        instance["uid"].removeprefix("urn:oid:")
        for study in studies
        for series in study["series"]
        for instance in series["instance"]
    }


@pytest.mark.parametrize("option", ["-o", "--state"])
def test_doctor_says_of_a_full_disk_what_a_run_ends_with(small, tmp_path, option, capsys):
    with (small / "all").open("wb") as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    options = {"-o": tmp_path / "out", option: small / "x"}
    given = [str(word) for pair in options.items() for word in pair]
    assert run(["doctor", "convert", *given]) == 7
    assert "nothing can be written there" in " ".join(capsys.readouterr().out.split())
    assert run(["convert", str(DEMO), *given]) == 7


@pytest.mark.parametrize("reserve", ["4MiB", "0"])
def test_a_full_file_system_refuses_and_recovers_when_it_grows(
    daemon, instance, small, server, reserve
):
    """With a reserve, and up to the last byte: every write of journal and store may fail."""
    state = ("--state", str(small / "listen.db"))
    running = daemon(*state, "--to", server.base, "--disk-reserve", reserve, "--receivers", "1")
    acknowledged, refused = set(), 0
    with Sender(running.port).associate() as sender:
        number = 0
        while refused < 200:
            number += 1
            data, uid = instance("1.2.3", number, name="X" * 50_000)
            status = sender.store(data, uid).status
            assert status in {0, REFUSED}
            if status:
                refused += 1
            else:
                acknowledged.add(uid)
        running.until(lambda: running.get("/readyz")[0] == 503)
        assert running.get("/livez")[0] == 200
        system("mount", "-o", "remount,size=200m", small)
        running.until(lambda: sender.store(*instance("1.2.3", 100_000)).status == 0)
        sender.release()  # the same association all the while
    acknowledged.add("1.2.3.1.100000")
    running.until(lambda: acknowledged <= uids(running.resources()))
    running.until(lambda: acknowledged <= uids(server.studies()))
    running.until(lambda: running.get("/readyz") == (200, "ok\n"))
    assert running.metric("receiver_restarts_total") == 0
    assert "Traceback" not in running.text()
    running.end()
    assert not list(small.rglob("*.new"))
    assert len(acknowledged) > 50


def test_a_read_only_file_system_refuses_and_recovers(daemon, instance, tmp_path):
    """The folder of the journals becomes read-only, as a remount makes it for whatever is opened from then on."""
    running = daemon("--receivers", "1")
    journal = running.state.parent / "journal"
    system("mount", "-o", "bind", journal, journal)
    try:
        system("mount", "-o", "remount,ro,bind", journal)
        running.until(lambda: running.get("/readyz")[0] == 503)
        assert "journal-not-writable" in running.get("/readyz")[1]
        with Sender(running.port).associate() as sender:
            for number in range(1, 6):
                assert sender.store(*instance("1.2.3", number)).status == REFUSED
            system("mount", "-o", "remount,rw,bind", journal)
            running.until(lambda: sender.store(*instance("1.2.3", 7)).status == 0)
            sender.release()
        running.until(lambda: running.get("/readyz")[0] == 200)
        running.published(1, 1)
        running.end()
    finally:
        system("umount", "-l", journal)


class Broken:
    """Calls of running processes fail, by strace, until the end of the block."""

    def __init__(self, pids, calls, error):
        self._command = [
            shutil.which("strace"), "-f", "-qq", "-o", "/dev/null",
            "-e", f"trace={calls}", "-e", f"inject={calls}:error={error}",
            *(word for pid in pids for word in ("-p", str(pid))),
        ]  # fmt: skip

    def __enter__(self):
        assert self._command[0], "strace is missing: apt-get install strace"
        self._process = subprocess.Popen(self._command, stderr=subprocess.PIPE)
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.communicate(timeout=20)


@pytest.mark.parametrize(
    ("calls", "error"),
    [("pwrite64,openat", "EROFS"), ("fdatasync,fsync", "EIO"), ("pwrite64,fdatasync", "ENOSPC")],
)
def test_a_disk_that_breaks_refuses_and_recovers(daemon, instance, server, calls, error):
    """Every write, open or sync of all processes fails, those of files that are open already, too."""
    running = daemon("--to", server.base, "--receivers", "1")
    acknowledged = set()
    server.fault = lambda _asked: Fault(503)
    with Sender(running.port).associate() as sender:
        data, uid = instance("1.2.4")
        assert sender.store(data, uid).status == 0
        acknowledged.add(uid)
        sender.release()
    # a delivery is under way, and is tried again and again
    running.until(lambda: {asked.path for asked in server.log} - {"metadata"})
    with Sender(running.port, timeout=60).associate() as sender:

        def stored(number):
            data, uid = instance("1.2.3", number)
            status = sender.store(data, uid).status
            assert status in {0, REFUSED}
            if status == 0:
                acknowledged.add(uid)
            return status == 0

        assert stored(1)
        with Broken(processes(running), calls, error):
            running.until(lambda: not stored(2))
            assert not any(stored(number) for number in range(3, 8))
            running.until(lambda: running.get("/readyz")[0] == 503)
            assert not stored(8)
            assert running.get("/livez")[0] == 200
            running.until(lambda: "cannot be delivered now" in running.text())
        server.fault = lambda _asked: None
        # without a sender, too: a load balancer sends nothing to who is not ready
        running.until(lambda: running.get("/readyz") == (200, "ok\n"))
        running.until(lambda: stored(9))
        sender.release()
    running.until(lambda: acknowledged <= uids(running.resources()))
    running.until(lambda: acknowledged <= uids(server.studies()))
    assert running.metric("receiver_restarts_total") == 0
    assert running.process.poll() is None
    running.end()
