"""What stands in deploy/ fits what the daemon really is: its metrics, its options."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import shutil
import subprocess
import threading
import time
import tomllib
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import yaml

from converter.cli.listen import listen
from converter.cli.places import state_folder
from converter.config import load
from converter.errors import ConfigurationError
from converter.listener.status import STATUSES
from tests.listener.daemon_process import Daemon
from tests.servers.processes import free_port
from tests.servers.stub import Stub

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana-dashboard.json").read_text(encoding="utf-8"))
METRIC = re.compile(r"\bdcm2fhir_[a-z_]+")


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    """What a daemon exports that has only just begun."""
    daemon = Daemon(tmp_path_factory.mktemp("metrics")).ready()
    try:
        yield daemon.get("/metrics")[1]
    finally:
        daemon.kill()


@pytest.fixture(scope="module")
def promtool():
    found = shutil.which("promtool")
    assert found, "promtool is missing: apt-get install prometheus"

    def run(*arguments, text=None):
        done = subprocess.run([found, *map(str, arguments)], input=text, capture_output=True, text=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    return run


def expressions():
    """Every expression of the dashboard, by the title of its panel."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def families(text):
    """Names of metrics, without what a histogram adds."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in METRIC.findall(text)}


def test_every_metric_that_is_named_is_exported(metrics):
    exported = set(re.findall(r"^# TYPE (\S+)", metrics, re.MULTILINE))
    alerts = (DEPLOY / "prometheus-alerts.yml").read_text(encoding="utf-8")
    for text in [alerts, *(expression for _, expression in expressions())]:
        assert families(text) <= exported, text
    assert len(exported) > 20


def test_every_metric_that_is_exported_has_a_panel(metrics):
    exported = set(re.findall(r"^# TYPE (\S+)", metrics, re.MULTILINE))
    shown = families(" ".join(expression for _, expression in expressions()))
    assert exported - shown == {"dcm2fhir_cecho_total"}


def test_label_values_that_alerts_name_are_those_of_the_daemon(metrics):
    alerts = (DEPLOY / "prometheus-alerts.yml").read_text(encoding="utf-8")
    named = re.findall(r'(dcm2fhir_\w+)\{(\w+)=~?"([^"]+)"\}', alerts)
    assert named
    for metric, label, values in named:
        for value in values.split("|"):
            assert f'{metric}{{{label}="{value}"}}' in metrics


def test_every_refusal_of_an_object_has_its_alert():
    alerts = (DEPLOY / "prometheus-alerts.yml").read_text(encoding="utf-8")
    named = "|".join(re.findall(r'dcm2fhir_cstore_total\{status=~"([^"]+)"\}', alerts)).split("|")
    # a daemon that is told to end says so to its senders, and is no news
    taken = {"success", "elements-discarded", "shutting-down"}
    assert sorted([*named, *taken]) == sorted(STATUSES)


@pytest.mark.interop
def test_prometheus_takes_metrics_and_alerts(metrics, promtool):
    promtool("check", "metrics", text=metrics)
    promtool("check", "rules", DEPLOY / "prometheus-alerts.yml")


@pytest.mark.interop
def test_prometheus_takes_every_expression_of_the_dashboard(promtool, tmp_path):
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m").replace("$instance", ".*")}
        for number, (_, expression) in enumerate(expressions())
    ]  # fmt: skip
    (tmp_path / "rules.yml").write_text(
        json.dumps({"groups": [{"name": "panels", "rules": rules}]})
    )
    promtool("check", "rules", tmp_path / "rules.yml")


def test_the_dashboard_asks_for_its_data_source():
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    for panel in DASHBOARD["panels"]:
        for part in [panel, *panel.get("targets", [])]:
            assert part.get("datasource", {"uid": "${datasource}"})["uid"] == "${datasource}"


def test_the_dashboard_s_panels_do_not_overlap():
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}  # fmt: skip
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells)
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


# what is started, by which command line

COMPOSE = yaml.safe_load((DEPLOY / "compose.yml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
CONTAINERFILE = (DEPLOY / "Containerfile").read_text(encoding="utf-8")


def from_container(instruction):
    return json.loads(re.search(rf"^{instruction} (\[.*\])$", CONTAINERFILE, re.MULTILINE)[1])


def command_lines():
    unit = (DEPLOY / "dcm2fhir-listen.service").read_text(encoding="utf-8")
    yield shlex.split(re.search(r"^ExecStart=(.*)$", unit, re.MULTILINE)[1])
    yield from_container("ENTRYPOINT") + from_container("CMD")
    yield from_container("ENTRYPOINT") + SERVICES["dcm2fhir"]["command"]


@pytest.mark.parametrize("line", list(command_lines()), ids=["unit", "container", "compose"])
def test_every_option_is_one_that_the_daemon_knows(line):
    program, command, *options = line
    assert program == "/opt/dcm2fhir/bin/dcm2fhir"
    assert command == "listen"
    listen.make_context("listen", options)  # raises where there is no such option or value


def test_the_unit_does_not_start_again_for_what_stays_wrong():
    unit = (DEPLOY / "dcm2fhir-listen.service").read_text(encoding="utf-8")
    prevented = re.search(r"^RestartPreventExitStatus=(.*)$", unit, re.MULTILINE)[1].split()
    assert prevented == ["2", str(ConfigurationError.exit_code)]


def test_what_the_install_page_says_fits_unit_and_container():
    page = (DEPLOY / "README.md").read_text(encoding="utf-8")
    assert "python3 -m venv /opt/dcm2fhir\n" in page
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]  # fmt: skip
    assert "postgres" in extras
    assert "'.[postgres]'" in page
    assert "'/source[postgres]'" in CONTAINERFILE


def test_what_the_install_page_has_configured_is_the_state_that_the_unit_keeps(monkeypatch):
    unit = (DEPLOY / "dcm2fhir-listen.service").read_text(encoding="utf-8")
    name = re.search(r"^StateDirectory=(.*)$", unit, re.MULTILINE)[1]
    monkeypatch.setenv("STATE_DIRECTORY", f"/var/lib/{name}")
    page = (DEPLOY / "README.md").read_text(encoding="utf-8")
    said = tomllib.loads(re.search(r"```toml\n(.*?)```", page, re.DOTALL)[1])
    assert said == {"listen": {"state": str(state_folder() / "listen.db")}}


def test_the_configuration_of_the_compose_file_is_valid():
    config = load(str(DEPLOY / "compose" / "dcm2fhir.toml")).config
    assert config.convert.to == ("hapi",)
    port = int(SERVICES["hapi"]["ports"][0].rpartition(":")[2])
    assert config.destinations["hapi"].url == f"http://hapi:{port}/fhir"
    (network,) = COMPOSE["networks"]["images"]["ipam"]["config"]
    assert config.listen.allow_ip == (network["subnet"],)
    assert f"127.0.0.1:{config.listen.port}:{config.listen.port}" in SERVICES["dcm2fhir"]["ports"]
    assert (
        f"127.0.0.1:{config.listen.http_port}/readyz"
        in SERVICES["dcm2fhir"]["healthcheck"]["test"][-1]
    )


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_may_do_no_more_than_it_must(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service.get("cap_add", []) == (["CHOWN"] if name == "prepare" else [])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"] == ("0:0" if name == "prepare" else "10001:10001")
    assert "privileged" not in service
    assert re.search(r":(local|v?\d+(\.\d+)+)$", service["image"]), "a tag that stays"
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")


def test_what_is_mounted_is_there():
    for service in SERVICES.values():
        for mount in service.get("volumes", []):
            source, _, _ = mount.partition(":")
            if source.startswith("."):
                assert (DEPLOY / source).is_file()
                assert mount.endswith(":ro")
            else:
                assert source in COMPOSE["volumes"]
        for network in service.get("networks", []):
            assert network in COMPOSE["networks"]


@pytest.mark.interop
def test_orthanc_of_the_compose_file_routes_to_a_fhir_server(tmp_path, make_dicom):
    """The files that the containers mount, with names and ports of this machine in them."""
    config = tomllib.loads((DEPLOY / "compose" / "dcm2fhir.toml").read_text(encoding="utf-8"))
    settings = json.loads((DEPLOY / "compose" / "orthanc.json").read_text(encoding="utf-8"))
    with Stub(integrity=False) as server:
        file = tmp_path / "dcm2fhir.toml"
        text = (DEPLOY / "compose" / "dcm2fhir.toml").read_text(encoding="utf-8")
        text = text.replace(config["destinations"]["hapi"]["url"], server.base)
        file.write_text(text.replace(config["listen"]["allow_ip"][0], "127.0.0.1/32"))
        daemon = Daemon(tmp_path, "--config", str(file)).ready()
        try:
            title, _, _ = settings["DicomModalities"]["dcm2fhir"]
            settings["DicomModalities"]["dcm2fhir"] = [title, "127.0.0.1", daemon.port]
            settings["LuaScripts"] = [str(DEPLOY / "compose" / "route.lua")]
            settings["StorageDirectory"] = settings["IndexDirectory"] = str(tmp_path / "db")
            with orthanc(tmp_path, settings) as store:
                for number in (1, 2, 3):
                    store(make_dicom(sop=f"1.2.3.1.{number}", number=str(number)))
                daemon.until(lambda: [s["numberOfInstances"] for s in server.studies()] == [3])
        finally:
            daemon.kill()


@contextmanager
def orthanc(folder, settings):
    """Orthanc on free ports, asked with the password of its environment; gives what stores an object."""
    program = shutil.which("Orthanc", path=os.environ["PATH"] + ":/usr/sbin")
    assert program, "Orthanc is missing: apt-get install orthanc"
    settings["HttpPort"], settings["DicomPort"] = free_port(), free_port()
    (folder / "orthanc.json").write_text(json.dumps(settings))
    process = subprocess.Popen(
        [program, str(folder / "orthanc.json")],
        env={**os.environ, "ORTHANC_PASSWORD": "of-this-test"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    who = base64.b64encode(b"operator:of-this-test").decode()

    def ask(path, data=None, **headers):
        url = f"http://127.0.0.1:{settings['HttpPort']}{path}"
        with urlopen(Request(url, data=data, headers=headers), timeout=30) as answer:
            return answer.read()

    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                ask("/system")
            except HTTPError as error:
                error.close()
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                threading.Event().wait(0.1)
        _, *health = SERVICES["orthanc"]["healthcheck"]["test"]
        port = str(settings["HttpPort"])
        subprocess.run([part.replace("8042", port) for part in health], check=True, timeout=20)
        yield lambda data: ask("/instances", data, Authorization=f"Basic {who}")
    finally:
        process.terminate()
        process.wait(20)
