"""A request's expressions, checked once: parsed, placeholders resolved and used, operands of the right kinds.

Expressions are checked before the table is looked for, as in the service: a request with a broken expression
against a missing table hears of the expression.  What depends on the table's key is checked when there is one.
"""

from __future__ import annotations

from geodyne.expressions import Checked, check_expressions, check_key_use
from router.api.legacy import Translated
from router.api.parameters import Body
from router.api.tablerecords import Table

NOTHING_CHECKED = Checked()

__all__ = ["NOTHING_CHECKED", "Checked", "check_projection", "check_request"]


def check_request(
    body: Body,
    table: Table | None,
    *,
    condition: str | None = None,
    update: str | None = None,
    filter: str | None = None,
    projection: str | None = None,
    key_condition: str | None = None,
    translated: Translated | None = None,
) -> Checked:
    """The expressions of an operation that takes names and values, or what stands for its legacy parameters.

    Raises ApiError."""
    if translated is not None:
        if table is not None:
            check_key_use(translated.checked, table.schema)
        return translated.checked
    if condition is update is filter is projection is key_condition is None:
        return NOTHING_CHECKED
    checked = check_expressions(
        condition=condition,
        update=update,
        filter=filter,
        projection=projection,
        key_condition=key_condition,
        names=body.get("ExpressionAttributeNames"),
        values=body.get("ExpressionAttributeValues"),
    )
    if table is not None:
        check_key_use(checked, table.schema)
    return checked


def check_projection(body: Body) -> Checked:
    """The ProjectionExpression of an operation that takes names but no values. Raises ApiError."""
    projection = body.get("ProjectionExpression")
    if projection is None:
        return NOTHING_CHECKED
    return check_expressions(projection=projection, names=body.get("ExpressionAttributeNames"))
