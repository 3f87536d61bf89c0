"""Log lines on stderr: our own loggers only, text or JSON, without a patient's value.

Libraries that read DICOM put values into their messages ("Invalid value for VR DA: '19590123x'"), so theirs
are never passed on: a warning of theirs becomes its class and place, and their loggers are silent.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from pathlib import PurePath
from typing import Literal, TextIO

__all__ = ["JsonFormatter", "TextFormatter", "start"]

SILENT = (
    "pydicom",
    "pynetdicom",
    "fhir",
    "py.warnings",
    "asyncio",
    "httpx2",
    "httpcore2",
    "stamina",
)
logger = logging.getLogger("converter.cli")


class TextFormatter(logging.Formatter):
    """``warning: message``; an exception is only its class."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one line."""
        return f"{record.levelname.lower()}: {record.getMessage()}{_error(record)}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line; times are UTC with ``Z``."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one line."""
        import msgspec

        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage() + _error(record),
            **getattr(record, "fields", {}),
        }
        return msgspec.json.encode(line).decode()


def _error(record: logging.LogRecord) -> str:
    kind = record.exc_info[0] if record.exc_info else None
    return f" ({kind.__name__})" if kind else ""


def start(
    form: Literal["text", "json"] = "text",
    *,
    verbose: int = 0,
    quiet: bool = False,
    stream: TextIO | None = None,
) -> None:
    """Send our own log lines to stderr and silence those of libraries."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    ours = logging.getLogger("converter")
    for old in ours.handlers[:]:
        ours.removeHandler(old)
    ours.addHandler(handler)
    ours.propagate = False
    # who reads JSON wants the events of a run, for it stands in the place of the summary
    least = logging.INFO if form == "json" else logging.WARNING
    least = logging.ERROR if quiet else least
    ours.setLevel({0: least, 1: logging.INFO}.get(verbose, logging.DEBUG))
    everybody = logging.getLogger()
    if not everybody.handlers:
        # what nobody handles goes to stderr as it is, names of objects included
        everybody.addHandler(logging.NullHandler())
    for name in SILENT:
        library = logging.getLogger(name)
        library.handlers[:] = [logging.NullHandler()]
        library.propagate = False
        library.setLevel(logging.CRITICAL + 1)
    warnings.showwarning = _warned


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    del message, file, line  # the message may hold a value
    logger.debug("%s in %s, line %d", category.__name__, PurePath(filename).name, lineno)
