"""A request's expressions, checked once: parsed, placeholders resolved and used, operands of the right kinds.

Expressions are checked before the table is looked for, as in the service: a request with a broken expression against
a missing table hears of the expression.  What depends on the table's key can only be checked when there is one.
"""

from __future__ import annotations

from typing import Any

from geodyne.expressions.check import Checked, check_expressions
from geodyne.model.keys import KeySchema
from router.api.tablerecords import Table

# Stands for the key of a table that does not exist: no attribute can have this name.
NO_SCHEMA = KeySchema("", "S")
