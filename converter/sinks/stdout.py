"""Standard output: NDJSON, a line a resource."""

from __future__ import annotations

from converter.sinks.ndjson import NdjsonStream
from converter.sinks.output import standard_output

__all__ = ["StdoutSink"]


class StdoutSink(NdjsonStream):
    """NDJSON on the standard output."""

    def __init__(self) -> None:
        super().__init__(standard_output())
