"""On-failure destinations: a record that was taken is kept, and a refusal is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from delivery.destinations import DestinationError, open_destination
from delivery.events import FailureDocument
from tests.unit.delivery.http_peer import Peer, response, with_peer

DOCUMENT = FailureDocument("aws/lambda/m/shard/2026/01/02/x", b'{"version":"1.0"}')


def put(text: str) -> None:
    destination = open_destination(text)
    assert destination is not None
    asyncio.run(destination.put(DOCUMENT))


def test_no_destination_is_none() -> None:
    assert open_destination("") is None


def test_a_directory_has_one_file_a_record_also_when_it_comes_again(tmp_path: Path) -> None:
    directory = tmp_path / "given up"
    for _ in range(2):
        put(f"file://{directory}".replace(" ", "%20"))
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert files == [directory / DOCUMENT.name]
    assert files[0].read_bytes() == DOCUMENT.body


def test_a_directory_that_cannot_be_written_refuses(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DestinationError):
        put(f"file://{tmp_path}/file")


def test_an_endpoint_takes_a_record_with_any_2xx_and_refuses_with_all_else() -> None:
    async def use(peer: Peer) -> None:
        destination = open_destination(peer.url)
        assert destination is not None
        await destination.put(DOCUMENT)
        for _ in range(2):
            with pytest.raises(DestinationError):
                await destination.put(DOCUMENT)
        assert [request.body for request in peer.requests] == [DOCUMENT.body] * 3

    with_peer(use, response(204), response(503), b"")
