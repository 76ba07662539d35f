"""What a projection picks out of an item, in every operation that takes one."""

from __future__ import annotations

import pytest

from tests.api.service import Item, Service

ITEM: Item = {
    "a": {"S": "x"},
    "l": {"L": [{"N": "0"}, {"M": {"k": {"S": "v"}, "j": {"S": "w"}}}, {"N": "2"}, {"L": [{"N": "3"}]}]},
    "m": {"M": {"b": {"S": "y"}, "c": {"M": {"d": {"N": "1"}, "e": {"N": "2"}}}}},
    "a.b": {"S": "dotted"},
    "name": {"S": "reserved"},
}


@pytest.fixture(scope="session")
def sample(service: Service, table: str) -> Item:
    key = {"pk": {"S": service.unique("projected")}}
    service.do("PutItem", TableName=table, Item={**key, **ITEM})
    return key


@pytest.mark.parametrize(
    ("projection", "names", "expected"),
    [
        ("a", {}, {"a": ITEM["a"]}),
        ("a, m", {}, {"a": ITEM["a"], "m": ITEM["m"]}),
        ("absent", {}, {}),
        ("a, absent", {}, {"a": ITEM["a"]}),
        ("m.b", {}, {"m": {"M": {"b": {"S": "y"}}}}),
        ("m.c.d, m.b", {}, {"m": {"M": {"b": {"S": "y"}, "c": {"M": {"d": {"N": "1"}}}}}}),
        ("m.absent", {}, {}),
        ("a.b", {}, {}),
        ("#ab", {"#ab": "a.b"}, {"a.b": ITEM["a.b"]}),
        ("#n, a", {"#n": "name"}, {"name": ITEM["name"], "a": ITEM["a"]}),
        ("#m.#c.e", {"#m": "m", "#c": "c"}, {"m": {"M": {"c": {"M": {"e": {"N": "2"}}}}}}),
        ("l[0]", {}, {"l": {"L": [{"N": "0"}]}}),
        ("l[2], l[0]", {}, {"l": {"L": [{"N": "0"}, {"N": "2"}]}}),
        ("l[9]", {}, {}),
        ("l[1].k", {}, {"l": {"L": [{"M": {"k": {"S": "v"}}}]}}),
        ("l[1].k, l[1].j, l[3][0]", {}, {"l": {"L": [{"M": {"k": {"S": "v"}, "j": {"S": "w"}}}, {"L": [{"N": "3"}]}]}}),
        ("l.x", {}, {}),
        ("m[0]", {}, {}),
        ("a[0], a2", {}, {}),
    ],
)
def test_a_projection_keeps_nesting_and_leaves_out_what_is_absent(
    service: Service, table: str, sample: Item, projection: str, names: dict[str, str], expected: Item
) -> None:
    more: Item = {"ProjectionExpression": projection}
    if names:
        more["ExpressionAttributeNames"] = names
    assert service.do("GetItem", TableName=table, Key=sample, **more) == {"Item": expected}
    batch = service.do("BatchGetItem", RequestItems={table: {"Keys": [sample], **more}})
    assert batch["Responses"] == {table: [expected]}
    query = service.do(
        "Query",
        TableName=table,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": sample["pk"]},
        **more,
    )
    assert query["Items"] == [expected]


@pytest.mark.parametrize(
    ("projection", "reason"),
    [
        ("", "The expression can not be empty;"),
        ("a,", 'Syntax error; token: "<EOF>", near: ","'),
        ("a b", 'Syntax error; token: "b", near: "a b"'),
        ("a,,b", 'Syntax error; token: ",", near: ",,b"'),
        (":v", 'Syntax error; token: ":v", near: ":v"'),
        ("size(a)", 'Syntax error; token: "(", near: "size(a"'),
        ("l[x]", 'Syntax error; token: "x", near: "[x]"'),
        ("a, a",
         "Two document paths overlap with each other; must remove or rewrite one of these paths; "
         "path one: [a], path two: [a]"),
        ("m.b, m",
         "Two document paths overlap with each other; must remove or rewrite one of these paths; "
         "path one: [m, b], path two: [m]"),
        ("m.b, m[0]",
         "Two document paths conflict with each other; must remove or rewrite one of these paths; "
         "path one: [m, b], path two: [m, [0]]"),
        ("name", "Attribute name is a reserved keyword; reserved keyword: name"),
        ("a, #b", "An expression attribute name used in the document path is not defined; attribute name: #b"),
    ],
)  # fmt: skip
def test_a_wrong_projection_is_refused(service: Service, table: str, projection: str, reason: str) -> None:
    expected = f"Invalid ProjectionExpression: {reason}"
    missing = {"pk": {"S": "no-such-item"}}
    assert service.invalid("GetItem", TableName=table, Key=missing, ProjectionExpression=projection) == expected
    assert service.invalid("Scan", TableName=table, ProjectionExpression=projection) == expected
    keys: Item = {"Keys": [missing], "ProjectionExpression": projection}
    assert service.invalid("BatchGetItem", RequestItems={table: keys}) == expected


def test_names_without_a_projection_are_refused(service: Service, table: str, key: Item) -> None:
    expected = "ExpressionAttributeNames can only be specified when using expressions"
    names = {"#a": "a"}
    assert service.invalid("GetItem", TableName=table, Key=key, ExpressionAttributeNames=names) == expected
    keys: Item = {"Keys": [key], "ExpressionAttributeNames": names}
    assert service.invalid("BatchGetItem", RequestItems={table: keys}) == expected


def test_a_document_path_has_at_most_32_dereferences(service: Service, table: str, sample: Item) -> None:
    for step in (".b", "[0]"):
        service.do("GetItem", TableName=table, Key=sample, ProjectionExpression="l" + step * 32)
        message = service.invalid("GetItem", TableName=table, Key=sample, ProjectionExpression="l" + step * 33)
        assert message.startswith("Invalid ProjectionExpression: The document path has too many nesting elements")
