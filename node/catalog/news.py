"""What one region changed of a global table and others are yet to take over, in the order of the changes. Pure.

A table's record keeps it until each of them has: its indexes that came or went, Time to Live, and its settings
(node.catalog.tablesettings). The write mode is passed on by its own record instead (geodyne.writemodes): whoever has it
tells it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from geodyne.catalog import News, TableRecord
from geodyne.errors import ApiError

NEWS_MAX = 20  # changes of a table that some region has not taken over
_PASSED_ON = ("index_add", "index_remove", "ttl", "settings")


def announced(table: TableRecord, change: Mapping[str, Any], revision: int, regions: Iterable[str]) -> TableRecord:
    """With the note that other regions are to take over what `change` says of what they share. Raises ApiError."""
    passed_on = {name: change[name] for name in _PASSED_ON if name in change}
    regions = tuple(regions)
    if not passed_on or not regions:
        return table
    if len(table.index_news) >= NEWS_MAX:
        raise ApiError("LimitExceededException", "Too many changes of the table have not reached all replicas yet")
    return replace(table, index_news=(*table.index_news, News(revision, passed_on, regions)))


def told(table: TableRecord, region: str, revision: int | None = None) -> TableRecord:
    """Without the note that a region is to take over the change of `revision` (None: any change)."""
    left = [
        replace(news, regions=tuple(r for r in news.regions if r != region or revision not in (None, news.revision)))
        for news in table.index_news
    ]
    return replace(table, index_news=tuple(news for news in left if news.regions))
