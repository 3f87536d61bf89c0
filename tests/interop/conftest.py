"""The programs of others: a missing one is a failure, never a skip."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "listener"))
from daemon_process import Daemon

OWN = Path(sys.executable).parent


def program(name, package):
    """Path of a program that is not pynetdicom's of the same name."""
    places = [p for p in os.environ["PATH"].split(os.pathsep) if Path(p) != OWN]
    found = shutil.which(name, path=os.pathsep.join([*places, "/usr/sbin"]))
    assert found, f"{name} is missing: apt-get install {package}"
    return found


@pytest.fixture
def daemon(tmp_path):
    """Start daemons; what is still there at the end is killed."""
    started = []

    def start(*options, folder=tmp_path, **given):
        folder.mkdir(exist_ok=True)
        made = Daemon(folder, *options, **given)
        started.append(made)
        return made.ready()

    yield start
    for made in started:
        made.kill()


@pytest.fixture
def dcmtk():
    """Run one of dcmtk's programs: ``dcmtk("storescu", port, *arguments)``."""

    def run(name, *arguments, code=0, nagle=False):
        environment = {**os.environ}
        environment.pop("TCP_NODELAY", None)
        if not nagle:
            environment["TCP_NODELAY"] = "1"
        done = subprocess.run(
            [program(name, "dcmtk"), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=environment,
        )
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture
def files(make_dicom, tmp_path):
    """Write objects of one study into a folder."""

    def write(study="1.2.3", count=1, name="files", **attributes):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for number in range(1, count + 1):
            data = make_dicom(
                study=study, sop=f"{study}.1.{number}", number=str(number), **attributes
            )
            (folder / f"{study}-{number}.dcm").write_bytes(data)
        return folder

    return write


def free_port():
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        return held.getsockname()[1]


class Orthanc:
    """A running Orthanc."""

    def __init__(self, folder, configuration):
        self.http = free_port()
        self.folder = folder
        folder.mkdir()
        settings = {
            "Name": "TEST",
            "HttpPort": self.http,
            "DicomPort": free_port(),
            "DicomServerEnabled": False,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "StorageDirectory": str(folder / "db"),
            "IndexDirectory": str(folder / "db"),
            "DicomScuTimeout": 30,
            **configuration,
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        self.log = (folder / "log").open("wb")
        self.process = subprocess.Popen(
            [program("Orthanc", "orthanc"), str(folder / "orthanc.json")],
            stdout=self.log,
            stderr=self.log,
            cwd=folder,
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                self.ask("/system")
            except OSError:
                assert self.process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline
                threading.Event().wait(0.1)
            else:
                break

    def ask(self, path, data=None):
        """GET, or POST where there is data."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", data=data)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    def end(self):
        """End it."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


@pytest.fixture
def orthanc(tmp_path):
    """Start an Orthanc with some configuration."""
    started = []

    def start(**configuration):
        made = Orthanc(tmp_path / f"orthanc{len(started)}", configuration)
        started.append(made)
        return made

    yield start
    for made in started:
        made.end()


class Certificates:
    """A small authority, made with openssl."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()

    def _openssl(self, *arguments):
        subprocess.run(
            [program("openssl", "openssl"), *map(str, arguments)],
            check=True,
            capture_output=True,
            cwd=self.folder,
        )

    def authority(self, name):
        """Make a certificate authority."""
        self._openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2", "-subj", f"/CN={name}",
        )  # fmt: skip
        return self.folder / f"{name}.pem"

    def issue(self, name, authority):
        """Issue a certificate; give its file and its key's."""
        self._openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr",
            "-subj", f"/CN={name}",
        )  # fmt: skip
        self._openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey",
            f"{authority}.key", "-CAcreateserial", "-out", f"{name}.pem", "-days", "2",
        )  # fmt: skip
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"


@pytest.fixture
def certificates(tmp_path):
    """Make certificates."""
    return Certificates(tmp_path / "certificates")
