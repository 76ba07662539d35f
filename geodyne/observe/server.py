"""The small HTTP server that every process has beside its real one: metrics, health, status, administration.

GET /metrics, GET /healthz (200 or 503), GET /status, pages of a process's own, POST /admin/<name>. One request a
connection.

Administration can change what code runs, so it is taken only from this machine, only as JSON, and with the process's
token where it has one: other users of the machine reach the port, but not the launch file. What a browser sends for a
name that somebody points at this machine (DNS rebinding) is refused by its Host. The other pages answer under any
name, for those who scrape and probe by name; they change nothing.
"""

from __future__ import annotations

import asyncio
import errno
import hmac
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import orjson
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from geodyne.listen import listen_error
from geodyne.settings import ADMIN_TOKEN_HEADER

log = logging.getLogger("geodyne.observe")

HEADER_BYTES_MAX = 16 * 1024
BODY_BYTES_MAX = 1024 * 1024
QUERY_PARAMETERS_MAX = 16
CONNECTIONS_MAX = 64
REQUEST_S_MAX = 10.0
ADMIN_S_MAX = 60.0
BIND_AGAIN_S = 0.02

Report = Callable[[], dict[str, Any]]
Page = Callable[[Mapping[str, str]], tuple[int, dict[str, Any]]]  # query parameters to status and JSON
AdminCall = Callable[[dict[str, Any]], dict[str, Any] | Awaitable[dict[str, Any]]]
_JSON = "application/json"


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class _Request(NamedTuple):
    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes


class ObserveServer:
    """`health()` must have a boolean member `healthy`; `status()` is any JSON; `admin` maps names to calls, `pages`
    further paths to what answers a GET there. With an `admin_token` those calls need the header ADMIN_TOKEN_HEADER."""

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        *,
        health: Report,
        status: Report,
        admin: Mapping[str, AdminCall] | None = None,
        pages: Mapping[str, Page] | None = None,
        admin_token: str = "",
    ) -> None:
        self._host = host
        self._port = port
        self._registry = registry
        self._health = health
        self._status = status
        self._admin: Mapping[str, AdminCall] = admin or {}
        self._pages: Mapping[str, Page] = pages or {}
        self._admin_token = admin_token
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[Any]] = set()

    async def start(self, patience_s: float = 0.0) -> int:
        """Listen; returns the port. An address in use is tried again for `patience_s`. Raises ListenError."""
        loop = asyncio.get_running_loop()
        latest = loop.time() + patience_s
        while self._server is None:
            try:
                self._server = await asyncio.start_server(self._serve, self._host, self._port, limit=HEADER_BYTES_MAX)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or loop.time() >= latest:
                    raise listen_error(self._host, self._port, error) from error
                await asyncio.sleep(BIND_AGAIN_S)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._connections):
            task.cancel()
        if self._connections:
            await asyncio.wait(list(self._connections))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._exchange(reader, writer)
        except (OSError, asyncio.CancelledError, TimeoutError, asyncio.IncompleteReadError) as error:
            log.debug("connection ended early", extra={"cause": repr(error)})
        finally:
            self._connections.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if len(self._connections) > CONNECTIONS_MAX:
                raise _Refused(503, "too many connections")
            request = await asyncio.wait_for(_read(reader), REQUEST_S_MAX)
            status, content_type, answer = await self._answer(request, writer)
        except _Refused as refused:
            status, content_type, answer = refused.status, _JSON, orjson.dumps({"error": refused.message})
        except (TimeoutError, asyncio.IncompleteReadError):
            raise
        except Exception as error:
            log.exception("request failed")
            status, content_type, answer = 500, _JSON, orjson.dumps({"error": type(error).__name__})
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {content_type}\r\n"
            f"Content-Length: {len(answer)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode() + answer)
        await asyncio.wait_for(writer.drain(), REQUEST_S_MAX)

    async def _answer(self, request: _Request, writer: asyncio.StreamWriter) -> tuple[int, str, bytes]:
        path, _, query = request.path.partition("?")
        if path.startswith("/admin/"):
            self._authorise(request, writer)
            return 200, _JSON, orjson.dumps(await self._administer(request, path.removeprefix("/admin/")))
        if request.method != "GET":
            raise _Refused(405, "only GET here")
        if path == "/metrics":
            return 200, CONTENT_TYPE_LATEST, generate_latest(self._registry)
        if path == "/healthz":
            health = self._health()
            return (200 if health.get("healthy") else 503), _JSON, orjson.dumps(health)
        if path == "/status":
            return 200, _JSON, orjson.dumps(self._status())
        if path in self._pages:
            code, answer = self._pages[path](_parameters(query))
            return code, _JSON, orjson.dumps(answer)
        raise _Refused(404, "not found")

    def _authorise(self, request: _Request, writer: asyncio.StreamWriter) -> None:
        """Raises _Refused for a request that may not administer this process."""
        if not _is_local(writer):
            raise _Refused(403, "administration is open to this machine only")
        if not _names_this_machine(request.headers.get("host", ""), self._host):
            raise _Refused(403, "administration is asked for at an IP address or localhost, not at a host name")
        sent = request.headers.get(ADMIN_TOKEN_HEADER.lower(), "")
        if self._admin_token and not hmac.compare_digest(sent.encode(), self._admin_token.encode()):
            raise _Refused(403, f"administration needs the header {ADMIN_TOKEN_HEADER}: admin_token of the launch file")

    async def _administer(self, request: _Request, name: str) -> dict[str, Any]:
        call = self._admin.get(name)
        if call is None:
            raise _Refused(404, f"no administration call {name!r}")
        if request.method != "POST":
            raise _Refused(405, "only POST here")
        try:
            arguments = orjson.loads(request.body or b"{}")
        except orjson.JSONDecodeError:
            raise _Refused(400, "the body is not JSON") from None
        if not isinstance(arguments, dict):
            raise _Refused(400, "the body is not a JSON object")
        answer = call(arguments)
        if isinstance(answer, dict):
            return answer
        try:
            return await asyncio.wait_for(_awaited(answer), ADMIN_S_MAX)
        except TimeoutError:
            raise _Refused(504, f"{name} did not end within {ADMIN_S_MAX:.0f} s") from None


async def _awaited(answer: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    return await answer


async def _read(reader: asyncio.StreamReader) -> _Request:
    """One request. Raises _Refused for what is not HTTP or beyond a bound."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise _Refused(431, "headers too large") from None
    lines = head.decode("latin-1").split("\r\n")
    request = lines[0].split(" ")
    if len(request) != 3 or not request[2].startswith("HTTP/1."):
        raise _Refused(400, "not an HTTP request")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if "transfer-encoding" in headers:
        raise _Refused(411, "a length is required")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise _Refused(400, "bad Content-Length")
    if len(length) > 9 or int(length) > BODY_BYTES_MAX:
        raise _Refused(413, "body too large")
    if request[0] == "POST" and headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
        raise _Refused(415, "send application/json")
    return _Request(request[0], request[1], headers, await reader.readexactly(int(length)))


def _parameters(query: str) -> dict[str, str]:
    """Raises _Refused for too many."""
    try:
        return dict(parse_qsl(query, max_num_fields=QUERY_PARAMETERS_MAX))
    except ValueError:
        raise _Refused(400, "too many query parameters") from None


def _is_local(writer: asyncio.StreamWriter) -> bool:
    peer = writer.get_extra_info("peername")
    return bool(peer) and ipaddress.ip_address(peer[0].partition("%")[0]).is_loopback


def _names_this_machine(host_header: str, listening_host: str) -> bool:
    """Whether a Host header is an IP address, localhost or what is listened on, with or without a port: none of these
    is a name whose owner decides what it resolves to."""
    bracketed, _, rest = host_header.partition("]")
    host = bracketed.removeprefix("[") if rest or host_header.endswith("]") else host_header.partition(":")[0]
    if host.lower() in ("localhost", listening_host.lower()):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
