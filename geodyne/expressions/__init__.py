"""The expression language: conditions, filters, updates, projections and key conditions.

The router calls `check_expressions` once per request; router and node then evaluate the trees, cached by text.
"""

from geodyne.expressions.check import Checked, check_expressions, check_key_use
from geodyne.expressions.evaluate import evaluate_condition
from geodyne.expressions.keycondition import key_condition
from geodyne.expressions.parse import parse_condition, parse_key_condition, parse_projection, parse_update
from geodyne.expressions.projection import project
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
    "check_key_use",
    "evaluate_condition",
    "key_condition",
    "parse_condition",
    "parse_key_condition",
    "parse_projection",
    "parse_update",
    "project",
    "updated_attributes",
]
