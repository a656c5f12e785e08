"""Alerts and the dashboard use what /metrics prints, and every alert leads to a remedy."""

import json
import re
import shutil
import subprocess

import pytest
import yaml

from receiver.webhook.health import NAMES, PROBLEMS, STATE
from tests.support import ROOT

DEPLOY = ROOT / "deploy"
ALERTS = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text(encoding="utf-8"))
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((DEPLOY / "grafana/callhouse.json").read_text(encoding="utf-8"))
EXPRESSIONS = [
    *(rule["expr"] for rule in RULES),
    *(target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]),
]


def outcomes(expression):
    for names in re.findall(r'outcome!?[=~]+"([^"]+)"', expression):
        yield from names.split("|")


def test_metrics_of_alerts_and_dashboard_exist(client):
    text = client.get("/metrics").get_data(as_text=True)
    printed = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    used = {name for each in EXPRESSIONS for name in re.findall(r"\bcallhouse_\w+", each)}
    assert used - printed == set()


def test_outcomes_of_alerts_and_dashboard_exist():
    used = {name for each in EXPRESSIONS for name in outcomes(each)}
    assert "stored" in used
    assert used <= set(NAMES) - STATE


def test_panels_do_not_overlap():
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_each_alert_has_a_remedy():
    page = (ROOT / "docs/how-to/red-health.md").read_text(encoding="utf-8")
    for rule in RULES:
        assert f"`{rule['alert']}`" in page, rule["alert"]


def test_each_problem_of_health_has_steps():
    page = (ROOT / "docs/how-to/red-health.md").read_text(encoding="utf-8")
    for problem in PROBLEMS:
        assert f"## `{problem}`" in page, problem


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="waits for promtool, a program of Prometheus"
)
def test_prometheus_accepts_its_configuration():
    check = ["promtool", "check", "config", "prometheus.yml"]
    subprocess.run(check, cwd=DEPLOY / "prometheus", check=True, timeout=60)
