"""PynamoDB: models with indexes, conditions, batches, transactions and a version attribute."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from pynamodb.attributes import (
    BooleanAttribute,
    JSONAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    UnicodeAttribute,
    UnicodeSetAttribute,
    UTCDateTimeAttribute,
    VersionAttribute,
)
from pynamodb.connection import Connection
from pynamodb.exceptions import DoesNotExist, PutError, TransactWriteError
from pynamodb.indexes import AllProjection, GlobalSecondaryIndex, KeysOnlyProjection, LocalSecondaryIndex
from pynamodb.models import Model
from pynamodb.transactions import TransactGet, TransactWrite

from tests.clients.conftest import REGION
from tests.cluster.clusters import Cluster
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def meta(region: Cluster, endpoint: str) -> dict[str, Any]:
    """Members of every model's Meta."""
    keys = region.keys
    return {
        "host": endpoint,
        "region": REGION,
        "aws_access_key_id": keys.access_key_id,
        "aws_secret_access_key": keys.secret_access_key,
        "billing_mode": "PAY_PER_REQUEST",
    }


@pytest.fixture(scope="module")
def thread(meta: dict[str, Any]) -> Iterator[Any]:
    """The model class of a table without indexes."""
    common = meta

    class Address(MapAttribute):  # type: ignore[type-arg]
        street = UnicodeAttribute()
        number = NumberAttribute(null=True)

    class Thread(Model):
        Meta: Any = type("Meta", (), {"table_name": "clients-pynamodb-thread", **common})
        forum = UnicodeAttribute(hash_key=True)
        subject = UnicodeAttribute(range_key=True)
        views = NumberAttribute(default=0)
        tags = UnicodeSetAttribute(null=True)
        answered = BooleanAttribute(default=False)
        replies = ListAttribute(default=list)  # type: ignore[var-annotated]
        extra = JSONAttribute(null=True)
        posted = UTCDateTimeAttribute(null=True)
        address = Address(null=True)  # type: ignore[no-untyped-call]
        version = VersionAttribute()

    Thread.create_table(wait=True)
    yield SimpleNamespace(Thread=Thread, Address=Address)
    Thread.delete_table()


@pytest.fixture(scope="module")
def score(meta: dict[str, Any]) -> Iterator[Any]:
    """The model class of a table with a local and a global index."""
    common = meta

    class ByPoints(LocalSecondaryIndex[Any]):  # type: ignore[no-untyped-call]
        Meta = type("Meta", (), {"index_name": "by-points", "projection": AllProjection()})
        player = UnicodeAttribute(hash_key=True)
        points = NumberAttribute(range_key=True)

    class ByGame(GlobalSecondaryIndex[Any]):  # type: ignore[no-untyped-call]
        Meta = type("Meta", (), {"index_name": "by-game", "projection": KeysOnlyProjection()})
        game = UnicodeAttribute(hash_key=True)
        points = NumberAttribute(range_key=True)

    class Score(Model):
        Meta: Any = type("Meta", (), {"table_name": "clients-pynamodb-score", **common})
        player = UnicodeAttribute(hash_key=True)
        game = UnicodeAttribute(range_key=True)
        points = NumberAttribute()
        by_points = ByPoints()
        by_game = ByGame()

    Score.create_table(wait=True)
    yield Score
    Score.delete_table()


def test_a_model_is_saved_and_read_with_all_attribute_types(thread: Any) -> None:
    posted = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    saved = thread.Thread(
        "types", "1", views=12, tags={"a", "b"}, answered=True, replies=["x", 1], extra={"k": [1, 2]}, posted=posted,
        address=thread.Address(street="Main", number=5),
    )  # fmt: skip
    saved.save()
    found = thread.Thread.get("types", "1", consistent_read=True)
    assert (found.views, found.tags, found.answered, found.replies) == (12, {"a", "b"}, True, ["x", 1])
    assert (found.extra, found.posted, found.address.street) == ({"k": [1, 2]}, posted, "Main")
    assert thread.Thread.exists()
    saved.delete()
    with pytest.raises(DoesNotExist):
        thread.Thread.get("types", "1", consistent_read=True)


def test_the_version_attribute_refuses_the_second_of_two_writers(thread: Any) -> None:
    thread.Thread("version", "1").save()
    one = thread.Thread.get("version", "1", consistent_read=True)
    other = thread.Thread.get("version", "1", consistent_read=True)
    one.update(actions=[thread.Thread.views.set(thread.Thread.views + 1)])
    assert (one.views, one.version) == (1, 2)
    with pytest.raises(PutError) as caught:
        other.save()
    assert caught.value.cause_response_code == "ConditionalCheckFailedException"


def test_conditions_guard_writes(thread: Any) -> None:
    item = thread.Thread("guard", "1", views=3)
    item.save(thread.Thread.forum.does_not_exist())
    item.update(
        actions=[thread.Thread.tags.add({"x"}), thread.Thread.replies.set(thread.Thread.replies.append(["r"]))],
        condition=thread.Thread.views.between(1, 5) & thread.Thread.subject.startswith("1"),
    )
    found = thread.Thread.get("guard", "1", consistent_read=True)
    assert (found.tags, found.replies) == ({"x"}, ["r"])


def test_queries_scans_and_counts_page_by_themselves(thread: Any) -> None:
    with thread.Thread.batch_write() as batch:
        for n in range(30):
            batch.save(thread.Thread("paging", f"{n:02}", views=n))
    newest = thread.Thread.query("paging", scan_index_forward=False, page_size=7, limit=10, consistent_read=True)
    assert [item.views for item in newest] == list(range(29, 19, -1))
    filtered = thread.Thread.query(
        "paging", thread.Thread.subject >= "10", thread.Thread.views < 15, consistent_read=True
    )
    assert [item.views for item in filtered] == [10, 11, 12, 13, 14]
    assert thread.Thread.count("paging", thread.Thread.subject < "05", consistent_read=True) == 5
    scanned = thread.Thread.scan(thread.Thread.forum == "paging", page_size=9, consistent_read=True)
    assert sorted(item.views for item in scanned) == list(range(30))
    got = thread.Thread.batch_get([("paging", f"{n:02}") for n in range(30)], consistent_read=True)
    assert sorted(item.views for item in got) == list(range(30))


def test_a_transaction_writes_and_reads_models(thread: Any, meta: dict[str, Any]) -> None:
    connection = Connection(**{key: value for key, value in meta.items() if key in {"region", "host"}})
    connection.session.set_credentials(meta["aws_access_key_id"], meta["aws_secret_access_key"])
    with TransactWrite(connection=connection, client_request_token="once-only") as write:
        write.save(thread.Thread("tx", "1", views=1))
        write.save(thread.Thread("tx", "2", views=2), return_values="ALL_OLD")
    with TransactGet(connection=connection) as read:
        first, second = read.get(thread.Thread, "tx", "1"), read.get(thread.Thread, "tx", "2")
    assert (first.get().views, second.get().views) == (1, 2)
    write = TransactWrite(connection=connection)
    write.update(thread.Thread("tx", "9"), actions=[thread.Thread.views.set(9)], add_version_condition=False)
    write.condition_check(thread.Thread, "tx", "1", condition=thread.Thread.views > 100)
    with pytest.raises(TransactWriteError) as caught:
        write._commit()  # what the end of a with block does
    # It sends checks before updates, whatever the order in which they were added.
    assert [reason and reason.code for reason in caught.value.cancellation_reasons] == ["ConditionalCheckFailed", None]


def test_indexes_of_a_model_are_queried_and_counted(score: Any) -> None:
    with score.batch_write() as batch:
        for n in range(8):
            batch.save(score("ann", f"game{n}", points=50 - n))
        batch.save(score("bob", "game3", points=99))
    best = score.by_points.query("ann", score.points >= 45, scan_index_forward=False, consistent_read=True)
    assert [item.points for item in best] == [50, 49, 48, 47, 46, 45]

    def of_game() -> list[tuple[str, int]]:
        return [(item.player, item.points) for item in score.by_game.query("game3")]

    until("the global index holds both", lambda: of_game() == [("ann", 47), ("bob", 99)])
    until("and counts one of them", lambda: score.by_game.count("game3", score.points > 50) == 1)
