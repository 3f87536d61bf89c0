"""What is promised of a destination, held by servers of different origin; the stub tells what is our own fault."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest

from converter.cli.main import run
from converter.core.ids import patient_id, study_id
from converter.core.rejection import is_withdrawn, withdraw
from converter.delivery.destinations import look
from converter.delivery.job import Policy
from tests.delivery.made import SYSTEM, client, instances, patient, send, series, study
from tests.servers.processes import MissingError, hapi, sekmet
from tests.servers.stub import Stub

ROOT = Path(__file__).resolve().parents[2]
REAL = ["hapi", "hapi-validate", "hapi-server-ids", "sekmet"]
SERVERS = [
    "stub",
    *(pytest.param(name, marks=pytest.mark.servers) for name in REAL),
]
numbers = itertools.count(int.from_bytes(os.urandom(3), "big") * 1000)


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """Servers by name, each started when a test first asks for it."""
    bases = {}
    with ExitStack() as stack:

        def start(name):
            if name not in bases:
                try:
                    if name == "stub":
                        bases[name] = stack.enter_context(Stub()).base
                    elif name == "sekmet":
                        bases[name] = stack.enter_context(sekmet(tmp_path_factory.mktemp("sekmet")))
                    else:
                        options = [name.removeprefix("hapi-")] if "-" in name else []
                        bases[name] = stack.enter_context(hapi(*options))
                except MissingError as error:
                    if os.environ.get("CI"):
                        raise
                    pytest.skip(str(error))
            return bases[name]

        yield start


@pytest.fixture(params=SERVERS)
def server(request, started):
    return Server(started(request.param), request.param)


class Server:
    """One server, and a study of its own for each test."""

    def __init__(self, base, name):
        self.base = base
        self.name = name
        self.number = str(next(numbers))
        self.uid = f"1.2.826.0.1.{self.number}"
        self.speaker = client(base)

    def get(self, path):
        request = urllib.request.Request(f"{self.base}/{path}", headers={"Accept": "application/fhir+json", "Cache-Control": "no-cache"})  # fmt: skip
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def put(self, resource, method="PUT"):
        path = resource["resourceType"] + (f"/{resource['id']}" if method != "POST" else "")
        data = json.dumps(resource).encode() if method != "DELETE" else None
        request = urllib.request.Request(f"{self.base}/{path}", data, {"Content-Type": "application/fhir+json"}, method=method)  # fmt: skip
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()

    def patient(self, **more):
        return patient(self.number, text=narrative("Patient"), **more)

    def study(self, *listed, **more):
        made = study(*(listed or (self.series(1, 1, 2),)), uid=self.uid, subject=self.about(), **more)  # fmt: skip
        return {**made, "text": narrative("Study")}

    def about(self):
        return {
            "reference": f"Patient/{patient_id(SYSTEM, self.number, '')}",
            "type": "Patient",
            "identifier": {"system": SYSTEM, "value": self.number},
        }

    def series(self, number, *listed):
        made = series(number, *listed)
        made["uid"] = f"{self.uid}.{number}"
        for instance in made["instance"]:
            instance["uid"] = f"{self.uid}.{number}.{instance['number']}"
        return made

    def send(self, resource=None, *, held=None, policy=None, companions=None, **job):
        given = [self.patient()] if companions is None else companions
        return send(self.speaker, resource or self.study(), given, held=held, policy=policy, **job)

    def found(self, kind="ImagingStudy"):
        system, value = ("urn:dicom:uid", f"urn:oid:{self.uid}") if kind == "ImagingStudy" else (SYSTEM, self.number)  # fmt: skip
        token = urllib.request.quote(f"{system}|{value}")
        bundle = self.get(f"{kind}?identifier={token}")
        return [entry["resource"] for entry in bundle.get("entry", [])]

    def only(self, kind="ImagingStudy"):
        (held,) = self.found(kind)
        return held


@pytest.fixture(autouse=True)
def _closed(request):
    yield
    held = request.node.funcargs.get("server")
    if held is not None:
        held.speaker.close()


def narrative(text):
    return {
        "status": "generated",
        "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{text}</div>',
    }


def test_the_study_and_its_patient_stand(server):
    done = server.send()
    assert (done.state, done.reason) == ("delivered", "")
    held = server.only()
    assert instances(held) == [f"{server.uid}.1.1", f"{server.uid}.1.2"]
    person = server.get(held["subject"]["reference"])
    assert person["identifier"][0]["value"] == server.number
    if "server-ids" not in server.name:
        assert held["id"] == study_id(server.uid)


def test_again_nothing_is_written_whether_it_is_remembered_or_not(server):
    first = server.send()
    before = server.only()["meta"]["versionId"]
    for held in (first, None):
        again = server.send(held=held)
        assert (again.state, again.wrote) == ("delivered", False)
    assert server.only()["meta"]["versionId"] == before


def test_a_late_half_is_united(server):
    server.send()
    assert server.send(server.study(server.series(1, 3), server.series(2, 1))).state == "delivered"
    held = server.only()
    assert len(instances(held)) == 4
    assert (held["numberOfSeries"], held["numberOfInstances"]) == (2, 4)


def test_two_halves_at_the_same_moment_leave_the_whole(server):
    for _ in range(3):
        server.number = str(next(numbers))
        server.uid = f"1.2.826.0.1.{server.number}"
        halves = [server.study(server.series(n, *range(1, 6))) for n in (1, 2)]
        together = threading.Barrier(2)
        ended = []

        def one(half, together=together, ended=ended):
            speaker = client(server.base)
            together.wait()
            done = None
            for _ in range(20):
                done = send(speaker, half, [server.patient()], held=done)
                if done.state == "delivered":
                    break
            ended.append(done.state)
            speaker.close()

        threads = [threading.Thread(target=one, args=(half,)) for half in halves]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ended == ["delivered", "delivered"]
        held = server.only()
        assert len(instances(held)) == 10
        assert held["numberOfInstances"] == 10


def test_what_others_wrote_stays(server):
    first = server.send()
    theirs = server.only()
    del theirs["meta"]
    server.put({**theirs, "status": "cancelled", "note": [{"text": "seen"}]})
    assert server.send(server.study(server.series(1, 3)), held=first).state == "delivered"
    held = server.only()
    assert (held["status"], held["note"][0]["text"]) == ("cancelled", "seen")
    assert len(instances(held)) == 3


def test_a_withdrawn_study_is_emptied_and_comes_back_and_begins_nothing(server):
    empty, gone = withdraw(server.study()), {"tombstones": frozenset(instances(server.study()))}
    assert not server.send(empty, withdrawn=True, **gone).wrote
    assert (server.found(), server.found("Patient")) == ([], [])
    first = server.send()
    emptied = server.send(empty, held=first, withdrawn=True, **gone)
    assert (emptied.state, emptied.wrote) == ("delivered", True)
    assert is_withdrawn(server.only())
    assert not server.send(empty, held=emptied, withdrawn=True, **gone).wrote
    assert server.send(held=emptied).wrote
    assert server.only()["status"] == "available"
    assert len(instances(server.only())) == 2


def test_what_was_deleted_is_not_brought_back(server):
    first = server.send()
    server.put(server.only(), method="DELETE")
    for held in (first, None) if "server-ids" not in server.name else (first,):
        done = server.send(held=held)
        assert (done.state, done.reason) == ("dead", "deleted-on-server")
    assert server.found() == []


def test_a_patient_that_stands_there_is_used(server):
    theirs = {**server.patient(), "id": f"theirs-{server.number}"}
    server.put(theirs, method="POST" if "server-ids" in server.name else "PUT")
    done = server.send(policy=Policy(patient_lookup="hold"))
    assert done.state == "delivered"
    assert server.only()["subject"]["reference"] == f"Patient/{server.only('Patient')['id']}"


def test_two_patients_hold_the_study(server):
    for n in (1, 2):
        theirs = {**server.patient(), "id": f"theirs-{server.number}-{n}"}
        server.put(theirs, method="POST" if "server-ids" in server.name else "PUT")
    done = server.send(policy=Policy(patient_lookup="create"))
    assert (done.state, done.reason) == ("held", "patient-ambiguous")
    assert server.found() == []


def test_without_a_patient_it_is_held_where_that_was_asked(server):
    done = server.send(policy=Policy(patient_lookup="hold"))
    assert (done.state, done.reason) == ("held", "patient-not-found")


def test_a_study_of_another_patient_is_not_relinked(server):
    server.send()
    other = patient(f"{server.number}8", text=narrative("Patient"))
    about = {"reference": f"Patient/{other['id']}", "type": "Patient", "identifier": other["identifier"][0]}  # fmt: skip
    done = server.send({**server.study(server.series(1, 3)), "subject": about}, companions=[other])
    assert (done.state, done.reason) == ("held", "subject-mismatch")
    assert len(instances(server.only())) == 2


def test_a_missing_patient_is_sent(server):
    key = f"Patient/{server.patient()['id']}"
    done = send(server.speaker, server.study(), [server.patient()], known={key: key})
    if server.name not in {"sekmet", "hapi-server-ids"}:  # sekmet takes a reference to nobody
        assert done.state == "delivered"
        assert server.only("Patient")["identifier"][0]["value"] == server.number


def test_two_studies_are_a_dead_letter_that_names_them(server):
    server.send(server.study())
    first = server.only()
    del first["meta"]
    server.put({**first, "id": f"copy-{server.number}"}, method="POST" if "server-ids" in server.name else "PUT")  # fmt: skip
    done = server.send(server.study(server.series(1, 3)))
    assert (done.state, done.reason) == ("dead", "several-matches")
    assert len(done.refusal.names) == 2


@pytest.mark.servers
def test_a_validating_server_refuses_with_a_reason_and_without_words(started):
    server = Server(started("hapi-validate"), "hapi-validate")
    person = server.patient(name=[{"family": "Canary"}])
    bad = Policy(finish=lambda resource, _patient, _dropped: {**resource, "status": "Canary"} if resource["resourceType"] == "ImagingStudy" else resource)  # fmt: skip
    done = server.send(policy=bad, companions=[person])
    server.speaker.close()
    assert (done.state, done.reason, done.refusal.status) == ("dead", "refused", 422)
    assert done.refusal.issues
    assert "Canary" not in str(done.refusal)
    assert server.found() == []


# the command line, whole processes of it

SITE = '[site.patient]\nsystem = "https://hospital.example/mrn"\n'


def convert(folder, base, state, *more):
    return subprocess.Popen(
        [sys.executable, "-m", "converter", "convert", str(folder), "--to", base, "--state", str(state),
         "--config", str(state.parent / "site.toml"), "-j", "1", *more],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def waited(*processes):
    """What each of them told; none is left behind, whatever happens."""
    try:
        for process in processes:
            told, _ = process.communicate(timeout=200)
            assert process.returncode == 0, told
            yield told
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.mark.servers
def test_eight_processes_with_the_same_100_studies_leave_100(started, tmp_path, make_dicom):
    base = started("hapi")
    (tmp_path / "site.toml").write_text(SITE)
    folder = tmp_path / "in"
    folder.mkdir()
    first = next(numbers)
    for n in range(100):
        data = make_dicom(f"1.2.826.0.2.{first}.{n}", patient=f"{first}-{n}")
        (folder / f"{n}.dcm").write_bytes(data)
    list(waited(*(convert(folder, base, tmp_path / f"{p}.db") for p in range(8))))
    for n in range(100):
        server = Server(base, "hapi")
        server.speaker.close()
        server.uid, server.number = f"1.2.826.0.2.{first}.{n}", f"{first}-{n}"
        held, person = server.only(), server.only("Patient")
        assert held["subject"]["reference"] == f"Patient/{person['id']}"


@pytest.mark.servers
def test_two_processes_with_half_of_each_study_leave_the_whole(started, tmp_path, make_dicom):
    base = started("hapi")
    (tmp_path / "site.toml").write_text(SITE)
    first = next(numbers)
    for half in (1, 2):
        folder = tmp_path / f"half-{half}"
        folder.mkdir()
        for n in range(20):
            uid = f"1.2.826.0.3.{first}.{n}"
            for sop in (1, 2):
                data = make_dicom(uid, f"{uid}.{half}", f"{uid}.{half}.{sop}", patient=f"{first}-{n}", number=str(sop))  # fmt: skip
                (folder / f"{n}-{sop}.dcm").write_bytes(data)
    list(waited(*(convert(tmp_path / f"half-{h}", base, tmp_path / f"{h}.db") for h in (1, 2))))
    for n in range(20):
        server = Server(base, "hapi")
        server.speaker.close()
        server.uid = f"1.2.826.0.3.{first}.{n}"
        held = server.only()
        assert len(instances(held)) == 4
        assert held["numberOfInstances"] == 4


@pytest.mark.servers
@pytest.mark.parametrize("name", REAL)
def test_the_demo_goes_with_all_that_it_names_and_a_second_time_writes_nothing(
    started, tmp_path, name
):
    base = started(name)
    (tmp_path / "site.toml").write_text(SITE)
    demo = ROOT / "testdata" / "dicom" / "demo"
    options = ("--companions", "--profile", "r4")
    list(waited(convert(demo, base, tmp_path / "1.db", *options)))
    (told,) = waited(convert(demo, base, tmp_path / "2.db", *options))
    assert "3 of them stood there as they are" in told


def test_doctor_finds_nothing_wrong_with_it(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    claims = look(server.speaker)  # made when it is first asked, which takes its time
    assert run(["doctor", "send", "--to", server.base, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)["checks"]
    told = [(one["status"], one["found"]) for one in found if one["check"] == "FHIR server"]
    ids = ", gives ids itself" if claims.server_ids else ""
    assert told == [("ok", f"{server.base}: FHIR R4, finds and takes ImagingStudy{ids}")]
