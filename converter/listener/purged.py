"""Studies whose headers were purged: what is still known of them, and what may be said of them.

What was made of a study before its headers went is kept. What comes late is put to that, and a rejection note or a
resolution takes from that: nothing is ever made of headers that are not there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec
import orjson

from converter.core.merge import SHARED, Mismatch, study_uid
from converter.core.rejection import is_note, is_withdrawn, withdraw
from converter.listener.ledger import LIVE
from converter.pipeline.remarks import sop_hashes
from converter.store import Converted
from converter.store.database import Connection

__all__ = ["anything", "left", "missing", "together"]

Json = dict[str, Any]
Contributions = Sequence[tuple[str, str, bytes]]

_header = msgspec.msgpack.Decoder(dict[int, bytes]).decode
_OF = (
    "FROM received_instance i JOIN received_study s ON s.study_uid = i.study_uid "
    f"WHERE i.study_uid = ? AND {LIVE}"
)


def missing(db: Connection, study_uid: str) -> set[str]:
    """SOP Instance UIDs of what is live in a study and has no header any more."""
    rows = db.execute(f"SELECT i.sop_uid {_OF} AND i.header IS NULL", (study_uid,))
    return {row[0] for row in rows.fetchall()}


def anything(db: Connection, study_uid: str, *, notes: bool) -> bool:
    """Whether there is a header of something that is live in a study; ``notes``: one of a rejection note counts."""
    rows = db.execute(f"SELECT i.header {_OF} AND i.header IS NOT NULL", (study_uid,))
    return any(notes or not is_note(_header(row[0])) for row in iter(rows.fetchone, None))


def _known(before: Converted | None) -> Json | None:
    """Resource that was made of a study, where it lists something."""
    if before is None or not before.resource or before.withdrawn:
        return None
    resource: Json = orjson.loads(before.resource)
    listed = study_uid(resource) == before.study_uid and not is_withdrawn(resource)
    return resource if listed else None


def left(
    before: Converted | None,
    said: Converted,
    gone: Collection[str],
    contributions: Contributions,
    unite: Callable[..., Any],
) -> Converted | None:
    """What was made of a study, without what is taken back of it; ``None`` where nothing is known of the rest.

    Parameters
    ----------
    before : Converted or None
        What was made of it.
    said : Converted
        Says what is taken back.
    gone : collection of str
        SOP Instance UIDs of what is left and has no header.
    contributions : sequence
        Of what was made of it.
    unite : callable
        `converter.core.merge.unite`.
    """
    known = _known(before)
    if before is None or known is None:
        return None
    less = withdraw(known)
    if "text" not in known:
        del less["text"]
    made = unite(known, less, tombstones=frozenset(said.tombstones))
    if isinstance(made, Mismatch) or not made.get("numberOfInstances"):
        return None
    issues = [*before.issues, *(issue for issue in said.issues if issue not in before.issues)]
    return msgspec.structs.replace(
        _counted(before, made, gone),
        issues=issues,
        contributions=list(contributions),
        tombstones=said.tombstones,
        replaces=said.replaces,
    )


def together(
    before: Converted | None,
    item: Converted,
    gone: Collection[str],
    contributions: Contributions,
    unite: Callable[..., Any],
) -> Converted:
    """What was made of the headers that are there, with what was made of those that are not; see `left`."""
    known = _known(before)
    if known is None or item.state != "converted" or not item.resource:
        return item
    ours = orjson.loads(item.resource)
    if known.get("subject") != ours.get("subject"):
        return item  # whose it is is settled where it stands
    made = unite(known, ours, tombstones=frozenset(item.tombstones), written=SHARED, replaces=())
    if isinstance(made, Mismatch):
        return item
    named = {(kind, id_) for kind, id_, _ in item.contributions}
    more = [one for one in contributions if one[:2] not in named]
    whole = _counted(item, made, gone)
    return msgspec.structs.replace(
        whole, contributions=[*item.contributions, *more], sops=sorted({*item.sops, *whole.sops})
    )


def _counted(item: Converted, made: Json, gone: Collection[str]) -> Converted:
    return msgspec.structs.replace(
        item,
        resource=orjson.dumps(made),
        series=int(made.get("numberOfSeries") or 0),
        instances=int(made.get("numberOfInstances") or 0),
        sops=sop_hashes(sorted(gone)),
    )
