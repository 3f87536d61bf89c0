"""A real PostgreSQL server for a test session: made in a temporary folder, as a user that is not root, and gone with it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

USER = "dcm2fhir"
PASSWORD = "held only here"


class MissingError(Exception):
    """There is no PostgreSQL on this machine."""


def programs():
    """Folder of ``initdb`` and ``postgres``; Debian keeps it out of the PATH."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3])
    )
    if not versions:
        raise MissingError("PostgreSQL is not installed")
    return versions[-1].parent


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


class Postgres:
    """One server, which a test may stop and start again.

    It listens on a socket file; with ``tcp`` on loopback too (and is then not to be started again: somebody else
    may have the port by then).
    """

    def __init__(self, *, tcp=False):
        self._bin = programs()
        self._number = 0
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self.data = self.folder / "data"
        self._tcp = tcp
        self.port = 5432
        self.process = None
        self._as = {}
        if os.getuid() == 0:  # which PostgreSQL refuses
            names = {entry.pw_name: entry for entry in pwd.getpwall()}
            entry = names.get("postgres") or names["nobody"]
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
            self._as = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        (self.folder / "secret").write_text(PASSWORD)
        (self.folder / "secret").chmod(0o644)
        self._run(
            "initdb", "-D", str(self.data), "-U", USER, "--auth-local=trust",
            "--auth-host=scram-sha-256", "--pwfile", str(self.folder / "secret"),
            "-E", "UTF8", "--locale=C", "--no-sync",
        )  # fmt: skip
        for attempt in range(5):
            self.port = free_port() if tcp else self.port
            try:
                self.start()
            except AssertionError:
                if not tcp or attempt == 4:
                    raise
            else:
                break

    def _run(self, program, *arguments):
        done = subprocess.run(
            [str(self._bin / program), *arguments],
            capture_output=True, text=True, check=False, cwd=self.folder, **self._as,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self):
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    str(self._bin / "postgres"), "-D", str(self.data), "-k", str(self.folder),
                    "-h", "127.0.0.1" if self._tcp else "", "-p", str(self.port), "-c", "max_connections=60",
                    "-c", "shared_buffers=32MB",
                ],
                stdout=log, stderr=log, cwd=self.folder, **self._as,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            done = subprocess.run(
                [str(self._bin / "pg_isready"), "-q", "-h", str(self.folder), "-p", str(self.port)],
                check=False,
            )
            if done.returncode == 0:
                return
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.05)

    def stop(self, number=signal.SIGINT):
        """Stop it; SIGINT: at once and in order, SIGQUIT: as if the power went."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(60)
            self.process = None

    def url(self, schema="", *, tcp=False):
        """URL of a schema of its own, by the socket file; ``tcp``: by loopback, where a password is asked for."""
        if not schema:
            self._number += 1
            schema = f"s{self._number}"
        options = quote(f"-csearch_path={schema}", safe="")
        if tcp:
            return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres?options={options}"
        host = quote(str(self.folder), safe="")
        return f"postgresql://{USER}@/postgres?host={host}&port={self.port}&options={options}"

    def close(self):
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)


def server(*, tcp=False):
    """Start one; a missing server fails on CI, and skips elsewhere."""
    import pytest

    try:
        import psycopg  # noqa: F401

        return Postgres(tcp=tcp)
    except (MissingError, ImportError) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no PostgreSQL: {error}")
