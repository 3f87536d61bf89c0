"""Where a daemon's state lies when nobody says."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["ELSEWHERE", "state_folder"]

ELSEWHERE = "a service keeps its own, such as /var/lib/dcm2fhir/listen.db: name it (--state, or listen.state)"
"""Said where there is no state that one could expect."""


def state_folder() -> Path:
    """``$XDG_STATE_HOME/dcm2fhir``; under systemd the ``StateDirectory`` of the unit."""
    home = os.environ.get("XDG_STATE_HOME") or os.path.join(  # noqa: PTH118
        os.environ.get("HOME", "/"), ".local", "state"
    )
    given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(given) if given else Path(home) / "dcm2fhir"
