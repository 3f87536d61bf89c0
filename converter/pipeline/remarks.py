"""What is to be said of studies beside each other: UIDs that are in more than one of them."""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import TYPE_CHECKING

from converter.core.issues import EXAMPLES, Issue
from converter.core.study import assemble, unpack_block

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converter.store import StudyStore

__all__ = ["remark_shared", "sop_hashes"]


def sop_hashes(uids: Sequence[str]) -> list[int]:
    """For each SOP Instance UID the 64 bits by which the store finds those that are in two studies."""
    digests = b"".join([blake2b(uid.encode(), digest_size=8).digest() for uid in uids])
    return list(struct.unpack(f">{len(uids)}q", digests))


def remark_shared(store: StudyStore) -> None:
    """Find SOP Instance and Series UIDs that are in two studies: they stay in both, with a finding in each."""
    found: dict[str, list[Issue]] = {}
    for study_uid, hashes in store.shared():
        study = assemble(study_uid, map(unpack_block, store.blocks([study_uid])[0]))
        uids = [one.uid for series in study.series for one in series.instances]
        known = zip(uids, sop_hashes(uids), strict=True)
        instances = sorted(uid for uid, sop in known if sop in hashes)
        found.setdefault(study_uid, []).append(
            _issue(
                "instance-in-several-studies",
                "ImagingStudy.series.instance",
                "SOPInstanceUID",
                "The same SOP Instance UID is in another study as well; it stays in both.",
                instances,
            )
        )
    for study_uid, series in store.shared_series():
        found.setdefault(study_uid, []).append(
            _issue(
                "series-in-several-studies",
                "ImagingStudy.series",
                "SeriesInstanceUID",
                "The same Series Instance UID is in another study as well; it stays in both.",
                series,
            )
        )
    for study_uid, issues in found.items():
        store.remark(study_uid, issues)


def _issue(code: str, path: str, keyword: str, message: str, uids: list[str]) -> Issue:
    return Issue("warning", code, path, keyword, message, tuple(uids[:EXAMPLES]), len(uids))
