"""Which items the indexes of a table refuse, and in which words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from geodyne.catalog import IndexRecord, IndexStatus
from geodyne.errors import ApiError
from geodyne.limits import ITEM_BYTES_MAX
from geodyne.model.indexchecks import check_index_keys, check_updated_index_keys, exceeds_item_size
from geodyne.model.indexkeys import IndexSchema
from geodyne.model.keys import KeySchema
from geodyne.model.values import item_size
from node.state import IndexDefinition

TABLE = KeySchema("pk", "S")
GLOBAL = IndexRecord("by-color", True, (("color", "S"),), (("price", "N"), ("raw", "B")), "ALL")
LOCAL = IndexRecord("by-name", False, (("pk", "S"),), (("name", "S"),), "ALL", slot=1)


def item(**attributes: Any) -> dict[str, Any]:
    return {"pk": {"S": "p"}, **attributes}


def refusal(index: IndexRecord, **attributes: Any) -> str:
    one = item(**attributes)
    with pytest.raises(ApiError) as caught:
        check_index_keys((LOCAL, index), TABLE, one, item_size(one))
    assert caught.value.kind.code == "ValidationException"
    return caught.value.message or ""


def update_refusal(**attributes: Any) -> str:
    definition = IndexDefinition("by-color", 1, 0, IndexSchema(GLOBAL.hash_keys, GLOBAL.range_keys, TABLE), "ALL", ())
    with pytest.raises(ApiError) as caught:
        check_updated_index_keys((definition,), item(**attributes))
    return caught.value.message or ""


def test_an_item_with_none_some_or_all_key_attributes_is_fine() -> None:
    color, price, raw = {"S": "red"}, {"N": "1"}, {"B": "AA=="}
    for attributes in (
        {},
        {"color": color},
        {"price": price, "raw": raw},
        {"color": color, "price": price, "raw": raw},
    ):
        one = item(**attributes)
        check_index_keys((GLOBAL, LOCAL), TABLE, one, item_size(one))


@pytest.mark.parametrize("value", [{"N": "1"}, {"NULL": True}, {"SS": ["red"]}, {"M": {}}])
def test_a_key_attribute_of_another_type_is_refused_with_its_name_and_index(value: dict[str, Any]) -> None:
    (tag,) = value
    assert refusal(GLOBAL, color=value) == (
        "One or more parameter values were invalid: "
        f"Type mismatch for Index Key color Expected: S Actual: {tag} IndexName: by-color"
    )


def test_an_empty_key_attribute_is_refused_with_its_name_and_index() -> None:
    text = (
        "One or more parameter values are not valid. A value specified for a secondary index key is not supported. "
        "The AttributeValue for a key attribute cannot contain an empty {} value. IndexName: by-color, IndexKey: {}"
    )
    assert refusal(GLOBAL, color={"S": ""}) == text.format("string", "color")
    assert refusal(GLOBAL, raw={"B": ""}) == text.format("binary", "raw")


def test_a_key_attribute_that_is_too_long_is_refused_with_both_sizes() -> None:
    text = (
        "One or more parameter values were invalid: "
        "Size limit exceeded for Index Key {} Actual Size: {} bytes Max Size: {} bytes IndexName: {}"
    )
    assert refusal(GLOBAL, color={"S": "é" * 1025}) == text.format("color", 2050, 2048, "by-color")
    assert refusal(GLOBAL, name={"S": "x" * 1025}) == text.format("name", 1025, 1024, "by-name")
    check_index_keys((GLOBAL, LOCAL), TABLE, item(color={"S": "x" * 2048}, name={"S": "x" * 1024}), 10)


def test_an_index_on_its_way_out_refuses_nothing() -> None:
    check_index_keys((replace(GLOBAL, status=IndexStatus.DELETING),), TABLE, item(color={"N": "1"}), 10)


def test_an_update_is_refused_without_names() -> None:
    assert update_refusal(color={"N": "1"}) == (
        "The update expression attempted to update the secondary index key to unsupported type"
    )
    assert update_refusal(color={"S": "x" * 2049}) == (
        "The update expression attempted to update the secondary index key beyond allowed size limits"
    )
    assert update_refusal(color={"S": ""}) == (
        "One or more parameter values are not valid. "
        "The update expression attempted to update a secondary index key to a value that is not supported. "
        "The AttributeValue for a key attribute cannot contain an empty string value."
    )


def test_an_item_and_its_entry_in_one_local_index_are_bound_together() -> None:
    half = item(name={"S": "n"}, blob={"S": "x" * (ITEM_BYTES_MAX // 2)})
    size = item_size(half)
    assert size < ITEM_BYTES_MAX
    assert refusal(LOCAL, **half) == "Item size has exceeded the maximum allowed size"
    keys_only = replace(LOCAL, projection="KEYS_ONLY")
    check_index_keys((keys_only, GLOBAL), TABLE, half, size)
    sparse = {name: value for name, value in half.items() if name != "name"}
    check_index_keys((LOCAL,), TABLE, sparse, item_size(sparse))
    schema = IndexSchema(LOCAL.hash_keys, LOCAL.range_keys, TABLE)
    assert exceeds_item_size((IndexDefinition("by-name", 1, 1, schema, "ALL", ()),), half, size)
    assert not exceeds_item_size((IndexDefinition("by-name", 1, 1, schema, "KEYS_ONLY", ()),), half, size)
    assert not exceeds_item_size((IndexDefinition("global", 1, 0, schema, "ALL", ()),), half, size)
