"""Keys of indexes as bytes: order, inverse, the ranges of key conditions, and what an index keeps."""

from __future__ import annotations

from base64 import b64encode
from functools import cmp_to_key
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geodyne.expressions.evaluate import evaluate_condition, order_values
from geodyne.expressions.parse import parse_condition
from geodyne.messages import AttributeValue, Item
from geodyne.model import numbers
from geodyne.model.indexkeys import (
    IndexSchema,
    SortCondition,
    decode_index_key,
    encode_index_key,
    index_prefix,
    index_range,
    item_key_of,
    projected,
)
from geodyne.model.keys import KeySchema, encode_key, hash_of

TABLE = KeySchema("pk", "S", "sk", "N")
ONE = IndexSchema((("h", "S"),), (), TABLE)
LOCAL = IndexSchema((("pk", "S"),), (("r", "S"),), TABLE)
MANY = IndexSchema((("h", "S"), ("pk", "S")), (("r", "S"), ("n", "N"), ("b", "B")), TABLE)

# Few values, many of them with bytes that the encoding treats specially.
texts = st.text(alphabet="\x00\x01a\xff", min_size=1, max_size=3).map(lambda text: {"S": text})
numerals = st.integers(-30, 30).map(lambda n: {"N": numbers.normalise(f"{n}e-1")})
blobs = st.binary(min_size=1, max_size=3).map(lambda raw: {"B": b64encode(raw).decode()})
items = st.fixed_dictionaries({"pk": texts, "sk": numerals, "h": texts, "r": texts, "n": numerals, "b": blobs})


def encoded(schema: IndexSchema, item: Item) -> bytes:
    key = encode_index_key(schema, item, encode_key(schema.table, item))
    assert key is not None
    return key


@settings(max_examples=150, deadline=None)
@given(items, st.sampled_from([ONE, LOCAL, MANY]))
def test_a_key_decodes_to_the_keys_of_index_and_table(item: Item, schema: IndexSchema) -> None:
    key = encoded(schema, item)
    assert decode_index_key(schema, key) == {name: item[name] for name in schema.names}
    assert item_key_of(schema, key) == encode_key(TABLE, item)
    assert key.startswith(index_prefix(schema, [item[name] for name, _ in schema.hash_keys]))


def test_an_entry_of_a_local_index_lies_where_its_item_does() -> None:
    item = {"pk": {"S": "a"}, "sk": {"N": "1"}, "r": {"S": "x"}}
    assert hash_of(encoded(LOCAL, item)) == hash_of(encode_key(TABLE, item))


def compare_sort(left: Item, right: Item) -> int:
    for name in ("r", "n", "b"):
        order = order_values(left[name], right[name])
        if order:
            return order
    left_key, right_key = encode_key(TABLE, left), encode_key(TABLE, right)
    return (left_key > right_key) - (left_key < right_key)


@settings(max_examples=100, deadline=None)
@given(st.lists(items, max_size=8))
def test_entries_sort_attribute_by_attribute(several: list[Item]) -> None:
    same = [{**item, "h": {"S": "h"}, "pk": {"S": "p"}} for item in several]
    by_key = sorted(same, key=lambda item: encoded(MANY, item))
    assert [encoded(MANY, item) for item in by_key] == [
        encoded(MANY, item) for item in sorted(same, key=cmp_to_key(compare_sort))
    ]


def order_known(left: AttributeValue, right: AttributeValue) -> int:
    return order_values(left, right) or 0


OPERATORS = ["=", "<", "<=", ">", ">=", "BETWEEN", "begins_with"]
TEXT = {"BETWEEN": "{0} BETWEEN :low AND :high", "begins_with": "begins_with({0}, :low)"}


@settings(max_examples=300, deadline=None)
@given(st.lists(items, min_size=1, max_size=8), items, items, st.integers(0, 2), st.sampled_from(OPERATORS))
def test_a_range_holds_what_its_condition_selects(
    several: list[Item], wanted: Item, other: Item, equal: int, operator: str
) -> None:
    name, key_type = MANY.range_keys[equal]
    if operator == "begins_with" and key_type == "N":
        operator = "="
    low, high = sorted((wanted[name], other[name]), key=cmp_to_key(order_known))
    leading = tuple(wanted[each] for each, _ in MANY.range_keys[:equal])
    if operator == "=":
        condition = SortCondition((*leading, low))
    else:
        condition = SortCondition(leading, operator, low, high if operator == "BETWEEN" else None)
    several = [{**item, **{each: wanted[each] for each, _ in MANY.range_keys[: (n + equal) % 3]}}
               for n, item in enumerate(several)]  # fmt: skip
    start, end = index_range(MANY, [wanted["h"], wanted["pk"]], condition)
    parts = [f"{each} = :{each}" for each in ("h", "pk", *(each for each, _ in MANY.range_keys[:equal]))]
    text = " AND ".join([*parts, TEXT.get(operator, f"{{0}} {operator} :low").format(name)])
    values = {f":{each}": value for each, value in wanted.items()} | {":low": low, ":high": high}
    for item in (*several, *({**each, "h": wanted["h"], "pk": wanted["pk"]} for each in several)):
        assert (start <= encoded(MANY, item) < end) == evaluate_condition(parse_condition(text), item, {}, values)


@pytest.mark.parametrize(
    "change",
    [
        {"h": None},
        {"r": None},
        {"h": {"N": "1"}},
        {"r": {"B": "AQ=="}},
        {"h": {"S": ""}},
        {"h": {"S": "x" * 2049}},
        {"r": {"S": "x" * 1024}},  # with the number more than all sort attributes may have together
    ],
)
def test_what_does_not_fit_is_not_indexed(change: dict[str, Any]) -> None:
    item: dict[str, Any] = {"pk": {"S": "a"}, "sk": {"N": "1"}, "h": {"S": "h"}, "r": {"S": "r"}, "n": {"N": "1"}}
    item["b"] = {"B": "AQ=="}
    assert encode_index_key(MANY, item, b"k") is not None
    changed = {name: value for name, value in {**item, **change}.items() if value is not None}
    assert encode_index_key(MANY, changed, b"k") is None


@pytest.mark.parametrize("cut", [1, 9, 10, 12, 16])
def test_bytes_that_are_no_key_are_refused(cut: int) -> None:
    key = encoded(LOCAL, {"pk": {"S": "abc"}, "sk": {"N": "1"}, "r": {"S": "x"}})
    with pytest.raises(ValueError):
        decode_index_key(LOCAL, key[:cut])


def test_a_projection_keeps_keys_and_what_it_names() -> None:
    item: Item = {name: {"S": name} for name in ("pk", "sk", "r", "a", "b")}
    assert projected(LOCAL, "ALL", (), item) == item
    assert set(projected(LOCAL, "KEYS_ONLY", (), item)) == {"pk", "sk", "r"}
    assert set(projected(LOCAL, "INCLUDE", ("a", "absent"), item)) == {"pk", "sk", "r", "a"}
