"""BatchGetItem and BatchWriteItem: many items, each on its own; limits; what comes back unprocessed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.service import Item, Service

DUPLICATES = "Provided list of item keys contains duplicates"


def keys_of(service: Service, count: int) -> list[Item]:
    return [{"pk": {"S": service.unique("batch")}} for _ in range(count)]


def puts(items: list[Item]) -> list[Item]:
    return [{"PutRequest": {"Item": item}} for item in items]


def test_what_a_batch_wrote_a_batch_reads(service: Service, table: str, sorted_by_number: str) -> None:
    plain = keys_of(service, 12)
    both = [{"pk": {"S": service.unique("batch")}, "sk": {"N": str(n)}, "v": {"S": "x"}} for n in range(13)]
    answer = service.do("BatchWriteItem", RequestItems={table: puts(plain), sorted_by_number: puts(both)})
    assert answer == {"UnprocessedItems": {}}
    wanted = [{"pk": item["pk"], "sk": item["sk"]} for item in both]
    absent = {"pk": {"S": service.unique("batch")}}
    found = service.do(
        "BatchGetItem",
        RequestItems={
            table: {"Keys": [*plain, absent], "ConsistentRead": True},
            sorted_by_number: {"Keys": wanted, "ConsistentRead": True},
        },
    )
    assert found["UnprocessedKeys"] == {}
    assert sorted(item["pk"]["S"] for item in found["Responses"][table]) == sorted(key["pk"]["S"] for key in plain)
    assert sorted(found["Responses"][sorted_by_number], key=lambda item: item["pk"]["S"]) == sorted(
        both, key=lambda item: item["pk"]["S"]
    )
    deletes = [{"DeleteRequest": {"Key": key}} for key in plain[:5]]
    service.do("BatchWriteItem", RequestItems={table: deletes + puts(keys_of(service, 1))})
    left = service.do("BatchGetItem", RequestItems={table: {"Keys": plain, "ConsistentRead": True}})
    assert len(left["Responses"][table]) == 7


def test_a_table_of_which_nothing_was_found_has_an_empty_list(service: Service, table: str) -> None:
    found = service.do("BatchGetItem", RequestItems={table: {"Keys": keys_of(service, 2)}})
    assert found == {"Responses": {table: []}, "UnprocessedKeys": {}}


def test_a_batch_gets_at_most_100_keys(service: Service, table: str, sorted_table: str) -> None:
    keys = keys_of(service, 101)
    service.do("BatchGetItem", RequestItems={table: {"Keys": keys[:100]}})
    message = service.invalid("BatchGetItem", RequestItems={table: {"Keys": keys}})
    assert message.startswith("1 validation error detected: Value '")
    assert message.endswith(
        f"at 'requestItems.{table}.member.keys' failed to satisfy constraint: "
        "Member must have length less than or equal to 100"
    )
    two = [{**key, "sk": {"S": "x"}} for key in keys[:51]]
    message = service.invalid("BatchGetItem", RequestItems={table: {"Keys": keys[:50]}, sorted_table: {"Keys": two}})
    assert message == "Too many items requested for the BatchGetItem call"


def test_a_batch_writes_at_most_25_items(service: Service, table: str, sorted_table: str) -> None:
    items = keys_of(service, 26)
    service.do("BatchWriteItem", RequestItems={table: puts(items[:25])})
    message = service.invalid("BatchWriteItem", RequestItems={table: puts(items)})
    assert message.startswith("1 validation error detected: Value '")
    assert "Map value must satisfy constraint: [Member must have length less than or equal to 25" in message
    two = [{**item, "sk": {"S": "x"}} for item in items[:13]]
    message = service.invalid("BatchWriteItem", RequestItems={table: puts(items[:13]), sorted_table: puts(two)})
    assert message == "Too many items requested for the BatchWriteItem call"


def test_a_key_may_be_named_once_in_a_batch(service: Service, table: str, sorted_by_number: str) -> None:
    key = keys_of(service, 1)[0]
    assert service.invalid("BatchGetItem", RequestItems={table: {"Keys": [key, key]}}) == DUPLICATES
    item = {**key, "v": {"S": "x"}}
    assert service.invalid("BatchWriteItem", RequestItems={table: puts([key, item])}) == DUPLICATES
    mixed = [*puts([item]), {"DeleteRequest": {"Key": key}}]
    assert service.invalid("BatchWriteItem", RequestItems={table: mixed}) == DUPLICATES
    assert service.get(table, key) is None
    same = [{**key, "sk": {"N": number}} for number in ("1", "1.0")]
    assert service.invalid("BatchGetItem", RequestItems={sorted_by_number: {"Keys": same}}) == DUPLICATES
    arn = service.do("DescribeTable", TableName=table)["Table"]["TableArn"]
    assert service.call("BatchGetItem", {"RequestItems": {table: {"Keys": [key]}, arn: {"Keys": [key]}}}).status == 400


@pytest.mark.parametrize("operation", ["BatchGetItem", "BatchWriteItem"])
def test_a_batch_must_ask_for_something(service: Service, table: str, operation: str) -> None:
    empty: Any = {"Keys": []} if operation == "BatchGetItem" else []
    service.invalid(operation)
    service.invalid(operation, RequestItems={})
    message = service.invalid(operation, RequestItems={table: empty})
    assert message.startswith("1 validation error detected: Value '")


def test_a_batch_against_a_missing_table_does_nothing(service: Service, table: str) -> None:
    key = keys_of(service, 1)[0]
    missing = service.unique("missing")
    expected = ("ResourceNotFoundException", "Requested resource not found")
    assert (
        service.refused("BatchGetItem", {"RequestItems": {table: {"Keys": [key]}, missing: {"Keys": [key]}}})
        == expected
    )
    assert service.refused("BatchWriteItem", {"RequestItems": {table: puts([key]), missing: puts([key])}}) == expected
    assert service.get(table, key) is None


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"PutRequest": {"Item": {"pk": {"S": "a"}}}, "DeleteRequest": {"Key": {"pk": {"S": "b"}}}},
    ],
)
def test_an_element_is_either_a_put_or_a_delete(service: Service, table: str, request_: Item) -> None:
    assert service.invalid("BatchWriteItem", RequestItems={table: [request_]}) == (
        "Supplied WriteRequest is invalid, must contain exactly one of PutRequest or DeleteRequest"
    )


def test_one_wrong_element_refuses_the_whole_batch(service: Service, table: str) -> None:
    good, bad = keys_of(service, 2)
    for wrong, message in (
        ({**bad, "v": {"N": "x"}}, "The parameter cannot be converted to a numeric value: x"),
        ({**bad, "v": {"S": "x" * (400 * 1024)}}, "Item size has exceeded the maximum allowed size"),
        ({"v": {"S": "x"}}, "The provided key element does not match the schema"),
        ({"pk": {"N": "1"}}, "The provided key element does not match the schema"),
    ):
        assert service.invalid("BatchWriteItem", RequestItems={table: puts([good, wrong])}) == message
        assert service.get(table, good) is None


def test_a_batch_put_replaces_the_whole_item(service: Service, table: str) -> None:
    key = keys_of(service, 1)[0]
    service.do("BatchWriteItem", RequestItems={table: puts([{**key, "a": {"S": "x"}}])})
    service.do("BatchWriteItem", RequestItems={table: puts([{**key, "b": {"S": "y"}}])})
    assert service.get(table, key) == {**key, "b": {"S": "y"}}


def test_more_than_one_megabyte_of_one_partition_is_partly_unprocessed(service: Service, sorted_table: str) -> None:
    """Guide: a batch returns a partial result when more than 1 MB per partition is asked for."""
    pk = {"S": service.unique("batch")}
    keys = [{"pk": pk, "sk": {"S": str(n)}} for n in range(8)]
    for start in (0, 4):
        items = [{**key, "v": {"S": "x" * (300 * 1024)}} for key in keys[start : start + 4]]
        service.do("BatchWriteItem", RequestItems={sorted_table: puts(items)})
    asked: Item = {"Keys": keys, "ConsistentRead": True, "ProjectionExpression": "sk"}
    wanted, found, rounds = {sorted_table: asked}, [], 0
    while wanted:
        rounds += 1
        answer = service.do("BatchGetItem", RequestItems=wanted)
        got = [item["sk"]["S"] for item in answer["Responses"][sorted_table]]
        assert 0 < len(got) <= 4
        found += got
        wanted = answer["UnprocessedKeys"]
        if wanted:
            left = wanted[sorted_table]
            assert left["ConsistentRead"] is True
            assert left["ProjectionExpression"] == "sk"
    assert sorted(found) == [str(n) for n in range(8)]
    assert rounds >= 2
