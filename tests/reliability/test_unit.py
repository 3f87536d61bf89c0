"""Row 41: what the systemd unit leaves open, by systemd's own measure. No systemd need run for that."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).resolve().parents[2] / "deploy" / "dcm2fhir-listen.service"


@pytest.mark.interop
def test_the_unit_leaves_at_most_2_of_10_open():
    program = shutil.which("systemd-analyze")
    assert program, "systemd-analyze is missing: apt-get install systemd"
    done = subprocess.run(
        [program, "security", "--offline=true", "--threshold=20", "--no-pager", str(UNIT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-200:]
