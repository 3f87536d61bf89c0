"""Series and instances of two views of one study, united by UID."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Mapping

__all__ = ["count", "in_order", "modalities", "unite_list", "unite_series"]

Json = dict[str, Any]

INSTANCE = frozenset({"uid", "sopClass", "number", "title"})
"""What DICOM says of an instance (R4 ``imagingstudy.html``): our view of an instance we hold is whole."""

_SERIES = (
    "id",
    "extension",
    "modifierExtension",
    "uid",
    "number",
    "modality",
    "description",
    "numberOfInstances",
    "endpoint",
    "bodySite",
    "laterality",
    "specimen",
    "started",
    "performer",
    "instance",
)


def in_order(element: Json, names: Iterable[str]) -> Json:
    """Order of the definition, then what it does not know (``_started``) by name."""
    known = {name: element[name] for name in names if name in element}
    return {**known, **{name: element[name] for name in sorted(element.keys() - known.keys())}}


def unite_list(mine: list[Json] | None, theirs: list[Json] | None, key: str) -> list[Json]:
    """Ours first, then theirs that has another key (or none, and is not the same)."""
    united = list(mine or [])
    keys = {item.get(key) for item in united} - {None}
    united.extend(item for item in theirs or [] if item.get(key) not in keys and item not in united)
    return united


def _rank(item: Json) -> tuple[bool, int, str]:
    number = item.get("number")
    return number is None, number or 0, str(item.get("uid", ""))


def _by_uid(series: list[Json]) -> dict[str, Json]:
    """Series by UID; a UID that stands twice is one series."""
    found: dict[str, Json] = {}
    for item in series:
        uid = str(item.get("uid", ""))
        held = found.get(uid)
        if held is None:
            found[uid] = item
        else:
            instances = {
                i.get("uid"): i for i in [*item.get("instance", []), *held.get("instance", [])]
            }
            found[uid] = {**item, **held, "instance": list(instances.values())}
    return found


def _stated(item: Json) -> int:
    return max(len(item.get("instance") or ()), int(item.get("numberOfInstances") or 0))


def _remaining(item: Json, listed: Container[str]) -> int:
    """Instances of one view of a series that are in the union, those it only counts included."""
    instances = item.get("instance") or []
    return _stated(item) - sum(instance.get("uid") not in listed for instance in instances)


def unite_series(
    theirs: list[Json], mine: list[Json], tombstones: Collection[str]
) -> tuple[list[Json], dict[str, set[str]]]:
    """Series of both by UID, sorted, and the instances that each of them lists."""
    standing, ours = _by_uid(theirs), _by_uid(mine)
    home = {i["uid"]: uid for uid, item in ours.items() for i in item.get("instance") or []}
    emptied = {
        uid: int(count)
        for uid, _, count in (one.partition(":") for one in tombstones)
        if count.isdigit()
    }
    united: list[Json] = []
    listed: dict[str, set[str]] = {}
    for uid in sorted(standing.keys() | ours.keys()):
        views = [view[uid] for view in (standing, ours) if uid in view]
        instances: dict[str, Json] = {}
        for view in views:
            for instance in view.get("instance") or []:
                sop = str(instance.get("uid", ""))
                # an instance that we hold stands where we hold it, in no other series
                if sop in tombstones or home.get(sop, uid) != uid:
                    continue
                held = instances.get(sop)
                instances[sop] = instance if held is None else _instance(held, instance)
        if uid not in ours and not instances and emptied.get(uid, -1) >= _stated(standing[uid]):
            continue  # what it counts without listing is all that was removed
        number = max(len(instances), *(_remaining(view, instances) for view in views))
        if number == 0 and any(view.get("instance") for view in views):
            continue
        one = _one_series(views, sorted(instances.values(), key=_rank), number)
        if _of_no_side(views, number, retracted=f"{uid}:laterality" in tombstones):
            del one["laterality"]
        united.append(one)
        listed[uid] = set(instances)
    return sorted(united, key=_rank), listed


def _instance(theirs: Json, mine: Json) -> Json:
    foreign = {name: value for name, value in theirs.items() if name.lstrip("_") not in INSTANCE}
    return {**foreign, **mine} if foreign else mine


def _of_no_side(views: list[Json], number: int, *, retracted: bool) -> bool:
    """Whether the side of a series must go: instances of both sides have none (`converter.core.evaluate.agree`)."""
    mine = views[-1]
    sides = [_side(view) for view in views if "laterality" in view]
    if retracted and "laterality" not in mine:
        return bool(sides)
    return len(set(sides)) > 1 and _stated(mine) < number


def _side(item: Json) -> tuple[str, str]:
    coding = item["laterality"]
    return str(coding.get("system", "")), str(coding.get("code", ""))


def _one_series(views: list[Json], instances: list[Json], number: int) -> Json:
    theirs, mine = views[0], views[-1]
    merged = {**theirs, **mine, "instance": instances, "numberOfInstances": number}
    for name, key in (("endpoint", "reference"), ("extension", "url")):
        merged[name] = unite_list(mine.get(name), theirs.get(name), key)
    if not number and not any("numberOfInstances" in view for view in views):
        del merged["numberOfInstances"]
    return in_order({n: v for n, v in merged.items() if v not in (None, [], {})}, _SERIES)


def count(
    views: tuple[Json, Json], series: list[Json], listed: Mapping[str, set[str]]
) -> tuple[int | None, int | None]:
    """Numbers of series and instances: those of the union, or what a view counts without listing."""
    number = len(series)
    instances = sum(item.get("numberOfInstances", 0) for item in series)
    for view in views:
        held = _by_uid(view.get("series") or [])
        kept = [item for uid, item in held.items() if uid in listed]
        number = max(number, len(kept) + max(0, int(view.get("numberOfSeries") or 0) - len(held)))
        unlisted = int(view.get("numberOfInstances") or 0) - sum(map(_stated, held.values()))
        remaining = sum(_remaining(item, listed[str(item.get("uid", ""))]) for item in kept)
        instances = max(instances, remaining + max(0, unlisted))
    stated = [
        any(name in view for view in views) for name in ("numberOfSeries", "numberOfInstances")
    ]
    return (
        number if number or stated[0] else None,
        instances if instances or stated[1] else None,
    )


def modalities(
    base: Json, ours: Json, series: list[Json], acquisition: Container[str]
) -> list[Json]:
    """Acquisition modalities of the union, in the order of its series, as R4 defines the element."""
    own: list[Json] = ours.get("modality") or []
    planned: list[Json] = base.get("modality") or []
    present = [item["modality"] for item in series if item.get("modality")]
    known = {coding.get("code") for coding in [*own, *(() if acquisition else planned)]}
    gone = {item.get("modality", {}).get("code") for item in ours.get("series") or []}
    gone -= {coding.get("code") for coding in present}
    codings = [c for c in present if c.get("code") in acquisition or c.get("code") in known]
    codings += [coding for coding in own if coding.get("code") not in gone]
    if not base.get("series"):
        codings += planned  # a study that is registered and has no series yet
    found: dict[tuple[str, str], Json] = {}
    for coding in codings:
        found.setdefault((coding.get("system", ""), coding.get("code", "")), coding)
    return list(found.values())
