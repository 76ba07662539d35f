"""The expression language: conditions, filters, updates, projections and key conditions.

The router calls `check_expressions` once per request; router and node then evaluate the trees, cached by text.
"""

from geodyne.expressions.check import (
    Checked,
    check_expressions,
    check_filter_use,
    check_key_use,
    condition_attributes,
)
from geodyne.expressions.evaluate import evaluate_condition
from geodyne.expressions.keycondition import index_condition, key_condition
from geodyne.expressions.parse import parse_condition, parse_key_condition, parse_projection, parse_update
from geodyne.expressions.projection import project, projected_attributes
from geodyne.expressions.tree import Condition, ExpressionError, Projection, Update
from geodyne.expressions.update import UpdateResult, apply_update, updated_attributes

__all__ = [
    "Checked",
    "Condition",
    "ExpressionError",
    "Projection",
    "Update",
    "UpdateResult",
    "apply_update",
    "check_expressions",
    "check_filter_use",
    "check_key_use",
    "condition_attributes",
    "evaluate_condition",
    "index_condition",
    "key_condition",
    "parse_condition",
    "parse_key_condition",
    "parse_projection",
    "parse_update",
    "project",
    "projected_attributes",
    "updated_attributes",
]
