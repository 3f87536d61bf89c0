"""What the daemon tells of itself in numbers."""

from __future__ import annotations

import re
import time

import pytest

from converter.listener.board import Board, Waiting
from converter.listener.policy import REJECTIONS
from converter.listener.status import STATUSES
from converter.listener.storing import DURATIONS


@pytest.fixture
def board(tmp_path):
    return Board(tmp_path, 0)


def samples(board):
    """Name with labels to value."""
    lines = [line for line in board.metrics().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_counters_are_there_before_their_first_event(board):
    found = samples(board)
    for name in STATUSES:
        assert found[f'dcm2fhir_cstore_total{{status="{name}"}}'] == 0
    for rejection in REJECTIONS:
        name = f'dcm2fhir_associations_rejected_total{{reason="{rejection.reason}"}}'
        assert found[name] == 0
    assert found["dcm2fhir_receiver_restarts_total"] == 0
    assert found["dcm2fhir_journal_damaged_records_total"] == 0
    assert found['dcm2fhir_studies{state="conflict"}'] == 0
    assert found['dcm2fhir_outbox{state="dead"}'] == 0


def test_buckets_of_a_histogram_add_up_over_receivers_and_restarts(board):
    board.receiver(0, {"duration.0": 3, "duration.us": 1500})
    board.receiver(1, {"duration.1": 1, f"duration.{len(DURATIONS)}": 1, "duration.us": 9_000_000})
    board.receiver_ended(0)
    found = samples(board)
    buckets = [v for name, v in found.items() if name.startswith("dcm2fhir_cstore_duration_seconds_bucket")]  # fmt: skip
    assert buckets == [3] + [4] * (len(DURATIONS) - 1) + [5]
    assert found["dcm2fhir_cstore_duration_seconds_count"] == 5
    assert found["dcm2fhir_cstore_duration_seconds_sum"] == pytest.approx(9.0015)
    assert 'le="+Inf"' in board.metrics()


def test_ages_grow_from_what_has_waited_longest(board):
    assert samples(board)["dcm2fhir_outbox_oldest_age_seconds"] == 0
    board.waiting = Waiting({"due": 2, "dead": 1}, time.time() - 100, 1)
    board.oldest = time.time() - 50
    board.journal_empty = time.monotonic() - 10
    found = samples(board)
    assert 99 < found["dcm2fhir_outbox_oldest_age_seconds"] < 200
    assert 49 < found["dcm2fhir_unpublished_oldest_age_seconds"] < 150
    assert 9 < found["dcm2fhir_journal_age_seconds"] < 110
    assert found['dcm2fhir_outbox{state="due"}'] == 2
    assert found["dcm2fhir_circuits_open"] == 1


def test_nothing_in_the_metrics_names_a_study_or_a_peer(board):
    board.open = [(1, "10.9.8.7", "2.25.987654321")]
    text = board.metrics()
    assert "dcm2fhir_associations_active 1" in text
    assert not re.search(r"10\.9\.8\.7|2\.25\.9", text)
    assert "10.9.8.7" not in str(board.summary())
