"""What a region's router tells the global endpoint about its region, and how that is read.

GET /.geodyne/health?revision=N answers {"healthy": bool, "revision": N, "tables": [...], "check": {...}}. The tables
are left out when the asker's revision is the current one, so that the probes of a quiet cluster stay small. The check
is a Verdict of router.healthcheck: what a real write and a real read have come to, and when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import orjson

from geodyne.catalog import SYSTEM_PREFIX
from router.healthcheck import Verdict
from router.http.values import DirectAnswer, HttpRequest, HttpResponse

PATH = b"/.geodyne/health"
TABLES_MAX = 100_000
_JSON = b"application/json"


class RegionReport(NamedTuple):
    """`tables` None: unchanged since the revision that was sent. `checked` False: the region has only begun to look,
    so it knows nothing yet. `check` is for reports."""

    healthy: bool
    revision: int
    tables: frozenset[str] | None
    checked: bool
    check: dict[str, Any]

    @property
    def trouble(self) -> str:
        """Why it is not healthy, for people."""
        error = self.check.get("error")
        return f"its health check fails: {error}" if error else "the region says that it is not healthy"


def region_health(
    verdict: Callable[[], Verdict], revision: Callable[[], int], tables: Callable[[], Iterable[str]]
) -> DirectAnswer:
    """The answer of a regional router; goes into its HttpServer's `direct_get` under PATH."""

    def answer(request: HttpRequest) -> HttpResponse:
        now = revision()
        found = verdict()
        check = {
            "checked": found.checked,
            "age_ms": found.age_ms,
            "write_ms": round(found.write_ms, 1),
            "read_ms": round(found.read_ms, 1),
            "error": found.error,
        }
        report: dict[str, object] = {"healthy": found.healthy, "revision": now, "check": check}
        if request.query != b"revision=%d" % now:
            report["tables"] = [name for name in tables() if not name.startswith(SYSTEM_PREFIX)]
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
    revision, tables, check = report.get("revision"), report.get("tables"), report.get("check", {})
    if type(revision) is not int or type(report.get("healthy")) is not bool or not isinstance(check, dict):
        return None
    names = None
    if tables is not None:
        if not isinstance(tables, list) or len(tables) > TABLES_MAX or not all(type(name) is str for name in tables):
            return None
        names = frozenset(tables)
    # A router of an older version tells of no check: what it says is all that it knows.
    return RegionReport(report["healthy"], revision, names, check.get("checked", True) is True, check)
