"""Translated conditions against what the documentation says that each comparison operator means, on generated items."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from geodyne.expressions import evaluate_condition
from geodyne.model.values import canonical
from router.api.legacy import translate_read

Value = dict[str, Any]

strings = st.text(alphabet="ab", max_size=3)
numbers = st.integers(-3, 3).map(str)
blobs = st.binary(max_size=2).map(lambda raw: b64encode(raw).decode())
scalars = st.one_of(
    strings.map(lambda text: {"S": text}), numbers.map(lambda n: {"N": n}), blobs.map(lambda raw: {"B": raw})
)
others = st.one_of(st.booleans().map(lambda flag: {"BOOL": flag}), st.just({"NULL": True}))
sets = st.one_of(
    st.lists(strings, min_size=1, max_size=3, unique=True).map(lambda each: {"SS": each}),
    st.lists(numbers, min_size=1, max_size=3, unique=True).map(lambda each: {"NS": each}),
    st.lists(blobs, min_size=1, max_size=3, unique=True).map(lambda each: {"BS": each}),
)
documents = st.one_of(
    st.lists(scalars | others, max_size=3).map(lambda each: {"L": each}),
    st.dictionaries(strings.filter(bool), scalars, max_size=2).map(lambda each: {"M": each}),
)
values = scalars | others | sets | documents


def plain(value: Value) -> Any:
    """A value as Python has it, with its type: equal exactly when DynamoDB's values are."""
    ((tag, content),) = value.items()
    if tag == "N":
        return tag, Decimal(content)
    if tag in ("B", "S"):
        return tag, b64decode(content) if tag == "B" else content.encode()
    if tag in ("SS", "NS", "BS"):
        return tag, frozenset(plain({tag[0]: element}) for element in content)
    if tag == "L":
        return tag, [plain(element) for element in content]
    if tag == "M":
        return tag, {name: plain(element) for name, element in content.items()}
    return tag, content


def contains(held: Any, sought: Any) -> bool:
    tag, content = held
    if tag in ("S", "B"):
        return bool(sought[0] == tag and sought[1] in content)
    return tag in ("SS", "NS", "BS", "L") and sought in content


def ordered(compare: Callable[[Any, Any], bool]) -> Callable[..., bool]:
    return lambda held, bound: held is not None and held[0] == bound[0] and compare(held[1], bound[1])


MEANINGS: dict[str, Callable[..., bool]] = {
    "EQ": lambda held, wanted: held == wanted,
    "NE": lambda held, wanted: held != wanted,
    "LT": ordered(lambda held, bound: held < bound),
    "LE": ordered(lambda held, bound: held <= bound),
    "GT": ordered(lambda held, bound: held > bound),
    "GE": ordered(lambda held, bound: held >= bound),
    "BETWEEN": lambda held, low, high: held is not None and held[0] == low[0] and low[1] <= held[1] <= high[1],
    "IN": lambda held, *choices: held in choices,
    "BEGINS_WITH": ordered(lambda held, start: held.startswith(start)),
    "CONTAINS": lambda held, sought: held is not None and contains(held, sought),
    "NOT_CONTAINS": lambda held, sought: held is not None and not contains(held, sought),
    "NULL": lambda held: held is None,
    "NOT_NULL": lambda held: held is not None,
}


@st.composite
def conditions(draw: st.DrawFn) -> Value:
    operator = draw(st.sampled_from(sorted(MEANINGS)))
    if operator in ("NULL", "NOT_NULL"):
        return {"ComparisonOperator": operator}
    if operator in ("EQ", "NE"):
        operands = [draw(values)]
    elif operator in ("CONTAINS", "NOT_CONTAINS"):
        operands = [draw(scalars | others)]
    elif operator == "BEGINS_WITH":
        operands = [draw(scalars.filter(lambda value: "N" not in value))]
    else:
        first = draw(scalars)
        alike = scalars.filter(lambda value: value.keys() == first.keys())
        more = {"BETWEEN": 1, "IN": draw(st.integers(0, 3))}.get(operator, 0)
        operands = sorted([first, *(draw(alike) for _ in range(more))], key=lambda value: plain(value)[1])
    return {"ComparisonOperator": operator, "AttributeValueList": operands}


def meant(condition: Value, held: Value | None) -> bool:
    operands = [plain(value) for value in condition.get("AttributeValueList", ())]
    return MEANINGS[condition["ComparisonOperator"]](None if held is None else plain(held), *operands)


@settings(max_examples=400, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abc"), values, max_size=3),
    st.dictionaries(st.sampled_from("abcd"), conditions(), min_size=1, max_size=3),
    st.sampled_from([None, "AND", "OR"]),
)
def test_conditions_mean_what_the_documentation_says(
    item: dict[str, Value], filters: dict[str, Value], joined: str | None
) -> None:
    body: dict[str, Any] = {"ScanFilter": filters}
    if joined is not None and len(filters) > 1:
        body["ConditionalOperator"] = joined
    translated = translate_read(body, "ScanFilter")
    stored = {name: canonical(value)[0] for name, value in item.items()}
    tree = translated.checked.filter
    assert tree is not None
    holds = evaluate_condition(tree, stored, translated.checked.names, translated.checked.values)
    each = [meant(condition, item.get(name)) for name, condition in filters.items()]
    assert holds == (any(each) if "ConditionalOperator" in body and joined == "OR" else all(each))
