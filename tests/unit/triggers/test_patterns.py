"""Filter patterns against event records."""

from __future__ import annotations

import json
from typing import Any

import pytest

from geodyne.triggers.patterns import PATTERN_LENGTH_MAX, PatternError, parse_pattern, passes

RECORD: dict[str, Any] = {
    "eventName": "MODIFY",
    "userIdentity": {"type": "Service", "principalId": "dynamodb.amazonaws.com"},
    "dynamodb": {
        "ApproximateCreationDateTime": 1_700_000_000,
        "Keys": {"id": {"S": "a"}},
        "NewImage": {
            "id": {"S": "a"},
            "price": {"N": "12"},
            "tags": {"SS": ["new", "red"]},
            "open": {"BOOL": True},
            "none": {"NULL": True},
            "lines": {
                "L": [{"M": {"kind": {"S": "x"}, "n": {"N": "1"}}}, {"M": {"kind": {"S": "y"}, "n": {"N": "2"}}}]
            },
            "empty": {"S": ""},
        },
        "SizeBytes": 26,
    },
}


def matches(pattern: Any) -> bool:
    return parse_pattern(json.dumps(pattern)).matches(RECORD)


def in_image(**attributes: Any) -> dict[str, Any]:
    return {"dynamodb": {"NewImage": attributes}}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ({"eventName": ["INSERT", "MODIFY"]}, True),
        ({"eventName": ["modify"]}, False),
        ({"eventName": [{"equals-ignore-case": "modify"}]}, True),
        ({"eventName": ["MODIFY"], "dynamodb": {"Keys": {"id": {"S": ["b"]}}}}, False),
        ({"eventName": ["MODIFY"], "dynamodb": {"Keys": {"id": {"S": ["a"]}}}}, True),
        ({"userIdentity": {"type": ["Service"], "principalId": ["dynamodb.amazonaws.com"]}}, True),
        (in_image(empty={"S": [""]}), True),
        (in_image(open={"BOOL": [True]}), True),
        (in_image(open={"BOOL": [False]}), False),
        (in_image(open={"BOOL": [1]}), False),
        ({"eventName": [None]}, False),
        ({"eventName": [{"prefix": "MOD"}]}, True),
        ({"eventName": [{"prefix": "OD"}]}, False),
        ({"eventName": [{"suffix": "IFY"}]}, True),
        ({"eventName": [{"anything-but": "REMOVE"}]}, True),
        ({"eventName": [{"anything-but": ["REMOVE", "MODIFY"]}]}, False),
        ({"noSuchField": [{"anything-but": "x"}]}, False),
    ],
)
def test_the_alternatives_of_a_field(pattern: Any, expected: bool) -> None:
    assert matches(pattern) is expected


def test_numbers_are_equal_only_when_spelt_alike() -> None:
    assert parse_pattern('{"dynamodb": {"SizeBytes": [26]}}').matches(RECORD)
    assert not parse_pattern('{"dynamodb": {"SizeBytes": [26.0]}}').matches(RECORD)
    assert not parse_pattern('{"dynamodb": {"SizeBytes": [2.6e1]}}').matches(RECORD)


@pytest.mark.parametrize(
    ("comparison", "expected"),
    [
        (["=", 26], True),
        (["=", 26.0], True),
        ([">", 26], False),
        ([">=", 26, "<", 27], True),
        ([">", 0, "<=", 25.5], False),
    ],
)
def test_numeric_compares_by_value(comparison: list[Any], expected: bool) -> None:
    assert matches({"dynamodb": {"SizeBytes": [{"numeric": comparison}]}}) is expected


def test_a_number_of_an_item_is_a_string_and_no_number() -> None:
    assert not matches(in_image(price={"N": [{"numeric": [">", 10]}]}))
    assert not matches(in_image(price={"N": [12]}))
    assert matches(in_image(price={"N": ["12"]}))
    assert not matches(in_image(open={"BOOL": [{"numeric": ["=", 1]}]}))


def test_one_element_of_an_array_is_enough() -> None:
    assert matches(in_image(tags={"SS": ["red"]}))
    assert not matches(in_image(tags={"SS": ["blue"]}))


def test_fields_below_an_array_of_objects_match_in_the_same_element() -> None:
    assert matches(in_image(lines={"L": {"M": {"kind": {"S": ["x"]}, "n": {"N": ["1"]}}}}))
    assert not matches(in_image(lines={"L": {"M": {"kind": {"S": ["x"]}, "n": {"N": ["2"]}}}}))


def test_exists_looks_at_leaves() -> None:
    assert matches(in_image(price={"N": [{"exists": True}]}))
    assert not matches(in_image(price=[{"exists": True}]))
    assert matches(in_image(price={"S": [{"exists": False}]}))
    assert matches(in_image(gone={"N": [{"exists": False}]}))
    assert not matches(in_image(price={"N": [{"exists": False}]}))
    assert matches(in_image(price={"N": [{"exists": False}, "12"]}))


def test_or_needs_one_of_its_objects_and_the_fields_beside_it() -> None:
    either = [{"eventName": ["INSERT"]}, {"dynamodb": {"Keys": {"id": {"S": ["a"]}}}}]
    assert matches({"$or": either})
    assert matches({"eventName": ["MODIFY"], "$or": either})
    assert not matches({"eventName": ["REMOVE"], "$or": either})
    assert not matches({"$or": [{"eventName": ["INSERT"]}, {"eventName": ["REMOVE"]}]})
    assert matches({"dynamodb": {"$or": [{"SizeBytes": [1]}, {"Keys": {"id": {"S": ["a"]}}}]}})


def test_any_filter_lets_a_record_pass_and_no_filter_lets_all_pass() -> None:
    never, always = parse_pattern('{"eventName": ["x"]}'), parse_pattern('{"eventName": ["MODIFY"]}')
    assert passes((), RECORD)
    assert passes((never, always), RECORD)
    assert not passes((never,), RECORD)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not JSON",
        "[]",
        "{}",
        '"text"',
        '{"a": "b"}',
        '{"a": 1}',
        '{"a": []}',
        '{"a": {}}',
        '{"a": [["b"]]}',
        '{"a": [{}]}',
        '{"a": [{"prefix": "b", "suffix": "c"}]}',
        '{"a": [{"prefix": 1}]}',
        '{"a": [{"wildcard": "b*"}]}',
        '{"a": [{"cidr": "10.0.0.0/24"}]}',
        '{"a": [{"exists": "yes"}]}',
        '{"a": [{"anything-but": []}]}',
        '{"a": [{"anything-but": ["b", 1]}]}',
        '{"a": [{"anything-but": {"prefix": "b"}}]}',
        '{"a": [{"numeric": []}]}',
        '{"a": [{"numeric": ["<"]}]}',
        '{"a": [{"numeric": ["~", 1]}]}',
        '{"a": [{"numeric": ["<", "1"]}]}',
        '{"a": [{"numeric": ["<", 1, ">", 2]}]}',
        '{"a": [{"numeric": [">", 2, "<", 1]}]}',
        '{"a": [{"numeric": ["=", 1e99]}]}',
        '{"a": [{"numeric": ["=", 1e99999999999999999999]}]}',
        '{"a": [NaN]}',
        '{"$or": {"a": ["b"]}}',
        '{"$or": [{"a": ["b"]}]}',
        '{"$or": [{"a": ["b"]}, "c"]}',
        '{"a": ' * 50 + '["b"]' + "}" * 50,
        "[" * 4000,
        '{"a": ["' + "b" * PATTERN_LENGTH_MAX + '"]}',
    ],
)
def test_what_is_no_pattern_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(PatternError) as refused:
        parse_pattern(text)
    assert str(refused.value).endswith(".")
