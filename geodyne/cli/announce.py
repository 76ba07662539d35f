"""What a person needs to use a running cluster: endpoints, credentials, and lines to paste."""

from __future__ import annotations

import shlex
from pathlib import Path

from geodyne.topology import Topology


def ready(
    topology: Topology,
    credentials: Path,
    access_key_id: str,
    secret_access_key: str,
    *,
    detached: bool = False,
    commands: Path | None = None,
) -> str:
    """The text shown when the cluster has become ready. `commands`: where geodyne lies, when PATH does not know it."""
    endpoints = {name: f"http://{region.routers[0].address}" for name, region in topology.regions.items()}
    width = max(len(name) for name in [*endpoints, "global"])
    region, endpoint = next(iter(endpoints.items()))
    lines = [
        "",
        "The cluster is ready.",
        "",
        *(f"  {name:<{width}}  {address}" for name, address in endpoints.items()),
        f"  {'global':<{width}}  http://{topology.global_router.address}",
        "",
        f"Credentials (in {credentials}):",
        f"  aws_access_key_id      {access_key_id}",
        f"  aws_secret_access_key  {secret_access_key}",
        "",
        *(["Commands:", f"  export PATH={shlex.quote(str(commands))}:$PATH", ""] if commands else []),
        "boto3:",
        f'  import boto3; dynamodb = boto3.client("dynamodb", endpoint_url="{endpoint}", region_name="{region}", '
        f'aws_access_key_id="{access_key_id}", aws_secret_access_key="{secret_access_key}")',
        "",
        "AWS CLI:",
        f"  AWS_SHARED_CREDENTIALS_FILE={shlex.quote(str(credentials))} "
        f"aws dynamodb list-tables --endpoint-url {endpoint} --region {region}",
        "",
        f"{'`' if detached else 'Ctrl-C or `'}geodyne down` stops it; `geodyne status` shows its processes.",
    ]
    return "\n".join(lines)
