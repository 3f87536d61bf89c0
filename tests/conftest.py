"""What every test gets: no configuration of the machine it runs on."""

from __future__ import annotations

import gc
import logging
import os
import signal
import warnings
from itertools import count

import pytest

from converter.cli.logs import SILENT
from tests.servers.postgres import server

SHOW_WARNING = warnings.showwarning
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    # under nohup, which the programs that are started would inherit; a handler they do not
    signal.signal(signal.SIGHUP, lambda *_: None)
KEPT = 1_500_000
"""Objects; looking for garbage among them takes a second."""
TESTS = count(1)


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch, tmp_path_factory):
    for name in [name for name in os.environ if name.startswith("DCM2FHIR_")]:
        monkeypatch.delenv(name)
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path_factory.getbasetemp() / name.lower()))


@pytest.fixture(autouse=True)
def _logging_from_anew(monkeypatch):
    """Commands and libraries set up logging for their process; each test begins as a process does."""
    monkeypatch.setattr(warnings, "showwarning", SHOW_WARNING)
    logging.disable(logging.NOTSET)
    logging.getLogger().setLevel(logging.WARNING)
    ours = [name for name in logging.root.manager.loggerDict if name.startswith("converter.")]
    for logger in map(logging.getLogger, ("converter", *ours, *SILENT)):
        logger.handlers[:] = []
        logger.propagate, logger.disabled = True, False
        logger.setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def _what_ended_is_not_kept():
    """A command keeps what it loaded to its end, and here many run in one process."""
    yield
    if next(TESTS) % 100 == 0 and gc.get_freeze_count() > KEPT:  # to count takes time, too
        gc.unfreeze()
        gc.collect()


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server; ``postgres.url()`` is a new schema in it."""
    running = server(tcp=True)
    yield running
    running.close()


@pytest.fixture(scope="session")
def make_dicom():
    """Smallest whole object: explicit little endian with file meta information (PS3.10 section 7.1)."""

    def element(group, number, vr, value):
        data = value.encode("ascii")
        data += (b"\0" if vr == "UI" else b" ") * (len(data) % 2)
        tag = group.to_bytes(2, "little") + number.to_bytes(2, "little")
        return tag + vr.encode() + len(data).to_bytes(2, "little") + data

    def make(study="1.2.3", series=None, sop=None, *, modality="CT", patient="P1", **more):
        series = series or f"{study}.1"
        sop = sop or f"{series}.1"
        ct = "1.2.840.10008.5.1.4.1.1.2"
        meta = (
            element(2, 2, "UI", ct)
            + element(2, 3, "UI", sop)
            + element(2, 0x10, "UI", "1.2.840.10008.1.2.1")
        )
        body = {
            (0x0008, 0x0016): ("UI", ct),
            (0x0008, 0x0018): ("UI", sop),
            (0x0008, 0x0060): ("CS", modality),
            (0x0010, 0x0010): ("PN", more.pop("name", "Test^One")),
            (0x0010, 0x0020): ("LO", patient),
            (0x0010, 0x0030): ("DA", more.pop("born", "19700101")),
            (0x0020, 0x000D): ("UI", study),
            (0x0020, 0x000E): ("UI", series),
            (0x0020, 0x0013): ("IS", more.pop("number", "1")),
        }
        assert not more
        group = b"\2\0\0\0UL\4\0" + len(meta).to_bytes(4, "little")
        data = b"".join(element(*tag, *what) for tag, what in sorted(body.items()))
        return bytes(128) + b"DICM" + group + meta + data

    return make
