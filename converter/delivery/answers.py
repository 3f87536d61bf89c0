"""The one table of answers: what a FHIR server said, and what is done about it.

Pure: no clock, no network, no chance but what is passed in. The rules that decide stand in `TABLE`, in
order; the first that fits an answer wins. Statuses are those of FHIR R4 ``http.html`` and RFC 9110.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Literal

__all__ = [
    "TABLE",
    "Action",
    "Answer",
    "Asked",
    "Rule",
    "backoff",
    "decide",
    "retry_after",
]

Json = dict[str, Any]

Asked = Literal["read", "search", "put", "update", "create", "metadata"]
"""What was asked: ``put`` creates at an id of ours, ``update`` has an ``If-Match``, ``create`` is a POST."""

Action = Literal[
    "done",  # it stands
    "absent",  # nothing stands there
    "gone",  # somebody deleted it
    "again",  # later: the server may take it then
    "reread",  # another writer was faster: read, unite, write
    "several",  # more than one match: a person must look
    "renew",  # the token is refused: one new one
    "circuit",  # nothing would work now: keep everything, probe now and then
    "server-ids",  # the server gives ids itself
    "missing",  # send first what it refers to
    "too-large",
    "refused",  # this one, for good: dead letter
]

Failure = Literal["", "connect", "login", "timeout", "tls", "broken", "redirect", "token"]
"""Why there is no answer at all."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back of one request. Its body may hold a patient's data: it is never printed."""

    status: int = 0
    """0: none came; ``failure`` says why."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Names in lower case."""
    body: Json | None = field(default=None, repr=False)
    """JSON object; ``None`` where there is none."""
    empty: bool = True
    """Whether the body had no bytes."""
    failure: Failure = ""

    @property
    def fhir(self) -> bool:
        """Whether the body is a FHIR resource."""
        return self.body is not None and isinstance(self.body.get("resourceType"), str)

    @property
    def foreign(self) -> bool:
        """Whether something answered that is no FHIR server, such as the page of a proxy."""
        return not self.empty and not self.fhir

    @property
    def outcome(self) -> bool:
        """Whether the server explains itself."""
        return (
            self.fhir and self.body is not None and self.body["resourceType"] == "OperationOutcome"
        )

    @property
    def text(self) -> str:
        """Words of an OperationOutcome, in lower case: to recognise what it means, never to show."""
        issues = (self.body or {}).get("issue") if self.outcome else None
        words: list[str] = []
        for issue in issues if isinstance(issues, list) else ():
            if isinstance(issue, dict):
                details = issue.get("details")
                said = details if isinstance(details, dict) else {}
                codings = said.get("coding")
                words += [str(issue.get("code", "")), str(issue.get("diagnostics", ""))]
                words += [str(said.get("text", ""))]
                words += [
                    f"{c.get('code', '')} {c.get('display', '')}"
                    for c in (codings if isinstance(codings, list) else ())
                    if isinstance(c, dict)
                ]
        return " ".join(words).lower()

    @property
    def of_companion(self) -> bool:
        """Whether it misses a resource that a study names beside its Patient."""
        return bool(_COMPANION.search(self.text))


_CLIENT_IDS = re.compile(
    r"client[- ](assigned|supplied|defined|provided|specified|generated)"
    r"|\bids?\b[^.]{0,60}(must not|may not|cannot|can not|not (be )?(allowed|supported|permitted|accepted))"
    r"|(must|can|may) ?not[^.]{0,40}\b(create|supply|specify)\b[^.]{0,60}\bid\b"
    r"|update ?-?(as|to)?-? ?create|create[^.]{0,30}(via|with|by|using) (put|update)"
    r"|(put|update) (can|must|may) ?not[^.]{0,30}create"
)
_MISSING = re.compile(
    r"patient\S*[^.]{0,80}(not found|not exist|unknown|does ?n.t exist|missing|unresolv|could not be (found|resolved))"
    r"|(not found|not exist|unknown|missing|unresolv|invalid|non-existent|no such|could not (find|resolve))[^.]{0,80}patient"
    r"|referenc\w*[^.]{0,60}(not found|not exist|does ?n.t exist|unresolv|could not)"
    r"|referential integrity|reference_not_found"
)
_COMPANION = re.compile(
    r"\b(encounter|servicerequest|practitioner|location|organization|device|endpoint)/[a-z0-9\-.]+"
    r"[^.]{0,80}(not found|not exist|unknown|does ?n.t exist|missing|unresolv|could not be (found|resolved))"
)
_SEVERAL = re.compile(
    r"multiple|several|more than one|ambiguous|not selective|[2-9] (matches|resources)"
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: which answers, to what, mean what."""

    fits: Callable[[Answer, Asked], bool]
    action: Action
    says: str


def _status(*codes: int) -> Callable[[Answer, Asked], bool]:
    return lambda answer, _: answer.status in codes


TABLE: tuple[Rule, ...] = (
    Rule(lambda a, _: a.failure == "redirect", "circuit", "a redirect, which is not followed"),
    Rule(lambda a, _: a.failure == "token", "circuit", "no token is given"),
    Rule(lambda a, _: a.status == 0, "again", "no answer"),
    Rule(
        lambda a, _: a.status in {408, 425, 429} or a.status >= 500,
        "again",
        "busy or broken for now",
    ),
    Rule(_status(401), "renew", "the credentials are not taken"),
    Rule(_status(403), "circuit", "not allowed"),
    # often said by a proxy in front, as a page
    Rule(_status(413), "too-large", "larger than the server takes"),
    Rule(lambda a, _: a.foreign, "circuit", "an answer that is no FHIR"),
    Rule(
        lambda a, asked: 200 <= a.status < 300 and (a.fhir or asked in {"put", "update", "create"}),
        "done",
        "it stands",
    ),
    Rule(_status(410), "gone", "deleted on the server"),
    Rule(lambda a, asked: a.status == 404 and asked == "read", "absent", "nothing stands there"),
    Rule(lambda a, asked: a.status == 404 and asked == "update", "reread", "it went meanwhile"),
    Rule(
        lambda a, asked: asked == "put" and a.status in {404, 405} and a.outcome,
        "server-ids",
        "ids of clients are refused",
    ),
    Rule(
        lambda a, asked: (
            asked == "put" and a.status in {400, 422} and bool(_CLIENT_IDS.search(a.text))
        ),
        "server-ids",
        "ids of clients are refused",
    ),
    Rule(_status(404, 405), "circuit", "the base URL knows no such thing"),
    Rule(
        lambda a, asked: a.status == 412 and (asked == "create" or bool(_SEVERAL.search(a.text))),
        "several",
        "more than one match",
    ),
    Rule(_status(409, 412), "reread", "another writer was faster"),
    Rule(
        lambda a, asked: (
            asked in {"put", "update", "create"}
            and a.status in {400, 422}
            and (bool(_MISSING.search(a.text)) or a.of_companion)
        ),
        "missing",
        "a reference to a resource that is not there",
    ),
    Rule(lambda a, _: 400 <= a.status < 500 and a.outcome, "refused", "refused, with a reason"),
    Rule(lambda _, __: True, "circuit", "an answer that is no FHIR"),
)
"""Rules in order. The last one fits everything."""


def decide(answer: Answer, asked: Asked) -> Action:
    """What to do about an answer.

    Parameters
    ----------
    answer : Answer
    asked : str
        What the request was.
    """
    return next(rule.action for rule in TABLE if rule.fits(answer, asked))


def retry_after(headers: Mapping[str, str], now: float) -> float:
    """Seconds that a server asks to be left alone (RFC 9110 section 10.2.3); 0 where it asks nothing.

    Parameters
    ----------
    headers : mapping
        Names in lower case. ``x-ms-retry-after-ms`` is read as well.
    now : float
        Seconds since 1970, for the form that names a moment.
    """
    try:
        asked = float(headers.get("x-ms-retry-after-ms", "").strip() or 0) / 1000
    except ValueError:
        asked = 0.0
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        asked = max(asked, float(value[:9]))
    elif value:
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return max(asked, 0.0)
        # a date without a zone is in GMT, as all HTTP dates are
        asked = max(
            asked, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now
        )
    return max(asked, 0.0)


def backoff(attempts: int, chance: float, *, base: float = 1.0, cap: float = 300.0) -> float:
    """Seconds until the next attempt: exponential with full jitter.

    Parameters
    ----------
    attempts : int
        Attempts that failed so far, from 1 on.
    chance : float
        From [0, 1).
    base, cap : float
    """
    return chance * min(cap, base * 2.0 ** min(attempts - 1, 40))
