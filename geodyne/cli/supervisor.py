"""Keeps the processes of a local cluster running: starts them, waits until they are ready, restarts what dies.

Processes that take requests get their listening socket from here (`geodyne.cli.listeners`): it stays open while one
of them is replaced, and a new one can take from it before the old one ends.

The order of stopping matters: whoever takes requests or makes them ends first (the global endpoint, routers,
replicators, delivery), then the nodes, so that nobody sees a request refused by a node that is already going.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from geodyne.cli import conflicting, forgetting, launch, probe, routing, triggers, verifying, writing
from geodyne.cli.child import Child, State
from geodyne.cli.control import ControlServer
from geodyne.cli.datadir import ClusterDirectory
from geodyne.cli.errors import CommandError
from geodyne.cli.listeners import Listeners
from geodyne.cli.networking import Networking
from geodyne.cli.nodes import Nodes
from geodyne.cli.reports import Report, merge_members, merge_partitions, merge_replication, merge_watermarks
from geodyne.cli.run import Run
from geodyne.topology import ROLE_NODE, ROLE_REPLICATOR, ROLE_ROUTER, ProcessSpec, Topology

STARTING_AT_ONCE_MIN = 2  # processes that load their code at the same time: more only get in each other's way
STARTING_SECONDS_MAX = 10.0  # how long one of them may keep its turn
READY_SECONDS_MAX = 120.0  # for the whole cluster
READY_AGAIN_SECONDS_MAX = 60.0  # `geodyne start` waits so long
FAILED_STARTS_MAX = 3  # ends of one process before it was ever ready, while the cluster starts
STOP_SECONDS_MAX = 10.0  # between SIGTERM and SIGKILL
CAUGHT_UP_SECONDS_MAX = 30.0  # how long a restart of a node waits for the other nodes of its region
SUCCESSION_SECONDS_MAX = 30.0  # how long a process that is to be replaced waits for the new one to serve
PROBE_SECONDS_FIRST = 0.1
PROBE_SECONDS_LAST = 1.0

CommandLine = Callable[[ProcessSpec, Path], Sequence[str]]
Say = Callable[[str], None]


class Supervisor:
    """One cluster's processes. `topology` has addresses; launch files have been written.

    `command_line` is a parameter so that tests can supervise programs of their own.
    """

    def __init__(
        self,
        directory: ClusterDirectory,
        topology: Topology,
        options: launch.ClusterOptions,
        say: Say,
        command_line: CommandLine = launch.command_line,
    ) -> None:
        self._directory = directory
        self.topology = topology
        self._say = say
        self._environment = launch.child_environment()
        self._listeners = Listeners()
        self._command_line = command_line
        self._restarting: set[str] = set()  # regions
        self._departures: set[asyncio.Task[None]] = set()  # of processes that were replaced when they left unasked
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self.children: dict[str, Child] = {spec.id: self._child_of(spec) for spec in topology.processes()}
        self._nodes = Nodes(self, directory, options, say)
        self._network = Networking(topology, directory.network, options.admin_token)
        self._admin_token = options.admin_token
        self._turns = asyncio.Semaphore(max(STARTING_AT_ONCE_MIN, os.cpu_count() or 1))
        self._control = ControlServer(self._on_command)
        self._control_path = ""
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._phase = "starting"
        self.stop_asked = asyncio.Event()  # a first request to stop: in order
        self.kill_asked = asyncio.Event()  # a second one: at once

    async def start(self) -> None:
        """Start everything and return when all processes are ready. Raises CommandError when that fails.

        `stop_asked` ends the wait as well; the caller looks at it afterwards.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        self._network.forget()
        self._control_path = str(await self._control.start())
        for child in self.children.values():
            self._listeners.open(child.spec)
        self._write_run()
        for child in self.children.values():
            self._begin(child)
        ready = loop.create_task(self._all_ready())
        stop = loop.create_task(self.stop_asked.wait())
        outcomes: set[asyncio.Future[Any]] = {ready, stop, self._failure}
        try:
            done, _ = await asyncio.wait(outcomes, timeout=READY_SECONDS_MAX, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
            stop.cancel()
        if self._failure in done:
            self._failure.result()
        if not done:
            raise CommandError(f"not ready after {READY_SECONDS_MAX:.0f} s: {', '.join(self._unready())}")
        if ready in done:
            self._phase = "ready"
            self._write_run()

    def _child_of(self, spec: ProcessSpec) -> Child:
        launch_file = self._directory.launch_file(spec.id)
        return Child(spec, self._command_line(spec, launch_file), self._directory.log_file(spec.id))

    def _begin(self, child: Child) -> None:
        child.want()
        keeper = asyncio.get_running_loop().create_task(self._keep(child), name=f"keep {child.spec.id}")
        self._keepers[child.spec.id] = keeper

    def take_on(self, spec: ProcessSpec) -> None:
        """Begin to keep one more process running."""
        child = self.children[spec.id] = self._child_of(spec)
        self._begin(child)

    async def let_go(self, child: Child) -> None:
        """Stop a process for good and forget it."""
        await self._stop_group([child])
        keeper = self._keepers.pop(child.spec.id)
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        del self.children[child.spec.id]
        self._write_run()

    async def stop(self) -> None:
        """Stop everything in order and forget the run. Bounded: what does not go is killed."""
        self._phase = "stopping"
        self._nodes.close()
        nodes = [child for child in self.children.values() if child.spec.role == ROLE_NODE]
        others = [child for child in self.children.values() if child.spec.role != ROLE_NODE]
        for group in (others, nodes):
            await self._stop_group(group)
        tasks = [*self._keepers.values(), *self._departures]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._control.stop()
        self._listeners.close_all()
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
        if not self._failure.cancel():
            self._failure.exception()  # seen: a failure that came after the request to stop needs no report
        self._directory.forget_run()

    async def status(self) -> dict[str, Any]:
        """The object that `geodyne status --json` prints."""
        processes = await asyncio.gather(*(self._process_status(child) for child in self.children.values()))
        shown = {process["id"]: process for process in processes}
        reports, arrivals = await asyncio.gather(self._reports(ROLE_NODE), self._reports(ROLE_REPLICATOR))
        members, replication = merge_members(reports), merge_replication(arrivals)
        return {
            "regions": {
                name: {
                    "endpoint": f"http://{region.routers[0].address}",
                    "processes": [shown[process.id] for process in region.processes() if process.id in shown],
                    **(members.get(name) or merge_members([(name, {})])[name]),
                    "replication": replication.get(name, []),
                }
                for name, region in self.topology.regions.items()
            },
            "partitions": merge_partitions(reports),
            "watermarks": merge_watermarks(arrivals, time.time_ns() // 1_000),
            "global_endpoint": f"http://{self.topology.global_router.address}",
            "global_processes": [shown[self.topology.global_router.id]],
            "credentials": str(self._directory.credentials),
            "data_dir": str(self._directory.path),
        }

    async def _reports(self, role: str) -> list[Report]:
        """What the running processes of a role tell, with their regions; those that do not answer are left out."""
        asked = [child for child in self.children.values() if child.spec.role == role and child.pid is not None]
        answers = await asyncio.gather(*(probe.get(child.spec.metrics, "/status") for child in asked))
        return [(child.spec.region, answer.json()) for child, answer in zip(asked, answers, strict=True) if answer]

    # --- one process ------------------------------------------------------------------------------------------

    async def _keep(self, child: Child) -> None:
        """Run one process as long as it is wanted, again and again."""
        while True:
            child.state = State.STOPPED
            await child.wanted.wait()
            await self._run_once(child)
            if not child.wanted.is_set():
                continue
            if self._phase == "starting" and child.starts >= FAILED_STARTS_MAX:
                self._give_up(child)
            child.state = State.RESTARTING
            if child.starts_in_vain >= FAILED_STARTS_MAX:
                self._listeners.close(child.spec.id)  # nobody will answer soon: better that clients are told
            wait = child.backoff.after_run(child.ran_seconds())
            self._say(f"{child.spec.id} {child.end_in_words()}; starting it again in {wait:.1f} s")
            await _happens(child.stop_asked, wait)

    async def _run_once(self, child: Child) -> None:
        await self._spawn_in_turn(child)
        while not child.ended.is_set():
            readiness = asyncio.create_task(self._watch_readiness(child))
            try:
                await _first(child.ended, (child.leaving,), None)
            finally:
                readiness.cancel()
            if child.leaving.is_set():
                await self._replace_leaving(child)

    async def _replace_leaving(self, child: Child) -> None:
        """Somebody else told the process to end: it goes on until another one serves in its place."""
        self._say(f"{child.spec.id} is leaving; starting another one in its place")
        try:
            listener = self._listeners.open(child.spec)
            leaving = await self._take_over(child, listener) if listener is not None else None
        except CommandError as error:
            child.leaving.clear()
            if child.wanted.is_set():
                self._say(str(error))
            child.signal(signal.SIGTERM)
            return
        if leaving is not None:
            departure = asyncio.get_running_loop().create_task(self._see_off(child, leaving))
            self._departures.add(departure)
            departure.add_done_callback(self._departures.discard)

    async def _spawn_in_turn(self, child: Child) -> None:
        """Start the process when it is its turn, and keep the turn until it has loaded its code."""
        async with self._turns:
            if not child.wanted.is_set():
                return
            try:
                child.spawn(self._environment, self._listeners.open(child.spec))
            except (OSError, CommandError) as error:
                child.unwant()
                reason = error.strerror if isinstance(error, OSError) else str(error)
                self._fail(f"{child.spec.id} cannot be started: {reason}")
                return
            try:
                self._write_run()
            except OSError as error:  # a full disk: the processes are to come back once there is room
                self._say(f"the file of running processes is not up to date: {error.strerror}")
            latest = asyncio.get_running_loop().time() + STARTING_SECONDS_MAX
            while asyncio.get_running_loop().time() < latest:
                if await probe.get(child.spec.metrics, "/healthz") or await _happens(child.ended, PROBE_SECONDS_FIRST):
                    return

    async def _watch_readiness(self, child: Child) -> None:
        """Ask until the process says that it is ready. After that only its end is of interest."""
        pause = PROBE_SECONDS_FIRST
        while True:
            answer = await probe.get(child.spec.metrics, "/healthz")
            if answer is not None and answer.status == 200:
                break
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, PROBE_SECONDS_LAST)
        child.state = State.RUNNING
        child.ready.set()
        if self._phase == "starting":
            ready = len(self.children) - len(self._unready())
            self._say(f"ready: {child.spec.id} ({ready} of {len(self.children)})")
        elif child.starts > 1:
            self._say(f"{child.spec.id} is ready again")

    def _give_up(self, child: Child) -> None:
        line = child.last_log_line()
        self._fail(
            f"{child.spec.id} {child.end_in_words()} {child.starts} times before it was ready"
            + (f"; the last line of {child.log_file}: {line}" if line else f"; see {child.log_file}")
        )

    def _fail(self, text: str) -> None:
        """End `start` with that text; once the cluster is up it is only worth a line."""
        if self._phase != "starting":
            self._say(text)
        elif not self._failure.done():
            self._failure.set_exception(CommandError(text))

    async def _all_ready(self) -> None:
        for child in self.children.values():
            while not child.ready.is_set():
                await child.ready.wait()

    def _unready(self) -> list[str]:
        return [child.spec.id for child in self.children.values() if not child.ready.is_set()]

    def _reap(self) -> None:
        for child in self.children.values():
            child.reap()

    async def _stop_group(self, group: Sequence[Child]) -> None:
        for child in group:
            child.unwant()
            child.give_up_successor()
            self._listeners.close(child.spec.id)
            child.signal(signal.SIGTERM)
        ended = asyncio.gather(*(child.wait_gone() for child in group))
        impatience = asyncio.create_task(self.kill_asked.wait())
        either: set[asyncio.Future[Any]] = {ended, impatience}
        await asyncio.wait(either, timeout=STOP_SECONDS_MAX, return_when=asyncio.FIRST_COMPLETED)
        impatience.cancel()
        for child in group:
            if child.runs():
                self._say(f"{child.spec.id} does not stop; killing it")
                child.signal(signal.SIGKILL)
        await ended  # nothing outlives SIGKILL

    # --- requests of other commands ---------------------------------------------------------------------------

    async def _on_command(self, request: dict[str, Any]) -> dict[str, Any]:
        match request:
            case {"command": "status"}:
                return await self.status()
            case {"command": str(command)} if command.startswith("node_"):
                if self._phase != "ready":
                    raise CommandError(f"the cluster is {self._phase}; try again when it is ready")
                return await self._nodes.on_command(request)
            case {"command": "trigger"}:
                return await triggers.administer(self.topology, self.children, request, self._admin_token)
            case {"command": "routes"}:
                return await routing.administer(self.topology, self.children, request, self._admin_token)
            case {"command": "verify"}:
                return await verifying.administer(self.topology, self.children, request, self._admin_token)
            case {"command": "conflicts"}:
                return await conflicting.administer(self.topology, self.children, request, self._admin_token)
            case {"command": "forget"}:
                return await forgetting.administer(self.topology, self.children, request, self._admin_token)
            case {"command": "writes"}:
                return await writing.administer(self.topology, self.children, request, self._admin_token)
            case {"command": "network"}:
                return await self._network.administer(self.children, request)
            case {"command": "shutdown"}:
                self.stop_asked.set()
                return {"pid": os.getpid()}
            case {"command": "stop", "process": str(process_id)}:
                await self._stop_group([self._child(process_id)])
                self._say(f"{process_id} is stopped on request")
            case {"command": "start", "process": str(process_id)}:
                await self._start_again(self._child(process_id))
            case {"command": "restart", "process": str(process_id)}:
                await self._restart(self._child(process_id))
            case _:
                raise CommandError("the running supervisor does not know this command; is it another version?")
        return {"process": process_id, "pid": self._child(process_id).pid}

    def _child(self, process_id: str) -> Child:
        if process_id not in self.children:
            raise CommandError(f"there is no process {process_id}; there are {', '.join(self.children)}")
        return self.children[process_id]

    async def _start_again(self, child: Child) -> None:
        """Wait until it is ready, or until it is clear that it will not be; it is tried again and again even then."""
        child.want()
        clock = asyncio.get_running_loop().time
        latest = clock() + READY_AGAIN_SECONDS_MAX
        last_start = child.starts + FAILED_STARTS_MAX
        while not await _happens(child.ready, PROBE_SECONDS_FIRST):
            if not child.wanted.is_set():
                raise CommandError(f"{child.spec.id} was stopped by another command before it was ready")
            failed = child.starts >= last_start and child.ended.is_set()
            if failed or clock() >= latest:
                why = (
                    f"{child.end_in_words()} {FAILED_STARTS_MAX} times before it was ready"
                    if failed
                    else f"is not ready after {READY_AGAIN_SECONDS_MAX:.0f} s"
                )
                raise CommandError(f"{child.spec.id} {why}; last log line: {child.last_log_line()}")

    # --- replacing a process ----------------------------------------------------------------------------------

    async def _restart(self, child: Child) -> None:
        """Replace a running process and return when the new one is ready: one at a time in a region, and a node only
        while the others of its region serve."""
        await self.while_nothing_restarts(child.spec.region, lambda: self._replace(child))
        self._say(f"{child.spec.id} was restarted on request")

    async def while_nothing_restarts(self, region: str, change: Callable[[], Awaitable[None]]) -> None:
        """Do it while no process of the region is being replaced. Raises CommandError when one is."""
        if region in self._restarting:
            raise CommandError(f"another process of {region} is being restarted; try again when that is done")
        self._restarting.add(region)
        try:
            await change()
        finally:
            self._restarting.discard(region)

    async def _replace(self, child: Child) -> None:
        if not child.ready.is_set():
            raise CommandError(f"{child.spec.id} is {child.state}; `geodyne start` starts what was stopped")
        if child.leaving.is_set():
            raise CommandError(f"{child.spec.id} is being replaced already")
        await self._others_serve(child)
        listener = self._listeners.open(child.spec)
        if listener is not None:
            await self._succeed(child, listener)
        else:
            await self._stop_group([child])
            await self._start_again(child)

    async def _others_serve(self, child: Child) -> None:
        """Taking a node away while another one of its region is missing, or does not have everything yet, could cost
        the region its majority: wait for that, for a bounded time."""
        if child.spec.role != ROLE_NODE:
            return
        nodes = [c for c in self.children.values() if (c.spec.region, c.spec.role) == (child.spec.region, ROLE_NODE)]
        clock = asyncio.get_running_loop().time
        latest = clock() + CAUGHT_UP_SECONDS_MAX
        while missing := await self._missing(nodes, child):
            if clock() >= latest:
                raise CommandError(f"{child.spec.id} is not restarted: {', '.join(missing)}")
            await asyncio.sleep(PROBE_SECONDS_FIRST)

    async def _missing(self, nodes: Sequence[Child], leaving: Child) -> list[str]:
        """What speaks against one of these nodes leaving: what it leads goes to the others, so its callers must have
        connected to them."""
        states = await asyncio.gather(*(self._process_status(node) for node in nodes))
        missing = [f"{state['id']} is {state['state']}" for state in states if state["state"] != State.RUNNING]
        reports = await asyncio.gather(*(probe.get(node.spec.metrics, "/status") for node in nodes))
        behind = {peer for report in reports if report is not None for peer in report.json().get("behind", {})}
        missing += [f"{peer} is behind" for peer in sorted(behind - {leaving.spec.id})]
        # A node that came back a moment ago is heard by one of the others and not yet by all: it cannot lead yet.
        for node, report in zip(nodes, reports, strict=True):
            apart = report.json().get("apart", []) if report is not None else []
            missing += [f"{node.spec.id} has no connection to {id_}" for id_ in apart if id_ != leaving.spec.id]
        region = leaving.spec.region
        routers = [c for c in self.children.values() if (c.spec.region, c.spec.role) == (region, ROLE_ROUTER)]
        reports = await asyncio.gather(*(probe.get(router.spec.metrics, "/status") for router in routers))
        for router, report in zip(routers, reports, strict=True):
            # One that is down comes back by itself.
            links = report.json().get("nodes", {}) if report is not None else {}
            apart = [id_ for id_, link in links.items() if not link["connected"] and id_ != leaving.spec.id]
            missing += [f"{router.spec.id} has no connection to {id_}" for id_ in apart]
        return missing

    async def _succeed(self, child: Child, listener: socket.socket) -> None:
        """Start a second run beside the first; once it serves, the first one drains and ends. Returns when the second
        one is ready."""
        leaving = await self._take_over(child, listener)
        if leaving is not None:
            await self._see_off(child, leaving)
        latest = asyncio.get_running_loop().time() + READY_AGAIN_SECONDS_MAX
        while (answer := await probe.get(child.spec.metrics, "/healthz")) is None or answer.status != 200:
            if await _happens(child.ended, PROBE_SECONDS_FIRST):
                raise CommandError(f"{child.spec.id} {child.end_in_words()} soon after it was restarted")
            if asyncio.get_running_loop().time() >= latest:
                raise CommandError(
                    f"{child.spec.id} was restarted and is not ready after {READY_AGAIN_SECONDS_MAX:.0f} s"
                )

    async def _take_over(self, child: Child, listener: socket.socket) -> Run | None:
        """Start a second run and let it take the place of the first once it serves. Returns the first one, which was
        told to go; None when a run that was leaving has already gone. Raises CommandError."""
        before, unasked = child.run, child.leaving.is_set()
        try:
            successor = child.spawn_successor(self._environment, listener)
        except OSError as error:
            raise CommandError(f"{child.spec.id} cannot be started: {error.strerror}") from None
        self._write_run()
        # One that leaves may go before its time; of one that was to be replaced that is news, and its keeper starts it.
        ends = (successor.ended,) if unasked else (successor.ended, child.ended)
        serves = await _first(successor.serving, ends, SUCCESSION_SECONDS_MAX)
        replaceable = child.run is before or (unasked and child.run is None)
        if not serves or child.successor is not successor or not replaceable:
            child.give_up_successor()
            await successor.ended.wait()
            self._write_run()
            raise CommandError(
                f"{child.spec.id} was not replaced: the new process did not serve within "
                f"{SUCCESSION_SECONDS_MAX:.0f} s; last log line: {child.last_log_line()}"
            )
        leaving = child.promote()
        if leaving is not None:
            leaving.signal(signal.SIGTERM)
        self._write_run()
        return leaving

    async def _see_off(self, child: Child, leaving: Run) -> None:
        if not await _happens(leaving.ended, STOP_SECONDS_MAX):
            self._say(f"{child.spec.id}, pid {leaving.pid}, does not stop; killing it")
            leaving.signal(signal.SIGKILL)
            await leaving.ended.wait()
        self._write_run()

    async def _process_status(self, child: Child) -> dict[str, Any]:
        state: str = child.state
        if child.state == State.RUNNING:
            answer = await probe.get(child.spec.metrics, "/healthz")
            if child.state == State.RUNNING and (answer is None or answer.status != 200):
                state = "unready"
        return {
            "id": child.spec.id,
            "role": child.spec.role,
            "zone": child.spec.zone,
            "pid": child.pid,
            "address": child.spec.address,
            "metrics": child.spec.metrics,
            "state": state,
            "starts": child.starts,
        }

    def _write_run(self) -> None:
        self._directory.write_run(
            {
                "pid": os.getpid(),
                "phase": self._phase,
                "control": self._control_path,
                "processes": [
                    {"id": child.spec.id, "pid": pid, "launch_file": child.command[-1]}
                    for child in self.children.values()
                    for pid in child.pids() or (None,)
                ],
            }
        )


async def _happens(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, but not longer than that."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


async def _first(wished: asyncio.Event, others: Sequence[asyncio.Event], seconds: float | None) -> bool:
    """Wait until one of the events happens, but not longer than that (None: however long it takes). True when the
    wished one did."""
    tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(event.wait()) for event in (wished, *others)]
    try:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    return wished.is_set()
