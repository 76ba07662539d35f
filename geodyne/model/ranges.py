"""From a key condition to the range of key bytes that holds exactly the items it selects."""

from __future__ import annotations

from typing import NamedTuple

from geodyne.messages import AttributeValue
from geodyne.model.keys import KeySchema, encode_sort, prefix_of, successor


class KeyCondition(NamedTuple):
    """Equality on the partition key and at most one condition on the sort key.

    `operator` is None, "=", "<", "<=", ">", ">=", "BETWEEN" or "begins_with"; `low` its operand, `high` the upper
    bound of BETWEEN. Values are canonical and of the schema's types.
    """

    hash_value: AttributeValue
    operator: str | None = None
    low: AttributeValue | None = None
    high: AttributeValue | None = None


def key_range(schema: KeySchema, condition: KeyCondition) -> tuple[bytes, bytes]:
    """The half-open range [low, high) of key bytes that a key condition selects."""
    prefix = prefix_of(schema, condition.hash_value)
    operator = condition.operator
    if operator is None:
        return prefix, successor(prefix)
    if condition.low is None or schema.range_type is None:
        raise ValueError("a sort key condition needs a sort key and an operand")
    bound = prefix + encode_sort(schema.range_type, condition.low)
    if operator == "=":
        return bound, _after(bound)
    if operator == "<":
        return prefix, bound
    if operator == "<=":
        return prefix, _after(bound)
    if operator == ">":
        return _after(bound), successor(prefix)
    if operator == ">=":
        return bound, successor(prefix)
    if operator == "begins_with":
        return bound, successor(bound)
    if operator == "BETWEEN" and condition.high is not None:
        return bound, _after(prefix + encode_sort(schema.range_type, condition.high))
    raise ValueError(f"not a key condition: {operator}")


def _after(key: bytes) -> bytes:
    """The next byte string in order: nothing lies between a key and itself with a zero byte."""
    return key + b"\x00"
