"""The outbox: one row per study and destination, without a body; what is sent is rendered when it is sent.

A row is due while ``delivered < wanted``. Whoever sends it holds a lease; to complete it is a compare-and-set
on the token of that lease, so that a sender which was too slow changes nothing. Times are seconds since 1970.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from converter.store.database import Database
from converter.store.rows import Letter, Outlet, Row, Settled, State

__all__ = ["Letter", "Outbox", "Outlet", "Row", "Settled", "State"]

PAGE = 200

_json = msgspec.json.Encoder().encode
_written = msgspec.json.Decoder(dict[str, str]).decode


class Outbox:
    """Rows of all destinations in one study store. One thread at a time; any number of processes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._skip = " FOR UPDATE SKIP LOCKED" if database.several else ""

    def now(self) -> float:
        """Seconds since 1970, by the clock of the database server where there is one."""
        return self._database.now() or time.time()

    # filling

    def seen(self, run: int) -> Iterator[str]:
        """Studies that have something of a run's inputs (kept state), by UID."""
        sql = (
            "SELECT DISTINCT study_uid FROM block WHERE study_uid > ? AND EXISTS (SELECT 1 FROM "  # noqa: S608
            "file_block JOIN file ON file.id = file_id WHERE block_id = block.id AND run = ?) "
            f"ORDER BY study_uid LIMIT {PAGE}"
        )
        last = ""
        while page := self._all(sql, (last, run)):
            for (uid,) in page:
                yield uid
            last = page[-1][0]

    def enqueue(self, destinations: Sequence[str], now: float, studies: Iterable[str]) -> None:
        """Want the studies delivered as they are now.

        What is held back (two patients in it, say) is frozen, until it is wanted when it no longer is.

        Parameters
        ----------
        destinations : sequence of str
        now : float
        studies : iterable of str
            Study UIDs; those that are not converted are left out.
        """
        with self._database.transaction() as db:
            wanted = sorted(studies)
            self._database.lock(wanted)
            for name in destinations:
                db.execute(
                    "INSERT INTO destination (name) VALUES (?) ON CONFLICT DO NOTHING", (name,)
                )
            for uid in wanted:
                for name in sorted(destinations):
                    db.execute(
                        "INSERT INTO outbox AS o (destination, study_uid, wanted, state, next_attempt, since) "
                        "SELECT ?, study_uid, 1, 'due', ?, ? FROM converted WHERE study_uid = ? "
                        "AND state = 'converted' ON CONFLICT (destination, study_uid) DO UPDATE SET "
                        "wanted = o.wanted + 1, state = 'due', reason = '', "
                        "attempts = CASE o.state WHEN 'due' THEN o.attempts ELSE 0 END, "
                        "next_attempt = CASE o.state WHEN 'due' THEN o.next_attempt ELSE ? END, "
                        "since = CASE o.state WHEN 'due' THEN o.since ELSE ? END",
                        (name, now, now, uid, now, now),
                    )
            db.execute(
                "UPDATE outbox SET state = 'frozen', lease = NULL, since = ?, reason = coalesce((SELECT "  # noqa: S608
                "reason FROM held h WHERE h.study_uid = outbox.study_uid), 'patient-conflict') "
                f"WHERE state <> 'frozen' AND {_FROZEN}",
                (now,),
            )

    # sending

    def claim(self, destination: str, limit: int, now: float, until: float) -> list[Row]:
        """Take the lease of rows that are due, the longest due first."""
        if limit <= 0:
            return []
        with self._database.transaction() as db:
            found = db.execute(
                "SELECT study_uid, wanted, delivered, attempts, server_id, etag, digest, written, "  # noqa: S608
                "uncertain, lease FROM outbox WHERE destination = ? AND state = 'due' "
                f"AND next_attempt <= ? AND (lease IS NULL OR lease_until <= ?) AND {_READY} "
                f"ORDER BY next_attempt, study_uid LIMIT ?{self._skip}",
                (destination, now, now, limit),
            ).fetchall()
            rows = []
            for (
                uid,
                wanted,
                delivered,
                attempts,
                id_,
                etag,
                digest,
                written,
                uncertain,
                old,
            ) in found:
                token = secrets.token_hex(8)
                db.execute(
                    "UPDATE outbox SET lease = ?, lease_until = ? WHERE destination = ? AND study_uid = ?",
                    (token, until, destination, uid),
                )
                # a lease that ran out is a sender that died: nobody knows how far it came
                unsure = bool(uncertain) or old is not None
                held = _written(written) if written else {}
                rows.append(
                    Row(uid, destination, wanted, delivered, attempts, id_, etag, digest, held, unsure, token)
                )  # fmt: skip
        return rows

    def reclaim(self) -> None:
        """Take back all leases: whoever held one is dead, for this process has the state alone.

        On a server nobody has it alone: there a lease ends with its time.
        """
        if self._database.several:
            return
        with self._database.transaction() as db:
            db.execute("UPDATE outbox SET lease = NULL, uncertain = 1 WHERE lease IS NOT NULL")

    def mind(self, clock: str, apart: float) -> bool:
        """Let nothing wait longer than it had to, where somebody set the machine's clock back.

        Parameters
        ----------
        clock : str
            Name of the clock that nobody sets: another one at each start of the machine.
        apart : float
            Seconds by which the machine's clock is ahead of it.

        Returns
        -------
        bool
            ``False`` where the times are those of a database server: they are as they were.
        """
        if self._database.several:
            return False
        with self._database.transaction() as db:
            row = db.execute("SELECT value FROM meta WHERE key = 'clock'").fetchone()
            name, _, held = (row[0] if row else "").partition(" ")
            by = apart - float(held) if name == clock and held else 0.0
            if by < 0:
                db.execute("UPDATE outbox SET next_attempt = next_attempt + ?", (by,))
                db.execute(
                    "UPDATE destination SET probe_at = probe_at + ?, paused_until = paused_until + ?",
                    (by, by),
                )
            db.execute(
                "INSERT INTO meta (key, value) VALUES ('clock', ?) "
                "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (f"{clock} {apart!r}",),
            )
        return True

    def renew(self, rows: Iterable[Row], until: float) -> None:
        """Keep the leases of rows that are still on their way."""
        with self._database.transaction() as db:
            db.executemany(
                "UPDATE outbox SET lease_until = ? WHERE destination = ? AND study_uid = ? AND lease = ?",
                [
                    (until, row.destination, row.study_uid, row.token)
                    for row in sorted(rows, key=_place)
                ],
            )

    def settle(self, settled: Iterable[Settled]) -> int:
        """Write how attempts ended; give how many leases were lost meanwhile."""
        lost = 0
        with self._database.transaction() as db:
            for item in sorted(settled, key=lambda one: _place(one.row)):
                row = item.row
                where = (row.destination, row.study_uid, row.token)
                if item.state == "delivered":
                    cursor = db.execute(
                        "UPDATE outbox SET delivered = ?, state = CASE WHEN wanted > ? THEN 'due' ELSE "
                        "'delivered' END, lease = NULL, attempts = 0, next_attempt = ?, server_id = ?, "
                        "etag = ?, digest = ?, written = ?, uncertain = 0, reason = '', refusal = NULL, "
                        "since = ? WHERE destination = ? AND study_uid = ? AND lease = ?",
                        (row.wanted, row.wanted, item.now, item.server_id, item.etag, item.digest,
                         _json(item.written), item.now, *where),
                    )  # fmt: skip
                elif item.state == "due":
                    cursor = db.execute(
                        "UPDATE outbox SET lease = NULL, attempts = attempts + ?, next_attempt = ?, "
                        "server_id = ?, uncertain = ?, reason = ?, refusal = ? "
                        "WHERE destination = ? AND study_uid = ? AND lease = ?",
                        (int(item.failed), item.next_attempt, item.server_id or row.server_id,
                         int(item.uncertain), item.reason, item.refusal or None, *where),
                    )  # fmt: skip
                else:
                    # while it was on its way a newer revision came: that one has its own chance
                    cursor = db.execute(
                        "UPDATE outbox SET lease = NULL, attempts = attempts + 1, state = CASE WHEN "
                        "wanted > ? THEN 'due' ELSE ? END, next_attempt = ?, server_id = ?, uncertain = ?, "
                        "reason = ?, refusal = ?, since = ? "
                        "WHERE destination = ? AND study_uid = ? AND lease = ?",
                        (row.wanted, item.state, item.now, item.server_id or row.server_id,
                         int(item.uncertain), item.reason, item.refusal or None, item.now, *where),
                    )  # fmt: skip
                lost += cursor.rowcount == 0
        return lost

    def reopen(self, destination: str, studies: Iterable[str], now: float) -> None:
        """Take dead letters back: what refused them was not about them."""
        with self._database.transaction() as db:
            db.executemany(
                "UPDATE outbox SET state = 'due', next_attempt = ?, since = ? "
                "WHERE destination = ? AND study_uid = ? AND state = 'dead'",
                [(now, now, destination, uid) for uid in studies],
            )

    def waiting(self, destinations: Sequence[str], now: float) -> dict[str, tuple[int, float]]:
        """How many rows of each destination are due, now or later, and when the first may be tried."""
        found = {}
        for name in destinations:
            count, first = self._one(
                "SELECT count(*), min(CASE WHEN lease IS NULL OR lease_until < next_attempt "  # noqa: S608
                "THEN next_attempt ELSE lease_until END) FROM outbox "
                f"WHERE destination = ? AND state = 'due' AND {_READY}",
                (name,),
            )
            if count:
                found[name] = (int(count), max(float(first), now))
        return found

    def unconverted(self, destinations: Sequence[str]) -> int:
        """How many rows are due whose study a run that was interrupted left without its conversion."""
        sql = (
            f"SELECT count(*) FROM outbox WHERE destination = ? AND state = 'due' AND NOT {_READY}"  # noqa: S608
        )
        return sum(int(self._one(sql, (name,))[0]) for name in destinations)

    # destinations

    def destinations(self) -> list[str]:
        """Names that have rows."""
        return [row[0] for row in self._all("SELECT DISTINCT destination FROM outbox ORDER BY 1")]

    def outlet(self, name: str) -> Outlet:
        """What is remembered of a destination."""
        row = self._one(
            "SELECT name, server_ids, circuit, probe_at, paused_until FROM destination WHERE name = ?",
            (name,),
        )
        return Outlet(row[0], bool(row[1]), *row[2:]) if row else Outlet(name)

    def remember(self, outlet: Outlet) -> None:
        """Remember what was learnt of a destination."""
        with self._database.transaction() as db:
            db.execute(
                "INSERT INTO destination (name, server_ids, circuit, probe_at, paused_until) "
                "VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET server_ids = excluded.server_ids, "
                "circuit = excluded.circuit, probe_at = excluded.probe_at, "
                "paused_until = excluded.paused_until",
                (outlet.name, int(outlet.server_ids), *outlet[2:]),
            )

    def configure(self, name: str, settings: str) -> None:
        """Keep what the latest run was told about a destination, so that `send` does as it did."""
        with self._database.transaction() as db:
            db.execute(
                "INSERT INTO destination (name, settings) VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET settings = excluded.settings",
                (name, settings),
            )

    def settings(self, name: str) -> str:
        """What `configure` kept; empty where nothing was."""
        row = self._one("SELECT settings FROM destination WHERE name = ?", (name,))
        return str(row[0]) if row else ""

    def known(self, destination: str, keys: Iterable[str]) -> dict[str, str]:
        """``Type/id`` of ours to reference at the destination, of companions that stand there."""
        found = {}
        for key in keys:
            row = self._one(
                "SELECT reference FROM delivered_companion WHERE destination = ? AND key = ?",
                (destination, key),
            )
            if row:
                found[key] = row[0]
        return found

    def learn(self, destination: str, references: Mapping[str, str]) -> None:
        """Note companions that stand at a destination; an empty reference forgets one."""
        if not references:
            return
        with self._database.transaction() as db:
            for key, reference in sorted(references.items()):
                if reference:
                    db.execute(
                        "INSERT INTO delivered_companion VALUES (?, ?, ?) "
                        "ON CONFLICT (destination, key) DO UPDATE SET reference = excluded.reference",
                        (destination, key, reference),
                    )
                else:
                    db.execute(
                        "DELETE FROM delivered_companion WHERE destination = ? AND key = ?",
                        (destination, key),
                    )

    # people

    def counts(self) -> list[tuple[str, State, int]]:
        """How many rows there are by destination and state."""
        return self._all(
            "SELECT destination, state, count(*) FROM outbox GROUP BY 1, 2 ORDER BY 1, 2"
        )

    def states(self, destinations: Sequence[str]) -> Iterator[tuple[str, str, State, str]]:
        """(study, destination, state, reason) of all rows of some destinations."""
        for name in destinations:
            last = ""
            sql = (
                "SELECT study_uid, destination, state, reason FROM outbox WHERE destination = ? "  # noqa: S608
                f"AND study_uid > ? ORDER BY study_uid LIMIT {PAGE}"
            )
            while page := self._all(sql, (name, last)):
                yield from page
                last = page[-1][0]

    def letters(self, destination: str = "", study_uid: str = "") -> list[Letter]:
        """What waits for a person: refused by a server, or held back at it; the oldest first."""
        sql = (
            "SELECT study_uid, destination, state, reason, refusal, attempts, wanted, "
            "delivered, server_id, since FROM outbox WHERE state IN ('dead', 'held') "
            "AND (? = '' OR destination = ?) AND (? = '' OR study_uid = ?) ORDER BY since, study_uid"
        )
        given = (destination, destination, study_uid, study_uid)
        return [Letter._make((*row[:4], row[4] or b"", *row[5:])) for row in self._all(sql, given)]

    def replay(self, letters: Iterable[Letter], now: float) -> int:
        """Let letters be sent again, rendered anew."""
        return self._change(
            "UPDATE outbox SET state = 'due', attempts = 0, next_attempt = ?, since = ? ",
            letters,
            (now, now),
        )

    def drop(self, letters: Iterable[Letter]) -> int:
        """Give letters up: the study stays in the store, and counts as not wanted there."""
        return self._change("DELETE FROM outbox ", letters, ())

    def abandon(self, destination: str) -> int:
        """Give up all that a destination does not have; who has one on its way loses its lease."""
        sql = "DELETE FROM outbox WHERE destination = ? AND state <> 'delivered'"
        with self._database.transaction() as db:
            return int(db.execute(sql, (destination,)).rowcount)

    def _change(self, sql: str, letters: Iterable[Letter], given: tuple[Any, ...]) -> int:
        changed = 0
        with self._database.transaction() as db:
            for letter in letters:
                changed += db.execute(
                    sql + "WHERE destination = ? AND study_uid = ? AND state IN ('dead', 'held')",
                    (*given, letter.destination, letter.study_uid),
                ).rowcount
        return changed

    def _all(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        return self._database.rows(sql, parameters)

    def _one(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        with self._database.guard():
            return self._database.connection.execute(sql, parameters).fetchone()


def _place(row: Row) -> tuple[str, str]:
    """All writers take rows in one order, so that none waits for another in a circle."""
    return row.study_uid, row.destination


_READY = "EXISTS (SELECT 1 FROM converted c WHERE c.study_uid = outbox.study_uid AND c.state = 'converted')"
"""A run that was interrupted leaves studies that wait for their conversion."""
_FROZEN = (
    "(EXISTS (SELECT 1 FROM held h WHERE h.study_uid = outbox.study_uid) "
    "OR EXISTS (SELECT 1 FROM converted c WHERE c.study_uid = outbox.study_uid AND c.state <> 'converted'))"
)
