"""Several hosts on one PostgreSQL server: which studies still arrive somewhere, and who publishes which.

All times are those of the database's clock. A host that dies leaves rows that run out.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable

from converter.listener.ledger import Ledger

__all__ = ["CLAIM", "Hosts"]

ARRIVING = 15.0
"""Seconds for which a host's word that a study still arrives holds."""
CLAIM = 30.0
"""Seconds for which a study is one host's to publish, unless it says so again."""
BEAT = 2.0
FORGOTTEN = 3600.0


class Hosts:
    """What one daemon tells the others, and takes for itself.

    Parameters
    ----------
    quiet, cap : float
        As of `converter.core.settle.Settler`.
    """

    def __init__(self, quiet: float, cap: float) -> None:
        self.name = secrets.token_hex(8)
        """Of this daemon, for as long as it runs."""
        self._quiet = quiet
        self._cap = cap
        self._told: set[str] = set()
        self._next_beat = 0.0

    def beat(self, ledger: Ledger, carried: Iterable[str]) -> None:
        """Say what arrives here, and that what is being published here is in good hands."""
        arriving = set(carried)
        if time.monotonic() < self._next_beat and arriving == self._told:
            return
        self._next_beat = time.monotonic() + BEAT
        with ledger.database.transaction() as db:
            now = ledger.database.now()
            for study in sorted(arriving):
                db.execute(
                    "INSERT INTO received_arriving VALUES (?, ?, ?) "
                    "ON CONFLICT (host, study_uid) DO UPDATE SET until = excluded.until",
                    (self.name, study, now + ARRIVING),
                )
            for study in sorted(self._told - arriving):
                db.execute(
                    "DELETE FROM received_arriving WHERE host = ? AND study_uid = ?",
                    (self.name, study),
                )
            db.execute(
                "UPDATE received_claim SET until = ? WHERE host = ?", (now + CLAIM, self.name)
            )
        self._told = arriving

    def begin(self, ledger: Ledger) -> None:
        """Forget what hosts said that are long gone."""
        with ledger.database.transaction() as db:
            before = ledger.database.now() - FORGOTTEN
            db.execute("DELETE FROM received_arriving WHERE until < ?", (before,))

    def release(self, ledger: Ledger) -> None:
        """Leave what this host took, and did not publish, to whoever can."""
        with ledger.database.transaction() as db:
            db.execute("DELETE FROM received_claim WHERE host = ?", (self.name,))

    def claim(self, ledger: Ledger, most: int) -> dict[str, int]:
        """Take studies that are due for this host to publish; give their revisions."""
        with ledger.database.transaction() as db:
            now = ledger.database.now()
            due = db.execute(
                "SELECT s.study_uid, s.revision FROM received_study s WHERE (s.state = 'settled' OR "
                "(s.state = 'receiving' AND (s.first_change <= ? OR (s.last_change <= ? AND NOT EXISTS "
                "(SELECT 1 FROM received_arriving a WHERE a.study_uid = s.study_uid AND a.until > ?))))) "
                "AND NOT EXISTS (SELECT 1 FROM received_claim c WHERE c.study_uid = s.study_uid "
                "AND c.until > ? AND c.host <> ?) "
                "ORDER BY s.first_change, s.study_uid LIMIT ? FOR UPDATE OF s SKIP LOCKED",
                (now - self._cap, now - self._quiet, now, now, self.name, most),
            ).fetchall()
            taken = {}
            for study, revision in due:
                # The row says for sure: another host may have taken the study while we looked.
                ours = db.execute(
                    "INSERT INTO received_claim AS c VALUES (?, ?, ?) ON CONFLICT (study_uid) DO UPDATE "
                    "SET host = excluded.host, until = excluded.until WHERE c.until <= ? OR c.host = ? "
                    "RETURNING study_uid",
                    (study, self.name, now + CLAIM, now, self.name),
                ).fetchone()
                if ours is not None:
                    db.execute(
                        "UPDATE received_study SET state = 'settled' WHERE study_uid = ?", (study,)
                    )
                    taken[study] = int(revision)
        return taken
