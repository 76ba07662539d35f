"""Triggers with real processes: nothing is lost and nothing blocks for ever, whoever dies and whatever functions do."""

from __future__ import annotations

import http.client
import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.cluster.clusters import STOP_S_MAX, Cluster, canonical, environment
from tests.cluster.traffic import Traffic
from tests.cluster.triggers import PythonFunction, Triggers, create_streamed_table, given_up
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

REGION = "us-east-1"
TOPOLOGY = f"[regions.{REGION}]\n"
SEED = 20_261_124
KEYS = 40
KILLS = 3  # before those that are always the same
STEPS_BETWEEN_KILLS = 60
CAUGHT_UP_S_MAX = 90.0
EXPECTED = frozenset({"InternalServerError", "ServiceUnavailable"})  # a write that may have happened, or not
SECRET = "not-for-functions"
FUNCTION_OF_A_STRANGER = json.dumps(
    {"operation": "PutFunction", "body": {"name": "stranger", "kind": "http", "url": "http://127.0.0.1:9"}}
)

# Takes no record on trust: one that it has not had must say of the item what the records before left of it.
MIRROR = """
import fcntl, json, os

def handle(event, context):
    for record in event["Records"]:
        change = record["dynamodb"]
        number, old, new = int(change["SequenceNumber"]), change.get("OldImage"), change.get("NewImage")
        name = change["Keys"]["pk"]["S"]
        with open(name + ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            last, item = json.load(open(name)) if os.path.exists(name) else (0, None)
            if number <= last:
                print("again", name, number)
                continue
            if item != old:
                with open("wrong", "a") as wrong:
                    wrong.write(f"{name} {number}: {item} is not {old}\\n")
                raise ValueError(f"{name}: {item} is not {old}")
            with open(name + ".new", "w") as fresh:
                json.dump((number, new), fresh)
            os.replace(name + ".new", name)
"""

# What an item asks for happens when its record is first tried ("once"), or each time ("always").
TROUBLED = """
import os, time

def handle(event, context):
    for record in event["Records"]:
        change = record["dynamodb"]
        name, act, when = (change["NewImage"][member]["S"] for member in ("pk", "act", "when"))
        first = not os.path.exists("tried-" + name)
        open("tried-" + name, "w").close()
        if when == "always" or first:
            if act == "crash":
                os._exit(9)
            if act == "hang":
                time.sleep(600)
            if act == "raise":
                raise ValueError(name)
            if act == "hog":
                bytearray(1 << 30)
            if act == "half-fail":
                return {"batchItemFailures": [{"itemIdentifier": change["SequenceNumber"]}]}
        with open("taken", "a") as taken:
            taken.write(name + "\\n")
    return {"batchItemFailures": []}
"""
ACTS = ("crash", "hang", "raise", "hog", "half-fail")

LOOKS_AROUND = """
import json, os

def handle(event, context):
    links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    files = [os.readlink(link) for link in links if os.path.islink(link)]  # not that of the list itself
    with open("seen", "a") as seen:
        seen.write(json.dumps({"environment": dict(os.environ), "files": files}) + "\\n")
"""

SLEEPS = """
import os, time

def handle(event, context):
    with open("begun", "a") as begun:
        begun.write(f"{os.getpid()}\\n")
    time.sleep(50)
"""


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("triggers") / "data", TOPOLOGY)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)  # of whoever started the cluster
            cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def triggers(region: Cluster) -> Triggers:
    return Triggers(region, REGION)


@pytest.fixture
def client(region: Cluster) -> Iterator[Any]:
    client = region.client(REGION, retries={"total_max_attempts": 10, "mode": "standard"})
    yield client
    client.close()


class Writer:
    """Puts, updates and deletes a few keys."""

    def __init__(self, client: Any, table: str, seed: int) -> None:
        self._client = client
        self._table = table
        self._random = Random(seed)

    def step(self, number: int) -> None:
        key = {"pk": {"S": f"key-{self._random.randrange(KEYS)}"}}
        try:
            if self._random.random() < 0.2:
                self._client.delete_item(TableName=self._table, Key=key)
            else:
                self._client.put_item(TableName=self._table, Item={**key, "n": {"N": str(number)}})
        except ClientError as error:
            if error.response["Error"]["Code"] not in EXPECTED:
                raise
        except BotoCoreError as error:
            print(f"step {number}: {error!r}")


def mirrored(function: PythonFunction) -> dict[str, str]:
    found = {}
    for file in function.directory.glob("key-*"):
        if not file.suffix and (item := json.loads(file.read_text())[1]) is not None:
            found[file.name] = canonical(item)
    return found


def table_of(client: Any, name: str) -> dict[str, str]:
    pages = client.get_paginator("scan").paginate(TableName=name, ConsistentRead=True)
    return {item["pk"]["S"]: canonical(item) for page in pages for item in page["Items"]}


def test_a_mirror_ends_equal_to_its_table_though_nodes_and_the_delivery_process_are_killed(
    region: Cluster, triggers: Triggers, client: Any, tmp_path: Path
) -> None:
    arn = create_streamed_table(client, "mirrored")
    function = PythonFunction(region, tmp_path / "mirror", "mirror", MIRROR, "--timeout-s", "20")
    uuid = triggers.create(
        EventSourceArn=arn,
        FunctionName="mirror",
        StartingPosition="TRIM_HORIZON",
        BatchSize=20,
        ParallelizationFactor=4,
    )
    random = Random(SEED)
    nodes = [process.id for process in region.processes(REGION, "node")]
    victims = [[random.choice((triggers.process, random.choice(nodes)))] for _ in range(KILLS)]
    victims += [[triggers.process], nodes, [triggers.process, random.choice(nodes)]]
    with Traffic("writer", Writer(client, "mirrored", SEED).step) as writing:
        for together in victims:
            steps = writing.steps + STEPS_BETWEEN_KILLS
            until("writes go on", lambda steps=steps: writing.check() and writing.steps >= steps)
            until("the mirror goes on", lambda: (status := triggers.status(uuid)) and status["delivered"] > 0)
            for victim in together:
                region.kill(victim)
            print(f"killed {together} after {writing.steps} writes, {len(mirrored(function))} items mirrored")
            region.await_running()
        restarted = region.run("restart", triggers.process)
        assert restarted.returncode == 0, restarted.stderr
    until("the mirror equals the table", lambda: mirrored(function) == table_of(client, "mirrored"), CAUGHT_UP_S_MAX)
    assert function.lines("wrong") == []
    log = region.data_dir / "logs" / f"{triggers.process}.log"
    print(f"{writing.steps} writes, {log.read_text().count('again')} records came again")
    triggers.delete(uuid)


def test_poison_ends_up_in_the_destination_and_all_else_is_taken(
    region: Cluster, triggers: Triggers, client: Any, tmp_path: Path
) -> None:
    arn = create_streamed_table(client, "troubled")
    function = PythonFunction(region, tmp_path / "troubled", "troubled", TROUBLED, "--timeout-s", "1")
    failed = tmp_path / "failed"
    before = region.process(triggers.process).pid
    random = Random(SEED)
    items = [(act, when) for act in ACTS for when in ("once", "always")] + [("none", "once")] * 60
    random.shuffle(items)
    for number, (act, when) in enumerate(items):
        name = f"{number}-{act}-{when}"
        client.put_item(TableName="troubled", Item={"pk": {"S": name}, "act": {"S": act}, "when": {"S": when}})
    uuid = triggers.create(
        EventSourceArn=arn,
        FunctionName="troubled",
        StartingPosition="TRIM_HORIZON",
        BatchSize=8,
        ParallelizationFactor=4,
        MaximumRetryAttempts=2,
        BisectBatchOnFunctionError=True,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        DestinationConfig={"OnFailure": {"Destination": f"file://{failed}"}},
    )
    names = set(table_of(client, "troubled"))
    poison = {name for name in names if name.endswith("-always")}

    def ended() -> bool:
        status = triggers.status(uuid)
        done = set(function.lines("taken")) | {name_of(record) for record in given_up(failed)}
        return status is not None and status["pending_records"] == 0 and done >= names

    until("every record has ended", ended, CAUGHT_UP_S_MAX)
    assert {name_of(record) for record in given_up(failed)} == poison
    assert set(function.lines("taken")) == names - poison
    assert region.process(triggers.process).pid == before, "what functions do harms only their own processes"
    counted = f'geodyne_trigger_records_total{{mapping="{uuid}",outcome='
    # The files of the destination are there a moment before they are counted.
    until("they are counted", lambda: f'{counted}"sent_to_destination"}} {len(poison)}.0' in triggers.metrics())
    assert f'{counted}"dropped"}} 0.0' in triggers.metrics()
    triggers.delete(uuid)


def name_of(record: dict[str, Any]) -> str:
    name: str = record["dynamodb"]["Keys"]["pk"]["S"]
    return name


def test_a_function_sees_nothing_of_the_process_that_calls_it(
    region: Cluster, triggers: Triggers, client: Any, tmp_path: Path
) -> None:
    arn = create_streamed_table(client, "looked-at")
    function = PythonFunction(region, tmp_path / "looks", "looks", LOOKS_AROUND, "--env", "OWN=value")
    uuid = triggers.create(EventSourceArn=arn, FunctionName="looks", StartingPosition="TRIM_HORIZON")
    client.put_item(TableName="looked-at", Item={"pk": {"S": "key"}})
    until("it was called", lambda: function.lines("seen"))
    seen = json.loads(function.lines("seen")[0])
    assert seen["environment"]["OWN"] == "value"
    allowed = (
        "AWS_LAMBDA_",
        "AWS_REGION",
        "LAMBDA_TASK_ROOT",
        "_HANDLER",
        "OWN",
        "PATH",
        "LANG",
        "LC_",
        "TZ",
        "MALLOC_",
    )
    assert [name for name in seen["environment"] if not name.startswith(allowed)] == []
    assert len(seen["files"]) == 5, "standard ones, where its calls come from, where its answers go"
    until("its result is shown", lambda: triggers.get(uuid)["LastProcessingResult"] == "OK")
    health = region.status()["regions"][REGION]["processes"]
    assert [process["state"] for process in health if process["id"] == triggers.process] == ["running"]
    triggers.delete(uuid)
    until("it does not run any more", lambda: uuid not in triggers.metrics())


def test_who_cannot_read_the_files_of_the_cluster_has_nothing_registered_and_is_not_told_the_token(
    region: Cluster,
) -> None:
    told = [region.log_tails(), json.dumps(region.status())]
    for process in region.processes():
        launch_file = region.data_dir / "run" / f"{process.id}.json"
        assert stat.S_IMODE(launch_file.stat().st_mode) == 0o600
        for method, path in (
            ("POST", "/admin/triggers"),
            ("POST", "/admin/reload"),
            ("GET", "/status"),
            ("GET", "/metrics"),
        ):
            connection = http.client.HTTPConnection(process.metrics, timeout=30)
            connection.request(method, path, FUNCTION_OF_A_STRANGER, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            assert answer.status == (403 if method == "POST" else 200), (process.id, path)
            told.append(answer.read().decode())
            connection.close()
    listed = region.run("trigger", "function", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    assert "stranger" not in listed.stdout
    assert region.admin_token not in "".join(told)
    assert stat.S_IMODE((region.data_dir / "admin-token").stat().st_mode) == 0o600


def test_a_process_that_is_to_go_waits_for_no_hanging_function_and_leaves_none_behind(
    region: Cluster, triggers: Triggers, client: Any, tmp_path: Path
) -> None:
    arn = create_streamed_table(client, "slept-on")
    function = PythonFunction(region, tmp_path / "sleeps", "sleeps", SLEEPS, "--timeout-s", "60")
    uuid = triggers.create(EventSourceArn=arn, FunctionName="sleeps", StartingPosition="LATEST")
    client.put_item(TableName="slept-on", Item={"pk": {"S": "key"}})
    until("it hangs", lambda: function.lines("begun"))
    restarted = region.run("restart", triggers.process)
    assert restarted.returncode == 0, restarted.stderr
    assert "does not stop" not in region.log_tails().split("\n--- ")[0]
    until("its record is delivered again", lambda: len(function.lines("begun")) >= 2)
    region.kill(triggers.process)
    until("and again", lambda: len(function.lines("begun")) >= 3)
    workers = function.lines("begun")
    until("those before are gone", lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers[:-1]))
    triggers.delete(uuid)


def test_two_delivery_processes_of_a_region_deliver_twice_and_lose_nothing(
    region: Cluster, triggers: Triggers, client: Any, tmp_path: Path
) -> None:
    """As when one is started while the other is only cut off from whoever watches it."""
    arn = create_streamed_table(client, "doubled")
    function = PythonFunction(region, tmp_path / "doubled", "doubled", MIRROR, "--timeout-s", "20")
    uuid = triggers.create(
        EventSourceArn=arn, FunctionName="doubled", StartingPosition="LATEST", BatchSize=10, ParallelizationFactor=2
    )
    with Traffic("writer", Writer(client, "doubled", SEED).step) as writing:
        with second_process(region, triggers.process, tmp_path):
            until("writes go on", lambda: writing.check() and writing.steps >= 4 * STEPS_BETWEEN_KILLS)
        steps = writing.steps + STEPS_BETWEEN_KILLS
        until("writes go on", lambda: writing.check() and writing.steps >= steps)
    until("the mirror equals the table", lambda: mirrored(function) == table_of(client, "doubled"), CAUGHT_UP_S_MAX)
    triggers.delete(uuid)


@contextmanager
def second_process(region: Cluster, process: str, directory: Path) -> Iterator[None]:
    """One more run with the settings of `process`, ended in order."""
    config = json.loads((region.data_dir / "run" / f"{process}.json").read_text())
    config["metrics"]["port"] = 0
    file = directory / "second.json"
    file.write_text(json.dumps(config))
    with (directory / "second.log").open("wb") as log:
        second = subprocess.Popen(
            [sys.executable, "-P", "-m", "delivery", "--config", str(file)],
            env=environment(region.state),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        until("it is ready", lambda: '"event":"ready"' in (directory / "second.log").read_text())
        yield
    finally:
        second.terminate()
        assert second.wait(STOP_S_MAX) == 0, (directory / "second.log").read_text()
    assert "Traceback" not in (directory / "second.log").read_text()
