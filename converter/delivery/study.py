"""The order of attempts for one study at one server (``docs/delivery.md``).

Whatever happens there is one ImagingStudy, and it never shrinks: what stands is found, read, united with
ours, checked and written with ``If-Match``. A create that met another writer reads what it overwrote from the
history. Conditional updates are never used: two of them at once make two resources on real servers.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from converter.core.issues import Issue
from converter.core.merge import SHARED, Mismatch, study_uid, unite
from converter.delivery.answers import Answer
from converter.delivery.companions import Companions
from converter.delivery.job import KIND, Job, uid_tokens
from converter.delivery.redact import Refusal
from converter.delivery.shared import Shared
from converter.delivery.talk import (
    Client,
    Delivery,
    EndError,
    Standing,
    Talk,
    created_id,
    etag,
    token,
)

if TYPE_CHECKING:
    from converter.delivery.job import Policy

__all__ = ["deliver", "digest"]

Json = dict[str, Any]

TRIES = 6
"""Once, and five times more after another writer."""
INSTANCES = "ImagingStudy.series.instance"
VOLATILE = ("versionId", "lastUpdated", "source")
"""What a server writes into ``meta`` by itself."""


def deliver(client: Client, policy: Policy, job: Job, shared: Shared | None = None) -> Delivery:
    """Deliver one study.

    Returns
    -------
    Delivery
        Every way in which it can end; nothing is raised for what a server does.
    """
    attempt = _Attempt(Talk(client), policy, job, shared)
    try:
        delivery = attempt.run()
    except EndError as end:
        delivery = end.delivery
    delivery.uncertain = attempt.uncertain and delivery.state != "delivered"
    delivery.server_ids = attempt.companions.server_ids
    delivery.learnt = attempt.companions.learnt
    delivery.findings = [*attempt.companions.findings, *attempt.findings]
    delivery.server_id = delivery.server_id or attempt.id
    return delivery


class _Attempt:
    def __init__(self, talk: Talk, policy: Policy, job: Job, shared: Shared | None) -> None:
        self.talk = talk
        self.policy = policy
        self.job = job
        self.id = job.row.server_id
        self.uid = study_uid(job.resource)
        self.uncertain = job.row.uncertain
        self.missing = False
        self.slim = False
        self.overwrote = False
        self.findings: list[Issue] = []
        self.ours = job.resource
        self.companions = Companions(
            talk,
            job.companions,
            job.known,
            server_ids=job.server_ids,
            finish=policy.finish,
            lookup=policy.patient_lookup,
            link_orders=policy.link_orders,
            shared=shared,
            replaces=job.replaces,
        )

    def run(self) -> Delivery:
        if not self.uid:  # to search for it would find any study
            self.talk.dead("delivery-failed", Answer())
        if not self.job.withdrawn:
            self.ours = self.companions.prepare(self.job.resource)
        for _ in range(TRIES):
            standing = self.find()
            if self.job.withdrawn:
                if standing is None:  # never published there, or deleted by others: as it should be
                    return self.delivered(self.ours, "", wrote=False)
                # what is taken back keeps its subject: it needs no Patient
                known = self.job.row.delivered > 0
                prepare = self.companions.refer if known else self.companions.prepare
                self.ours = prepare(self.job.resource)
            done = self.create() if standing is None else self.update(standing)
            if done is not None:
                return done
        return Delivery("due", "not-delivered", Refusal(409, "not-delivered", (), f"PUT {KIND}"))

    # what stands there

    def find(self) -> Standing | None:
        """What stands: by the id that is remembered, by identifier, by our own id."""
        if self.id:
            standing = self.standing(self.id)
            if standing is not None:
                return standing
            self.id = ""  # the server was set up anew: nothing that is remembered of it holds
            self.companions.forget()
            if not self.job.withdrawn:
                self.ours = self.companions.prepare(self.job.resource)
        hits = self.search()
        if len(hits) > 1:
            names = tuple(f"{KIND}/{id_}" for id_ in hits)
            self.talk.end("several", Answer(200, empty=False), f"GET {KIND}", names)
        if hits:
            standing = self.standing(hits[0])  # a search may lag behind, and has no ETag of its own
            if standing is not None:
                self.id = standing.id
            return standing
        if self.companions.server_ids:
            return None
        standing = self.standing(str(self.ours["id"]))
        if standing is not None:
            self.id = standing.id
        return standing

    def standing(self, id_: str) -> Standing | None:
        standing, action = self.talk.read(KIND, id_)
        if action == "gone" and not self.job.withdrawn:
            self.talk.dead("deleted-on-server", Answer(410), f"GET {KIND}", (f"{KIND}/{id_}",))
        return standing

    def search(self) -> list[str]:
        if self.job.hits is not None:
            hits, self.job.hits = self.job.hits, None
            return list(hits)
        found = self.talk.search(KIND, {"identifier": uid_tokens(self.uid)}) or []
        # a server that does not know the parameter may give everything that it has
        return sorted(
            {str(hit["id"]) for hit in found if hit.get("id") and study_uid(hit) == self.uid}
        )

    # writing

    def create(self) -> Delivery | None:
        self.ours = self.companions.confirm(self.job.resource) or self.ours
        body, _ = self.body(self.ours)
        if body is None:
            return self.too_large(None)
        if self.companions.server_ids:
            return self.create_there(body)
        id_ = str(self.ours["id"])
        if not self.bring():
            return None
        self.uncertain = True
        answer, action = self.talk.ask(
            "PUT",
            f"{KIND}/{id_}",
            "put",
            body=body,
            headers={"Prefer": "return=minimal"},
            allowed=frozenset({"reread", "server-ids", "too-large", "missing"}),
        )
        self.uncertain = False
        if action == "server-ids":
            self.companions.server_ids = True
            return None
        if action == "too-large":
            return self.too_large(None)
        if action == "missing":
            return self.reference_missing(answer)
        if action == "reread":
            return None
        self.id = id_
        version = etag(answer)
        if answer.status != 201 and version.strip('W/"') != "1":
            # another writer was faster: bring back what it had
            self.uncertain = self.overwrote = True
            return None
        return self.delivered(self.ours, version)

    def bring(self) -> bool:
        """Have the study's own Patient be the right one; else it is looked at again."""
        if self.companions.bring():
            return True
        self.ours = self.companions.prepare(self.job.resource)
        return False

    def create_there(self, body: bytes) -> Delivery | None:
        if not self.bring():
            return None
        search = quote(token("urn:dicom:uid", f"urn:oid:{self.uid}"), safe=":/.-_~|")
        answer, action = self.talk.ask(
            "POST",
            KIND,
            "create",
            body=_without_id(body),
            headers={"If-None-Exist": f"identifier={search}", "Prefer": "return=minimal"},
            allowed=frozenset({"reread", "several", "too-large", "missing"}),
        )
        if action == "too-large":
            return self.too_large(None)
        if action == "missing":
            return self.reference_missing(answer)
        if action == "several":
            self.talk.end("several", answer, f"POST {KIND}", tuple(f"{KIND}/{id_}" for id_ in self.search()))  # fmt: skip
        if action == "reread":
            return None
        self.id = created_id(answer, KIND)
        if answer.status == 201 and self.id:
            return self.delivered(self.ours, etag(answer))
        return None  # it stood there already: read, unite, write

    def update(self, standing: Standing) -> Delivery | None:
        row = self.job.row
        ours = self.ours
        held = self.history(standing) if self.uncertain else standing.resource
        same = self.said() == row.digest and standing.etag == row.etag and bool(standing.etag)
        if same and not self.uncertain:
            # nobody wrote since we did, and we have nothing new
            return self.delivered(standing.resource, standing.etag, wrote=False)
        written = {
            name
            for name, value in row.written.items()
            if digest(standing.resource.get(name)) == value
        }
        merged = unite(
            held,
            ours,
            self.policy.ownership,
            tombstones=self.job.tombstones,
            acquisition=self.policy.acquisition,
            written=written,
            our_profiles=self.policy.our_profiles,
            carries=self.companions.carries(ours.get("subject") or {}),
            replaces=self.job.replaces,
        )
        if isinstance(merged, Mismatch):
            self.talk.hold(merged.reason, (f"{KIND}/{standing.id}",))
        merged = {**merged, "id": standing.id, "meta": _ours_to_write(merged.get("meta", {}))}
        if not merged["meta"]:
            del merged["meta"]
        body, finished = self.body(merged)
        if body is None:
            return self.too_large(standing)
        if not self.bring():
            return None
        if _plain(finished) == _plain(standing.resource):
            return self.delivered(merged, standing.etag, wrote=self.overwrote)
        answer, action = self.talk.ask(
            "PUT",
            f"{KIND}/{standing.id}",
            "update",
            body=body,
            headers={
                "Prefer": "return=minimal",
                **({"If-Match": standing.etag} if standing.etag else {}),
            },
            allowed=frozenset({"reread", "too-large", "missing", "gone"}),
        )
        if action == "too-large":
            return self.too_large(standing)
        if action == "missing":
            return self.reference_missing(answer)
        if action in {"reread", "gone"}:
            return None
        return self.delivered(merged, etag(answer))

    def history(self, standing: Standing) -> Json:
        """All that ever stood there, for a create that may have overwritten another writer's."""
        held = standing.resource
        for version in self.talk.history(KIND, standing.id):
            if version.get("meta", {}).get("versionId") == held.get("meta", {}).get("versionId"):
                continue
            united = unite(
                version,
                held,
                acquisition=self.policy.acquisition,
                our_profiles=self.policy.our_profiles,
                carries=self.companions.carries(held.get("subject") or {}),
            )
            if isinstance(united, Mismatch):
                self.talk.hold(united.reason, (f"{KIND}/{standing.id}",))
            held = {**united, "meta": {**united.get("meta", {}), **_version(held)}}
        return held

    def body(self, resource: Json) -> tuple[bytes | None, Json]:
        """JSON of a resource, checked and stamped; none where it is larger than the server takes."""
        dropped = list(self.job.dropped)
        if self.slim:
            resource = _without_instances(resource)
            dropped.append(INSTANCES)
        finished = self.policy.finish(resource, self.companions.patient(resource), dropped)
        data = orjson.dumps(finished)
        if self.policy.max_body and len(data) > self.policy.max_body:
            return None, finished
        return data, finished

    # what can come between

    def too_large(self, standing: Standing | None) -> Delivery | None:
        """Write counts alone where no instance stands yet: a list is whole, or there is none."""
        listed = standing is not None and any(
            series.get("instance") for series in standing.resource.get("series") or []
        )
        if self.slim or listed:
            self.talk.dead("too-large-for-server", Answer(413), f"PUT {KIND}")
        self.slim = True
        self.findings.append(Issue("warning", "instances-not-listed", INSTANCES))
        return None

    def reference_missing(self, answer: Answer) -> Delivery | None:
        if self.missing:
            what = "refused" if answer.of_companion else "patient-missing"
            self.talk.dead(what, answer, f"PUT {KIND}")
        self.missing = True
        self.companions.forget()
        self.ours = self.companions.prepare(self.job.resource)
        return None

    def said(self) -> str:
        """Digest of what we have to say: our resource, and what is to go from there."""
        gone = {"gone": sorted(self.job.tombstones), "replace": self.policy.ownership == "replace"}
        more = {name: value for name, value in gone.items() if value}
        return digest({"ours": self.ours, **more}) if more else digest(self.ours)

    def delivered(self, merged: Json, version: str, *, wrote: bool = True) -> Delivery:
        written = {
            name: digest(merged[name])
            for name in (*SHARED, "status")
            if name in merged and merged[name] == self.ours.get(name)
        }
        for name, value in self.job.row.written.items():
            if name not in written and digest(merged.get(name)) == value:
                written[name] = value
        return Delivery(
            "delivered",
            server_id=self.id,
            etag=version,
            digest=self.said(),
            written=written,
            wrote=wrote,
        )


def digest(value: Any) -> str:
    """By what a JSON value is known again."""
    data = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def _plain(resource: Json) -> Json:
    """Without what a server writes by itself; profiles have no order."""
    meta = {name: value for name, value in resource.get("meta", {}).items() if name not in VOLATILE}
    if "profile" in meta:
        meta["profile"] = sorted(meta["profile"])
    plain = {name: value for name, value in resource.items() if name != "meta"}
    return {**plain, "meta": meta} if meta else plain


def _version(resource: Json) -> Json:
    meta = resource.get("meta", {})
    return {name: meta[name] for name in VOLATILE if name in meta}


def _ours_to_write(meta: Json) -> Json:
    """Leave out what the server gives: ids of versions, and the request that it notes as a source."""
    return {
        name: value
        for name, value in meta.items()
        if name not in VOLATILE or (name == "source" and not str(value).startswith("#"))
    }


def _without_id(body: bytes) -> bytes:
    held = orjson.loads(body)
    held.pop("id", None)
    return orjson.dumps(held)


def _without_instances(resource: Json) -> Json:
    series = [
        {name: value for name, value in item.items() if name != "instance"}
        for item in resource.get("series") or []
    ]
    return {**resource, "series": series}
