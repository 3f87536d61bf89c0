"""The store gives back what it took, by study, whatever happened in between."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest

from converter.core.issues import Issue
from converter.core.study import assemble, pack, pack_block, unpack_block
from converter.errors import ConfigurationError, StoreError
from converter.store import (
    Companion,
    Converted,
    FileStamp,
    Outcome,
    PackedBlock,
    Part,
    SkippedRow,
    open_beside,
    open_database,
    open_kept,
    open_temporary,
    place_of,
)
from converter.store.place import PREFIX, sweep


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path, monkeypatch):
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


@pytest.fixture(params=["temporary", "kept", "server"])
def store(request, tmp_path):
    if request.param == "temporary":
        opened = open_temporary()
    elif request.param == "kept":
        opened = open_kept(tmp_path / "s.db")
    else:
        opened = open_kept(place_of(request.getfixturevalue("postgres").url()))
    opened.begin_run()
    yield opened
    opened.close()


@pytest.fixture(params=["file", "server"])
def place(request, tmp_path):
    """Where a state is kept: a file, or a schema of a PostgreSQL server."""
    if request.param == "file":
        return tmp_path
    return place_of(request.getfixturevalue("postgres").url())


@pytest.fixture
def kept(place):
    with open_kept_again(place) as opened:
        yield opened


class open_kept_again:  # noqa: N801
    def __init__(self, place):
        self.path = place / "state.db" if isinstance(place, Path) else place

    def __enter__(self):
        self.store = open_kept(self.path)
        self.store.begin_run()
        return self.store

    def __exit__(self, *_):
        self.store.close()


def block(study, sources, series=None):
    series = series or f"{study}.1"
    rows = [(f"{series}.{source}", {0x00200013: source.encode()}, source, []) for source in sources]
    files = tuple(os.fsencode(source.split("!/")[0]) for source in sources)
    packed = pack_block(pack(study, series, rows))
    return PackedBlock(study, series, len(rows), packed, tuple(sorted(set(files))))


def made(study, *, state="converted", contributions=(), duplicates=(), instances=1):
    return Converted(
        study, state, b'{"resourceType":"ImagingStudy"}', [Issue("warning", "x")], ["a"], 1,
        instances, list(contributions), list(duplicates),
    )  # fmt: skip


def sources(store, study):
    blocks = [unpack_block(data) for data in store.blocks([study])[0]]
    return sorted(row.source for item in blocks for row in item.rows)


def test_studies_come_sorted_with_all_their_blocks(store):
    for study in ("1.3", "1.2", "1.10"):
        store.add([Part([block(study, "ab"), block(study, "c", "9.9")])], "v")
    store.add([Part([block("1.2", "d")])], "v")
    assert list(store.studies()) == [("1.10", 3), ("1.2", 4), ("1.3", 3)]
    study = assemble("1.2", map(unpack_block, store.blocks(["1.2"])[0]))
    assert [series.uid for series in study.series] == ["1.2.1", "9.9"]
    assert sources(store, "1.2") == ["a", "b", "c", "d"]


def test_more_studies_than_a_page_come_each_once(store):
    uids = [f"1.{n}" for n in range(450)]
    store.add([Part([block(uid, "a") for uid in uids])], "v")
    seen = []
    for uid, _ in store.studies(unconverted=True):
        seen.append(uid)
        store.save([made(uid)])
    assert seen == sorted(uids)
    assert [item.study_uid for item in store.converted()] == sorted(uids)
    assert list(store.studies(unconverted=True)) == []


def test_series_of_several_studies_come_by_study(store):
    blocks = [block("1.1", ["a"]), block("1.1", ["b"]), block("1.2", ["c"], series="1.9")]
    store.add([Part(blocks)], "v")
    assert list(store.shared_series()) == []
    more = [block("1.3", ["d"], series="1.9"), block("1.2", ["e"], series="1.1.1")]
    store.add([Part(more)], "v")
    assert list(store.shared_series()) == [
        ("1.1", ["1.1.1"]),
        ("1.2", ["1.1.1", "1.9"]),
        ("1.3", ["1.9"]),
    ]


def test_instances_of_several_studies_come_by_study(store):
    def save(uid, *sops):
        store.save([msgspec.structs.replace(made(uid), sops=list(sops))])

    save("1.3", 5, -(2**63), 7)
    save("1.1", 1, 2)
    assert list(store.shared()) == []
    save("1.2", 2**63 - 1, 7, 1)
    save("1.4", 5, 2**63 - 1)
    assert list(store.shared()) == [
        ("1.1", {1}),
        ("1.2", {1, 7, 2**63 - 1}),
        ("1.3", {5, 7}),
        ("1.4", {5, 2**63 - 1}),
    ]


def test_nothing_of_a_task_stays_when_reading_it_breaks_off(store):
    def parts():
        yield Part([block("1.2", "a")])
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.add(parts(), "v")
    assert list(store.studies()) == []


def test_an_instance_that_comes_later_makes_its_study_unconverted(store):
    store.add([Part([block("1.2", "a"), block("1.3", "a")])], "v")
    store.save(
        [made("1.2", contributions=[("Patient", "p", b"{}")], duplicates=["d"]), made("1.3")]
    )
    store.add([Part([block("1.2", "b")])], "v")
    assert [uid for uid, _ in store.studies(unconverted=True)] == ["1.2"]
    assert list(store.contributions()) == []
    assert store.skipped_counts() == {}


def test_other_rules_make_every_study_unconverted(store):
    store.add([Part([block("1.2", "a")])], "v")
    store.begin_converting("rules 1")
    store.save([made("1.2")])
    store.begin_converting("rules 1")
    assert list(store.studies(unconverted=True)) == []
    store.begin_converting("rules 2")
    assert [uid for uid, _ in store.studies(unconverted=True)] == ["1.2"]


def test_contributions_come_by_resource_and_only_of_studies_that_are_published(store):
    patient = ("Patient", "p", b'{"a":1}')
    store.save(
        [
            made("1.1", contributions=[patient, ("Endpoint", "e", b"{}")]),
            made("1.2", contributions=[patient]),
            made("1.3", contributions=[patient], state="conflict"),
            made("1.4", contributions=[("Patient", "q", b"{}")]),
        ]
    )
    store.hold(["1.1"], "patient-mismatch")
    assert list(store.contributions()) == [
        ("Patient", "p", [("1.2", b'{"a":1}')]),
        ("Patient", "q", [("1.4", b"{}")]),
    ]
    assert list(store.contributions("Patient", least=2)) == []
    assert (store.held("1.1"), store.held("1.2")) == ("patient-mismatch", "")


def test_contributions_are_the_same_however_many_there_are_of_each(store):
    kinds = ("Device", "Patient")
    named = {kind: [f"{n:03d}" for n in range(230)] for kind in kinds}
    save = []
    for study in range(6):
        given = [
            (kind, id_, b'{"s":%d}' % study)
            for kind in kinds
            for n, id_ in enumerate(named[kind])
            if n % 40 == 0 or n % 6 == study
        ]
        save.append(made(f"1.{study}", contributions=given))
    store.save(save)
    found = list(store.contributions())
    assert [(kind, id_) for kind, id_, _ in found] == [(k, i) for k in kinds for i in named[k]]
    for kind, id_, contributions in found:
        assert contributions == store.contributions_to(kind, id_)
    assert [id_ for _, id_, _ in store.contributions("Patient", least=2)] == named["Patient"][::40]


def test_a_look_at_what_became_of_studies_may_break_off_after_the_store_is_closed():
    store = open_temporary()
    published = ("published", "", [], [], 1, 1)
    store.save_outcomes([Outcome("ImagingStudy", "s", f"1.{n}", *published) for n in range(3)])
    looking = store.outcomes()
    next(looking)
    store.close()
    looking.close()


def test_what_is_said_of_studies_comes_for_several_at_once(store):
    store.save([made("1.1"), made("1.2", state="conflict"), made("1.3", state="failed")])
    store.hold(["1.1"], "patient-mismatch")
    store.remark("1.3", [Issue("warning", "x")])
    assert store.said_of(["1.1", "1.2", "1.3"]) == (
        {"1.1": "patient-mismatch"},
        {"1.3": [Issue("warning", "x")]},
    )
    assert store.said_of(["1.2"]) == ({}, {})
    assert list(store.unmade()) == [("1.2", "conflict"), ("1.3", "failed")]


def test_companions_and_outcomes_come_back_sorted(store):
    store.save_companions([Companion("Patient", i, b'{"id":"%s"}' % i.encode(), []) for i in "ba"])
    assert [item.resource_id for item in store.companions()] == ["a", "b"]
    assert store.companion("Patient", "b") == {"id": "b"}
    assert store.companion("Patient", "c") is None
    store.save_outcomes(
        [
            Outcome("Patient", "p", "", "published", "", [], []),
            Outcome("ImagingStudy", "s", "1.2", "published", "", ["u"], [Issue("error", "x")]),
        ]
    )
    assert [item.resource_type for item in store.outcomes()] == ["ImagingStudy", "Patient"]


def test_totals_count_what_was_converted(store):
    store.save([made("1.1", instances=3), made("1.2", instances=4)])
    assert store.totals() == {"instances": 7, "series": 2, "studies": 2, "companions": 0}


def test_skipped_inputs_of_a_run_go_with_the_next_run(store):
    store.add(
        [Part([], [SkippedRow("b", "symbolic-link"), SkippedRow("a", "not-dicom", "d")])], "v"
    )
    assert list(store.skipped()) == [
        SkippedRow("a", "not-dicom", "d"),
        SkippedRow("b", "symbolic-link"),
    ]
    store.begin_run()
    assert list(store.skipped()) == []


# a kept state


def stamp(name, mtime_ns=1):
    return FileStamp(name.encode(), 10, mtime_ns)


def test_a_file_is_unchanged_by_path_size_time_and_version(place):
    with open_kept_again(place) as store:
        skipped = [SkippedRow("b", "not-dicom", "", b"b")]
        store.add([Part([block("1.2", "a")], skipped, [stamp("a"), stamp("b")])], "v1")
    with open_kept_again(place) as store:
        asked = [stamp("a"), stamp("b"), stamp("a", 2), stamp("c"), FileStamp(b"a", 11, 1)]
        assert store.unchanged(asked, "v1") == [True, True, False, False, False]
        assert store.unchanged([stamp("a")], "v2") == [False]
        assert sources(store, "1.2") == ["a"]
        assert store.skipped_counts() == {"not-dicom": 1}


def test_a_file_that_did_not_finish_is_read_again(kept):
    kept.add([Part([block("1.2", "a")])], "v")
    assert kept.unchanged([stamp("a"), FileStamp(b"a", -1, -1)], "v") == [False, False]


def test_a_changed_file_replaces_its_old_rows_and_no_others(kept):
    zipped = ["z.zip!/a!/x", "z.zip!/b"]
    kept.add(
        [Part([block("1.2", ["a", "b", *zipped])], (), [stamp(n) for n in ("a", "b", "z.zip")])],
        "v",
    )
    kept.save([made("1.2")])
    kept.add([Part([block("1.3", ["b"])], (), [stamp("b", 2)])], "v", fresh=[b"b"])
    assert sources(kept, "1.2") == ["a", *zipped]
    assert sources(kept, "1.3") == ["b"]
    assert list(kept.converted()) == []
    kept.add([Part([], (), [stamp("z.zip", 2)])], "v", fresh=[b"z.zip"])
    assert sources(kept, "1.2") == ["a"]
    kept.add([Part([], (), [stamp("a", 2)])], "v", fresh=[b"a"])
    assert list(kept.studies()) == [("1.3", 1)]


def test_prune_takes_what_the_run_did_not_see_and_remembers_it_until_it_is_written(place):
    with open_kept_again(place) as store:
        parts = [block("1.2", ["a", "b"]), block("1.3", ["c"])]
        store.add([Part(parts, (), [stamp(n) for n in "abc"])], "v")
    with open_kept_again(place) as store:
        store.unchanged([stamp("a")], "v")
        assert store.prune() == ["1.2", "1.3"]
        assert list(store.studies()) == [("1.2", 1)]
    with open_kept_again(place) as store:
        store.unchanged([stamp("a")], "v")
        assert store.prune() == ["1.2", "1.3"]
        store.settle()
        assert store.prune() == []


def test_a_state_file_is_private_and_one_run_holds_it(tmp_path):
    with open_kept_again(tmp_path) as store:
        store.add([Part([block("1.2", "a")])], "v")
        for path in tmp_path.glob("state.db*"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
        with pytest.raises(StoreError, match="Another run"):
            open_kept(tmp_path / "state.db")
    with open_kept_again(tmp_path) as store:
        assert list(store.studies()) == [("1.2", 1)]


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE mine (a)")
    other.close()
    with pytest.raises(StoreError, match="no dcm2fhir state"):
        open_kept(path)
    path.write_bytes(b"These are my notes, and no database. " * 50)
    with pytest.raises(StoreError, match=r"other\.db is damaged.*[Mm]ove it away"):
        open_kept(path)


def test_a_damaged_state_of_a_daemon_is_to_be_kept_since_nothing_reads_it_anew(tmp_path):
    path = tmp_path / "listen.db"
    path.write_bytes(b"These are my notes, and no database. " * 50)
    for role in ("", "daemon"):
        with pytest.raises(StoreError, match=r"listen\.db is damaged.*studies backup") as raised:
            open_database(path, role=role)
        assert "inputs" not in str(raised.value)
    with pytest.raises(StoreError, match=r"studies backup.*convert"):
        open_beside(path)


def test_a_state_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"gone/listen\.db failed \(SQLITE_CANTOPEN\)"):
        open_database(tmp_path / "gone" / "listen.db")


@pytest.mark.parametrize("text", ["mysql://x/y", "POSTGRESQL://x/y", "file:///x", "s3://b/c"])
def test_a_state_of_an_unknown_kind_is_no_file(text):
    with pytest.raises(ConfigurationError, match="is not known"):
        place_of(text)


def test_a_newer_schema_is_refused_politely(tmp_path):
    with open_kept_again(tmp_path):
        pass
    other = sqlite3.connect(tmp_path / "state.db")
    other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(StoreError, match=r"newer dcm2fhir.*schema 99"):
        open_kept(tmp_path / "state.db")


def test_a_damaged_state_says_how_to_go_on(tmp_path):
    with open_kept_again(tmp_path) as store:
        store.add([Part([block(f"1.{n}", "abc") for n in range(2000)])], "v")
    path = tmp_path / "state.db"
    data = bytearray(path.read_bytes())
    data[8192:-4096] = b"\xa5" * (len(data) - 12288)
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"damaged"), open_kept_again(tmp_path) as store:
        list(store.studies())


def test_a_full_disk_says_so_and_keeps_what_was_done(tmp_path):
    with open_kept_again(tmp_path) as store:
        store.add([Part([block("1.2", "a")])], "v")
        # SQLite's own page limit gives the same answer as a full disk.
        store._database.connection.execute("PRAGMA max_page_count = 1")
        many = [block(f"1.3.{n}", "abcdefgh") for n in range(2000)]
        with pytest.raises(StoreError, match=r"disk.*full.*same command again"):
            store.add([Part(many)], "v")
        assert list(store.studies()) == [("1.2", 1)]


def test_a_temporary_store_is_private_and_goes_at_the_end(tmp_path):
    store = open_temporary()
    (folder,) = (tmp_path / "tmp").glob(PREFIX + "*")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sweep() == 0  # it lives
    store.close()
    assert not folder.exists()


def test_what_a_dead_run_left_is_swept(tmp_path):
    code = (
        "import os, tempfile; tempfile.tempdir = os.environ['T']\n"
        "from converter.store import open_temporary\n"
        "open_temporary(); os.kill(os.getpid(), 9)"
    )
    folder = tmp_path / "tmp"
    environment = {**os.environ, "T": str(folder), "PYTHONPATH": str(Path.cwd())}
    subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert len(list(folder.iterdir())) == 1
    (folder / f"{PREFIX}stranger").mkdir()
    open_temporary().close()
    assert [path.name for path in folder.iterdir()] == [f"{PREFIX}stranger"]
    shutil.rmtree(folder)


def test_a_state_on_a_network_file_system_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("converter.store.place.lies_on", lambda _: "nfs4")
    with pytest.raises(StoreError, match=r"network file system \(nfs4\)"):
        open_kept(tmp_path / "s.db")
    assert not (tmp_path / "s.db").exists()
