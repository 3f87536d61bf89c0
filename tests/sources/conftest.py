"""A way to read a whole plan in this process."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from converter.core.study import unpack_block
from converter.reading import read_file, read_stream
from converter.sources import Filters, Skipped, plan, read_task

WANTED = dict.fromkeys((0x00080016, 0x00080018, 0x00080060, 0x0020000D, 0x0020000E, 0x00200013))


class Gathered:
    """Everything that a plan gave."""

    def __init__(self):
        self.sources, self.skipped, self.blocks, self.parts, self.tasks = [], [], [], [], []

    @property
    def reasons(self):
        return {path: reason for path, reason, _ in self.skipped}


@pytest.fixture
def gather(tmp_path):
    def run(*inputs, filters=None, **options):
        filters = filters or Filters()
        gathered = Gathered()
        root = f"{tmp_path}/"
        for item in plan([str(i) for i in inputs], filters=filters, **options):
            if isinstance(item, Skipped):
                gathered.skipped.append((item.path.removeprefix(root), item.reason, item.detail))
                continue
            gathered.tasks.append(item)
            readers = SimpleNamespace(read_file=read_file, read_stream=read_stream)
            for part in read_task(item, WANTED, filters, readers):
                gathered.parts.append(part)
                gathered.blocks += [unpack_block(packed.data) for packed in part.blocks]
                gathered.skipped += [
                    (path.removeprefix(root), reason, detail)
                    for _, path, reason, detail in part.skipped
                ]
        for block in gathered.blocks:
            gathered.sources += [row.source.removeprefix(root) for row in block.rows]
        gathered.sources.sort()
        return gathered

    return run
