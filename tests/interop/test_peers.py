"""Real senders: dcmtk, Orthanc, pynetdicom."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import pytest
from pydicom.data import get_testdata_file

pytestmark = pytest.mark.interop

COMPRESSED = {
    "JPEG2000.dcm": "-xw",
    "MR_small_RLE.dcm": "-xr",
    "image_dfl.dcm": "-xd",
    "JPEG-lossy.dcm": "-xx",
    "MR_small_bigendian.dcm": "-xb",
    "MR_small_implicit.dcm": "-xi",
}
"""File to the option with which storescu proposes its transfer syntax."""


def test_echoscu(daemon, dcmtk):
    running = daemon()
    assert "Success" in dcmtk("echoscu", "-v", "127.0.0.1", running.port)
    running.end()


@pytest.mark.parametrize("nagle", [False, True])
def test_storescu(daemon, dcmtk, files, nagle):
    running = daemon()
    folder = files(count=12)
    dcmtk("storescu", "+sd", "127.0.0.1", running.port, folder, nagle=nagle)
    assert running.published(1)[0]["numberOfInstances"] == 12
    running.end()


@pytest.mark.parametrize("arguments", [(), ("--multi-associations",), ("--max-pdu", "4096")])
def test_dcmsend(daemon, dcmtk, files, arguments):
    running = daemon()
    folder = files(count=12)
    dcmtk("dcmsend", *arguments, "+sd", "127.0.0.1", running.port, folder)
    assert running.published(1)[0]["numberOfInstances"] == 12
    running.end()


def test_compressed_and_deflated_objects(daemon, dcmtk):
    running = daemon()
    for name, option in COMPRESSED.items():
        dcmtk("storescu", option, "127.0.0.1", running.port, get_testdata_file(name))
    running.until(lambda: running.metric('cstore_total{status="success"}') == len(COMPRESSED))
    running.until(running.resources)
    running.end()


def test_storescu_that_aborts(daemon, dcmtk, files):
    running = daemon()
    dcmtk("storescu", "--abort", "127.0.0.1", running.port, files() / "1.2.3-1.dcm", code=None)
    assert running.published(1)[0]["numberOfInstances"] == 1
    running.end()


def test_ten_associations_at_once(daemon, dcmtk, files):
    running = daemon()
    folders = [files(study=f"1.2.{n}", count=20, name=f"study{n}") for n in range(10)]
    threads = [
        threading.Thread(target=dcmtk, args=("storescu", "+sd", "127.0.0.1", running.port, folder))
        for folder in folders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    running.published(10, 200)
    running.end()


def test_refusals_as_dcmtk_sees_them(daemon, dcmtk, files):
    running = daemon("--require-called-aet", "--allow-calling-aet", "CT1")
    where = ("127.0.0.1", running.port)
    said = dcmtk("echoscu", "-v", "-aec", "OTHER", "-aet", "CT1", *where, code=1)
    assert "Called AE Title Not Recognized" in said
    said = dcmtk("echoscu", "-v", "-aec", "DCM2FHIR", "-aet", "MR1", *where, code=1)
    assert "Calling AE Title Not Recognized" in said
    dcmtk("echoscu", "-aec", "DCM2FHIR", "-aet", "CT1", *where)
    running.end()


def test_pynetdicom_s_storescu(daemon, files):
    running = daemon()
    folder = files(count=5)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pynetdicom",
            "storescu",
            "127.0.0.1",
            str(running.port),
            str(folder),
            "-r",
        ],
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert running.published(1)[0]["numberOfInstances"] == 5
    running.end()


ROUTE = """
function OnStoredInstance(instanceId, tags, metadata)
  SendToModality(instanceId, "dcm2fhir")
end
"""


def modality(port):
    return {"DicomModalities": {"dcm2fhir": ["DCM2FHIR", "127.0.0.1", port]}}


def test_orthanc_routes_what_it_gets(daemon, orthanc, files, tmp_path):
    running = daemon()
    (tmp_path / "route.lua").write_text(ROUTE)
    server = orthanc(LuaScripts=[str(tmp_path / "route.lua")], **modality(running.port))
    for path in sorted(files(count=6).iterdir()):
        server.ask("/instances", path.read_bytes())
    assert running.published(1, 6)[0]["identifier"][0]["value"] == "urn:oid:1.2.3"
    running.end()


def test_orthanc_sends_a_study_when_asked(daemon, orthanc, files):
    running = daemon()
    server = orthanc(**modality(running.port))
    assert server.ask("/modalities/dcm2fhir/echo", json.dumps({}).encode()) in ({}, None)
    for path in sorted(files(count=6).iterdir()):
        server.ask("/instances", path.read_bytes())
    (study,) = server.ask("/studies")
    answer = server.ask("/modalities/dcm2fhir/store", study.encode())
    assert answer["FailedInstancesCount"] == 0
    running.published(1, 6)
    running.end()
