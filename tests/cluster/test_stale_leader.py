"""A leader that was stopped for longer than its lease, and a router that has not heard of the next one: what they were
asked before the leader goes on must not be answered from the past."""

from __future__ import annotations

import http.client
import json
import time
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.cluster.clusters import Cluster, Keys
from tests.cluster.tables import create_table, partition_with_items
from tests.cluster.waiting import until
from tests.cluster.wiredclusters import REGION, Wired, wired_cluster

pytestmark = pytest.mark.cluster

TABLE = "stale-leader"
KEY = {"pk": {"S": "watched"}}
ROUNDS = 3
ASKED = 6  # requests of each kind that wait in the socket of the stopped leader
FROM_THE_PAST = "answered from the past"
PASSED_ON_S = 0.05
STRONG_READ = {"Key": KEY, "ConsistentRead": True}


class Asked(NamedTuple):
    connection: http.client.HTTPConnection
    operation: str


def send(address: str, keys: Keys, operation: str, body: dict[str, Any]) -> Asked:
    """Send a request and return with all of it handed to the system, whether or not anybody takes it."""
    data = json.dumps({"TableName": TABLE, **body}).encode()
    headers = {"X-Amz-Target": f"DynamoDB_20120810.{operation}", "Content-Type": "application/x-amz-json-1.0"}
    request = AWSRequest("POST", f"http://{address}/", headers=headers, data=data)
    SigV4Auth(Credentials(*keys), "dynamodb", REGION).add_auth(request)
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request("POST", "/", data, dict(request.headers))
    return Asked(connection, operation)


def answer(asked: Asked) -> tuple[int, dict[str, Any]]:
    try:
        response = asked.connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        asked.connection.close()


def put(value: int, expected: int) -> dict[str, Any]:
    return {
        "Item": {**KEY, "n": {"N": str(value)}},
        "ConditionExpression": "n = :expected",
        "ExpressionAttributeValues": {":expected": {"N": str(expected)}},
    }


def test_a_leader_that_goes_on_too_late_answers_nothing_from_the_past(wired: Wired) -> None:
    ask_too_late(wired)


@pytest.mark.long
def test_this_shows_a_leader_that_answers_without_a_lease(tmp_path: Path) -> None:
    with (
        wired_cluster(tmp_path, "reads need a lease") as sabotaged,
        pytest.raises(AssertionError, match="from the past"),
    ):
        ask_too_late(sabotaged)


def ask_too_late(wired: Wired) -> None:
    """A few rounds: the leader is stopped, another one is elected and takes a write, and the router that has not heard
    of it passes on requests to the stopped one, which then goes on."""
    cluster, wires = wired
    keys = cluster.keys
    router, elsewhere, _ = cluster.processes(REGION, "router")
    answered = 0
    with closing(cluster.client(REGION, zone=elsewhere.zone)) as client:
        create_table(client, TABLE)
        client.put_item(TableName=TABLE, Item={**KEY, "n": {"N": "0"}})
        for value in range(ROUNDS):
            cluster.await_running()
            leader = until("there is a leader", lambda: leader_of_the_item(cluster))
            others = [process.id for process in cluster.processes(REGION, "node") if process.id != leader]
            status, found = answer(send(router.address, keys, "GetItem", STRONG_READ))
            assert (status, found["Item"]["n"]["N"]) == (200, str(value))
            wires.cut(flow for other in others for flow in ((router.id, other), (other, router.id)))
            try:
                with cluster.paused(leader):
                    client.put_item(TableName=TABLE, **put(value + 1, value))
                    asked = [send(router.address, keys, "GetItem", STRONG_READ) for _ in range(ASKED)]
                    asked += [send(router.address, keys, "PutItem", put(-1, value)) for _ in range(ASKED)]
                    time.sleep(PASSED_ON_S)  # nothing tells when the router has passed them on to where nobody reads
                answers = [answer(asked[0])]
            finally:
                wires.heal()
            answers += [answer(one) for one in asked[1:]]
            for one, (status, found) in zip(asked, answers, strict=True):
                assert status == 500 or is_of_now(one.operation, found, value + 1), f"{FROM_THE_PAST}: {found}"
            answered += sum(status != 500 for status, _ in answers)
            assert client.get_item(TableName=TABLE, **STRONG_READ)["Item"]["n"]["N"] == str(value + 1)
    print(f"{answered} of {ROUNDS * ASKED * 2} requests were answered in time")


def is_of_now(operation: str, found: dict[str, Any], value: int) -> bool:
    if operation == "GetItem":
        return bool(found["Item"]["n"]["N"] == str(value))
    return bool(found["__type"].endswith("ConditionalCheckFailedException"))


def leader_of_the_item(cluster: Cluster) -> str:
    home = partition_with_items(cluster, REGION, TABLE)
    return home.leader if home else ""
