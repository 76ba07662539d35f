"""Writes `shapes.json`: what the service models say about the input of every operation, in a compact form.

Run once at set-up (`python -m router.api.generate_shapes`), where botocore is at hand; the router itself never
imports botocore.  The table keeps types, required members, bounds, patterns and enumerations, and nothing of the
documentation.  Where the service is known to answer otherwise than its own model says, the difference is listed here.

Form: {"operations": {operation: shape name}, "shapes": {shape name: rule}} with the rule's keys
`type` (structure, list, map, string, blob, integer, long, double, float, boolean, timestamp), `members`,
`required`, `member`, `key`, `value`, `min`, `max`, `pattern`, `enum`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from botocore.loaders import Loader

SERVICES = ("dynamodb", "dynamodbstreams")
SHAPES_FILE = Path(__file__).with_name("shapes.json")

# Error texts list an enumeration in the service's own order, which is not always the model's.
ENUM_ORDER: dict[str, list[str]] = {
    "ReturnValue": ["ALL_NEW", "UPDATED_OLD", "ALL_OLD", "NONE", "UPDATED_NEW"],
    "ReturnConsumedCapacity": ["INDEXES", "TOTAL", "NONE"],
    "ScalarAttributeType": ["B", "N", "S"],
    "ProjectionType": ["ALL", "INCLUDE", "KEYS_ONLY"],
    "Select": ["SPECIFIC_ATTRIBUTES", "COUNT", "ALL_ATTRIBUTES", "ALL_PROJECTED_ATTRIBUTES"],
    "ComparisonOperator": [
        "IN", "NULL", "BETWEEN", "LT", "NOT_CONTAINS", "EQ", "GT", "NOT_NULL", "NE", "LE", "BEGINS_WITH", "GE",
        "CONTAINS",
    ],
}  # fmt: skip

# A table is created from its definitions; the model leaves them optional only for replicas of other accounts.
EXTRA_REQUIRED: dict[str, list[str]] = {"CreateTableInput": ["AttributeDefinitions", "KeySchema"]}

# The model's bound on a key schema is that of a multi-attribute index; a table's own, and a local
# index's, has at most two elements.
EXTRA_SHAPES: dict[str, dict[str, Any]] = {
    "TableKeySchema": {"type": "list", "member": "KeySchemaElement", "min": 1, "max": 2},
    "PageLimit": {"type": "integer", "min": 1, "max": 100},
    "RecordsLimit": {"type": "integer", "min": 1, "max": 1000},
}
MEMBER_SHAPES: dict[tuple[str, str], str] = {
    # The model of streams tells these upper limits in words.
    ("ListStreamsInput", "Limit"): "PageLimit",
    ("DescribeStreamInput", "Limit"): "PageLimit",
    ("GetRecordsInput", "Limit"): "RecordsLimit",
    ("CreateTableInput", "KeySchema"): "TableKeySchema",
    ("LocalSecondaryIndex", "KeySchema"): "TableKeySchema",
}

# Values are walked once, by geodyne.model.values, not here: the table stops at them.
OPAQUE_SHAPES = frozenset({"AttributeValue"})


class ModelsDifferError(RuntimeError):
    """Two service models mean different things by one name: the table has room for one of them."""


def together(models: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """One table of several service models. Raises ModelsDifferError."""
    table: dict[str, dict[str, Any]] = {"operations": {}, "shapes": {}}
    for model in models:
        for part, entries in compact(model).items():
            for name, entry in entries.items():
                if table[part].setdefault(name, entry) != entry:
                    raise ModelsDifferError(f"{part}: {name}")
    return table


def compact(model: dict[str, Any]) -> dict[str, Any]:
    """The table of every operation of a botocore service model."""
    shapes: dict[str, Any] = {}
    operations = {}
    for name, operation in model["operations"].items():
        if "input" in operation:
            operations[name] = operation["input"]["shape"]
            _collect(model["shapes"], operation["input"]["shape"], shapes)
    return {"operations": operations, "shapes": shapes}


def _collect(model: dict[str, Any], name: str, shapes: dict[str, Any]) -> None:
    if name in shapes:
        return
    shape = EXTRA_SHAPES.get(name) or model[name]
    rule: dict[str, Any] = {"type": shape["type"]}
    shapes[name] = rule
    if name in OPAQUE_SHAPES:
        return
    for key in ("min", "max", "pattern"):
        if key in shape:
            rule[key] = shape[key]
    if "enum" in shape:
        rule["enum"] = _enum(name, shape["enum"])
    required = shape.get("required", []) + EXTRA_REQUIRED.get(name, [])
    if required:
        rule["required"] = required
    if "members" in shape:
        rule["members"] = {
            member: MEMBER_SHAPES.get((name, member), reference["shape"])
            for member, reference in shape["members"].items()
        }
        for member_shape in rule["members"].values():
            _collect(model, member_shape, shapes)
    for part in ("member", "key", "value"):
        if part in shape:
            reference = shape[part]
            rule[part] = reference if isinstance(reference, str) else reference["shape"]
            _collect(model, rule[part], shapes)


def _enum(name: str, values: list[str]) -> list[str]:
    """The service's order; values that only the newer model knows come last."""
    order = [value for value in ENUM_ORDER.get(name, []) if value in values]
    return order + [value for value in values if value not in order]


def main() -> int:
    loader = Loader()
    table = together(loader.load_service_model(service, "service-2") for service in SERVICES)
    SHAPES_FILE.write_text(json.dumps(table, separators=(",", ":")) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
