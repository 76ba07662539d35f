"""`geodyne render`: launch files for processes that something else starts, such as Docker Compose.

Each process gets a host name of its own (its id with a hyphen for the slash) and the same ports as all others.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from geodyne.cli.errors import EXIT_OK, CommandError
from geodyne.cli.options import (
    add_clock_option,
    add_feed_options,
    add_kinesis_option,
    add_rebuild_option,
    add_service_options,
    add_ttl_options,
)
from geodyne.settings import CAPACITY_ENFORCE, TTL_CHANGE_INTERVAL_S

if TYPE_CHECKING:
    from geodyne.topology import Topology

    Subparsers = argparse._SubParsersAction[Any]

ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - inside a container, whose published ports say who may reach it
HTTP_PORT = 8000
GRPC_PORT = 7000
METRICS_PORT = 9000
CONTAINER_DATA_DIR = "/data"


def add_to(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "render",
        help="write launch files for containers",
        description="Write one launch file for each process of a topology, for hosts named after the processes "
        "(us-east-1-node-a). What is there already is kept: the cluster's id and its credentials.",
    )
    parser.add_argument("--topology", metavar="FILE", help="TOML file (default: the default cluster)")
    parser.add_argument("--out", metavar="DIR", required=True, help="where the files go")
    add_service_options(parser, auth=True, capacity=CAPACITY_ENFORCE)
    add_rebuild_option(parser)
    add_clock_option(parser)
    add_ttl_options(parser, change_interval_s=TTL_CHANGE_INTERVAL_S)
    add_feed_options(parser)
    add_kinesis_option(parser)
    parser.set_defaults(run=run)


def host_name(process_id: str) -> str:
    """The host name of a process: "us-east-1/node-a" becomes "us-east-1-node-a"."""
    return process_id.replace("/", "-")


def with_host_names(topology: Topology) -> Topology:
    """The topology with every process on a host of its own."""
    from geodyne.topology import ROLE_DELIVERY, ROLE_GLOBAL, ROLE_ROUTER

    ports = {ROLE_ROUTER: HTTP_PORT, ROLE_GLOBAL: HTTP_PORT, ROLE_DELIVERY: METRICS_PORT}
    addresses: dict[str, str] = {}
    metrics: dict[str, str] = {}
    for process in topology.processes():
        port = ports.get(process.role, GRPC_PORT)
        addresses[process.id] = f"{host_name(process.id)}:{port}"
        metrics[process.id] = f"{host_name(process.id)}:{METRICS_PORT}"
    return topology.resolved(addresses, metrics)


def run(arguments: argparse.Namespace) -> int:
    from dataclasses import replace
    from pathlib import Path

    from geodyne.cli import cluster, launch
    from geodyne.cli.datadir import ClusterDirectory
    from geodyne.settings import Endpoint, save

    topology = with_host_names(cluster.read_topology(arguments.topology))
    directory = ClusterDirectory(Path(arguments.out))
    cluster_id = directory.open(topology)
    try:
        credentials = cluster.prepare_credentials(arguments.credentials, directory)
        options = replace(
            cluster.launch_options(arguments, directory, cluster_id),
            credentials=credentials,
            routes_file=Path(CONTAINER_DATA_DIR) / directory.routes.name,
            network_file=None,  # there is no supervisor that would write it
        )
        for spec in topology.processes():
            config = launch.process_config(spec, topology, options, Path(CONTAINER_DATA_DIR))
            config = replace(
                config,
                listen=Endpoint(ANY_ADDRESS, config.listen.port),
                metrics=Endpoint(ANY_ADDRESS, config.metrics.port),
            )
            save(config, directory.path / f"{host_name(spec.id)}.json")
    except OSError as error:
        raise CommandError(f"cannot write to {directory.path}: {error.strerror}") from None
    finally:
        directory.close()
    print(f"wrote {sum(1 for _ in topology.processes())} launch files to {directory.path}")
    return EXIT_OK
