"""What a kept state knows of files: forget what an earlier reading of some of them gave."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converter.core.study import Block, pack, pack_block, unpack_block

if TYPE_CHECKING:
    from collections.abc import Iterable

    from converter.store.database import Connection

__all__ = ["forget", "touch"]


def forget(db: Connection, paths: Iterable[bytes]) -> set[str]:
    """Remove the rows of some files, within the caller's transaction.

    A block that other files have instances in as well is packed anew without them.

    Returns
    -------
    set of str
        Studies that lost instances.
    """
    changed: set[str] = set()
    names: set[str] = set()
    blocks: set[int] = set()
    for path in paths:
        row = db.execute("SELECT id FROM file WHERE path = ?", (path,)).fetchone()
        if row is None:
            continue
        names.add(path.decode("utf-8", "backslashreplace"))
        blocks.update(
            block
            for (block,) in db.execute("SELECT block_id FROM file_block WHERE file_id = ?", row)
        )
        for table in ("file_block", "skipped"):
            db.execute(f"DELETE FROM {table} WHERE file_id = ?", row)  # noqa: S608
        db.execute("DELETE FROM file WHERE id = ?", row)
    for block_id in sorted(blocks):
        (data,) = db.execute("SELECT data FROM block WHERE id = ?", (block_id,)).fetchone()
        block = unpack_block(data)
        changed.add(block.study_instance_uid)
        rest = _without(block, names)
        if rest is None:
            db.execute("DELETE FROM block WHERE id = ?", (block_id,))
            db.execute("DELETE FROM file_block WHERE block_id = ?", (block_id,))
        else:
            db.execute(
                "UPDATE block SET rows = ?, data = ? WHERE id = ?",
                (len(rest.rows), pack_block(rest), block_id),
            )
    return changed


def touch(db: Connection, study_uids: Iterable[str]) -> None:
    """Forget what was made of studies, since their instances changed."""
    keys = [(uid,) for uid in sorted(study_uids)]
    for table in ("converted", "contribution", "skipped"):
        db.executemany(f"DELETE FROM {table} WHERE study_uid = ?", keys)  # noqa: S608


def _without(block: Block, names: set[str]) -> Block | None:
    kept = [
        (row.sop_instance_uid, block.header(index), row.source, row.findings)
        for index, row in enumerate(block.rows)
        if not _of(row.source, names)
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
