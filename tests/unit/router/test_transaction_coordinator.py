"""What a coordinator sends, and in which order, whatever the participants and the ledger answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from geodyne import ledger
from geodyne.catalog import HASH_SPACE, PartitionRecord, TableRecord, TableStatus
from geodyne.errors import ApiError
from geodyne.ledger import DECIDE_WITHIN_MS, LEDGER_TABLE
from geodyne.messages import (
    Answer,
    Applied,
    Call,
    Finish,
    Found,
    Get,
    Image,
    Images,
    Moved,
    Prepare,
    Prepared,
    PrepareRefused,
    ReadTogether,
    Refused,
    Write,
    WriteKind,
    Written,
)
from geodyne.model.values import dumps
from router.api.context import Api
from router.api.coordinator import GetAction, WriteAction, plan
from router.api.tablerecords import Table
from router.api.transactions import transact_get, transact_write
from tests.unit.router.fake_region import Ready, finish

NOW_MS = 1_780_000_000_000
DIGEST, OTHER = b"d" * 16, b"o" * 16
FAILED = Refused("ConditionalCheckFailedException", "The conditional request failed")
LOST = ApiError("InternalServerError", "The request did not complete in time")
REFUSED = ApiError("ServiceUnavailable", "The service is temporarily unable to handle the request")


def record(name: str, first: int) -> TableRecord:
    bounds = [HASH_SPACE * number // 4 for number in range(5)]
    partitions = tuple(PartitionRecord(first + n, 1, bounds[n], bounds[n + 1], ("a",)) for n in range(4))
    return TableRecord(
        name,
        name,
        TableStatus.ACTIVE,
        1,
        0,
        "pk" if first else "id",
        "S",
        None,
        None,
        "PAY_PER_REQUEST",
        0,
        0,
        partitions,
    )


class Region:
    """Answers by type of call; what a test changes comes first. `sent` are the kinds of calls in order."""

    def __init__(self) -> None:
        self.tables = {"T": record("T", 1), LEDGER_TABLE: record(LEDGER_TABLE, 100)}
        self.answers: dict[type, Callable[[Any], Answer | ApiError]] = {
            Prepare: lambda call: Prepared((Written(0, 10),) * len(call.items)),
            Finish: lambda call: Applied(1),
            Get: lambda call: Found(None, 0),
            Write: lambda call: Written(0, 1),
            ReadTogether: lambda call: Images(tuple(Image(b"{}", 2, b"v", False) for _ in call.keys)),
        }
        self.calls: list[Call] = []
        self.waited: list[int] = []
        self.revision = 0
        self.now_ms = NOW_MS

    @property
    def catalog(self) -> Region:
        return self

    def call(self, call: Call, *, timeout_ms: int, request_id: str = "") -> Ready:
        self.calls.append(call)
        return Ready(self.answers[type(call)](call))

    async def wait_revision(self, revision: int, timeout_ms: int) -> None:
        self.waited.append(revision)

    @property
    def sent(self) -> list[str]:
        return [_kind(call) for call in self.calls]


def _kind(call: Call) -> str:
    if isinstance(call, Finish):
        return "commit" if call.commit else "release"
    if isinstance(call, Write):
        return "decide" if "committed = :attempt" in (call.update or "") else "claim" if call.update else "write"
    return {Prepare: "prepare", Get: "look", ReadTogether: "read"}[type(call)]


def actions(region: Region, count: int) -> list[WriteAction]:
    """One action in each of so many partitions."""
    table = Table(region.tables["T"])
    keys = [(number << 62).to_bytes(8, "big") + b"\0\1k" for number in range(count)]
    return [WriteAction("T", table, WriteKind.DELETE, key, b"", 0) for key in keys]


def write(region: Region, count: int, token: str | None = None) -> Any:
    api = Api(region, region="us-east-1", now_ms=lambda: region.now_ms)  # type: ignore[arg-type]
    return finish(transact_write(actions(region, count), api.context("r"), token=token, digest=DIGEST))  # type: ignore[arg-type]


def failure(region: Region, count: int, token: str | None = None) -> ApiError:
    with pytest.raises(ApiError) as caught:
        write(region, count, token)
    return caught.value


def row(digest: bytes = DIGEST, committed: int | None = None, cancelled: tuple[int, ...] = ()) -> bytes:
    item: dict[str, Any] = {
        "id": {"S": "00"},
        "digest": {"S": digest.hex()},
        "decided": {"N": str(NOW_MS * 1000)},
        "touched": {"N": str(NOW_MS * 1000)},
    }
    if committed is not None:
        item["committed"] = {"S": str(committed)}
    if cancelled:
        item["cancelled"] = {"SS": [str(attempt) for attempt in cancelled]}
    return dumps(item)


def test_a_part_is_what_falls_to_one_partition() -> None:
    region = Region()
    listed = [*actions(region, 3), actions(region, 1)[0]]
    assert [part.positions for part in plan(listed)] == [(0, 3), (1,), (2,)]


def test_several_partitions_prepare_then_the_ledger_decides_then_all_finish() -> None:
    region = Region()
    assert write(region, 3).outcomes == (Written(0, 10),) * 3
    assert region.sent == ["prepare"] * 3 + ["decide"] + ["commit"] * 3
    attempts = {call.attempt for call in region.calls if isinstance(call, (Prepare, Finish))}
    assert len(attempts) == 1


def test_one_partition_needs_no_ledger_without_a_token() -> None:
    region = Region()
    write(region, 1)
    assert region.sent == ["prepare"]
    (call,) = region.calls
    assert isinstance(call, Prepare)
    assert call.commit


def test_one_partition_looks_at_the_token_and_claims_it_beside_the_commit() -> None:
    region = Region()
    write(region, 1, "token")
    assert region.sent == ["look", "claim", "prepare"]


def test_a_cancelled_transaction_of_one_partition_gives_its_token_back() -> None:
    region = Region()
    region.answers[Prepare] = lambda call: PrepareRefused((FAILED,))
    assert failure(region, 1, "token").kind.code == "TransactionCanceledException"
    assert region.sent == ["look", "claim", "prepare", "claim"]
    last = region.calls[-1]
    assert isinstance(last, Write)
    assert last.update == "REMOVE digest"


def test_a_refused_part_releases_the_others_and_blames_its_items() -> None:
    region = Region()
    region.answers[Prepare] = lambda call: (
        PrepareRefused((FAILED,)) if call.partition == 2 else Prepared((Written(0, 1),))
    )
    error = failure(region, 3)
    assert [reason["Code"] for reason in error.details["CancellationReasons"]] == [
        "None",
        "ConditionalCheckFailed",
        "None",
    ]
    assert region.sent == ["prepare"] * 3 + ["release"] * 2
    assert [call.partition for call in region.calls if isinstance(call, Finish)] == [1, 3]


def test_a_token_that_is_being_used_is_told_apart_and_releases_what_was_new() -> None:
    region = Region()
    busy = Refused("TransactionInProgressException", "Transaction from previous request is still in progress")
    region.answers[Prepare] = lambda call: busy if call.partition == 2 else Prepared((Written(0, 1),))
    error = failure(region, 2, "token")
    assert (error.kind.code, error.message) == (busy.code, busy.message)
    assert region.sent == ["prepare"] * 2 + ["release"]


def test_a_part_without_an_answer_is_released_too_and_nothing_has_happened() -> None:
    region = Region()
    region.answers[Prepare] = lambda call: LOST if call.partition == 2 else Prepared((Written(0, 1),))
    assert failure(region, 3).kind.definite
    assert region.sent == ["prepare"] * 3 + ["release"] * 3


def test_a_decision_whose_outcome_is_not_known_releases_nothing() -> None:
    region = Region()
    region.answers[Write] = lambda call: LOST
    assert failure(region, 2).kind.code == "InternalServerError"
    assert region.sent == ["prepare"] * 2 + ["decide"]


def test_a_decision_that_was_surely_not_taken_releases_all() -> None:
    region = Region()
    region.answers[Write] = lambda call: REFUSED
    assert failure(region, 2).kind.code == "ServiceUnavailable"
    assert region.sent == ["prepare"] * 2 + ["decide"] + ["release"] * 2


def test_an_attempt_that_its_participants_gave_up_is_released() -> None:
    region = Region()

    def decide(call: Write) -> Answer:
        attempt = int(call.values[":attempt"]["S"])
        return Refused("ConditionalCheckFailedException", "", row(cancelled=(attempt,)))

    region.answers[Write] = decide
    assert failure(region, 2).kind.code == "ServiceUnavailable"
    assert region.sent[-2:] == ["release"] * 2


def test_a_coordinator_that_took_too_long_does_not_ask_for_a_decision() -> None:
    region = Region()

    def slowly(call: Prepare) -> Answer:
        region.now_ms += DECIDE_WITHIN_MS
        return Prepared((Written(0, 1),))

    region.answers[Prepare] = slowly
    assert failure(region, 2).kind.code == "ServiceUnavailable"
    assert region.sent == ["prepare"] * 2 + ["release"] * 2


def test_a_participant_that_cannot_be_told_its_end_does_not_change_the_answer() -> None:
    region = Region()
    region.answers[Finish] = lambda call: LOST
    assert write(region, 2).outcomes == (Written(0, 10),) * 2


def test_a_partition_that_moved_is_tried_where_it_is_under_another_attempt() -> None:
    region = Region()

    def prepare(call: Prepare) -> Answer:
        return Moved(2, 7) if call.partition == 2 and not region.waited else Prepared((Written(0, 1),))

    region.answers[Prepare] = prepare
    write(region, 2)
    assert region.waited == [7]
    assert region.sent == ["prepare"] * 2 + ["release"] + ["prepare"] * 2 + ["decide"] + ["commit"] * 2
    first, second = {call.attempt for call in region.calls[:2]}, {call.attempt for call in region.calls[3:5]}  # type: ignore[union-attr]
    assert not first & second


@pytest.mark.parametrize("count", [1, 3])
def test_a_token_of_another_request_is_a_mismatch(count: int) -> None:
    region = Region()
    region.answers[Get] = lambda call: Found(row(OTHER), 10)
    region.answers[Prepare] = lambda call: PrepareRefused((FAILED,))
    region.answers[Write] = lambda call: Refused("ConditionalCheckFailedException", "", row(OTHER, committed=5))
    assert failure(region, count, "token").kind.code == "IdempotentParameterMismatchException"


def test_a_request_that_was_done_before_changes_nothing_and_costs_reads() -> None:
    region = Region()
    region.answers[Prepare] = lambda call: PrepareRefused((FAILED,))
    region.answers[Get] = lambda call: Found(row(committed=5), 10)
    done = write(region, 3, "token")
    assert (done.replayed, done.outcomes) == (True, (Written(2, 2),) * 3)
    assert region.sent == ["prepare"] * 3 + ["look"] + ["read"] * 3


def test_a_participant_that_did_it_before_answers_for_all() -> None:
    region = Region()
    region.answers[Prepare] = lambda call: Prepared((Written(0, 10),), replayed=call.partition == 1)
    assert write(region, 2, "token").replayed
    assert region.sent == ["prepare"] * 2 + ["release"] + ["read"] * 2


def test_an_invalid_action_cancels_before_anything_is_sent() -> None:
    region = Region()
    listed = actions(region, 2)
    listed[1] = listed[1]._replace(invalid="no key")
    context = Api(region, region="us-east-1", now_ms=lambda: NOW_MS).context("r")  # type: ignore[arg-type]
    with pytest.raises(ApiError) as caught:
        finish(transact_write(listed, context, token=None, digest=DIGEST))  # type: ignore[arg-type]
    assert caught.value.details["CancellationReasons"] == [
        {"Code": "None"},
        {"Code": "ValidationError", "Message": "no key"},
    ]
    assert region.calls == []


def read(region: Region, count: int) -> tuple[Found, ...]:
    context = Api(region, region="us-east-1", now_ms=lambda: NOW_MS).context("r")  # type: ignore[arg-type]
    gets = [GetAction("T", action.table, action.key) for action in actions(region, count)]
    found: tuple[Found, ...] = finish(transact_get(gets, context))  # type: ignore[arg-type, assignment]
    return found


def test_one_partition_is_read_once_and_several_twice() -> None:
    for count, rounds in ((1, 1), (3, 2)):
        region = Region()
        assert read(region, count) == (Found(b"{}", 2),) * count
        assert region.sent == ["read"] * count * rounds


def test_items_that_keep_changing_or_are_locked_cancel_a_read() -> None:
    for stamp, locked in ((None, False), (b"v", True)):
        region = Region()

        def changing(
            call: ReadTogether, stamp: bytes | None = stamp, locked: bool = locked, r: Region = region
        ) -> Answer:
            return Images((Image(None, 0, stamp or str(len(r.calls)).encode(), locked),))

        region.answers[ReadTogether] = changing
        with pytest.raises(ApiError) as caught:
            read(region, 2)
        assert {reason["Code"] for reason in caught.value.details["CancellationReasons"]} == {"TransactionConflict"}


def test_a_row_of_the_ledger_is_read_back_as_it_was_written() -> None:
    at = ledger.ledger_key(record(LEDGER_TABLE, 100), b"\1" * 16)
    assert ledger.name_of(at.item) == b"\1" * 16
    found = ledger.row_of(row(committed=2**63 - 1, cancelled=(1, 2)))
    assert (found.digest, found.committed, found.cancelled) == (DIGEST, 2**63 - 1, frozenset({1, 2}))
    assert not found.forgotten(NOW_MS * 1000 + ledger.RETAINED_US)
    assert found.forgotten(NOW_MS * 1000 + ledger.RETAINED_US + 1)
