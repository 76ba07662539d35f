"""The two date formats of signed requests, as pure arithmetic."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_BASIC = re.compile(rb"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z", re.ASCII)
_HTTP = re.compile(rb"[A-Z][a-z]{2}, (\d\d) ([A-Z][a-z]{2}) (\d{4}) (\d\d):(\d\d):(\d\d) (?:GMT|[+-]0000)", re.ASCII)
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_date(text: bytes) -> int | None:
    """Seconds since the epoch of 20261123T185015Z, or of an HTTP date (RFC 9110, IMF-fixdate); None if neither."""
    match = _BASIC.fullmatch(text)
    if match is not None:
        year, month, day, hour, minute, second = (int(part) for part in match.groups())
    else:
        match = _HTTP.fullmatch(text)
        if match is None or match[2] not in _MONTHS:
            return None
        day, month, year = int(match[1]), _MONTHS.index(match[2]) + 1, int(match[3])
        hour, minute, second = int(match[4]), int(match[5]), int(match[6])
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    return (moment - _EPOCH) // timedelta(seconds=1)


def basic_date(seconds: int) -> bytes:
    """20261123T185015Z."""
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y%m%dT%H%M%SZ").encode()
