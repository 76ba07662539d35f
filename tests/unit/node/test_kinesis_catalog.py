"""Kinesis destinations in the catalog: one at a time, what the partitions hold for it, who is told what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from geodyne.catalog import KinesisStatus, MemberRecord, TableRecord, TableStatus, kinesis_consumer
from geodyne.errors import ApiError
from geodyne.rpc.codec import STREAM_FORMAT
from node.catalog.controller import plan
from node.catalog.keeper import _stream_label
from node.catalog.kinesis import DESCRIPTION_LENGTH_MAX, REMEMBERED_MAX
from node.catalog.machine import ACTIVATE, KINESIS_SETTLED, Catalog, Surroundings, evaluate
from node.catalog.placement import rings_by_zone
from node.state import definition_of

ARN = "arn:aws:kinesis:us-east-1:000000000000:stream/changes"
DEFINITION = {"name": "T", "hash_key": "pk", "hash_type": "S", "range_key": None, "range_type": None}


class Region:
    """A catalog with table T."""

    def __init__(self, streams_known: bool = True) -> None:
        self.catalog = Catalog()
        ids = iter(f"id-{number}" for number in range(1_000))
        placement = rings_by_zone({"n-a": "a", "n-b": "b", "n-c": "c"})
        self.around = Surroundings(
            "us-east-1", 1_790_000_000_000, placement, lambda: next(ids), _stream_label, streams_known
        )
        self.catalog.members["n-a"] = MemberRecord("n-a", "a", format=STREAM_FORMAT)
        self.run("create_table", definition=DEFINITION)
        self.run(ACTIVATE, revision=self.table.revision)

    def run(self, operation: str, **body: Any) -> TableRecord:
        changes, _ = evaluate(self.catalog, operation, {"name": "T", **body}, self.around)
        if changes:
            self.catalog.apply(self.catalog.revision + 1, changes)
        return self.table

    def enable(self, arn: str = ARN) -> str:
        return self.run("enable_kinesis", stream_arn=arn, precision="MICROSECOND").kinesis[-1].id

    def told(self, id_: str, status: str, *expected: str, description: str = "") -> TableRecord:
        body = {"id": id_, "status": status, "expected": list(expected), "description": description}
        return self.run("kinesis_result", **body)

    def active(self, arn: str = ARN) -> str:
        id_ = self.enable(arn)
        self.told(id_, "ACTIVE", "ENABLING")
        return id_

    def settle(self) -> TableRecord:
        led = {partition.id: self.table.revision for partition in self.table.partitions}
        for operation, body in plan(self.catalog, led):
            self.run(operation, **body)
        return self.table

    @property
    def table(self) -> TableRecord:
        return self.catalog.tables["T"]

    @property
    def status(self) -> str:
        return str(self.table.kinesis[-1].status)

    @property
    def consumers(self) -> tuple[str, ...]:
        return definition_of(self.table, "us-east-1").consumers


def test_the_partitions_hold_changes_and_old_images_from_the_enabling_on() -> None:
    region = Region()
    before = region.table.revision
    id_ = region.enable()
    definition = definition_of(region.table, "us-east-1")
    assert (region.status, region.table.status) == ("ENABLING", TableStatus.ACTIVE)
    assert region.table.revision > before, "the partitions are told"
    assert definition.consumers == (kinesis_consumer(id_),)
    assert definition.feed
    assert definition.old_images
    assert definition.timed
    marked = region.table.revision
    assert region.told(id_, "ACTIVE", "ENABLING").revision == marked
    assert TableRecord.from_json(region.table.to_json()) == region.table


def test_a_destination_that_is_disabled_holds_nothing_and_is_disabled_once_all_partitions_know() -> None:
    region = Region()
    region.active()
    revision = region.table.revision
    table = region.run("disable_kinesis", stream_arn=ARN)
    assert (region.status, region.consumers) == ("DISABLING", ())
    assert table.revision > revision
    behind = {partition.id: revision for partition in table.partitions}
    assert KINESIS_SETTLED not in [operation for operation, _ in plan(region.catalog, behind)]
    region.settle()
    assert region.status == "DISABLED"


@pytest.mark.parametrize("status", [KinesisStatus.ENABLING, KinesisStatus.ACTIVE, KinesisStatus.DISABLING])
def test_a_second_destination_is_refused(status: KinesisStatus) -> None:
    region = Region()
    region.enable() if status is KinesisStatus.ENABLING else region.active()
    if status is KinesisStatus.DISABLING:
        region.run("disable_kinesis", stream_arn=ARN)
    for arn in (ARN, ARN + "-2"):
        with pytest.raises(ApiError, match="must be DISABLED or ENABLE_FAILED to perform ENABLE"):
            region.enable(arn)


def test_only_an_active_destination_is_disabled_or_updated() -> None:
    region = Region()
    for operation, more in (("disable_kinesis", {}), ("update_kinesis", {"precision": "MILLISECOND"})):
        with pytest.raises(ApiError, match="must be ACTIVE"):
            region.run(operation, stream_arn=ARN, **more)
    region.enable()
    with pytest.raises(ApiError, match="must be ACTIVE"):
        region.run("disable_kinesis", stream_arn=ARN)


def test_an_update_changes_the_precision_and_not_the_definition() -> None:
    region = Region()
    id_ = region.active()
    revision = region.table.revision
    with pytest.raises(ApiError, match="already set to the desired value of MICROSECOND"):
        region.run("update_kinesis", stream_arn=ARN, precision="MICROSECOND")
    region.run("update_kinesis", stream_arn=ARN, precision="MILLISECOND")
    assert (region.status, region.table.kinesis[0].precision) == ("UPDATING", "MILLISECOND")
    assert region.consumers == (kinesis_consumer(id_),)
    region.told(id_, "ACTIVE", "UPDATING")
    assert (region.status, region.table.revision) == ("ACTIVE", revision)


def test_one_that_could_not_be_enabled_says_why_and_may_be_tried_again() -> None:
    region = Region()
    id_ = region.enable()
    region.told(id_, "ENABLE_FAILED", "ENABLING", description="x" * 9_000)
    assert (region.status, region.consumers) == ("ENABLE_FAILED", ())
    assert len(region.table.kinesis[0].description) == DESCRIPTION_LENGTH_MAX
    again = region.enable()
    assert again != id_
    assert [one.id for one in region.table.kinesis] == [again], "one record a data stream"


def test_late_news_of_a_destination_changes_nothing() -> None:
    region = Region()
    id_ = region.active()
    region.run("disable_kinesis", stream_arn=ARN)
    before = region.table
    region.told(id_, "ACTIVE", "ENABLING", "UPDATING")
    region.told("another", "ACTIVE", "DISABLING")
    assert region.table == before


def test_few_destinations_are_remembered() -> None:
    region = Region()
    for number in range(REMEMBERED_MAX + 3):
        region.active(f"{ARN}-{number}")
        region.run("disable_kinesis", stream_arn=f"{ARN}-{number}")
        region.settle()
    assert len(region.table.kinesis) == REMEMBERED_MAX
    assert region.table.kinesis[-1].stream_arn.endswith(str(REMEMBERED_MAX + 2))


def test_none_is_enabled_while_some_node_would_not_keep_its_changes() -> None:
    region = Region(streams_known=False)
    with pytest.raises(ApiError) as caught:
        region.enable()
    assert caught.value.kind.code == "ServiceUnavailable"


def test_a_table_that_goes_takes_no_changes_of_its_destinations() -> None:
    region = Region()
    region.active()
    region.catalog.tables["T"] = replace(region.table, status=TableStatus.DELETING)
    with pytest.raises(ApiError) as caught:
        region.run("disable_kinesis", stream_arn=ARN)
    assert caught.value.kind.code == "ResourceInUseException"
