"""Comparing regions: what is on its way is no difference, what was lost is one, and can be repaired."""

from __future__ import annotations

import asyncio

from geodyne.messages import Change, DigestRows
from replication.comparing import AGAIN_MS, FIRST_MS, NEEDED_FIRST_MS, Comparing
from replication.digests import OwnItems, PeerItems
from replication.verify import EXPIRED_BEYOND_US, Comparison, Verdict, Verifier
from tests.unit.replication.fake_region import FakeClock, FakePartition, FakeRegion, key_of, version
from tests.unit.replication.test_replicator import Cluster, scenario, until

ITEMS = 60  # some pages in each partition
PATIENCE_S = 4.0


async def _replicated(cluster: Cluster) -> FakeRegion:
    """A table with items in all regions, whose watermarks are known everywhere; the first region."""
    first, *_ = cluster.regions.values()
    first.create("t")
    first.control("update_table", name="t", replicas_add=list(cluster.names[1:]))
    for number in range(ITEMS):
        first.write("t", key_of(number), b"%d" % number)
    await until(cluster.same, "the items are everywhere")
    await until(
        lambda: all(
            set(cluster.replicas(name).values()) == {"ACTIVE"} and len(cluster.replicas(name)) == len(cluster.names)
            for name in cluster.names
        ),
        "all replicas are complete",
    )
    _promise(cluster)
    return first


def _promise(cluster: Cluster) -> None:
    for region in cluster.regions.values():
        region.promise("t", region.clock.wall_us())


async def _verify(cluster: Cluster, *, repair: bool = False, patience_s: float = PATIENCE_S) -> Comparison:
    own, other, *_ = cluster.names
    replicator = cluster.replicators[own]
    table = cluster.regions[own].table("t")
    items = OwnItems(own, cluster.regions[own], replicator.watermarks)
    peer = PeerItems(replicator._links[other])
    verifier = Verifier(table, items, peer, own, cluster.clock, repair=repair, patience_s=patience_s)
    return await verifier.run()


def _part(region: FakeRegion, key: bytes) -> FakePartition:
    return region.parts[region.table("t").partition_of(int.from_bytes(key[:8])).id]


@scenario("a", "b")
async def test_replicas_that_hold_the_same_are_equal_and_so_are_their_root_digests(cluster: Cluster) -> None:
    await _replicated(cluster)
    found = await _verify(cluster)
    assert (found.verdict, found.rows, found.part, found.differing) == (Verdict.EQUAL, ITEMS, 1.0, 0)
    assert found.own_digest == found.other_digest != 0


@scenario("a", "b")
async def test_a_lost_item_differs_and_is_named_with_both_versions(cluster: Cluster) -> None:
    home = await _replicated(cluster)
    lost = _part(cluster.regions["b"], key_of(7)).rows.pop(key_of(7))
    found = await _verify(cluster)
    assert (found.verdict, found.differing) == (Verdict.DIFFERENT, 1)
    assert found.first is not None
    assert found.first["key"] == {"bytes": key_of(7).hex()}
    own, other = found.first["versions"]
    assert (own["time_us"], own["region"], other) == (int.from_bytes(lost.version[:8]), "a", None)
    assert home.items("t") != cluster.regions["b"].items("t"), "comparing alone changes nothing"


@scenario("a", "b")
async def test_items_that_the_own_region_lost_are_found_too(cluster: Cluster) -> None:
    home = await _replicated(cluster)
    for number in range(0, ITEMS, 3):
        del _part(home, key_of(number)).rows[key_of(number)]
    found = await _verify(cluster)
    assert (found.verdict, found.differing) == (Verdict.DIFFERENT, ITEMS // 3)


@scenario("a", "b")
async def test_one_version_with_two_images_is_a_difference(cluster: Cluster) -> None:
    await _replicated(cluster)
    part = _part(cluster.regions["b"], key_of(3))
    part.rows[key_of(3)] = part.rows[key_of(3)]._replace(image=b"damaged")
    assert (await _verify(cluster)).verdict is Verdict.DIFFERENT
    assert (await _verify(cluster, repair=True)).verdict is Verdict.EQUAL
    assert part.rows[key_of(3)].image == b"3", "the region that wrote it has what is right"


@scenario("a", "b")
async def test_what_an_ordinary_shipment_cannot_bring_back_is_repaired_under_a_new_version(cluster: Cluster) -> None:
    """Where it is missing, its version is taken for that of an item deleted and collected long ago."""
    home = await _replicated(cluster)
    part = _part(cluster.regions["b"], key_of(7))
    lost = part.rows.pop(key_of(7))
    part.arrived["a"] = home.clock.wall_us()
    assert not part.store(lost), "the same version is refused"
    found = await _verify(cluster, repair=True)
    assert (found.verdict, found.differing, found.repaired) == (Verdict.EQUAL, 1, 1)
    assert part.rows[key_of(7)].image == lost.image
    assert part.rows[key_of(7)].version > lost.version
    assert cluster.same()


@scenario("a", "b")
async def test_a_lost_deletion_is_repaired_as_a_deletion(cluster: Cluster) -> None:
    home = await _replicated(cluster)
    before = _part(cluster.regions["b"], key_of(5)).rows[key_of(5)]
    home.write("t", key_of(5), None)
    await until(cluster.same, "the deletion has arrived")
    _promise(cluster)
    _part(cluster.regions["b"], key_of(5)).rows[key_of(5)] = before
    found = await _verify(cluster, repair=True)
    assert (found.differing, found.repaired) == (1, 1)
    assert _part(cluster.regions["b"], key_of(5)).rows[key_of(5)].image is None


@scenario("a", "b")
async def test_a_tombstone_that_only_one_region_has_collected_is_no_difference(cluster: Cluster) -> None:
    home = await _replicated(cluster)
    home.write("t", key_of(5), None)
    await until(cluster.same, "the deletion has arrived")
    del _part(home, key_of(5)).rows[key_of(5)]
    assert (await _verify(cluster)).verdict is Verdict.EQUAL


@scenario("a", "b")
async def test_what_is_on_its_way_is_not_a_difference(cluster: Cluster) -> None:
    """Held back until the comparison has seen it missing; it arrives, and all is equal."""
    home = await _replicated(cluster)
    there = cluster.regions["b"]
    late = Change(key_of(100), version(home.clock.wall_us() + 60_000_000, "a"), b"late", 4)
    _part(home, late.key).rows[late.key] = late  # not in the feed: it is brought below

    async def arrive() -> None:
        await until(lambda: any(isinstance(call, DigestRows) and call.listed for call in there.calls), "seen")
        _part(there, late.key).store(late)

    arrival = asyncio.create_task(arrive())
    found = await _verify(cluster)
    await arrival
    assert (found.verdict, found.differing) == (Verdict.EQUAL, 0)


@scenario("a", "b")
async def test_what_may_still_be_on_its_way_is_neither_equal_nor_different(cluster: Cluster) -> None:
    """Its version is beyond the watermark, and it does not come."""
    home = await _replicated(cluster)
    late = Change(key_of(100), version(home.clock.wall_us() + 60_000_000, "a"), b"late", 4)
    _part(home, late.key).rows[late.key] = late
    found = await _verify(cluster, patience_s=0.6)
    assert (found.verdict, found.differing, found.unsettled) == (Verdict.UNKNOWN, 0, 1)


@scenario("a", "b")
async def test_an_item_that_expired_in_one_region_is_no_difference_before_its_deletion_must_have_arrived(
    cluster: Cluster,
) -> None:
    """Its version follows that of the image, so the watermark is beyond it from the start."""
    home = await _replicated(cluster)
    there = cluster.regions["b"]
    before = _part(home, key_of(5)).rows[key_of(5)]
    expired = Change(key_of(5), version(int.from_bytes(before.version[:8]) + 1, "a"), None, 0)
    _part(home, key_of(5)).rows[key_of(5)] = expired  # not in the feed: it never arrives
    found = await _verify(cluster, patience_s=1.5)
    assert (found.verdict, found.differing, found.unsettled) == (Verdict.UNKNOWN, 0, 1)

    async def promise() -> None:
        await until(lambda: any(isinstance(call, DigestRows) and call.listed for call in there.calls), "seen")
        home.promise("t", home.clock.wall_us() + 2 * EXPIRED_BEYOND_US)

    there.calls.clear()
    later = asyncio.create_task(promise())
    found = await _verify(cluster)
    await later
    assert (found.verdict, found.differing) == (Verdict.DIFFERENT, 1)


@scenario("a", "b")
async def test_without_watermarks_nothing_is_said_to_be_equal(cluster: Cluster) -> None:
    first = cluster.regions["a"]
    first.create("t")
    first.control("update_table", name="t", replicas_add=["b"])
    first.write("t", key_of(1), b"x")
    await until(cluster.same, "the item is everywhere")
    found = await _verify(cluster, patience_s=0.3)
    assert found.verdict is Verdict.UNKNOWN
    assert "up to when" in found.reason


@scenario("a", "b")
async def test_a_region_that_does_not_answer_is_unknown(cluster: Cluster) -> None:
    await _replicated(cluster)
    await cluster.stop("b")
    await until(lambda: not cluster.replicators["a"]._links["b"].connected, "the link is down")
    found = await _verify(cluster)
    assert (found.verdict, found.reason) == (Verdict.UNKNOWN, "b is not connected, or of an older version")


@scenario("a", "b", "c")
async def test_an_administrator_has_all_regions_compared_and_all_repaired(cluster: Cluster) -> None:
    await _replicated(cluster)
    del _part(cluster.regions["c"], key_of(9)).rows[key_of(9)]
    comparing = cluster.replicators["a"].comparing

    async def asked(repair: bool) -> list[dict[str, object]]:
        comparing.administer({"operation": "start", "table": "t", "repair": repair})
        await until(lambda: not comparing.administer({"operation": "show", "table": "t"})["result"]["running"], "done")
        shown: list[dict[str, object]] = comparing.administer({"operation": "show", "table": "t"})["result"][
            "comparisons"
        ]
        return shown

    assert [each["verdict"] for each in await asked(False)] == ["equal", "different"]
    assert [(each.destination, each.differing) for each in comparing.figures()] == [("b", 0), ("c", 1)]
    assert [each["verdict"] for each in await asked(True)] == ["equal", "equal"]
    assert [(each.destination, each.differing) for each in comparing.figures()] == [("b", 0), ("c", 0)]
    await until(cluster.same, "the repaired item is the same in all regions")


@scenario("a", "b")
async def test_of_two_regions_the_first_by_name_compares_in_the_background_when_it_is_time(cluster: Cluster) -> None:
    await _replicated(cluster)
    clock = FakeClock()
    due = {}
    for name, other in (("a", "b"), ("b", "a")):
        replicator, region = cluster.replicators[name], cluster.regions[name]
        items = OwnItems(name, region, replicator.watermarks)
        due[name] = Comparing(name, region, items, {other: replicator._links[other]}, clock)
    assert due["a"]._next_due() is None
    clock.advance(FIRST_MS)
    found = due["a"]._next_due()
    assert found is not None
    assert (found[0].name, found[1]) == ("t", "b")
    assert due["b"]._next_due() is None
    await due["a"]._compare(found[0], due["a"]._verifier(found[0], "b"))
    clock.advance(AGAIN_MS - 1)
    assert due["a"]._next_due() is None
    clock.advance(1)
    assert due["a"]._next_due() is not None


ORPHAN = key_of(200)


async def _orphaned(cluster: Cluster) -> None:
    """Of "d", which is no member, "b" has an item that "a" has not."""
    home = await _replicated(cluster)
    orphan = Change(ORPHAN, version(home.clock.wall_us(), "d"), b"orphan", 6)
    assert _part(cluster.regions["b"], ORPHAN).store(orphan)


@scenario("a", "b")
async def test_what_a_removed_region_wrote_differs_when_nothing_has_changed_for_the_whole_time(
    cluster: Cluster,
) -> None:
    await _orphaned(cluster)
    found = await _verify(cluster, patience_s=0.6)
    assert (found.verdict, found.differing, found.unsettled) == (Verdict.DIFFERENT, 1, 0)
    found = await _verify(cluster, patience_s=0.6, repair=True)
    assert (found.verdict, found.repaired) == (Verdict.EQUAL, 1)
    assert cluster.regions["a"].items("t")[ORPHAN][1] == b"orphan"


@scenario("a", "b")
async def test_what_a_removed_region_wrote_and_is_being_applied_still_is_no_difference(cluster: Cluster) -> None:
    await _orphaned(cluster)
    orphan = _part(cluster.regions["b"], ORPHAN).rows[ORPHAN]
    here = cluster.regions["a"]

    async def apply() -> None:
        await until(lambda: any(isinstance(call, DigestRows) and call.listed for call in here.calls), "seen")
        assert _part(here, ORPHAN).store(orphan)

    arrival = asyncio.create_task(apply())
    found = await _verify(cluster)
    await arrival
    assert (found.verdict, found.differing) == (Verdict.EQUAL, 0)


@scenario("a", "b", "c")
async def test_regions_are_compared_once_another_was_dropped_and_what_was_let_in_before_has_been_applied(
    cluster: Cluster,
) -> None:
    await _replicated(cluster)
    clock, replicator, region = FakeClock(), cluster.replicators["b"], cluster.regions["b"]
    items = OwnItems("b", region, replicator.watermarks)
    comparing = Comparing("b", region, items, {name: replicator._links[name] for name in "ac"}, clock)
    assert comparing._next_needed() is None
    cluster.regions["a"].control("update_table", name="t", replicas_remove=["c"])
    await until(lambda: set(cluster.replicas("b")) == {"a", "b"}, "c is dropped")
    assert comparing._next_needed() is None
    clock.advance(NEEDED_FIRST_MS)
    needed = comparing._next_needed()
    assert needed is not None
    assert (needed[0].name, needed[1]) == ("t", "a"), "whatever its name"
    await comparing._compared(*needed)
    assert comparing._next_needed() is None
