"""Laws of definitions, on generated ones, with the catalog's own machine behind the API: what was asked for is what is
described, and no definition that lacks or exceeds its attributes is taken."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from geodyne.errors import ApiError
from geodyne.messages import Answer, Control, ControlDone, Refused
from node.catalog.machine import ACTIVATE, Catalog, Surroundings, evaluate
from node.catalog.placement import rings_by_zone
from tests.unit.router.fake_region import NOW_MS, REGION, Client, FakeRegion

LETTERS = "abcdefgh"
UNITS = st.fixed_dictionaries({"ReadCapacityUnits": st.integers(1, 9), "WriteCapacityUnits": st.integers(1, 9)})


class MachineRegion(FakeRegion):
    """Control operations are decided by the metadata group's machine; every change is ACTIVE at once."""

    def __init__(self) -> None:
        super().__init__()
        ids = itertools.count()
        self.machine = Catalog()
        self._around = Surroundings(
            region=REGION,
            now_ms=NOW_MS,
            placement=rings_by_zone({"n-a": "a"}),
            new_id=lambda: f"{next(ids):08x}-0000-0000-0000-000000000000",
            stream_label=str,
        )

    def _control(self, call: Control) -> Answer:
        try:
            answer = self._evaluate(call.operation, call.body)
        except ApiError as error:
            return Refused(error.kind.code, error.message or "")
        table = answer["table"]
        if table["status"] in ("CREATING", "UPDATING"):
            self._evaluate(ACTIVATE, {"name": table["name"], "revision": table["revision"]})
        self.catalog.tables = dict(self.machine.tables)
        return ControlDone(self.machine.revision, answer)

    def _evaluate(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        changes, answer = evaluate(self.machine, operation, body, self._around)
        if changes:
            self.machine.apply(self.machine.revision + 1, changes)
        return answer


class MachineClient(Client):
    def __init__(self) -> None:
        super().__init__()
        self.region = MachineRegion()
        self.api.region_client = self.region


def element(name: str, kind: str) -> dict[str, str]:
    return {"AttributeName": name, "KeyType": kind}


@st.composite
def projections(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["ALL", "KEYS_ONLY", "INCLUDE"]))
    if kind != "INCLUDE":
        return {"ProjectionType": kind}
    names = draw(st.lists(st.sampled_from(LETTERS + "xyz"), min_size=1, max_size=5, unique=True))
    return {"ProjectionType": kind, "NonKeyAttributes": names}


@st.composite
def global_indexes(draw: st.DrawFn, name: str, provisioned: bool) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(LETTERS), min_size=1, max_size=8, unique=True))
    hashes = draw(st.integers(max(1, len(names) - 4), min(4, len(names))))
    keys = [element(each, "HASH") for each in names[:hashes]] + [element(each, "RANGE") for each in names[hashes:]]
    index = {"IndexName": name, "KeySchema": keys, "Projection": draw(projections())}
    return index | ({"ProvisionedThroughput": draw(UNITS)} if provisioned else {})


@st.composite
def definitions(draw: st.DrawFn) -> dict[str, Any]:
    """A CreateTable request that is right."""
    provisioned, has_range = draw(st.booleans()), draw(st.booleans())
    keys = [element("pk", "HASH")] + ([element("sk", "RANGE")] if has_range else [])
    local = [
        {
            "IndexName": f"near-{number}",
            "KeySchema": [element("pk", "HASH"), element(draw(st.sampled_from(LETTERS)), "RANGE")],
            "Projection": draw(projections()),
        }
        for number in range(draw(st.integers(0, 5)) if has_range else 0)
    ]
    wide = [draw(global_indexes(f"far-{number}", provisioned)) for number in range(draw(st.integers(0, 4)))]
    used = {each["AttributeName"] for schema in (keys, *(i["KeySchema"] for i in local + wide)) for each in schema}
    types = {name: draw(st.sampled_from("SNB")) for name in draw(st.permutations(sorted(used)))}
    billing = {"ProvisionedThroughput": draw(UNITS)} if provisioned else {"BillingMode": "PAY_PER_REQUEST"}
    body = {
        "TableName": "things",
        "KeySchema": keys,
        "AttributeDefinitions": [{"AttributeName": name, "AttributeType": kind} for name, kind in types.items()],
        **billing,
    }
    body |= {"LocalSecondaryIndexes": local} if local else {}
    return body | ({"GlobalSecondaryIndexes": wide} if wide else {})


def by_name(definitions: list[dict[str, str]]) -> list[dict[str, str]]:
    return sorted(definitions, key=lambda each: each["AttributeName"])


@settings(max_examples=60, deadline=None)
@given(definitions())
def test_what_was_asked_for_is_what_is_described(body: dict[str, Any]) -> None:
    client = MachineClient()
    client("CreateTable", **body)
    table = client("DescribeTable", TableName="things")["Table"]
    assert table["KeySchema"] == body["KeySchema"]
    assert by_name(table["AttributeDefinitions"]) == by_name(body["AttributeDefinitions"])
    for member in ("LocalSecondaryIndexes", "GlobalSecondaryIndexes"):
        asked, told = body.get(member, []), table.get(member, [])
        assert [each["IndexName"] for each in told] == [each["IndexName"] for each in asked]
        for one, other in zip(asked, told, strict=True):
            assert other["KeySchema"] == one["KeySchema"]
            assert other["Projection"] == one["Projection"]
            if "ProvisionedThroughput" in one:
                assert other["ProvisionedThroughput"] == {"NumberOfDecreasesToday": 0, **one["ProvisionedThroughput"]}


@settings(max_examples=60, deadline=None)
@given(definitions(), st.data())
def test_every_attribute_of_a_key_is_defined_and_no_other(body: dict[str, Any], data: st.DataObject) -> None:
    client = MachineClient()
    attributes = body["AttributeDefinitions"]
    lost = data.draw(st.sampled_from(attributes))
    short = body | {"AttributeDefinitions": [each for each in attributes if each is not lost]}
    more = body | {"AttributeDefinitions": [*attributes, {"AttributeName": "extra", "AttributeType": "S"}]}
    twice = body | {"AttributeDefinitions": [*attributes, lost]}
    for wrong in (short, more, twice):
        assert client.refused("CreateTable", **wrong)[0] == "ValidationException"
    assert client.region.calls == []


@settings(max_examples=30, deadline=None)
@given(definitions(), st.data())
def test_an_index_that_comes_and_goes_leaves_the_table_as_it_was(body: dict[str, Any], data: st.DataObject) -> None:
    client = MachineClient()
    client("CreateTable", **body)
    before = client("DescribeTable", TableName="things")["Table"]
    index = data.draw(global_indexes("later", "ProvisionedThroughput" in body))
    known = {each["AttributeName"]: each["AttributeType"] for each in body["AttributeDefinitions"]}
    names = [each["AttributeName"] for each in index["KeySchema"]]
    given_types = [{"AttributeName": name, "AttributeType": known.get(name, "S")} for name in names]
    client(
        "UpdateTable",
        TableName="things",
        AttributeDefinitions=given_types,
        GlobalSecondaryIndexUpdates=[{"Create": index}],
    )
    during = client("DescribeTable", TableName="things")["Table"]
    assert during["GlobalSecondaryIndexes"][-1]["KeySchema"] == index["KeySchema"]
    assert during["GlobalSecondaryIndexes"][-1]["Backfilling"] is True
    client("UpdateTable", TableName="things", GlobalSecondaryIndexUpdates=[{"Delete": {"IndexName": "later"}}])
    assert client("DescribeTable", TableName="things")["Table"] == before
