"""Standard streams that are closed, full or read by nobody: what a run does does not hang on them."""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parent.parent.parent / "testdata" / "dicom" / "demo"
RESOURCES = 6
"""Resources of the demo."""
READER_GONE = 128 + signal.SIGPIPE


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def shell(arguments, redirections="", **more):
    command = (
        f"{shlex.join([sys.executable, '-m', 'converter', *map(str, arguments)])} {redirections}"
    )
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, **more
    )


def converted(folder="out"):
    return len(list(Path(folder).rglob("*.json")))


@pytest.mark.parametrize("more", [[], ["-v"], ["--log-format", "json"]], ids=" ".join)
@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-", "2> >(true)"])
def test_a_log_that_nobody_can_write_changes_neither_run_nor_report(more, stderr):
    done = shell(["convert", DEMO, "-o", "out", "--report", "report.json", *more], stderr)
    assert (done.returncode, converted()) == (0, RESOURCES)
    told = json.loads(Path("report.json").read_bytes())
    assert (told["ended"], told["exit_code"], told["error"]) == ("done", 0, None)


def test_an_error_that_cannot_be_said_keeps_its_exit_code():
    assert shell(["convert", DEMO], "2>/dev/full").returncode == 2
    assert shell(["convert", DEMO, "-o", "/dev/full", "--format", "bundle"], "2>&-").returncode == 7


def test_a_progress_bar_on_a_terminal_that_has_gone_changes_nothing():
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "converter", "convert", DEMO, "-o", "out"]
    with subprocess.Popen(command, stderr=theirs) as running:
        os.close(theirs)
        os.close(ours)
    assert (running.returncode, converted()) == (0, RESOURCES)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_streams_change_nothing_for_a_run_that_does_not_need_them(closed):
    done = shell(["convert", DEMO, "-o", "out", "--report", "report.json"], closed)
    assert (done.returncode, converted()) == (0, RESOURCES)
    assert "fault" not in done.stderr
    assert json.loads(Path("report.json").read_bytes())["ended"] == "done"


@pytest.mark.parametrize("form", ["ndjson", "bundle"])
def test_resources_to_a_closed_standard_output_are_an_error_that_says_so(form):
    done = shell(["convert", DEMO, "-o", "-", "--format", form], ">&-")
    assert done.returncode == 7
    assert "tandard output is closed" in done.stderr


PRINTING = [
    ["--help"],
    ["convert", "--help"],
    ["explain", DEMO],
    ["mappings", "list"],
    ["config", "show"],
    ["completion", "bash"],
    ["convert", DEMO, "-o", "-", "-q"],
    ["convert", DEMO, "-o", "-", "-q", "--format", "bundle"],
]


@pytest.mark.parametrize("arguments", PRINTING, ids=lambda words: " ".join(map(str, words[:2])))
def test_a_reader_that_has_left_ends_every_command_quietly_like_sigpipe(arguments):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "converter", *arguments]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (READER_GONE, "")


def test_a_report_tells_of_a_run_whose_resources_nobody_read_to_the_end():
    done = shell(["convert", DEMO, "-o", "-", "--report", "report.json"], "> >(true)")
    assert done.returncode == READER_GONE
    told = json.loads(Path("report.json").read_bytes())
    assert (told["ended"], told["exit_code"]) == ("failed", READER_GONE)


def test_a_daemon_whose_log_nobody_reads_any_more_drains_and_ends_as_ever():
    arguments = [
        "-o",
        "out",
        "-p",
        "0",
        "--http-port",
        "0",
        "--state",
        "s.db",
        "--disk-reserve",
        "0B",
    ]
    command = [sys.executable, "-m", "converter", "listen", *arguments, "-v"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as daemon:
        assert daemon.stderr is not None
        while not daemon.stderr.readline().startswith("listening "):
            pass
        daemon.stderr.close()
        daemon.terminate()
        assert daemon.wait(30) == 0
