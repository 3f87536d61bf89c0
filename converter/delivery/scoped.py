"""A Patient that belongs to one study: where no identifier has a system, its id says nothing of who it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import orjson

from converter.core.companions import reduce
from converter.core.ids import patient_id
from converter.core.merge import study_uid
from converter.core.subject import compare_identifiers
from converter.delivery.answers import Answer
from converter.delivery.talk import Standing, Talk

__all__ = ["OWN_SYSTEM", "OwnPatient", "judge", "searchable"]

Json = dict[str, Any]

OWN_SYSTEM = "urn:ietf:rfc:3986"
"""Of the identifier that a server that gives ids itself knows our Patient by."""


def judge(
    ours: Json, standing: Json, subject: Json, replaces: Iterable[Json]
) -> Literal["", "replace", "subject-mismatch", "patient-mismatch"]:
    """Tell what to do about the Patient of a study that stands.

    Parameters
    ----------
    ours, standing : dict
        The Patient as we make it, and as it stands under the same id.
    subject : dict
        Our ``ImagingStudy.subject``.
    replaces : iterable of dict
        Subjects of ours that may be replaced: somebody said whose study it is.

    Returns
    -------
    str
        Empty where it is the same person, as far as one can tell; ``replace`` where somebody said that it is
        not and it is one that we published; else why the study is held.
    """
    known = [i for i in standing.get("identifier") or [] if i.get("system") != OWN_SYSTEM]
    said = [subject["identifier"]] if (subject.get("identifier") or {}).get("value") else []
    agreement = compare_identifiers(said or ours.get("identifier"), known)
    if agreement == "same":
        return ""
    people = reduce([("1", ours), ("2", {**standing, "id": ours["id"]})])
    if agreement == "unknown" and not people.mismatch:
        return ""
    if any(compare_identifiers(old.get("identifier"), known) != "differ" for old in replaces):
        return "replace"
    return "subject-mismatch" if agreement == "differ" else "patient-mismatch"


class OwnPatient:
    """The Patient of one study at one server, which follows an operator's word.

    Parameters
    ----------
    talk : Talk
    replaces : sequence of dict
        Subjects of ours that may be replaced.
    finish : callable
        Checks a resource and stamps the profiles that it may claim.
    """

    def __init__(
        self,
        talk: Talk,
        replaces: Sequence[Json],
        finish: Callable[[Json, Json | None, Sequence[str]], Json],
    ) -> None:
        self.key = ""
        """``Patient/id`` of ours."""
        self._talk = talk
        self._replaces = replaces
        self._finish = finish
        self._pending: tuple[Json, Standing] | None = None

    def of_study(self, study: Json) -> None:
        """Say which study it is about."""
        self.key = f"Patient/{patient_id(None, None, study_uid(study))}"

    def look(self, reference: str, ours: Json, body: Json, subject: Json) -> Json | None:
        """Who it is there, once the study is written; ``None`` where it is absent.

        Where it is another person, it is either to be replaced (`bring`), or the study is held.
        """
        self._pending = None
        standing, action = self._talk.read("Patient", reference.partition("/")[2])
        if standing is None:
            if action == "gone":
                self._talk.end("gone", Answer(410), "GET Patient", (reference,))
            return None
        verdict = judge(ours, standing.resource, subject, self._replaces)
        if verdict == "replace":
            body = {**body, "id": standing.id}
            self._pending = body, standing
            return body
        if verdict:
            self._talk.hold(verdict, (reference,))
        return standing.resource

    def bring(self) -> bool:
        """Replace it where that is to be done; false where somebody wrote it meanwhile."""
        if self._pending is None:
            return True
        body, standing = self._pending
        self._pending = None
        match = {"If-Match": standing.etag} if standing.etag else {}
        _, action = self._talk.ask(
            "PUT",
            f"Patient/{standing.id}",
            "update",
            body=orjson.dumps(self._finish(body, None, ())),
            headers={"Prefer": "return=minimal", **match},
            allowed=frozenset({"reread"}),
        )
        return action == "done"


def searchable(resource: Json) -> tuple[Json, str, str]:
    """(resource, system, value): an identifier to search by, our id where it has none with a system."""
    listed = resource.get("identifier") or []
    held: list[Json] = [listed] if isinstance(listed, dict) else listed
    for identifier in held:
        if identifier.get("system") and identifier.get("value"):
            return resource, str(identifier["system"]), str(identifier["value"])
    value = f"urn:uuid:{resource['id']}"
    own = {"system": OWN_SYSTEM, "value": value}
    return {**resource, "identifier": [*held, own]}, OWN_SYSTEM, value
