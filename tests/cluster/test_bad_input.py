"""What a client may send and a user may ask for that cannot be done: a clear error of the right kind, nothing lost."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.cluster.clusters import Cluster, Keys, geodyne
from tests.cluster.devservers import DevServer
from tests.cluster.tables import contents, create_table

pytestmark = pytest.mark.cluster

TABLE = "bad-input"
KEPT = {"pk": {"S": "kept"}, "v": {"N": "1"}}
KB = 1024


class Answer(NamedTuple):
    status: int
    type: str  # without its namespace
    text: str


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    with DevServer(tmp_path_factory.mktemp("bad-input") / "data", "--auth", "on") as server:
        client = server.client()
        create_table(client, TABLE)
        client.put_item(TableName=TABLE, Item=KEPT)
        client.close()
        yield server


@pytest.fixture(autouse=True)
def _shows_its_log(request: pytest.FixtureRequest, keep_log: list[Path]) -> None:
    if "server" in request.fixturenames:
        keep_log.append(request.getfixturevalue("server").log)


def assert_unharmed(server: DevServer) -> None:
    client = server.client()
    assert contents(client, TABLE) == {('{"S": "kept"}',): json.dumps(KEPT, sort_keys=True)}
    client.close()
    assert "Traceback" not in server.said()


def signed(server: DevServer, operation: str, body: bytes, keys: Keys | None = None) -> AWSRequest:
    """A request as the SDK signs it, before anything is spoilt."""
    request = AWSRequest(
        "POST",
        server.endpoint + "/",
        headers={"X-Amz-Target": f"DynamoDB_20120810.{operation}", "Content-Type": "application/x-amz-json-1.0"},
        data=body,
    )
    access_key_id, secret = keys or server.keys
    SigV4Auth(Credentials(access_key_id, secret), "dynamodb", "us-east-1").add_auth(request)
    return request


def send(server: DevServer, headers: dict[str, str], body: bytes) -> Answer:
    connection = http.client.HTTPConnection(server.endpoint.removeprefix("http://"), timeout=30)
    try:
        connection.request("POST", "/", body, headers)
        response = connection.getresponse()
        text = response.read().decode()
        assert response.headers["x-amzn-RequestId"]
    finally:
        connection.close()
    try:
        kind = json.loads(text)["__type"].rpartition("#")[2]
    except (ValueError, KeyError):
        kind = ""
    return Answer(response.status, kind, text)


def ask(server: DevServer, operation: str, body: Any) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return send(server, dict(signed(server, operation, data).headers), data)


def put(item: Any) -> dict[str, Any]:
    return {"TableName": TABLE, "Item": item}


@pytest.mark.parametrize(
    ("operation", "body", "kind"),
    [
        ("MakeCoffee", {}, "UnknownOperationException"),
        ("PutItem", b'{"TableName": "bad-input", "Item": {', "SerializationException"),
        ("PutItem", b"\xff\xfe", "SerializationException"),
        ("PutItem", b"[]", "SerializationException"),
        ("PutItem", {"TableName": 7, "Item": KEPT}, "SerializationException"),
        ("PutItem", put({"pk": {"S": 7}}), "SerializationException"),
        ("PutItem", put([]), "SerializationException"),
        ("PutItem", put({"pk": {"N": "1"}}), "ValidationException"),
        ("PutItem", put({"pk": {"S": "x"}, "n": {"N": "seven"}}), "ValidationException"),
        ("PutItem", put({"pk": {"S": "x"}, "n": {"S": "a", "N": "1"}}), "ValidationException"),
        ("PutItem", put({"v": {"S": "no key"}}), "ValidationException"),
        ("PutItem", put({**KEPT, "big": {"S": "x" * 400 * KB}}), "ValidationException"),
        (
            "UpdateItem",
            {"TableName": TABLE, "Key": {"pk": {"S": "x"}}, "UpdateExpression": "SET"},
            "ValidationException",
        ),
        ("GetItem", {"TableName": "no-such-table", "Key": {"pk": {"S": "x"}}}, "ResourceNotFoundException"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_request_that_cannot_be_meant_is_refused_by_its_kind(
    server: DevServer, operation: str, body: Any, kind: str
) -> None:
    answer = ask(server, operation, body)
    assert (answer.status, answer.type) == (400, kind)
    assert_unharmed(server)


def test_an_item_over_400_kb_is_refused_and_one_of_400_kb_is_not(server: DevServer) -> None:
    room = 400 * KB - len("pk") - len("full") - len("big")
    full = {"pk": {"S": "full"}, "big": {"S": "x" * room}}
    assert ask(server, "PutItem", put({**full, "b": {"S": ""}})).status == 400
    assert ask(server, "PutItem", put(full)).status == 200
    grown = {
        "TableName": TABLE,
        "Key": {"pk": {"S": "full"}},
        "UpdateExpression": "SET more = :more",
        "ExpressionAttributeValues": {":more": {"S": "x"}},
    }
    answer = ask(server, "UpdateItem", grown)
    assert (answer.status, answer.type) == (400, "ValidationException")
    assert "Item size" in answer.text
    assert ask(server, "DeleteItem", {"TableName": TABLE, "Key": {"pk": {"S": "full"}}}).status == 200
    assert_unharmed(server)


def test_a_body_over_16_mb_is_refused_before_it_is_read(server: DevServer) -> None:
    body = json.dumps(put({**KEPT, "big": {"S": "x" * (17 * KB * KB)}})).encode()
    assert ask(server, "PutItem", body).status == 413
    assert_unharmed(server)


def spoil_signature(headers: dict[str, str], body: bytes) -> bytes:
    head, _, signature = headers["Authorization"].rpartition("=")
    headers["Authorization"] = f"{head}={signature[:-4]}{'0000' if signature[-4:] != '0000' else '1111'}"
    return body


def change_body(headers: dict[str, str], body: bytes) -> bytes:
    return body.replace(b"kept", b"lost")


def drop_signature(headers: dict[str, str], body: bytes) -> bytes:
    del headers["Authorization"]
    return body


def half_signature(headers: dict[str, str], body: bytes) -> bytes:
    headers["Authorization"] = headers["Authorization"].partition(", Signature=")[0]
    return body


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (drop_signature, "MissingAuthenticationTokenException"),
        (half_signature, "IncompleteSignatureException"),
        (spoil_signature, "InvalidSignatureException"),
        (change_body, "InvalidSignatureException"),
    ],
)
def test_a_request_that_is_not_signed_as_it_is_sent_is_refused(
    server: DevServer, spoil: Callable[[dict[str, str], bytes], bytes], kind: str
) -> None:
    body = json.dumps({"TableName": TABLE, "Key": {"pk": KEPT["pk"]}}).encode()
    headers = dict(signed(server, "DeleteItem", body).headers)
    answer = send(server, headers, spoil(headers, body))
    assert (answer.status, answer.type) == (400, kind)
    assert_unharmed(server)


def test_an_unknown_key_id_is_refused(server: DevServer) -> None:
    body = json.dumps({"TableName": TABLE, "Key": {"pk": KEPT["pk"]}}).encode()
    stranger = Keys("AKIA0000000000000000", server.keys.secret_access_key)
    answer = send(server, dict(signed(server, "DeleteItem", body, stranger).headers), body)
    assert (answer.status, answer.type) == (400, "UnrecognizedClientException")
    assert_unharmed(server)


@pytest.mark.parametrize("away", [timedelta(minutes=-16), timedelta(minutes=16), timedelta(days=-30)])
def test_a_stale_date_is_refused(server: DevServer, away: timedelta) -> None:
    moment = datetime.now(UTC) + away
    body = json.dumps({"TableName": TABLE, "Key": {"pk": KEPT["pk"]}}).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.auth.get_current_datetime", lambda remove_tzinfo=True: moment.replace(tzinfo=None))
        request = signed(server, "DeleteItem", body)
    assert moment.strftime("%Y%m%dT%H%M") in request.headers["X-Amz-Date"], "the SDK did not take the date"
    answer = send(server, dict(request.headers), body)
    assert (answer.status, answer.type) == (400, "InvalidSignatureException")
    assert "Signature expired" in answer.text or "Signature not yet current" in answer.text
    assert_unharmed(server)


# --- the command line ---------------------------------------------------------------------------------------------


def refused(tmp_path: Path, *arguments: str, says: str) -> None:
    """The command ends with exit code 1 and one line on stderr that holds `says`."""
    done = geodyne(*arguments, state=tmp_path / "state")
    lines = [line for line in done.stderr.splitlines() if not line.startswith('{"ts"')]
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert len(lines) == 1, done.stderr
    assert says in lines[0], lines[0]
    assert "Traceback" not in done.stdout + done.stderr


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_in_use_is_told_by_both_commands(tmp_path: Path, taken_port: int) -> None:
    topology = tmp_path / "topology.toml"
    topology.write_text(f"[regions.us-east-1]\nport = {taken_port}\n")
    data = str(tmp_path / "data")
    refused(tmp_path, "up", "--topology", str(topology), "--data-dir", data, says=f"port {taken_port}")
    refused(tmp_path, "dev", "--port", str(taken_port), "--data-dir", data + "-dev", says=str(taken_port))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[regions.us-east-1\n", "line 1"),
        ("[regions.us-east-1]\nprot = 8000\n", "prot"),
        ("[regions.us-east-1]\nport = 'high'\n", "port"),
        ('[regions.us-east-1]\nzones = ["a", "b"]\n', "zones"),
        ("", "region"),
        ("[regions.us-east-1]\nport = 8000\n[regions.eu-west-1]\nport = 8000\n", "8000"),
        ("[regions.us-east-1]\n[round_trip_ms]\n'us-east-1.nowhere' = 5\n", "nowhere"),
    ],
)
def test_a_broken_topology_file_is_told_with_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    topology = tmp_path / "topology.toml"
    topology.write_text(text)
    data = tmp_path / "data"
    refused(tmp_path, "up", "--topology", str(topology), "--data-dir", str(data), says=says)
    assert not data.exists()
    refused(tmp_path, "up", "--topology", str(topology) + "-no", "--data-dir", str(data), says="cannot be read")


def test_a_data_directory_of_another_version_is_left_alone(tmp_path: Path) -> None:
    data = tmp_path / "cluster"
    data.mkdir()
    marker = {"format": 999, "cluster_id": "c", "topology": {}}
    (data / "cluster.json").write_text(json.dumps(marker))
    refused(tmp_path, "up", "--data-dir", str(data), says="format 999")
    assert json.loads((data / "cluster.json").read_text()) == marker

    (data / "cluster.json").write_text("not JSON")
    refused(tmp_path, "up", "--data-dir", str(data), says="damaged")
    assert (data / "cluster.json").read_text() == "not JSON"


def test_dev_leaves_a_data_directory_of_another_version_alone_and_goes_on_with_its_own(tmp_path: Path) -> None:
    with DevServer(tmp_path / "data") as server:
        client = server.client()
        create_table(client, TABLE)
        client.put_item(TableName=TABLE, Item=KEPT)
        client.close()
    formats = [file for file in server.data_dir.rglob("FORMAT") if b'"format"' in file.read_bytes()]
    assert len(formats) == 1
    ours = formats[0].read_text()
    formats[0].write_text(json.dumps({**json.loads(ours), "format": 999}))
    refused(tmp_path, "dev", "--port", "0", "--data-dir", str(server.data_dir), says="999")
    formats[0].write_text(json.dumps({**json.loads(ours), "cluster_id": "another"}))
    refused(tmp_path, "dev", "--port", "0", "--data-dir", str(server.data_dir), says="belongs to")
    formats[0].write_text(ours)
    with server:
        assert_unharmed(server)


def test_a_data_directory_in_use_is_not_shared(tmp_path: Path, server: DevServer) -> None:
    refused(tmp_path, "dev", "--port", "0", "--data-dir", str(server.data_dir), says="in use")
    assert_unharmed(server)


def test_a_clusters_data_directory_is_not_shared_with_another(tmp_path: Path, world: Cluster) -> None:
    topology = tmp_path / "topology.toml"
    topology.write_text("[regions.us-east-1]\n")
    before = world.processes()
    refused(tmp_path, "up", "--topology", str(topology), "--data-dir", str(world.data_dir), says="in use")
    assert world.processes() == before


def test_a_node_does_not_take_the_data_of_another_cluster(tmp_path: Path, keep_log: list[Path]) -> None:
    """Files that were moved between two clusters: the start fails with the node's own words."""
    topology = "[regions.us-east-1]\nzones = ['a']\n"
    first = Cluster(tmp_path / "first", topology)
    try:
        first.start()
    finally:
        first.close()
    (tmp_path / "second").mkdir()
    moved = tmp_path / "second" / "cluster.json"
    moved.write_text(json.dumps({**json.loads((tmp_path / "first" / "cluster.json").read_text()), "cluster_id": "x"}))
    (tmp_path / "first" / "nodes").rename(tmp_path / "second" / "nodes")
    arguments = ("--topology", str(tmp_path / "first.toml"), "--data-dir", str(tmp_path / "second"))
    refused(tmp_path, "up", *arguments, says="belongs to")
    (tmp_path / "second" / "nodes").rename(tmp_path / "first" / "nodes")
    try:
        first.start()
    finally:
        first.close()


def test_commands_without_a_cluster_say_so(tmp_path: Path) -> None:
    for command in (("status",), ("status", "--json"), ("down",), ("stop", "us-east-1/node-a")):
        refused(tmp_path, *command, says="no cluster is running")


def test_a_process_that_does_not_exist_is_told(world: Cluster) -> None:
    done = world.run("stop", "us-east-1/node-z")
    assert done.returncode == 1
    assert "us-east-1/node-a" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_status_prints_what_the_supervisor_knows(world: Cluster) -> None:
    printed = json.loads(world.run("status", "--json").stdout)
    assert printed["regions"].keys() == {"us-east-1", "eu-west-1", "ap-northeast-2"}
    assert Path(printed["credentials"]).is_file()
    ids = [process["id"] for region in printed["regions"].values() for process in region["processes"]]
    assert len(set(ids)) == len(ids) == 20
    text = world.run("status").stdout
    assert all(process in text for process in ids)
