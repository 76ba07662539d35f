"""`geodyne dev`: one durable process, quickly there, without what only a cluster needs."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.cluster.clusters import command_line, environment
from tests.cluster.clusters import geodyne as run_geodyne
from tests.cluster.devservers import STOP_S_MAX, DevServer
from tests.cluster.tables import contents, create_table
from tests.cluster.triggers import create_streamed_table
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

TABLE = "notes"
KILLS = 3
ROWS_BETWEEN_KILLS = 100
READY_S_MAX = 20.0  # "under a second" on an idle machine; here it is only printed


class UntilTheEnd:
    """Writes rows and increments a counter until the server dies; knows what was acknowledged and what was tried."""

    def __init__(self, client: Any, first: int) -> None:
        self.acknowledged: list[int] = []
        self.increments_acknowledged = 0
        self.increments_tried = 0
        self._client = client
        self._next = first
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def has_written(self) -> bool:
        return len(self.acknowledged) >= ROWS_BETWEEN_KILLS

    def join(self) -> None:
        self._thread.join(STOP_S_MAX)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while True:
                item = {"pk": {"S": f"row-{self._next}"}, "n": {"N": str(self._next)}}
                self._client.put_item(TableName=TABLE, Item=item)
                self.acknowledged.append(self._next)
                self._next += 1
                self.increments_tried += 1
                self._client.update_item(
                    TableName=TABLE,
                    Key={"pk": {"S": "counter"}},
                    UpdateExpression="ADD n :one",
                    ExpressionAttributeValues={":one": {"N": "1"}},
                )
                self.increments_acknowledged += 1
        except (BotoCoreError, ClientError):
            self._client.close()  # the server is gone, which is what this waits for


def test_every_acknowledged_write_survives_kill_9(tmp_path: Path, keep_log: list[Path]) -> None:
    server = DevServer(tmp_path / "data")
    keep_log.append(server.log)
    rows: list[int] = []
    acknowledged = tried = 0
    with server:
        client = server.client()
        create_table(client, TABLE)
        client.close()
        for _ in range(KILLS):
            writer = UntilTheEnd(server.client(retries={"total_max_attempts": 1}), len(rows) + tried)
            until("the client has written", writer.has_written)
            server.kill()
            writer.join()
            rows += writer.acknowledged
            acknowledged += writer.increments_acknowledged
            tried += writer.increments_tried
            server.start()
            client = server.client()
            items = contents(client, TABLE)
            counter = client.get_item(TableName=TABLE, Key={"pk": {"S": "counter"}}, ConsistentRead=True)
            client.close()
            assert [n for n in rows if (f'{{"S": "row-{n}"}}',) not in items] == []
            # An increment whose answer the kill cut off may have happened or not; no other may be missing or double.
            assert acknowledged <= int(counter["Item"]["n"]["N"]) <= tried
            print(f"ready again in {server.ready_s:.2f} s with {len(items)} items")


def test_it_is_ready_soon_and_ctrl_c_ends_it_cleanly(tmp_path: Path, keep_log: list[Path]) -> None:
    with DevServer(tmp_path / "data") as server:
        keep_log.append(server.log)
        print(f"ready in {server.ready_s:.2f} s")
        assert server.ready_s < READY_S_MAX
        client = server.client()
        create_table(client, TABLE)
        client.put_item(TableName=TABLE, Item={"pk": {"S": "kept"}})
        client.close()
        assert server.stop() == 0
        server.start()
        client = server.client()
        assert contents(client, TABLE) == {('{"S": "kept"}',): '{"pk": {"S": "kept"}}'}
        client.close()
    assert "Traceback" not in server.said()


def test_it_loads_neither_grpc_nor_the_sdk_nor_what_calls_functions(tmp_path: Path) -> None:
    log = tmp_path / "imports.txt"
    dev = command_line("dev", "--port", "0", "--data-dir", str(tmp_path / "data"))
    with log.open("wb") as output:
        process = subprocess.Popen(
            [dev[0], "-X", "importtime", *dev[1:]],
            env=environment(tmp_path / "state"),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        until("it is ready", lambda: b"is ready at" in log.read_bytes())
    finally:
        process.terminate()
        process.wait(STOP_S_MAX)
    lines = log.read_text(errors="replace").splitlines()
    packages = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines if line.startswith("import time:")}
    assert "router" in packages
    assert packages & {"grpc", "botocore", "boto3", "delivery"} == set()


RECORDS = """
def handle(event, context):
    print("I was called")
    with open("taken", "a") as taken:
        for record in event["Records"]:
            taken.write(record["dynamodb"]["Keys"]["pk"]["S"] + "\\n")
"""


def test_triggers_run_in_the_same_process_and_go_on_where_they_were_after_kill_9(
    tmp_path: Path, keep_log: list[Path]
) -> None:
    (tmp_path / "handlers.py").write_text(RECORDS)
    taken = tmp_path / "taken"

    def geodyne(*arguments: str) -> None:
        done = run_geodyne(*arguments, "--data-dir", str(tmp_path / "data"), state=tmp_path / "state")
        assert done.returncode == 0, done.stderr

    with DevServer(tmp_path / "data") as server:
        keep_log.append(server.log)
        client = server.client()
        create_streamed_table(client, TABLE)
        geodyne("trigger", "function", "add", "take", "--handler", "handlers:handle", "--path", str(tmp_path))
        geodyne("trigger", "create", "--table", TABLE, "--function", "take")
        client.put_item(TableName=TABLE, Item={"pk": {"S": "one"}})
        until("the function is called", lambda: taken.exists() and taken.read_text() == "one\n")
        client.close()
        server.kill()
        server.start()
        client = server.client()
        client.put_item(TableName=TABLE, Item={"pk": {"S": "two"}})
        until("it is called again", lambda: taken.read_text().endswith("two\n"))
        assert set(taken.read_text().split()) == {"one", "two"}
        # What a function prints is read from a pipe: beside what it does, not before.
        until("what it printed is there", lambda: "\ntake: I was called\n" in server.said())
        client.close()
        assert server.stop() == 0
    assert "Traceback" not in server.said()
