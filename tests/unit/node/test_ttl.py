"""Which of the items that the index names are deleted."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import pytest

from geodyne.model.expiry import Expiry
from geodyne.model.values import dumps
from node.group import Group
from node.storage.port import Row
from node.ttl import BACKLOG_BYTES_MAX, FOREIGN_GRACE_US, expire, ready

NOW_US = 1_800_000_000_000_000
NOW_S = NOW_US // 1_000_000
TTL = Expiry("ttl")


class Lone(NamedTuple):
    """What `expire` asks of a group that has one item."""

    row: Row | None
    blocked: bool = False
    elsewhere: bool = False
    barred: bool = False
    expired: list[bytes] = []  # noqa: RUF012 - each has its own

    @property
    def participant(self) -> Lone:
        return self

    def blocks(self, key: bytes) -> bool:
        return self.blocked

    def newest(self, key: bytes) -> tuple[int, Row | None]:
        return 0, self.row

    def foreign(self, row: Row) -> bool:
        return self.elsewhere

    def expires_here(self, row: Row) -> bool:
        return not self.barred

    def expire(self, key: bytes, prior: Row, wall_us: int) -> None:
        self.expired.append(key)


def row(second: int | None) -> Row:
    item: dict[str, Any] = {"pk": {"S": "p"}}
    if second is not None:
        item["ttl"] = {"N": str(second)}
    return Row(dumps(item), b"v", 1)


def deleted(one: Row | None, wall_us: int = NOW_US, **more: bool) -> bool:
    group = Lone(one, expired=[], **more)
    said = expire(cast(Group, group), TTL, b"key", wall_us)
    assert group.expired == ([b"key"] if said else [])
    return said


def test_an_item_goes_only_if_its_newest_image_is_due() -> None:
    assert deleted(row(NOW_S - 1))
    assert not deleted(row(NOW_S))
    assert not deleted(row(NOW_S + 100))  # renewed
    assert not deleted(row(None))
    assert not deleted(None)
    assert not deleted(Row(None, b"v", 0))


def test_an_item_that_a_transaction_has_locked_stays() -> None:
    assert not deleted(row(NOW_S - 1), blocked=True)


@pytest.mark.parametrize(("late_us", "goes"), [(1_000_000, False), (FOREIGN_GRACE_US + 1, True)])
def test_what_another_region_wrote_is_left_to_it_for_a_while(late_us: int, goes: bool) -> None:
    assert deleted(row(NOW_S), NOW_US + late_us, elsewhere=True) is goes
    assert deleted(row(NOW_S), NOW_US + late_us)


class Duties(NamedTuple):
    """What `ready` asks of a group."""

    serving: bool = True
    leading: bool = True
    uncommitted_bytes: int = 0
    feed_full: bool = False


@pytest.mark.parametrize(
    ("group", "may"),
    [
        (Duties(), True),
        (Duties(serving=False), False),
        (Duties(leading=False), False),
        (Duties(uncommitted_bytes=BACKLOG_BYTES_MAX + 1), False),
        (Duties(feed_full=True), False),
    ],
)
def test_deletions_wait_as_writes_do(group: Duties, may: bool) -> None:
    assert ready(cast(Group, group)) is may


def test_an_item_that_another_region_writes_does_not_go_here() -> None:
    assert deleted(row(NOW_S - 1))
    assert not deleted(row(NOW_S - 1), barred=True)
