"""NDJSON and Bundles: folders, single files, standard output, devices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from converter.core.ids import patient_id, study_id
from converter.errors import ConfigurationError
from converter.sinks import open_sink

ROOT = Path(__file__).parents[2]


def patient(number="7"):
    return {"resourceType": "Patient", "id": patient_id("urn:oid:1.2.3.4", number, "")}


def study(number, who="7"):
    return {
        "resourceType": "ImagingStudy",
        "id": study_id(f"1.2.840.99999.{number}"),
        "subject": {"reference": f"Patient/{patient(who)['id']}"},
    }


def run(sink, *resources):
    for made in resources:
        sink.write(made)
    return sink.close()


def names(folder):
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))


def test_ndjson_is_one_file_a_type_with_a_manifest(tmp_path):
    written = run(open_sink(str(tmp_path), "ndjson"), study(1), patient(), study(2))  # fmt: skip
    assert written == ["ImagingStudy.000.ndjson", "Patient.000.ndjson", "manifest.json"]
    assert names(tmp_path) == written
    lines = (tmp_path / "ImagingStudy.000.ndjson").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [study(1), study(2)]
    assert json.loads((tmp_path / "manifest.json").read_text()) == {
        "requiresAccessToken": False,
        "output": [
            {"type": "ImagingStudy", "url": "ImagingStudy.000.ndjson", "count": 2},
            {"type": "Patient", "url": "Patient.000.ndjson", "count": 1},
        ],
        "error": [],
    }


def test_ndjson_goes_on_in_the_next_file_and_never_cuts_a_resource(tmp_path):
    size = len(json.dumps(study(1), separators=(",", ":"))) + 1
    run(open_sink(str(tmp_path), "ndjson", max_file_size=2 * size), *(study(n) for n in range(5)))
    parts = sorted(tmp_path.glob("*.ndjson"))
    assert [len(p.read_text().splitlines()) for p in parts] == [2, 2, 1]
    small = tmp_path / "small"
    run(open_sink(str(small), "ndjson", max_file_size=1), study(1), study(2))
    assert len(list(small.glob("*.ndjson"))) == 2


@pytest.mark.parametrize(("kind", "options"), [("ndjson", {"max_file_size": 1}), ("bundle", {"max_bundle_entries": 2})])  # fmt: skip
def test_a_smaller_run_leaves_nothing_of_a_larger_one_but_what_is_not_ours(tmp_path, kind, options):
    run(open_sink(str(tmp_path), kind, **options), *(study(n) for n in range(4)), patient())
    larger = names(tmp_path)
    (tmp_path / "ImagingStudy.900.ndjson").write_text("mine")
    run(open_sink(str(tmp_path), kind, **options), study(1), patient())
    left = names(tmp_path)
    assert len(left) < len(larger)
    assert "ImagingStudy.900.ndjson" in left


@pytest.mark.parametrize("kind", ["ndjson", "bundle"])
def test_an_earlier_run_stands_until_close(tmp_path, kind):
    run(open_sink(str(tmp_path), kind), study(1))
    before = {n: (tmp_path / n).read_bytes() for n in names(tmp_path)}
    sink = open_sink(str(tmp_path), kind)
    sink.write(study(2))
    assert {n: (tmp_path / n).read_bytes() for n in names(tmp_path)} == before
    sink.abort()
    assert {n: (tmp_path / n).read_bytes() for n in names(tmp_path)} == before


def test_record_of_files_cannot_make_us_remove_others(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "victim").write_text("mine")
    (out / ".dcm2fhir.files").write_text(json.dumps(["../victim", str(tmp_path / "victim"), 7, ""]))
    run(open_sink(str(out), "ndjson"), study(1))
    assert (tmp_path / "victim").exists()
    for no_list in ("5", '{"a": 1}', "null", "\\"):
        (out / ".dcm2fhir.files").write_text(no_list)
        run(open_sink(str(out), "ndjson"), study(1))


def test_bundles_never_tear_a_study_from_its_patient(tmp_path):
    run(
        open_sink(str(tmp_path), "bundle", max_bundle_entries=3),
        *(study(n, "7" if n % 2 else "8") for n in range(6)),
        patient("7"),
        patient("8"),
    )
    bundles = [json.loads((tmp_path / name).read_text()) for name in names(tmp_path)]
    assert len({b["id"] for b in bundles}) == len(bundles) > 1
    studies = []
    for bundle in bundles:
        assert bundle["type"] == "transaction"
        assert len(bundle["entry"]) <= 3
        urls = {e["fullUrl"] for e in bundle["entry"]}
        for entry in bundle["entry"]:
            if entry["resource"]["resourceType"] == "ImagingStudy":
                studies.append(entry["resource"]["id"])
                assert entry["resource"]["subject"]["reference"] in urls
    assert sorted(studies) == sorted(study(n)["id"] for n in range(6))


def test_bundle_file_is_the_bundle_of_the_core(tmp_path):
    from converter.core.bundle import bundle

    path = tmp_path / "all.json"
    run(open_sink(str(path), "bundle", bundle_type="collection"), study(2), patient(), study(1))
    assert json.loads(path.read_text()) == bundle([patient(), study(1), study(2)], "collection")
    run(open_sink(str(path), "bundle"))
    assert json.loads(path.read_text()) == bundle([])


def test_one_file_holds_one_bundle_of_all(tmp_path):
    path = tmp_path / "all.json"
    run(open_sink(str(path), "bundle"), *(study(n) for n in range(300)))
    assert len(json.loads(path.read_text())["entry"]) == 300


def test_a_folder_of_bundles_has_a_limit_unless_told(tmp_path):
    run(open_sink(str(tmp_path), "bundle"), *(study(n) for n in range(101)))
    bundles = [json.loads((tmp_path / name).read_text()) for name in names(tmp_path)]
    assert [len(one["entry"]) for one in bundles] == [100, 1]


@pytest.mark.parametrize("output", ["all.json", "/dev/null"])
def test_one_file_cannot_have_a_limit_of_entries(tmp_path, output):
    with pytest.raises(ConfigurationError, match="needs a folder"):
        open_sink(str(tmp_path / output), "bundle", max_bundle_entries=1)
    assert names(tmp_path) == []


def test_the_same_resources_give_the_same_ndjson_folder(tmp_path):
    held = []
    for name in ("a", "b"):
        run(open_sink(str(tmp_path / name), "ndjson"), study(1), patient())
        held.append({n: (tmp_path / name / n).read_bytes() for n in names(tmp_path / name)})
    assert held[0] == held[1]


def test_one_ndjson_file_cannot_be_rotated(tmp_path):
    with pytest.raises(ConfigurationError, match="needs a folder"):
        open_sink(str(tmp_path / "all.ndjson"), "ndjson", max_file_size=1)
    assert names(tmp_path) == []


def in_process(code, stdout):
    program = (
        f"from converter.sinks import open_sink\nfrom converter.errors import SinkError\n{code}"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        stdout=stdout,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        check=False,
    )


WRITE = """
sink = open_sink("-", {kind!r}, **{options!r})
try:
    for n in range({count}):
        sink.write({{"resourceType": "Patient", "id": f"p{{n}}"}})
    sink.close()
except SinkError as error:
    sink.abort()
    raise SystemExit(str(error))
"""


@pytest.mark.parametrize("kind", ["json", "ndjson"])
def test_standard_output_takes_a_line_a_resource(kind):
    done = in_process(WRITE.format(kind=kind, options={}, count=2), subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout
        == b'{"resourceType":"Patient","id":"p0"}\n{"resourceType":"Patient","id":"p1"}\n'
    )


def test_standard_output_takes_one_bundle():
    done = in_process(WRITE.format(kind="bundle", options={}, count=200), subprocess.PIPE)
    assert len(json.loads(done.stdout)["entry"]) == 200


@pytest.mark.parametrize("kind", ["ndjson", "bundle"])
def test_standard_output_that_is_full_or_gone_says_so(kind):
    with Path("/dev/full").open("wb") as full:
        done = in_process(WRITE.format(kind=kind, options={}, count=2000), full)
    assert b"No space left for standard output" in done.stderr
    reading, writing = os.pipe()
    os.close(reading)
    done = in_process(WRITE.format(kind=kind, options={}, count=2000), writing)
    os.close(writing)
    assert b"has gone away" in done.stderr


@pytest.mark.parametrize("kind", ["ndjson", "bundle"])
def test_device_is_written_to_and_never_replaced(kind):
    run(open_sink("/dev/null", kind), study(1))
    assert Path("/dev/null").is_char_device()


def test_pipe_is_written_to(tmp_path):
    fifo, got = tmp_path / "pipe", []
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()))
    reader.start()
    run(open_sink(str(fifo), "ndjson"), study(1))
    reader.join()
    assert json.loads(got[0]) == study(1)


def test_symbolic_link_to_the_output_file_stays_one(tmp_path):
    target = tmp_path / "data" / "all.ndjson"
    target.parent.mkdir()
    (tmp_path / "link.ndjson").symlink_to(target)
    run(open_sink(str(tmp_path / "link.ndjson"), "ndjson"), study(1))
    assert (tmp_path / "link.ndjson").is_symlink()
    assert json.loads(target.read_text()) == study(1)
