"""grpc.aio's polling thread outlives every stream: its teardown, run by the collector, could hang the process."""

from __future__ import annotations

import asyncio
import gc
import threading

import geodyne.rpc.stream  # holds the reference
from geodyne.rpc.server import GrpcServer


def test_collecting_the_last_grpc_object_does_not_tear_grpc_down() -> None:
    async def serve_and_stop() -> None:
        server = GrpcServer()
        await server.start()
        await server.stop()

    assert geodyne.rpc.stream is not None
    asyncio.run(serve_and_stop())
    gc.collect()
    assert any("_poll_wrapper" in thread.name for thread in threading.enumerate())
