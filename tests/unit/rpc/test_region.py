"""RegionClient over links whose other end is the test, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from geodyne import messages as m
from geodyne.catalog import HASH_SPACE, PartitionRecord, TableRecord, TableStatus
from geodyne.errors import ApiError
from geodyne.ports import ClientLinkEvents
from geodyne.rpc.drive import drive
from geodyne.rpc.region import NodeAddress, RegionClient, RegionSettings
from tests.unit.rpc.virtualtime import run_virtually

NODES = [NodeAddress(zone, zone, f"127.0.0.1:{number}") for number, zone in enumerate("abc", 1)]
ROUTER = 2**63 + 5


def table(name: str = "t", revision: int = 1, first: int = 10) -> tuple[str, dict[str, Any]]:
    half = HASH_SPACE // 2
    partitions = (
        PartitionRecord(first, 0, 0, half, ("a", "b", "c")),
        PartitionRecord(first + 1, 0, half, HASH_SPACE, ("b", "c", "a")),
    )
    record = TableRecord(
        name, f"id-{name}", TableStatus.ACTIVE, revision, 0, "pk", "S", None, None, "PAY_PER_REQUEST", 0, 0, partitions
    )
    return f"table/{name}", record.to_json()


class FakeLink:
    """The client's end of a link; the test answers what was sent and takes the link up and down."""

    def __init__(self, node_id: str, events: ClientLinkEvents) -> None:
        self.node_id = node_id
        self.events = events
        self.connected = False
        self.watch: m.Request | None = None
        self.sent: list[m.Request] = []

    def send(self, request: m.Request) -> None:
        if not self.connected:
            return
        if isinstance(request.call, m.Watch):
            self.watch = request
        else:
            self.sent.append(request)

    async def close(self) -> None:
        if self.connected:
            self.down("closed")

    def up(self) -> None:
        self.connected = True
        self.events.on_connected(self.node_id)

    def down(self, reason: str = "reset") -> None:
        self.connected = False
        self.sent.clear()
        self.watch = None
        self.events.on_disconnected(self.node_id, reason)

    def answer(self, request: m.Request, answer: m.Answer) -> None:
        if request in self.sent:
            self.sent.remove(request)
        self.events.on_responses(self.node_id, [m.Response(request.id, answer)])

    def answer_all(self, answer: m.Answer) -> None:
        for request in tuple(self.sent):
            self.answer(request, answer)

    def tell(
        self, revision: int, leads: Sequence[tuple[int, int]], records: Sequence[Any] = (), full: bool = False
    ) -> None:
        assert self.watch is not None
        request, self.watch = self.watch, None
        leads_version = request.call.leads_version + 1  # type: ignore[union-attr]
        watched = m.Watched(revision, full, tuple(records), leads_version, tuple(leads))
        self.events.on_responses(self.node_id, [m.Response(request.id, watched)])


class Region:
    """A client of three nodes; a leads partitions 0 and 10, b leads 11, all in term 5."""

    def __init__(self, **settings: int) -> None:
        self.links: dict[str, FakeLink] = {}
        self.client = RegionClient(
            "us-east-1", "b", NODES, self, router_incarnation=ROUTER, settings=RegionSettings(**settings)
        )

    def open(self, node_id: str, address: str, events: ClientLinkEvents) -> FakeLink:
        self.links[node_id] = FakeLink(node_id, events)
        return self.links[node_id]

    def start(self) -> Region:
        self.client.start()
        for link in self.links.values():
            link.up()
        self.links["a"].tell(1, [(0, 5), (10, 5)], [table()], full=True)
        self.links["b"].tell(1, [(11, 5)], [table()], full=True)
        return self

    def __getitem__(self, node: str) -> FakeLink:
        return self.links[node]


def write(partition: int = 10) -> m.Write:
    return m.Write(partition, 0, m.WriteKind.PUT, b"k", b"{}", 1)


def get(strong: bool, partition: int = 10) -> m.Get:
    return m.Get(partition, 0, b"k", strong)


WRITTEN = m.Written(0, 1)


def in_region(test: Any, **settings: int) -> None:
    async def main() -> None:
        region = Region(**settings).start()
        await test(region)
        await region.client.close()

    run_virtually(main())


async def raised(reply: Any) -> str:
    with pytest.raises(ApiError) as caught:
        await reply
    return caught.value.kind.code


async def ms(milliseconds: int) -> None:
    await asyncio.sleep(milliseconds / 1_000)


# --- routes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "node"),
    [
        (write(10), "a"),
        (write(11), "b"),
        (get(True, 10), "a"),
        (get(False, 10), "b"),
        (m.Range(10, 0, b"", b"z", None, False, 0, 1, False), "b"),
        (m.Range(10, 0, b"", b"z", None, False, 0, 1, True), "a"),
        (m.ApplyChanges(11, 0, ()), "b"),
        (m.AdvanceCursor(10, 0, "x", 1), "a"),
        (m.ReadFeed(10, 0, "x", 0, 1, 1), "a"),
        (m.ReadRows(10, 0, b"", 1), "a"),
        (m.ReadRows(10, 0, b"", 1, False), "b"),
        (m.Control("create_table", {}), "a"),
    ],
)
def test_each_call_goes_where_it_belongs(call, node):
    async def test(region: Region) -> None:
        reply = region.client.call(call, timeout_ms=1_000, request_id="R")
        (request,) = region[node].sent
        assert request.call == call
        assert request.request_id == "R"
        assert 0 < request.timeout_ms <= 1_000
        region[node].answer(request, m.Applied(3))
        assert await reply == m.Applied(3)

    in_region(test)


def test_an_eventual_read_leaves_its_zone_only_while_that_link_is_down():
    async def test(region: Region) -> None:
        assert region.client.nearest(10) == "b"
        region.client.call(get(False), timeout_ms=1_000)
        region["b"].down()
        assert len(region["a"].sent) == 1  # resent
        assert region.client.nearest(10) == "a"
        region["b"].up()
        assert region.client.nearest(10) == "b"

    in_region(test)


def test_an_eventual_read_that_the_nearest_is_too_busy_for_goes_to_the_next():
    async def test(region: Region) -> None:
        reply = region.client.call(get(False), timeout_ms=1_000)
        region["b"].answer_all(m.Busy("full"))
        await ms(100)
        assert len(region["a"].sent) + len(region["c"].sent) == 1
        for link in (region["a"], region["c"]):
            link.answer_all(m.Found(b"{}", 1))
        assert await reply == m.Found(b"{}", 1)

    in_region(test)


def test_a_call_runs_driven_coroutines_in_place():
    async def test(region: Region) -> None:
        results: list[Any] = []

        async def handler() -> m.Answer:
            return await region.client.call(write(), timeout_ms=1_000)

        drive(handler(), lambda value, error: results.append((value, error)))
        region["a"].answer_all(WRITTEN)
        assert results == [(WRITTEN, None)]

    in_region(test)


# --- write identities -------------------------------------------------------------------------------------


def test_sequences_count_by_partition_and_low_is_the_smallest_unanswered():
    async def test(region: Region) -> None:
        for _ in range(3):
            region.client.call(write(10), timeout_ms=1_000)
        region.client.call(write(11), timeout_ms=1_000)
        first, second, third = region["a"].sent
        assert [r.write_id for r in (first, second, third)] == [m.WriteId(ROUTER, n, 1) for n in (1, 2, 3)]
        assert region["b"].sent[0].write_id == m.WriteId(ROUTER, 1, 1)
        region["a"].answer(second, WRITTEN)
        region.client.call(write(10), timeout_ms=1_000)
        assert region["a"].sent[-1].write_id == m.WriteId(ROUTER, 4, 1)
        region["a"].answer(first, m.Refused("ConditionalCheckFailedException", ""))
        region.client.call(write(10), timeout_ms=1_000)
        assert region["a"].sent[-1].write_id == m.WriteId(ROUTER, 5, 3)

    in_region(test)


def test_reads_have_no_write_id():
    async def test(region: Region) -> None:
        region.client.call(get(True), timeout_ms=1_000)
        assert region["a"].sent[0].write_id is None

    in_region(test)


def test_a_write_that_was_given_up_frees_its_sequence():
    async def test(region: Region) -> None:
        reply = region.client.call(write(), timeout_ms=100)
        assert await raised(reply) == "InternalServerError"
        region.client.call(write(), timeout_ms=100)
        assert region["a"].sent[-1].write_id == m.WriteId(ROUTER, 2, 2)

    in_region(test)


# --- elections and lost links -----------------------------------------------------------------------------


def test_a_hint_is_followed_at_once_under_the_same_write_id():
    async def test(region: Region) -> None:
        reply = region.client.call(write(), timeout_ms=1_000)
        (first,) = region["a"].sent
        region["a"].answer(first, m.NotLeader(10, "c"))
        (second,) = region["c"].sent
        assert second.write_id == first.write_id
        assert second.id != first.id
        region["c"].answer(second, WRITTEN)
        assert await reply == WRITTEN
        region.client.call(write(), timeout_ms=1_000)
        assert len(region["c"].sent) == 1  # the hint is remembered

    in_region(test)


def test_hints_in_a_circle_are_followed_only_a_few_times_a_turn():
    async def test(region: Region) -> None:
        region.client.call(write(), timeout_ms=1_000)
        for _ in range(20):
            for node, other in (("a", "c"), ("c", "a")):
                region[node].answer_all(m.NotLeader(10, other))
        assert region.client.resends <= 3
        await ms(1_100)

    in_region(test)


def test_unknown_is_resent_under_the_same_write_id():
    async def test(region: Region) -> None:
        reply = region.client.call(write(), timeout_ms=1_000)
        (first,) = region["a"].sent
        region["a"].answer(first, m.Unknown(10, ""))
        await ms(100)
        (second,) = region["a"].sent
        assert second.write_id == first.write_id
        region["a"].answer(second, WRITTEN)
        assert await reply == WRITTEN

    in_region(test)


def test_a_lost_link_holds_the_write_until_a_new_leader_is_known():
    async def test(region: Region) -> None:
        reply = region.client.call(write(), timeout_ms=2_000)
        write_id = region["a"].sent[0].write_id
        region["a"].down()
        assert not region["b"].sent
        assert not region["c"].sent
        region["c"].tell(1, [(10, 6)])
        (again,) = region["c"].sent
        assert again.write_id == write_id
        region["c"].answer(again, WRITTEN)
        assert await reply == WRITTEN

    in_region(test)


def test_a_new_leader_gets_what_its_silent_predecessor_did_not_answer():
    async def test(region: Region) -> None:
        reply = region.client.call(write(), timeout_ms=2_000)
        (old,) = region["a"].sent
        region["c"].tell(1, [(10, 6)])
        (new,) = region["c"].sent
        assert new.write_id == old.write_id
        region["a"].answer(old, m.Written(9, 9))  # comes back to life: its answer is to a request nobody waits for
        region["c"].answer(new, WRITTEN)
        assert await reply == WRITTEN

    in_region(test)


def test_an_older_term_does_not_win_a_partition():
    async def test(region: Region) -> None:
        region["c"].tell(1, [(10, 4)])
        region.client.call(write(), timeout_ms=1_000)
        assert len(region["a"].sent) == 1

    in_region(test)


def test_with_no_leader_known_a_replica_is_asked_who_it_is():
    async def test(region: Region) -> None:
        region["a"].down()
        reply = region.client.call(write(), timeout_ms=2_000)
        await ms(400)
        asked = next(link for link in (region["b"], region["c"]) if link.sent)
        other = "c" if asked is region["b"] else "b"
        asked.answer_all(m.NotLeader(10, other))
        region[other].answer_all(WRITTEN)
        assert await reply == WRITTEN

    in_region(test)


def test_a_call_is_not_held_longer_than_the_hold_time():
    async def test(region: Region) -> None:
        for link in region.links.values():
            link.down()
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await raised(region.client.call(write(), timeout_ms=60_000)) == "ServiceUnavailable"
        assert 0.5 <= loop.time() - began <= 0.7

    in_region(test, hold_ms=500)


@pytest.mark.parametrize(("call", "code"), [(write(), "InternalServerError"), (get(True), "InternalServerError")])
def test_a_call_that_is_never_answered_ends_in_doubt_at_its_deadline(call, code):
    async def test(region: Region) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await raised(region.client.call(call, timeout_ms=1_000)) == code
        assert 1.0 <= loop.time() - began <= 1.1
        assert region.client.failures == 1

    in_region(test)


@pytest.mark.parametrize(
    ("call", "code"), [(write(), "ServiceUnavailable"), (get(True), "InternalServerError")]
)  # a refused write had no effect for certain
def test_what_was_only_ever_refused_is_told_apart(call, code):
    async def test(region: Region) -> None:
        reply = region.client.call(call, timeout_ms=5_000)

        async def refuse() -> None:
            while True:
                for link in region.links.values():
                    link.answer_all(m.Busy("recovering"))
                await ms(10)

        task = asyncio.ensure_future(refuse())
        assert await raised(reply) == code
        task.cancel()

    in_region(test, hold_ms=300)


def test_a_write_lost_on_the_way_and_then_refused_stays_in_doubt():
    async def test(region: Region) -> None:
        reply = region.client.call(write(), timeout_ms=700)
        region["a"].down()
        assert await raised(reply) == "InternalServerError"

    in_region(test)


# --- catalog ----------------------------------------------------------------------------------------------


def test_moved_is_answered_once_the_catalog_has_caught_up():
    async def test(region: Region) -> None:
        reply = region.client.call(write(), timeout_ms=1_000)
        region["a"].answer_all(m.Moved(10, 2))
        await ms(10)
        assert not reply.ready
        region["b"].tell(2, [(11, 5)], [table(revision=2, first=20)])
        assert await reply == m.Moved(10, 2)
        assert region.client.catalog.tables["t"].partitions[0].id == 20

    in_region(test)


def test_moved_after_a_lost_attempt_does_not_invite_a_second_write():
    async def test(region: Region) -> None:
        reply = region.client.call(write(), timeout_ms=1_000)
        region["a"].answer_all(m.Unknown(10, "c"))
        region["c"].answer_all(m.Moved(10, 1))
        assert await raised(reply) == "InternalServerError"

    in_region(test)


def test_the_newest_catalog_wins_and_deltas_build_on_it():
    async def test(region: Region) -> None:
        changes = []
        client = region.client
        client.subscribe(lambda: changes.append(client.catalog.revision))
        region["b"].tell(3, [], [table("u", 3, 30)])
        region["a"].tell(2, [(0, 5), (10, 5)], [("table/t", None)])
        assert set(client.catalog.tables) == {"t", "u"}
        region["a"].tell(4, [(0, 5)], [("table/t", None), ("counter/x", {"next": 1})])
        assert set(client.catalog.tables) == {"u"}
        assert client.catalog.partition(10) is None
        assert client.catalog.partition(31)[0].name == "u"  # type: ignore[index]
        assert changes == [3, 4]
        region["c"].tell(9, [], [], full=True)
        assert not client.catalog.tables

    in_region(test)


def test_wait_revision_is_true_when_reached_and_false_when_not():
    async def test(region: Region) -> None:
        assert await region.client.wait_revision(1)
        reached = region.client.wait_revision(2)
        missed = region.client.wait_revision(3, timeout_ms=200)
        region["c"].tell(2, [])
        assert await reached
        assert not await missed

    in_region(test)


def test_ready_needs_the_word_of_the_leader_of_the_metadata_group():
    async def main() -> None:
        region = Region()
        region.client.start()
        for link in region.links.values():
            link.up()
        region["b"].tell(0, [], full=True)
        assert not region.client.ready
        region["a"].tell(7, [(0, 1)], [table()], full=True)
        await region.client.wait_ready()
        assert region.client.status()["ready"]
        await region.client.close()

    run_virtually(main())


def test_complete_needs_a_connected_leader_of_every_partition():
    async def main() -> None:
        region = Region()
        region.client.start()
        for link in region.links.values():
            link.up()
        region["a"].tell(7, [(0, 1), (10, 1)], [table()], full=True)
        assert region.client.ready
        assert not region.client.complete
        region["b"].tell(7, [(11, 1)])
        assert region.client.complete
        region["b"].down()
        assert not region.client.complete
        await region.client.close()

    run_virtually(main())


def test_every_node_is_watched_and_a_lost_watch_is_asked_again():
    async def test(region: Region) -> None:
        watches = {name: link.watch for name, link in region.links.items()}
        assert all(watches.values())
        assert watches["a"].call.revision == 1  # type: ignore[union-attr]
        await ms(16_000)
        assert all(region[name].watch.id != watch.id for name, watch in watches.items())  # type: ignore[union-attr]
        region["a"].events.on_responses("a", [m.Response(region["a"].watch.id, m.Busy("x"))])  # type: ignore[union-attr]
        before = region["a"].watch.id  # type: ignore[union-attr]
        await ms(300)
        assert region["a"].watch.id > before  # type: ignore[union-attr]

    in_region(test)


def test_a_restarted_node_is_watched_from_the_start_of_its_leads():
    async def test(region: Region) -> None:
        region["a"].down()
        region["a"].up()
        assert region["a"].watch.call == m.Watch(1, -1, 10_000, 0)  # type: ignore[union-attr]

    in_region(test)


# --- bounds and end ---------------------------------------------------------------------------------------


def test_more_calls_than_may_be_in_flight_are_refused_at_once():
    async def test(region: Region) -> None:
        replies = [region.client.call(write(), timeout_ms=100) for _ in range(3)]
        assert await raised(replies[2]) == "ServiceUnavailable"
        assert len(region["a"].sent) == 2

    in_region(test, in_flight_max=2)


def test_nothing_runs_while_nothing_is_in_flight():
    async def test(region: Region) -> None:
        reply = region.client.call(write(), timeout_ms=1_000)
        region["a"].answer_all(WRITTEN)
        await reply
        await ms(1_100)
        assert region.client._sweep_timer is None

    in_region(test)


def test_close_fails_what_still_waits():
    async def main() -> None:
        region = Region().start()
        sent = region.client.call(write(), timeout_ms=1_000)
        waiter = region.client.wait_revision(99)
        await region.client.close()
        assert await raised(sent) == "InternalServerError"
        assert not await waiter
        assert not await region.client.wait_revision(99)
        assert await raised(region.client.call(write(), timeout_ms=1)) == "ServiceUnavailable"

    run_virtually(main())


def test_many_calls_through_random_leader_changes_all_get_an_answer():
    async def test(region: Region) -> None:
        from random import Random

        random = Random(7)
        term = 5
        replies: list[Any] = []
        applied: dict[int, m.Written] = {}

        def serve(leader: str) -> None:
            for name, link in region.links.items():
                for request in tuple(link.sent):
                    if name != leader:
                        link.answer(request, m.NotLeader(10, random.choice(("", leader))))
                    elif random.random() < 0.8:
                        assert request.write_id is not None
                        outcome = applied.setdefault(request.write_id.sequence, m.Written(len(applied), 1))
                        lost = random.random() < 0.2
                        link.answer(request, m.Unknown(10, "") if lost else outcome)

        leader = "a"
        for step in range(200):
            replies.append(region.client.call(write(), timeout_ms=20_000))
            if step % 20 == 19:
                term += 1
                leader = random.choice("abc")
                for name, link in region.links.items():
                    if link.watch is not None and random.random() < 0.7:
                        link.tell(1, [(10, term)] if name == leader else [])
            if step % 50 == 30:
                region[leader].down()
                region[leader].up()
            serve(leader)
            await ms(20)
        for _ in range(100):
            for name, link in region.links.items():
                if name == leader and link.watch is not None:
                    link.tell(1, [(10, term)])
            serve(leader)
            await ms(50)
        answers = [await reply for reply in replies]
        # Each write took effect once, whatever was lost on the way.
        assert sorted(answer.size_before for answer in answers) == list(range(200))

    in_region(test, hold_ms=10_000)


# --- members that come and go -----------------------------------------------------------------------------


def test_a_node_that_is_added_is_linked_and_the_links_of_the_others_stay():
    async def test(region: Region) -> None:
        before = dict(region.links)
        await region.client.members_changed([*NODES, NodeAddress("d", "b", "d:1")])
        assert {node: region.links[node] for node in before} == before
        region["d"].up()
        assert set(region.client.status()["nodes"]) == {"a", "b", "c", "d"}
        region["d"].tell(1, [(11, 6)])
        reply = region.client.call(write(11), timeout_ms=1_000)
        region["d"].answer_all(WRITTEN)
        assert await reply == WRITTEN

    in_region(test)


def test_what_is_under_way_at_a_node_that_is_removed_goes_to_the_new_leader():
    async def test(region: Region) -> None:
        reply = region.client.call(write(10), timeout_ms=2_000)
        (lost,) = region["a"].sent
        await region.client.members_changed([node for node in NODES if node.id != "a"])
        assert not region["a"].connected
        region["b"].tell(2, [(0, 6), (10, 6), (11, 5)])
        (again,) = region["b"].sent
        assert again.write_id == lost.write_id
        region["b"].answer_all(WRITTEN)
        assert await reply == WRITTEN
        assert set(region.client.status()["nodes"]) == {"b", "c"}

    in_region(test)


def test_a_node_that_moved_to_another_address_is_dialled_anew():
    async def test(region: Region) -> None:
        before = region["c"]
        moved = [NodeAddress("c", "c", "elsewhere:1") if node.id == "c" else node for node in NODES]
        await region.client.members_changed(moved)
        assert region["c"] is not before
        assert not before.connected

    in_region(test)
