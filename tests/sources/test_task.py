"""A task is the same on the other side of a pipe."""

from __future__ import annotations

import os
import pickle

import pytest

from converter.sources.task import Entry, Task


@pytest.mark.parametrize(
    "task",
    [
        Task("files", (Entry("/a/b.dcm"), Entry(os.fsdecode(b"/a/\xff \xc3\xbc\n.dcm")))),
        Task("files", (Entry("/a", 3, 7), Entry("/b"))),
        Task("files", (Entry("s3://x/y", -1, 9),)),
        Task("archive", (Entry("/a.zip"),), 2000, 4000),
        Task("files", ()),
    ],
)
def test_a_task_is_the_same_on_the_other_side_of_a_pipe(task):
    assert pickle.loads(pickle.dumps(task)) == task
