"""What conditions mean."""

from __future__ import annotations

from typing import Any

import pytest

from geodyne.expressions.check import check_expressions
from geodyne.expressions.evaluate import evaluate_condition

ITEM: dict[str, Any] = {
    "pk": {"S": "key"},
    "s": {"S": "hello"},
    "n": {"N": "10"},
    "b": {"B": "AQID"},
    "t": {"BOOL": True},
    "z": {"NULL": True},
    "l": {"L": [{"S": "x"}, {"N": "2"}, {"M": {"k": {"S": "deep"}}}]},
    "m": {"M": {"k": {"N": "1"}, "name": {"S": "inner"}}},
    "ss": {"SS": ["a", "b"]},
    "ns": {"NS": ["1", "2"]},
    "bs": {"BS": ["AQ==", "Ag=="]},
    "unicode": {"S": "é\U0001f600"},
}


def holds(text: str, item: dict[str, Any] | None = ITEM, **values: Any) -> bool:
    checked = check_expressions(
        condition=text,
        names={"#n": "name"} if "#n" in text else None,
        values={f":{name}": value for name, value in values.items()} or None,
    )
    assert checked.condition is not None
    return evaluate_condition(checked.condition, item, checked.names, checked.values)


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("s = :v", {"v": {"S": "hello"}}, True),
        ("n = :v", {"v": {"N": "1e1"}}, True),
        ("n = :v", {"v": {"S": "10"}}, False),
        ("ss = :v", {"v": {"SS": ["b", "a"]}}, True),
        ("ns = :v", {"v": {"NS": ["2.0", "1"]}}, True),
        ("l[2].k = :v", {"v": {"S": "deep"}}, True),
        ("m = :v", {"v": {"M": {"name": {"S": "inner"}, "k": {"N": "1.0"}}}}, True),
        ("m.#n = :v", {"v": {"S": "inner"}}, True),
        ("absent = :v", {"v": {"S": "x"}}, False),
        ("absent <> :v", {"v": {"S": "x"}}, True),
        ("absent <> gone", {}, True),
        ("absent = gone", {}, False),
        ("s <> :v", {"v": {"S": "x"}}, True),
        ("s <> :v", {"v": {"N": "1"}}, True),
        ("n < :v", {"v": {"N": "9"}}, False),
        ("n > :v", {"v": {"N": "9"}}, True),
        ("n >= :v", {"v": {"N": "10.0"}}, True),
        ("n <= :v", {"v": {"N": "9.99"}}, False),
        ("n < :v", {"v": {"S": "9"}}, False),
        ("n >= :v", {"v": {"S": "9"}}, False),
        ("s < :v", {"v": {"S": "hellp"}}, True),
        ("b < :v", {"v": {"B": "Ag=="}}, True),
        ("t < n", {}, False),
        ("absent < :v", {"v": {"N": "9"}}, False),
        ("n BETWEEN :a AND :b", {"a": {"N": "10"}, "b": {"N": "11"}}, True),
        ("n BETWEEN :a AND :b", {"a": {"N": "11"}, "b": {"N": "12"}}, False),
        ("s BETWEEN :a AND :b", {"a": {"N": "1"}, "b": {"N": "2"}}, False),
        (":v BETWEEN m.k AND n", {"v": {"N": "5"}}, True),
        ("n IN (:a, :b)", {"a": {"S": "10"}, "b": {"N": "10"}}, True),
        ("n IN (:a)", {"a": {"S": "10"}}, False),
        ("absent IN (gone)", {}, False),
        ("attribute_exists(l[1])", {}, True),
        ("attribute_exists(l[9])", {}, False),
        ("attribute_exists(s.k)", {}, False),
        ("attribute_exists(m[0])", {}, False),
        ("attribute_not_exists(m.gone)", {}, True),
        ("attribute_type(l, :t)", {"t": {"S": "L"}}, True),
        ("attribute_type(z, :t)", {"t": {"S": "NULL"}}, True),
        ("attribute_type(z, :t)", {"t": {"S": "S"}}, False),
        ("attribute_type(absent, :t)", {"t": {"S": "S"}}, False),
        ("begins_with(s, :v)", {"v": {"S": "he"}}, True),
        ("begins_with(b, :v)", {"v": {"B": "AQI="}}, True),
        ("begins_with(b, :v)", {"v": {"S": "AQ"}}, False),
        ("begins_with(n, :v)", {"v": {"S": "1"}}, False),
        ("contains(s, :v)", {"v": {"S": "ell"}}, True),
        ("contains(s, :v)", {"v": {"N": "1"}}, False),
        ("contains(b, :v)", {"v": {"B": "AgM="}}, True),
        ("contains(ss, :v)", {"v": {"S": "a"}}, True),
        ("contains(ns, :v)", {"v": {"N": "2.0"}}, True),
        ("contains(ns, :v)", {"v": {"S": "2"}}, False),
        ("contains(bs, :v)", {"v": {"B": "Ag=="}}, True),
        ("contains(l, :v)", {"v": {"N": "2"}}, True),
        ("contains(l, :v)", {"v": {"M": {"k": {"S": "deep"}}}}, True),
        ("contains(n, :v)", {"v": {"N": "1"}}, False),
        ("contains(m, :v)", {"v": {"S": "k"}}, False),
        ("size(s) = :v", {"v": {"N": "5"}}, True),
        ("size(unicode) = :v", {"v": {"N": "3"}}, True),
        ("size(b) = :v", {"v": {"N": "3"}}, True),
        ("size(l) = size(b)", {}, True),
        ("size(m) = size(ss)", {}, True),
        ("size(n) > :v", {"v": {"N": "0"}}, False),
        ("size(absent) >= :v", {"v": {"N": "0"}}, False),
        ("NOT absent = :v", {"v": {"S": "x"}}, True),
        ("NOT n < :v", {"v": {"S": "x"}}, True),
        ("s = :a OR n = :b AND t = :c", {"a": {"S": "hello"}, "b": {"N": "0"}, "c": {"BOOL": False}}, True),
        ("(s = :a OR n = :b) AND t = :c", {"a": {"S": "hello"}, "b": {"N": "0"}, "c": {"BOOL": False}}, False),
    ],
)
def test_conditions_mean_what_the_guide_says(text: str, values: dict[str, Any], expected: bool) -> None:
    assert holds(text, **values) is expected


def test_an_item_that_does_not_exist_has_no_attributes() -> None:
    assert holds("attribute_not_exists(pk)", None)
    assert not holds("attribute_exists(pk)", None)
    assert not holds("s = :v", None, v={"S": "hello"})
