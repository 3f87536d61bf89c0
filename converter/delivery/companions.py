"""What goes before a study: its Patient and the other resources that it refers to, each made once.

They are created where they are absent and never updated, but for the Patient that belongs to one study, where
somebody said that the study is another patient's. A link is made only where an identifier with a
system says so: never by a bare number, a name, or one hit among several.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import orjson

from converter.core.bundle import key, references, relink
from converter.core.companions import reduce
from converter.core.issues import Issue
from converter.core.subject import carries_identifier
from converter.delivery.answers import Action, Answer
from converter.delivery.scoped import OwnPatient, searchable
from converter.delivery.shared import Shared
from converter.delivery.talk import Talk, created_id, strip_base, token

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Companions"]

Json = dict[str, Any]

TRIES = 5


class _AnewError(Exception):
    """A companion refers to one that is remembered and does not stand there any more."""


class Companions:
    """Companions of one study at one server.

    Parameters
    ----------
    talk : Talk
    resources : iterable of dict
        Companions as we make them, the Patient among them.
    known : mapping
        ``Type/id`` of ours to reference there, of those that stand there.
    server_ids : bool
        Whether the server gives ids itself.
    finish : callable
        Checks a resource and stamps the profiles that it may claim.
    lookup : {"off", "create", "hold"}
    link_orders : bool
    shared : Shared, optional
        What other threads know of the same server.
    replaces : sequence of dict
        Subjects of ours that may be replaced: somebody said whose study it is.
    """

    def __init__(
        self,
        talk: Talk,
        resources: Iterable[Json],
        known: Mapping[str, str],
        *,
        server_ids: bool,
        finish: Callable[[Json, Json | None, Sequence[str]], Json],
        lookup: Literal["off", "create", "hold"] = "off",
        link_orders: bool = False,
        shared: Shared | None = None,
        replaces: Sequence[Json] = (),
    ) -> None:
        self.talk = talk
        self.resources = {key(resource): resource for resource in resources}
        self.mapping = dict(known)
        self.server_ids = server_ids
        self.finish = finish
        self.lookup = lookup
        self.link_orders = link_orders
        self.shared = shared or Shared()
        self.learnt: dict[str, str] = {}
        self.findings: list[Issue] = []
        self.patients: dict[str, Json | None] = {}
        """Patients that were read, by reference."""
        self.own = OwnPatient(talk, replaces, finish)
        self._once: tuple[Action, ...] = ("missing",)

    def forget(self) -> None:
        """Believe nothing that is remembered: the server says that something is missing."""
        for of in self.resources:
            self.mapping.pop(of, None)
            self.learnt[of] = ""
            self.shared.put(of, "")
        self.patients.clear()

    def prepare(self, study: Json) -> Json:
        """Make everything that the study refers to; give the study with references as they are there."""
        try:
            return self._prepare(study)
        except _AnewError:
            self._once = ()
            self.forget()
            return self._prepare(study)

    def _prepare(self, study: Json) -> Json:
        self.own.of_study(study)
        study = self._link_patient(study)
        if self.link_orders:
            study = self._link(study)
        for of in self._ordered():
            if of not in self.mapping:
                with self.shared.lock(of):
                    reference = self.shared.get(of) or self._ensure(self.resources[of])
                    self.shared.put(of, reference)
                self.mapping[of] = self.learnt[of] = reference
            if of == self.own.key:
                self._look_at_own(study)
        return self.refer(study)

    def confirm(self, study: Json) -> Json | None:
        """Look, once in a process, for what is remembered; give the study anew where it is lost.

        Not every server refuses a reference to what it does not have.
        """
        for of in self._ordered():
            reference = self.mapping.get(of, "")
            if not reference or self.shared.get(of):
                continue
            kind, _, id_ = reference.partition("/")
            standing, action = self.talk.read(kind, id_)
            if action == "gone":
                self.talk.end("gone", Answer(410), f"GET {kind}", (reference,))
            if standing is None:
                self.forget()
                return self.prepare(study)
            self.shared.put(of, reference)
        return None

    def refer(self, study: Json) -> Json:
        """Give the study with references as they are there, and make nothing."""
        prepared: Json = self._there(study)
        return prepared

    def _look_at_own(self, study: Json) -> None:
        """See that the Patient that belongs to this study alone is who we say that it is."""
        of, subject = self.own.key, study.get("subject") or {}
        reference = self.mapping[of]
        if reference in self.patients:
            return  # made, or looked at, a moment ago
        ours = self.resources[of]
        body = self._there(searchable(ours)[0] if self.server_ids else ours)
        known = self.own.look(reference, ours, body, subject)
        if known is None:
            self.shared.put(of, "")
            self.mapping[of] = self.learnt[of] = self._ensure(ours)
            self.shared.put(of, self.mapping[of])
        else:
            self.patients[reference] = known

    def bring(self) -> bool:
        """Let the study's own Patient be the one that it was resolved to; false where somebody wrote it meanwhile."""
        brought = self.own.bring()
        if not brought:
            self.patients.clear()
        return brought

    def patient(self, study: Json) -> Json | None:
        """Patient that a study refers to, as it stands there or as we made it."""
        reference = str((study.get("subject") or {}).get("reference", ""))
        if self.patients.get(reference):
            return self.patients[reference]
        return next(
            (
                resource
                for of, resource in self.resources.items()
                if of.startswith("Patient/") and self.mapping.get(of, of) == reference
            ),
            None,
        )

    def _there(self, resource: Json) -> Any:
        """Resource with references as they are at the server."""
        return relink(resource, lambda reference: self.mapping.get(reference, reference))

    def carries(self, subject: Json) -> Callable[[str], bool]:
        """Whether the Patient at a literal reference carries an identifier of ours."""
        identifiers = [subject["identifier"]] if subject.get("identifier") else []
        for of, resource in self.resources.items():
            if of.startswith("Patient/"):
                identifiers += resource.get("identifier") or []

        def tell(reference: str) -> bool:
            return carries_identifier(self._read_patient(reference), {"identifier": identifiers})

        return tell

    def _read_patient(self, reference: str) -> Json | None:
        if reference not in self.patients:
            relative = strip_base(reference, self.talk.client.base)
            standing = None
            if relative.startswith("Patient/"):
                standing, _ = self.talk.read("Patient", relative.partition("/")[2])
            self.patients[reference] = standing.resource if standing else None
        return self.patients[reference]

    # making

    def _ordered(self) -> list[str]:
        """What others refer to before them; Patients first."""
        ordered: list[str] = []

        def visit(of: str, path: tuple[str, ...]) -> None:
            if of in ordered or of in path or of not in self.resources:
                return
            for target in sorted(references(self.resources[of])):
                visit(target, (*path, of))
            ordered.append(of)

        for of in sorted(self.resources, key=lambda name: (not name.startswith("Patient/"), name)):
            visit(of, ())
        return ordered

    def _ensure(self, resource: Json) -> str:  # noqa: RET503  an end raises
        """Reference of a companion that stands there now."""
        kind, id_ = str(resource["resourceType"]), str(resource["id"])
        body = self._there(resource)
        for _ in range(TRIES):
            if self.server_ids:
                made = self._create(kind, body)
                if made:
                    return made
                continue
            standing, action = self.talk.read(kind, id_)
            if standing is not None:
                if f"{kind}/{id_}" != self.own.key:  # that one is looked at for itself
                    self._same(resource, standing.resource)
                return f"{kind}/{id_}"
            if action == "gone":
                self.talk.end("gone", Answer(410), f"GET {kind}", (f"{kind}/{id_}",))
            _, action = self.talk.ask(
                "PUT",
                f"{kind}/{id_}",
                "put",
                body=orjson.dumps(self.finish(body, None, ())),
                headers={"Prefer": "return=minimal"},
                allowed=frozenset({"reread", "server-ids", *self._once}),
            )
            if action == "missing":
                raise _AnewError
            if action == "done":
                if kind == "Patient":
                    self.patients[f"{kind}/{id_}"] = body
                return f"{kind}/{id_}"
            if action == "server-ids":
                self.server_ids = True
        self.talk.end("again", Answer(409), f"PUT {kind}")

    def _create(self, kind: str, body: Json) -> str:
        """Create it where a search by its identifier finds none; empty where another writer is at it."""
        named, system, value = searchable(body)
        body = {name: item for name, item in named.items() if name != "id"}
        search = f"identifier={quote(token(system, value), safe=':/.-_~|')}"
        answer, action = self.talk.ask(
            "POST",
            kind,
            "create",
            body=orjson.dumps(self.finish(body, None, ())),
            headers={"If-None-Exist": search},
            allowed=frozenset({"reread", "several", *self._once}),
        )
        if action == "missing":
            raise _AnewError
        if action == "reread":
            return ""
        if action == "several":
            if kind == "Patient":
                self.talk.hold("patient-ambiguous")
            self.talk.end("several", answer, f"POST {kind}")
        made = created_id(answer, kind)
        if made and answer.status == 201 and kind == "Patient":
            self.patients[f"{kind}/{made}"] = named
        elif made and kind == "Patient" and key(named) != self.own.key:
            standing, _ = self.talk.read(kind, made)
            if standing is not None:
                self._same(named, standing.resource)
        if not made:
            hits = self.talk.search(kind, {"identifier": token(system, value)}, private=True) or []
            if len(hits) != 1:
                self.talk.hold("patient-ambiguous" if kind == "Patient" else "several-matches")
            made = str(hits[0].get("id", ""))
        return f"{kind}/{made}"

    def _same(self, ours: Json, standing: Json) -> None:
        """Hold the study where what stands under the id of our Patient is another person."""
        if ours["resourceType"] != "Patient":
            return
        names = (f"Patient/{standing.get('id')}",)
        self.patients[names[0]] = standing
        with_system = [
            i for i in ours.get("identifier") or [] if i.get("system") and i.get("value")
        ]
        if with_system and not carries_identifier(standing, {"identifier": with_system}):
            self.talk.hold("subject-mismatch", names)
        if reduce([("1", ours), ("2", {**standing, "id": ours["id"]})]).mismatch:
            self.talk.hold("patient-mismatch", names)

    # linking

    def _link_patient(self, study: Json) -> Json:
        subject = study.get("subject") or {}
        reference = str(subject.get("reference", ""))
        if self.lookup == "off" or reference.startswith("#") or reference in self.mapping:
            return study
        identifier = subject.get("identifier") or {}
        system, value = identifier.get("system"), identifier.get("value")
        if not system or not value:
            if self.lookup == "hold":
                self.talk.hold("patient-not-found")
            return study
        found = (
            self.talk.search("Patient", {"identifier": token(system, value)}, private=True) or []
        )
        hits = {
            str(hit.get("id")): hit
            for hit in found
            if carries_identifier(hit, {"identifier": identifier})
        }
        if len(hits) > 1:
            self.talk.hold("patient-ambiguous", tuple(f"Patient/{id_}" for id_ in sorted(hits)[:5]))
        if not hits:
            if self.lookup == "hold":
                self.talk.hold("patient-not-found")
            return study
        ((id_, hit),) = hits.items()
        if any(link.get("type") == "replaced-by" for link in hit.get("link") or []):
            self.talk.hold("patient-ambiguous", (f"Patient/{id_}",))
        ours = self.resources.get(reference)
        if ours is not None:
            self._same(ours, hit)
        self.patients[f"Patient/{id_}"] = hit
        if reference:
            self.mapping[reference] = self.learnt[reference] = f"Patient/{id_}"
            return study
        return {**study, "subject": {"reference": f"Patient/{id_}", **subject}}

    def _link(self, study: Json) -> Json:
        linked = dict(study)
        if study.get("basedOn"):
            linked["basedOn"] = [
                self._literal(item, "ServiceRequest", study) for item in study["basedOn"]
            ]
        if study.get("encounter"):
            linked["encounter"] = self._literal(study["encounter"], "Encounter", study)
        return linked

    def _literal(self, reference: Json, kind: str, study: Json) -> Json:
        """Make a logical reference literal where exactly one resource of this patient's is meant."""
        identifier = reference.get("identifier") or {}
        system, value = identifier.get("system"), identifier.get("value")
        held = str(reference.get("reference", ""))
        if not value or (held and held not in self.resources) or held in self.mapping:
            return reference
        hits: list[Json] = []
        if system:
            found = self.talk.search(
                kind,
                {"identifier": token(system, value)},
                private=True,
                allowed=frozenset({"refused", "circuit"}),
            )
            hits = [
                hit for hit in found or [] if carries_identifier(hit, {"identifier": identifier})
            ]
        if len(hits) != 1 or not self._of_patient(hits[0], study):
            code = "order-not-linked" if kind == "ServiceRequest" else "encounter-not-linked"
            path = "ImagingStudy.basedOn" if kind == "ServiceRequest" else "ImagingStudy.encounter"
            self.findings.append(Issue("information", code, path))
            return reference
        target = f"{kind}/{hits[0].get('id')}"
        if held:
            self.mapping[held] = self.learnt[held] = target
            return reference
        return {"reference": target, **reference}

    def _of_patient(self, hit: Json, study: Json) -> bool:
        """Whether an order or encounter is of the patient of the study."""
        theirs, ours = hit.get("subject") or {}, study.get("subject") or {}
        mine = str(ours.get("reference", ""))
        base = self.talk.client.base
        literal = strip_base(str(theirs.get("reference", "")), base)
        if literal and literal == self.mapping.get(mine, mine):
            return True
        if theirs.get("identifier") and carries_identifier(
            {"identifier": [theirs["identifier"]]}, ours
        ):
            return True
        return bool(literal) and self.carries(ours)(literal)
