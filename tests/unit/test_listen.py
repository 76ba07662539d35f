"""A listener that a supervisor hands over, and the way back to it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator

import pytest

from geodyne import listen
from geodyne.listen import LEAVING, SERVING, ListenError, Supervision, open_listener, supervision


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with open_listener("127.0.0.1", 0) as opened:
        yield opened


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def test_a_process_without_a_supervisor_has_nothing_and_says_nothing() -> None:
    environment = {"PATH": "/bin"}
    alone = supervision(environment, 8000)
    alone.say(SERVING)
    assert alone == Supervision()
    assert alone.patience_s == 0.0
    assert environment == {"PATH": "/bin"}


def test_what_was_handed_over_is_taken_out_of_the_environment(listener: socket.socket) -> None:
    reader, writer = os.pipe()
    environment = {
        listen.LISTENER_VARIABLE: str(os.dup(listener.fileno())),
        listen.REPORT_VARIABLE: str(writer),
        listen.SUCCEEDS_VARIABLE: "1",
        "PATH": "/bin",
    }
    supervised = supervision(environment, port_of(listener))
    assert environment == {"PATH": "/bin"}
    assert supervised.succeeds
    assert supervised.patience_s == listen.PREDECESSOR_S
    assert supervised.listener is not None
    with supervised.listener as inherited:
        assert inherited.getsockname() == listener.getsockname()
    supervised.say(SERVING)
    supervised.say(LEAVING)
    assert os.read(reader, 100) == SERVING + LEAVING
    os.close(reader)
    os.close(writer)


def test_a_supervisor_that_has_gone_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    Supervision(report_fd=writer).say(LEAVING)
    os.close(writer)


def test_a_process_that_is_told_to_end_goes_on_until_its_supervisor_tells_it_once_more() -> None:
    reader, writer = os.pipe()

    async def main() -> None:
        stop = asyncio.Event()
        stop.set()
        relief = asyncio.ensure_future(Supervision(report_fd=writer).relieved(stop))
        for _ in range(3):
            await asyncio.sleep(0)
        assert os.read(reader, 100) == LEAVING
        assert not relief.done()
        stop.set()
        await relief

    asyncio.run(main())
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("report", [None, "broken"])
def test_a_process_that_no_supervisor_hears_goes_at_once(report: str | None) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stop = asyncio.Event()
    stop.set()
    asyncio.run(asyncio.wait_for(Supervision(report_fd=writer if report else None).relieved(stop), 5))
    os.close(writer)


def test_a_supervisor_that_says_nothing_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "RELIEF_S", 0.01)
    reader, writer = os.pipe()
    asyncio.run(asyncio.wait_for(Supervision(report_fd=writer).relieved(asyncio.Event()), 5))
    os.close(reader)
    os.close(writer)


def test_a_listener_on_another_port_than_the_launch_files_is_refused(listener: socket.socket) -> None:
    other = port_of(listener) ^ 1
    with pytest.raises(ListenError, match=f"listens on port {port_of(listener)}, the launch file says {other}"):
        supervision({listen.LISTENER_VARIABLE: str(os.dup(listener.fileno()))}, other)


@pytest.mark.parametrize("fd", ["nonsense", "-1", "100000"])
def test_what_is_no_socket_is_refused(fd: str) -> None:
    with pytest.raises(ListenError, match="is not a listening socket"):
        supervision({listen.LISTENER_VARIABLE: fd}, 8000)


def test_a_port_in_use_is_named(listener: socket.socket) -> None:
    with pytest.raises(ListenError, match=f"port {port_of(listener)} on 127.0.0.1 is already in use"):
        open_listener("127.0.0.1", port_of(listener))
