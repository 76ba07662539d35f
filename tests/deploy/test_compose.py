"""The compose file describes the default cluster, whole and consistent."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from geodyne import topology
from geodyne.cli import render
from geodyne.cli.launch import MODULES
from geodyne.topology import ROLE_GLOBAL, ROLE_NODE, ProcessSpec

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE_FILE = DEPLOY / "docker-compose.yml"

# What the Compose Specification allows, as far as this file may ever need it; a misspelt key is not among them.
TOP_LEVEL_KEYS = {"name", "services", "networks", "volumes", "configs", "secrets"}
SERVICE_KEYS = {
    "build", "cap_add", "command", "depends_on", "environment", "healthcheck", "image", "init", "network_mode",
    "networks", "ports", "restart", "stop_grace_period", "user", "volumes",
}  # fmt: skip
HEALTHCHECK_KEYS = {"test", "interval", "timeout", "retries", "start_period", "start_interval", "disable"}
DEPENDS_ON_KEYS = {"condition", "required", "restart"}
CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}


def problems(compose: dict[str, Any]) -> list[str]:
    """Everything that makes a compose file invalid or that refers to nothing."""
    services = compose.get("services", {})
    found = [f"top level: {key}" for key in compose if key not in TOP_LEVEL_KEYS and not key.startswith("x-")]
    for name, service in services.items():
        found += [f"{name}: unknown key {key}" for key in service.keys() - SERVICE_KEYS]
        found += [f"{name}: healthcheck.{key}" for key in service.get("healthcheck", {}).keys() - HEALTHCHECK_KEYS]
        if not service.keys() & {"image", "build"}:
            found.append(f"{name}: neither image nor build")
        if {"networks", "network_mode"} <= service.keys():
            found.append(f"{name}: networks and network_mode exclude each other")
        found += [f"{name}: network {n}" for n in service.get("networks", []) if n not in compose.get("networks", {})]
        for other, how in service.get("depends_on", {}).items():
            if other not in services or how.keys() - DEPENDS_ON_KEYS or how["condition"] not in CONDITIONS:
                found.append(f"{name}: depends_on {other}")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                if not (DEPLOY / source).exists():
                    found.append(f"{name}: {source} does not exist")
            elif source not in compose.get("volumes", {}):
                found.append(f"{name}: volume {source}")
    return found


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())
    return loaded


@pytest.fixture(scope="module")
def processes() -> list[ProcessSpec]:
    return list(topology.parse((DEPLOY / "topology.toml").read_text()).processes())


def test_every_key_is_known_and_every_reference_is_defined(compose: dict[str, Any]) -> None:
    assert problems(compose) == []


@pytest.mark.parametrize(
    ("service", "change"),
    [
        ("init", {"helthcheck": {}}),
        ("init", {"networks": ["nowhere"]}),
        ("init", {"depends_on": {"nobody": {"condition": "service_started"}}}),
        ("init", {"volumes": ["nothing:/data"]}),
        ("init", {"volumes": ["./nothing:/data"]}),
        ("grafana", {"healthcheck": {"intervall": "1s"}}),
    ],
)
def test_the_check_sees_mistakes(compose: dict[str, Any], service: str, change: dict[str, Any]) -> None:
    services = compose["services"]
    broken = {**compose, "services": {**services, service: {**services[service], **change}}}
    assert problems(broken)


def test_docker_compose_itself_accepts_the_file_where_it_is_installed() -> None:
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode
    ):
        return  # the checks above stand in for it
    checked = subprocess.run(
        ["docker", "compose", "-f", str(COMPOSE_FILE), "config", "--quiet"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_the_topology_of_the_containers_is_that_of_the_default_cluster() -> None:
    assert topology.parse((DEPLOY / "topology.toml").read_text()) == topology.default()


def test_each_process_of_the_topology_is_a_service_with_its_own_launch_file(
    compose: dict[str, Any], processes: list[ProcessSpec]
) -> None:
    services = compose["services"]
    hosts = {render.host_name(process.id): process for process in processes}
    assert set(services) == set(hosts) | {"init", "prometheus", "grafana"}
    for host, process in hosts.items():
        command = ["python", "-m", MODULES[process.role], "--config", f"/config/{host}.json"]
        assert services[host]["command"] == command
        keeps = process.role in (ROLE_NODE, ROLE_GLOBAL)
        assert (f"{host}:{render.CONTAINER_DATA_DIR}" in services[host]["volumes"]) == keeps


def test_nodes_are_reachable_inside_their_region_only_and_nothing_beyond_this_machine(
    compose: dict[str, Any], processes: list[ProcessSpec]
) -> None:
    services = compose["services"]
    for process in processes:
        networks = services[render.host_name(process.id)]["networks"]
        if process.role == ROLE_NODE:
            assert networks == [process.region]
            assert "ports" not in services[render.host_name(process.id)]
        else:
            assert "between" in networks
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in published)
    wanted = topology.default()
    for region in wanted.regions.values():
        router = services[render.host_name(region.routers[0].id)]
        assert router["ports"] == [f"127.0.0.1:{region.port}:{render.HTTP_PORT}"]
    global_router = services[render.host_name(wanted.global_router.id)]
    assert global_router["ports"] == [f"127.0.0.1:{wanted.global_port}:{render.HTTP_PORT}"]


def test_each_process_has_a_health_check_on_its_metrics_port(
    compose: dict[str, Any], processes: list[ProcessSpec]
) -> None:
    for process in processes:
        check = compose["services"][render.host_name(process.id)]["healthcheck"]["test"]
        assert f"http://127.0.0.1:{render.METRICS_PORT}/healthz" in check[-1]


def test_the_image_copies_only_what_exists_and_the_build_context_lets_it_in() -> None:
    root = DEPLOY.parent
    allowed = [line[1:] for line in (root / ".dockerignore").read_text().split() if line.startswith("!")]
    assert [name for name in allowed if not (root / name).exists()] == []
    for line in (DEPLOY / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY requirements"):
            for name in line.split()[1:-1]:
                assert name in allowed
