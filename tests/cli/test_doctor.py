"""``dcm2fhir doctor``: what is wrong is found and told with what to do, nothing is changed, nothing secret is said."""

from __future__ import annotations

import json
import re
import socket
import sqlite3
import ssl
import threading
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import pytest

from converter.cli.checks import examining
from converter.cli.checks.finding import Finding, worst
from converter.cli.main import run
from converter.store import open_database, open_kept, place_of
from tests.servers.certificates import certificate, written
from tests.servers.stub import Fault, Stub, outcome

FREE = ("-p", "0", "--http-port", "0")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A working folder, and a state folder that nobody has made."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    return folder


@pytest.fixture
def stub():
    with Stub() as server:
        yield server


@pytest.fixture
def doctor(capsys):
    """Run it; give the exit code and what it found, by check."""

    def examined(*arguments):
        capsys.readouterr()
        code = run(["doctor", "--format", "json", *map(str, arguments)])
        told = json.loads(capsys.readouterr().out)
        assert told["exit_code"] == code
        found = {}
        for one in told["checks"]:
            found.setdefault(one["check"], []).append(one)
        return code, found

    return examined


def all_ok(found):
    return [one for held in found.values() for one in held if one["status"] != "ok"] == []


def the(found, check, status):
    """The one finding of a check with a status."""
    (one,) = [one for one in found[check] if one["status"] == status]
    return one


def tree(folder):
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*") if path.suffix != ".db-shm"}  # fmt: skip


@contextmanager
def taken(address="127.0.0.1"):
    """A port that somebody has who says nothing."""
    with socket.create_server((address, 0)) as listening:
        yield listening.getsockname()[1]


# the whole


def test_a_new_set_up_has_nothing_wrong_and_nothing_is_made(doctor, tmp_path, stub):
    before = tree(tmp_path)
    code, found = doctor(*FREE, "-o", "fhir", "--to", stub.base)
    assert code == 0
    assert all_ok(found), found
    assert doctor(*FREE, "-o", "fhir", "--state", "s.db", "--journal", "j")[0] == 0
    assert tree(tmp_path) == before
    assert [*found] == [
        "configuration", "mapping", "study store", "journal", "disk", "output", "port", "senders", "TLS", "HTTP port",
        "open files", "pynetdicom", "FHIR server", "time zones", "versions",
    ]  # fmt: skip


def test_checks_are_those_of_the_commands_that_are_named(doctor):
    listens = {"journal", "port", "senders", "TLS", "HTTP port", "open files", "pynetdicom"}
    assert listens <= doctor("listen", *FREE)[1].keys()
    converts = doctor("convert", "-o", "x")[1]
    assert not listens & converts.keys()
    assert "mapping" in converts
    assert not {"mapping", "output"} & doctor("send")[1].keys()


def test_lines_are_aligned_and_no_wider_than_a_terminal(capsys):
    kept = ("--state", "listen.db", "--journal", "journal", "-o", "x")
    code = run(["doctor", *FREE, "--bind", "0.0.0.0", "--allow-ip", "0.0.0.0/0", *kept])
    told = capsys.readouterr()
    assert code == 0
    for line in told.out.splitlines():
        assert len(line) <= 100
        assert re.match(r"(ok      |warning |problem ) \S.{13} \S|                        \S| {24}-> \S| {27}\S", line), line  # fmt: skip
    assert "\n                        -> name the networks of the senders" in told.out
    assert told.err == "1 warning\n"


def test_quiet_tells_only_what_is_not_ok(capsys):
    assert run(["doctor", "-q", *FREE]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("warning  output         nothing says where studies go\n")
    assert "\nok" not in told.out
    assert told.err == ""


def test_a_check_that_fails_or_hangs_ends_no_other(monkeypatch):
    monkeypatch.setattr(examining, "LIMIT", 0.5)
    over = threading.Event()

    def fails():
        yield Finding("ok", "as far as it came")
        raise RuntimeError("CANARY")

    def hangs():
        over.wait(60)
        yield Finding("ok", "late")

    def refuses():
        yield from ()
        raise PermissionError(13, "Permission denied", "some/file")

    def works():
        yield Finding("ok", "fine")

    checks = [examining.Check(f.__name__, f) for f in (fails, hangs, refuses, works)]
    found = list(examining.examine(checks))
    over.set()
    assert [name for name, _ in found] == ["fails", "fails", "hangs", "refuses", "works"]
    assert found[0][1].status == found[4][1].status == "ok"
    assert found[1][1].found == "this check failed: a fault in dcm2fhir (RuntimeError)"
    assert "did not come to an end" in found[2][1].found
    assert found[3][1].found == "the system refused: some/file: Permission denied"
    assert [one.code for _, one in found] == [0, 70, 7, 7, 0]


def test_the_worst_problem_decides_in_the_order_of_the_exit_codes():
    assert worst(set()) == 0
    assert worst({6, 7, 3}) == 3
    assert worst({6, 7}) == 7
    assert worst({6, 70}) == 70


# the configuration


def test_all_faults_of_a_configuration_are_told_and_the_machine_is_looked_at(doctor, home):
    (home / "dcm2fhir.toml").write_text("[convert]\nfromat = 1\njobs = -1\n")
    code, found = doctor()
    assert code == 3
    assert len(found["configuration"]) == 2
    assert "did you mean format?" in found["configuration"][0]["found"]
    assert found["configuration"][0]["fix"] == "put it right in dcm2fhir.toml, then: dcm2fhir config check"  # fmt: skip
    assert found["versions"][0]["status"] == "ok"
    assert the(found, "all else", "warning")


def test_an_option_that_cannot_be_is_an_error_of_use():
    assert run(["doctor", "--disk-reserve", "much"]) == 2
    assert run(["doctor", "lisen"]) == 2


def test_a_mapping_that_does_not_compile(doctor, home):
    (home / "mine").mkdir()
    (home / "mine" / "a.toml").write_text('[ImagingStudy]\nstatus = { const = "availble" }\n')
    code, found = doctor("convert", "--mappings", "mine", "-o", "x")
    assert code == 3
    assert "a.toml: ImagingStudy.status: " in the(found, "mapping", "problem")["found"]


def test_what_listen_refuses_is_told_and_the_port_is_looked_at_all_the_same(doctor, home):
    (home / "dcm2fhir.toml").write_text(
        '[listen]\nae_title = "TOOLONGTITLE1234567"\nallow_ip = ["zz"]\nstate = "mysql://x/y"\n'
    )
    code, found = doctor("listen", *FREE)
    assert code == 3
    assert [one["status"] for one in found["senders"]] == ["problem", "problem"]
    assert "mysql:// is not known" in found["study store"][0]["found"]
    assert found["port"][0]["status"] == "ok"


# who may send


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--bind", "0.0.0.0"], "problem", "nothing says who may send"),
        (["--bind", "0.0.0.0", "--open"], "warning", "anybody who reaches 0.0.0.0 may send"),
        (["--bind", "0.0.0.0", "--allow-ip", "10.0.0.0/8", "--allow-ip", "::/0"], "warning", "::/0 is every address"),
        (["--allow-ip", "10.1.2.0/24"], "warning", "we listen on 127.0.0.1 alone"),
    ],
)  # fmt: skip
def test_lists_that_nobody_can_have_meant(doctor, options, status, said):
    code, found = doctor("listen", *FREE, *options)
    assert code == (3 if status == "problem" else 0)
    assert said in the(found, "senders", status)["found"]


def test_a_list_of_addresses_is_fine(doctor):
    _, found = doctor("listen", *FREE, "--bind", "0.0.0.0", "--allow-ip", "10.1.2.0/24")
    assert [one["status"] for one in found["senders"]] == ["ok"]
    assert "1 networks" not in found["senders"][0]["found"]


def test_sections_of_peers_that_can_never_be_met(doctor, home):
    (home / "dcm2fhir.toml").write_text(
        '[listen.peers.a]\nae_titles = ["CT1"]\n'
        '[listen.peers.b]\nae_titles = ["CT1"]\naddresses = ["127.0.0.1"]\n'
        '[listen.peers.c]\ntimezone = "Europe/Lisbon"\n'
    )
    code, found = doctor("listen", *FREE)
    told = [one["found"] for one in found["senders"] if one["status"] == "warning"]
    assert code == 0
    assert told == [
        "listen.peers.b is never asked for CT1: listen.peers.a takes it from anywhere",
        "listen.peers.c names no AE title, so no sender is ever this one",
    ]


# ports


def test_a_port_that_somebody_else_has(doctor):
    with taken() as port, taken() as web:
        code, found = doctor("listen", "-p", port, "--http-port", web)
    assert code == 7
    one = the(found, "port", "problem")
    assert one["found"] == f"{port} on 127.0.0.1 is taken by something that does not speak DICOM"
    assert one["fix"].startswith(f"ss -ltnp 'sport = :{port}'")
    assert the(found, "HTTP port", "problem")["found"].endswith("taken by something that is not dcm2fhir")  # fmt: skip


def test_titles_that_are_none_do_not_keep_it_from_asking(doctor):
    with taken() as port:
        asked = ("-p", port, "--http-port", port, "--ae-title", "TOOLONGTITLE1234567")
        code, found = doctor("listen", *asked, "--allow-calling-aet", "TOOLONGTITLE1234567")
    assert code == 3
    assert "does not speak DICOM" in the(found, "port", "problem")["found"]
    assert the(found, "HTTP port", "problem")["found"] == f"{port} is the port of DICOM as well"


def test_a_port_that_another_dicom_application_has(doctor):
    from pynetdicom import AE

    from converter.listener.private import quiet_library

    quiet_library()
    ae = AE("OTHER")
    ae.implementation_version_name = "OTHER_1"
    ae.add_supported_context("1.2.840.10008.1.1")
    server = ae.start_server(("127.0.0.1", 0), block=False)
    try:
        code, found = doctor("listen", "-p", server.socket.getsockname()[1], "--http-port", "0")
    finally:
        server.shutdown()
    assert code == 7
    assert "a DICOM application that is not dcm2fhir (OTHER_1)" in found["port"][0]["found"]


def test_an_address_that_is_none_of_this_machine(doctor):
    code, found = doctor("listen", *FREE, "--bind", "203.0.113.7", "--open")
    assert code == 7
    assert "`ip address`" in the(found, "port", "problem")["fix"]


# beside a daemon


@pytest.fixture
def daemon(tmp_path, monkeypatch):
    """Start daemons; what is still there at the end is killed."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "listener")
    from daemon_process import Daemon

    started = []

    def start(*options):
        (tmp_path / "daemon").mkdir(exist_ok=True)
        started.append(Daemon(tmp_path / "daemon", *options))
        return started[-1].ready()

    yield start
    for one in started:
        one.kill()


def beside(one):
    return ("--state", one.state, "-p", one.port, "--http-port", one.http.rpartition(":")[2])


def test_a_daemon_of_ours_answers_and_nothing_is_changed(doctor, daemon, tmp_path):
    running = daemon()
    before = tree(tmp_path / "daemon" / "state")
    code, found = doctor("listen", *beside(running), "-o", running.out, "--disk-reserve", "1MiB")
    assert code == 0
    assert all_ok(found), found
    assert "a dcm2fhir daemon (DCM2FHIR_" in found["port"][0]["found"]
    assert "answers C-ECHO" in found["port"][0]["found"]
    assert found["HTTP port"][0]["found"].endswith("a dcm2fhir daemon, which is ready")
    assert found["study store"][0]["found"].endswith("whole, in use")
    assert tree(tmp_path / "daemon" / "state") == before
    code, found = doctor("listen", "--state", running.state, *FREE, "-o", running.out)
    assert "another dcm2fhir holds" in the(found, "port", "warning")["found"]
    running.end()


def test_a_daemon_with_another_state_than_the_one_that_is_looked_at_is_told(doctor, daemon):
    running = daemon()
    _, found = doctor("listen", *beside(running)[2:], "-o", running.out)
    told = the(found, "port", "warning")
    assert "answers C-ECHO, and its state is not " in told["found"]
    assert "--state" in told["fix"]
    running.end()


def test_a_daemon_that_lets_nobody_in_from_here_and_wants_certificates(doctor, daemon, tmp_path):
    authority = certificate("authority")
    ca, _ = written(tmp_path, "ca", authority)
    cert, key = written(tmp_path, "server", certificate("server", authority, days=(-1, 90)))
    tls = ("--tls-cert", cert, "--tls-key", key, "--tls-ca", ca)
    running = daemon("--allow-ip", "10.0.0.0/8", *tls)
    code, found = doctor("listen", *beside(running), "-o", running.out, *tls)
    assert code == 0
    assert "as it seems by the daemon that holds the state" in found["port"][0]["found"]
    running.end()
    running = daemon(*tls)
    _, found = doctor("listen", *beside(running), "-o", running.out, *tls)
    assert "answers C-ECHO" in found["port"][0]["found"], "our own certificate is of the authority"
    running.end()


# TLS


@pytest.fixture
def authority():
    return certificate("authority", days=(-400, 400))


@pytest.mark.parametrize(
    ("days", "status", "said"),
    [
        ((-40, 300), "ok", "fit"),
        ((-40, -3), "problem", "ran out 3 days ago"),
        ((-40, 5), "warning", "runs out in 4 days"),
        ((3, 300), "problem", "holds only from"),
    ],
)
def test_how_long_a_certificate_holds(doctor, tmp_path, authority, days, status, said):
    cert, key = written(tmp_path, "server", certificate("server", authority, days=days))
    Path(key).chmod(0o600)
    code, found = doctor("listen", *FREE, "--tls-cert", cert, "--tls-key", key, "-o", "x")
    assert code == (3 if status == "problem" else 0)
    assert said in the(found, "TLS", status)["found"]


def test_keys_and_authorities(doctor, tmp_path, authority):
    cert, key = written(tmp_path, "server", certificate("server", authority, days=(-1, 90)))
    _, other = written(tmp_path, "other", certificate("other", authority))
    old, _ = written(tmp_path, "old", certificate("old", days=(-9, -2)))
    Path(key).chmod(0o644)
    _, found = doctor("listen", *FREE, "--tls-cert", cert, "--tls-key", key)
    assert the(found, "TLS", "warning")["fix"] == f"chmod 0600 {key}"
    code, found = doctor("listen", *FREE, "--tls-cert", cert, "--tls-key", other)
    assert code == 3
    assert "the key is that of another certificate" in the(found, "TLS", "problem")["found"]
    code, found = doctor("listen", *FREE, "--tls-cert", cert, "--tls-key", key, "--tls-ca", old)
    assert code == 3
    assert f"listen.tls_ca: {old}: ran out 2 days ago" in [one["found"] for one in found["TLS"]]
    _, found = doctor("listen", *FREE, "--tls-cert", tmp_path / "gone.pem")
    assert "gone.pem cannot be read" in the(found, "TLS", "problem")["found"]


# what is kept


def test_states_that_cannot_be_used(doctor, tmp_path):
    path = tmp_path / "s.db"
    path.write_bytes(b"CANARY no database of anybody's" * 400)
    code, found = doctor("send", "--state", path)
    assert code == 7
    assert "damaged" in the(found, "study store", "problem")["found"]
    path.unlink()
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE x (y)")
    assert "is no dcm2fhir state" in doctor("send", "--state", path)[1]["study store"][0]["found"]
    path.unlink()
    open_kept(path).close()
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version = 99")
    assert "A newer dcm2fhir made" in doctor("send", "--state", path)[1]["study store"][0]["found"]
    file = tmp_path / "file"
    file.write_text("")
    code, found = doctor("listen", *FREE, "--state", file / "x.db")
    assert code == 7
    assert the(found, "study store", "problem")["found"].endswith(f"{file} is no folder")
    assert the(found, "journal", "problem")["fix"].startswith("sudo install -d -m 700 -o ")


def test_others_may_read_the_state(doctor, tmp_path):
    path = tmp_path / "s.db"
    open_kept(path).close()
    path.chmod(0o644)
    code, found = doctor("send", "--state", path)
    assert code == 0
    assert the(found, "study store", "warning")["fix"] == f"chmod 0600 {path}"


def test_a_disk_with_less_than_its_reserve(doctor):
    code, found = doctor("listen", *FREE, "-o", "x", "--disk-reserve", "99999999GiB")
    assert code == 7
    assert "senders get 0xA700" in the(found, "disk", "problem")["found"]
    assert doctor("convert", "-o", "x")[0] == 0


def test_journals_that_wait(doctor, tmp_path):
    folder = tmp_path / "journal" / "r0"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o700)
    for number in (1, 2):
        (folder / f"{number:010d}.journal").write_bytes(bytes(1 << 20))
    (folder / "0000000000.torn").touch()
    (folder / "1764305400000000000-0000000003.damaged").touch()
    (folder.parent / "status.token").write_text("long enough to be secret")
    (folder.parent / "status.token").chmod(0o644)
    code, found = doctor("listen", *FREE, "--journal", folder.parent)
    told = [one["found"] for one in found["journal"]]
    assert code == 3
    assert "1.0 MiB wait for the store" in told[0]
    assert "1 segment ends in a torn record" in told[1]
    assert "1 segment was damaged" in told[2]
    assert "others may read" in told[3]


def test_an_output_that_listen_does_not_take(doctor, home):
    (home / "out.ndjson").touch()
    assert doctor("listen", *FREE, "-o", "out.ndjson")[0] == 3
    code, found = doctor(*FREE, "-o", "out.ndjson")
    assert code == 0
    assert "out.ndjson is a file" in the(found, "output", "warning")["found"]
    assert doctor("convert", "-o", "out.ndjson")[1]["output"][0]["status"] == "ok"


def test_a_postgresql_server(doctor, postgres, monkeypatch):
    url = postgres.url()
    code, found = doctor("listen", *FREE, "-o", "x", "--state", url)
    assert code == 0
    assert "made when first used" in found["study store"][0]["found"]
    assert "PostgreSQL " in found["study store"][0]["found"]
    with closing(open_database(place_of(url), role="daemon")):
        _, found = doctor("listen", *FREE, "-o", "x", "--state", url)
        assert found["study store"][0]["found"].endswith("schema 2, 1 daemon session on it")
        assert found["queue"][0]["status"] == "ok"
    monkeypatch.setenv("PGPASSWORD", "CANARYSECRET")
    code, found = doctor("send", "--state", postgres.url(tcp=True))
    assert code == 7
    assert "refuses" in the(found, "study store", "problem")["found"]
    assert "CANARYSECRET" not in json.dumps(found)
    assert doctor("send", "--state", "postgresql://x@127.0.0.1:1/x")[0] == 7


# FHIR servers


def refused(found):
    return the(found, "FHIR server", "problem")


def test_a_server_that_takes_what_we_bring(doctor, stub):
    code, found = doctor("send", "--to", stub.base)
    assert code == 0
    assert found["FHIR server"][0]["found"] == f"{stub.base}: FHIR R4, finds and takes ImagingStudy"
    assert {asked.method for asked in stub.log} == {"GET"}, "nothing is written"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(403, {}, outcome("forbidden", "CANARY")), "HTTP 403 to GET ImagingStudy: it does not let us in"),
        (Fault(401, {}, b"<html>CANARY"), "HTTP 401 to GET ImagingStudy: it does not let us in"),
        (Fault(302, {"Location": "https://x.example/CANARY"}), "HTTP 302: it redirects"),
        (Fault(200, {}, b"<html>CANARY"), "no FHIR; look at the base URL"),
        (Fault(404, {}, b""), "HTTP 404 to GET ImagingStudy"),
        (Fault(503, {}, outcome("transient", "CANARY")), "HTTP 503"),
        (Fault(drop="before"), "the connection is cut off"),
    ],
)  # fmt: skip
def test_a_server_that_does_not_answer_as_it_should(doctor, stub, fault, said):
    stub.fault = lambda asked: fault
    code, found = doctor("send", "--to", stub.base)
    assert code == 6
    assert said in refused(found)["found"]
    assert refused(found)["fix"]
    assert "CANARY" not in json.dumps(found)


def test_servers_that_are_not_there(doctor, home):
    with taken() as port:
        pass
    (home / "dcm2fhir.toml").write_text(
        f'[destinations.near]\nurl = "http://127.0.0.1:{port}/fhir"\n'
        '[destinations.far]\nurl = "https://nowhere.invalid/fhir"\n'
        '[destinations.plain]\nurl = "http://fhir.example/r4"\n[destinations.bare]\nauth = "none"\n'
    )
    code, found = doctor("send")
    told = " ".join(one["found"] for one in found["FHIR server"])
    assert code == 3
    assert f"near (http://127.0.0.1:{port}/fhir): nobody answers at 127.0.0.1 port {port}" in told
    assert "the name nowhere.invalid is not known (DNS)" in told
    assert "would send patients' data readable" in told
    assert "destinations.bare.url" in told
    assert doctor("send", "--to", "near")[0] == 6
    assert len(doctor("send", "--to", "near")[1]["FHIR server"]) == 1


def test_what_a_server_says_of_itself(doctor, stub):
    def said(version="4.0.1", **more):
        statement = {"resourceType": "CapabilityStatement", "fhirVersion": version, **more}
        stub.fault = lambda asked: Fault(200, {}, statement) if asked.path == "metadata" else None
        return doctor("send", "--to", stub.base)

    code, found = said("5.0.0")
    assert (code, "speaks FHIR 5.0.0, not R4" in refused(found)["found"]) == (6, True)
    code, found = said(rest=[{"resource": [{"type": "Patient"}]}])
    assert (code, "knows no ImagingStudy" in refused(found)["found"]) == (6, True)
    reads = {"type": "ImagingStudy", "interaction": [{"code": "read"}, {"code": "create"}]}
    code, found = said(rest=[{"resource": [{"type": "Patient"}, reads]}])
    assert code == 0
    told = the(found, "FHIR server", "warning")["found"]
    assert "has no search-type, update of ImagingStudy, by what it says of itself" in told


def test_a_clock_that_is_wrong(doctor, stub):
    past = format_datetime(datetime.fromtimestamp(time.time() - 600, UTC), usegmt=True)
    stub.fault = lambda asked: Fault(headers={"Date": past})
    code, found = doctor("send", "--to", stub.base)
    assert code == 0
    assert "its clock is 10 min behind ours" in the(found, "FHIR server", "warning")["found"]
    stub.fault = lambda asked: Fault(headers={"Date": "some day"})
    assert all_ok(doctor("send", "--to", stub.base)[1])


def test_credentials_that_are_taken_and_not(doctor, stub, home, monkeypatch):
    (home / "dcm2fhir.toml").write_text(
        f'[destinations.main]\nurl = "{stub.base}"\nauth = "oauth2"\nclient_id = "us"\ntoken_url = "{stub.base}/token"\n'
    )
    monkeypatch.setenv("DCM2FHIR_DESTINATIONS__MAIN__CLIENT_SECRET", "CANARYSECRET")
    stub.fault = lambda asked: (
        Fault(401, {}, b"") if asked.kind == "ImagingStudy" and asked.headers.get("authorization") != f"Bearer {stub.token}" else None
    )  # fmt: skip
    code, found = doctor("send")
    assert code == 0
    assert found["FHIR server"][0]["found"].endswith("finds and takes ImagingStudy, lets us in")
    stub.fault = lambda asked: Fault(401, {}, {"error": "x"}) if asked.path == "token" else None
    code, found = doctor("send")
    assert code == 6
    assert refused(found)["found"].endswith("no token was given")
    assert "client_secret_file" in refused(found)["fix"]
    assert "CANARYSECRET" not in json.dumps(found)


@pytest.fixture
def secured(tmp_path, authority):
    """Start a server with a certificate that holds from and to some day."""
    started = []

    def start(days, name="server"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*written(tmp_path, name, certificate(name, authority, days=days)))
        started.append(Stub(tls=context).start())
        return started[-1].base

    yield start
    for one in started:
        one.stop()


def test_certificates_of_servers(doctor, home, tmp_path, authority, secured):
    ca, _ = written(tmp_path, "ca", authority)
    bases = {"good": secured((-1, 90)), "old": secured((-9, -2)), "soon": secured((-9, 9))}
    known = "".join(f'[destinations.{n}]\nurl = "{b}"\nca = "{ca}"\n' for n, b in bases.items())
    (home / "dcm2fhir.toml").write_text(f'{known}[destinations.unknown]\nurl = "{bases["good"]}"\n')
    code, found = doctor("send")
    assert code == 6
    told = {one["found"].partition(" ")[0]: one for one in found["FHIR server"] if one["status"] != "ok"}  # fmt: skip
    assert told.keys() == {"old", "soon", "unknown"}
    assert "certificate has expired" in told["old"]["found"]
    assert "its certificate: runs out in 8 days" in told["soon"]["found"]
    assert "not believed" in told["unknown"]["found"]
    assert told["unknown"]["fix"].startswith("ca = FILE in [destinations.unknown]")


# the queue


@pytest.fixture
def folder(home, make_dicom):
    """Three studies in a folder ``in``."""
    (home / "in").mkdir()
    for n in range(3):
        data = make_dicom(f"1.2.3.{n}", patient=f"CANARYID{n}", name="CANARY^Robin")
        (home / "in" / f"{n}.dcm").write_bytes(data)
    return home


def test_dead_letters_and_what_has_waited_long(doctor, stub, folder, tmp_path):
    said = outcome("value", "CANARY", expression=["ImagingStudy.status"])
    stub.fault = lambda asked: Fault(422, {}, said) if asked.method == "PUT" and asked.kind == "ImagingStudy" else None  # fmt: skip
    assert run(["convert", "in", "--to", stub.base, "-q"]) == 1
    stub.fault = lambda asked: None
    code, found = doctor("send")
    state = tmp_path / "home" / "dcm2fhir" / "convert.db"
    assert code == 0
    one = the(found, "queue", "warning")
    assert "3 studies refused, the oldest " in one["found"]
    assert one["fix"] == f"dcm2fhir dead list --state {state}"
    assert found["FHIR server"][0]["status"] == "ok", "a server of the queue alone is asked too"
    with closing(sqlite3.connect(state)) as held:
        held.execute("UPDATE outbox SET state = 'due', since = since - 9000")
        held.commit()
    _, found = doctor("send")
    assert "3 studies waiting, the oldest for 2 h" in the(found, "queue", "warning")["found"]
    assert "CANARY" not in json.dumps(found)


def test_a_circuit_and_a_destination_that_nobody_knows_any_more(doctor, stub, folder):
    configuration = folder / "dcm2fhir.toml"
    configuration.write_text(f'[destinations.main]\nurl = "{stub.base}"\n')
    stub.fault = lambda asked: Fault(403, {}, outcome("forbidden", "CANARY"))
    assert run(["convert", "in", "--to", "main", "-q"]) == 6
    stub.fault = lambda asked: None
    _, found = doctor("send")
    assert the(found, "queue", "warning")["found"].startswith("main: nothing is sent but one try")
    configuration.unlink()
    _, found = doctor("send")
    told = [one["found"] for one in found["queue"]]
    assert "main: is in no configuration; its studies are kept, and sent to nobody" in told
    assert "FHIR server" not in found
