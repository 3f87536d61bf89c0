"""What stands at a destination and what we made, united.

Every run is a partial view: a late folder, a purged store or a second daemon must never cut a published
study down. So series and instances are united by UID, counts come from the union, and what others wrote
stays. What we own and what others may have changed: ``docs/architecture.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import orjson

from converter.core.narrative import narrative
from converter.core.rejection import is_withdrawn
from converter.core.subject import Mismatch, reconcile
from converter.core.union import count, in_order, modalities, unite_list, unite_series

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping

__all__ = ["SHARED", "Mismatch", "study_uid", "unite"]

Json = dict[str, Any]

OWNED = ("started", "description", "procedureCode")
"""Elements that DICOM alone decides: ours wherever we have a value."""

SHARED = ("encounter", "basedOn", "referrer", "interpreter", "location", "reasonCode")
"""Elements that others may set as well: ours where nothing stands, or where what stands is as we wrote it."""

FINAL = ("cancelled", "entered-in-error")


def study_uid(study: Mapping[str, Any]) -> str:
    """Study Instance UID of an ImagingStudy; empty where it names none."""
    for identifier in study.get("identifier") or []:
        if identifier.get("system") == "urn:dicom:uid" and identifier.get("value"):
            return str(identifier["value"]).removeprefix("urn:oid:")
    return ""


def unite(
    standing: Json,
    ours: Json,
    ownership: Literal["merge", "replace"] = "merge",
    *,
    tombstones: Collection[str] = (),
    acquisition: Container[str] = (),
    written: Container[str] = (),
    our_profiles: Container[str] = (),
    carries: Callable[[str], bool] | None = None,
    replaces: Iterable[Json] = (),
    narrate: Callable[[Json], Json] = narrative,
) -> Json | Mismatch:
    """Unite the ImagingStudy that stands with the one that we made.

    Parameters
    ----------
    standing, ours : dict
        Neither is changed.
    ownership : {"merge", "replace"}
        ``replace``: series, instances and the elements that we own come from ours alone, and what we wrote and
        make no more goes.
    tombstones : collection of str
        SOP Instance UIDs that were removed on purpose, and ``uid:number`` of series that so many were removed of
        and none is left in (it goes where it only counts, and no more than these); nothing else removes an instance.
    acquisition : container of str
        DICOM codes of acquisition modalities (CID 29), for ``ImagingStudy.modality``.
    written : container of str
        Names of `SHARED` elements (and ``status``) that stand as we wrote them.
    our_profiles : container of str
        Canonicals that we may claim: those that stand are dropped unless ours claims them now.
    carries : callable, optional
        Whether the Patient at a literal reference carries our identifier.
    replaces : iterable of dict
        Subjects of ours that may be replaced (`converter.core.subject.reconcile`).
    narrate : callable
        Makes ``text`` where the union holds more than ours.

    Returns
    -------
    dict or Mismatch
        The resource to check and write; a `Mismatch` where the study must be held.
    """
    uid = study_uid(ours)
    if (held := study_uid(standing)) and uid and held != uid:
        return Mismatch("study-mismatch", "ImagingStudy.identifier")
    subject = reconcile(standing, ours, uid, carries, replaces)
    if isinstance(subject, Mismatch):
        return subject
    if is_withdrawn(ours) and standing.get("subject"):
        # to take instances back says nothing of whose study it is
        subject = standing["subject"]
        ours = {name: value for name, value in ours.items() if name != "contained"}

    replace = ownership == "replace"
    merged: Json = {"resourceType": "ImagingStudy"}
    for name in dict.fromkeys([*ours, *standing]):
        theirs, mine = standing.get(name), ours.get(name)
        ours_wins = name in OWNED or (name in SHARED and (replace or name in written))
        goes = replace and (name in OWNED or name in written)
        if ours_wins and (mine is not None or goes):
            merged[name] = mine
        else:
            merged[name] = mine if theirs is None else theirs
    merged["subject"] = subject
    merged["identifier"] = _identifiers(
        standing.get("identifier") or [], ours.get("identifier") or []
    )
    merged["endpoint"] = unite_list(ours.get("endpoint"), standing.get("endpoint"), "reference")
    merged["extension"] = unite_list(ours.get("extension"), standing.get("extension"), "url")
    merged["contained"] = unite_list(ours.get("contained"), standing.get("contained"), "id")
    merged["meta"] = _meta(standing.get("meta") or {}, ours.get("meta") or {}, our_profiles)
    final = standing.get("status") in FINAL and "status" not in written
    merged["status"] = standing["status"] if final else ours.get("status", standing.get("status"))

    base = {} if replace else standing
    series, listed = unite_series(base.get("series") or [], ours.get("series") or [], tombstones)
    whole = series == ours.get("series", [])
    merged["series"] = series
    if not whole and not replace:
        # a code of instances that we do not hold is not ours to take away
        merged["procedureCode"] = _codes(standing, ours)
    if series and is_withdrawn(ours):
        merged["status"] = standing.get("status")  # what others added is still there
    planned = bool(base.get("modality")) and not base.get("series")
    merged["modality"] = (
        ours.get("modality")
        if whole and not planned
        else modalities(base, ours, series, acquisition)
    )
    merged["numberOfSeries"], merged["numberOfInstances"] = count((base, ours), series, listed)
    merged = _tidy(merged)
    if "text" in ours:
        same = all(
            merged.get(name) == ours.get(name)
            for name in merged.keys() | ours.keys()
            if name in _TOLD
        )
        merged["text"] = ours["text"] if same else narrate({**merged})
    return in_order(merged, _STUDY)


_STUDY = (
    "resourceType",
    "id",
    "meta",
    "implicitRules",
    "language",
    "text",
    "contained",
    "extension",
    "modifierExtension",
    "identifier",
    "status",
    "modality",
    "subject",
    "encounter",
    "started",
    "basedOn",
    "referrer",
    "interpreter",
    "endpoint",
    "numberOfSeries",
    "numberOfInstances",
    "procedureReference",
    "procedureCode",
    "location",
    "reasonCode",
    "reasonReference",
    "note",
    "description",
    "series",
)
_TOLD = frozenset(
    {
        "identifier",
        "status",
        "modality",
        "started",
        "procedureCode",
        "reasonCode",
        "description",
        "numberOfSeries",
        "numberOfInstances",
        "series",
    }
)
"""Elements that the narrative tells of."""


def _tidy(study: Json) -> Json:
    """Leave out what is empty, and contained resources that nothing refers to any more (dom-3)."""
    kept = {name: value for name, value in study.items() if value not in (None, [], {})}
    if "contained" in kept:
        referred = set(_local_references({k: v for k, v in kept.items() if k != "contained"}))
        while (
            more := {
                target
                for resource in kept["contained"]
                if resource.get("id") in referred
                for target in _local_references(resource)
            }
            - referred
        ):
            referred |= more
        kept["contained"] = [r for r in kept["contained"] if r.get("id") in referred]
        if not kept["contained"]:
            del kept["contained"]
    return kept


def _codes(theirs: Json, mine: Json) -> list[Json]:
    """Procedure codes of both, each once, in the order of one conversion; a text that a code carries is none."""
    both = [*(mine.get("procedureCode") or []), *(theirs.get("procedureCode") or [])]
    texts = {one.get("text") for one in both if one.get("coding")}
    found: dict[tuple[Any, ...], Json] = {}
    for one in both:
        coding = next(iter(one.get("coding") or ()), None)
        if coding:
            found.setdefault((coding.get("system"), coding.get("code")), one)
        elif one.get("text") not in texts:
            found.setdefault((one.get("text"),), one)
    return sorted(found.values(), key=lambda one: orjson.dumps(one, option=orjson.OPT_SORT_KEYS))


def _local_references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        reference = node.get("reference")
        if isinstance(reference, str) and reference.startswith("#"):
            yield reference[1:]
        for value in node.values():
            yield from _local_references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _local_references(value)


def _meta(theirs: Json, mine: Json, our_profiles: Container[str]) -> Json:
    meta = {**theirs, **mine}
    claimed = list(mine.get("profile") or [])
    foreign = [url for url in theirs.get("profile") or [] if url not in our_profiles]
    meta["profile"] = list(dict.fromkeys([*claimed, *foreign]))
    for name in ("security", "tag"):
        united = list(mine.get(name) or [])
        united.extend(coding for coding in theirs.get(name) or [] if coding not in united)
        meta[name] = united
    return {name: value for name, value in meta.items() if value not in (None, [], {})}


def _identifiers(theirs: list[Json], mine: list[Json]) -> list[Json]:
    """Ours, with what others added to them, then those of others."""
    held = {_key(identifier): identifier for identifier in theirs}
    united = [{**held.get(_key(identifier), {}), **identifier} for identifier in mine]
    keys = {_key(identifier) for identifier in mine}
    # an identifier that we wrote before its system was configured is the same one
    bare = {(i.get("value"), _types(i)) for i in mine if i.get("system")}
    for identifier in theirs:
        older = (
            not identifier.get("system") and (identifier.get("value"), _types(identifier)) in bare
        )
        known = _key(identifier) in keys and identifier.get("value")
        if not (known or older or identifier in united):
            united.append(identifier)
    return united


def _key(identifier: Json) -> tuple[str, str]:
    system, value = str(identifier.get("system", "")), str(identifier.get("value", ""))
    return system, value.removeprefix("urn:oid:") if system == "urn:dicom:uid" else value


def _types(identifier: Json) -> frozenset[str]:
    return frozenset(str(c.get("code")) for c in identifier.get("type", {}).get("coding") or [])
