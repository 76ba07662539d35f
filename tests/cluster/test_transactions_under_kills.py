"""Transfers between accounts over several routers while routers and leaders are killed: no money is made or lost, and
every acknowledged transfer happened once."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.cluster.clusters import Cluster
from tests.cluster.tables import create_table
from tests.cluster.traffic import Traffic
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

REGION = "us-east-1"
TABLE = "transfers"
ACCOUNTS = [f"account-{number}" for number in range(6)]
START = 1_000
STEPS_BETWEEN_KILLS = 30
RECOVERED_S_MAX = 15.0
UNKNOWN = frozenset({"InternalServerError", "TransactionInProgressException"})  # it may have happened, or yet happen
EXPECTED = UNKNOWN | {"TransactionCanceledException", "ServiceUnavailable"}


class Teller:
    """Moves money through one router, and counts its transfers in an item of its own within the same transaction."""

    def __init__(self, client: Any, name: str) -> None:
        self.client = client
        self.name = name
        self.done = 0
        self.unknown = 0
        self._random = Random(name)

    def step(self, number: int) -> None:
        source, target = self._random.sample(ACCOUNTS, 2)
        amount = self._random.randint(1, 9)
        try:
            self.client.transact_write_items(
                TransactItems=[
                    _adding(source, -amount, ConditionExpression="v >= :least", least=amount),
                    _adding(target, amount),
                    _adding(self.name, 1),
                ]
            )
            self.done += 1
        except ClientError as error:
            self.unknown += _code(error) in UNKNOWN
            if _code(error) not in EXPECTED:
                raise

    def audit(self, number: int) -> None:
        try:
            total = total_of(self.client)
        except ClientError as error:
            if _code(error) not in EXPECTED:
                raise
            return
        assert total == START * len(ACCOUNTS)
        self.done += 1


def _code(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


def _adding(pk: str, amount: int, least: int | None = None, **more: Any) -> dict[str, Any]:
    values = {":amount": {"N": str(amount)}, **({":least": {"N": str(least)}} if least is not None else {})}
    update = {"UpdateExpression": "ADD v :amount", "ExpressionAttributeValues": values}
    return {"Update": {"TableName": TABLE, "Key": {"pk": {"S": pk}}, **update, **more}}


def total_of(client: Any) -> int:
    gets = [{"Get": {"TableName": TABLE, "Key": {"pk": {"S": account}}}} for account in ACCOUNTS]
    answer = client.transact_get_items(TransactItems=gets)
    return sum(int(one["Item"]["v"]["N"]) for one in answer["Responses"])


def test_transfers_lose_nothing_when_routers_and_leaders_are_killed(world: Cluster) -> None:
    first = world.client(REGION)
    create_table(first, TABLE)
    first.transact_write_items(TransactItems=[_adding(account, START) for account in ACCOUNTS])
    retries = {"total_max_attempts": 10, "mode": "standard"}
    tellers = [Teller(world.client(REGION, zone=zone, retries=retries), f"teller-{zone}") for zone in "abc"]
    auditor = Teller(world.client(REGION, zone="c", retries=retries), "auditor")
    with (
        Traffic("a", tellers[0].step) as one,
        Traffic("b", tellers[1].step) as two,
        Traffic("c", tellers[2].step) as three,
        Traffic("audit", auditor.audit) as audit,
    ):
        traffics = (one, two, three, audit)
        for process in (_router(world, "b"), *_leaders(world)):
            _go_on(traffics)
            world.kill(process)
            print(f"killed {process}; transfers {[teller.done for teller in tellers]}, audits {auditor.done}")
            world.await_running()
        _go_on(traffics)

    def settled() -> bool:
        try:
            return total_of(first) == START * len(ACCOUNTS)
        except ClientError:
            return False  # a transaction that lost its router is still to be brought to its end

    until("nothing is locked any more", settled, RECOVERED_S_MAX)
    for teller in tellers:
        counted = int(
            first.get_item(TableName=TABLE, Key={"pk": {"S": teller.name}}, ConsistentRead=True)["Item"]["v"]["N"]
        )
        assert teller.done <= counted <= teller.done + teller.unknown, teller.name
        teller.client.close()
    assert auditor.done > 0
    first.delete_table(TableName=TABLE)
    first.close()


def _router(cluster: Cluster, zone: str) -> str:
    return next(process.id for process in cluster.processes(REGION, "router") if process.zone == zone)


def _leaders(cluster: Cluster) -> list[str]:
    """Of two partitions of the table, one after the other."""
    partitions = until("all partitions have leaders", lambda: cluster.partitions(REGION, TABLE))
    return [cluster.leader(REGION, TABLE, partition) for partition in partitions[:2]]


def _go_on(traffics: tuple[Traffic, ...]) -> None:
    enough = [traffic.steps + STEPS_BETWEEN_KILLS for traffic in traffics]

    def went_on() -> bool:
        return all(traffic.check() and traffic.steps >= steps for traffic, steps in zip(traffics, enough, strict=True))

    until("everybody goes on", went_on)
