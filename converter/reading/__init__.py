"""Bytes to header: the fast header reader, and pydicom for whatever it does not take."""

from __future__ import annotations

from converter.reading.reader import Opened, open_file, read_bytes, read_file, read_stream
from converter.reading.result import DEFAULT, Limits, Read
from converter.reading.upto import header_bytes

__all__ = [
    "DEFAULT",
    "Limits",
    "Opened",
    "Read",
    "header_bytes",
    "open_file",
    "read_bytes",
    "read_file",
    "read_stream",
]
