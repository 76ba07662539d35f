"""Local indexes in a region of three nodes: what queries see, what writes cost, how large a collection gets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from geodyne.messages import (
    Answer,
    Applied,
    Call,
    Finish,
    Item,
    Page,
    Prepare,
    Prepared,
    Range,
    Refused,
    ReturnValues,
    Write,
    WriteId,
    WriteKind,
    Written,
)
from geodyne.model.indexkeys import IndexSchema, SortCondition, index_range
from geodyne.model.keys import KeySchema, encode_key, hash_of
from geodyne.model.values import dumps, item_size, loads
from geodyne.sim.loop import run_simulated
from geodyne.sim.region import Region, region
from node import scrub
from node.compose import open_node
from node.itemcollections import COLLECTION_TOO_LARGE
from node.storage.port import GroupDamaged
from node.storage.sqlite import StateStore

TABLE = KeySchema("pk", "S", "sk", "S")
BY_SCORE = IndexSchema((("pk", "S"),), (("score", "N"),), TABLE)
KEYS_ONLY, ALL, INCLUDE = 1, 2, 3
INDEXES = [
    {
        "name": name,
        "is_global": False,
        "hash_keys": [["pk", "S"]],
        "range_keys": [["score", "N"]],
        "projection": name.upper(),
        "included": ["color"] if name == "include" else [],
    }
    for name in ("keys_only", "all", "include")
]
MB = 1 << 20
EVERYTHING = SortCondition()


def item(sk: str, score: int | None, **more: Any) -> Item:
    scored = {} if score is None else {"score": {"N": str(score)}}
    return {"pk": {"S": "p"}, "sk": {"S": sk}, **scored, **more}


class Stage:
    """A region with table T, and one item collection of it."""

    def __init__(self, here: Region) -> None:
        self.here = here
        table = here.client.catalog.tables["T"]
        self.key = encode_key(TABLE, item("", 0) | {"sk": {"S": "x"}})
        self.partition = table.partition_of(hash_of(self.key)).id

    def put(self, one: Item, **more: Any) -> Write:
        return Write(
            self.partition, 1, WriteKind.PUT, encode_key(TABLE, one), dumps(one), item_size(one), None, None, **more
        )

    def delete(self, sk: str, **more: Any) -> Write:
        return Write(self.partition, 1, WriteKind.DELETE, encode_key(TABLE, item(sk, None)), b"", 0, None, None, **more)

    def update(self, sk: str, expression: str, values: dict[str, Any], **more: Any) -> Write:
        start = item(sk, None)
        return Write(
            self.partition, 1, WriteKind.UPDATE, encode_key(TABLE, start), dumps(start), item_size(start), None,
            expression, {}, values, **more,
        )  # fmt: skip

    async def call(self, call: Call) -> Answer:
        return await self.here.client.call(call, timeout_ms=6_000)

    async def written(self, call: Write) -> Written:
        answer = await self.call(call)
        assert isinstance(answer, Written), answer
        return answer

    async def query(self, slot: int, condition: SortCondition = EVERYTHING, **more: Any) -> Page:
        low, high = index_range(BY_SCORE, ({"S": "p"},), condition)
        members = {"after": None, "reverse": False, "limit": 0, "max_bytes": MB, "strong": True, **more}
        page = await self.call(Range(self.partition, 1, low, high, slot=slot, **members))
        assert isinstance(page, Page), page
        return page


def play(path: Path, scenario: Callable[[Stage], Awaitable[None]], **node_settings: Any) -> None:
    async def run() -> None:
        async with region(1, path, small=False) as here:
            await here.create_table(range_key="sk", range_type="S", indexes=INDEXES)
            stage = Stage(here)
            await here.until(lambda: here.leader(stage.partition) is not None, "a leader")
            await scenario(stage)
            await here.settle([partition.id for partition in here.client.catalog.tables["T"].partitions])

    with patch("geodyne.sim.region.open_node", partial(open_node, **node_settings)):
        run_simulated(run())


def sks(page: Page) -> list[str]:
    return [loads(one)["sk"]["S"] for one in page.items]


# --- reading --------------------------------------------------------------------------------------------------------


def test_a_strong_query_of_an_index_sees_what_was_acknowledged_before_it(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        for number in range(20):
            await stage.written(stage.put(item("one", number)))
            page = await stage.query(KEYS_ONLY)
            assert [loads(one) for one in page.items] == [item("one", number)]
        await stage.written(stage.delete("one"))
        assert (await stage.query(KEYS_ONLY)).count == 0

    play(tmp_path, scenario)


def test_pages_of_an_index_count_entries_and_fetched_items_apart(tmp_path: Path) -> None:
    big = {"note": {"S": "x" * 5000}}

    async def scenario(stage: Stage) -> None:
        for number in range(6):
            await stage.written(stage.put(item(f"s{number}", 10 - number, color={"S": "red"}, **big)))
        await stage.written(stage.put(item("unscored", None)))
        entry = item_size(item("s0", 10))
        page = await stage.query(KEYS_ONLY)
        assert sks(page) == ["s5", "s4", "s3", "s2", "s1", "s0"]
        assert (page.size, page.fetched_blocks, page.last_key) == (6 * entry, 0, None)
        assert set(loads(page.items[0])) == {"pk", "sk", "score"}
        assert set(loads((await stage.query(INCLUDE)).items[0])) == {"pk", "sk", "score", "color"}
        whole = await stage.query(ALL)
        assert whole.size == sum(item_size(loads(one)) for one in whole.items) > 30_000
        assert whole.fetched_blocks == 0
        fetched = await stage.query(KEYS_ONLY, fetch=True)
        assert fetched.items == whole.items
        assert (fetched.size, fetched.fetched_blocks) == (6 * entry, 12)
        filtered = await stage.query(
            KEYS_ONLY, fetch=True, limit=3, filter="size(note) > :n", values={":n": {"N": "9999"}}
        )
        assert (filtered.count, filtered.scanned, filtered.fetched_blocks) == (0, 3, 6)

    play(tmp_path, scenario)


def test_pages_of_an_index_go_on_where_the_last_one_ended_in_both_directions(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        for number in range(10):
            await stage.written(stage.put(item(f"s{number}", number // 3)))
        between = SortCondition((), "BETWEEN", {"N": "1"}, {"N": "2"})
        for reverse, expected in ((False, "345678"), (True, "876543")):
            seen: list[str] = []
            after: bytes | None = None
            while True:
                page = await stage.query(INCLUDE, between, reverse=reverse, limit=4, after=after, strong=reverse)
                seen += sks(page)
                after = page.last_key
                if after is None:
                    break
            assert seen == [f"s{digit}" for digit in expected]

    play(tmp_path, scenario)


# --- writing --------------------------------------------------------------------------------------------------------


def test_a_write_tells_what_its_indexes_cost_and_a_resend_tells_the_same(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        new = await stage.written(stage.put(item("s", 1), capacity=True))
        assert dict(new.index_writes) == {"keys_only": 1, "all": 1, "include": 1}
        assert (await stage.written(stage.put(item("s", 2)))).index_writes == ()
        moved = stage.put(item("s", 3, note={"S": "x" * 2000}), capacity=True)
        leader = stage.here.leader(stage.partition)
        assert leader is not None
        answers = leader.ask(moved, WriteId(77, 1, 0))
        await stage.here.run_for(0.5)
        again = leader.ask(moved, WriteId(77, 1, 0))
        await stage.here.run_for(0.5)
        (first,), (second,) = answers, again
        assert isinstance(first, Written)
        assert dict(first.index_writes) == {"keys_only": 2, "all": 3, "include": 2}
        assert second == first
        colored = stage.update("s", "SET color = :c", {":c": {"S": "red"}}, capacity=True)
        assert dict((await stage.written(colored)).index_writes) == {"all": 2, "include": 1}
        gone = stage.delete("s", capacity=True, returns=ReturnValues.ALL_OLD)
        assert dict((await stage.written(gone)).index_writes) == {"keys_only": 1, "all": 2, "include": 1}

    play(tmp_path, scenario)


def test_an_update_may_not_make_an_index_key_of_a_wrong_type_or_length(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        await stage.written(stage.put(item("s", 1)))
        refused = await stage.call(stage.update("s", "SET score = :v", {":v": {"S": "one"}}))
        assert refused == Refused(
            "ValidationException",
            "The update expression attempted to update the secondary index key to unsupported type",
            None,
            item_size(item("s", 1)),
        )
        removed = await stage.written(stage.update("s", "REMOVE score", {}))
        assert removed.size_after == item_size(item("s", None))
        assert (await stage.query(ALL)).count == 0

    play(tmp_path, scenario)


def test_an_item_and_its_entry_may_not_be_larger_together_than_an_item(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        await stage.written(stage.put(item("s", 1)))
        half = {":v": {"S": "x" * (205 * 1024)}}
        refused = await stage.call(stage.update("s", "SET note = :v", half))
        assert isinstance(refused, Refused)
        assert refused.message == "Item size to update has exceeded the maximum allowed size"
        await stage.written(stage.update("s", "REMOVE score", {}))
        await stage.written(stage.update("s", "SET note = :v", half))

    play(tmp_path, scenario)


# --- item collections -----------------------------------------------------------------------------------------------


def footprint(one: Item) -> int:
    """Of an item with score: itself, and its entries in the three indexes."""
    keys = item_size({name: one[name] for name in ("pk", "sk", "score")})
    return 2 * item_size(one) + 2 * keys


def test_a_collection_may_not_grow_beyond_its_bound_but_may_shrink_and_change(tmp_path: Path) -> None:
    each = footprint(item("s0", 1))

    async def scenario(stage: Stage) -> None:
        for number in range(4):
            written = await stage.written(stage.put(item(f"s{number}", 1)))
            assert written.collection_bytes == (number + 1) * each
        for call in (stage.put(item("s4", 1)), stage.update("s0", "SET note = :v", {":v": {"S": "x" * 50}})):
            refused = await stage.call(call)
            assert isinstance(refused, Refused)
            assert (refused.code, refused.message) == ("ItemCollectionSizeLimitExceededException", COLLECTION_TOO_LARGE)
        assert (await stage.written(stage.put(item("s0", 2)))).collection_bytes == 4 * each  # no larger than before
        other = {**item("s4", 1), "pk": {"S": "another"}}
        table = stage.here.client.catalog.tables["T"]
        elsewhere = table.partition_of(hash_of(encode_key(TABLE, other))).id
        await stage.written(stage.put(other)._replace(partition=elsewhere))
        assert (await stage.written(stage.delete("s1"))).collection_bytes == 3 * each
        await stage.written(stage.put(item("s4", 1)))

    play(tmp_path, scenario, collection_bytes_max=4 * each + 10)


def test_growth_is_judged_with_what_is_not_committed_yet(tmp_path: Path) -> None:
    each = footprint(item("s0", 1))

    async def scenario(stage: Stage) -> None:
        leader = stage.here.leader(stage.partition)
        assert leader is not None
        answers = [leader.ask(stage.put(item(f"s{number}", 1)), WriteId(7, number, 0)) for number in range(1, 6)]
        await stage.here.run_for(1.0)
        kinds = [type(answer) for one in answers for answer in one]
        assert kinds == [Written, Written, Written, Refused, Refused]
        assert (await stage.query(KEYS_ONLY)).count == 3
        await leader.kill()
        leader.start()
        await stage.here.until(lambda: stage.here.leader(stage.partition) is not None, "a leader")
        assert isinstance(await stage.call(stage.put(item("s9", 1))), Refused)

    play(tmp_path, scenario, collection_bytes_max=3 * each)


# --- counts ---------------------------------------------------------------------------------------------------------


def test_clients_learn_within_seconds_how_many_items_and_entries_there_are(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        here = stage.here
        for number in range(5):
            await stage.written(stage.put(item(f"s{number}", number if number < 3 else None)))
        size = sum(item_size(item(f"s{number}", number if number < 3 else None)) for number in range(5))
        keys = sum(item_size(item(f"s{number}", number)) for number in range(3))
        for client in here.clients:
            catalog = client.region.catalog
            await here.run_for(3.0)
            assert catalog.counts(stage.partition)[2:] == (5, size)
            assert catalog.counts(stage.partition, KEYS_ONLY)[2:] == (3, keys)
        leader = here.leader(stage.partition)
        assert leader is not None
        await here.until(here.lead_by(stage.partition, here.others(leader)[0]), "another leader")
        await stage.written(stage.delete("s0"))
        await here.until(here.lead_by(stage.partition, leader), "the old leader")
        await stage.written(stage.put(item("s0", 0)))
        catalog = here.clients[0].region.catalog
        await here.run_for(5.0)
        assert catalog.counts(stage.partition)[2:] == (5, size)

    play(tmp_path, scenario)


def test_counts_that_do_not_change_are_not_told_again(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        await stage.written(stage.put(item("s", 1)))
        await stage.here.run_for(5.0)
        versions = [node.handler.catalog.counts.version for node in stage.here.nodes]
        await stage.written(stage.put(item("s", 2)))
        await stage.here.run_for(5.0)
        assert [node.handler.catalog.counts.version for node in stage.here.nodes] == versions

    play(tmp_path, scenario)


def test_an_entry_that_is_gone_is_noticed_by_the_comparison_of_replicas_and_healed(tmp_path: Path) -> None:
    """No checksum tells of an entry that is not there, and the rows are as they should be."""

    async def scenario(stage: Stage) -> None:
        await stage.written(stage.put(item("x", 1)))
        here = stage.here
        await here.settle([stage.partition])
        leader = here.leader(stage.partition)
        node = next(one for one in here.nodes if one is not leader)
        assert node.node is not None
        store = node.node._store
        space = store._groups[stage.partition].space
        assert store._db.execute("DELETE FROM entries WHERE space=? AND slot=1", (space,)).rowcount == 1
        await here.until(lambda: node.count("geodyne_healed_replicas_total"), "it is healed")
        await here.settle([stage.partition])

    with patch.object(scrub, "FIRST_PASS_MS", 500), patch.object(scrub, "REST_MS", 2_000):
        play(tmp_path, scenario)


def test_damage_in_the_size_of_a_collection_leaves_no_half_of_a_transaction_behind(tmp_path: Path) -> None:
    """All that a transaction does here is in one entry: what is read for it is read before anything is logged."""

    async def scenario(stage: Stage) -> None:
        here, leader = stage.here, stage.here.leader(stage.partition)
        assert leader is not None
        store, real, transaction = leader.handler._store, StateStore.collection_bytes, b"t" * 16

        def damaged(one: StateStore, partition: int, prefix: bytes) -> int:
            if one is store:
                raise GroupDamaged(partition, "the state")
            return real(one, partition, prefix)

        group = here.group(leader, stage.partition)
        assert group is not None
        items = stage.put(item("a", 1)), stage.put(item("b", 2))
        prepared = await stage.call(Prepare(stage.partition, 1, transaction, 1, b"d", items))
        assert isinstance(prepared, Prepared)
        await here.settle([stage.partition])
        end, finish = group.log_end, Finish(stage.partition, 1, transaction, 1, True)
        with patch.object(StateStore, "collection_bytes", damaged):
            answers = leader.ask(finish)
            await here.run_for(0.1)
        assert [type(answer) for answer in answers] == [Refused]
        assert group.log_end == end
        assert await stage.call(finish) == Applied(1)
        assert sks(await stage.query(KEYS_ONLY)) == ["a", "b"]

    play(tmp_path, scenario)
