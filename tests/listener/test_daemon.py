"""``dcm2fhir listen`` as a process: from C-STORE to a published study, restarts, operators, limits, endings."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

from tests.servers.stub import Stub
from tools.dicom_sender import Gone, Rejected, Sender


def send(daemon, *objects, **association):
    with Sender(daemon.port).associate(**association) as sender:
        statuses = [sender.store(data, uid).status for data, uid in objects]
        sender.release()
    return statuses


@pytest.fixture
def instance(make_dicom):
    """A data set and its SOP Instance UID."""

    def make_one(study, number=1, **attributes):
        uid = f"{study}.1.{number}"
        whole = make_dicom(study=study, sop=uid, number=str(number), **attributes)
        return whole[144 + int.from_bytes(whole[140:144], "little") :], uid

    return make_one


def test_a_study_is_published_when_it_is_quiet_and_again_when_an_instance_comes(daemon, instance):
    running = daemon()
    assert send(running, *[instance("1.2.3", n) for n in (1, 2, 3)]) == [0, 0, 0]
    (study,) = running.published(1)
    assert study["identifier"][0]["value"] == "urn:oid:1.2.3"
    assert study["numberOfInstances"] == 3
    (patient,) = running.until(lambda: running.resources("Patient"))
    assert study["subject"]["reference"] == f"Patient/{patient['id']}"
    send(running, instance("1.2.3", 4))
    (later,) = running.published(1, 4)
    assert later["id"] == study["id"]
    running.end()
    assert "drain" in running.text()
    for path in [
        running.state,
        *running.out.rglob("*.json"),
        *running.state.parent.rglob("*.journal"),
    ]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(running.state.parent.stat().st_mode) == 0o700


def test_no_module_comes_from_the_folder_that_it_is_started_in(daemon, instance, tmp_path):
    """Who may write there, such as on a disc of a patient's, would have their code run."""
    folder = tmp_path / "disc"
    folder.mkdir()
    for name in ("converter", "json", "msgspec", "pynetdicom", "socket"):
        (folder / f"{name}.py").write_text("raise SystemExit('not ours')")
    running = daemon(program=("-P", "-m", "converter"), cwd=folder)
    assert send(running, instance("1.2.3")) == [0]


def test_an_open_association_holds_its_study_back_until_the_cap(daemon, instance):
    running = daemon("--quiet-period", "1s", "--quiet-cap", "4s")
    with Sender(running.port).associate() as sender:
        data, uid = instance("1.2.3")
        begin = time.monotonic()
        assert sender.store(data, uid).status == 0
        send(running, instance("1.2.4"))
        (other,) = running.published(1)
        assert other["identifier"][0]["value"] == "urn:oid:1.2.4"
        running.published(2)
        assert 3.5 < time.monotonic() - begin < 9
        sender.release()


def test_what_was_acknowledged_is_published_after_a_kill(daemon, instance):
    running = daemon("--quiet-period", "1h", "--quiet-cap", "2h")
    assert send(running, *[instance("1.2.3", n) for n in range(1, 20)]) == [0] * 19
    running.kill()
    again = daemon()
    assert again.published(1)[0]["numberOfInstances"] == 19
    again.end()


def test_two_patients_are_published_for_nobody_until_an_operator_says_whose_it_is(daemon, instance):
    running = daemon()
    send(running, instance("1.2.3", 1), instance("1.2.3", 2))
    before = running.published(1)
    send(running, instance("1.2.3", 3, patient="P2"))
    running.until(lambda: running.metric('studies{state="conflict"}') == 1)
    assert "1.2.3\tconflict\t2\t1\t3\tpatient-conflict" in running.studies("list")
    assert running.resources() == before
    shown = running.studies("show", "1.2.3", "--patients")
    assert "P1 (2)" in shown
    assert "P2 (1)" in shown
    running.studies("resolve", "1.2.3", "--patient", "P9", code=2)
    running.studies("resolve", "1.2.3", "--patient", "P1")
    running.until(lambda: running.metric('studies{state="published"}') == 1)
    assert running.resources()[0]["numberOfInstances"] == 2
    assert "P1" not in running.text()
    assert "1.2.3" not in running.text()
    running.end()


def test_excluding_republishing_purging_and_a_copy(daemon, instance, tmp_path):
    running = daemon()
    send(running, instance("1.2.3"), instance("1.2.4"))
    running.published(2)
    running.until(lambda: running.metric('studies{state="published"}') == 2)
    running.studies("exclude", "1.2.3")
    running.published(2, 1)
    running.until(lambda: running.metric('studies{state="excluded"}') == 1)
    running.until(
        lambda: "published: 0 of 1 studies that were due; taken back: 1" in running.text()
    )
    send(running, instance("1.2.3", 2))
    running.until(lambda: running.metric('instances_total{kind="new"}') == 3)
    assert "1.2.3\texcluded" in running.studies("list", "--state-is", "excluded")
    assert sum(study["numberOfInstances"] for study in running.resources()) == 1
    running.studies("include", "1.2.3")
    running.published(2, 3)
    running.until(lambda: running.metric('studies{state="published"}') == 2)
    assert "purged: 2 studies, 3 instances" in running.studies("purge", "--older-than", "0s")
    send(running, instance("1.2.4", 2))
    running.published(2, 4)
    running.studies("republish", "--all")
    running.studies("backup", str(tmp_path / "copy.db"))
    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600
    running.studies("backup", str(tmp_path / "copy.db"), code=2)
    running.studies("show", "1.9", code=2)
    running.end()


def test_the_same_uid_with_other_content_replaces_it_and_is_logged_by_digest(daemon, instance):
    running = daemon()
    send(running, instance("1.2.3", modality="CT"))
    running.published(1)
    data, uid = instance("1.2.3", modality="MR")
    send(running, (data, uid))
    running.until(lambda: running.resources()[0]["modality"][0]["code"] == "MR")
    assert running.resources()[0]["numberOfInstances"] == 1
    (digests,) = re.findall(r"was replaced: digest ([0-9a-f]+) by ([0-9a-f]+)", running.text())
    assert digests[0] != digests[1]
    running.end()


def test_a_second_daemon_refuses_and_names_the_lock(daemon):
    running = daemon()
    second = daemon("-o", str(running.folder / "out2"), ready=False)
    assert second.process.wait(30) == 7
    assert f"{running.state}.lock" in second.text()
    other = daemon(
        "-o",
        str(running.folder / "out3"),
        "--journal",
        str(running.state.parent / "journal"),
        "--state",
        str(running.folder / "b" / "other.db"),
        ready=False,
    )
    assert other.process.wait(30) == 7
    assert "daemon.lock" in other.text()
    running.end()


def test_it_refuses_to_listen_for_just_anyone(daemon):
    running = daemon("--bind", "0.0.0.0", ready=False)
    assert running.process.wait(30) == 3
    assert "--allow-ip" in running.text()


def test_it_takes_the_network_it_is_told(daemon):
    running = daemon("--bind", "0.0.0.0", "--allow-ip", "127.0.0.0/8")
    with Sender(running.port).associate() as sender:
        assert sender.echo().status == 0
        sender.release()
    running.end()


def test_an_address_outside_of_the_list_gets_no_answer(daemon):
    running = daemon("--allow-ip", "10.0.0.0/8")
    with Sender(running.port) as sender, pytest.raises(Gone):
        sender.associate()
    running.until(lambda: running.metric('connections_dropped_total{reason="address"}') == 1)
    running.end()


def test_limits_of_associations(daemon, instance):
    running = daemon("--max-associations", "2")
    first = Sender(running.port).associate()
    second = Sender(running.port).associate()
    running.until(lambda: running.metric("associations_active") == 2)
    with Sender(running.port) as third, pytest.raises(Rejected) as rejected:
        third.associate()
    assert rejected.value.args[0] == (2, 3, 2)
    first.release()
    running.until(lambda: running.metric("associations_active") == 1)
    with Sender(running.port).associate() as third:
        third.release()
    second.close()
    running.end()


def test_one_association_after_the_other_is_within_a_limit_of_one(daemon):
    running = daemon("--max-associations", "1")
    for _ in range(5):
        with Sender(running.port).associate() as sender:
            assert sender.echo().status == 0
            sender.release()
    running.end()


def test_all_addresses_are_those_of_ipv4_too(daemon):
    running = daemon("--bind", "::", "--allow-ip", "127.0.0.0/8")
    with Sender(running.port).associate() as sender:
        assert sender.echo().status == 0
        sender.release()
    running.end()


def test_a_port_that_another_has_is_of_this_machine(daemon):
    running = daemon()
    port = str(running.port)
    elsewhere = ["-o", str(running.folder / "b"), "--state", str(running.folder / "b" / "s.db")]
    second = daemon("--port", port, *elsewhere, ready=False)
    assert second.process.wait(30) == 7
    assert f"cannot listen on 127.0.0.1 port {port}" in second.text()
    running.end()


def test_a_receiver_that_dies_is_started_again_and_loses_nothing(daemon, instance):
    running = daemon("--receivers", "1")
    assert send(running, instance("1.2.3", 1)) == [0]
    children = subprocess.run(
        ["pgrep", "-P", str(running.process.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    os.kill(int(children[0]), signal.SIGKILL)
    running.until(lambda: running.metric("receiver_restarts_total") == 1)
    running.until(lambda: running.metric("receivers") == 1)
    assert send(running, instance("1.2.3", 2)) == [0]
    running.published(1, 2)
    running.end()


# endings


def test_sigterm_lets_open_associations_finish(daemon, instance):
    running = daemon("--quiet-period", "1h", "--quiet-cap", "2h")
    senders = [Sender(running.port).associate() for _ in range(5)]
    for number, sender in enumerate(senders, 1):
        assert sender.store(*instance("1.2.3", number)).status == 0
    running.process.terminate()
    running.until(lambda: "draining" in running.text())
    with pytest.raises(OSError, match="refused"):
        Sender(running.port)
    assert running.get("/readyz")[0] == 503
    assert running.get("/livez")[0] == 200
    for number, sender in enumerate(senders, 6):
        assert sender.store(*instance("1.2.3", number)).status == 0
        sender.release()
    assert running.process.wait(20) == 0
    again = daemon()
    again.published(1, 10)
    again.end()


def test_after_the_drain_time_objects_are_refused_and_it_ends(daemon, instance):
    running = daemon("--drain-timeout", "1s")
    with Sender(running.port).associate() as sender:
        assert sender.store(*instance("1.2.3", 1)).status == 0
        running.process.terminate()
        statuses = set()

        def store_for_ever():
            while True:
                statuses.add(sender.store(*instance("1.2.3", 2)).status)

        with pytest.raises(ConnectionError):
            store_for_ever()
        assert statuses <= {0x0000, 0xA700}
        assert 0xA700 in statuses
    assert running.process.wait(20) == 0
    assert "draining: 1 connection is open" in running.text()
    assert "the drain time is over: 1 connection is cut" in running.text()


def test_a_terminal_that_closes_ends_it_in_order_however_often_it_says_so(daemon, instance):
    running = daemon()
    with Sender(running.port).associate() as sender:
        running.process.send_signal(signal.SIGHUP)
        running.until(lambda: "draining: 1 connection is open" in running.text())
        running.process.send_signal(signal.SIGHUP)
        assert sender.store(*instance("1.2.3", 1)).status == 0
        sender.release()
    assert running.process.wait(20) == 0


def test_a_second_signal_ends_at_once(daemon, instance):
    running = daemon()
    with Sender(running.port).associate() as sender:
        assert sender.store(*instance("1.2.3", 1)).status == 0
        running.process.terminate()
        running.until(lambda: "draining" in running.text())
        begin = time.monotonic()
        running.end(signal.SIGTERM, 130)
        assert time.monotonic() - begin < 3
    assert daemon().published(1)[0]["numberOfInstances"] == 1


# this machine


def test_what_takes_in_journals_gives_way_and_nothing_else_does(daemon):
    running = daemon()
    pid = running.process.pid

    def lower():
        numbers = [int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()]
        priorities = [os.getpriority(os.PRIO_PROCESS, number) for number in numbers]
        return sum(priority > min(priorities) for priority in priorities)

    running.until(lower)
    assert lower() == 1
    running.end()


def test_metrics_and_health(daemon, instance):
    running = daemon()
    assert running.get("/livez") == (200, "ok\n")
    assert running.get("/readyz") == (200, "ok\n")
    assert running.get("/nothing")[0] == 404
    with Sender(running.port).associate() as sender:
        sender.echo()
        sender.store(*instance("1.2.3"))
        sender.store(instance("1.2.3")[0], "1.2.9")
        sender.release()
    running.until(lambda: running.metric('cstore_total{status="uid-mismatch"}') == 1)
    text = running.get("/metrics")[1]
    assert 'dcm2fhir_cstore_total{status="success"} 1' in text
    assert "dcm2fhir_cecho_total 1" in text
    assert "# TYPE dcm2fhir_cstore_total counter" in text
    assert "TESTER" not in text
    assert "1.2.3" not in text
    running.end()


def test_studies_are_delivered_and_a_server_that_is_down_fails_no_object(daemon, instance):
    with Stub() as server:
        running = daemon("--to", server.base)
        assert send(running, instance("1.2.3", 1), instance("1.2.3", 2)) == [0, 0]
        running.until(server.studies)
        (study,) = server.studies()
        assert study["numberOfInstances"] == 2
        port = int(server.base.rsplit(":", 1)[1].split("/")[0])
        server.stop()
        assert send(running, instance("1.2.3", 3), instance("1.2.4", 1)) == [0, 0]
        running.published(2, 4)
        server.start(port)
        running.until(
            lambda: sorted(s["numberOfInstances"] for s in server.studies()) == [1, 3], 60
        )
        send(running, instance("1.2.3", 4, patient="P2"))
        running.until(lambda: running.metric('studies{state="conflict"}') == 1)
        assert sorted(s["numberOfInstances"] for s in server.studies()) == [1, 3]
        running.end()
