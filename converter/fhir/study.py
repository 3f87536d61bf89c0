"""What R4 says of an ImagingStudy in prose, and what its counts promise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converter.fhir.report import Path, Report

__all__ = ["imaging_study"]


def imaging_study(value: dict[str, Any], path: Path, report: Report) -> None:
    """Check identifier, counts and UIDs of a study as a whole.

    R4 ``imagingstudy-definitions.html``: with series there is *one* DICOM Study UID identifier; the
    counts may exceed what is listed, never fall below it.
    """
    series = value.get("series")
    if series.__class__ is not list or not series:
        return
    identifiers = value.get("identifier")
    listed = identifiers if identifiers.__class__ is list else []
    uids = [
        item for item in listed if item.__class__ is dict and item.get("system") == "urn:dicom:uid"
    ]
    if len(uids) != 1:
        report.add(
            "study-uid-identifier",
            (path, "identifier", None),
            f"a study with series has one Study Instance UID (urn:dicom:uid); this has {len(uids)}",
        )
    total = 0
    seen: set[Any] = set()
    for index, item in enumerate(series):
        if item.__class__ is not dict:
            continue
        place = (path, "series", index)
        uid = item.get("uid")
        if uid.__class__ is str:
            if uid in seen:
                report.add("duplicate-uid", (place, "uid", None), "another series has the same uid")
            seen.add(uid)
        instances = item.get("instance")
        if instances.__class__ is not list:
            continue
        count = len(instances)
        total += count
        _below(item, "numberOfInstances", count, place, report)
        if not report.trusted:
            _twice(instances, place, report)
    _below(value, "numberOfSeries", len(series), path, report)
    _below(value, "numberOfInstances", total, path, report)


def _below(value: dict[str, Any], name: str, count: int, path: Path, report: Report) -> None:
    stated = value.get(name)
    if stated.__class__ is int and stated < count:
        report.add("count-too-small", (path, name, None), f"states fewer than the {count} listed")


def _twice(instances: list[Any], place: Path, report: Report) -> None:
    uids = [item.get("uid") if item.__class__ is dict else None for item in instances]
    known = [uid for uid in uids if uid.__class__ is str]
    if len(set(known)) == len(known):
        return
    seen: set[str] = set()
    for index, uid in enumerate(uids):
        if uid.__class__ is not str:
            continue
        if uid in seen:
            where = ((place, "instance", index), "uid", None)
            report.add("duplicate-uid", where, "another instance of the series has the same uid")
        seen.add(uid)
