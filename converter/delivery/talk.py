"""Reads and searches at one server, and how an attempt to deliver a study ends."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn, Protocol

from converter.core.issues import Issue
from converter.delivery.answers import Action, Answer, Asked, decide
from converter.delivery.redact import Refusal, refusal

__all__ = ["Client", "Delivery", "EndError", "Standing", "Talk", "strip_base", "token", "why"]

Json = dict[str, Any]

REASONS: dict[Action, str] = {
    "refused": "refused",
    "several": "several-matches",
    "too-large": "too-large-for-server",
    "gone": "deleted-on-server",
    "missing": "refused",
    "server-ids": "refused",
    "absent": "refused",
}
"""What to do about an answer to the reason code of a dead letter."""
_REFERENCE = re.compile(r"(?:.*/)?([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[^/]*)?")
_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.~\-]{1,255}")
"""An id that stays where it is put in a path: what FHIR takes, and a little more that servers give."""


class Client(Protocol):
    """What is asked of `converter.delivery.client.FhirClient`."""

    base: str

    def request(
        self,
        method: str,
        path: str,
        asked: Asked,
        *,
        params: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request."""


@dataclass(slots=True)
class Delivery:
    """How an attempt to deliver one study ended."""

    state: str = "due"
    """``delivered``, ``due`` (again later), ``dead``, ``held``, or ``back`` (not tried)."""
    reason: str = ""
    refusal: Refusal | None = None
    circuit: str = ""
    """Why nothing can be sent there at all; empty: it can."""
    answer: Answer = field(default_factory=Answer)
    """The answer that ended it, for ``Retry-After``."""
    server_id: str = ""
    etag: str = ""
    digest: str = ""
    written: dict[str, str] = field(default_factory=dict)
    uncertain: bool = False
    wrote: bool = False
    server_ids: bool = False
    learnt: dict[str, str] = field(default_factory=dict)
    """``Type/id`` of ours to reference there; empty to forget one."""
    findings: list[Issue] = field(default_factory=list)


class EndError(Exception):
    """Ends an attempt; everything that is to be known of it is in ``delivery``."""

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        super().__init__(delivery.reason or delivery.state)


class Standing(NamedTuple):
    """A resource that stands at the server."""

    id: str
    resource: Json
    etag: str
    """Empty where the server has no versions."""


class Talk:
    """Requests of one attempt."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def ask(
        self,
        method: str,
        path: str,
        asked: Asked,
        *,
        allowed: frozenset[Action] = frozenset(),
        params: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[Answer, Action]:
        """Send a request; what is neither ``done`` nor allowed ends the attempt."""
        answer = self.client.request(
            method, path, asked, params=params, form=form, body=body, headers=headers
        )
        action = decide(answer, asked)
        if action != "done" and action not in allowed:
            self.end(action, answer, f"{method} {path.partition('/')[0].partition('?')[0]}")
        return answer, action

    def end(
        self, action: Action, answer: Answer, asked: str = "", names: tuple[str, ...] = ()
    ) -> NoReturn:
        """End the attempt as the table says."""
        if action in {"again", "reread"}:
            raise EndError(Delivery("due", "not-delivered", refusal(answer, "not-delivered", asked), answer=answer))  # fmt: skip
        if action in {"circuit", "renew"}:
            said = refusal(answer, "circuit-open", asked)
            raise EndError(Delivery("due", "circuit-open", said, why(answer, asked), answer))
        reason = REASONS.get(action, "refused")
        self.dead(reason, answer, asked, names)

    def dead(
        self, reason: str, answer: Answer, asked: str = "", names: tuple[str, ...] = ()
    ) -> NoReturn:
        """End it as a dead letter."""
        raise EndError(
            Delivery("dead", reason, refusal(answer, reason, asked, names), answer=answer)
        )

    def hold(self, reason: str, names: tuple[str, ...] = ()) -> NoReturn:
        """Hold the study back until a person put something right."""
        raise EndError(Delivery("held", reason, Refusal(0, reason, (), "", names)))

    def read(self, kind: str, id_: str) -> tuple[Standing | None, Action]:
        """Read a resource: (what stands, ``done``), or ``absent`` or ``gone``."""
        answer, action = self.ask(
            "GET", f"{kind}/{id_}", "read", allowed=frozenset({"absent", "gone"})
        )
        body = answer.body
        if action != "done":
            return None, action
        if body is None or body.get("resourceType") != kind:
            self.end("circuit", answer, f"GET {kind}")
        self._look(body, answer, kind)
        return Standing(str(body.get("id") or id_), body, etag(answer, body)), "done"

    def search(
        self,
        kind: str,
        params: Mapping[str, str],
        *,
        private: bool = False,
        allowed: frozenset[Action] = frozenset(),
    ) -> list[Json] | None:
        """Search; ``private`` keeps what is searched for out of URLs, and so out of access logs.

        Returns
        -------
        list of dict or None
            Resources of the kind, of at most three pages; ``None`` where the answer was an allowed one.
        """
        if private:
            answer = self.client.request("POST", f"{kind}/_search", "search", form=params)
            if answer.status not in {404, 405, 415, 501} or not (answer.outcome or answer.empty):
                action = decide(answer, "search")
                if action == "done":
                    return self._pages(kind, answer)
                if action not in allowed:
                    self.end(action, answer, f"POST {kind}/_search")
                return None
        answer, action = self.ask("GET", kind, "search", params=params, allowed=allowed)
        return self._pages(kind, answer) if action == "done" else None

    def _pages(self, kind: str, answer: Answer) -> list[Json]:
        found: list[Json] = []
        for _ in range(3):
            body = answer.body or {}
            entries = body.get("entry")
            for entry in entries if isinstance(entries, list) else ():
                resource = entry.get("resource") if isinstance(entry, dict) else None
                if isinstance(resource, dict) and resource.get("resourceType") == kind:
                    self._look(resource, answer, kind)
                    found.append(resource)
            links = body.get("link")
            following = next(
                (
                    str(link.get("url", ""))
                    for link in (links if isinstance(links, list) else ())
                    if isinstance(link, dict) and link.get("relation") == "next"
                ),
                "",
            )
            # a link to another host is not followed; behind a proxy a server may not know its name
            if not following.startswith(self.client.base + "/") and not following.startswith(
                self.client.base + "?"
            ):
                break
            path = following.removeprefix(self.client.base).removeprefix("/")
            answer, _ = self.ask("GET", path, "search")
        return found

    def _look(self, resource: Json, answer: Answer, kind: str) -> None:
        """End it where an id would lead to another place than a resource of this server."""
        if not _ID.fullmatch(str(resource.get("id") or "none")):
            self.dead("standing-unreadable", answer, f"GET {kind}")

    def history(self, kind: str, id_: str) -> list[Json]:
        """Versions of a resource, newest first; empty where the server keeps none or does not say."""
        answer = self.client.request(
            "GET", f"{kind}/{id_}/_history", "search", params={"_count": "50"}
        )
        action = decide(answer, "search")
        if action in {"again", "renew"}:
            self.end(action, answer, f"GET {kind}/_history")
        versions: list[Json] = []
        entries = (answer.body or {}).get("entry") if action == "done" else None
        for entry in entries if isinstance(entries, list) else ():
            resource = entry.get("resource") if isinstance(entry, dict) else None
            if not isinstance(resource, dict):
                break  # deleted: what was before is gone on purpose
            if resource.get("resourceType") == kind:
                versions.append(resource)
        return versions


def etag(answer: Answer, body: Json | None = None) -> str:
    """Version of a resource as ``If-Match`` takes it (R4 ``http.html#concurrency``)."""
    stated = answer.headers.get("etag", "")
    if stated:
        return stated
    meta = (body or {}).get("meta")
    version = meta.get("versionId") if isinstance(meta, dict) else None
    return f'W/"{version}"' if version else ""


def created_id(answer: Answer, kind: str) -> str:
    """Id that a server gave, from its ``Location`` or body; empty where it says none."""
    for name in ("location", "content-location"):
        match = _REFERENCE.fullmatch(answer.headers.get(name, ""))
        if match and match[1] == kind:
            return match[2]
    body = answer.body or {}
    made = str(body.get("id") or "") if body.get("resourceType") == kind else ""
    return made if _ID.fullmatch(made) else ""


def strip_base(reference: str, base: str) -> str:
    """``Type/id`` of a literal reference at this server; empty for anything else."""
    relative = reference.removeprefix(f"{base}/")
    match = _REFERENCE.fullmatch(relative)
    return f"{match[1]}/{match[2]}" if match and relative.count("/") in {1, 3} else ""


def token(system: str, value: str) -> str:
    """``system|value`` of a search (R4 ``search.html#token``), its special characters escaped."""
    return f"{_escaped(system)}|{_escaped(value)}"


def _escaped(text: str) -> str:
    return re.sub(r"([\\|,$])", r"\\\1", text)


def why(answer: Answer, asked: str) -> str:
    """Why a circuit opens, in words that say what to look at."""
    if answer.failure == "redirect":
        return f"HTTP {answer.status}: it redirects; give the base URL that it redirects to"
    if answer.failure == "token":
        return "the token endpoint gives no token for these credentials"
    if answer.status in {401, 403}:
        return f"HTTP {answer.status} to {asked}: look at the credentials and what they allow"
    if answer.foreign or answer.empty:
        return f"HTTP {answer.status} to {asked}: no FHIR; look at the base URL and at proxies"
    return f"HTTP {answer.status} to {asked}: look at the base URL"
