"""A destination while it is sent to: how many at a time, whether its circuit is open, what it refuses."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from converter.delivery.job import Policy
from converter.delivery.shared import Shared
from converter.delivery.talk import Client, Delivery
from converter.store.outbox import Outbox, Outlet

__all__ = ["STREAK", "STUDYWISE", "Target"]

logger = logging.getLogger("converter.delivery")
STREAK = 10
"""So many different studies refused in a row for the same reason are no fault of theirs."""
PACK = 4
TRIES = 3
"""So many failed in a row are told: one may be the fault of its study, or of a moment."""
QUIET = 60.0
"""Seconds before such a row is told again: a server that fails every other time fills no log."""
AWAY = {
    "connect": "nobody answers; look whether the server is up and the address right",
    "login": "the token endpoint does not answer; look whether it is up and token_url right",
    "tls": "no TLS connection comes about; look at its certificate, and at `ca` of the destination",
}
STUDYWISE = frozenset({"refused", "patient-missing"})
"""Reasons that count towards a streak: the others are about one study by their nature."""


@dataclass(slots=True)
class Target:
    """A destination with everything that is needed to speak to it."""

    name: str
    client: Client
    policy: Policy = field(default_factory=Policy)
    limit: int = 0
    """Studies at the same time; falls when the server asks for less."""
    most: int = 0
    flying: int = 0
    calm: int = 0
    """Studies delivered since the limit changed."""
    outlet: Outlet = field(default_factory=lambda: Outlet(""))
    streak: list[str] = field(default_factory=list)
    """Studies that were refused in a row for the same reason."""
    fingerprint: str = ""
    same: str = ""
    """The last refusal, for people."""
    failures: int = 0
    """How often in a row the server could not be reached at all."""
    down_until: float = 0.0
    outbox: Outbox | None = None
    shared: Shared = field(default_factory=Shared)
    aloud: bool = False
    """Whether it is logged that nothing goes there, and that it goes again: by a daemon. A command says it at its end."""
    said: str = ""
    """What was logged and is not over."""
    failed: int = 0
    """Attempts in a row that the server answered with a failure of its own, or not in time."""
    quiet_until: float = float("-inf")

    def begin(self, outbox: Outbox, workers: int) -> None:
        """Take up what is remembered of the destination."""
        self.outbox = outbox
        self.flying = 0
        self.limit = self.most = self.limit or workers
        # whoever starts a sender has looked at what was wrong: one probe at once
        self.outlet = outbox.outlet(self.name)._replace(probe_at=0.0)

    def room(self, now: float) -> int:
        """How many more studies may be sent now."""
        if self.not_before > now:
            return 0
        if self.failures:
            return int(not self.flying)  # one study finds out whether it is there again
        if self.outlet.circuit:
            return int(self.outlet.probe_at <= now and not self.flying)
        room = self.limit * self.pack - self.flying
        # a few at a time, so that they share a transaction
        return room if room >= min(PACK, self.limit) else 0

    @property
    def pack(self) -> int:
        """Studies that share one search; each for itself while the server asks for less."""
        calm = self.limit >= self.most and not self.outlet.circuit and not self.failures
        return PACK if calm else 1

    @property
    def not_before(self) -> float:
        """Moment before which nothing is sent."""
        return max(self.outlet.paused_until, self.down_until)

    def unreachable(self, now: float, wait: Callable[[int], float], failure: str = "") -> None:
        """Nothing answers there: all studies wait together, not each for itself."""
        if now >= self.down_until:  # those that were on their way together are one failure
            self.failures += 1
            self.down_until = now + wait(self.failures)
            if not self.outlet.circuit:
                self._say("away", AWAY.get(failure, failure), self.down_until)

    def fails(self, why: str, then: float) -> None:
        """It answers, and takes nothing now: each study waits for itself."""
        self.failed += 1
        if self.failed >= TRIES and not self.said and time.monotonic() >= self.quiet_until:
            self.quiet_until = time.monotonic() + QUIET
            self._say("failing", f"{why}, {TRIES} tries in a row", then)

    def shift(self, by: float) -> None:
        """Wait as long as before: the machine's clock was set back, which the store knows already."""
        self.down_until += by
        held = self.outlet
        self.outlet = held._replace(
            probe_at=held.probe_at + by, paused_until=held.paused_until + by
        )

    def remember(self, **changes: Any) -> None:
        """Note what was learnt, in the store too."""
        self.outlet = self.outlet._replace(name=self.name, **changes)
        if self.outbox is not None:
            self.outbox.remember(self.outlet)

    def delivered(self) -> None:
        """A study was taken: the server works, and takes a little more than before."""
        self.close()
        self.calm += 1
        if self.calm >= 4 * self.limit and self.limit < self.most:
            self.limit, self.calm = self.limit + 1, 0

    def slower(self, until: float) -> None:
        """The server asks for less, or for nothing until a moment."""
        self.limit, self.calm = max(1, self.limit // 2), 0
        if until > self.outlet.paused_until:
            self.remember(paused_until=until)

    def open(self, why: str, probe_at: float) -> None:
        """Open the circuit: one study is tried at that moment, nothing before."""
        self.remember(circuit=why, probe_at=probe_at)
        self._say("circuit", why, probe_at)

    def close(self) -> None:
        """Close it: a study was taken, or refused for another reason."""
        self.streak, self.fingerprint, self.failed = [], "", 0
        if self.outlet.circuit:
            self.remember(circuit="", probe_at=0.0)
        if self.said:
            logger.warning("%s: studies are delivered again", self.name)
            self.said = ""

    def _say(self, kind: str, why: str, then: float) -> None:
        if not self.aloud or kind == self.said:
            return
        self.said = kind
        again = "at the next start"
        if then < float("inf"):
            again = time.strftime("at %H:%M:%SZ", time.gmtime(then))
        logger.warning(
            "%s: nothing is delivered: %s. All is kept; the next try is %s", self.name, why, again
        )

    def refused(self, study_uid: str, delivery: Delivery, probe_at: float) -> bool:
        """Count a refusal; tell whether it goes on with a streak that opened the circuit."""
        refusal = delivery.refusal
        if delivery.reason not in STUDYWISE or refusal is None:
            return False
        mark, self.same = refusal.fingerprint, str(msgspec.structs.replace(refusal, names=()))
        if mark != self.fingerprint:
            self.close()
            self.fingerprint = mark
        if study_uid not in self.streak:
            self.streak.append(study_uid)
        if self.outlet.circuit:
            self.open(self.outlet.circuit, probe_at)
            return True
        return False

    @property
    def suspicious(self) -> bool:
        """Whether a streak of refusals is long enough to stop."""
        return len(self.streak) >= STREAK and not self.outlet.circuit
