"""DynamoDB numbers: decimals of up to 38 significant digits, magnitude 1E-130 to 9.99...E+125, kept as text.

Canonical text is unique per value and is what DynamoDB returns: plain digits without an exponent, no leading or
trailing zeros that carry nothing, no "+", zero without a sign ("1.50" is "1.5", "1E3" is "1000", "-0" is "0").
Equal numbers are therefore equal strings, and most comparisons and all set operations need no arithmetic.

Source of limits and rounding rules: Developer Guide, "Data types", Number. Arithmetic is exact or an error.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal, Inexact, InvalidOperation

from geodyne.errors import validation
from geodyne.limits import NUMBER_DIGITS_MAX, NUMBER_EXPONENT_MAX, NUMBER_EXPONENT_MIN

_OVERFLOW = "Number overflow. Attempting to store a number with magnitude larger than supported range"
_UNDERFLOW = "Number underflow. Attempting to store a number with magnitude smaller than supported range"
_PRECISION = f"Attempting to store more than {NUMBER_DIGITS_MAX} significant digits in a Number"
_NOT_NUMERIC = "The parameter cannot be converted to a numeric value"

_NUMBER = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?)([0-9]+))?")

# An exponent of more digits than this is out of range whatever mantissa a 16 MB body can hold; it is never converted,
# because the conversion of long digit strings takes quadratic time.
_EXPONENT_DIGITS_MAX = 9

# Sums of two numbers in range span at most 126 + 130 + 38 digits.
_EXACT = Context(prec=400, Emax=10**6, Emin=-(10**6), traps=[Inexact, InvalidOperation])

_SHORT = 18  # digits: sums of such integers stay far inside the range, so plain ints do


def normalise(text: str) -> str:
    """Canonical text of a number. Raises ApiError (ValidationException) with DynamoDB's wording."""
    if text.isdigit() and text.isascii() and len(text) <= NUMBER_DIGITS_MAX and (text[0] != "0" or len(text) == 1):
        return text
    return _canonical(text, _PRECISION)


def _canonical(text: str, too_precise: str) -> str:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise validation(f"{_NOT_NUMERIC}: {text}")
    sign, whole, fraction, exponent_sign, exponent_digits = match.groups()
    fraction = fraction or ""
    if not whole and not fraction:
        raise validation(f"{_NOT_NUMERIC}: {text}" if text else _NOT_NUMERIC)
    significant = (whole + fraction).lstrip("0")
    if not significant:
        return "0"  # whatever its exponent: "0e1000" is zero
    # Power of ten of the first significant digit.
    leading = len(whole) - 1 - (len(whole) + len(fraction) - len(significant))
    if exponent_digits:
        exponent_digits = exponent_digits.lstrip("0") or "0"
        if len(exponent_digits) > _EXPONENT_DIGITS_MAX:
            raise validation(_UNDERFLOW if exponent_sign == "-" else _OVERFLOW)
        leading += -int(exponent_digits) if exponent_sign == "-" else int(exponent_digits)
    if leading > NUMBER_EXPONENT_MAX:
        raise validation(_OVERFLOW)
    if leading < NUMBER_EXPONENT_MIN:
        raise validation(_UNDERFLOW)
    significant = significant.rstrip("0")
    if len(significant) > NUMBER_DIGITS_MAX:
        raise validation(too_precise)
    return _plain(sign == "-", significant, leading)


def _plain(negative: bool, digits: str, leading: int) -> str:
    """Plain notation of 0 < d.ddd x 10**leading, `digits` without leading or trailing zeros."""
    if leading >= len(digits) - 1:
        text = digits + "0" * (leading - len(digits) + 1)
    elif leading >= 0:
        text = f"{digits[: leading + 1]}.{digits[leading + 1 :]}"
    else:
        text = f"0.{'0' * (-leading - 1)}{digits}"
    return "-" + text if negative else text


def number_size(text: str) -> int:
    """Bytes that DynamoDB counts for a canonical number.

    One byte, plus one for each started pair of significant digits before the point and again behind it, plus one
    for a minus sign. Source: the published measurements of the 400 KB gate (23 literals, e.g. 0: 1, 100: 2, 1.5: 3,
    3.14159: 5, -42: 3); the guide's "one byte per two digits plus one" rounds differently.
    """
    size = 1
    if text[0] == "-":
        size, text = 2, text[1:]
    whole, point, fraction = text.partition(".")
    if not point:
        return size + (len(whole.rstrip("0")) + 1) // 2
    if whole == "0":
        return size + (len(fraction.lstrip("0")) + 1) // 2
    return size + (len(whole) + 1) // 2 + (len(fraction) + 1) // 2


def add(left: str, right: str) -> str:
    """Exact sum of two canonical numbers, canonical. Raises ApiError when it has no exact 38-digit form."""
    if len(left) <= _SHORT and len(right) <= _SHORT and "." not in left and "." not in right:
        return str(int(left) + int(right))
    return _result(_EXACT.add(Decimal(left), Decimal(right)))


def subtract(left: str, right: str) -> str:
    """Exact difference of two canonical numbers, canonical. Raises ApiError when it has no exact 38-digit form."""
    if len(left) <= _SHORT and len(right) <= _SHORT and "." not in left and "." not in right:
        return str(int(left) - int(right))
    return _result(_EXACT.subtract(Decimal(left), Decimal(right)))


def _result(value: Decimal) -> str:
    # DynamoDB calls a sum that needs more than 38 digits an overflow too.
    return _canonical(f"{value:f}", _OVERFLOW)


def compare(left: str, right: str) -> int:
    """-1, 0 or 1 as the first canonical number is smaller than, equal to or larger than the second."""
    if left == right:
        return 0
    return -1 if order(left) < order(right) else 1


def order(text: str) -> Decimal | int:
    """A value that sorts as the number does; for sorting and comparing canonical numbers."""
    if len(text) <= _SHORT and "." not in text:
        return int(text)
    return Decimal(text)


# --- bytes whose order is the numeric order ----------------------------------------------------------------
#
#   zero      02
#   positive  03  exponent+130  digits, two to a byte (BCD)
#   negative  01  255-(exponent+130)  digits, each byte as FE-b, then FF
#
# Digits have no trailing zero pair, so of two positive numbers where one's digits begin with the other's, the longer
# is larger, as byte order has it. For negative numbers the FF behind the last digits reverses that.

_NEGATIVE, _ZERO, _POSITIVE = 1, 2, 3
_COMPLEMENT = bytes((0xFE - byte) % 256 for byte in range(256))  # its own inverse


def encode(text: str) -> bytes:
    """Order-preserving bytes of a canonical number, at most 22."""
    if text == "0":
        return b"\x02"
    negative = text[0] == "-"
    whole, _, fraction = (text[1:] if negative else text).partition(".")
    if whole == "0":
        digits = fraction.lstrip("0")
        exponent = len(digits) - len(fraction) - 1
    else:
        digits = (whole + fraction).rstrip("0")
        exponent = len(whole) - 1
    packed = bytes.fromhex(digits + "0" if len(digits) % 2 else digits)
    biased = exponent - NUMBER_EXPONENT_MIN
    if negative:
        return bytes((_NEGATIVE, 255 - biased)) + packed.translate(_COMPLEMENT) + b"\xff"
    return bytes((_POSITIVE, biased)) + packed


def decode(encoded: bytes) -> str:
    """Canonical text of an encoded number. Raises ValueError when the bytes are not one."""
    if encoded == b"\x02":
        return "0"
    if len(encoded) < 3 or encoded[0] not in (_NEGATIVE, _POSITIVE):
        raise ValueError("not an encoded number")
    negative = encoded[0] == _NEGATIVE
    packed = encoded[2:-1].translate(_COMPLEMENT) if negative else encoded[2:]
    digits = packed.hex().rstrip("0")
    if not digits.isdecimal():
        raise ValueError("not an encoded number")
    biased = 255 - encoded[1] if negative else encoded[1]
    return _plain(negative, digits, biased + NUMBER_EXPONENT_MIN)
