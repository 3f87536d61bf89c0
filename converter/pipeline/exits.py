"""Which exit code a run ends with: one table, one function."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from converter.core.reasons import REASONS

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Ending", "exit_code"]

WAITING = ("not-delivered", "circuit-open")
"""Reasons for which a study still waits in the outbox."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What decides how a run ends."""

    studies: int = 0
    """Studies that the store holds."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Inputs left out, by reason code."""
    held: Mapping[str, int] = field(default_factory=dict)
    """Studies held back, by reason code."""
    nonconforming: int = 0
    """Resources with a finding of severity error."""
    unpruned: bool = False
    """Whether ``--prune`` was asked for and nothing was pruned, since an input could not be looked at in whole."""
    strict: bool = False
    interrupted: bool = False


def exit_code(ending: Ending) -> int:
    """Decide the exit code: 130, 6, 5, 1, in that order; 4 where there was no DICOM at all.

    Set-up (3) and this machine (7) end a run by an exception and are no part of this.
    An input that should have been DICOM and could not be read is a failure, not an absence of DICOM.
    """
    if ending.interrupted:
        return 130
    if any(ending.held.get(reason) for reason in WAITING):
        return 6
    if ending.strict and ending.nonconforming:
        return 5
    if ending.unpruned or any(
        count and REASONS[reason].failure
        for counts in (ending.skipped, ending.held)
        for reason, count in counts.items()
    ):
        return 1
    if not ending.studies and not ending.skipped.get("filtered"):
        return 4
    return 0
