"""Row 40: a study of 50,000 instances, in time and memory, and what happens where it is too large."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.stub import Stub

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import json, re, sys, time
import orjson
from pathlib import Path
sys.path.insert(0, {root!r})
from benchmarks.delivery import filled, study
from converter.cli.delivering import Destinations
from converter.settings import Config, DestinationSettings

base, folder = sys.argv[1], Path(sys.argv[2])
store, uids = filled(folder / "state.db", 1, 50_000, Config())
store.outbox.enqueue([base], 0.0, uids)
began = time.monotonic()
destinations = Destinations({{base: Config()}}, {{base: DestinationSettings(url=base)}})
findings = []
tally = destinations.sender(store, lambda row, delivery: findings.extend(delivery.findings)).run()
took = time.monotonic() - began
destinations.close()
store.close()
print(json.dumps({{
    "delivered": tally.delivered, "took": took, "findings": [f.code for f in findings],
    # not ru_maxrss, which counts what the test runner held when it forked
    "mib": int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024,
}}))
"""


@pytest.mark.parametrize("largest", [0, 1 << 20])
def test_a_study_of_50000_instances(tmp_path, largest):
    with Stub(largest=largest, integrity=False) as stub:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(root=str(ROOT)), stub.base, str(tmp_path)],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["delivered"] == 1
        assert told["took"] < 30
        assert told["mib"] < 300
        (held,) = stub.studies()
        assert held["numberOfInstances"] == 50_000
        listed = len(held["series"][0].get("instance", []))
        assert listed == (0 if largest else 50_000)
        assert told["findings"] == (["instances-not-listed"] if largest else [])
