"""The data directory of a local cluster: who it is, who uses it, and where everything lies.

    cluster.json          format, cluster id, the regions, zones and nodes; and those of the beginning, once they differ
    routes.json           routing policies of the global endpoint that were changed at run time
    credentials           INI file with a random key pair (mode 0600)
    admin-token           what authorises administration of the processes (mode 0600)
    nodes/REGION/NODE/    a node's log and state
    logs/REGION/PROCESS.log, logs/supervisor.log
    run/                  launch files and ports of the processes
    run.json              only while a supervisor runs: its pid, control socket and processes
    lock                  held (flock) by the supervisor

A small file per running cluster under the user's state directory lets `status` and `down` find it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geodyne.cli.errors import CommandError
from geodyne.settings import ADMIN_TOKEN
from geodyne.topology import Topology

CLUSTER_FORMAT = 1
CLUSTER_FILE = "cluster.json"
ADMIN_TOKEN_BYTES = 32
DEFAULT_DATA_DIR = ".geodyne"
NODE_FORMAT_FILE = "FORMAT"  # node.storage.directory's, which is not loaded for it


class ClusterDirectory:
    """A data directory. Opening it (`open`) takes the lock; reading paths and run state does not."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path))
        self.credentials = self.path / "credentials"
        self.routes = self.path / "routes.json"
        self.network = self.path / "run" / "network.json"
        self.supervisor_log = self.path / "logs" / "supervisor.log"
        self._run_file = self.path / "run.json"
        self._ports_file = self.path / "run" / "ports.json"
        self._lock_fd: int | None = None

    def node_data(self, process_id: str) -> Path:
        return self.path / "nodes" / process_id

    def log_file(self, process_id: str) -> Path:
        return self.path / "logs" / f"{process_id}.log"

    def launch_file(self, process_id: str) -> Path:
        return self.path / "run" / f"{process_id}.json"

    def open(self, topology: Topology) -> str:
        """Take the lock and make or check `cluster.json`; returns the cluster id. The topology may name the nodes of
        the beginning or those of now: see `settled`. Raises CommandError."""
        self.check_kind()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            return self._identity(topology)
        except CommandError:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise CommandError(f"data directory {self.path} cannot be used: {error.strerror}") from None

    def check_kind(self) -> None:
        """Raises CommandError for a path that cannot become, or be, a cluster's. Nothing is written."""
        if self.path.exists() and not self.path.is_dir():
            raise CommandError(f"data directory {self.path} cannot be used: it is not a directory")
        if regions := dev_regions(self.path):
            raise CommandError(
                f"data directory {self.path} belongs to `geodyne dev` (region {', '.join(regions)}); "
                "--data-dir selects another"
            )

    def settled(self, topology: Topology) -> Topology:
        """The topology with the nodes that were added and without those that were removed since this directory was
        made. `open` comes first. Raises CommandError."""
        stored = self._stored()
        for name, members in stored["topology"].items():
            founders = stored.get("founders", {}).get(name, members)
            topology = topology.with_region(topology.regions[name].with_members(members, founders))
        return topology

    def write_members(self, region: str, members: Mapping[str, str]) -> None:
        """From now on, over restarts too, these are the region's nodes (id -> zone). Raises CommandError, OSError."""
        stored = self._stored()
        nodes = stored["topology"]
        founders = stored.get("founders", {name: dict(known) for name, known in nodes.items()})
        former = [*stored.get("former", ()), *(node for node in nodes[region] if node not in members)]
        changed = {"topology": {**nodes, region: dict(members)}, "founders": founders, "former": former}
        write_private(self.path / CLUSTER_FILE, {**stored, **changed}, durable=True)

    def former_nodes(self) -> list[str]:
        """Ids of nodes that were removed: none is given to another one. Raises CommandError."""
        return list(self._stored().get("former", ()))

    def admin_token(self) -> str:
        """What authorises administration of the cluster's processes, from its first run on the same; made when there is
        none yet. `open` comes first. Raises CommandError."""
        file = self.path / "admin-token"
        try:
            if not file.exists():
                write_private_text(file, secrets.token_hex(ADMIN_TOKEN_BYTES) + "\n", durable=True)
            token = file.read_text(encoding="ascii").strip()
        except OSError as error:
            raise CommandError(f"{file} cannot be used: {error.strerror}") from None
        except UnicodeDecodeError:
            token = ""
        if not ADMIN_TOKEN.fullmatch(token):
            raise CommandError(f"{file} is damaged: it is not a token; without the file a new one is made")
        return token

    def close(self) -> None:
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def is_in_use(self) -> bool:
        """Whether some process holds the lock."""
        try:
            fd = os.open(self.path / "lock", os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def read_run(self) -> dict[str, Any] | None:
        """What the running supervisor, or one that was killed, wrote about itself."""
        return _read_object(self._run_file)

    def write_run(self, run: dict[str, Any]) -> None:
        write_private(self._run_file, run)
        write_private(_pointer_file(self.path), {"data_dir": str(self.path), "pid": os.getpid()})

    def forget_run(self) -> None:
        self._run_file.unlink(missing_ok=True)
        _pointer_file(self.path).unlink(missing_ok=True)

    def read_ports(self) -> dict[str, int]:
        """Ports of an earlier run by purpose; nothing when there was none or the file is damaged."""
        ports = _read_object(self._ports_file) or {}
        return {name: port for name, port in ports.items() if isinstance(port, int)}

    def write_ports(self, ports: dict[str, int]) -> None:
        write_private(self._ports_file, ports)

    def _take_lock(self) -> None:
        fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(fd, 32).decode(errors="replace").strip()
            os.close(fd)
            raise CommandError(
                f"data directory {self.path} is in use by the cluster of pid {pid or 'unknown'}; "
                "`geodyne down` stops it, --data-dir selects another"
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._lock_fd = fd

    def _identity(self, topology: Topology) -> str:
        file = self.path / CLUSTER_FILE
        if not file.exists():
            if (self.path / "nodes").exists():
                raise CommandError(f"data directory {self.path} holds nodes but no cluster.json: not a whole cluster")
            cluster_id = uuid.uuid4().hex
            body = {"format": CLUSTER_FORMAT, "cluster_id": cluster_id, "topology": topology.fingerprint()}
            write_private(file, body, durable=True)
            return cluster_id
        stored = self._stored()
        if stored.get("format") != CLUSTER_FORMAT:
            raise CommandError(
                f"data directory {self.path} has format {stored.get('format')!r}; "
                f"this version of geodyne reads format {CLUSTER_FORMAT}"
            )
        if topology.fingerprint() not in (stored.get("topology"), stored.get("founders")):
            raise CommandError(
                f"data directory {self.path} belongs to another topology: "
                f"{_difference(stored.get('topology'), topology.fingerprint())}; "
                "give the topology file that it was made with, or another --data-dir; "
                "`geodyne node` adds and removes nodes of a running cluster"
            )
        return str(stored["cluster_id"])

    def _stored(self) -> dict[str, Any]:
        """What cluster.json holds. Raises CommandError."""
        file = self.path / CLUSTER_FILE
        stored = _read_object(file)
        if stored is None or not isinstance(stored.get("cluster_id"), str):
            raise CommandError(f"{file} is damaged: it is not the JSON object that names the cluster")
        return stored


def dev_regions(path: Path) -> list[str]:
    """The regions whose data `geodyne dev` keeps in a directory: each has a node's files, not folders of nodes."""
    return sorted(file.parent.name for file in path.glob(f"*/{NODE_FORMAT_FILE}"))


def check_dev_directory(path: Path, region: str) -> None:
    """Raises CommandError when the data of `geodyne dev` for this region cannot be kept there."""
    if path.exists() and not path.is_dir():
        raise CommandError(f"data directory {path} cannot be used: it is not a directory")
    if (path / CLUSTER_FILE).exists():
        raise CommandError(f"data directory {path} belongs to a cluster of `geodyne up`; --data-dir selects another")
    others = dev_regions(path)
    if others and region not in others:
        raise CommandError(
            f"data directory {path} has the data of region {', '.join(others)}, not of {region}; "
            f"--region {others[0]} serves it, --data-dir selects another"
        )


def running_control(data_dir: str | None) -> str:
    """The control socket of the cluster meant, as `find_running` finds it. Raises CommandError.

    One that was not named, and that the working directory does not name either, is told on standard error.
    """
    directory = find_running(data_dir)
    if data_dir is None and directory.path.parent != Path.cwd():
        print(f"geodyne: the running cluster is that of {directory.path}", file=sys.stderr)
    return str((directory.read_run() or {}).get("control", ""))


def find_running(data_dir: str | None) -> ClusterDirectory:
    """The directory of the cluster meant: the given one, or the one running cluster of this user.

    Raises CommandError when none, or more than one without `data_dir`, is running.
    """
    if data_dir is not None:
        directory = ClusterDirectory(Path(data_dir))
        if directory.read_run() is None:
            raise CommandError(f"no cluster is running on {directory.path}")
        return directory
    running: list[ClusterDirectory] = []
    for pointer in sorted(_pointer_folder().glob("*.json")):
        found = ClusterDirectory(Path(str((_read_object(pointer) or {}).get("data_dir", ""))))
        if found.read_run() is not None and _pointer_file(found.path) == pointer:
            running.append(found)
        else:
            pointer.unlink(missing_ok=True)
    # A cluster whose supervisor was killed is offered only when no live one is there.
    running = [d for d in running if d.is_in_use()] or running
    if not running:
        raise CommandError("no cluster is running; `geodyne up` starts one")
    if len(running) > 1:
        raise CommandError(
            f"{len(running)} clusters are running; choose with --data-dir: {', '.join(str(d.path) for d in running)}"
        )
    return running[0]


def write_private(path: Path, body: dict[str, Any], *, durable: bool = False) -> None:
    """Replace a file by a JSON object, as `write_private_text` does."""
    write_private_text(path, json.dumps(body, indent=1) + "\n", durable=durable)


def write_private_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Replace a file in one step, readable by the user only. `durable`: it is not the old one again after a loss of
    power."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
    if durable:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _read_object(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _pointer_folder() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return Path(state) / "geodyne" / "running"


def _pointer_file(data_dir: Path) -> Path:
    name = hashlib.sha256(str(data_dir).encode()).hexdigest()[:16]
    return _pointer_folder() / f"{name}.json"


def _difference(stored: Any, wanted: dict[str, Any]) -> str:
    """The first thing that differs between two fingerprints, in words."""
    if not isinstance(stored, dict):
        return "its record of regions is damaged"
    for region in [*stored, *wanted]:
        if region not in wanted or region not in stored:
            return f"region {region} is {'missing' if region in stored else 'new'}"
        for node in [*stored[region], *wanted[region]]:
            if node not in wanted[region] or node not in stored[region]:
                return f"{node} is {'missing' if node in stored[region] else 'new'}"
            if stored[region][node] != wanted[region][node]:
                return f"{node} was in zone {stored[region][node]} and is now in {wanted[region][node]}"
    return "its record of regions differs"
