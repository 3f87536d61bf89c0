"""The sender: leases rows of the outbox, renders and delivers them side by side, and notes how it ended.

One thread speaks to the store and decides; the others speak to the servers. Leases in the store let any
number of processes do the same on one state. What a process does not finish stays due.
"""

from __future__ import annotations

import logging
import queue
import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import msgspec

from converter.delivery.answers import backoff, decide, retry_after
from converter.delivery.clock import Clock
from converter.delivery.job import Job, search_together
from converter.delivery.redact import Refusal
from converter.delivery.study import deliver
from converter.delivery.talk import Delivery
from converter.delivery.tally import Tally, Timing
from converter.delivery.target import STUDYWISE, Target
from converter.errors import ConverterError
from converter.store.outbox import Outbox, Row, Settled

__all__ = ["Rendered", "Renderer", "Sender", "Tally", "Timing", "refusal_of"]

Json = dict[str, Any]

SAID = {
    "connect": "nobody answers",
    "login": "the token endpoint does not answer",
    "timeout": "no answer in time",
    "tls": "no TLS connection comes about",
    "broken": "the connection is cut off",
}
"""Why there is no answer, for people."""
HEARTBEAT = 0.5
UNMADE = 5.0
"""Seconds after which a study that has no conversion is looked at again."""

logger = logging.getLogger("converter.delivery")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Refusal).decode


class Rendered(NamedTuple):
    """A study as it is now."""

    resource: Json
    companions: Sequence[Json] = ()
    dropped: Sequence[str] = ()
    tombstones: Sequence[str] = ()
    """UIDs to take from what stands there."""
    withdrawn: bool = False
    """Nothing is listed any more: it is written only where something stands."""
    replaces: Sequence[Json] = ()
    """Subjects that we published before an operator said whose study it is."""


class Renderer(Protocol):
    """Makes the newest revision of a study."""

    def __call__(self, study_uid: str, destination: str) -> Rendered | None:
        """Render; ``None`` where it cannot be rendered now."""


class Sender:
    """Drains the outbox.

    Parameters
    ----------
    outbox : Outbox
    renderer : callable
    targets : sequence of Target
    workers : int
        Studies at the same time, of all destinations together.
    timing : Timing
    clock : Clock
    chance : callable
        From [0, 1), for the jitter.
    settled : callable
        Told of each attempt: (row, delivery).
    """

    def __init__(
        self,
        outbox: Outbox,
        renderer: Renderer,
        targets: Sequence[Target],
        *,
        workers: int = 8,
        timing: Timing | None = None,
        clock: Clock | None = None,
        chance: Callable[[], float] = random.random,
        settled: Callable[[Row, Delivery], None] = lambda _row, _delivery: None,
    ) -> None:
        self.outbox = outbox
        self.renderer = renderer
        self.targets = {target.name: target for target in targets}
        self.workers = workers
        self.timing = timing or Timing()
        self.clock = clock or Clock()
        self.chance = chance
        self.told = settled
        self.tally = Tally()
        self.keep_on = False
        """Wait for open circuits too: for a daemon. A command ends, and says what to look at."""
        self._box: queue.SimpleQueue[tuple[Row, Delivery | ConverterError]] = queue.SimpleQueue()
        self._flying: dict[str, Row] = {}
        self._renewed = 0.0
        self._over = False
        """Whether nothing new is to begin, for the threads that send."""
        if self.clock.scale == 1.0:
            outbox.mind(*self.clock.apart())
        for target in targets:
            target.begin(outbox, workers)

    def run(
        self,
        *,
        until: float = float("inf"),
        stop: Callable[[], bool] = lambda: False,
        give_up: Callable[[], bool] = lambda: False,
    ) -> Tally:
        """Send until nothing is due, or a moment has come, or it is asked to stop.

        Parameters
        ----------
        until : float
            On the clock of the sender.
        stop : callable
            Begin nothing new; what is on its way is waited for.
        give_up : callable
            Wait no longer: what is on its way may have gone through, and stays due. Nothing is sent after it.
        """
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="sender")
        patient = True
        try:
            while True:
                if by := self.clock.set_by():
                    until += self._set(by)
                now = self.clock.now()
                over = self._over = now >= until or stop()
                if self._flying and give_up():
                    logger.warning("deliveries given up, to be sent again: %d", len(self._flying))
                    patient = False
                    self.give_back()
                    break
                if not over:
                    self._fill(pool, now)
                if not self._flying:
                    moment = None if over else self._next(now)
                    if moment is None:
                        break
                    self.clock.get(self._box, min(moment - now, until - now, self._beat()))
                    continue
                self._collect()
        finally:
            pool.shutdown(wait=patient, cancel_futures=True)
        return self._finish()

    def _set(self, by: float) -> float:
        """The machine's clock was set; give by how much that moves moments on the clock of the sender."""
        logger.warning("the clock of this machine was set by %+.0f seconds", by)
        if not self.outbox.mind(*self.clock.apart()):
            self.clock.keep(by)
            return 0.0
        for target in self.targets.values():
            target.shift(min(by, 0.0))
        self.outbox.renew(self._flying.values(), self.clock.now() + self.timing.lease)
        self._renewed = self.clock.now()
        return by

    def _beat(self) -> float:
        return HEARTBEAT * self.clock.scale

    def _finish(self) -> Tally:
        now = self.clock.now()
        names = list(self.targets)
        self.tally.waiting = {
            name: count for name, (count, _) in self.outbox.waiting(names, now).items()
        }
        self.tally.circuits = {
            name: target.outlet.circuit
            for name, target in self.targets.items()
            if target.outlet.circuit
        }
        return self.tally

    def give_back(self) -> None:
        """Let what is still leased be tried at once: nobody knows what came of it."""
        now = self.clock.now()
        rows = list(self._flying.values())
        self.outbox.settle(
            [Settled(row, "due", now, now, uncertain=True, failed=False) for row in rows]
        )
        self._flying.clear()

    # out

    def _fill(self, pool: ThreadPoolExecutor, now: float) -> None:
        share = max(1, self.workers // len(self.targets)) if self.targets else 0
        for target in self.targets.values():
            room = min(target.room(now), share * target.pack)
            rows = self.outbox.claim(target.name, room, now, now + self.timing.lease)
            jobs = [job for row in rows if (job := self._job(target, row, now)) is not None]
            target.flying += len(jobs)
            for first in range(0, len(jobs), target.pack):
                pool.submit(self._work, target, jobs[first : first + target.pack])

    def _job(self, target: Target, row: Row, now: float) -> Job | None:
        rendered = self.renderer(row.study_uid, row.destination)
        if rendered is None:
            # another run converts it, as a rule, and is soon done
            later = now + min(UNMADE, self.timing.cap)
            self.outbox.settle([Settled(row, "due", now, later, failed=False)])
            return None
        keys = {f"{c['resourceType']}/{c['id']}" for c in rendered.companions}
        reference = str((rendered.resource.get("subject") or {}).get("reference", ""))
        self._flying[row.token] = row
        return Job(
            row,
            rendered.resource,
            list(rendered.companions),
            self.outbox.known(target.name, {*keys, reference} - {""}),
            target.outlet.server_ids,
            rendered.dropped,
            frozenset(rendered.tombstones),
            rendered.withdrawn,
            rendered.replaces,
        )

    def _work(self, target: Target, jobs: list[Job]) -> None:
        if len(jobs) > 1 and not self._over:
            search_together(target.client, jobs)
        for number, job in enumerate(jobs):
            if self._over or (number and (target.outlet.circuit or target.failures)):
                self._box.put(
                    (job.row, Delivery("back"))
                )  # it was seen meanwhile that nothing goes
            else:
                self._box.put((job.row, self._deliver(target, job)))

    @staticmethod
    def _deliver(target: Target, job: Job) -> Delivery | ConverterError:
        """Deliver one study: the boundary at which a fault of ours in it stays with it."""
        try:
            return deliver(target.client, target.policy, job, target.shared)
        except ConverterError as error:
            return error
        except Exception as error:  # noqa: BLE001
            where = _where(error)
            logger.error("the delivery of a study broke off: %s", where)  # noqa: TRY400  its words may hold a value
            said = Refusal(0, "delivery-failed", (), where)
            return Delivery("dead", "delivery-failed", said, uncertain=True)

    def _next(self, now: float) -> float | None:
        """When something may be sent again; ``None`` where nothing is due, or all circuits are open."""
        moments = []
        for name, (_, first) in self.outbox.waiting(list(self.targets), now).items():
            outlet = self.targets[name].outlet
            if self.keep_on and outlet.circuit:
                moments.append(max(first, outlet.probe_at))
            elif not outlet.circuit or outlet.probe_at <= now:
                moments.append(max(first, self.targets[name].not_before))
        return min(moments) if moments else None

    # back

    def _collect(self) -> None:
        """Take what came back, all of it in one transaction."""
        first = self.clock.get(self._box, self._beat())
        results = [first] if first is not None else []
        while not self._box.empty():
            results.append(self._box.get())
        now = self.clock.now()
        settled: list[Settled] = []
        for row, delivery in results:
            self.targets[row.destination].flying -= 1
            if isinstance(delivery, ConverterError):
                raise delivery
            settled.append(self._settle(row, delivery, now))
            self.told(row, delivery)
        if settled:
            self.outbox.settle(settled)
            for row, _ in results:
                del self._flying[row.token]
            self._learn(results)
            self._reopen(now)
        if self._flying and now - self._renewed > self.timing.lease / 4:
            self.outbox.renew(self._flying.values(), now + self.timing.lease)
            self._renewed = now

    def _learn(self, results: Iterable[tuple[Row, Delivery | ConverterError]]) -> None:
        learnt: dict[str, dict[str, str]] = {}
        for row, delivery in results:
            if isinstance(delivery, Delivery):
                learnt.setdefault(row.destination, {}).update(delivery.learnt)
        for name, references in learnt.items():
            self.outbox.learn(name, references)

    def _settle(self, row: Row, delivery: Delivery, now: float) -> Settled:
        if delivery.state == "back":
            return Settled(row, "due", now, now, uncertain=row.uncertain, failed=False)
        target = self.targets[row.destination]
        self.tally.attempts += 1
        if delivery.server_ids and not target.outlet.server_ids:
            target.remember(server_ids=True)
        if delivery.answer.failure in {"connect", "login", "tls"}:
            target.unreachable(now, self._wait, delivery.answer.failure)
        else:
            target.failures = 0
        refusal = delivery.refusal
        kept = _encode(refusal) if refusal else b""
        if delivery.state == "delivered":
            target.delivered()
            self.tally.delivered += 1
            self.tally.unchanged += not delivery.wrote
            return Settled(
                row, "delivered", now, 0.0, delivery.server_id, delivery.etag, delivery.digest,
                delivery.written,
            )  # fmt: skip
        if delivery.state in {"dead", "held"}:
            probe = now + self.timing.probe
            if delivery.state == "dead" and target.refused(row.study_uid, delivery, probe):
                return self._due(row, delivery, kept, now, now, failed=False)
            self.tally.reasons[delivery.reason] += 1
            return Settled(
                row, "dead" if delivery.state == "dead" else "held", now, 0.0, delivery.server_id,
                uncertain=delivery.uncertain, reason=delivery.reason, refusal=kept,
            )  # fmt: skip
        self.tally.last[target.name] = _said(delivery)
        if delivery.circuit:
            target.open(delivery.circuit, now + self.timing.probe)
            return self._due(row, delivery, kept, now, now, failed=False)
        asked = retry_after(delivery.answer.headers, now)
        if delivery.answer.status in {429, 503}:
            target.slower(now + asked if asked else 0.0)
        if target.outlet.circuit:  # no proof that it works again
            target.open(target.outlet.circuit, now + self.timing.probe)
        wait = max(self._wait(row.attempts + 1), asked)
        answer = delivery.answer
        if (answer.status or answer.failure) and decide(answer, "read") == "again":
            target.fails(_said(delivery), now + wait)
        return self._due(row, delivery, kept, now, now + wait)

    def _wait(self, attempts: int) -> float:
        return backoff(attempts, self.chance(), base=self.timing.base, cap=self.timing.cap)

    @staticmethod
    def _due(
        row: Row, delivery: Delivery, kept: bytes, now: float, then: float, *, failed: bool = True
    ) -> Settled:
        return Settled(
            row, "due", now, then, delivery.server_id, uncertain=delivery.uncertain,
            reason=delivery.reason, refusal=kept, failed=failed,
        )  # fmt: skip

    def _reopen(self, now: float) -> None:
        """Take a streak of refusals back, and stop sending: something is wrong with all of them."""
        for target in self.targets.values():
            if target.suspicious:
                number = len(target.streak)
                self.outbox.reopen(target.name, target.streak, now)
                for reason in STUDYWISE & self.tally.reasons.keys():
                    self.tally.reasons[reason] -= min(number, self.tally.reasons[reason])
                why = f"the same refusal of {number} studies in a row: {target.same}"
                target.open(why, now + self.timing.probe)


def _where(error: Exception) -> str:
    """Kind of an error and its place; its own words may hold a value of a patient's."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_qualname}, line {trace.tb_lineno}" if trace else "?"
    return f"{type(error).__name__} in {place}"


def _said(delivery: Delivery) -> str:
    answer = delivery.answer
    if not answer.failure and not answer.status:  # each attempt found it changed
        return "what is written does not last: somebody else writes the resource, too"
    return SAID.get(answer.failure, f"HTTP {answer.status}")


def refusal_of(data: bytes) -> Refusal | None:
    """Read what the outbox keeps of a refusal."""
    return _decode(data) if data else None
