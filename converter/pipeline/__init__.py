"""The one pipeline: inputs to headers to studies to resources to a sink."""

from __future__ import annotations

from converter.pipeline.exits import Ending, exit_code
from converter.pipeline.request import Judge, Parts, Progress, Request, Verdict
from converter.pipeline.result import RunResult, StudyResult
from converter.pipeline.run import run

__all__ = [
    "Ending",
    "Judge",
    "Parts",
    "Progress",
    "Request",
    "RunResult",
    "StudyResult",
    "Verdict",
    "exit_code",
    "run",
]
