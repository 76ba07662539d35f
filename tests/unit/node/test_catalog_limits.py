"""A region has so many tables and no more; its own do not count."""

from __future__ import annotations

import pytest

from geodyne.catalog import SYSTEM_PREFIX
from geodyne.errors import ApiError
from geodyne.limits import TABLES_MAX
from tests.unit.node.test_catalog import DEFINITION, run, table_made


def test_tables_of_a_region_are_bounded() -> None:
    catalog = table_made()
    table = catalog.tables["T"]
    catalog.tables |= {f"{SYSTEM_PREFIX}{number}": table for number in range(9)}
    catalog.tables |= {f"T{number}": table for number in range(TABLES_MAX - 2)}
    run(catalog, "create_table", {"definition": {**DEFINITION, "name": "last"}})
    with pytest.raises(ApiError, match=f"There is a limit of {TABLES_MAX} tables per subscriber") as caught:
        run(catalog, "create_table", {"definition": {**DEFINITION, "name": "more"}})
    assert caught.value.kind.code == "LimitExceededException"
