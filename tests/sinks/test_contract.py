"""What every sink promises, held against each of them."""

from __future__ import annotations

import json
import os
import resource as limits
import stat
from contextlib import contextmanager

import pytest

from converter.core.ids import patient_id, study_id
from converter.errors import SinkError
from converter.sinks import Sink, open_sink

NAME = "CANARY^NAME"


def patient(number="7"):
    return {
        "resourceType": "Patient",
        "id": patient_id("urn:oid:1.2.3.4", number, ""),
        "identifier": [{"system": "urn:oid:1.2.3.4", "value": number}],
        "name": [{"family": NAME}],
    }


def study(number=1, **more):
    uid = f"1.2.840.99999.{number}"
    return {
        "resourceType": "ImagingStudy",
        "id": study_id(uid),
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}],
        "status": "available",
        "subject": {"reference": f"Patient/{patient()['id']}"},
        **more,
    }


KINDS = {
    "json": ("out", {"output_format": "json"}),
    "ndjson": ("out", {"output_format": "ndjson"}),
    "ndjson-file": ("out.ndjson", {"output_format": "ndjson"}),
    "bundle": ("out", {"output_format": "bundle"}),
    "bundle-file": ("out.json", {"output_format": "bundle"}),
}
every = pytest.mark.parametrize("kind", KINDS)


def opened(kind, folder):
    name, options = KINDS[kind]
    return open_sink(str(folder / name), **options)


def resources_in(folder):
    """All resources that stand, whatever the shape, with Bundles unpacked."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix in {".json", ".ndjson"} and path.name != "manifest.json":
            text = path.read_text()
            for document in text.splitlines() if path.suffix == ".ndjson" else [text]:
                held = json.loads(document)
                entries = held.get("entry", []) if held["resourceType"] == "Bundle" else [{"resource": held}]  # fmt: skip
                found += [entry["resource"] for entry in entries]
    return sorted((r["resourceType"], r["id"]) for r in found)


def contents(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def keys(*resources):
    return sorted((r["resourceType"], r["id"]) for r in resources)


def write_all(sink, resources):
    for made in resources:
        sink.write(made)
    sink.close()


def leftovers(folder):
    return [p.name for p in folder.rglob("*") if p.name.endswith((".tmp", ".lock"))]


@contextmanager
def file_size_limit(size):
    before = limits.getrlimit(limits.RLIMIT_FSIZE)
    limits.setrlimit(limits.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        limits.setrlimit(limits.RLIMIT_FSIZE, before)


@every
def test_it_is_a_sink(kind, tmp_path):
    sink = opened(kind, tmp_path)
    assert isinstance(sink, Sink)
    sink.abort()


@every
def test_all_that_was_written_stands_after_close(kind, tmp_path):
    sink = opened(kind, tmp_path)
    places = [sink.write(r) for r in (study(1), study(2), patient())]
    written = sink.close()
    assert all(places)
    assert written
    assert resources_in(tmp_path) == keys(study(1), study(2), patient())
    assert not leftovers(tmp_path)


@every
def test_nothing_written_is_no_error(kind, tmp_path):
    opened(kind, tmp_path).close()
    assert resources_in(tmp_path) == []


@every
def test_same_input_same_bytes(kind, tmp_path):
    seen = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        sink = opened(kind, tmp_path / name)
        for made in (study(1), patient()):
            sink.write(made)
        sink.close()
        seen.append(contents(tmp_path / name))
    assert seen[0] == seen[1]


@every
def test_outputs_are_private(kind, tmp_path):
    sink = opened(kind, tmp_path / "new")
    sink.write(study())
    sink.close()
    for path in (tmp_path / "new").rglob("*"):
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path.name
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


@every
def test_abort_leaves_nothing_half_written(kind, tmp_path):
    sink = opened(kind, tmp_path)
    sink.write(study(1))
    sink.write(patient())
    sink.abort()
    sink.abort()
    assert not leftovers(tmp_path)
    assert all(json.loads(data) for data in contents(tmp_path).values())


@every
def test_abort_after_close_does_nothing(kind, tmp_path):
    sink = opened(kind, tmp_path)
    sink.write(study(1))
    sink.close()
    other = opened(kind, tmp_path)
    other.write(study(2))
    sink.abort()
    other.close()
    assert keys(study(2))[0] in resources_in(tmp_path)


@every
def test_second_run_on_one_output_is_refused_and_names_the_process(kind, tmp_path):
    sink = opened(kind, tmp_path)
    with pytest.raises(SinkError, match=f"process {os.getpid()}"):
        opened(kind, tmp_path)
    sink.write(study())
    sink.close()
    opened(kind, tmp_path).close()


@every
def test_leftovers_of_a_killed_run_are_swept(kind, tmp_path):
    pid = os.fork()
    if pid == 0:
        sink = opened(kind, tmp_path)
        sink.write(study(9, description="x" * 100_000))
        if kind == "json":  # killed in the middle of the next file
            (tmp_path / "out" / "ImagingStudy" / ".dcm2fhir.tmp").write_bytes(b"{")
        os._exit(9)  # as a kill does: nothing is tidied up
    os.waitpid(pid, 0)
    sink = opened(kind, tmp_path)
    sink.write(study(1))
    sink.close()
    assert not leftovers(tmp_path)


@every
def test_full_disk_says_what_to_do_and_leaves_what_stood(kind, tmp_path):
    sink = opened(kind, tmp_path)
    sink.write(study(1))
    sink.write(patient())
    sink.close()
    before = contents(tmp_path)
    sink = opened(kind, tmp_path)
    large = [study(number, description="x" * 20_000) for number in range(1, 40)]
    with file_size_limit(8192), pytest.raises(SinkError, match="free some") as caught:
        write_all(sink, large)
    sink.abort()
    after = contents(tmp_path)
    assert {name: after[name] for name in before} == before
    assert not leftovers(tmp_path)
    assert "Patient/" not in str(caught.value)
    opened(kind, tmp_path).close()


@every
@pytest.mark.parametrize(
    "resource_id", ["../../evil", "/etc/x", "", "a/b", "x" * 65, "a\0b", "a b", "..\\x"]
)
def test_id_that_is_no_fhir_id_never_becomes_a_path(kind, tmp_path, resource_id):
    (tmp_path / "base").mkdir()
    sink = opened(kind, tmp_path / "base")
    with pytest.raises(SinkError):
        sink.write({**study(), "id": resource_id})
    with pytest.raises(SinkError):
        sink.write({**study(), "resourceType": "../evil"})
    sink.abort()
    assert {p.name for p in tmp_path.iterdir()} == {"base"}


@every
def test_output_below_a_file_is_refused(kind, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SinkError):
        opened(kind, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


@every
def test_no_error_shows_a_patient(kind, tmp_path):
    sink = opened(kind, tmp_path)
    with file_size_limit(10), pytest.raises(SinkError) as caught:
        write_all(sink, [{**patient(), "text": {"div": "x" * 1000}}] * 200)
    sink.abort()
    assert NAME not in str(caught.value)
    assert NAME not in repr(caught.value)
