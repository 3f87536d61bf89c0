"""What a PostgreSQL server must keep, how it is named, what is said when it is away, and runs beside each other on it."""

from __future__ import annotations

import builtins
import threading

import psycopg
import pytest

from converter.core.study import pack, pack_block
from converter.errors import ConfigurationError, StoreAwayError, StoreError
from converter.store import (
    Converted,
    FileStamp,
    PackedBlock,
    Part,
    SkippedRow,
    open_beside,
    open_database,
    open_kept,
    place_of,
)
from tests.servers.postgres import PASSWORD, USER, server

CANARY = "CANARYFAMILY"


def block(study, sop, source):
    packed = pack_block(pack(study, f"{study}.1", [(sop, {0x00200013: b"1"}, source, [])]))
    return PackedBlock(study, f"{study}.1", 1, packed, (source.encode(),))


def part(study, sop, source):
    return Part([block(study, sop, source)], (), [FileStamp(source.encode(), 1, 1)])


def made(study, *contributions):
    return Converted(study, "converted", b"{}", [], [], 1, 1, list(contributions), [])


@pytest.fixture
def url(postgres):
    return postgres.url()


@pytest.fixture
def runs(url):
    """Stores of runs beside each other."""
    opened = []

    def begin():
        opened.append(open_kept(place_of(url)))
        opened[-1].begin_run()
        return opened[-1]

    yield begin
    for store in opened:
        store.close()


def psql(postgres, sql):
    with psycopg.connect(postgres.url("public"), autocommit=True) as raw:
        return raw.execute(sql)


# naming it


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me:secret@db/x",
        "postgres://me@db/x?password=secret",
        "postgresql://db/x?user=me&passfile=/secret",
    ],
)
def test_a_password_in_the_url_is_refused_and_not_repeated(text):
    with pytest.raises(ConfigurationError, match="PGPASSFILE") as raised:
        place_of(text)
    assert "secret" not in str(raised.value)


def test_the_password_comes_from_the_environment_or_a_file(postgres, monkeypatch, tmp_path):
    place = place_of(postgres.url(tcp=True))
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    for words, given in (("no password supplied", None), ("authentication failed", "wrong")):
        if given:
            monkeypatch.setenv("PGPASSWORD", given)
        with pytest.raises(StoreError, match=words) as raised:
            open_database(place)
        assert not isinstance(raised.value, StoreAwayError), "no waiting mends it"
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    open_database(place).close()
    (tmp_path / "file").write_text(f"{PASSWORD}\n")
    monkeypatch.setenv("PGPASSWORD", "wrong")
    monkeypatch.setenv("PGPASSWORD_FILE", str(tmp_path / "file"))
    open_database(place).close()
    monkeypatch.setenv("PGPASSWORD_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="PGPASSWORD_FILE: cannot read"):
        open_database(place)


def test_without_the_driver_it_says_what_to_install(monkeypatch, url):
    real = builtins.__import__

    def without(name, *rest):
        if name == "psycopg":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigurationError, match=r"pip install '\.\[postgres\]'$"):
        open_database(place_of(url))


def test_a_server_that_is_not_there_is_away():
    with pytest.raises(StoreAwayError, match=r"cannot be reached: .*port 1"):
        open_database(place_of("postgresql://me@127.0.0.1:1/none"))
    patient = open_database(place_of("postgresql://me@127.0.0.1:1/none"), patient=True)
    with pytest.raises(StoreAwayError), patient.transaction():
        pass
    patient.close()


# what it insists on


@pytest.mark.parametrize("setting", ["off", "local", "remote_write"])
def test_a_commit_is_on_the_disk_whatever_the_server_is_set_to(postgres, setting):
    psql(postgres, f"ALTER ROLE {USER} SET synchronous_commit = {setting}")
    try:
        database = open_database(place_of(postgres.url()))
        assert database.rows("SHOW synchronous_commit") == [("on",)]
        database.close()
    finally:
        psql(postgres, f"ALTER ROLE {USER} RESET synchronous_commit")


def test_a_server_that_does_not_sync_is_refused(monkeypatch, url):
    from converter.store import session

    real = session._show
    monkeypatch.setattr(
        session, "_show", lambda raw, name: "off" if name == "fsync" else real(raw, name)
    )
    with pytest.raises(StoreError, match="fsync = off"):
        open_database(place_of(url))


def test_a_database_that_is_not_in_utf8_is_refused(postgres, url):
    psql(
        postgres,
        "CREATE DATABASE bytes ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
    )
    with pytest.raises(StoreError, match="not in UTF-8"):
        open_database(place_of(url.replace("/postgres?", "/bytes?")))


def test_a_schema_of_something_else_and_a_newer_one_are_refused(postgres):
    psql(postgres, "CREATE SCHEMA theirs")
    psql(postgres, "CREATE TABLE theirs.meta (key TEXT, value TEXT)")
    with pytest.raises(StoreError, match="schema theirs of that database is no dcm2fhir state"):
        open_database(place_of(postgres.url("theirs")))
    open_database(place_of(postgres.url("later"))).close()
    psql(postgres, "UPDATE later.meta SET value = '99' WHERE key = 'dcm2fhir schema'")
    with pytest.raises(StoreError, match="newer dcm2fhir made this state"):
        open_database(place_of(postgres.url("later")))


def test_many_may_make_the_tables_at_once(url):
    faults = []

    def open_it():
        try:
            open_database(place_of(url)).close()
        except StoreError as error:
            faults.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def test_text_is_ordered_by_code_points(url):
    database = open_database(place_of(url))
    with database.transaction() as db:
        db.executemany("INSERT INTO held VALUES (?, '')", [("a",), ("B",), ("é",), ("1.10",)])
    rows = database.rows("SELECT study_uid FROM held ORDER BY study_uid")
    assert [row[0] for row in rows] == ["1.10", "B", "a", "é"]
    database.close()


@pytest.mark.parametrize(
    ("sql", "given"),
    [
        ("INSERT INTO held SELECT ?, '' FROM generate_series(1, 2)", (CANARY,)),
        ("SELECT CAST(? AS BIGINT)", (CANARY,)),
        ("INSERT INTO held VALUES (?, '')", (CANARY + "\0",)),
    ],
)
def test_errors_say_nothing_that_the_server_said(url, sql, given):
    database = open_database(place_of(url))
    with pytest.raises(StoreError) as raised:
        database.rows(sql, given)
    assert CANARY not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__
    database.close()


def test_a_lost_connection_is_made_anew(postgres, url):
    database = open_database(place_of(url))
    ((pid,),) = database.rows("SELECT pg_backend_pid()")
    psql(postgres, f"SELECT pg_terminate_backend({pid})")
    with pytest.raises(StoreAwayError):
        database.rows("SELECT 1")
    assert database.rows("SELECT 1") == [(1,)]
    assert database.rows("SELECT count(*) FROM held") == [(0,)], "in its schema"
    database.close()


# runs beside each other


@pytest.mark.parametrize("patient", [True, False])
def test_a_server_that_goes_while_tables_are_made_is_waited_for_by_the_patient(
    postgres, url, patient
):
    database = open_database(place_of(url), patient=patient)
    pid = database.connection.execute("SELECT pg_backend_pid()").fetchone()[0]
    psql(postgres, f"SELECT pg_terminate_backend({pid})")
    table = ("CREATE TABLE IF NOT EXISTS made_late (key INTEGER PRIMARY KEY)",)
    if not patient:
        with pytest.raises(StoreAwayError):
            database.prepare(table)
    else:
        database.prepare(table)
        with database.transaction() as db:
            assert db.execute("SELECT count(*) FROM made_late").fetchone()[0] == 0
    database.close()


def test_runs_share_what_was_read_and_each_tells_of_its_own(runs):
    first, second = runs(), runs()
    assert (first.run, second.run) == (1, 2)
    first.add([part("1.2", "1.2.1.1", "a")], "v", fresh=[b"a"])
    second.add([part("1.3", "1.3.1.1", "b")], "v", fresh=[b"b"])
    first.add([Part([], [SkippedRow("x", "not-dicom")])], "v")
    for store in (first, second):
        store.narrow()
        store.begin_converting("rules")
    assert [uid for uid, _ in first.studies(unconverted=True)] == ["1.2"]
    assert [uid for uid, _ in second.studies(unconverted=True)] == ["1.3"]
    first.save([made("1.2")])
    second.save([made("1.3")])
    assert [item.study_uid for item in first.converted()] == ["1.2"]
    assert (first.skipped_counts(), second.skipped_counts()) == ({"not-dicom": 1}, {})
    first.outbox.enqueue(["d"], 1.0, first.outbox.seen(first.run))
    second.outbox.enqueue(["d"], 1.0, second.outbox.seen(second.run))
    assert second.outbox.counts() == [("d", "due", 2)]


def test_a_conversion_that_another_run_made_stale_is_not_saved(runs):
    first, second = runs(), runs()
    first.add([part("1.2", "1.2.1.1", "a")], "v", fresh=[b"a"])
    first.narrow()
    first.begin_converting("rules")
    first.blocks(["1.2"])
    second.add([part("1.2", "1.2.1.2", "b")], "v", fresh=[b"b"])
    first.save([made("1.2")])
    second.narrow()
    second.begin_converting("rules")
    assert list(second.studies(unconverted=True)) == [("1.2", 2)]
    second.blocks(["1.2"])
    second.save([made("1.2")])
    assert list(second.studies(unconverted=True)) == []


def test_two_runs_over_one_file_keep_its_rows_once(runs):
    first, second = runs(), runs()
    inside, go_on = threading.Event(), threading.Event()

    def parts():
        yield part("1.2", "1.2.1.1", "a")
        inside.set()
        assert go_on.wait(30)

    thread = threading.Thread(target=first.add, args=(parts(), "v"), kwargs={"fresh": [b"a"]})
    thread.start()
    assert inside.wait(30)
    other = threading.Thread(
        target=second.add, args=([part("1.2", "1.2.1.1", "a")], "v"), kwargs={"fresh": [b"a"]}
    )
    other.start()
    go_on.set()
    thread.join(30)
    other.join(30)
    assert len(first.blocks(["1.2"])[0]) == 1


def test_runs_with_other_rules_do_not_go_beside_each_other(runs):
    first, second = runs(), runs()
    first.begin_converting("rules 1")
    with pytest.raises(StoreError, match="Another run uses this database with other profiles"):
        second.begin_converting("rules 2")
    first.close()
    third = runs()
    second.close()
    third.begin_converting("rules 2")


def test_pruning_waits_for_other_runs(runs):
    first, second = runs(), runs()
    with pytest.raises(StoreError, match="--prune"):
        first.prune()
    second.close()
    assert first.prune() == []


def test_a_daemon_and_a_run_keep_out_of_each_others_way(url, runs):
    daemon = open_database(place_of(url), role="daemon")
    with pytest.raises(StoreError, match=r"A daemon .* uses the schema"):
        runs()
    beside = open_database(place_of(url), role="daemon")
    open_beside(place_of(url)).close()
    daemon.close()
    beside.close()
    run = runs()
    with pytest.raises(StoreError, match="A run of convert uses the schema"):
        open_database(place_of(url), role="daemon")
    run.outbox.reclaim()


def test_leases_of_others_are_not_taken_back(runs):
    first, second = runs(), runs()
    first.save([made("1.2")])
    first.outbox.enqueue(["d"], 0.0, ["1.2"])
    assert len(first.outbox.claim("d", 1, 1.0, 100.0)) == 1
    second.outbox.reclaim()
    assert second.outbox.claim("d", 1, 1.0, 100.0) == []
    assert len(second.outbox.claim("d", 1, 101.0, 200.0)) == 1


def test_a_run_that_loses_its_server_says_so(postgres, runs):
    store = runs()
    ((pid,),) = store._database.rows("SELECT pg_backend_pid()")
    psql(postgres, f"SELECT pg_terminate_backend({pid})")
    for _ in range(2):  # it does not go on without what its connection held
        with pytest.raises(StoreAwayError, match="What was done is kept"):
            store.begin_run()


def test_a_server_that_comes_back_takes_up_where_it_was():
    database = server()
    try:
        store = open_beside(place_of(database.url("mine")))
        store.outbox.configure("d", "x")
        database.stop()
        with pytest.raises(StoreAwayError):
            store.outbox.configure("d", "y")
        database.start()
        assert store.outbox.settings("d") == "x"
        store.outbox.configure("d", "z")
        store.close()
    finally:
        database.close()


def test_one_at_a_time_makes_what_spans_studies(url):
    first, second = (open_database(place_of(url)) for _ in range(2))
    order = []

    def other():
        with second.alone():
            order.append("second")

    with first.alone():
        assert first.rows("SHOW idle_session_timeout") == [("2min",)]
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.3)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]
    assert first.rows("SHOW idle_session_timeout") == [("0",)]
    first.close()
    second.close()
