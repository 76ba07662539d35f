"""Triggers as the catalog has them: nothing before the first mapping, records parsed once, results reported."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from delivery import triggers as triggers_module
from delivery.metrics import MAPPINGS_NAMED_MAX, DeliveryCollector, Observations
from delivery.runner import CALL_FAILED, NOTHING_YET, STREAM_FAILED
from delivery.service import Status
from delivery.triggers import CatalogMappings, Triggers
from geodyne.messages import Answer, Call, Control, ControlDone, Refused
from geodyne.triggers.functions import FunctionSpec
from tests.unit.delivery import test_service
from tests.unit.delivery.fakes import LoopClock, until
from tests.unit.delivery.test_service import MAPPING, SPEC

RECORD = {**MAPPING.to_record(), "result": "No records processed", "state": "Enabled"}


class FakeCatalog(test_service.FakeCatalog):
    def __init__(self) -> None:
        super().__init__()
        self.mappings: dict[str, dict[str, Any]] = {}
        self.functions: dict[str, dict[str, Any]] = {}


class FakeRegion(test_service.FakeRegion):
    region = "us-east-1"

    def __init__(self, clock: LoopClock) -> None:
        super().__init__(clock)
        self.catalog: FakeCatalog = FakeCatalog()
        self.reports: list[dict[str, Any]] = []
        self.refuses = False

    async def call(self, call: Call, *, timeout_ms: int) -> Answer:
        if not isinstance(call, Control):
            return await super().call(call, timeout_ms=timeout_ms)
        assert call.operation == "mapping_result"
        self.reports.append(call.body)
        if self.refuses:
            return Refused("InternalServerError", "no")
        uuid = call.body["uuid"]
        self.catalog.mappings = {uuid: {**self.catalog.mappings[uuid], "result": call.body["result"]}}
        return ControlDone(1, {})


class Bench:
    """A table with a mapping to a Python function that appends what it is given to a file."""

    def __init__(self, directory: Path) -> None:
        (directory / "mine.py").write_text(
            "import time\n"
            "def handle(event, context):\n"
            "    for record in event['Records']:\n"
            "        key = record['dynamodb']['Keys']['pk']['S']\n"
            "        open('begun', 'a').close()\n"
            "        if key == 'slow':\n"
            "            time.sleep(0.3)\n"
            "        with open('taken', 'a') as taken:\n"
            "            taken.write(key + '\\n')\n"
        )
        self.directory = directory
        self.clock = LoopClock()
        self.region = FakeRegion(self.clock)
        self.region.catalog.tables["t"] = test_service.table()
        self.triggers = Triggers(self.region, clock=self.clock, random=random.Random(1))

    def add(self) -> None:
        spec = FunctionSpec("f", "python", str(self.directory), "mine:handle", timeout_s=10.0)
        self.region.catalog.functions = {"f": spec.to_record()}
        self.region.catalog.mappings = {MAPPING.uuid: dict(RECORD)}
        self.triggers.wake()

    def taken(self) -> list[str]:
        file = self.directory / "taken"
        return file.read_text().split() if file.exists() else []


def run(directory: Path, use: Callable[[Bench], Awaitable[None]]) -> Bench:
    async def whole() -> Bench:
        bench = Bench(directory)
        try:
            await use(bench)
        finally:
            await bench.triggers.close()
        return bench

    return asyncio.run(whole())


def test_before_the_first_mapping_there_is_nothing_and_after_it_it_runs(tmp_path: Path) -> None:
    async def use(bench: Bench) -> None:
        tasks = len(asyncio.all_tasks())
        bench.region.streams[1].write("a", "b")
        bench.triggers.wake()
        assert bench.triggers.statuses() == {}
        assert len(asyncio.all_tasks()) == tasks
        bench.add()
        await until(lambda: bench.taken() == ["a", "b"])
        assert bench.triggers.statuses()[MAPPING.uuid].partitions == 2
        await bench.triggers.close()
        bench.triggers.wake()
        assert len(asyncio.all_tasks()) == tasks

    run(tmp_path, use)


def test_a_call_under_way_may_end_before_delivery_leaves_and_its_records_do_not_come_again(tmp_path: Path) -> None:
    async def use(bench: Bench) -> None:
        bench.region.streams[1].write("slow")
        bench.add()
        await until((tmp_path / "begun").exists)

    bench = run(tmp_path, use)
    assert bench.taken() == ["slow"]
    assert bench.region.streams[1].bookmark == bench.region.streams[1].records[-1].sequence


def test_what_became_of_a_mappings_batches_is_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triggers_module, "REPORT_EVERY_S", 0.001)

    async def use(bench: Bench) -> None:
        bench.region.refuses = True
        bench.add()
        bench.region.streams[1].write("a")
        await until(lambda: len(bench.region.reports) >= 2)
        bench.region.refuses = False
        await until(lambda: bench.region.catalog.mappings[MAPPING.uuid]["result"] == "OK")
        reports = len(bench.region.reports)
        for _ in range(5):
            await asyncio.sleep(0.002)
        assert len(bench.region.reports) == reports
        assert bench.region.reports[-1] == {"uuid": MAPPING.uuid, "result": "OK"}

    run(tmp_path, use)


def test_a_mapping_that_was_told_to_have_no_stream_is_well_once_the_stream_is_read_though_it_is_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triggers_module, "REPORT_EVERY_S", 0.001)

    async def use(bench: Bench) -> None:
        bench.add()
        bench.region.catalog.mappings = {MAPPING.uuid: {**RECORD, "result": STREAM_FAILED}}
        await until(lambda: bench.region.catalog.mappings[MAPPING.uuid]["result"] == NOTHING_YET)
        bench.region.catalog.mappings = {MAPPING.uuid: {**RECORD, "result": CALL_FAILED}}
        for _ in range(5):
            await asyncio.sleep(0.002)
        assert bench.region.catalog.mappings[MAPPING.uuid]["result"] == CALL_FAILED  # of a batch: not this one's news

    run(tmp_path, use)


def test_records_are_parsed_once_and_those_that_make_no_sense_count_as_absent() -> None:
    catalog = FakeCatalog()
    mappings = CatalogMappings(catalog)
    assert mappings.mappings() == []
    assert mappings.function("f") is None
    later = {**RECORD, "uuid": "w", "on_failure": "queue://a-later-version"}
    catalog.mappings = {"u": dict(RECORD), "v": {"uuid": "v"}, "w": later, "x": {**RECORD, "filters": ["{"]}}
    catalog.functions = {"f": SPEC.to_record(), "g": {"kind": "http"}, "h": {**SPEC.to_record(), "kind": "later"}}
    (mapping,) = mappings.mappings()
    assert mapping == MAPPING
    assert mappings.mappings()[0] is mapping
    assert mappings.function("f") == SPEC
    assert mappings.function("f") is mappings.function("f")
    assert (mappings.function("g"), mappings.function("h")) == (None, None)
    catalog.mappings = {"u": {**RECORD, "state": "Creating"}}
    assert mappings.mappings() == [], "some partition does not know its bookmark yet"
    catalog.mappings = {"u": {**RECORD, "batch_size": 7}}
    assert mappings.mappings()[0].batch_size == 7
    catalog.mappings, catalog.functions = {}, {}
    assert mappings.mappings() == []
    assert mappings.function("f") is None


def status(calls: int, lag_s: float) -> Status:
    return Status("OK", "", 1, 2, lag_s, calls, 1, 10, 3, 5, 4, 0)


def test_metrics_name_so_many_mappings_and_add_the_others_up() -> None:
    running = {f"m{number}": status(number, float(number)) for number in range(MAPPINGS_NAMED_MAX + 3)}
    registry = CollectorRegistry()
    registry.register(DeliveryCollector(lambda: running))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"geodyne_trigger_{name}", labels)

    assert value("invocations_total", mapping="m7") == 7
    assert value("invocations_total", mapping="other") == 100 + 101 + 102
    assert value("lag_seconds", mapping="other") == 102.0
    assert value("invocations_total", mapping="m100") is None
    outcomes = {
        name: value("records_total", mapping="m7", outcome=name)
        for name in ("delivered", "filtered", "sent_to_destination", "dropped")
    }
    assert outcomes == {"delivered": 10, "filtered": 3, "sent_to_destination": 4, "dropped": 1}
    del running["m3"]
    assert value("invocations_total", mapping="m3") is None
    named = {s.labels["mapping"] for f in registry.collect() for s in f.samples if "mapping" in s.labels}
    assert len(named) == MAPPINGS_NAMED_MAX + 1


def test_ages_and_sizes_of_batches_are_observed_over_all_mappings() -> None:
    observations = Observations()
    registry = CollectorRegistry()
    registry.register(observations.age)
    registry.register(observations.batch)
    for figures in (observations.figures(), observations.figures()):
        figures.on_batch(30)
        figures.on_age(0.2)
    assert registry.get_sample_value("geodyne_trigger_batch_records_sum") == 60
    assert registry.get_sample_value("geodyne_trigger_iterator_age_seconds_bucket", {"le": "0.25"}) == 2
