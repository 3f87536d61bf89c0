"""What the tests of delivery share."""

from __future__ import annotations

import pytest

from tests.servers.stub import Stub


@pytest.fixture
def stub():
    with Stub() as server:
        yield server
