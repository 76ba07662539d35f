"""Numbers: canonical text, limits, sizes, arithmetic and order."""

from __future__ import annotations

import contextlib
import time
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geodyne.errors import ApiError
from geodyne.model import numbers


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Valid number texts over the whole range."""
    digits = draw(st.integers(0, 10**38 - 1))
    leading = draw(st.integers(-130, 125))
    exponent = leading - (len(str(digits)) - 1)
    return f"{draw(st.sampled_from(['', '-', '+']))}{digits}e{exponent}"


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0", "0"),
        ("-0", "0"),
        ("0.000", "0"),
        ("0e1000", "0"),
        ("0e-99999999999999999999", "0"),
        ("1.0", "1"),
        ("00042", "42"),
        ("3.1400", "3.14"),
        ("1.5E2", "150"),
        ("1e+5", "100000"),
        ("+3", "3"),
        (".123", "0.123"),
        ("5.", "5"),
        ("-17e5", "-1700000"),
        ("1E-3", "0.001"),
        ("1E125", "1" + "0" * 125),
        ("1E-130", "0." + "0" * 129 + "1"),
        ("9.9999999999999999999999999999999999999E+125", "9" * 38 + "0" * 88),
        ("12345678901234567890123456789012345678", "12345678901234567890123456789012345678"),
        ("-0.00012340", "-0.0001234"),
    ],
)
def test_a_number_has_one_plain_form(text: str, canonical: str) -> None:
    assert numbers.normalise(text) == canonical


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "dog", " 1", "1 ", "1e", ".", "+", "1_0", "٣", "²"])
def test_what_is_not_a_number_is_named_in_the_error(text: str) -> None:
    with pytest.raises(ApiError) as error:
        numbers.normalise(text)
    assert error.value.message == f"The parameter cannot be converted to a numeric value: {text}"


def test_an_empty_number_has_its_own_wording() -> None:
    with pytest.raises(ApiError, match=r"numeric value'\)$"):
        numbers.normalise("")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1E126", "Number overflow"),
        ("-11E125", "Number overflow"),
        ("1e99999999999999999999", "Number overflow"),
        ("1E-131", "Number underflow"),
        ("0.9e-130", "Number underflow"),
        ("1e-99999999999999999999", "Number underflow"),
        ("123456789012345678901234567890123456789", "more than 38 significant digits"),
        ("3.14159265358979323846264338327950288419", "more than 38 significant digits"),
    ],
)
def test_range_and_precision_are_limited(text: str, message: str) -> None:
    with pytest.raises(ApiError, match=message):
        numbers.normalise(text)


@pytest.mark.parametrize("text", ["9" * 1_000_000, "1e" + "9" * 1_000_000, "0" * 1_000_000 + "x", "0." + "0" * 10**6])
def test_long_texts_cost_linear_time(text: str) -> None:
    started = time.process_time()
    with contextlib.suppress(ApiError):
        numbers.normalise(text)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 1),
        ("1", 2),
        ("12", 2),
        ("123", 3),
        ("1234", 3),
        ("12345678901234567890123456789012345678", 20),
        ("100", 2),
        ("1010", 3),
        ("0.0000001", 2),
        ("1E125", 2),
        ("1E-100", 2),
        ("1.5", 3),
        ("15", 2),
        ("1.234", 4),
        ("3.14159", 5),
        ("123456", 4),
        ("100.5", 4),
        ("0.15", 2),
        ("-42", 3),
        ("-0", 1),
    ],
)
def test_sizes_are_those_measured_at_the_item_size_gate(text: str, size: int) -> None:
    assert numbers.number_size(numbers.normalise(text)) == size


@settings(max_examples=100, deadline=None)
@given(texts())
def test_canonical_text_keeps_the_value_and_is_stable(text: str) -> None:
    canonical = numbers.normalise(text)
    assert Decimal(canonical) == Decimal(text)
    assert numbers.normalise(canonical) == canonical
    assert "e" not in canonical.lower()


@settings(max_examples=150, deadline=None)
@given(texts(), texts())
def test_encoded_numbers_sort_as_their_values_and_decode(left: str, right: str) -> None:
    first, second = numbers.normalise(left), numbers.normalise(right)
    a, b = numbers.encode(first), numbers.encode(second)
    assert (a < b, a == b) == (Decimal(first) < Decimal(second), Decimal(first) == Decimal(second))
    assert numbers.decode(a) == first
    assert numbers.compare(first, second) == (Decimal(first) > Decimal(second)) - (Decimal(first) < Decimal(second))


def test_numbers_that_share_leading_digits_sort_by_value() -> None:
    ordered = [
        "-10001",
        "-1.0001",
        "-1.00010",
        "-1",
        "-0.99",
        "0",
        "1E-130",
        "0.1",
        "1",
        "1.0001",
        "1.01",
        "10",
        "10001",
    ]
    canonical = [numbers.normalise(text) for text in ordered]
    assert sorted(canonical, key=numbers.encode) == sorted(canonical, key=Decimal)


@pytest.mark.parametrize("encoded", [b"", b"\x04", b"\x03\x82", b"\x03\x82\xfa", b"\x02\x00"])
def test_other_bytes_are_no_encoded_number(encoded: bytes) -> None:
    with pytest.raises(ValueError, match="not an encoded number"):
        numbers.decode(encoded)


@settings(max_examples=100, deadline=None)
@given(st.integers(-(10**37), 10**37), st.integers(-(10**37), 10**37), st.integers(-20, 20))
def test_sums_are_exact(left: int, right: int, scale: int) -> None:
    a, b = numbers.normalise(f"{left}e{scale}"), numbers.normalise(f"{right}e{scale}")
    exact = numbers.normalise(f"{left + right}e{scale}")
    assert numbers.add(a, b) == exact
    assert numbers.subtract(exact, b) == a


def test_a_sum_beyond_range_or_precision_is_an_overflow() -> None:
    large = numbers.normalise("9.9e125")
    with pytest.raises(ApiError, match="Number overflow"):
        numbers.add(large, large)
    with pytest.raises(ApiError, match="Number overflow"):
        numbers.add(numbers.normalise("1e50"), "1")
    with pytest.raises(ApiError, match="Number underflow"):
        numbers.subtract(numbers.normalise("1.1e-130"), numbers.normalise("1e-130"))
