"""A guard against receiving getting slow: CPU for each image beside that of others in the same run, never seconds."""

from __future__ import annotations

import operator
import os
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from benchmarks.load import measure
from benchmarks.receivers import DURABLE, NULL, STOCK, Unanswered, running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
SECONDS = 1.0


@pytest.fixture
def folder(tmp_path):
    """In memory where that can be had: what is asked is CPU, and a slow disk leaves few images to divide it by."""
    memory = Path("/dev/shm")  # a folder of its own below it
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(dir=memory) as place:
        yield Path(place)


def costs(names, size, folder, enough):
    """CPU seconds of receivers for each image: the least of their turns, for what else runs adds and never takes away.

    Two turns, and up to six where they are not `enough`.
    """
    found = [[] for _ in names]
    for turn in range(6):
        for name, least in zip(names, found, strict=True):
            place = folder / f"{name}{turn}"
            place.mkdir()
            with running(name, place) as receiver:
                least.append(measure(receiver, size, 1, SECONDS).cpu)
            shutil.rmtree(place)
        if turn and enough(*map(min, found)):
            break
    return [min(least) for least in found]


@pytest.mark.parametrize(("size", "times"), [("5 KB", 12), ("0.5 MB", 5)])
def test_receiving_costs_a_fraction_of_what_pynetdicom_takes_by_itself(folder, size, times):
    stock, ours = costs([STOCK, NULL], size, folder, lambda stock, ours: stock > times * ours)
    assert stock > times * ours


def test_receiving_costs_no_more_than_dcmtk_s_receiver_that_keeps_nothing(folder):
    dcmtk, ours = costs(["storescp --ignore", NULL], "5 KB", folder, operator.gt)
    assert dcmtk > ours


def test_what_is_durable_costs_less_than_pynetdicom_that_keeps_nothing(folder):
    stock, ours = costs([STOCK, DURABLE], "5 KB", folder, lambda stock, ours: stock > 2 * ours)
    assert stock > 2 * ours


def test_a_receiver_that_lets_an_association_wait_is_named_and_not_waited_for(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("benchmarks.load.STALL", 2.0)
    with running("storescp --ignore", tmp_path) as receiver, pytest.raises(Unanswered):
        measure(receiver, "5 KB", 2, 0.1)  # it serves one association at a time
