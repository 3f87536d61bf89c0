"""Where DICOM objects come from: files, folders, lists of paths, archives.

`plan` looks at the inputs and gives tasks; `read_task` reads one of them, in whatever process.
"""

from __future__ import annotations

from converter.sources.planning import Input, look, plan
from converter.sources.task import Entry, Filters, Own, Packed, Skipped, Task, TaskResult, printable
from converter.sources.worker import read_task

__all__ = [
    "Entry",
    "Filters",
    "Input",
    "Own",
    "Packed",
    "Skipped",
    "Task",
    "TaskResult",
    "look",
    "plan",
    "printable",
    "read_task",
]
