"""`geodyne dev`, put together: a router and a node on one loop, without a network between them; and what calls the
functions of triggers, once there are any."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shlex
import sys
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, NoReturn

from prometheus_client import CollectorRegistry

from geodyne.cli.devcontrol import DevControl
from geodyne.clock import SystemClock
from geodyne.listen import ListenError
from geodyne.observe.log import configure
from geodyne.process import EXIT_FAILED, EXIT_OK, run
from geodyne.rpc.local import LocalConnector
from geodyne.rpc.region import NodeAddress
from geodyne.settings import DevConfig
from node.compose import NoPeers, open_node, single_node_place
from node.feed.retention import FeedSettings
from node.groups import StateLost
from node.storage.port import StorageError
from node.ttl import TtlSettings
from router.auth import credentials
from router.auth.credentials import CredentialsError
from router.auth.sigv4 import Credential
from router.frontend import Frontend, FrontendSettings

if TYPE_CHECKING:
    from delivery.kinesisservice import KinesisDelivery
    from delivery.triggers import Triggers
    from geodyne.rpc.region import RegionClient

HOST = "127.0.0.1"
CLUSTER_ID = "dev"
EXIT_CRASHED = 70
READY_S_MAX = 30.0


def serve_dev(config: DevConfig) -> int:
    """Serve until Ctrl-C; returns the exit code."""
    configure(f"{config.region}/dev", config.log_level)
    _show_output()
    try:
        run(lambda stop: _serve(config, stop))
    except (ListenError, StorageError, StateLost, CredentialsError) as error:
        print(f"geodyne dev: {error}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


def _show_output() -> None:
    """What functions print is for whoever writes them: lines as they are, whatever the log's level."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(function)s: %(line)s"))
    output = logging.getLogger("delivery.output")
    output.handlers[:] = [handler]
    output.setLevel(logging.INFO)
    output.propagate = False


async def _serve(config: DevConfig, stop: asyncio.Event) -> None:
    place = single_node_place(CLUSTER_ID, config.region, config.data_dir / config.region)
    registry = CollectorRegistry()
    clock = SystemClock()
    ttl = TtlSettings(config.ttl_interval_s)
    feed = FeedSettings.of(config.shard_life_s, config.feed_mb)
    node = open_node(place, clock=clock, random=SystemRandom(), registry=registry, fatal=_fatal, ttl=ttl, feed=feed)
    keys = _credentials(config) if config.auth else None
    frontend = Frontend(
        FrontendSettings(config.region, "a", (config.region,), keys, config.ttl_change_interval_s),
        [NodeAddress(place.node_id, "a", "")],
        LocalConnector({place.node_id: node.service}),
        clock=clock,
        incarnation=secrets.randbits(63),
        registry=registry,
    )
    delivery = _Delivery(frontend.region, config.kinesis_endpoint)
    frontend.region.subscribe(delivery.wake)
    control = DevControl(config.data_dir, config.region, frontend.trigger_administration()["triggers"])
    node.start(NoPeers())
    try:
        await control.start()
        port = await frontend.start(HOST, config.port)
        await asyncio.wait_for(frontend.region.wait_ready(), READY_S_MAX)
        _announce(config, port)
        await stop.wait()
    finally:
        await control.stop()
        await delivery.close()
        await frontend.stop()
        await node.stop()


class _Delivery:
    """Triggers and Kinesis destinations, whose code is loaded with the first of each."""

    def __init__(self, region: RegionClient, kinesis_endpoint: str) -> None:
        self._region = region
        self._kinesis_endpoint = kinesis_endpoint
        self._triggers: Triggers | None = None
        self._kinesis: KinesisDelivery | None = None

    def wake(self) -> None:
        """The catalog has changed."""
        if self._triggers is None and self._region.catalog.mappings:
            from delivery.triggers import Triggers

            self._triggers = Triggers(self._region, clock=SystemClock(), random=SystemRandom())
        if self._kinesis is None and any(table.kinesis for table in self._region.catalog.tables.values()):
            from delivery.kinesisservice import KinesisDelivery

            self._kinesis = KinesisDelivery(
                self._region, endpoint=self._kinesis_endpoint, clock=SystemClock(), random=SystemRandom()
            )
        for part in (self._triggers, self._kinesis):
            if part is not None:
                part.wake()

    async def close(self) -> None:
        if self._kinesis is not None:
            await self._kinesis.close()
        if self._triggers is not None:
            await self._triggers.close()


def _credentials(config: DevConfig) -> dict[str, Credential]:
    path = _credentials_path(config)
    if config.credentials is None and not path.exists():
        credentials.generate(path)
    return credentials.load(path)


def _credentials_path(config: DevConfig) -> Path:
    return config.credentials or config.data_dir / "credentials"


def _announce(config: DevConfig, port: int) -> None:
    signatures = f"verified, keys in {_credentials_path(config)}" if config.auth else "not checked"
    print(f"Geodyne {config.region} is ready at http://{HOST}:{port} (signatures {signatures}).", flush=True)
    # The clients sign in any case, and refuse to start without keys.
    keys = (
        f"AWS_SHARED_CREDENTIALS_FILE={shlex.quote(str(_credentials_path(config)))}"
        if config.auth
        else "AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any"
    )
    print(f"  {keys} aws dynamodb list-tables --endpoint-url http://{HOST}:{port} --region {config.region}", flush=True)
    print("Ctrl-C stops it; the data stays in " + str(config.data_dir), flush=True)


def _fatal(reason: str) -> NoReturn:
    """Nothing in memory can be trusted any more; what is on disk is recovered at the next start."""
    print(f"geodyne dev: stopping: {reason}", file=sys.stderr, flush=True)
    os._exit(EXIT_CRASHED)
