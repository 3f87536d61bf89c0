"""Bytes to header: the fast header reader, and pydicom for whatever it does not take."""

from __future__ import annotations

from converter.reading.reader import read_bytes, read_file, read_stream
from converter.reading.result import DEFAULT, Limits, Read
from converter.reading.upto import header_bytes

__all__ = [
    "DEFAULT",
    "Limits",
    "Read",
    "header_bytes",
    "read_bytes",
    "read_file",
    "read_stream",
]
