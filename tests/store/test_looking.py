"""A look at a state finds what is there, beside whoever uses it, and changes nothing."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from converter.errors import StoreAwayError, StoreError
from converter.store import open_database, open_kept, place_of
from converter.store.looking import look
from converter.store.place import Lock, held
from converter.store.schema import SCHEMA_VERSION


@pytest.fixture
def state(tmp_path):
    path = tmp_path / "state" / "s.db"
    path.parent.mkdir()
    open_kept(path).close()
    return path


def standing(folder):
    """Everything in a folder: bytes and times, but for SQLite's index of its log, which readers share."""
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.iterdir()
        if not path.name.endswith("-shm")
    }


def test_a_closed_state_stays_as_it_is(state):
    before = standing(state.parent)
    with closing((sight := look(state)).database):
        assert (sight.version, sight.current, sight.damage(5)) == (SCHEMA_VERSION, True, False)
    assert standing(state.parent) == before
    assert not (state.parent / "s.db-shm").exists()


def test_beside_somebody_who_writes(state):
    with closing(open_kept(state)) as store:
        store.outbox.configure("main", "{}")
        before = standing(state.parent)
        with closing((sight := look(state)).database):
            assert sight.database.rows("SELECT name FROM destination") == [("main",)]
            assert sight.damage(5) is False
        assert standing(state.parent) == before


def test_what_a_killed_process_left_is_seen_and_left(state):
    code = (
        "import os, sys; from pathlib import Path; from converter.store import open_kept\n"
        "open_kept(Path(sys.argv[1])).outbox.configure('main', '{}'); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(state)], check=True)
    assert (state.parent / "s.db-wal").stat().st_size
    before = standing(state.parent)
    with closing((sight := look(state)).database):
        assert sight.database.rows("SELECT name FROM destination") == [("main",)]
    assert standing(state.parent) == before


def test_an_older_state_is_not_brought_to_a_newer_version(state):
    from converter.store.database import APPLICATION_ID
    from converter.store.schema import SCHEMA

    state.unlink()
    with closing(sqlite3.connect(state)) as made:
        made.executescript(f"{SCHEMA} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1")  # fmt: skip
    with closing((sight := look(state)).database):
        assert (sight.version, sight.current) == (1, False)
    with closing((sight := look(state)).database):
        assert sight.version == 1


def test_nothing_can_be_written(state):
    with closing((sight := look(state)).database), pytest.raises(StoreError):
        sight.database.prepare(["CREATE TABLE x (y)"])


def test_a_file_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(StoreError):
        look(tmp_path / "none.db")
    assert not list(tmp_path.iterdir())


def test_damage_is_found(state):
    with closing(open_kept(state)) as store:
        for number in range(500):
            store.outbox.configure(f"destination {number}", "{}" * 50)
    data = bytearray(state.read_bytes())
    data[-4096:] = b"\xff" * 4096
    state.write_bytes(data)
    with closing((sight := look(state)).database):
        assert sight.damage(5)


def test_a_look_through_a_large_file_has_an_end(state):
    with closing(open_database(state)) as database, database.transaction() as db:
        rows = [(f"destination {number}",) for number in range(50_000)]
        db.executemany("INSERT INTO destination (name) VALUES (?)", rows)
    with closing((sight := look(state)).database):
        assert sight.damage(0) is None
        assert sight.damage(60) is False


def test_what_is_no_state_is_refused(state, tmp_path):
    shutil.copy(__file__, tmp_path / "no.db")
    with pytest.raises(StoreError, match=r"damaged\. Look"):
        look(tmp_path / "no.db", damaged="Look")


def test_a_lock_is_seen_without_making_one(tmp_path):
    path = tmp_path / "x.lock"
    assert not held(path)
    assert not path.exists()
    lock = Lock(path)
    assert not held(path)
    lock.take()
    assert held(path)
    lock.close()
    assert not held(path)


def test_a_schema_that_is_not_there_is_not_made(postgres):
    place = place_of(postgres.url())
    for _ in range(2):
        with closing((sight := look(place)).database):
            assert (sight.version, sight.server.may_create) == (0, True)
            assert sight.server.release[0].isdigit()


def test_a_schema_is_looked_at_beside_its_users(postgres):
    url = postgres.url()
    daemon = open_database(place_of(url), role="daemon")
    with closing(daemon), closing((sight := look(place_of(url))).database):
        seen = (sight.version, sight.server.daemons, sight.server.runs)
        assert seen == (SCHEMA_VERSION, 1, 0)
        assert sight.damage(1) is False
        with pytest.raises(StoreError):
            sight.database.prepare(["CREATE TABLE IF NOT EXISTS x (y INTEGER)"])


def test_a_server_that_is_away_is_told_as_such(postgres):
    with pytest.raises(StoreAwayError):
        look(place_of("postgresql://x@127.0.0.1:1/x"))
