"""What the status page reads of the store: bounded queries, nothing written, an end to each after a moment."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import orjson

from converter.core.issues import Issue
from converter.errors import SinkError, StandingError
from converter.listener.desk import Desk, StudyRow
from converter.sinks.files import read_standing
from converter.store.address import ServerPlace
from converter.store.outbox import Letter
from converter.store.reads import decode_converted, decode_outcome

__all__ = ["STATES", "Listed", "WholeStudy", "Window"]

STATES = ("conflict", "held", "receiving", "settled", "published", "excluded")
PAGE = 50
"""Rows of one page."""
LARGEST = 2 << 20
"""Bytes of a resource that a page shows."""
SECONDS = 3.0
"""After which a query is ended."""


class Listed(NamedTuple):
    """A study in a list."""

    study_uid: str
    state: str
    reason: str
    revision: int
    published: int
    last_change: float
    instances: int


class WholeStudy(NamedTuple):
    """Everything that is known of one study."""

    row: StudyRow
    senders: list[tuple[str, int]]
    deliveries: list[Letter]
    issues: list[Issue]
    """Of the latest round of publishing."""
    resource: str
    """JSON; empty where there is none."""
    place: str
    """``folder``: as it stands in the output folder; ``store``: as it was converted; ``large``: not shown."""


class Window(Desk):
    """A look at the ledger, for one page: made for it and closed after it.

    Parameters
    ----------
    place : Path or ServerPlace
        The state.
    output : Path, optional
        Folder that resources are written to.
    """

    def __init__(self, place: Path | ServerPlace, output: Path | None = None) -> None:
        super().__init__(place, reading=SECONDS)
        self._output = output

    def listed(self, state: str = "", after: tuple[float, str] | None = None) -> list[Listed]:
        """Studies by their last change, the latest first; one more than a page where others follow.

        Each state has its own range of the index, so a page costs the same whatever the store holds.
        """
        found: list[Any] = []
        for one in [state] if state else STATES:
            found += self._state_listed(one, after)
        found.sort(key=lambda row: (row[5], row[0]), reverse=True)
        return [Listed._make((*row, self._instances(row[0]))) for row in found[: PAGE + 1]]

    def _state_listed(self, state: str, after: tuple[float, str] | None) -> Sequence[Any]:
        columns = "study_uid, state, reason, revision, published, last_change"
        order = "ORDER BY last_change DESC, study_uid DESC LIMIT ?"
        if after is None:
            return self.all(
                f"SELECT {columns} FROM received_study WHERE state = ? {order}",  # noqa: S608
                (state, PAGE + 1),
            )
        return self.all(
            f"SELECT {columns} FROM received_study WHERE state = ? "  # noqa: S608
            f"AND (last_change, study_uid) < (?, ?) {order}",
            (state, *after, PAGE + 1),
        )

    def _instances(self, study_uid: str) -> int:
        sql = "SELECT count(*) FROM received_instance WHERE study_uid = ?"
        return int(self.all(sql, (study_uid,))[0][0])

    def letters(self, after: tuple[float, str, str] | None = None) -> list[Letter]:
        """Dead letters and what a destination holds back, the oldest first; one more than a page where others follow."""
        found: list[Letter] = []
        order = "ORDER BY since, destination, study_uid LIMIT ?"
        for state in ("dead", "held"):
            if after is None:
                found += self._letters(f"WHERE state = ? {order}", (state, PAGE + 1))
            else:
                where = "WHERE state = ? AND (since, destination, study_uid) > (?, ?, ?)"
                found += self._letters(f"{where} {order}", (state, *after, PAGE + 1))
        found.sort(key=lambda letter: (letter.since, letter.destination, letter.study_uid))
        return found[: PAGE + 1]

    def _letters(self, where: str, given: tuple[Any, ...]) -> list[Letter]:
        rows = self.all(
            "SELECT study_uid, destination, state, reason, refusal, attempts, wanted, delivered, "  # noqa: S608
            f"server_id, since FROM outbox {where}",
            given,
        )
        return [Letter._make((*row[:4], row[4] or b"", *row[5:])) for row in rows]

    def whole(self, study_uid: str) -> WholeStudy | None:
        """One study with all that belongs to it; ``None`` where there is none."""
        row = self.study(study_uid)
        if row is None:
            return None
        outcomes = self.all("SELECT data FROM outcome WHERE study_uid = ?", (study_uid,))
        with self.database.guard():
            issues = [issue for (data,) in outcomes for issue in decode_outcome(data).issues]
        return WholeStudy(
            row,
            self.senders(study_uid),
            self._letters("WHERE study_uid = ? ORDER BY destination", (study_uid,)),
            issues,
            *self._resource(row),
        )

    def _resource(self, row: StudyRow) -> tuple[str, str]:
        """(JSON, where it is from)."""
        standing = self._standing(row.resource_id) if row.resource_id else None
        if standing is not None:
            return standing
        sql = "SELECT CASE WHEN length(data) <= ? THEN data END FROM converted WHERE study_uid = ?"
        rows = self.all(sql, (LARGEST, row.study_uid))
        if not rows:
            return "", ""
        if rows[0][0] is None:
            return "", "large"
        with self.database.guard():
            resource = decode_converted(rows[0][0]).resource
        return (_pretty(orjson.loads(resource)), "store") if resource else ("", "")

    def _standing(self, resource_id: str) -> tuple[str, str] | None:
        if self._output is None:
            return None
        with suppress(OSError, SinkError, StandingError):
            path = self._output / "ImagingStudy" / f"{resource_id}.json"
            if path.stat().st_size > LARGEST:
                return "", "large"
            held = read_standing(self._output, "ImagingStudy", resource_id)
            return (_pretty(held), "folder") if held is not None else None
        return None


def _pretty(resource: Any) -> str:
    return msgspec.json.format(orjson.dumps(resource), indent=2).decode()
