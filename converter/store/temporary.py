"""The study store of one run, which nobody reads after it."""

# ruff: noqa: D102  what each method promises stands in `StudyStore`

from __future__ import annotations

import struct
from bisect import bisect_left
from typing import TYPE_CHECKING

from converter.store.sql import SqlStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from converter.store.database import Connection, SqliteDatabase
    from converter.store.interface import Converted

__all__ = ["TemporaryStore"]

AT_ONCE = 1_000_000
"""Hashes that are compared in memory at once, about."""


class TemporaryStore(SqlStore):
    """`StudyStore` that goes with the run.

    Hashes of SOP Instance UIDs stand there a study at a time, for they are compared once, when all are there: a row
    for each would cost more than the rest of a conversion's rows.
    """

    def __init__(
        self, database: SqliteDatabase, *, scratch: str, on_close: Callable[[], None]
    ) -> None:
        super().__init__(database, kept=False, scratch=scratch, on_close=on_close)
        database.prepare(
            ["CREATE TABLE sops (study_uid TEXT PRIMARY KEY, hashes BLOB NOT NULL) WITHOUT ROWID"]
        )

    def _save_sops(self, db: Connection, saved: Sequence[Converted]) -> None:
        db.executemany(
            "INSERT INTO sops VALUES (?, ?) ON CONFLICT (study_uid) DO UPDATE SET hashes = excluded.hashes",
            [(i.study_uid, struct.pack(f"{len(i.sops)}q", *sorted(i.sops))) for i in saved],
        )

    def shared(self) -> Iterator[tuple[str, set[int]]]:
        (total,) = self._all("SELECT coalesce(sum(length(hashes)), 0) / 8 FROM sops")[0]
        ranges = 1 + total // AT_ONCE
        twice: set[int] = set()
        for number in range(ranges):
            seen: set[int] = set()
            for _, hashes in self._hashes():
                some = hashes if ranges == 1 else _of_range(hashes, number, ranges)
                if not seen.isdisjoint(some):
                    twice |= seen.intersection(some)
                seen.update(some)
        if twice:
            found = [(uid, twice.intersection(hashes)) for uid, hashes in self._hashes()]
            yield from ((uid, shared) for uid, shared in found if shared)

    def _hashes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Hashes of each study, sorted; by its UID."""
        with self._database.guard():
            for uid, data in self._database.stream("SELECT * FROM sops ORDER BY study_uid"):
                yield uid, struct.unpack(f"{len(data) // 8}q", data)


def _of_range(hashes: tuple[int, ...], number: int, ranges: int) -> tuple[int, ...]:
    """Those of one of so many ranges, which are alike in size since hashes are spread evenly."""
    ends = ((number + more) * 2**64 // ranges - 2**63 for more in (0, 1))
    return hashes[slice(*(bisect_left(hashes, end) for end in ends))]
