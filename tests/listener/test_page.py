"""The status page: who sees what, hostile text, nothing written, nothing held up."""

from __future__ import annotations

import base64
import http.client
import re
import shutil
import socket
import subprocess
import threading
import time
from contextlib import contextmanager

import msgspec
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from converter.cli.checks.ports import _http_taken
from converter.cli.studies import STATES as CLI_STATES
from converter.errors import ConfigurationError, StoreError
from converter.listener import http as listener_http
from converter.listener import page, window
from converter.listener.board import Board, Waiting
from converter.listener.desk import Desk
from converter.listener.http import serve
from converter.listener.markup import Markup, element, shown
from converter.listener.record import Received
from converter.listener.web import StatusPages, token_of
from converter.listener.window import PAGE, STATES, Window
from converter.store import place_of
from converter.store.outbox import Outbox

TOKEN = "a-token-of-these-tests"
HOSTILE = (
    "<script>document.title='PWNED'</script>",
    '"><img src=//evil.example onerror=alert(1)>',
    "'><svg/onload=alert(1)>\u202egnp.exe\u0007",
    "</title></style></pre><iframe src=//evil.example>",
)
CANARY = "2.25.987654321"


def received(number, study, *, patient=b"P1", calling="CT1", stamp=None):
    header = {0x00100020: patient, 0x0020000D: study.encode(), 0x0020000E: b"1.2"}
    return Received(
        stamp or number, 1, calling, study, f"{study}.1", f"{study}.1.{number}", [], header
    )


@pytest.fixture
def state(tmp_path):
    """A state with its tables, and its path."""
    path = tmp_path / "listen.db"
    Desk(path).close()
    return path


@pytest.fixture(params=["file", "server"])
def anywhere(request):
    """A state in a file, and one on a PostgreSQL server."""
    if request.param == "file":
        return request.getfixturevalue("state")
    place = place_of(request.getfixturevalue("postgres").url())
    Desk(place).close()
    return place


def fill(path, count, *, first=0, now=1000.0):
    """Receive so many studies, a second after each other."""
    desk = Desk(path)
    for number in range(first, first + count):
        desk.ingest([(1, received(1, f"1.2.{number}"))], now + number)
    desk.close()


@contextmanager
def serving(tmp_path, path, **settings):
    board = Board(tmp_path, 0)
    board.bound, board.running = True, 1
    web = serve(("127.0.0.1", 0), board, StatusPages(board, lambda: Window(path, tmp_path)), TOKEN)
    try:
        yield web.server_port, board
    finally:
        web.shutdown()
        web.server_close()


@pytest.fixture
def served(tmp_path, state):
    with serving(tmp_path, state) as (port, _):
        yield port


def ask(port, path, *, method="GET", token=TOKEN, **headers):
    """(status, headers, text); ``token=None``: without."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    if token is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(f"who:{token}".encode()).decode()
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


# escaping


@pytest.mark.parametrize("text", HOSTILE)
def test_text_never_becomes_markup(text):
    made = element("td", text, title=text, data_label=text)
    assert re.fullmatch(r'<td title="[^"<>]*" data-label="[^"<>]*">[^<>]*</td>', made)
    assert element("p", element("b", "x"), text).startswith("<p><b>x</b>")


def test_what_is_joined_to_markup_is_escaped_again():
    assert element("p", Markup("<b>") + "<i>") == "<p>&lt;b&gt;&lt;i&gt;</p>"


def test_invisible_characters_are_written_out():
    assert (
        shown("a\u202eb\u0000c\u200bd\x85\ud800\U000e0041")
        == r"a\u202eb\u0000c\u200bd\u0085\ud800\udb40\udc41"
    )
    assert shown("Äß\n東京") == "Äß\n東京"


# who is answered


PATHS = ["/", "/page.css", "/studies", "/study?uid=1.2.0", "/dead", "/associations", "/livez", "/readyz", "/metrics", "/no-such"]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_forbids_what_a_page_could_be_made_to_do(served, path):
    for token in (None, TOKEN):
        _, headers, _ = ask(served, path, token=token)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "script" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "NONSENSE"]
)
@pytest.mark.parametrize("path", ["/", "/studies", "/metrics"])
def test_only_reading_is_allowed(served, method, path):
    status, headers, _ = ask(served, path, method=method)
    assert status == 405
    assert headers["Allow"] == "GET, HEAD"


def test_head_gives_the_headers_alone(served):
    status, headers, text = ask(served, "/studies", method="HEAD")
    assert status == 200
    assert int(headers["Content-Length"]) > 500
    assert text == ""


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200), ("127.0.0.1:8080", 200), ("localhost:9000", 200), ("LOCALHOST", 200), ("[::1]:80", 200),
        ("127.1.2.3", 200), ("evil.example", 421), ("evil.example:8080", 421), ("localhost.evil.example", 421),
        ("10.0.0.1", 421), ("127.0.0.1.evil.example", 421), ("127.0.0.1@evil.example", 421), ("", 421),
        ("0.0.0.0", 421), ("localhost:8080:1", 421), ("localhost evil", 421),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/", "/studies", "/metrics"])
def test_only_a_name_of_loopback_is_answered(served, host, status, path):
    assert ask(served, path, Host=host)[0] == status


def raw(port, data, timeout=20):
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as sock:
        sock.sendall(data)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def test_a_probe_without_host_is_answered_and_two_hosts_are_not(served):
    assert b" 200 " in raw(served, b"GET /readyz HTTP/1.0\r\n\r\n").splitlines()[0]
    twice = b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
    assert b" 421 " in raw(served, twice).splitlines()[0]


@pytest.mark.parametrize("head", [b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"<script> a b c\r\n\r\n", b"\x16\x03\x01\n\n", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n"])  # fmt: skip
def test_what_is_no_request_is_answered_without_its_words(served, head):
    answer = raw(served, head)
    assert b"script" not in answer
    assert b"Traceback" not in answer
    assert ask(served, "/livez")[0] == 200


@pytest.mark.parametrize("path", ["/studies", "/study?uid=1.2.0", "/dead", "/associations"])
@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "x", TOKEN[:-1], "ÄÖ"])
def test_what_names_studies_or_peers_wants_the_token(served, path, token):
    status, headers, text = ask(served, path, token=token)
    assert status == 401
    assert headers["WWW-Authenticate"].startswith("Basic ")
    assert "1.2.0" not in text


@pytest.mark.parametrize(
    "given", ["Basic", "Basic !!!", "Bearer " + TOKEN, "Basic " + TOKEN, "Digest a=b"]
)
def test_other_ways_to_say_it_are_no_token(served, given):
    assert ask(served, "/studies", token=None, Authorization=given)[0] == 401


def test_numbers_without_the_token_name_nobody(tmp_path, state):
    desk = Desk(state)
    desk.ingest([(1, received(1, CANARY, calling="SECRETAE"))], 1000.0)
    desk.close()
    with serving(tmp_path, state) as (port, board):
        board.open = [(1, "10.9.8.7", CANARY)]
        board.set_totals({"new": 1}, {"receiving": 1})
        for path in PATHS:
            text = ask(port, path, token=None)[2]
            assert not re.search(rf"{CANARY}|SECRETAE|10\.9\.8\.7", text), path
        assert CANARY in ask(port, "/studies")[2]
        assert "10.9.8.7" in ask(port, "/associations")[2]
        assert "SECRETAE" in ask(port, f"/study?uid={CANARY}")[2]


def test_the_overview_says_why_it_is_not_ready(tmp_path, state):
    with serving(tmp_path, state) as (port, board):
        assert "Ready: it listens" in ask(port, "/", token=None)[2]
        board.bound = False
        board.beat("writer", "the study store cannot be written")
        text = ask(port, "/", token=None)[2]
    assert "Not ready" in text
    assert "not-listening" in text
    assert "writer: the study store cannot be written" in text


def test_an_output_that_takes_nothing_leaves_it_ready_and_is_said(tmp_path, state):
    """A balancer would otherwise take hosts out that can receive."""
    with serving(tmp_path, state) as (port, board):
        board.beat("publisher", "studies cannot be published")
        status, _, text = ask(port, "/readyz", token=None)
        assert (status, text) == (200, "ok\npublisher: studies cannot be published\n")
        page = ask(port, "/", token=None)[2]
        seen = _http_taken(port, "HTTP port")
    assert seen.status == "warning"
    assert "receives and is hindered: publisher: studies cannot be published" in seen.found
    assert "Ready: it listens" in page
    assert "<strong>Received, not published</strong>" in page


# the token


def test_the_token_is_made_once_and_private(tmp_path):
    file = tmp_path / "status.token"
    made = token_of(file)
    assert len(made) >= 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert token_of(file) == made


def test_a_token_that_others_may_read_or_guess_is_refused(tmp_path):
    file = tmp_path / "status.token"
    token_of(file)
    file.chmod(0o640)
    with pytest.raises(ConfigurationError, match="others may read"):
        token_of(file)
    file.chmod(0o600)
    file.write_text("short\n")
    with pytest.raises(ConfigurationError, match="16 characters"):
        token_of(file)
    file.write_bytes(b"\xff" * 40)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        token_of(file)
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        token_of(file)


# pages


def links(text):
    return re.findall(r'href="/study\?uid=([0-9.]+)"', text)


def following(text):
    found = re.search(r'<p class="pages"><a href="([^"]+)"', text)
    return found and found[1].replace("&amp;", "&")


def test_pages_hold_each_study_once_the_latest_first(tmp_path, anywhere):
    fill(anywhere, 2 * PAGE + 7)
    seen = []
    with serving(tmp_path, anywhere) as (port, _):
        path = "/studies"
        while path:
            text = ask(port, path)[2]
            seen.append(links(text))
            path = following(text)
    assert [len(one) for one in seen] == [PAGE, PAGE, 7]
    assert [uid for one in seen for uid in one] == [
        f"1.2.{n}" for n in reversed(range(2 * PAGE + 7))
    ]


def test_studies_of_one_moment_do_not_fall_between_pages(tmp_path, anywhere):
    desk = Desk(anywhere)
    desk.ingest([(1, received(1, f"1.2.{n}")) for n in range(PAGE + 5)], 1000.0)
    desk.close()
    with serving(tmp_path, anywhere) as (port, _):
        first = ask(port, "/studies")[2]
        second = ask(port, following(first))[2]
    assert len(set(links(first) + links(second))) == PAGE + 5


def test_a_page_of_one_state(tmp_path, anywhere):
    fill(anywhere, 3)
    desk = Desk(anywhere)
    desk.ingest([(1, received(2, "1.2.1", patient=b"P2", stamp=9))], 2000.0)
    desk.exclude("1.2.2", 2001.0)
    desk.close()
    with serving(tmp_path, anywhere) as (port, _):
        assert links(ask(port, "/studies?state=conflict")[2]) == ["1.2.1"]
        assert links(ask(port, "/studies?state=settled")[2]) == ["1.2.2"]  # to be taken back
        assert links(ask(port, "/studies?state=held")[2]) == []
        assert ask(port, "/studies?state=none-such")[0] == 404
        whole = ask(port, "/study?uid=1.2.1")[2]
    assert "patient-conflict" in whole
    assert "P2" not in whole


@pytest.mark.parametrize("query", ["time=x", "time=nan", "time=inf", "time=1e999", "state=%00", "uid=%00", "time=5&uid=%F0%9F", "a=1&" * 20, "time=5&uid=" + "9" * 3000])  # fmt: skip
@pytest.mark.parametrize("path", ["/studies", "/dead", "/study"])
def test_queries_that_nobody_meant_harm_nothing(served, path, query):
    assert ask(served, f"{path}?{query}")[0] in {200, 400, 404}


def test_the_states_are_those_of_the_command_line():
    assert set(STATES) == set(CLI_STATES) == set(page._STATES)


def test_dead_letters_come_with_what_they_mean(tmp_path, anywhere):
    fill(anywhere, PAGE + 3)
    desk = Desk(anywhere)
    with desk.database.transaction() as db:
        for number in range(PAGE + 3):
            db.execute(
                "INSERT INTO outbox (destination, study_uid, wanted, state, next_attempt, since, reason, attempts) "
                "VALUES ('https://fhir.example/r4', ?, 1, ?, 0, ?, 'refused', 1)",
                (f"1.2.{number}", "held" if number % 2 else "dead", float(number)),
            )
    assert len(Outbox(desk.database).letters()) == PAGE + 3
    counted, oldest, circuits = desk.waiting()
    assert sum(counted.values()) == PAGE + 3
    assert (oldest, circuits) == (0.0, 0)
    desk.close()
    with serving(tmp_path, anywhere) as (port, board):
        board.waiting = Waiting(counted, oldest, circuits)
        first = ask(port, "/dead")[2]
        second = ask(port, following(first))[2]
        assert "refused the study for good" in first
        assert links(first) + links(second) == [f"1.2.{n}" for n in range(PAGE + 3)]
        assert f">{PAGE + 3}</b>" in ask(port, "/", token=None)[2]
        assert 'dcm2fhir_outbox{state="dead"}' in ask(port, "/metrics", token=None)[2]


# nothing is written, nothing is held up


def test_a_window_cannot_write(anywhere):
    held = Window(anywhere)
    with pytest.raises(StoreError), held.database.transaction() as db:
        db.execute("DELETE FROM received_study")
    held.close()


def test_a_query_that_takes_too_long_is_ended(anywhere, monkeypatch, tmp_path):
    monkeypatch.setattr(window, "SECONDS", 0.2)
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT (x + 1) % 1000 FROM n) SELECT count(*) FROM n"
    held = Window(anywhere)
    with pytest.raises(StoreError):
        held.all(endless)
    held.close()
    monkeypatch.setattr(Window, "listed", lambda self, *_: self.all(endless))
    with serving(tmp_path, anywhere) as (port, _):
        assert ask(port, "/studies")[0] == 503


def test_a_fault_of_a_page_is_told_and_logged_by_its_type(tmp_path, state, monkeypatch, caplog):
    def fails(*_):
        raise RuntimeError("CANARY")

    monkeypatch.setattr(Window, "listed", fails)
    with serving(tmp_path, state) as (port, _):
        status, _, text = ask(port, "/studies")
    assert status == 500
    assert "CANARY" not in text
    assert "RuntimeError" in caplog.messages[-1]


def test_a_page_costs_the_same_whatever_the_store_holds(state):
    """Each query goes along an index to its LIMIT; none sorts or looks through a table."""
    fill(state, 3)
    held = Window(state)
    asked = []
    held.database.connection.set_trace_callback(asked.append)
    held.listed()
    held.listed("published", (5.0, "1.2"))
    held.letters()
    held.letters((5.0, "a", "b"))
    held.whole("1.2.1")
    held.database.connection.set_trace_callback(None)
    plans = {
        sql: held.all(f"EXPLAIN QUERY PLAN {sql}") for sql in asked if sql.startswith("SELECT")
    }
    held.close()
    assert len(plans) > 5
    for sql, plan in plans.items():
        for step in plan:
            assert not step[3].startswith("SCAN"), sql
            assert "ORDER BY" not in step[3] or "received_instance" in sql, (sql, plan)


def test_looking_does_not_hold_up_receiving(anywhere):
    fill(anywhere, 3)
    held = Window(anywhere)
    held.listed()
    fill(anywhere, 1, first=3)
    assert len(held.listed()) == 4
    held.close()


def test_whoever_says_nothing_makes_way_for_those_who_ask(served, monkeypatch):
    silent = [
        socket.create_connection(("127.0.0.1", served)) for _ in range(3 * listener_http.MOST)
    ]
    try:
        for _ in range(5):
            assert ask(served, "/readyz")[0] == 200
        assert threading.active_count() < 2 * listener_http.MOST + 20
    finally:
        for sock in silent:
            sock.close()


def test_a_request_that_does_not_come_is_given_up(served, monkeypatch):
    monkeypatch.setattr(listener_http, "SECONDS", 0.2)
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", served), timeout=20) as sock:
        sock.sendall(b"GET / HT")
        assert sock.recv(100) == b""
    assert time.monotonic() - began < 10


def test_a_request_without_end_is_given_up(served):
    with socket.create_connection(("127.0.0.1", served), timeout=20) as sock:
        try:
            for _ in range(10_000):
                sock.sendall(b"a" * 4096)
        except OSError:  # reset or broken pipe, as it comes
            pass
        else:
            pytest.fail("it took 40 MB")
    assert ask(served, "/livez")[0] == 200


# a real daemon, a real browser


def hostile_object(path):
    """Write an object with hostile text wherever it takes some."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SpecificCharacterSet = "ISO_IR 192"
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = CTImageStorage
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = f"{CANARY}.1.1"
    made.StudyInstanceUID, made.SeriesInstanceUID, made.Modality = CANARY, f"{CANARY}.1", "CT"
    made.PatientID, made.PatientName, made.StudyID = (
        "P<b>1</b>",
        '<script>alert(1)</script>^"><svg>',
        "<b>x</b>",
    )
    made.StudyDescription, made.SeriesDescription = HOSTILE[1], HOSTILE[2]
    made.AccessionNumber, made.ReferringPhysicianName = (
        '"><script>',
        "<script>alert(2)</script>^'><b>",
    )
    made.InstitutionName, made.BodyPartExamined, made.StationName = (
        HOSTILE[3],
        "<I>CHEST</I>",
        "'><b>",
    )
    made.save_as(path, enforce_file_format=True)


@pytest.mark.interop
@pytest.mark.filterwarnings("ignore:Invalid value for VR CS:UserWarning")
def test_no_script_runs_in_a_real_browser(daemon, tmp_path):
    browser = shutil.which("chromium")
    assert browser, "chromium is missing: apt-get install chromium"
    storescu = next(p for p in ("/usr/bin/storescu", "/usr/local/bin/storescu") if shutil.which(p))
    hostile_object(tmp_path / "hostile.dcm")
    running = daemon()
    subprocess.run(
        [storescu, "-aet", "<img src=x>", "127.0.0.1", str(running.port), tmp_path / "hostile.dcm"],
        check=True, capture_output=True,
    )  # fmt: skip
    running.published(1)
    running.until(lambda: "published" in running.studies("list"))
    token = (running.state.parent / "journal" / "status.token").read_text().strip()

    def load(path):
        """(DOM after loading, what the browser said)."""
        done = subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'browser'}",
                "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--enable-logging=stderr", "--v=0",
                "--dump-dom", running.http.replace("http://", f"http://who:{token}@") + path,
            ],
            capture_output=True, timeout=120, check=True,
        )  # fmt: skip
        return done.stdout.decode(), done.stderr.decode()

    dom, said = load(f"/study?uid={CANARY}")
    assert "CONSOLE" not in said, said  # a violation of the policy, an error of a script
    assert "<title>Study · dcm2fhir listener</title>" in dom
    assert not re.search(
        r"<(script|img|svg|iframe)|\son\w+=", re.sub(r"<code>.*?</code>", "", dom, flags=re.DOTALL)
    )
    assert not re.search(r"<(script|img|svg|iframe|b|i)[ />]", dom.partition("<main")[2])
    assert "&gt;&lt;img src=//evil.example onerror=alert(1)&gt;" in dom
    assert "&gt;&lt;svg/onload=alert(1)&gt;" in dom
    assert "&lt;img src=x&gt;" in dom
    assert "\u202e" not in dom
    assert set(re.findall(r'\s(?:src|href|action)="([^"#?]*)', dom)) <= {"", "/", "/page.css", "/studies", "/study", "/dead", "/associations"}  # fmt: skip
    dom, said = load("/studies")
    assert "CONSOLE" not in said, said
    assert CANARY in dom
    running.end()


def test_the_daemon_shows_the_resource_that_stands(daemon, tmp_path, make_dicom):
    (tmp_path / "one.dcm").write_bytes(make_dicom(study=CANARY, name="Canary^Robin"))
    running = daemon()
    subprocess.run(
        ["/usr/bin/storescu", "127.0.0.1", str(running.port), tmp_path / "one.dcm"], check=True, capture_output=True
    )  # fmt: skip
    (resource,) = running.published(1)
    running.until(lambda: "published" in running.studies("list"))
    port = int(running.http.rpartition(":")[2])
    token = (running.state.parent / "journal" / "status.token").read_text().strip()
    status, _, text = ask(port, f"/study?uid={CANARY}", token=token)
    assert status == 200
    assert "as it stands in the output folder" in text
    assert resource["id"] in text
    assert ask(port, "/study?uid=1.2.3.4", token=token)[0] == 404
    assert ask(port, f"/study?uid={CANARY}", token=TOKEN)[0] == 401
    assert "status.token" in running.text()
    assert token not in running.text()
    running.end()


def test_what_was_converted_is_shown_where_there_is_no_folder(tmp_path, anywhere, make_dicom):
    from converter.store.interface import Converted

    fill(anywhere, 1)
    desk = Desk(anywhere)
    held = Converted("1.2.0", "converted", b'{"resourceType":"ImagingStudy"}', [], [], 1, 1, [], [])
    large = msgspec.structs.replace(held, resource=b'{"a":"' + b"x" * window.LARGEST + b'"}')
    sql = (
        "INSERT INTO converted (study_uid, state, series, instances, data) VALUES ('1.2.0', 'converted', 1, 1, ?) "
        "ON CONFLICT (study_uid) DO UPDATE SET data = excluded.data"
    )
    with serving(tmp_path, anywhere) as (port, _):
        assert "None was made yet" in ask(port, "/study?uid=1.2.0")[2]
        for one, words in ((held, "as it was converted last"), (large, "too large for a page")):
            with desk.database.transaction() as db:
                db.execute(sql, (msgspec.msgpack.encode(one),))
            text = ask(port, "/study?uid=1.2.0")[2]
            assert words in text
            assert len(text) < 100_000
    desk.close()
