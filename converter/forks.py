"""Locks and forked workers: an flock lives as long as any process holds its descriptor, a killed parent's child too."""

from __future__ import annotations

import os
from contextlib import suppress

__all__ = ["ours_alone", "ours_no_more"]

_held: set[int] = set()


def ours_alone(descriptor: int) -> None:
    """Have children that are forked from now on close a descriptor."""
    _held.add(descriptor)


def ours_no_more(descriptor: int) -> None:
    """Forget a descriptor that is about to be closed."""
    _held.discard(descriptor)


def _in_child() -> None:
    for descriptor in _held:
        with suppress(OSError):  # closed behind our back, so nothing holds it
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_in_child)
