"""Keys as bytes: order, inverse, validation, and the ranges of key conditions."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geodyne.errors import ApiError
from geodyne.model import keys, numbers
from geodyne.model.keys import KeySchema, decode_key, encode_key, encode_sort, hash_bound, hash_of, prefix_of, successor
from geodyne.model.ranges import KeyCondition, key_range

HASH_ONLY = KeySchema("pk", "S")
STRINGS = KeySchema("pk", "S", "sk", "S")
NUMBERS = KeySchema("pk", "N", "sk", "N")
BINARY = KeySchema("pk", "B", "sk", "B")


def base64(raw: bytes) -> str:
    return b64encode(raw).decode()


text_values = st.text(min_size=1, max_size=6).map(lambda text: {"S": text})
number_values = st.integers(-(10**20), 10**20).map(lambda n: {"N": numbers.normalise(f"{n}e-5")})
binary_values = st.binary(min_size=1, max_size=6).map(lambda raw: {"B": base64(raw)})


@settings(max_examples=80, deadline=None)
@given(
    st.one_of(
        st.tuples(st.just(STRINGS), text_values, text_values),
        st.tuples(st.just(NUMBERS), number_values, number_values),
        st.tuples(st.just(BINARY), binary_values, binary_values),
    )
)
def test_a_key_decodes_to_its_attributes(case: tuple[KeySchema, Any, Any]) -> None:
    schema, hash_value, range_value = case
    item = {"pk": hash_value, "sk": range_value}
    key = encode_key(schema, {**item, "other": {"S": "x"}})
    assert decode_key(schema, key) == item
    assert key.startswith(prefix_of(schema, hash_value))
    assert hash_of(key) == keys.hash64(encode_sort(schema.hash_type, hash_value))
    assert hash_bound(hash_of(key)) <= key < hash_bound(hash_of(key) + 1)


@settings(max_examples=100, deadline=None)
@given(text_values, text_values)
def test_strings_sort_by_utf8_bytes(left: Any, right: Any) -> None:
    assert (encode_sort("S", left) < encode_sort("S", right)) == (left["S"].encode() < right["S"].encode())


def test_no_key_of_another_partition_key_shares_a_prefix() -> None:
    prefix = prefix_of(STRINGS, {"S": "a"})
    assert not encode_key(STRINGS, {"pk": {"S": "ab"}, "sk": {"S": "c"}}).startswith(prefix)


def test_the_bound_of_the_whole_space_lies_beyond_every_key() -> None:
    assert hash_bound(1 << 64) > b"\xff" * 8 + b"\x08\x00"
    assert hash_bound(0) == bytes(8)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"sk": {"S": "b"}}, "One or more parameter values were invalid: Missing the key pk in the item"),
        ({"pk": {"S": "b"}}, "One or more parameter values were invalid: Missing the key sk in the item"),
        (
            {"pk": {"N": "1"}, "sk": {"S": "b"}},
            "One or more parameter values were invalid: Type mismatch for key pk expected: S actual: N",
        ),
        (
            {"pk": {"S": ""}, "sk": {"S": "b"}},
            "One or more parameter values are not valid. "
            "The AttributeValue for a key attribute cannot contain an empty string value. Key: pk",
        ),
        (
            {"pk": {"S": "a" * 2049}, "sk": {"S": "b"}},
            "One or more parameter values were invalid: "
            "Size of hashkey has exceeded the maximum size limit of2048 bytes",
        ),
        (
            {"pk": {"S": "a"}, "sk": {"S": "b" * 1025}},
            "One or more parameter values were invalid: "
            "Aggregated size of all range keys has exceeded the size limit of 1024 bytes",
        ),
    ],
)
def test_an_item_without_a_proper_key_is_refused(item: Any, message: str) -> None:
    with pytest.raises(ApiError) as error:
        encode_key(STRINGS, item)
    assert error.value.message == message


def test_an_empty_binary_key_is_named() -> None:
    with pytest.raises(ApiError, match="cannot contain an empty binary value"):
        encode_key(KeySchema("pk", "B"), {"pk": {"B": ""}})


@pytest.mark.parametrize(
    "key",
    [
        {},
        {"pk": {"S": "a"}},
        {"pk": {"S": "a"}, "sk": {"N": "1"}},
        {"pk": {"S": "a"}, "sk": {"S": "b"}, "x": {"S": "c"}},
    ],
)
def test_a_key_parameter_holds_exactly_the_key(key: Any) -> None:
    with pytest.raises(ApiError, match="The provided key element does not match the schema"):
        encode_key(STRINGS, key, for_item=False)


def test_the_longest_keys_are_accepted() -> None:
    item = {"pk": {"S": "a" * 2048}, "sk": {"S": "b" * 1024}}
    assert decode_key(STRINGS, encode_key(STRINGS, item, for_item=False)) == item


@pytest.mark.parametrize("key", [b"", b"123456789", bytes(8) + b"\x00\x05abc"])
def test_truncated_keys_are_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match="key"):
        decode_key(HASH_ONLY, key)


@settings(max_examples=50, deadline=None)
@given(st.binary(min_size=1, max_size=4), st.binary(max_size=4))
def test_a_successor_is_beyond_every_continuation(prefix: bytes, rest: bytes) -> None:
    if prefix.strip(b"\xff"):
        after = successor(prefix)
        assert prefix + rest < after
        assert not after.startswith(prefix)
    else:
        with pytest.raises(ValueError, match="nothing is greater"):
            successor(prefix)


def selects(operator: str | None, value: Any, low: Any, high: Any) -> bool:
    """What a sort key condition means, without bytes."""
    outcomes: dict[str | None, bool] = {
        None: True,
        "=": value == low,
        "<": value < low,
        "<=": value <= low,
        ">": value > low,
        ">=": value >= low,
        "BETWEEN": low <= value <= high,
        "begins_with": isinstance(value, bytes) and value[: len(low)] == low,
    }
    return outcomes[operator]


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from([None, "=", "<", "<=", ">", ">=", "BETWEEN", "begins_with"]),
    *[st.binary(min_size=1, max_size=3)] * 3,
)
def test_a_key_range_holds_exactly_what_the_condition_selects(
    operator: str | None, value: bytes, one: bytes, two: bytes
) -> None:
    low, high = sorted((one, two)) if operator == "BETWEEN" else (one, two)
    condition = KeyCondition({"B": base64(b"p")}, operator, {"B": base64(low)}, {"B": base64(high)})
    first, beyond = key_range(BINARY, condition)
    key = encode_key(BINARY, {"pk": {"B": base64(b"p")}, "sk": {"B": base64(value)}})
    assert (first <= key < beyond) == selects(operator, value, low, high)
    elsewhere = encode_key(BINARY, {"pk": {"B": base64(b"q")}, "sk": {"B": base64(value)}})
    assert not first <= elsewhere < beyond


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["=", "<", "<=", ">", ">=", "BETWEEN"]),
    *[st.integers(-1001, 1001)] * 3,
)
def test_a_key_range_of_numbers_follows_their_values(operator: str, value: int, one: int, two: int) -> None:
    low, high = sorted((one, two))
    condition = KeyCondition({"N": "1"}, operator, {"N": str(low)}, {"N": str(high)})
    first, beyond = key_range(NUMBERS, condition)
    key = encode_key(NUMBERS, {"pk": {"N": "1"}, "sk": {"N": str(value)}})
    assert (first <= key < beyond) == selects(operator, value, low, high)


def test_a_table_without_sort_key_has_one_key_in_the_range() -> None:
    first, beyond = key_range(HASH_ONLY, KeyCondition({"S": "a"}))
    assert first == encode_key(HASH_ONLY, {"pk": {"S": "a"}}) < beyond
