"""Prometheus scrapes every process, and the dashboard asks only for metrics that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from geodyne import topology
from geodyne.cli import render

REPOSITORY = Path(__file__).parents[2]
DEPLOY = REPOSITORY / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
FOREIGN_METRICS = {"up", "process_resident_memory_bytes"}
SERIES_SUFFIXES = ("_total", "_bucket", "_sum", "_count")
LABELS = {"region", "role", "instance", "job", "operation", "code", "le", "source", "destination"}


def exported_metrics() -> set[str]:
    """Names of metrics as the code writes them: literals that begin with geodyne_."""
    names: set[str] = set()
    for package in ("geodyne", "node", "router", "replication"):
        for file in (REPOSITORY / package).rglob("*.py"):
            names |= set(re.findall(r'"(geodyne_[a-z_]+)"', file.read_text(encoding="utf-8")))
    return names | {name.removesuffix("_total") for name in names}


def series_of(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:geodyne|process)_[a-z_]+|\bup\b", expression))


def unknown_series(expression: str, exported: set[str]) -> set[str]:
    known = exported | FOREIGN_METRICS
    return {
        name
        for name in series_of(expression)
        if name not in known and not any(name.removesuffix(suffix) in known for suffix in SERIES_SUFFIXES)
    }


def targets(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [target for panel in dashboard["panels"] for target in panel["targets"]]


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.name)
def test_every_metric_of_a_dashboard_is_exported_by_some_process(file: Path) -> None:
    exported = exported_metrics()
    expressions = [target["expr"] for target in targets(json.loads(file.read_text()))]
    assert expressions
    for expression in expressions:
        assert series_of(expression), expression
        assert unknown_series(expression, exported) == set(), expression


def test_the_check_sees_a_misspelt_metric() -> None:
    assert unknown_series("rate(geodyne_requets_total[1m])", {"geodyne_requests"}) == {"geodyne_requets_total"}
    assert unknown_series("rate(geodyne_requests_total[1m])", {"geodyne_requests"}) == set()


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.name)
def test_labels_and_brackets_of_every_expression_are_sound(file: Path) -> None:
    for target in targets(json.loads(file.read_text())):
        expression, legend = target["expr"], target["legendFormat"]
        for opening, closing in ("()", "{}", "[]"):
            assert expression.count(opening) == expression.count(closing), expression
        used = set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)\s*\"", expression))
        for group in re.findall(r"\bby \(([^)]*)\)", expression):
            used |= {label.strip() for label in group.split(",")}
        used |= set(re.findall(r"\{\{([a-z]+)\}\}", legend))
        assert used <= LABELS, used - LABELS


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
    resolved = render.with_host_names(topology.parse((DEPLOY / "topology.toml").read_text()))
    assert scraped == {process.metrics: (process.region, process.role) for process in resolved.processes()}


def test_grafana_finds_dashboards_where_the_compose_file_mounts_them() -> None:
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/geodyne.yml").read_text())["providers"][0]
    compose = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in compose["services"]["grafana"]["volumes"]
