"""From a topology to launch files: which process listens where, and the command line that starts it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import geodyne
from geodyne.cli.datadir import ClusterDirectory
from geodyne.cli.localports import LOOPBACK
from geodyne.settings import (
    CLOCK_OFFSET_MS_MAX,
    FEED_MB,
    REBUILD_AFTER_S,
    SHARD_LIFE_S,
    TTL_CHANGE_INTERVAL_S,
    TTL_INTERVAL_S,
    Endpoint,
    ProcessConfig,
    save,
)
from geodyne.topology import (
    ROLE_DELIVERY,
    ROLE_GLOBAL,
    ROLE_NODE,
    ROLE_REPLICATOR,
    ROLE_ROUTER,
    ProcessSpec,
    Topology,
)

MODULES: Mapping[str, str] = {
    ROLE_NODE: "node",
    ROLE_ROUTER: "router",
    ROLE_GLOBAL: "router",
    ROLE_REPLICATOR: "replication",
    ROLE_DELIVERY: "delivery",
}


CROSSING_ROLES = (ROLE_REPLICATOR, ROLE_GLOBAL)  # who has connections to other regions


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """What `geodyne up` passes on to every process."""

    cluster_id: str
    credentials: Path
    auth: bool
    capacity: str
    log_level: str
    rebuild_after_s: float = REBUILD_AFTER_S
    ttl_interval_s: float = TTL_INTERVAL_S
    ttl_change_interval_s: float = TTL_CHANGE_INTERVAL_S
    shard_life_s: float = SHARD_LIFE_S
    feed_mb: float = FEED_MB
    kinesis_endpoint: str = ""
    routes_file: Path | None = None  # of the global endpoint
    network_file: Path | None = None
    clock_offset_ms_max: float = CLOCK_OFFSET_MS_MAX
    admin_token: str = field(default="", repr=False)


def public_ports(topology: Topology) -> dict[str, int]:
    """The ports that users see, by the id of the process that listens there; 0 where a free one is to be taken."""
    ports = {region.routers[0].id: region.port for region in topology.regions.values()}
    ports[topology.global_router.id] = topology.global_port
    return ports


def internal_purposes(topology: Topology) -> list[str]:
    """Names of the ports that need a free number: process ids, and process ids with "/metrics" appended."""
    public = public_ports(topology)
    purposes = [p.id for p in topology.processes() if not public.get(p.id) and p.role != ROLE_DELIVERY]
    return purposes + [f"{process.id}/metrics" for process in topology.processes()]


def on_loopback(topology: Topology, ports: Mapping[str, int]) -> Topology:
    """The topology with loopback addresses: public ports as asked for, all others from `ports`."""
    public = {process_id: port for process_id, port in public_ports(topology).items() if port}
    chosen = {**ports, **public}
    metrics = {process.id: chosen[process.id + "/metrics"] for process in topology.processes()}
    return topology.resolved(
        {process_id: f"{LOOPBACK}:{chosen.get(process_id, port)}" for process_id, port in metrics.items()},
        {process_id: f"{LOOPBACK}:{port}" for process_id, port in metrics.items()},
    )


def process_config(spec: ProcessSpec, topology: Topology, options: ClusterOptions, data_dir: Path) -> ProcessConfig:
    """The launch settings of one process that listens where `topology` says."""
    return ProcessConfig(
        cluster_id=options.cluster_id,
        process_id=spec.id,
        role=spec.role,
        region=spec.region,
        zone=spec.zone,
        listen=endpoint(spec.address),
        metrics=endpoint(spec.metrics),
        topology=topology,
        credentials=str(options.credentials),
        auth=options.auth,
        capacity=options.capacity,
        data_dir=str(data_dir) if spec.role == ROLE_NODE else "",
        log_level=options.log_level,
        rebuild_after_s=options.rebuild_after_s,
        ttl_interval_s=options.ttl_interval_s,
        ttl_change_interval_s=options.ttl_change_interval_s,
        shard_life_s=options.shard_life_s,
        feed_mb=options.feed_mb,
        kinesis_endpoint=options.kinesis_endpoint,
        network_file=str(options.network_file) if options.network_file and spec.role in CROSSING_ROLES else "",
        clock_offset_ms_max=options.clock_offset_ms_max,
        routes_file=str(options.routes_file) if options.routes_file and spec.role == ROLE_GLOBAL else "",
        admin_token=options.admin_token,
    )


def write_launch_file(
    spec: ProcessSpec, topology: Topology, options: ClusterOptions, directory: ClusterDirectory
) -> None:
    """Write the launch file of one process, and make the folder for its data. Raises OSError."""
    config = process_config(spec, topology, options, directory.node_data(spec.id))
    launch_file = directory.launch_file(spec.id)
    launch_file.parent.mkdir(parents=True, exist_ok=True)
    save(config, launch_file)
    if config.data_dir:
        Path(config.data_dir).mkdir(parents=True, exist_ok=True)


def endpoint(address: str) -> Endpoint:
    """ "host:port" as an Endpoint."""
    host, _, port = address.rpartition(":")
    return Endpoint(host, int(port))


def command_line(spec: ProcessSpec, launch_file: Path) -> list[str]:
    """How a process is started. -P: a folder called `node` in the user's directory must not be run instead."""
    return [sys.executable, "-P", "-m", MODULES[spec.role], "--config", str(launch_file)]


def child_environment() -> dict[str, str]:
    """The user's environment, with this very copy of the code found first."""
    home = str(Path(geodyne.__file__).parent.parent)
    others = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([home, others]) if others else home}
