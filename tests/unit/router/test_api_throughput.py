"""Ceilings, warm throughput and the record of changes: what UpdateTable allows and DescribeTable tells."""

from __future__ import annotations

from typing import Any

import pytest

from router.api.throughput import DAY_MS, HOUR_MS, decreases_today, times_of_change
from tests.unit.router.fake_region import NOW_MS, Client, table

INVALID = "One or more parameter values were invalid: "
UNITS = {"ReadCapacityUnits": 5, "WriteCapacityUnits": 6}
LOWER = "is lower than current WarmThroughput, decreasing WarmThroughput is not supported"


def made(**more: Any) -> Client:
    client = Client()
    table(client, **more)
    return client


def provisioned(**more: Any) -> Client:
    return made(BillingMode="PROVISIONED", ProvisionedThroughput=UNITS, **more)


def described(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = client("DescribeTable", TableName="things")["Table"]
    return found


def update(client: Client, **change: Any) -> dict[str, Any]:
    found: dict[str, Any] = client("UpdateTable", TableName="things", **change)["TableDescription"]
    return found


def refusal(client: Client, **change: Any) -> str | None:
    code, message = client.refused("UpdateTable", TableName="things", **change)
    assert code == "ValidationException"
    return message


# --- ceilings -------------------------------------------------------------------------------------------


def test_ceilings_change_one_by_one_and_minus_one_removes() -> None:
    client = made(OnDemandThroughput={"MaxReadRequestUnits": 20, "MaxWriteRequestUnits": 15})
    assert described(client)["OnDemandThroughput"] == {"MaxReadRequestUnits": 20, "MaxWriteRequestUnits": 15}
    update(client, OnDemandThroughput={"MaxReadRequestUnits": 40})
    assert described(client)["OnDemandThroughput"] == {"MaxReadRequestUnits": 40, "MaxWriteRequestUnits": 15}
    answer = update(client, OnDemandThroughput={"MaxReadRequestUnits": -1})
    assert answer["OnDemandThroughput"] == {"MaxReadRequestUnits": -1, "MaxWriteRequestUnits": 15}
    assert described(client)["OnDemandThroughput"] == {"MaxWriteRequestUnits": 15}
    update(client, OnDemandThroughput={"MaxWriteRequestUnits": -1})
    assert "OnDemandThroughput" not in described(client)


def test_ceilings_end_with_the_billing_mode() -> None:
    client = made(OnDemandThroughput={"MaxReadRequestUnits": 20})
    update(client, BillingMode="PROVISIONED", ProvisionedThroughput=UNITS)
    assert "OnDemandThroughput" not in described(client)
    assert refusal(client, OnDemandThroughput={"MaxWriteRequestUnits": 5}) == (
        f"{INVALID}MaxWriteRequestUnits for OnDemandThroughput cannot be specified when the table BillingMode is "
        "PROVISIONED"
    )


def test_a_new_table_has_ceilings_only_on_demand() -> None:
    client = Client()
    body = {
        "TableName": "things",
        "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
        "ProvisionedThroughput": UNITS,
        "OnDemandThroughput": {"MaxReadRequestUnits": 5, "MaxWriteRequestUnits": 5},
    }
    assert client.refused("CreateTable", **body) == (
        "ValidationException",
        f"{INVALID}MaxReadRequestUnits for OnDemandThroughput cannot be specified when table BillingMode is "
        "PROVISIONED.",
    )


# --- warm throughput ------------------------------------------------------------------------------------


def test_warm_throughput_rises_and_never_falls() -> None:
    client = made()
    assert refusal(client, WarmThroughput={"ReadUnitsPerSecond": 11_999}) == (
        f"{INVALID}Requested ReadUnitsPerSecond for WarmThroughput for table {LOWER}"
    )
    update(client, WarmThroughput={"ReadUnitsPerSecond": 13_000})
    warm = {"ReadUnitsPerSecond": 13_000, "WriteUnitsPerSecond": 4_000, "Status": "ACTIVE"}
    assert described(client)["WarmThroughput"] == warm
    assert LOWER in str(refusal(client, WarmThroughput={"ReadUnitsPerSecond": 12_999}))
    update(client, BillingMode="PROVISIONED", ProvisionedThroughput=UNITS)
    assert described(client)["WarmThroughput"]["ReadUnitsPerSecond"] == 13_000


def test_warm_throughput_of_a_provisioned_table_begins_with_its_units() -> None:
    client = provisioned(WarmThroughput={"ReadUnitsPerSecond": 100})
    warm = {"ReadUnitsPerSecond": 100, "WriteUnitsPerSecond": 6, "Status": "ACTIVE"}
    assert described(client)["WarmThroughput"] == warm
    update(client, ProvisionedThroughput={"ReadCapacityUnits": 200, "WriteCapacityUnits": 6})
    assert described(client)["WarmThroughput"]["ReadUnitsPerSecond"] == 200


# --- what was changed -----------------------------------------------------------------------------------


def test_changes_of_units_are_told_with_their_times() -> None:
    client = provisioned()
    assert "BillingModeSummary" not in described(client)
    update(client, ProvisionedThroughput={"ReadCapacityUnits": 9, "WriteCapacityUnits": 1})
    assert described(client)["ProvisionedThroughput"] == {
        "NumberOfDecreasesToday": 1,
        "LastIncreaseDateTime": NOW_MS / 1000,
        "LastDecreaseDateTime": NOW_MS / 1000,
        "ReadCapacityUnits": 9,
        "WriteCapacityUnits": 1,
    }


def test_a_table_that_was_on_demand_says_since_when() -> None:
    client = made()
    update(client, BillingMode="PROVISIONED", ProvisionedThroughput=UNITS)
    assert described(client)["BillingModeSummary"] == {
        "BillingMode": "PROVISIONED",
        "LastUpdateToPayPerRequestDateTime": NOW_MS / 1000,
    }


def test_after_four_decreases_of_a_day_one_an_hour_is_left() -> None:
    client = provisioned()
    for read in (4, 3, 2, 1):
        update(client, ProvisionedThroughput=UNITS | {"ReadCapacityUnits": read})
    code, message = client.refused(
        "UpdateTable", TableName="things", ProvisionedThroughput={"ReadCapacityUnits": 1, "WriteCapacityUnits": 1}
    )
    assert code == "LimitExceededException"
    assert message is not None
    assert "Number of decreases today: 4. Last decrease at Thursday, May 28, 2026 at 8:26:40 PM" in message
    update(client, ProvisionedThroughput=UNITS)  # an increase is free


def test_decreases_are_counted_by_the_day() -> None:
    morning = 100 * DAY_MS
    extra = {"decreases": 4, "decreases_day": 100, "last_decrease_ms": morning}
    assert decreases_today(extra, morning + HOUR_MS) == 4
    assert decreases_today(extra, morning + DAY_MS) == 0
    assert times_of_change(extra, (5, 5), (4, 5), morning + HOUR_MS)["decreases"] == 5
    assert times_of_change(extra, (5, 5), (4, 5), morning + DAY_MS)["decreases"] == 1


@pytest.mark.parametrize("given", [None, "STANDARD", "STANDARD_INFREQUENT_ACCESS"])
def test_a_table_class_is_told_once_it_was_chosen(given: str | None) -> None:
    client = made(**({} if given is None else {"TableClass": given}))
    found = described(client).get("TableClassSummary")
    assert found == (None if given is None else {"TableClass": given})
    update(client, TableClass="STANDARD")
    assert described(client)["TableClassSummary"] == {"TableClass": "STANDARD", "LastUpdateDateTime": NOW_MS / 1000}
