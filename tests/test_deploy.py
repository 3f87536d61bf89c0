"""What stands in deploy/ fits what the daemon really is: its metrics, its options."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.listener.daemon_process import Daemon

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
