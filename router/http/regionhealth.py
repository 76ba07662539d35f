"""What a region's router tells the global endpoint about its region, and how that is read.

GET /.geodyne/health?revision=N answers {"healthy": bool, "revision": N, "tables": [...]}; the tables are left out
when the asker's revision is the current one, so that the probes of a quiet cluster stay small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import orjson

from router.http.values import DirectAnswer, HttpRequest, HttpResponse

PATH = b"/.geodyne/health"
TABLES_MAX = 100_000
_JSON = b"application/json"


class RegionReport(NamedTuple):
    """`tables` None: unchanged since the revision that was sent."""

    healthy: bool
    revision: int
    tables: frozenset[str] | None


def region_health(
    healthy: Callable[[], bool], revision: Callable[[], int], tables: Callable[[], Iterable[str]]
) -> DirectAnswer:
    """The answer of a regional router; goes into its HttpServer's `direct_get` under PATH."""

    def answer(request: HttpRequest) -> HttpResponse:
        now = revision()
        report: dict[str, object] = {"healthy": healthy(), "revision": now}
        if request.query != b"revision=%d" % now:
            report["tables"] = list(tables())
        return HttpResponse(200, orjson.dumps(report), _JSON)

    return answer


def probe(host: str, revision: int) -> bytes:
    """The bytes of a probe."""
    return b"GET %b?revision=%d HTTP/1.1\r\nHost: %b\r\n\r\n" % (PATH, revision, host.encode())


def read_report(body: bytes) -> RegionReport | None:
    """What an answer says; None when it is not one."""
    try:
        report = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(report, dict):
        return None
    revision, tables = report.get("revision"), report.get("tables")
    if type(revision) is not int or type(report.get("healthy")) is not bool:
        return None
    if tables is None:
        return RegionReport(report["healthy"], revision, None)
    if not isinstance(tables, list) or len(tables) > TABLES_MAX or not all(type(name) is str for name in tables):
        return None
    return RegionReport(report["healthy"], revision, frozenset(tables))
