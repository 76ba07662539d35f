"""Client links, node servers and peer networks over real gRPC on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import grpc.aio
import pytest

from geodyne import messages as m
from geodyne import peermessages as pm
from geodyne.rpc import server as servers
from geodyne.rpc import stream as streams
from geodyne.rpc.client import CLIENT_CONTRACT, GrpcConnector
from geodyne.rpc.codec import STREAM_FORMAT, encode_client_batch
from geodyne.rpc.delay import DelayedLinks
from geodyne.rpc.peers import GrpcPeerNetwork
from geodyne.rpc.server import AddressUnavailable, GrpcNodeServer
from geodyne.rpc.stream import BatchStream, StreamRefused, check_hello, sealed

BOUND_S = 8.0  # how long a test may wait for something before it counts as not happening


def hello(process_id: str, cluster: str = "c", format: int = STREAM_FORMAT) -> pm.Hello:
    return pm.Hello(cluster, "us-east-1", process_id, 7, format)


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, BOUND_S))


class Echo:
    """Answers every request with a Written that carries its id; remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[Sequence[m.Request]] = []

    def on_requests(self, requests: Sequence[m.Request], reply: Callable[[m.Response], None]) -> None:
        self.batches.append(requests)
        for request in requests:
            reply(m.Response(request.id, m.Written(request.id, 0)))


class Events:
    """Remembers what a client link or a peer network reports; `until` waits for it."""

    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []
        self._changed = asyncio.Event()

    def _note(self, *what: Any) -> None:
        self.log.append(what)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def kinds(self) -> list[str]:
        return [entry[0] for entry in self.log]

    def received(self) -> list[Any]:
        return [item for entry in self.log if entry[0] == "items" for item in entry[2]]

    def on_connected(self, node_id: str) -> None:
        self._note("up", node_id)

    def on_responses(self, node_id: str, responses: Sequence[m.Response]) -> None:
        self._note("items", node_id, responses)

    def on_disconnected(self, node_id: str, reason: str) -> None:
        self._note("down", node_id, reason)

    def on_peer_connected(self, peer: str, hello: pm.Hello) -> None:
        self._note("up", peer, hello)

    def on_peer_messages(self, peer: str, messages: Sequence[pm.PeerMessage]) -> None:
        self._note("items", peer, messages)

    def on_peer_disconnected(self, peer: str, reason: str) -> None:
        self._note("down", peer, reason)


def get(id: int) -> m.Request:
    return m.Request(id, m.Get(1, 1, b"k", True), None, 1_000)


async def read_to_the_end(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


def test_what_is_queued_in_one_turn_travels_as_one_batch_and_in_order():
    async def main() -> None:
        node, events = Echo(), Events()
        server = GrpcNodeServer("127.0.0.1:0", hello("n"), node)
        link = GrpcConnector(hello("r")).open("n", f"127.0.0.1:{await server.start()}", events)
        await events.until(lambda: link.connected)
        for id in range(500):
            link.send(get(id))
        await events.until(lambda: len(events.received()) == 500)
        assert [response.id for response in events.received()] == list(range(500))
        assert len(node.batches) == 1
        assert server.clients == 1
        await link.close()
        assert events.kinds()[-1] == "down"
        await server.stop()

    run(main())


def test_a_link_comes_back_after_the_node_restarted_and_says_so():
    async def main() -> None:
        node, events = Echo(), Events()
        server = GrpcNodeServer("127.0.0.1:0", hello("n"), node)
        port = await server.start()
        link = GrpcConnector(hello("r")).open("n", f"127.0.0.1:{port}", events)
        await events.until(lambda: link.connected)
        await server.stop()
        await events.until(lambda: not link.connected)
        link.send(get(1))  # dropped without a word: the owner has heard of the disconnection
        server = GrpcNodeServer(f"127.0.0.1:{port}", hello("n"), node)
        await server.start()
        await events.until(lambda: link.connected)
        link.send(get(2))
        await events.until(lambda: bool(events.received()))
        assert [response.id for response in events.received()] == [2]
        assert events.kinds()[:3] == ["up", "down", "up"]
        await link.close()
        await server.stop()

    run(main())


@pytest.mark.parametrize("refused", [False, True])
def test_a_link_that_is_closed_while_it_is_being_greeted_closes(refused, monkeypatch):
    greet = streams.StreamDialer._greet
    greeted: list[asyncio.Future[None]] = []
    ended = asyncio.Event()

    async def held(dialer: Any, call: Any) -> pm.Hello:
        other = await greet(dialer, call)
        greeted.append(asyncio.get_running_loop().create_future())
        ended.set()
        await greeted[-1]
        if refused:
            raise StreamRefused("not welcome")
        return other

    monkeypatch.setattr(streams.StreamDialer, "_greet", held)

    async def main() -> None:
        server = GrpcNodeServer("127.0.0.1:0", hello("n"), Echo())
        link = GrpcConnector(hello("r")).open("n", f"127.0.0.1:{await server.start()}", Events())
        await ended.wait()
        greeted[0].set_result(None)
        await asyncio.sleep(0)  # the greeting has ended, and who waits for it has not yet heard
        await link.close()
        assert len(greeted) == 1
        await server.stop()

    run(main())


@pytest.mark.parametrize(
    ("other", "expected", "reason"),
    [
        (hello("n", cluster="d"), None, "belongs to cluster d, not to c"),
        (hello("n", format=99), None, "speaks stream format 99"),
        (hello("n"), "o", "n answers at the address of o"),
    ],
)
def test_a_hello_that_does_not_fit_is_refused(other, expected, reason):
    with pytest.raises(StreamRefused, match=reason):
        check_hello(hello("r"), other, expected)


@pytest.mark.parametrize(
    ("client", "dialled"),
    [(hello("r", cluster="other"), "n"), (hello("r", format=STREAM_FORMAT + 1), "n"), (hello("r"), "another node")],
)
def test_a_mismatch_keeps_the_link_down_and_is_logged_once(client, dialled, caplog):
    async def main() -> None:
        node, events = Echo(), Events()
        server = GrpcNodeServer("127.0.0.1:0", hello("n"), node)
        link = GrpcConnector(client).open(dialled, f"127.0.0.1:{await server.start()}", events)
        await asyncio.sleep(0.3)  # several attempts
        assert events.log == []
        assert len([r for r in caplog.records if "is down" in r.message]) == 1
        await link.close()
        await server.stop()

    run(main())


def test_a_port_in_use_is_a_clear_error():
    async def main() -> None:
        server = GrpcNodeServer("127.0.0.1:0", hello("n"), Echo())
        address = f"127.0.0.1:{await server.start()}"
        with pytest.raises(AddressUnavailable, match=f"cannot listen on {address}"):
            await GrpcNodeServer(address, hello("m"), Echo()).start()
        await server.stop()

    run(main())


def test_bytes_that_are_no_batch_close_that_stream_only():
    async def main() -> None:
        node, events = Echo(), Events()
        server = GrpcNodeServer("127.0.0.1:0", hello("n"), node)
        address = f"127.0.0.1:{await server.start()}"
        link = GrpcConnector(hello("r")).open("n", address, events)
        await events.until(lambda: link.connected)
        async with grpc.aio.insecure_channel(address) as channel:
            # The bad bytes come last: a write after them could fail with a status of the sender's own.
            for frames in ([b"\xff\xff"], [CLIENT_CONTRACT.encode_hello(hello("x")), sealed(b"\xff\xff")]):
                call = channel.stream_stream("/geodyne.node.v1.Node/Exchange")()
                for frame in frames:
                    await call.write(frame)
                with pytest.raises(grpc.aio.AioRpcError, match="not a client batch"):
                    await read_to_the_end(call)
        link.send(get(1))
        await events.until(lambda: bool(events.received()))
        assert events.kinds() == ["up", "items"]
        await link.close()
        await server.stop()

    run(main())


def test_a_defect_of_the_handler_costs_its_stream_only(caplog):
    class Defective(Echo):
        def on_requests(self, requests: Sequence[m.Request], reply: Callable[[m.Response], None]) -> None:
            if requests[0].id == 13:
                raise ZeroDivisionError
            super().on_requests(requests, reply)

    async def main() -> None:
        bad, good = Events(), Events()
        server = GrpcNodeServer("127.0.0.1:0", hello("n"), Defective())
        address = f"127.0.0.1:{await server.start()}"
        links = [GrpcConnector(hello("r")).open("n", address, events) for events in (bad, good)]
        await bad.until(lambda: links[0].connected)
        await good.until(lambda: links[1].connected)
        links[0].send(get(13))
        await bad.until(lambda: "down" in bad.kinds())
        links[1].send(get(1))
        await good.until(lambda: bool(good.received()))
        for link in links:
            await link.close()
        await server.stop()

    run(main())
    assert "receiving a batch failed" in caplog.text


def test_a_client_that_does_not_read_is_cut_off():
    class Flood(Echo):
        def __init__(self) -> None:
            super().__init__()
            self.replies = 0

        def on_requests(self, requests: Sequence[m.Request], reply: Callable[[m.Response], None]) -> None:
            for request in requests:
                for _ in range(64):
                    reply(m.Response(request.id, m.Found(bytes(1 << 16), 0)))
                    self.replies += 1

    async def main() -> None:
        node = Flood()
        server = GrpcNodeServer("127.0.0.1:0", hello("n"), node)
        address = f"127.0.0.1:{await server.start()}"
        async with grpc.aio.insecure_channel(address) as channel:
            call = channel.stream_stream("/geodyne.node.v1.Node/Exchange")()
            await call.write(CLIENT_CONTRACT.encode_hello(hello("x")))
            await call.read()
            for _ in range(40):  # 160 MB of answers, none of them read
                if server.clients == 0:
                    break
                try:
                    await call.write(sealed(encode_client_batch([get(1)])))
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    break
                await asyncio.sleep(0.005)
            with pytest.raises(grpc.aio.AioRpcError, match="does not read its answers"):
                await read_to_the_end(call)
            assert server.clients == 0
        await server.stop()

    run(main())


def test_a_full_queue_answers_busy_and_an_oversized_request_is_refused(monkeypatch):
    async def main() -> None:
        events = Events()
        server = GrpcNodeServer("127.0.0.1:0", hello("n"), Echo())
        link = GrpcConnector(hello("r")).open("n", f"127.0.0.1:{await server.start()}", events)
        await events.until(lambda: link.connected)
        monkeypatch.setattr(streams, "QUEUE_ITEMS_MAX", 2)
        for id in range(3):
            link.send(get(id))
        change = m.Change(b"k", b"v", bytes(streams.ITEM_BYTES_MAX), 0)
        link.send(m.Request(9, m.ApplyChanges(1, 1, (change,)), None, 1))
        await events.until(lambda: len(events.received()) == 4)
        answers = {response.id: response.answer for response in events.received()}
        assert isinstance(answers[2], m.Busy)
        assert isinstance(answers[9], m.Refused)
        assert isinstance(answers[0], m.Written)
        await link.close()
        await server.stop()

    run(main())


def test_an_answer_too_large_to_travel_is_answered_by_an_error():
    class Large(Echo):
        def on_requests(self, requests: Sequence[m.Request], reply: Callable[[m.Response], None]) -> None:
            reply(m.Response(requests[0].id, m.Found(bytes(streams.ITEM_BYTES_MAX), 0)))

    async def main() -> None:
        events = Events()
        server = GrpcNodeServer("127.0.0.1:0", hello("n"), Large())
        link = GrpcConnector(hello("r")).open("n", f"127.0.0.1:{await server.start()}", events)
        await events.until(lambda: link.connected)
        link.send(get(1))
        await events.until(lambda: bool(events.received()))
        assert events.received()[0].answer.code == "InternalServerError"
        await link.close()
        await server.stop()

    run(main())


# --- batches ----------------------------------------------------------------------------------------------


def batches_of(items: list[bytes], encode: Callable[[Any], bytes] = b"".join) -> list[list[bytes]]:
    async def main() -> list[list[bytes]]:
        contract = streams.Contract(encode, lambda data: [], len)
        stream = BatchStream(contract, None, None, hello("x"), STREAM_FORMAT)  # type: ignore[arg-type]
        assert all(stream.send(item) for item in items)
        taken = []
        while stream._queue:
            taken.append(stream._take())
        assert stream.queued_bytes == 0
        return taken

    return asyncio.run(main())


def test_a_batch_is_bounded_by_count():
    taken = batches_of([b"x"] * (streams.BATCH_ITEMS_MAX * 2 + 1))
    assert [len(batch) for batch in taken] == [streams.BATCH_ITEMS_MAX, streams.BATCH_ITEMS_MAX, 1]


def test_a_batch_is_bounded_by_bytes_but_holds_at_least_one_item():
    large = bytes(streams.BATCH_BYTES_MAX + 1)
    third = bytes(streams.BATCH_BYTES_MAX // 3)
    taken = batches_of([large, third, third, third, third, large])
    assert [len(batch) for batch in taken] == [1, 3, 1, 1]
    assert b"".join(b"".join(batch) for batch in taken) == b"".join([large, third * 4, large])


def test_items_that_weigh_more_than_they_said_are_split_by_their_real_size(monkeypatch):
    async def main() -> None:
        monkeypatch.setattr(streams, "MESSAGE_BYTES_MAX", 1_000)
        contract = streams.Contract(lambda items: b"".join(items) * 3, lambda data: [], len)  # type: ignore[arg-type]
        stream = BatchStream(contract, None, None, hello("x"), STREAM_FORMAT)  # type: ignore[arg-type]
        item = bytes(250)
        assert [len(data) // 3 // len(item) for data in stream._encoded([item] * 4)] == [1, 1, 1, 1]

    asyncio.run(main())


# --- peers ------------------------------------------------------------------------------------------------


class Pair:
    """Nodes a and b, each with a server and a peer network, connected."""

    async def start(self, links: DelayedLinks | None = None) -> Pair:
        self.a, self.b = Events(), Events()
        self.network_b = GrpcPeerNetwork(hello("b"), {"a": "127.0.0.1:1"}, self.b)
        self.server = GrpcNodeServer("127.0.0.1:0", hello("b"), Echo(), self.network_b)
        self.address = f"127.0.0.1:{await self.server.start()}"
        dialled = self.address if links is None else await links.via(self.address, 0, always=True)
        self.network_a = GrpcPeerNetwork(hello("a"), {"b": dialled}, self.a)
        self.network_a.start()
        self.network_b.start()
        await self.a.until(lambda: self.network_a.connected("b"))
        await self.b.until(lambda: self.network_b.connected("a"))
        return self

    async def stop(self) -> None:
        await self.network_a.close()
        await self.network_b.close()
        await self.server.stop()


def test_one_stream_carries_both_directions_of_a_pair():
    async def main() -> None:
        pair = await Pair().start()
        assert pair.a.log[0][:2] == ("up", "b")
        assert pair.a.log[0][2].incarnation == 7
        for number in range(100):
            pair.network_a.send("b", pm.TimeoutNow(1, number))
            pair.network_b.send("a", pm.TimeoutNow(2, number))
        await pair.a.until(lambda: len(pair.a.received()) == 100)
        await pair.b.until(lambda: len(pair.b.received()) == 100)
        assert [message.term for message in pair.a.received()] == list(range(100))
        assert [message.term for message in pair.b.received()] == list(range(100))
        pair.network_a.send("nobody", pm.TimeoutNow(1, 1))
        await pair.stop()
        await pair.b.until(lambda: not pair.network_b.connected("a"))
        assert pair.a.kinds()[-1] == pair.b.kinds()[-1] == "down"

    run(main())


def test_a_full_queue_resets_the_peer_stream_and_it_comes_back(monkeypatch):
    async def main() -> None:
        pair = await Pair().start()
        monkeypatch.setattr(streams, "QUEUE_ITEMS_MAX", 2)
        for number in range(3):
            pair.network_b.send("a", pm.TimeoutNow(1, number))
        await pair.a.until(lambda: pair.a.kinds().count("up") == 2)
        await pair.b.until(lambda: pair.b.kinds().count("up") == 2)
        assert pair.b.kinds()[:3] == ["up", "down", "up"]
        assert "full" in pair.b.log[1][2]
        await pair.stop()

    run(main())


def test_a_peer_that_dials_again_replaces_its_old_stream():
    async def main() -> None:
        pair = await Pair().start()
        second = Events()
        again = GrpcPeerNetwork(hello("a"), {"b": pair.address}, second)
        again.start()
        await pair.b.until(lambda: pair.b.kinds()[:3] == ["up", "down", "up"])
        await again.close()
        await pair.stop()

    run(main())


def test_a_peer_that_is_removed_is_let_go_and_may_come_back_only_as_a_member():
    async def main() -> None:
        pair = await Pair().start()
        await pair.network_b.members_changed({"c": "127.0.0.1:2"})
        await pair.b.until(lambda: not pair.network_b.connected("a"))
        with pytest.raises(StreamRefused, match="a is no peer of b"):
            pair.network_b._admit(hello("a"))
        await pair.network_b.members_changed({"a": "127.0.0.1:3"})
        await pair.b.until(lambda: pair.network_b.connected("a"))
        await pair.stop()

    run(main())


def test_a_peer_that_is_added_is_dialled_and_streams_to_the_others_stay_up():
    async def main() -> None:
        pair = await Pair().start()
        third = Events()
        network_c = GrpcPeerNetwork(hello("c"), {"a": "127.0.0.1:1"}, third)
        server = GrpcNodeServer("127.0.0.1:0", hello("c"), Echo(), network_c)
        address = f"127.0.0.1:{await server.start()}"
        await pair.network_a.members_changed({"b": pair.address, "c": address})
        await third.until(lambda: network_c.connected("a"))
        assert "down" not in pair.a.kinds()
        await pair.network_a.members_changed({"b": pair.address})
        await third.until(lambda: not network_c.connected("a"))
        assert pair.network_a.connected("b")
        await network_c.close()
        await server.stop()
        await pair.stop()

    run(main())


@pytest.mark.parametrize(("who", "reason"), [("stranger", "is no peer of b"), ("c", "not the other way round")])
def test_only_the_smaller_of_two_known_peers_may_dial(who, reason):
    network = GrpcPeerNetwork(hello("b"), {"a": "127.0.0.1:1", "c": "127.0.0.1:2"}, None)  # type: ignore[arg-type]
    with pytest.raises(StreamRefused, match=reason):
        network._admit(hello(who))


def test_a_silent_connection_is_noticed_within_the_keepalive_bound(monkeypatch):
    assert streams.KEEPALIVE_MS + streams.KEEPALIVE_TIMEOUT_MS <= 2_000
    quick = {"grpc.keepalive_time_ms": 200, "grpc.http2.ping_timeout_ms": 200}
    for module, name in ((streams, "channel_options"), (servers, "server_options")):
        merged = tuple({**dict(getattr(module, name)()), **quick}.items())
        monkeypatch.setattr(module, name, lambda _ping_ms, merged=merged: merged)

    async def main() -> None:
        links = DelayedLinks()
        pair = await Pair().start(links)
        links.block(pair.address)
        began = asyncio.get_running_loop().time()
        await pair.a.until(lambda: "down" in pair.a.kinds())
        await pair.b.until(lambda: "down" in pair.b.kinds())
        assert asyncio.get_running_loop().time() - began < 2.0
        links.unblock(pair.address)
        await pair.a.until(lambda: pair.a.kinds().count("up") == 2)
        await pair.stop()
        await links.close()

    run(main())
