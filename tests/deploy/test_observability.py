"""Prometheus scrapes every process; dashboard and alerts ask only for series and labels that processes export."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from geodyne import topology
from geodyne.cli import render
from tests.deploy.exported import TARGET_LABELS, exported_series, problems

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
RULES = DEPLOY / "alerts.yml"


@pytest.fixture(scope="module")
def exported() -> dict[str, frozenset[str]]:
    return exported_series()


def targets(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [target for panel in dashboard["panels"] for target in panel["targets"]]


def legend_labels(target: dict[str, Any]) -> frozenset[str]:
    return frozenset(re.findall(r"\{\{([a-z_]+)\}\}", target["legendFormat"]))


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.name)
def test_every_series_and_label_of_a_dashboard_is_exported_by_some_process(
    file: Path, exported: dict[str, frozenset[str]]
) -> None:
    shown = targets(json.loads(file.read_text()))
    assert shown
    for target in shown:
        assert problems(target["expr"], legend_labels(target), exported) == [], target["expr"]


def test_every_series_and_label_of_an_alert_is_exported_by_some_process(exported: dict[str, frozenset[str]]) -> None:
    assert rules()
    for rule in rules():
        told = frozenset(re.findall(r"\$labels\.([a-z_]+)", rule["annotations"]["summary"]))
        assert problems(rule["expr"], told, exported) == [], rule["alert"]
    assert len({rule["alert"] for rule in rules()}) == len(rules())


def test_no_process_uses_a_label_that_the_scrape_gives(exported: dict[str, frozenset[str]]) -> None:
    """Prometheus would rename it to exported_..., and panels by that label would show something else."""
    assert {name: labels & TARGET_LABELS for name, labels in exported.items() if labels & TARGET_LABELS} == {}


@pytest.mark.parametrize(
    ("expression", "shown"),
    [
        ("rate(geodyne_requets_total[1m])", frozenset()),
        ("rate(geodyne_requests[1m])", frozenset()),
        ('rate(geodyne_requests_total{status="OK"}[1m])', frozenset()),
        ("sum by (table) (rate(geodyne_requests_total[1m]))", frozenset()),
        ("sum by (region) (rate(geodyne_requests_total[1m]))", frozenset({"operation"})),
        ("geodyne_leader_partitions", frozenset({"operation"})),
        ("geodyne_requests_total", frozenset()),
        ("rate(geodyne_leader_partitions[1m])", frozenset()),
        ("vector(1)", frozenset()),
    ],
)
def test_the_check_sees_mistakes(expression: str, shown: frozenset[str], exported: dict[str, frozenset[str]]) -> None:
    assert problems(expression, shown, exported)


def test_brackets_of_every_expression_are_balanced() -> None:
    shown = [t["expr"] for file in DASHBOARDS for t in targets(json.loads(file.read_text()))]
    for expression in shown + [rule["expr"] for rule in rules()]:
        for opening, closing in ("()", "{}", "[]"):
            assert expression.count(opening) == expression.count(closing), expression


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.name)
def test_panels_have_ids_of_their_own_do_not_overlap_and_use_the_provisioned_source(file: Path) -> None:
    dashboard = json.loads(file.read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        box = panel["gridPos"]
        mine = {(x, y) for x in range(box["x"], box["x"] + box["w"]) for y in range(box["y"], box["y"] + box["h"])}
        assert box["x"] + box["w"] <= 24
        assert not mine & cells, panel["title"]
        cells |= mine
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}


def test_requests_errors_latency_leaders_and_replication_lag_are_on_the_dashboard() -> None:
    shown = " ".join(t["expr"] for file in DASHBOARDS for t in targets(json.loads(file.read_text())))
    for series in (
        "geodyne_requests_total",
        'code!="OK"',
        "geodyne_request_seconds_bucket",
        "geodyne_leader_partitions",
        "geodyne_replication_lag_seconds",
    ):
        assert series in shown


def test_prometheus_scrapes_each_process_once_with_its_region_and_role() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    scraped = {
        target: (group["labels"]["region"], group["labels"]["role"])
        for job in config["scrape_configs"]
        for group in job["static_configs"]
        for target in group["targets"]
    }
    assert {label for job in config["scrape_configs"] for g in job["static_configs"] for label in g["labels"]} == {
        "region",
        "role",
    }
    resolved = render.with_host_names(topology.parse((DEPLOY / "topology.toml").read_text()))
    assert scraped == {process.metrics: (process.region, process.role) for process in resolved.processes()}


def test_grafana_finds_dashboards_where_the_compose_file_mounts_them() -> None:
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/geodyne.yml").read_text())["providers"][0]
    compose = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in compose["services"]["grafana"]["volumes"]


def test_prometheus_finds_its_rules_where_the_compose_file_mounts_them() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    compose = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())
    assert config["rule_files"] == [RULES.name]
    mounted = compose["services"]["prometheus"]["volumes"]
    assert f"./{RULES.name}:/etc/prometheus/{RULES.name}:ro" in mounted
