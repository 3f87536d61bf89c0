"""A guard against receiving getting slow: CPU for each image beside that of others in the same run, never seconds."""

from __future__ import annotations

import sys

import pytest

from benchmarks.load import measure
from benchmarks.receivers import DURABLE, NULL, STOCK, Unanswered, running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
SECONDS = 1.0


def cost(name, size, folder):
    """CPU seconds of a receiver for each image; the least of two, for what else runs adds and never takes away."""
    found = []
    for number in range(2):
        place = folder / f"{name}{number}"
        place.mkdir()
        with running(name, place) as receiver:
            found.append(measure(receiver, size, 1, SECONDS).cpu)
    return min(found)


@pytest.mark.parametrize(("size", "times"), [("5 KB", 12), ("0.5 MB", 5)])
def test_receiving_costs_a_fraction_of_what_pynetdicom_takes_by_itself(tmp_path, size, times):
    assert cost(STOCK, size, tmp_path) > times * cost(NULL, size, tmp_path)


def test_receiving_costs_no_more_than_dcmtk_s_receiver_that_keeps_nothing(tmp_path):
    assert cost("storescp --ignore", "5 KB", tmp_path) > cost(NULL, "5 KB", tmp_path)


def test_what_is_durable_costs_less_than_pynetdicom_that_keeps_nothing(tmp_path):
    assert cost(STOCK, "5 KB", tmp_path) > 2 * cost(DURABLE, "5 KB", tmp_path)


def test_a_receiver_that_lets_an_association_wait_is_named_and_not_waited_for(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("benchmarks.load.STALL", 2.0)
    with running("storescp --ignore", tmp_path) as receiver, pytest.raises(Unanswered):
        measure(receiver, "5 KB", 2, 0.1)  # it serves one association at a time
