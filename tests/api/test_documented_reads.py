"""What the documentation shows of Query and of PartiQL, run as it stands there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.service import Item, Service

PROPAGATED_S_MAX = 20.0
UNSUPPORTED = "Query key condition not supported"

KEYS = ("matchId", "tournamentId", "region", "round", "bracket", "player1Id", "matchDate")
MATCHES = """
    match-001 WINTER2024 NA-EAST FINALS CHAMPIONSHIP 101 2024-01-20
    match-002 WINTER2024 NA-EAST SEMIFINALS UPPER 101 2024-01-18
    match-003 WINTER2024 NA-EAST SEMIFINALS UPPER 103 2024-01-18
    match-004 WINTER2024 NA-EAST QUARTERFINALS UPPER 101 2024-01-15
    match-005 WINTER2024 NA-WEST FINALS CHAMPIONSHIP 102 2024-01-20
    match-006 WINTER2024 NA-WEST SEMIFINALS UPPER 102 2024-01-18
    match-007 SPRING2024 NA-EAST QUARTERFINALS UPPER 101 2024-03-15
    match-008 SPRING2024 NA-EAST QUARTERFINALS LOWER 103 2024-03-15
"""


def schema(hashes: str, ranges: str = "") -> list[Item]:
    return [
        {"AttributeName": name, "KeyType": kind}
        for kind, names in (("HASH", hashes), ("RANGE", ranges))
        for name in names.split()
    ]


@pytest.fixture(scope="module")
def matches(service: Service) -> Iterator[str]:
    """The table of the Developer Guide's "Multi-attribute keys pattern", and its rows."""
    name = service.unique("matches")
    service.do(
        "CreateTable",
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=schema("matchId"),
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in KEYS],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "TournamentRegionIndex",
                "KeySchema": schema("tournamentId region", "round bracket matchId"),
                "Projection": {"ProjectionType": "ALL"},
            },
            {
                "IndexName": "PlayerMatchHistoryIndex",
                "KeySchema": schema("player1Id", "matchDate round"),
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            },
        ],
    )
    service.wait_active(name)
    rows = [dict(zip(KEYS, line.split(), strict=True)) for line in MATCHES.split("\n") if line.strip()]
    for row in rows:
        service.do("PutItem", TableName=name, Item={key: {"S": value} for key, value in row.items()})
    end = time.monotonic() + PROPAGATED_S_MAX
    for index in ("TournamentRegionIndex", "PlayerMatchHistoryIndex"):
        while service.do("Scan", TableName=name, IndexName=index, Select="COUNT")["Count"] < len(rows):
            assert time.monotonic() < end
    yield name
    service.call("DeleteTable", {"TableName": name})


def asked(table: str, index: str, condition: str, **values: str) -> dict[str, Any]:
    """A Query; `region`, a reserved word, is written #region."""
    names = {"ExpressionAttributeNames": {"#region": "region"}} if "#region" in condition else {}
    return {
        "TableName": table,
        "IndexName": index,
        "KeyConditionExpression": condition,
        "ExpressionAttributeValues": {f":{name}": {"S": value} for name, value in values.items()},
    } | names


def tournament(table: str, condition: str = "", **values: str) -> dict[str, Any]:
    both = "tournamentId = :tournament AND #region = :region"
    more = f" AND {condition}" if condition else ""
    return asked(table, "TournamentRegionIndex", both + more, tournament="WINTER2024", region="NA-EAST", **values)


def found(service: Service, request: dict[str, Any]) -> list[str]:
    return [str(item["matchId"]["S"][-1]) for item in service.do("Query", **request)["Items"]]


# Developer Guide, "Multi-attribute keys pattern", steps 3 to 5.


def test_conditions_on_all_of_the_partition_key_find_matches_in_the_order_of_the_sort_key(
    service: Service, matches: str
) -> None:
    assert found(service, tournament(matches)) == ["1", "4", "2", "3"]


@pytest.mark.parametrize(
    ("condition", "values", "expected"),
    [
        ("round = :r", {"r": "SEMIFINALS"}, ["2", "3"]),
        ("round = :r AND bracket = :b", {"r": "SEMIFINALS", "b": "UPPER"}, ["2", "3"]),
        ("round = :r AND bracket = :b AND matchId = :m", {"r": "SEMIFINALS", "b": "UPPER", "m": "match-002"}, ["2"]),
        ("round = :r AND bracket = :b AND matchId > :m", {"r": "SEMIFINALS", "b": "UPPER", "m": "match-002"}, ["3"]),
        ("round >= :r", {"r": "QUARTERFINALS"}, ["4", "2", "3"]),
        ("round BETWEEN :s AND :e", {"s": "QUARTERFINALS", "e": "SEMIFINALS"}, ["4", "2", "3"]),
        ("round = :r AND begins_with(bracket, :b)", {"r": "SEMIFINALS", "b": "U"}, ["2", "3"]),
    ],
)
def test_sort_attributes_are_queried_from_the_left(
    service: Service, matches: str, condition: str, values: dict[str, str], expected: list[str]
) -> None:
    assert found(service, tournament(matches, condition, **values)) == expected


@pytest.mark.parametrize(
    ("condition", "values"),
    [
        ("bracket = :b", {"b": "UPPER"}),
        ("round = :r AND matchId = :m", {"r": "SEMIFINALS", "m": "match-002"}),
        ("matchId = :m AND round = :r", {"r": "SEMIFINALS", "m": "match-002"}),
        ("round > :r AND bracket = :b", {"r": "QUARTERFINALS", "b": "UPPER"}),
        ("round > :r AND bracket > :b", {"r": "QUARTERFINALS", "b": "L"}),
        ("begins_with(round, :r) AND bracket = :b", {"r": "S", "b": "UPPER"}),
    ],
)
def test_sort_attributes_are_not_skipped_and_a_range_is_the_last_condition(
    service: Service, matches: str, condition: str, values: dict[str, str]
) -> None:
    assert service.invalid("Query", **tournament(matches, condition, **values)) == UNSUPPORTED


@pytest.mark.parametrize(
    ("condition", "values"),
    [
        ("tournamentId = :t", {"t": "WINTER2024"}),
        ("tournamentId = :t AND #region > :r", {"t": "WINTER2024", "r": "NA-EAST"}),
    ],
)
def test_a_query_needs_equality_on_all_of_the_partition_key(
    service: Service, matches: str, condition: str, values: dict[str, str]
) -> None:
    assert service.invalid("Query", **asked(matches, "TournamentRegionIndex", condition, **values))


# Developer Guide, "Global secondary indexes": a query of one sees only what it projects.


@pytest.mark.parametrize("filtering", ["bracket = :b", "attribute_exists(bracket) OR region = :b"])
def test_a_query_does_not_filter_by_what_a_global_index_does_not_keep(
    service: Service, matches: str, filtering: str
) -> None:
    request = asked(matches, "PlayerMatchHistoryIndex", "player1Id = :p", p="101", b="UPPER")
    filtering = filtering.replace("region", "#region")
    names = {"ExpressionAttributeNames": {"#region": "region"}} if "#region" in filtering else {}
    missing = "bracket, region" if names else "bracket"
    assert service.invalid("Query", **request, **names, FilterExpression=filtering) == (
        "One or more parameter values were invalid: Secondary index PlayerMatchHistoryIndex does not project one or "
        f"more filter attributes: [{missing}]"
    )


def test_a_query_filters_by_what_a_global_index_keeps(service: Service, matches: str) -> None:
    request = asked(matches, "PlayerMatchHistoryIndex", "player1Id = :p", p="101", m="match-002")
    assert found(service, request | {"FilterExpression": "matchId = :m"}) == ["2"]


# Developer Guide, "Local secondary indexes", read capacity units: fetched items count towards the 1 MB of a page.


def test_what_a_local_index_fetches_fills_its_page(service: Service) -> None:
    name = service.unique("fetching")
    service.do(
        "CreateTable",
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=schema("pk", "sk"),
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk", "other")],
        LocalSecondaryIndexes=[
            {"IndexName": "local", "KeySchema": schema("pk", "other"), "Projection": {"ProjectionType": "KEYS_ONLY"}}
        ],
    )
    service.wait_active(name)
    for n in range(5):
        item = {"pk": {"S": "a"}, "sk": {"S": str(n)}, "other": {"S": str(n)}, "big": {"S": "x" * 300 * 1024}}
        service.do("PutItem", TableName=name, Item=item)
    request = asked(name, "local", "pk = :pk", pk="a")
    whole = service.do("Query", **request, Select="ALL_ATTRIBUTES")
    assert (whole["Count"], "LastEvaluatedKey" in whole) == (4, True)
    rest = service.do("Query", **request, Select="ALL_ATTRIBUTES", ExclusiveStartKey=whole["LastEvaluatedKey"])
    assert (rest["Count"], "LastEvaluatedKey" in rest) == (1, False)
    scanned = service.do("Scan", TableName=name, IndexName="local", Select="ALL_ATTRIBUTES")
    assert (scanned["Count"], "LastEvaluatedKey" in scanned) == (4, True)
    kept = service.do("Query", **request)
    assert (kept["Count"], "LastEvaluatedKey" in kept) == (5, False)
    service.call("DeleteTable", {"TableName": name})


# Developer Guide, "PartiQL select statements for DynamoDB" (WatchList) and "PartiQL data types for DynamoDB".


def run(service: Service, statement: str, *parameters: Item) -> list[Item]:
    body: dict[str, Any] = {"Statement": statement, "ConsistentRead": True}
    if parameters:
        body["Parameters"] = list(parameters)
    items: list[Item] = service.do("ExecuteStatement", **body)["Items"]
    return items


def test_a_document_path_names_what_it_selects(service: Service, sorted_table: str) -> None:
    customer = service.unique()
    watched = "{'FireStick': {'DateWatched': ['12/23/19', '12/25/19']}}"
    run(service, f"INSERT INTO \"{sorted_table}\" VALUE {{'pk': '{customer}', 'sk': 'M1', 'Devices': {watched}}}")
    key = f"pk = '{customer}' AND sk = 'M1'"
    selected = f'SELECT Devices.FireStick.DateWatched[0] FROM "{sorted_table}" WHERE {key}'
    assert run(service, selected) == [{"DateWatched[0]": {"S": "12/23/19"}}]
    compared = f"SELECT sk FROM \"{sorted_table}\" WHERE {key} AND Devices.FireStick.DateWatched[1] >= '12/24/19'"
    assert run(service, compared) == [{"sk": {"S": "M1"}}]


def test_each_data_type_is_inserted_changed_and_removed(service: Service, table: str) -> None:
    key = service.unique()
    run(
        service,
        f"""INSERT INTO "{table}" value {{'pk':'{key}', 'NumberType':1,
        'MapType' : {{'entryname1': 'value', 'entryname2': 4}}, 'ListType': [1,'stringval'],
        'NumberSetType':<<1,34,32,4.5>>, 'StringSetType':<<'stringval','stringval2'>> }}""",
    )
    run(
        service,
        f"""UPDATE "{table}"
        SET NumberType=NumberType + 100
        SET MapType.NewMapEntry=[2020, 'stringvalue', 2.4]
        SET ListType = LIST_APPEND(ListType, [4, <<'string1', 'string2'>>])
        SET NumberSetType= SET_ADD(NumberSetType, <<345, 48.4>>)
        SET StringSetType = SET_ADD(StringSetType, <<'stringsetvalue1', 'stringsetvalue2'>>)
        WHERE pk='{key}'""",
    )
    (item,) = run(
        service,
        f"""UPDATE "{table}"
        SET NumberType=NumberType - 1
        REMOVE ListType[1]
        REMOVE MapType.NewMapEntry
        SET NumberSetType = SET_DELETE( NumberSetType, <<345>>)
        SET StringSetType = SET_DELETE( StringSetType, <<'stringsetvalue1'>>)
        WHERE pk='{key}' RETURNING ALL NEW *""",
    )
    assert item["NumberType"] == {"N": "100"}
    assert item["MapType"] == {"M": {"entryname1": {"S": "value"}, "entryname2": {"N": "4"}}}
    assert item["ListType"]["L"][:2] == [{"N": "1"}, {"N": "4"}]
    assert set(item["NumberSetType"]["NS"]) == {"1", "34", "32", "4.5", "48.4"}
    assert set(item["StringSetType"]["SS"]) == {"stringval", "stringval2", "stringsetvalue2"}


# Developer Guide, "Performing transactions with PartiQL for DynamoDB": what reads return.


def test_a_transaction_tells_no_item_from_an_item_without_what_was_selected(
    service: Service, sorted_table: str
) -> None:
    pk = service.unique()
    for sk in ("a", "b"):
        service.do("PutItem", TableName=sorted_table, Item={"pk": {"S": pk}, "sk": {"S": sk}})
    wanted = [("*", "a"), ("non_existent_projected_attribute", "b"), ("*", "c")]
    answer = service.do(
        "ExecuteTransaction",
        TransactStatements=[
            {"Statement": f"SELECT {what} FROM \"{sorted_table}\" WHERE pk = '{pk}' AND sk = '{sk}'"}
            for what, sk in wanted
        ],
    )
    assert answer["Responses"] == [{"Item": {"pk": {"S": pk}, "sk": {"S": "a"}}}, {"Item": {}}, {}]
