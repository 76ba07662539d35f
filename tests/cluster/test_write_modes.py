"""Write modes with real processes: what a passive region answers, and a switch of the active region under writers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.cluster.clusters import Cluster
from tests.cluster.tables import create_table, make_global
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

TOPOLOGY = """
[regions.us-east-1]
zones = ["a"]

[regions.eu-west-1]
zones = ["a"]
"""
HOME, OTHER = REGIONS = ("us-east-1", "eu-west-1")
TABLE = "moving"
GAP_S_MAX = 10.0  # of a switch while nothing is wrong; seconds of it are this machine's
DENIED = "AccessDeniedException"


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("writes") / "data", TOPOLOGY)
    try:
        cluster.start()
        home = cluster.client(HOME)
        create_table(home, TABLE)
        make_global(cluster, HOME, TABLE, REGIONS)
        home.close()
        yield cluster
    finally:
        cluster.close()


def writes(regions: Cluster, *options: str) -> str:
    done = regions.run("writes", TABLE, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def refusal(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as error:
        call(**arguments)
    assert error.value.response["Error"]["Code"] == DENIED
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    return str(error.value.response["Error"]["Message"])


class Writer:
    """Puts numbered items in one region, as long as it is told to, and notes those that were taken."""

    def __init__(self, regions: Cluster, region: str) -> None:
        self.taken: list[tuple[float, str]] = []
        self.refused = 0
        self.reasons: set[str] = set()
        self.stop = threading.Event()
        self._client = regions.client(region)
        self._region = region
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        while not self.stop.is_set():
            number += 1
            pk = f"{self._region}-{number}"
            try:
                self._client.put_item(TableName=TABLE, Item={"pk": {"S": pk}})
            except ClientError as error:
                self.refused += 1
                self.reasons.add(error.response["Error"]["Code"])
            else:
                self.taken.append((time.monotonic(), pk))

    def end(self) -> None:
        self.stop.set()
        self._thread.join()
        self._client.close()
        assert self.reasons <= {DENIED}


def test_writes_pass_from_one_region_to_the_other_under_writers_and_never_are_in_both(regions: Cluster) -> None:
    said = writes(regions, "--mode", "one", "--active", HOME)
    assert f"one region takes writes: {HOME}" in said
    reader = regions.client(OTHER)
    home, other = (Writer(regions, region) for region in REGIONS)
    try:
        until("there is something to pass on", lambda: len(home.taken) > 100 and other.refused > 10)
        assert not other.taken
        said = writes(regions, "--active", OTHER)
        assert f"{OTHER} takes writes" in said
        there = {item["pk"]["S"] for page in _pages(reader) for item in page["Items"]}
        until("the other goes on", lambda: len(other.taken) > 20)
        taken = len(home.taken)
        until("the first is refused", lambda: home.refused > 20)
        assert len(home.taken) == taken
    finally:
        home.end()
        other.end()
        reader.close()
    assert {pk for _, pk in home.taken} <= there, "a write that was taken before is missing"
    gap_s = other.taken[0][0] - home.taken[-1][0]
    print(f"{gap_s * 1000:.0f} ms without a write taken; {len(home.taken)} before")
    assert 0 < gap_s < GAP_S_MAX


def _pages(client: Any) -> Any:
    return client.get_paginator("scan").paginate(TableName=TABLE, ConsistentRead=True)


def test_every_kind_of_write_is_refused_in_the_passive_region_and_reads_are_not(regions: Cluster) -> None:
    shown = json.loads(regions.run("writes", TABLE, "--json").stdout)
    active = shown[HOME]["mode"]["active"]
    if shown[HOME]["mode"]["mode"] != "one":
        writes(regions, "--mode", "one", "--active", HOME)
        active = HOME
    passive, message = next(region for region in REGIONS if region != active), f"taken in {active} only"
    client = regions.client(passive)
    item, key = {"pk": {"S": "x"}}, {"pk": {"S": "x"}}
    put = {"Put": {"TableName": TABLE, "Item": item}}
    statement = f"INSERT INTO \"{TABLE}\" VALUE {{'pk': 'x'}}"
    assert message in refusal(client.put_item, TableName=TABLE, Item=item)
    assert message in refusal(client.delete_item, TableName=TABLE, Key=key)
    assert message in refusal(client.update_item, TableName=TABLE, Key=key)
    assert message in refusal(client.batch_write_item, RequestItems={TABLE: [{"PutRequest": {"Item": item}}]})
    assert message in refusal(client.transact_write_items, TransactItems=[put])
    several = [{"Put": {"TableName": TABLE, "Item": {"pk": {"S": f"x{number}"}}}} for number in range(9)]
    assert message in refusal(client.transact_write_items, TransactItems=several)
    assert message in refusal(client.execute_statement, Statement=statement)
    answer = client.batch_execute_statement(Statements=[{"Statement": statement}])
    assert answer["Responses"][0]["Error"]["Code"] == "AccessDenied"
    assert "Item" not in client.get_item(TableName=TABLE, Key=key, ConsistentRead=True)
    client.close()


def test_an_item_is_written_in_the_region_that_it_names(regions: Cluster) -> None:
    said = writes(regions, "--mode", "home", "--home", "home")
    assert "its attribute home says" in said
    home, other = (regions.client(region) for region in REGIONS)
    key = {"pk": {"S": "homed"}}
    assert "needs the attribute home" in refusal(home.put_item, TableName=TABLE, Item=key)
    home.put_item(TableName=TABLE, Item={**key, "home": {"S": HOME}})
    until("it is there", lambda: "Item" in other.get_item(TableName=TABLE, Key=key, ConsistentRead=True))
    change = {"UpdateExpression": "SET v = :v", "ExpressionAttributeValues": {":v": {"N": "1"}}}
    assert f"written in {HOME} only" in refusal(other.update_item, TableName=TABLE, Key=key, **change)
    moves = {"UpdateExpression": "SET home = :v", "ExpressionAttributeValues": {":v": {"S": OTHER}}}
    home.update_item(TableName=TABLE, Key=key, **moves)
    assert f"written in {OTHER} only" in refusal(home.update_item, TableName=TABLE, Key=key, **change)
    until("it has moved", lambda: _homed(other, key) == OTHER)
    other.update_item(TableName=TABLE, Key=key, **change)
    assert "any region takes writes" in writes(regions, "--mode", "any")
    home.put_item(TableName=TABLE, Item=key)
    for client in (home, other):
        client.close()


def _homed(client: Any, key: Any) -> str:
    return str(client.get_item(TableName=TABLE, Key=key, ConsistentRead=True)["Item"]["home"]["S"])


@pytest.mark.long
def test_a_region_takes_over_by_force_and_says_what_may_be_missing(regions: Cluster) -> None:
    writes(regions, "--mode", "one", "--active", HOME)
    ids = [process.id for process in regions.processes(HOME)]
    regions.stop_processes(ids)
    try:
        refused = regions.run("writes", TABLE, "--active", OTHER)
        assert refused.returncode == 1
        said = regions.run("writes", TABLE, "--active", OTHER, "--force")
        assert said.returncode == 0, said.stderr
        assert f"{OTHER} has all that {HOME} took up to" in said.stderr
        other = regions.client(OTHER)
        until("it takes writes", lambda: _takes(other))
        other.close()
    finally:
        regions.start_processes(ids)
    home = regions.client(HOME)
    until("the one that was lost learns it", lambda: not _takes(home))
    home.close()


def _takes(client: Any) -> bool:
    try:
        client.put_item(TableName=TABLE, Item={"pk": {"S": "forced"}})
    except ClientError as error:
        if error.response["Error"]["Code"] == DENIED:
            return False
        raise
    return True
