"""TLS against real clients: only the good certificate gets in, old versions do not, a stalled one stops nobody."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time

import pytest

from converter.errors import ConfigurationError
from converter.listener.tls import server_context
from tools.dicom_sender import Gone, Sender

pytestmark = pytest.mark.interop


@pytest.fixture
def tls(certificates):
    """Names to (certificate, key), and the authority."""
    authority = certificates.authority("ours")
    certificates.authority("theirs")
    return {
        "ca": authority,
        "server": certificates.issue("server", "ours"),
        "ct1": certificates.issue("ct1", "ours"),
        "mr1": certificates.issue("mr1", "ours"),
        "stranger": certificates.issue("stranger", "theirs"),
    }


@pytest.fixture
def secured(daemon, tls):
    certificate, key = tls["server"]

    def start(*options):
        return daemon(
            "--tls-cert",
            str(certificate),
            "--tls-key",
            str(key),
            "--tls-ca",
            str(tls["ca"]),
            *options,
        )

    return start


def as_client(tls, name):
    certificate, key = tls[name]
    return ["+tls", key, certificate, "+cf", tls["ca"], "-rc"]


def test_only_a_certificate_of_ours_gets_in(secured, dcmtk, tls, files):
    running = secured()
    where = ["127.0.0.1", running.port]
    one = files() / "1.2.3-1.dcm"
    dcmtk("storescu", *as_client(tls, "ct1"), *where, one)
    dcmtk("storescu", *as_client(tls, "stranger"), *where, one, code=1)
    dcmtk("storescu", "+tla", "+cf", tls["ca"], *where, one, code=1)
    dcmtk("storescu", *where, one, code=1)
    assert running.published(1)[0]["numberOfInstances"] == 1
    running.until(lambda: running.metric('connections_dropped_total{reason="tls"}') == 3)
    assert running.metric('cstore_total{status="success"}') == 1
    running.end()


def test_many_objects_and_large_ones_over_tls(secured, dcmtk, tls, files, make_dicom, tmp_path):
    running = secured()
    folder = files(count=40)
    pixels = b"\xe0\x7f\x10\0OW\0\0" + (3_000_000).to_bytes(4, "little") + bytes(3_000_000)
    (folder / "large.dcm").write_bytes(make_dicom(study="1.2.3", sop="1.2.3.1.99") + pixels)
    dcmtk("storescu", *as_client(tls, "ct1"), "+sd", "127.0.0.1", running.port, folder)
    assert running.published(1)[0]["numberOfInstances"] == 41
    running.end()


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions_are_refused(secured, tls, version):
    running = secured()
    certificate, key = tls["ct1"]
    done = subprocess.run(
        [
            shutil.which("openssl"), "s_client", version, "-cipher", "ALL:@SECLEVEL=0",
            "-connect", f"127.0.0.1:{running.port}", "-cert", str(certificate), "-key", str(key),
        ],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
        check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "alert" in done.stdout + done.stderr
    running.end()


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_new_versions_are_taken(secured, tls, version):
    running = secured()
    certificate, key = tls["ct1"]
    done = subprocess.run(
        [
            shutil.which("openssl"), "s_client", version, "-connect", f"127.0.0.1:{running.port}",
            "-cert", str(certificate), "-key", str(key), "-CAfile", str(tls["ca"]), "-brief",
        ],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
        check=False,
    )  # fmt: skip
    assert "CONNECTION ESTABLISHED" in done.stderr
    running.end()


def test_stalled_handshakes_stop_nobody(secured, dcmtk, tls):
    running = secured()
    stalled = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(20)]
    for sock in stalled[:10]:
        sock.sendall(b"\x16\x03\x01\x02\0")
    begin = time.monotonic()
    dcmtk("echoscu", *as_client(tls, "ct1"), "127.0.0.1", running.port)
    assert time.monotonic() - begin < 2  # most of it is the client's own start
    for sock in stalled:
        sock.settimeout(20)
        assert sock.recv(1) in {b"", b"\x15"}
        sock.close()
    running.end()


def test_a_title_is_bound_to_its_certificate(secured, dcmtk, tls, tmp_path):
    configuration = tmp_path / "dcm2fhir.toml"
    configuration.write_text(
        '[listen.peers.ct]\nae_titles = ["CT1"]\ncertificate = "ct1"\n'
        '[listen.peers.mr]\nae_titles = ["MR1"]\ncertificate = "mr1"\n'
    )
    running = secured("--config", str(configuration))
    where = ["127.0.0.1", running.port]
    dcmtk("echoscu", *as_client(tls, "ct1"), "-aet", "CT1", *where)
    dcmtk("echoscu", *as_client(tls, "mr1"), "-aet", "CT1", *where, code=1)
    dcmtk("echoscu", *as_client(tls, "mr1"), "-aet", "MR1", *where)
    running.end()


def test_plain_text_is_not_answered(secured):
    running = secured()
    with Sender(running.port) as sender, pytest.raises(Gone):
        sender.associate()
    running.end()


def test_which_file_cannot_be_used_is_told(certificates, tmp_path):
    ca = certificates.authority("ca")
    certificate, key = map(str, certificates.issue("one", "ca"))
    _, other = certificates.issue("two", "ca")
    gone = str(tmp_path / "gone.pem")
    notes = tmp_path / "notes.pem"
    notes.write_text("no certificate")
    for files, said in [
        ((gone, key, ""), f"{gone} cannot be read"),
        ((certificate, gone, ""), f"{gone} cannot be read"),
        ((certificate, key, gone), f"{gone} cannot be read"),
        ((certificate, str(other), ""), "the key is that of another certificate"),
        ((str(notes), key, ""), "no PEM"),
        ((certificate, key, str(notes)), "holds no certificate"),
    ]:
        with pytest.raises(ConfigurationError, match=re.escape(said)):
            server_context(*files)
    server_context(certificate, key, str(ca))


def test_a_change_that_cannot_be_used_is_said_once_and_what_was_in_force_stays(secured, dcmtk, tls):
    running = secured()
    where = ["127.0.0.1", running.port]
    whole = tls["ca"].read_text()
    tls["ca"].write_text("no certificate")
    running.until(lambda: "holds no certificate (PEM). What was in force before" in running.text())
    tls["ca"].with_name("copy.pem").write_text(whole)
    dcmtk("echoscu", *as_client({**tls, "ca": tls["ca"].with_name("copy.pem")}, "ct1"), *where)
    tls["ca"].write_text(whole)
    running.until(lambda: "TLS: the changed files are in force." in running.text())
    dcmtk("echoscu", *as_client(tls, "ct1"), *where)
    running.end()
    assert running.text().count("holds no certificate") == 1
