"""Resources that span studies: what several studies say of one, reduced to one resource."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from converter.core.issues import Issue
from converter.core.narrative import narrative
from converter.core.patient import Person, folded, two_people

__all__ = ["Reduced", "alone", "complete", "person_of", "reduce"]

UNITED = frozenset({"identifier", "reasonCode", "payloadType"})
"""Repeating elements that are united; any other element takes the most frequent value whole."""

OWN = frozenset({"resourceType", "id", "text"})

KEYWORDS = {"birthDate": "PatientBirthDate", "gender": "PatientSex", "name": "PatientName"}


@dataclass(frozen=True, slots=True)
class Reduced:
    """One resource of many contributions."""

    resource: dict[str, Any]
    issues: list[Issue]
    mismatch: bool
    """Two different people behind one key: birth date and name both differ."""


def _written(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def person_of(patient: dict[str, Any]) -> Person:
    """Who a Patient is, for comparison: by the first name that has a family name."""
    names = patient.get("name", [])
    name = next((one for one in names if one.get("family")), names[0] if names else {})
    # one that only has an extension is null in the JSON of a server
    given = next(filter(None, name.get("given") or []), "")
    family, given = folded(name.get("family") or "", given)
    return Person(str(patient.get("birthDate", "")), family, given)


def reduce(contributions: Sequence[tuple[str, dict[str, Any]]]) -> Reduced:
    """Reduce all contributions to one resource id.

    Parameters
    ----------
    contributions : sequence of (str, dict)
        Study Instance UID and what that study says; at least one, all of one type and id. Their order
        changes nothing.

    Returns
    -------
    Reduced
        Elements take the value of most studies, ties the smallest; identifiers are united.
    """
    first = contributions[0][1]
    if len(contributions) == 1:
        return Reduced(alone(first), [], mismatch=False)
    issues: list[Issue] = []
    body: dict[str, Any] = {}
    names = list(
        dict.fromkeys(name for _, one in sorted(contributions, key=_by_study) for name in one)
    )
    for name in names:
        if name in OWN:
            continue
        values = [(uid, one[name]) for uid, one in contributions if name in one]
        if name in UNITED:
            united = {_written(item): item for _, value in values for item in value}
            main = _most(values)
            ordered = [*main, *(united[key] for key in sorted(united) if united[key] not in main)]
            body[name] = ordered
            continue
        if name.startswith("_") and any(name[1:] in one for _, one in contributions):
            continue  # a value that one study knows beats the data-absent-reason of another
        body[name] = _most(values)
        if len({_written(value) for _, value in values}) > 1:
            issues.append(
                Issue(
                    "warning",
                    "companions-differ",
                    f"{first['resourceType']}.{name}",
                    KEYWORDS.get(name, ""),
                    "Studies differ; the most frequent value is taken.",
                    tuple(sorted({uid for uid, _ in values})[:3]),
                    len(values),
                )
            )
    if "name" in body and first["resourceType"] == "Patient":
        known = [(uid, one["name"]) for uid, one in contributions if _named(one)]
        if known:
            body["name"] = _most(known)
    mismatch = first["resourceType"] == "Patient" and two_people(
        {person_of(one) for _, one in contributions}
    )
    if mismatch:
        issues.append(
            Issue(
                "error",
                "patient-mismatch",
                "Patient",
                "PatientID",
                "Birth date and name both differ under one identifier: the studies are held back.",
                tuple(sorted({uid for uid, _ in contributions})[:3]),
                len(contributions),
            )
        )
    resource = {"resourceType": first["resourceType"], "id": first["id"]}
    resource["text"] = narrative({**resource, **body})
    return Reduced({**resource, **body}, issues, mismatch)


def alone(one: dict[str, Any]) -> dict[str, Any]:
    """What one study says, in the order of keys that many would give: where no other speaks, it is the resource."""
    sorted_ = orjson.loads(_written(one))
    sorted_.update((name, one[name]) for name in OWN if name in one)
    return {name: sorted_[name] for name in one if not (name.startswith("_") and name[1:] in one)}


def complete(standing: dict[str, Any], made: dict[str, Any]) -> dict[str, Any]:
    """Unite a companion that stands in the output with what this run makes of it.

    A run is a partial view: what it says stands, what it is silent about stays, identifiers are united.

    Parameters
    ----------
    standing, made : dict
        Two versions of one resource; neither is changed.
    """
    ours = {name: value for name, value in made.items() if name not in OWN}
    body = dict(ours)
    for name, value in standing.items():
        if name in OWN or name == "meta":
            continue
        if name in UNITED and name in body:
            body[name] = [*body[name], *(one for one in value if one not in body[name])]
        elif name == "name" and not _named(made) and _named(standing):
            body[name] = value
        elif name not in body and not (name.startswith("_") and name[1:] in body):
            body[name] = value
            body.pop(f"_{name}", None)
    if body == ours:
        return made
    resource = {"resourceType": made["resourceType"], "id": made["id"]}
    resource["text"] = narrative({**resource, **body})
    return {**resource, **body}


def _by_study(contribution: tuple[str, dict[str, Any]]) -> tuple[str, bytes]:
    return contribution[0], _written(contribution[1])


def _named(resource: dict[str, Any]) -> bool:
    return any(
        "family" in name or "given" in name or "text" in name for name in resource.get("name", [])
    )


def _most(values: Sequence[tuple[str, Any]]) -> Any:
    counts = Counter(_written(value) for _, value in values)
    best = min(counts, key=lambda written: (-counts[written], written))
    return orjson.loads(best)
