"""The daemon: what it assumes of its peers, and whole headers and whole objects from C-STORE to the operator."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pydicom
import pytest
from daemon_process import ROOT
from pydicom.data import DATA_ROOT
from test_paths_agree import parts
from test_same_as_batch import BIG, EXPLICIT, IMPLICIT, data_set

from converter.listener.dataset import preamble
from converter.listener.desk import Desk
from converter.listener.files import place_of
from converter.reading import Read, read_bytes
from tests.servers.postgres import server
from tests.servers.stub import Stub
from tools.dicom_sender import CT, Sender

OVERLAY = """
extends = "base"
[ImagingStudy]
description = { from = ["ImageComments"], as = "string" }
"""


def send(daemon, *objects, syntax=EXPLICIT, calling="TESTER"):
    with Sender(daemon.port).associate([(1, CT, (syntax,))], calling=calling) as sender:
        statuses = [sender.store(data, uid).status for data, uid in objects]
        sender.release()
    assert statuses == [0] * len(objects)


def instance(number=1, **attributes):
    return data_set(number, EXPLICIT, **attributes), f"1.2.3.4.{number}"


def run(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "converter", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


WHEN = {"StudyDate": "20240712", "StudyTime": "101500"}
PEERS = """
[site.patient.issuers.LIS]
system = "https://lisbon.example/mrn"
[listen.peers.lisbon]
ae_titles = ["CT1"]
timezone = "Europe/Lisbon"
issuer = "LIS"
[listen.peers.oslo]
ae_titles = ["CT2"]
timezone = "{zone}"
"""


def test_what_a_peer_does_not_state_is_assumed_and_put_right_by_publishing_again(daemon, tmp_path):
    file = tmp_path / "listen.toml"
    file.write_text(PEERS.format(zone="Europe/London"))
    running = daemon("--config", str(file))
    send(running, instance(1, **WHEN), calling="CT1")
    other = data_set(2, EXPLICIT, StudyInstanceUID="1.2.9", **WHEN)
    send(running, (other, "1.2.3.4.2"), calling="CT2")
    running.published(2)

    def started():
        return {
            one["identifier"][0]["value"].rpartition(":")[2]: one["started"]
            for one in running.resources()
        }

    assert started() == {
        "1.2.3": "2024-07-12T10:15:00+01:00",
        "1.2.9": "2024-07-12T10:15:00+01:00",
    }
    known = {"system": "https://lisbon.example/mrn", "value": "1"}.items()
    # Patients are written after the studies
    running.until(
        lambda: any(known <= p["identifier"][0].items() for p in running.resources("Patient"))
    )
    running.end()
    file.write_text(PEERS.format(zone="Europe/Oslo"))
    running = daemon("--config", str(file))
    running.studies("republish", "1.2.9")
    running.until(lambda: started()["1.2.9"] == "2024-07-12T10:15:00+02:00")
    assert started()["1.2.3"] == "2024-07-12T10:15:00+01:00"
    running.end()


@pytest.mark.parametrize("profile", ["r4", "uk-core"])
def test_what_is_assumed_of_a_peer_is_in_what_a_server_gets(daemon, tmp_path, profile):
    with Stub() as stub:
        file = tmp_path / "listen.toml"
        file.write_text(
            '[site]\ntimezone = "Asia/Tokyo"\n'
            f'[destinations.main]\nurl = "{stub.base}"\nprofile = ["{profile}"]\n'
            '[listen.peers.athens]\nae_titles = ["CT1"]\n'
            'timezone = "Europe/Athens"\ncharset = "ISO_IR 126"\n'
        )
        running = daemon("--config", str(file), "--to", "main")
        data, uid = instance(1, PatientName="Doe^Greek", **WHEN)
        send(running, (data.replace(b"Doe^Greek", b"Doe^Gr\xe5ek"), uid), calling="CT1")
        running.until(stub.studies)
        (study,) = stub.studies()
        (patient,) = stub.store.standing("Patient").values()
        (there,) = running.resources()
        assert study["started"] == there["started"] == "2024-07-12T10:15:00+03:00"
        assert patient["name"][0]["given"] == ["Gr\u03b5ek"]
        running.end()


@pytest.mark.parametrize("kept", [True, False])
def test_a_mapping_that_reads_more_finds_it_in_whole_headers_or_says_that_it_was_not_kept(
    daemon, tmp_path, kept
):
    options = ["--keep-headers"] if kept else []
    running = daemon(*options)
    comments = {"ImageComments": "seldom read"}
    send(running, instance(1, **comments), instance(2, pixels=bytes(80_000), **comments))
    (study,) = running.published(1, 2)
    assert "description" not in study
    running.end()
    folder = tmp_path / "mappings"
    folder.mkdir()
    (folder / "site.toml").write_text(OVERLAY)
    told = run("mappings", "check", folder, "--state", running.state)
    if kept:
        assert "all is kept" in told
    else:
        (line,) = [line for line in told.splitlines() if "ImageComments" in line]
        assert line.split()[:4] == ["ImagingStudy.description", "ImageComments", "1", "2"]
    running = daemon("--mappings", str(folder), *options)
    running.studies("republish", "1.2.3")
    running.until(lambda: "published 1 of" in running.text() or "published: 1" in running.text())
    (study,) = running.resources()
    assert study.get("description") == ("seldom read" if kept else None)
    assert ("tags-not-kept" in running.studies("show", "1.2.3")) is not kept
    # what comes from here on is kept by the new mapping
    send(running, instance(3, **comments))
    (study,) = running.published(1, 3)
    assert study["description"] == "seldom read"
    running.end()
    told = run("mappings", "check", folder, "--state", running.state)
    assert ("all is kept" in told) is kept


def test_whole_objects_are_files_that_an_operator_finds_and_purges(daemon, tmp_path):
    root = tmp_path / "files"
    running = daemon("--keep-files", str(root))
    first = instance(1, pixels=bytes(80_000))
    again = instance(1, pixels=b"\1\0" * 40_000)
    send(running, first, first, instance(2), again)
    running.published(1, 2)
    place = place_of(root, "1.2.3", "1.2.3.4.1")
    # pixels are no attribute that rules read, and still the later object stays
    running.until(lambda: not list(root.glob("incoming/*/*")))
    assert pydicom.dcmread(place).PixelData == b"\1\0" * 40_000
    assert len(list(root.rglob("*.dcm"))) == 2
    for path in root.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    told = running.studies("show", "1.2.3", "--files", "--keep-files", str(root))
    assert f"1.2.3.4.1 {place}" in told.replace("\n", "")
    assert not running.studies("purge", "--older-than", "1h").startswith("deleted")
    told = running.studies("purge", "--files", "--keep-files", str(root), "--older-than", "1h")
    assert told == "deleted: 0 files of 0 studies\n"
    told = running.studies("purge", "--files", "--keep-files", str(root), "--older-than", "0s")
    assert told == "deleted: 2 files of 1 studies\n"
    assert list(root.rglob("*.dcm")) == []
    # headers are still there
    running.studies("republish", "1.2.3")
    running.published(1, 2)
    running.end()


def test_files_of_a_run_that_was_killed_are_moved_by_the_next_and_the_rest_is_removed(
    daemon, tmp_path
):
    root = tmp_path / "files"
    running = daemon("--keep-files", str(root))
    send(running, *(instance(n, pixels=bytes(40_000)) for n in range(1, 6)))
    running.kill()
    folder = next((root / "incoming").iterdir())
    (folder / "never-acknowledged.dcm").write_bytes(b"x")
    running = daemon()  # without the option: what was acknowledged is acknowledged
    running.published(1, 5)
    running.end()
    for number in range(1, 6):
        assert (
            len(pydicom.dcmread(place_of(root, "1.2.3", f"1.2.3.4.{number}")).PixelData) == 40_000
        )
    running = daemon("--keep-files", str(root))
    assert list(root.glob("incoming/*/*")) == []
    assert len(list(root.rglob("*.dcm"))) == 5
    running.end()


def test_files_wait_for_a_database_that_is_away_over_restarts_as_well(daemon, tmp_path):
    root, journal = tmp_path / "files", tmp_path / "journal"
    database = server()
    try:
        place = ("--state", database.url("mine"), "--journal", str(journal))
        running = daemon(*place, "--keep-files", str(root))
        send(running, instance(1, pixels=bytes(40_000)))
        running.published(1, 1)
        database.stop()
        send(running, *(instance(n, pixels=bytes(40_000)) for n in range(2, 4)))
        running.kill()
        running = daemon(*place, "--keep-files", str(root))
        assert len(list(root.glob("incoming/*/*.dcm"))) == 2
        database.start()
        running.until(lambda: len(list(root.glob("??/*/*.dcm"))) == 3, 90)
        assert list(root.glob("incoming/*/*")) == []
        running.end()
    finally:
        database.close()


def test_two_daemons_do_not_share_a_folder_of_files(daemon, tmp_path):
    root = tmp_path / "files"
    running = daemon("--keep-files", str(root))
    folder = tmp_path / "other"
    folder.mkdir()
    other = daemon("--keep-files", str(root), folder=folder, ready=False)
    assert other.process.wait(30) == 7
    assert f"{root}/daemon.lock" in other.text().replace("\n", "")
    running.end()


def test_pixel_data_that_is_kept_is_not_said_to_be_discarded(daemon, tmp_path):
    environment = {"DCM2FHIR_LISTEN__SUCCESS_STATUS": "0xB006"}
    refused = daemon("--keep-files", str(tmp_path / "files"), ready=False, env=environment)
    assert refused.process.wait(30) == 3
    assert "0xB006" in refused.text()


def objects(folder):
    """Files of real and made objects, each instance once: (SOP class, SOP instance, transfer syntax, data set)."""
    folder.mkdir()
    seen = set()
    made = [("explicit", EXPLICIT), ("implicit", IMPLICIT), ("big", BIG)]
    for number, (name, syntax) in enumerate(made, start=1):
        uids = {"StudyInstanceUID": f"1.9.{number}", "SeriesInstanceUID": f"1.9.{number}.1"}
        whole = data_set(number, syntax, pixels=bytes(range(256)) * 320, **uids)
        cut = data_set(number + 10, syntax, pixels=bytes(80_000), **uids)[:-30_000]
        meta = preamble(syntax)
        (folder / f"{name}.dcm").write_bytes(meta + whole)
        (folder / f"{name}-cut.dcm").write_bytes(meta + cut)
        yield CT, f"1.2.3.4.{number}", syntax, whole
        yield CT, f"1.2.3.4.{number + 10}", syntax, cut
    for path in sorted(Path(DATA_ROOT, "test_files").rglob("*")):
        if not path.is_file() or path.stat().st_size > 300_000:
            continue
        content = path.read_bytes()
        read = read_bytes(content, {})
        if content[128:132] != b"DICM" or not isinstance(read, Read):
            continue
        sop_class, sop_instance, syntax, data = parts(content)
        if read.sop_instance_uid != sop_instance or sop_instance in seen or "dicomdir" in path.name:
            continue
        seen.add(sop_instance)
        (folder / f"{len(seen)}.dcm").write_bytes(content)
        yield sop_class, sop_instance, syntax, data


def test_by_c_store_and_as_files_the_same_objects_give_the_same_resources_and_findings(
    daemon, tmp_path
):
    files, out = tmp_path / "in", tmp_path / "batch"
    running = daemon("--accept-private", "--quiet-period", "3s")
    statuses = []
    for sop_class, sop_instance, syntax, data in objects(files):
        with Sender(running.port).associate([(1, sop_class, (syntax,))]) as sender:
            statuses.append(sender.store(data, sop_instance, sop_class).status)
            sender.release()
    assert set(statuses) == {0}
    report = tmp_path / "report.json"
    run("convert", files, "-o", out, "--report", report, "-q")
    told = json.loads(report.read_text())
    expected = {
        one["study_instance_uid"]: {finding["code"] for finding in one["findings"]}
        - {"no-preamble"}
        for one in told["studies"]
        if one["state"] == "published"
    }
    assert len(expected) > 20
    running.published(len(expected))
    running.end()  # what is published is whole
    batch = {path.name: json.loads(path.read_bytes()) for path in out.rglob("*.json")}
    assert {p.name: json.loads(p.read_bytes()) for p in running.out.rglob("*.json")} == batch
    with closing(Desk(running.state)) as ledger:
        found = {
            row.study_uid: set(row.findings) - {"no-preamble"}
            for row in ledger.studies("published")
        }
    assert found == expected
    assert any("truncated" in codes for codes in found.values())
