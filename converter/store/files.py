"""What a kept state knows of files: what an earlier reading of some of them gave goes when they are read anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from converter.core.study import Block, pack, pack_block, unpack_block

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from converter.store.database import Connection

__all__ = [
    "Known",
    "begin",
    "drop",
    "forget_unseen",
    "known",
    "lost",
    "note_lost",
    "settle_lost",
    "touch",
]

_LOST = "lost "
"""Begins the keys of ``meta`` that stand for a study each of which something was lost."""


class Known(NamedTuple):
    """What a state holds of a file."""

    id: int
    blocks: tuple[int, ...]


def known(db: Connection, paths: Iterable[bytes]) -> dict[bytes, Known]:
    """What the state holds of some files, within the caller's transaction."""
    found = {}
    for path in paths:
        row = db.execute("SELECT id FROM file WHERE path = ?", (path,)).fetchone()
        if row is not None:
            blocks = db.execute("SELECT block_id FROM file_block WHERE file_id = ?", row)
            found[path] = Known(row[0], tuple(block for (block,) in blocks))
    return found


def begin(db: Connection, file: Known, run: int) -> int:
    """Begin to replace what is known of a file; give its id."""
    db.execute("DELETE FROM skipped WHERE file_id = ?", (file.id,))
    sql = "UPDATE file SET size = -1, mtime_ns = -1, version = '', run = ? WHERE id = ?"
    db.execute(sql, (run, file.id))
    return file.id


def forget_unseen(db: Connection, run: int) -> None:
    """Remove all rows of files that a run did not see, and note which studies lost instances by it."""
    sql = "SELECT path FROM file WHERE run <> ? LIMIT 500"
    while paths := [path for (path,) in db.execute(sql, (run,))]:
        files = known(db, paths)
        changed, less = drop(db, files)
        touch(db, changed)
        note_lost(db, less)
        for id_, _ in files.values():
            db.execute("DELETE FROM skipped WHERE file_id = ?", (id_,))
            db.execute("DELETE FROM file WHERE id = ?", (id_,))


def drop(
    db: Connection,
    files: Mapping[bytes, Known],
    *,
    short: Collection[bytes] = (),
    since: int | None = None,
) -> tuple[set[str], set[str]]:
    """Remove the instances that some files gave; a block that others have some in as well is packed anew.

    Parameters
    ----------
    db : Connection
        Within a transaction.
    files : mapping
        Path to what was known of it.
    short : collection of bytes
        Those that could not be read in whole now: what did not come again of them stays.
    since : int, optional
        First block of the new reading.

    Returns
    -------
    changed, less : sets of str
        Studies of which something was removed, and those among them that hold fewer instances now.
    """
    names = {_name(path) for path in files if path not in short}
    partly = {_name(path) for path in files if path in short}
    again = _sources(db, since) if partly else set()

    def goes(source: str) -> bool:
        return _of(source, names) or (source in again and _of(source, partly))

    gone: dict[str, set[str]] = {}
    for block_id in sorted({block for file in files.values() for block in file.blocks}):
        (data,) = db.execute("SELECT data FROM block WHERE id = ?", (block_id,)).fetchone()
        block = unpack_block(data)
        left = {row.sop_instance_uid for row in block.rows if goes(row.source)}
        if not left:
            continue
        gone.setdefault(block.study_instance_uid, set()).update(left)
        rest = _without(block, goes)
        if rest is None:
            db.execute("DELETE FROM block WHERE id = ?", (block_id,))
            db.execute("DELETE FROM file_block WHERE block_id = ?", (block_id,))
        else:
            db.execute(
                "UPDATE block SET rows = ?, data = ? WHERE id = ?",
                (len(rest.rows), pack_block(rest), block_id),
            )
    for path, (id_, blocks) in files.items():
        if path not in short:
            db.executemany(
                "DELETE FROM file_block WHERE file_id = ? AND block_id = ?",
                [(id_, block) for block in blocks],
            )
    return set(gone), {uid for uid, sops in gone.items() if _misses(db, uid, sops)}


def _blocks(db: Connection, where: str, value: str | int) -> Iterator[Block]:
    """Blocks one at a time, the latest first."""
    ids = db.execute(f"SELECT id FROM block WHERE {where} ORDER BY id DESC", (value,)).fetchall()  # noqa: S608
    for id_ in ids:
        yield unpack_block(db.execute("SELECT data FROM block WHERE id = ?", id_).fetchone()[0])


def _sources(db: Connection, since: int | None) -> set[str]:
    if since is None:
        return set()
    return {row.source for block in _blocks(db, "id >= ?", since) for row in block.rows}


def _misses(db: Connection, study_uid: str, sops: set[str]) -> bool:
    """Whether a study holds some instances no more: what was read anew stands in its latest blocks."""
    left = set(sops)
    for block in _blocks(db, "study_uid = ?", study_uid):
        left.difference_update(row.sop_instance_uid for row in block.rows)
        if not left:
            return False
    return True


def touch(db: Connection, study_uids: Iterable[str]) -> None:
    """Forget what was made of studies, since their instances changed."""
    keys = [(uid,) for uid in sorted(study_uids)]
    for table in ("converted", "contribution", "skipped"):
        db.executemany(f"DELETE FROM {table} WHERE study_uid = ?", keys)  # noqa: S608


def note_lost(db: Connection, study_uids: Iterable[str]) -> None:
    """Remember studies that hold less than they did, until ``--prune`` has replaced what stands of them."""
    db.executemany(
        "INSERT INTO meta VALUES (?, '') ON CONFLICT DO NOTHING",
        [(_LOST + uid,) for uid in sorted(study_uids)],
    )


def lost(db: Connection) -> list[str]:
    """Studies that `note_lost` noted, by UID."""
    rows = db.execute("SELECT key FROM meta WHERE key LIKE ? ORDER BY key", (_LOST + "%",))
    return [key.removeprefix(_LOST) for (key,) in rows]


def settle_lost(db: Connection, study_uids: Iterable[str]) -> None:
    """Forget that something was lost of studies."""
    db.executemany("DELETE FROM meta WHERE key = ?", [(_LOST + uid,) for uid in study_uids])


def _name(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


def _without(block: Block, goes: Callable[[str], bool]) -> Block | None:
    kept = [
        (row.sop_instance_uid, block.header(index), row.source, row.findings)
        for index, row in enumerate(block.rows)
        if not goes(row.source)
    ]
    if not kept:
        return None
    return pack(block.study_instance_uid, block.series_instance_uid, kept)


def _of(source: str, names: set[str]) -> bool:
    """Whether a source is one of the files, or a member of one: ``archive.zip!/member``."""
    if source in names:
        return True
    at = source.find("!/")
    while at >= 0:
        if source[:at] in names:
            return True
        at = source.find("!/", at + 1)
    return False
