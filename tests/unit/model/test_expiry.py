"""Which items expire, and when."""

from __future__ import annotations

from typing import Any

import pytest

from geodyne.model.expiry import PAST_S_MAX, SECOND_MAX, Expiry
from geodyne.model.values import canonical_item, dumps

NOW_S = 1_800_000_000
NOW_US = NOW_S * 1_000_000


def stored(**attributes: Any) -> bytes:
    return dumps(canonical_item({"pk": {"S": "p"}, **attributes})[0])


def number(text: str) -> dict[str, str]:
    return {"N": text}


@pytest.mark.parametrize("text", ["1700000000", "1.7E9", "01700000000", "1700000000.0"])
def test_a_number_of_whole_seconds_is_when_an_item_expires(text: str) -> None:
    assert Expiry("ttl").second(stored(ttl=number(text))) == 1_700_000_000


@pytest.mark.parametrize(
    "value",
    [
        {"S": "1700000000"},
        {"N": "1700000000.5"},
        {"N": "-1700000000"},
        {"N": "0"},
        {"N": "1700000000000"},  # milliseconds
        {"N": "1E30"},
        {"NS": ["1700000000"]},
        {"L": [{"N": "1700000000"}]},
        {"M": {"ttl": {"N": "1700000000"}}},
        {"NULL": True},
    ],
)
def test_what_is_no_number_of_whole_seconds_never_expires(value: dict[str, Any]) -> None:
    assert Expiry("ttl").second(stored(ttl=value)) is None


def test_only_the_attribute_itself_counts() -> None:
    nested = stored(other={"M": {"ttl": number("1700000000")}}, text={"S": '"ttl":{"N":"17"}'})
    assert Expiry("ttl").second(nested) is None
    assert Expiry("ttl").second(stored()) is None
    assert Expiry("ttl").second(None) is None
    assert Expiry("ttl").second(stored(xttl=number("5"))) is None


@pytest.mark.parametrize("name", ["ttl", 'with "quotes"', "söndag", "back\\slash", "a.b", "日"])
def test_any_name_may_be_that_of_the_attribute(name: str) -> None:
    assert Expiry(name).second(stored(**{name: number("17")})) == 17


def test_an_item_is_due_from_the_moment_its_second_is_less_than_the_time() -> None:
    value = stored(ttl=number(str(NOW_S)))
    assert not Expiry("ttl").due(value, NOW_US - 1)
    assert not Expiry("ttl").due(value, NOW_US)
    assert Expiry("ttl").due(value, NOW_US + 1)


def test_what_expired_more_than_five_years_ago_is_not_due() -> None:
    assert Expiry("ttl").due(stored(ttl=number(str(NOW_S - PAST_S_MAX))), NOW_US)
    assert not Expiry("ttl").due(stored(ttl=number(str(NOW_S - PAST_S_MAX - 2))), NOW_US)
    assert not Expiry("ttl").due(stored(ttl=number(str(SECOND_MAX))), NOW_US)
