"""Rows 32 and 33: nothing of a patient leaves by a log, a metric or a dead letter; nothing that a peer sends becomes a path."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
from collections import Counter

from tests.listener.daemon_process import ROOT
from tests.listener.test_paths_agree import parts
from tests.reliability.watching import processes
from tests.servers.stub import Fault, Stub, outcome
from tools.dicom_sender import Gone, Sender
from tools.dicom_writer import encode
from tools.make_hostile import BAD_UIDS, CANARY, CANARY_YEAR, base, make, make_good

BAD = 200
GOOD = 200


def send(running, folder):
    """Send each file of a folder as its own meta information says; count the answers."""
    statuses = Counter()
    for path in sorted(folder.iterdir()):
        sop_class, sop_instance, syntax, data = parts(path.read_bytes())
        with Sender(running.port) as sender:
            try:
                sender.associate([(1, sop_class, (syntax,))])
            except Gone:
                continue
            if sender.accepted:
                response = sender.store(data, sop_instance, sop_class, max_pdu=131072)
                assert CANARY not in response.comment
                statuses[response.status] += 1
            sender.release()
    return statuses


def command(*arguments):
    """What a command beside the daemon prints."""
    done = subprocess.run(
        [sys.executable, "-m", "converter", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    return done.stdout + done.stderr


def test_no_value_of_a_patient_leaves_but_in_a_resource(daemon, tmp_path):
    """200 good and 200 bad objects, a server that repeats what it refuses, everything logged that can be."""
    make(tmp_path / "bad", BAD, seed=3)
    make_good(tmp_path / "good", GOOD)
    temporary = tmp_path / "temporary"
    temporary.mkdir()

    def refuses(asked):
        if asked.method == "GET" or ("Patient" in asked.path and asked.number % 3):
            return None
        said = outcome("invalid", f"{CANARY} was born {CANARY_YEAR}0101", expression=[CANARY])
        return Fault(422, body=said)

    with Stub(refuses) as server:
        running = daemon(
            "--to", server.base, "-v", env={"TMPDIR": str(temporary), "PYTHONWARNINGS": "default"}
        )
        assert send(running, tmp_path / "good")[0] == GOOD
        assert send(running, tmp_path / "bad").total() > BAD / 2
        for path in sorted((tmp_path / "bad").iterdir())[:60]:  # no request at all, but patients
            with Sender(running.port) as sender:
                sender.send(path.read_bytes()[:2000])
        letters = running.until(
            lambda: (
                (found := command("dead", "list", "--state", running.state)).count("invalid") > 20
                and found
            ),
            60,
        )
        running.until(lambda: not running.metric("associations_active"))
        letters += command("dead", "list", "--state", running.state, "--format", "json")
        listed = command("studies", "list", "--state", running.state)
        told = running.text() + "".join(
            running.get(path)[1] for path in ("/metrics", "/readyz", "/livez", "/")
        )
        running.end()
    told += running.text()
    for where in (told, letters, listed):
        assert CANARY not in where
        assert not re.search(rf"{CANARY_YEAR}[01-]\d", where)
    assert "2.999.9." not in told, "a study is named by a hash"
    assert "Traceback" not in told
    assert not [path for path in temporary.rglob("*") if path.is_file()]
    assert not list(tmp_path.rglob("core*"))
    for path in [running.state, *running.state.parent.rglob("*"), *running.out.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


OPENED = re.compile(
    r"(?:open|openat|creat|mkdir|mkdirat|rename|renameat|renameat2|link|linkat|symlink|symlinkat|unlink|unlinkat)"
    r"\(([^\n]*)"
)
WRITING = re.compile(r"O_(?:WRONLY|RDWR|CREAT)|^(?:creat|mkdir|rename|link|symlink|unlink)")


def test_nothing_that_a_peer_sends_becomes_a_path(daemon, tmp_path):
    """Every file that any process of the daemon makes, opens for writing, renames or removes lies where it should."""
    marker = tmp_path / "marker"
    inside = tmp_path / "inside"
    marker.touch()
    running = daemon("--receivers", "1", folder=inside)
    trace = tmp_path / "trace"
    strace = shutil.which("strace")
    assert strace, "strace is missing: apt-get install strace"
    attached = [word for pid in processes(running) for word in ("-p", str(pid))]
    calls = "trace=open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat"
    with subprocess.Popen(
        [strace, "-f", "-qq", "-y", "-s", "4096", "-e", calls, "-o", str(trace), *attached],
        stderr=subprocess.DEVNULL,
    ) as tracing:
        running.until(trace.exists)
        refused = 0
        for number, value in enumerate(BAD_UIDS):
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
                content = encode({**base(number), keyword: {"bytes": value.hex()}}, "2.999.9")
                sop_class, _, syntax, data = parts(content)
                named = value.decode("latin_1") if keyword == "SOPInstanceUID" else "2.999.9.1"
                with Sender(running.port).associate([(1, sop_class, (syntax,))]) as sender:
                    status = sender.store(data, named[:64], sop_class).status
                    assert 0xC000 <= status <= 0xCFFF, (keyword, value)
                    refused += 1
                    sender.release()
        titles = ("../../x", "/etc/x", "..")
        for title in titles:
            with Sender(running.port).associate(calling=title) as sender:
                content = encode({**base(990), "Modality": "../../x"}, "2.999.9")
                _, uid, syntax, data = parts(content)
                assert sender.store(data, uid).status == 0
                sender.release()
        running.published(1)
        running.end()
        tracing.wait(30)
    assert refused == 3 * len(BAD_UIDS)
    written = 0
    for line in trace.read_text(errors="replace").splitlines():
        call = line.split(None, 1)[-1]
        if WRITING.search(call):
            for name in re.findall(r'"((?:[^"\\]|\\.)*)"', call):
                written += 1
                whole = name if name.startswith("/") else str(ROOT / name)
                below = re.search(r"<([^>]*)>, \"" + re.escape(name), call)
                if below and not name.startswith("/"):
                    whole = f"{below[1]}/{name}"
                assert ".." not in whole.split("/"), call
                assert whole.startswith((str(inside), "/dev/")), call
    assert written > 10
    newer = subprocess.run(
        ["find", tmp_path, "-newer", marker, "-not", "-path", f"{inside}/*"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert set(newer) <= {str(tmp_path), str(inside), str(trace)}
