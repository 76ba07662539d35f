"""Streams in the catalog: labels, what begins and ends with which change, who may have one, what is forgotten."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from geodyne.catalog import STREAM_RETENTION_S, MemberRecord, MemberState, StreamRecord, TableRecord, TableStatus
from geodyne.errors import ApiError
from geodyne.rpc.codec import STREAM_FORMAT
from node.catalog import streams
from node.catalog.controller import plan
from node.catalog.keeper import _stream_label
from node.catalog.machine import ACTIVATE, BEGIN_STREAM, FORGET_STREAMS, Catalog, Surroundings, evaluate
from node.catalog.placement import rings_by_zone
from node.state import definition_of

REGION = "us-east-1"
DAY_MS = STREAM_RETENTION_S * 1_000
AROUND = Surroundings(
    region=REGION,
    now_ms=1_790_000_000_000,
    placement=rings_by_zone({"n-a": "a", "n-b": "b", "n-c": "c"}),
    new_id=lambda: "id",
    stream_label=_stream_label,
)
LABEL = "2026-09-21T14:13:20.000"
NEXT_LABEL = "2026-09-21T14:13:20.001"
DEFINITION = {"name": "T", "hash_key": "pk", "hash_type": "S", "range_key": None, "range_type": None}


class Region:
    """A catalog with table T, and nodes that know streams."""

    def __init__(self, around: Surroundings = AROUND, **definition: Any) -> None:
        self.catalog = Catalog()
        self.around = around
        self.speak(*[STREAM_FORMAT] * 3)
        self.run("create_table", definition={**DEFINITION, **definition})
        self.settle()

    def speak(self, *formats: int, state: MemberState = MemberState.ACTIVE) -> None:
        for number, spoken in enumerate(formats):
            self.catalog.members[f"n-{number}"] = MemberRecord(f"n-{number}", "a", state, spoken)

    def run(self, operation: str, **body: Any) -> TableRecord:
        changes, _ = evaluate(self.catalog, operation, {"name": "T", **body}, self.around)
        if changes:
            self.catalog.apply(self.catalog.revision + 1, changes)
        return self.table

    def stream(self, view: str | None) -> TableRecord:
        self.run("update_table", stream=view)
        return self.settle()

    def settle(self) -> TableRecord:
        return self.run(ACTIVATE, revision=self.table.revision)

    def later(self, ms: int) -> None:
        self.around = replace(self.around, now_ms=self.around.now_ms + ms)

    def due(self) -> list[str]:
        led = {partition.id: self.table.revision for partition in self.table.partitions}
        return [operation for operation, _ in plan(self.catalog, led, self.around.now_ms)]

    @property
    def table(self) -> TableRecord:
        return self.catalog.tables["T"]


def test_a_stream_is_made_with_its_table_or_later_and_goes_on_until_it_is_disabled() -> None:
    for region in (Region(stream_view="NEW_IMAGE"), Region()):
        if not region.table.streams:
            region.stream("NEW_IMAGE")
        assert region.table.streams == (StreamRecord(LABEL, "NEW_IMAGE", AROUND.now_ms),)
        assert (region.table.stream_view, region.table.stream_label) == ("NEW_IMAGE", LABEL)
        region.later(5)
        table = region.stream(None)
        assert table.streams == (StreamRecord(LABEL, "NEW_IMAGE", AROUND.now_ms, AROUND.now_ms + 5),)
        assert (table.stream_view, table.stream_label) == (None, LABEL), "the newest one goes on being shown"
        assert TableRecord.from_json(table.to_json()) == table


def test_no_two_streams_of_a_table_have_the_same_label_wherever_the_clock_goes() -> None:
    region = Region(stream_view="NEW_IMAGE")
    region.stream(None)
    region.later(-60_000)
    region.stream("KEYS_ONLY")
    assert [stream.label for stream in region.table.streams] == [LABEL, NEXT_LABEL]
    assert region.table.stream_label == NEXT_LABEL


def test_enabling_twice_and_disabling_what_is_off_are_refused() -> None:
    region = Region(stream_view="NEW_IMAGE")
    with pytest.raises(ApiError, match="already has an enabled stream"):
        region.stream("NEW_IMAGE")
    region.stream(None)
    with pytest.raises(ApiError, match="doesn't have an enabled stream"):
        region.stream(None)


def test_the_streams_that_a_table_had_in_a_day_are_bounded() -> None:
    region = Region()
    for _ in range(streams.STREAMS_MAX):
        region.stream("NEW_IMAGE")
        region.stream(None)
    with pytest.raises(ApiError, match="Too many streams"):
        region.stream("NEW_IMAGE")
    region.later(DAY_MS)
    region.run(FORGET_STREAMS)
    assert region.stream("NEW_IMAGE").stream_view == "NEW_IMAGE"


def test_a_stream_is_forgotten_a_day_after_it_ended_and_its_partitions_are_told() -> None:
    region = Region(stream_view="NEW_IMAGE")
    region.stream(None)
    region.later(DAY_MS - 1)
    assert region.due() == []
    assert region.run(FORGET_STREAMS).streams
    region.later(1)
    assert region.due() == [FORGET_STREAMS]
    revision = region.table.revision
    table = region.run(FORGET_STREAMS)
    assert (table.streams, table.status, table.stream_label) == ((), TableStatus.ACTIVE, LABEL)
    assert table.revision > revision
    assert region.due() == []


def test_a_definition_names_its_streams_and_only_one_that_goes_on_makes_records() -> None:
    region = Region(stream_view="NEW_IMAGE")
    definition = definition_of(region.table, REGION)
    assert (definition.feed, definition.old_images) == (True, True)
    assert definition.consumers == (f"stream/{LABEL}",)
    definition = definition_of(region.stream(None), REGION)
    assert (definition.feed, definition.old_images) == (False, False)
    assert definition.consumers == (f"stream/{LABEL}",)
    assert definition.streams[0].ended
    definition = definition_of(region.stream("KEYS_ONLY"), REGION)
    assert (definition.feed, [stream.view for stream in definition.streams]) == (True, ["NEW_IMAGE", "KEYS_ONLY"])
    assert definition_of(Region().table, REGION).consumers == ()


def test_a_stream_cannot_be_enabled_before_every_node_knows_streams() -> None:
    region = Region(replace(AROUND, streams_known=False))
    with pytest.raises(ApiError) as refused:
        region.stream("NEW_IMAGE")
    assert refused.value.kind.code == "ServiceUnavailable"
    with pytest.raises(ApiError, match="all nodes"):
        region.run("create_table", definition={**DEFINITION, "name": "U", "stream_view": "NEW_IMAGE"})


def test_nodes_that_are_down_count_and_those_that_left_do_not() -> None:
    region = Region()
    assert streams.known(region.catalog.members)
    region.speak(streams.STREAMS_FORMAT - 1, state=MemberState.DOWN)
    assert not streams.known(region.catalog.members)
    region.speak(streams.STREAMS_FORMAT - 1, state=MemberState.LEFT)
    assert streams.known(region.catalog.members)
    assert not streams.known({})


def test_the_stream_of_a_replica_and_one_from_an_earlier_version_begin_once_every_node_knows_streams() -> None:
    region = Region(replace(AROUND, streams_known=False))
    region.speak(streams.STREAMS_FORMAT - 1)
    table = region.run("update_table", replicas_add=["eu-west-1"])
    assert (table.stream_view, table.stream_label, table.streams) == ("NEW_AND_OLD_IMAGES", LABEL, ())
    region.settle()
    assert region.due() == []
    region.speak(STREAM_FORMAT)
    assert region.due() == [BEGIN_STREAM]
    assert region.run(BEGIN_STREAM).streams == (), "the leader that evaluates it must know it as well"
    region.around = replace(region.around, streams_known=True)
    revision = region.table.revision
    table = region.run(BEGIN_STREAM)
    assert table.streams == (StreamRecord(LABEL, "NEW_AND_OLD_IMAGES", AROUND.now_ms),)
    assert (table.status, table.revision > revision) == (TableStatus.ACTIVE, True)
    assert region.run(BEGIN_STREAM) == table
    assert region.due() == []


def test_each_replica_of_a_global_table_has_a_stream_of_its_own_which_stays_on() -> None:
    here = Region(stream_view="KEYS_ONLY")
    here.run("update_table", replicas_add=["eu-west-1"])
    assert here.settle().stream_view == "KEYS_ONLY", "what there is stays"
    with pytest.raises(ApiError, match="cannot be disabled"):
        here.stream(None)
    there = Catalog()
    around = replace(AROUND, region="eu-west-1", now_ms=AROUND.now_ms + 1)
    definition = {**DEFINITION, "stream_view": here.table.stream_view}
    body = {"definition": definition, "table_id": "id", "members": {REGION: "ACTIVE", "eu-west-1": "CREATING"}}
    changes, _ = evaluate(there, "ensure_replica", body, around)
    there.apply(1, changes)
    assert [(one.label, one.view) for one in there.tables["T"].streams] == [(NEXT_LABEL, "KEYS_ONLY")]
