"""The whole run of a local cluster in one readable order: topology, data directory, ports, files, processes, stop."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import signal
import sys
from pathlib import Path

from geodyne import topology as topologies
from geodyne.cli import announce, launch, localports
from geodyne.cli.datadir import ClusterDirectory
from geodyne.cli.errors import EXIT_INTERRUPTED, EXIT_OK, CommandError
from geodyne.cli.orphans import end_orphans
from geodyne.cli.supervisor import CommandLine, Supervisor
from geodyne.topology import Topology, TopologyError
from router.auth.credentials import CredentialsError, first, generate
from router.auth.credentials import load as load_credentials


def run_cluster(arguments: argparse.Namespace, command_line: CommandLine = launch.command_line) -> int:
    """Run until a signal or `geodyne down`; returns the exit code. Raises CommandError."""
    topology = read_topology(arguments.topology)
    directory = ClusterDirectory(Path(arguments.data_dir))
    cluster_id = directory.open(topology)
    try:
        if leftover := directory.read_run():
            count = end_orphans(leftover)
            directory.forget_run()
            if count:
                say(f"ended {count} processes that an earlier supervisor had left behind")
        directory.credentials = prepare_credentials(arguments.credentials, directory)
        settled = directory.settled(topology)
        if settled != topology and topology.fingerprint() != settled.fingerprint():
            say(f"the nodes are those of {directory.path}, not those that it began with: {_changes(topology, settled)}")
        options = launch_options(arguments, directory, cluster_id)
        resolved = prepare_processes(settled, directory, options)
        return asyncio.run(_supervise(directory, resolved, options, command_line, arguments.detached))
    finally:
        directory.close()


def read_topology(file: str | None) -> Topology:
    """The file's topology, or the default without a file. Raises CommandError."""
    if file is None:
        return topologies.default()
    try:
        return topologies.parse(Path(file).read_text(encoding="utf-8"))
    except (TopologyError, UnicodeDecodeError) as error:
        raise CommandError(f"topology file {file}: {error}") from None
    except OSError as error:
        raise CommandError(f"topology file {file} cannot be read: {error.strerror}") from None


def prepare_credentials(file: str | None, directory: ClusterDirectory) -> Path:
    """The credentials file to use, checked; the data directory's own is made when there is none yet."""
    path = Path(file).absolute() if file is not None else directory.credentials
    try:
        if file is None and not path.exists():
            generate(path)
        load_credentials(path)
    except CredentialsError as error:
        raise CommandError(str(error)) from None
    return path


def _changes(began: Topology, now: Topology) -> str:
    """The nodes that were added and removed, in words."""
    before = {node for members in began.fingerprint().values() for node in members}
    after = {node for members in now.fingerprint().values() for node in members}
    added = [f"{node} was added" for node in sorted(after - before)]
    return ", ".join(added + [f"{node} was removed" for node in sorted(before - after)])


def launch_options(
    arguments: argparse.Namespace, directory: ClusterDirectory, cluster_id: str
) -> launch.ClusterOptions:
    """What the arguments of the command pass on to every process. Raises CommandError."""
    return launch.ClusterOptions(
        cluster_id,
        directory.credentials,
        arguments.auth == "on",
        arguments.capacity,
        arguments.log_level,
        arguments.rebuild_after,
        arguments.ttl_interval,
        arguments.ttl_change_interval,
        arguments.shard_life,
        arguments.feed_mb,
        arguments.kinesis_endpoint or "",
        directory.routes,
        directory.network,
        arguments.clock_offset * 1_000,
        directory.admin_token(),
    )


def prepare_processes(topology: Topology, directory: ClusterDirectory, options: launch.ClusterOptions) -> Topology:
    """Choose ports and write the launch files; returns the topology with addresses. Raises CommandError."""
    public = launch.public_ports(topology)
    localports.check_public(public)
    ports = localports.allocate(
        launch.internal_purposes(topology),
        directory.read_ports(),
        taken=public.values(),
        start=secrets.randbelow(len(localports.INTERNAL_PORTS)),
    )
    resolved = launch.on_loopback(topology, ports)
    try:
        directory.write_ports(ports)
        for spec in resolved.processes():
            launch.write_launch_file(spec, resolved, options, directory)
    except OSError as error:
        raise CommandError(f"data directory {directory.path} cannot be written: {error.strerror}") from None
    return resolved


async def _supervise(
    directory: ClusterDirectory,
    topology: Topology,
    options: launch.ClusterOptions,
    command_line: CommandLine,
    detached: bool,
) -> int:
    supervisor = Supervisor(directory, topology, options, say, command_line)
    interrupted = _listen_for_signals(supervisor)
    say(f"starting {len(supervisor.children)} processes; data in {directory.path}")
    try:
        await supervisor.start()
        if not supervisor.stop_asked.is_set():
            say(_announcement(topology, directory.credentials, detached))
            await supervisor.stop_asked.wait()
        say("stopping")
    finally:
        await supervisor.stop()
    say("stopped")
    return EXIT_INTERRUPTED if interrupted.is_set() else EXIT_OK


def _announcement(topology: Topology, credentials: Path, detached: bool) -> str:
    key_pair = first(load_credentials(credentials).values())
    commands = Path(sys.executable).parent if shutil.which("geodyne") is None else None
    return announce.ready(
        topology,
        credentials,
        key_pair.access_key_id,
        key_pair.secret_access_key,
        detached=detached,
        commands=commands,
    )


def _listen_for_signals(supervisor: Supervisor) -> asyncio.Event:
    """The first signal stops in order, a second one at once. Returns what Ctrl-C sets."""
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked(number: signal.Signals) -> None:
        if number == signal.SIGINT:
            interrupted.set()
        if supervisor.stop_asked.is_set():
            supervisor.kill_asked.set()
        supervisor.stop_asked.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, asked, number)
    return interrupted


def say(text: str) -> None:
    """A line for the person at the terminal (or in the log of a detached supervisor)."""
    try:
        print(text, file=sys.stdout, flush=True)
    except OSError:
        # The terminal is gone; the cluster must not go with it before its processes have been stopped in order.
        return
