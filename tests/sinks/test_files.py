from __future__ import annotations

import json
import os
import stat
import threading

import pytest

from converter.errors import SinkError, StandingError
from converter.sinks import FileSink, NullSink, open_sink
from converter.sinks.files import read_standing

STUDY = {"resourceType": "ImagingStudy", "id": "5f3c2b5e-3f8d-5a55-9b57-2a5d0a4d1c11"}
NAME = f"ImagingStudy/{STUDY['id']}.json"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def test_pretty_by_default_and_compact_on_request(out, tmp_path):
    with_indent, compact = FileSink(out), FileSink(tmp_path / "compact", pretty=False)
    assert with_indent.write(STUDY) == NAME
    compact.write(STUDY)
    assert with_indent.close() == ["ImagingStudy/"]
    compact.close()
    assert (out / NAME).read_text() == json.dumps(STUDY, indent=2) + "\n"
    assert (tmp_path / "compact" / NAME).read_text() == json.dumps(STUDY, separators=(",", ":")) + "\n"  # fmt: skip


def test_same_bytes_are_not_written_again(out):
    sink = FileSink(out)
    sink.write(STUDY)
    before = (out / NAME).stat()
    sink.write(STUDY)
    after = (out / NAME).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    sink.write({**STUDY, "status": "available"})
    assert (out / NAME).stat().st_ino != before.st_ino
    sink.close()


def test_stands_gives_what_an_earlier_run_wrote(out):
    sink = FileSink(out, durable=True)
    assert sink.stands("ImagingStudy", STUDY["id"]) is None
    sink.write(STUDY)
    sink.close()
    again = FileSink(out)
    assert again.stands("ImagingStudy", STUDY["id"]) == STUDY
    assert again.stands("Patient", STUDY["id"]) is None
    again.abort()
    assert NullSink(out).stands("ImagingStudy", STUDY["id"]) == STUDY
    assert NullSink().stands("ImagingStudy", STUDY["id"]) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"resourceType": "Patient"}', '"CANARY'])
def test_what_cannot_be_read_is_not_overwritten_and_not_shown(out, content):
    (out / "ImagingStudy").mkdir(parents=True)
    (out / NAME).write_text(content)
    with pytest.raises(SinkError, match="move it away") as caught:
        read_standing(out, "ImagingStudy", STUDY["id"])
    assert "CANARY" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_pipe_in_place_of_a_resource_is_waited_for_by_nobody(out):
    (out / "ImagingStudy").mkdir(parents=True)
    os.mkfifo(out / NAME)
    os.mkfifo(out / ".dcm2fhir.files")
    with pytest.raises(StandingError, match="move it away"):
        read_standing(out, "ImagingStudy", STUDY["id"])
    sink = open_sink(str(out), "ndjson")
    sink.write(STUDY)
    sink.close()
    assert (out / "ImagingStudy.000.ndjson").exists()


def test_a_reader_never_sees_half_a_file(out):
    sink = FileSink(out)
    versions = [{**STUDY, "description": letter * 200_000} for letter in "ab"]
    sink.write(versions[0])
    seen, stop = set(), threading.Event()

    def read():
        while not stop.is_set():
            seen.add(json.loads((out / NAME).read_bytes())["description"][:1])

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(60):
        sink.write(versions[number % 2])
    stop.set()
    reader.join()
    sink.close()
    assert seen <= {"a", "b"}


def test_output_that_is_a_file_is_named_as_such(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(SinkError, match="is a file"):
        FileSink(tmp_path / "out")


def test_symbolic_link_in_place_of_the_temporary_file_is_not_followed(out, tmp_path):
    (out / "ImagingStudy").mkdir(parents=True)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    sink = FileSink(out)
    (out / "ImagingStudy" / ".dcm2fhir.tmp").symlink_to(victim)
    sink.write(STUDY)
    sink.close()
    assert victim.read_text() == "mine"
    assert (out / NAME).exists()


@pytest.mark.parametrize("once", [False, True])
def test_what_stood_when_the_folder_was_opened_is_found_by_workers_as_well(out, once):
    first = FileSink(out, once=once)
    first.write(STUDY)
    first.close()
    again = FileSink(out, once=once)
    for id_, files in (("1", again), ("2", again.for_workers())):
        assert files.stands("ImagingStudy", STUDY["id"]) == STUDY
        assert files.stands("Patient", id_) is None
        files.write({"resourceType": "Patient", "id": id_})
        assert (out / "Patient" / f"{id_}.json").exists()
    again.close()


def test_a_folder_that_is_taken_away_meanwhile_is_made_again(out):
    sink = FileSink(out)
    sink.write(STUDY)
    (out / NAME).unlink()
    (out / NAME).parent.rmdir()
    sink.write(STUDY)
    assert json.loads((out / NAME).read_bytes()) == STUDY
    sink.close()


def test_foreign_files_in_the_folder_stay(out):
    (out / "ImagingStudy").mkdir(parents=True)
    (out / "notes.txt").write_text("mine")
    (out / "ImagingStudy" / "other.tmp").write_text("mine")
    sink = FileSink(out)
    sink.write(STUDY)
    sink.close()
    assert (out / "notes.txt").exists()
    assert (out / "ImagingStudy" / "other.tmp").exists()
    assert not list(out.glob(".dcm2fhir*"))


def test_folder_that_was_there_keeps_its_mode(out):
    out.mkdir(mode=0o750)
    out.chmod(0o750)
    FileSink(out).close()
    assert stat.S_IMODE(out.stat().st_mode) == 0o750


def test_dry_run_writes_nothing(out):
    sink = open_sink(str(out), dry_run=True)
    assert sink.write(STUDY) == NAME
    assert sink.close() == []
    sink.abort()
    assert not out.exists()


def test_lock_of_a_killed_run_holds_nobody_up(out):
    out.mkdir()
    (out / ".dcm2fhir.lock").write_text(f"{os.getpid()}\n")
    FileSink(out).close()


def test_error_names_the_study(out):
    sink = FileSink(out)
    (out / "ImagingStudy").write_text("in the way")
    uid = "1.2.840.99999.1"
    named = {**STUDY, "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}]}
    with pytest.raises(SinkError) as caught:
        sink.write(named)
    assert caught.value.study_uid == uid
    sink.abort()


@pytest.mark.parametrize("found", [b"{", b"[]", b'{"resourceType": "Patient"}'])
def test_what_stands_and_cannot_be_read_says_so_without_its_content(out, found):
    (out / "ImagingStudy").mkdir(parents=True)
    (out / "ImagingStudy" / f"{STUDY['id']}.json").write_bytes(found)
    with pytest.raises(StandingError, match=r"^The ImagingStudy that stands in .* move it away"):
        NullSink(out).stands("ImagingStudy", STUDY["id"])
