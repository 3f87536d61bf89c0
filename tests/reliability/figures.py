"""How large a test runs, and where it notes its figure.

The same tests run small with every change and large in ``make nightly``, which names a file for the figures:
``tools/build_reliability.py`` shows them in ``docs/reliability.md``.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
from pathlib import Path

NIGHTLY = bool(os.environ.get("DCM2FHIR_TEST_NIGHTLY"))
FIGURES = os.environ.get("DCM2FHIR_TEST_FIGURES")


def size(name, small, large):
    """How many: ``DCM2FHIR_TEST_<NAME>`` of the environment, else by the kind of run."""
    return int(os.environ.get(f"DCM2FHIR_TEST_{name.upper()}", large if NIGHTLY else small))


def figure(test, **values):
    """Note what a test measured."""
    sys.stdout.write(f"{test}: {values}\n")
    if FIGURES:
        path = Path(FIGURES)
        held = json.loads(path.read_text()) if path.exists() else {}
        day = dt.datetime.now(dt.UTC).date().isoformat()
        held[test] = {**values, "day": day, "cores": len(os.sched_getaffinity(0))}
        path.write_text(json.dumps(held, indent=1, sort_keys=True) + "\n")
