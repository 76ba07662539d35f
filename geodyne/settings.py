"""How one process is launched: the file that the supervisor (or a deployment) writes and the process reads.

`python -m node|router|replication|delivery --config FILE`. The file is one JSON object; every process gets the whole
topology with addresses, so that no process has to ask another one where the others are.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from geodyne.topology import PORT_MAX, ROLE_GLOBAL, ROLE_NODE, ROLES, ProcessSpec, Topology

CONFIG_FORMAT = 1

# Passed on to every process, where nothing depends on it yet: consumed capacity is reported, nothing is throttled.
CAPACITY_ACCOUNT = "account"
CAPACITY_ENFORCE = "enforce"
CAPACITIES = (CAPACITY_ACCOUNT, CAPACITY_ENFORCE)
LOG_LEVELS = ("debug", "info", "warning", "error")

REBUILD_AFTER_S = 300.0  # how long a node may be silent before its replicas are rebuilt on others of its zone
REBUILD_AFTER_S_MIN = 1.0
REBUILD_AFTER_S_MAX = 7 * 86_400.0

TTL_INTERVAL_S = 1.0  # how often a node looks for items that have expired
TTL_INTERVAL_S_MIN = 0.1
TTL_INTERVAL_S_MAX = 3_600.0
TTL_CHANGE_INTERVAL_S = 3_600.0  # between two changes of a table's Time to Live; 0: as often as one likes
TTL_CHANGE_INTERVAL_S_MAX = 86_400.0

SHARD_LIFE_S = 4 * 3_600.0  # after which a stream of a table gets a new shard in each partition
SHARD_LIFE_S_MIN = 1.0
SHARD_LIFE_S_MAX = 86_400.0
# Far above what NTP leaves between machines of a region, and a tenth of what another region holds as from the future.
CLOCK_OFFSET_MS_MAX = 1_000  # a node whose clock is further off its region's does not lead (node.clocks)
CLOCK_OFFSET_MS_LEAST = 100.0
CLOCK_OFFSET_MS_MOST = 60_000.0

FEED_MB = 1_024.0  # MiB of changes that a partition keeps for those who have not read them
FEED_MB_MIN = 1.0
FEED_MB_MAX = 65_536.0

# What authorises administration on the metrics page of a process, and the header that carries it.
ADMIN_TOKEN_HEADER = "X-Geodyne-Admin-Token"  # noqa: S105 - a name, no secret
ADMIN_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,128}")
LAUNCH_FILE_MODE = 0o600  # for the token's sake


class SettingsError(ValueError):
    """A launch file that cannot be used; the text is one line that names the file and the member."""


class Endpoint(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ProcessConfig:
    """One process's launch settings. `region` is topology.GLOBAL for the global endpoint, whose `zone` is empty.

    `listen` is where the process binds; `topology` says under which address the others dial it, which differs
    when a network translates addresses (containers). `launch_file` is where this was read from, "" when it was not.
    """

    cluster_id: str
    process_id: str
    role: str
    region: str
    zone: str
    listen: Endpoint
    metrics: Endpoint
    topology: Topology
    credentials: str = ""  # INI file in AWS's form
    auth: bool = True
    capacity: str = CAPACITY_ENFORCE
    data_dir: str = ""  # nodes only
    log_level: str = "info"
    rebuild_after_s: float = REBUILD_AFTER_S  # nodes only
    ttl_interval_s: float = TTL_INTERVAL_S  # nodes only
    ttl_change_interval_s: float = TTL_CHANGE_INTERVAL_S  # routers only
    shard_life_s: float = SHARD_LIFE_S  # nodes only
    feed_mb: float = FEED_MB  # nodes only
    kinesis_endpoint: str = ""  # delivery only: the URL of a Kinesis-compatible endpoint, "" when there is none
    clock_offset_ms_max: float = CLOCK_OFFSET_MS_MAX  # nodes only
    network_file: str = ""  # what is asked of the network at run time (geodyne.network), "" when nobody writes it
    routes_file: str = ""  # global endpoint only: where policies that are changed at run time are kept, "" nowhere
    admin_token: str = field(default="", repr=False)  # a secret; "": administration asks for a local peer only
    launch_file: str = field(default="", compare=False)

    @property
    def spec(self) -> ProcessSpec:
        """This process's own entry in the topology."""
        return self.topology.process(self.process_id)

    def validate(self) -> None:
        """Raises SettingsError when members contradict each other."""
        for name, value, allowed in (
            ("role", self.role, ROLES),
            ("capacity", self.capacity, CAPACITIES),
            ("log_level", self.log_level, LOG_LEVELS),
        ):
            if value not in allowed:
                raise SettingsError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
        for name, seconds, (least, most) in (
            ("rebuild_after_s", self.rebuild_after_s, (REBUILD_AFTER_S_MIN, REBUILD_AFTER_S_MAX)),
            ("ttl_interval_s", self.ttl_interval_s, (TTL_INTERVAL_S_MIN, TTL_INTERVAL_S_MAX)),
            ("ttl_change_interval_s", self.ttl_change_interval_s, (0.0, TTL_CHANGE_INTERVAL_S_MAX)),
            ("shard_life_s", self.shard_life_s, (SHARD_LIFE_S_MIN, SHARD_LIFE_S_MAX)),
        ):
            if not least <= seconds <= most:
                raise SettingsError(f"{name} must be from {least:g} to {most:.0f} seconds, not {seconds}")
        if self.kinesis_endpoint and not self.kinesis_endpoint.startswith(("http://", "https://")):
            raise SettingsError(f"kinesis_endpoint must be an http or https URL, not {self.kinesis_endpoint!r}")
        if self.admin_token and not ADMIN_TOKEN.fullmatch(self.admin_token):
            raise SettingsError("admin_token must be 32 to 128 letters, digits, hyphens and underscores")
        if not FEED_MB_MIN <= self.feed_mb <= FEED_MB_MAX:
            raise SettingsError(f"feed_mb must be from {FEED_MB_MIN:g} to {FEED_MB_MAX:.0f}, not {self.feed_mb}")
        if not CLOCK_OFFSET_MS_LEAST <= self.clock_offset_ms_max <= CLOCK_OFFSET_MS_MOST:
            raise SettingsError(
                f"clock_offset_ms_max must be from {CLOCK_OFFSET_MS_LEAST:g} to {CLOCK_OFFSET_MS_MOST:.0f} "
                f"milliseconds, not {self.clock_offset_ms_max}"
            )
        for name, endpoint in (("listen", self.listen), ("metrics", self.metrics)):
            if not endpoint.host or not 0 <= endpoint.port <= PORT_MAX:
                raise SettingsError(f"{name} must be a host and a port from 0 to {PORT_MAX}, not {endpoint}")
        try:
            spec = self.spec
        except KeyError:
            raise SettingsError(f"process_id {self.process_id!r} is not a process of the topology") from None
        if (spec.role, spec.region, spec.zone) != (self.role, self.region, self.zone):
            raise SettingsError(f"role, region or zone of {self.process_id} differ from those in the topology")
        if not self.cluster_id:
            raise SettingsError("cluster_id must not be empty")
        if (self.role == ROLE_NODE) != bool(self.data_dir):
            raise SettingsError("data_dir must be given for a node, and for nothing else")
        if not self.credentials and (self.auth or self.role == ROLE_GLOBAL):
            raise SettingsError("credentials must name a file when signatures are verified or made")

    def to_json(self) -> dict[str, Any]:
        return {
            "format": CONFIG_FORMAT,
            "cluster_id": self.cluster_id,
            "process_id": self.process_id,
            "role": self.role,
            "region": self.region,
            "zone": self.zone,
            "listen": {"host": self.listen.host, "port": self.listen.port},
            "metrics": {"host": self.metrics.host, "port": self.metrics.port},
            "data_dir": self.data_dir,
            "credentials": self.credentials,
            "auth": "on" if self.auth else "off",
            "capacity": self.capacity,
            "log_level": self.log_level,
            "rebuild_after_s": self.rebuild_after_s,
            "ttl_interval_s": self.ttl_interval_s,
            "ttl_change_interval_s": self.ttl_change_interval_s,
            "shard_life_s": self.shard_life_s,
            "feed_mb": self.feed_mb,
            "clock_offset_ms_max": self.clock_offset_ms_max,
            "kinesis_endpoint": self.kinesis_endpoint,
            **({"network_file": self.network_file} if self.network_file else {}),
            **({"routes_file": self.routes_file} if self.routes_file else {}),
            **({"admin_token": self.admin_token} if self.admin_token else {}),
            "topology": self.topology.to_json(),
        }


def save(config: ProcessConfig, path: Path) -> None:
    """Write a launch file that its user alone can read, in one step: its process may read it at any time. Raises
    SettingsError for a contradictory config, OSError from the file system."""
    config.validate()
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)  # one that was left behind keeps the mode that it has
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, LAUNCH_FILE_MODE)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(json.dumps(config.to_json(), indent=1) + "\n")
    os.replace(fresh, path)


def load(path: Path) -> ProcessConfig:
    """Read and check a launch file. Raises SettingsError; the text is one line."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"{path}: not a JSON file: {error}") from None
    try:
        config = _from_json(data)
        config.validate()
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None
    return replace(config, launch_file=str(path))


_TEXTS = ("cluster_id", "process_id", "role", "region", "zone", "data_dir", "credentials", "capacity", "log_level")
_OPTIONAL_TEXTS = ("kinesis_endpoint", "network_file", "routes_file", "admin_token")  # as well, and they are "" then
_MEMBERS = {*_TEXTS, "format", "listen", "metrics", "auth", "topology"}
# In files that an older version has written these are missing.
_OPTIONAL = {
    "rebuild_after_s": REBUILD_AFTER_S,
    "ttl_interval_s": TTL_INTERVAL_S,
    "ttl_change_interval_s": TTL_CHANGE_INTERVAL_S,
    "shard_life_s": SHARD_LIFE_S,
    "feed_mb": FEED_MB,
    "clock_offset_ms_max": CLOCK_OFFSET_MS_MAX,
}


def _from_json(data: Any) -> ProcessConfig:
    if not isinstance(data, dict):
        raise SettingsError("a JSON object is expected")
    if data.get("format") != CONFIG_FORMAT:
        raise SettingsError(f"format {data.get('format')!r} is not known; this version reads format {CONFIG_FORMAT}")
    for name in sorted(_MEMBERS ^ (data.keys() - {*_OPTIONAL, *_OPTIONAL_TEXTS})):
        raise SettingsError(f"{name} is {'unknown' if name in data else 'missing'}")
    for name in (*_TEXTS, *_OPTIONAL_TEXTS):
        if not isinstance(data.get(name, ""), str):
            found = "something else" if name == "admin_token" else repr(data[name])
            raise SettingsError(f"{name} must be a text, not {found}")
    if data["auth"] not in {"on", "off"}:
        raise SettingsError(f"auth must be on or off, not {data['auth']!r}")
    numbers: dict[str, Any] = {name: data.get(name, default) for name, default in _OPTIONAL.items()}
    for name, value in numbers.items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise SettingsError(f"{name} must be a number, not {value!r}")
        numbers[name] = float(value)
    try:
        topology = Topology.from_json(data["topology"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SettingsError(f"topology is malformed: {error!r}") from None
    return ProcessConfig(
        **{name: data[name] for name in _TEXTS},
        listen=_endpoint(data, "listen"),
        metrics=_endpoint(data, "metrics"),
        auth=data["auth"] == "on",
        topology=topology,
        **{name: data.get(name, "") for name in _OPTIONAL_TEXTS},
        **numbers,
    )


def _endpoint(data: Mapping[str, Any], name: str) -> Endpoint:
    value = data[name]
    if not isinstance(value, dict) or not isinstance(value.get("host"), str) or type(value.get("port")) is not int:
        raise SettingsError(f"{name} must be an object with host (text) and port (whole number)")
    return Endpoint(value["host"], value["port"])


@dataclass(frozen=True, slots=True)
class DevConfig:
    """What `geodyne dev` was asked for: one process, one region, one zone."""

    port: int  # 0: a free one
    region: str
    data_dir: Path
    auth: bool
    credentials: Path | None  # None: the data directory's own, made when needed
    capacity: str
    log_level: str
    ttl_interval_s: float = TTL_INTERVAL_S
    ttl_change_interval_s: float = 0.0
    shard_life_s: float = SHARD_LIFE_S
    feed_mb: float = FEED_MB
    kinesis_endpoint: str = ""
