"""The command line itself: usage, exit codes, errors in one line."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from geodyne.cli import render
from geodyne.cli.__main__ import main
from geodyne.settings import load

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def own_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["up", "--auth", "maybe"], ["dev", "--port", "x"], ["dev", "--region", "US EAST"], ["stop"]],
)
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert "usage: geodyne" in capsys.readouterr().err


def test_help_documents_every_command_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    shown = capsys.readouterr().out
    for word in ("dev", "up", "status", "down", "stop", "start", "restart", "node", "130 ended by Ctrl-C"):
        assert word in shown


def test_a_public_port_in_use_is_one_line_and_nothing_is_started(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "t.toml").write_text(f"[regions.r]\nport = {port}\n")
        code = main(["up", "--topology", str(tmp_path / "t.toml"), "--data-dir", str(tmp_path / "d")])
    assert code == 1
    captured = capfd.readouterr()
    assert f"port {port} of r/router-1 is in use" in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not (tmp_path / "d" / "logs").exists()


def test_a_detached_start_that_fails_tells_the_reason(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.toml").write_text("[regions.r]\nports = 1\n")
    code = main(["up", "--detach", "--topology", str(tmp_path / "t.toml"), "--data-dir", str(tmp_path / "d")])
    assert code == 1
    assert "line 2: regions.r.ports: unknown key" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("none.toml", None, "cannot be read: No such file"),
        ("broken.toml", b"[", "not valid TOML"),
        ("binary.toml", b"\xff\xfe", "topology file"),
    ],
)
def test_a_broken_topology_file_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, content: bytes | None, expected: str
) -> None:
    if content is not None:
        (tmp_path / file).write_bytes(content)
    assert main(["up", "--topology", str(tmp_path / file), "--data-dir", str(tmp_path / "d")]) == 1
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1


def test_a_broken_credentials_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c").write_text("[default]\n")
    (tmp_path / "t.toml").write_text("[regions.r]\n")
    arguments = ["--topology", str(tmp_path / "t.toml"), "--credentials", str(tmp_path / "c")]
    assert main(["up", "--data-dir", str(tmp_path / "d"), *arguments]) == 1
    assert "lacks aws_access_key_id" in capsys.readouterr().err


def test_rendering_again_keeps_the_cluster_and_its_credentials(tmp_path: Path) -> None:
    assert main(["render", "--out", str(tmp_path)]) == 0
    before = load(tmp_path / "us-east-1-node-a.json"), (tmp_path / "credentials").read_text()
    assert main(["render", "--out", str(tmp_path)]) == 0
    config = load(tmp_path / "us-east-1-node-a.json")
    assert config.admin_token == (tmp_path / "admin-token").read_text().strip()
    assert (config, (tmp_path / "credentials").read_text()) == before
    assert config.spec.address == f"us-east-1-node-a:{render.GRPC_PORT}"
    assert config.listen.host == "0.0.0.0"
    assert load(tmp_path / "global-router-1.json").listen.port == render.HTTP_PORT


def test_help_loads_neither_the_event_loop_nor_the_parts_of_the_database() -> None:
    code = (
        "import sys\nfrom geodyne.cli.__main__ import build_parser\nbuild_parser()\n"
        "print([m for m in sys.modules if m.split('.')[0] in "
        "{'asyncio', 'grpc', 'botocore', 'orjson', 'node', 'router', 'replication', 'ssl', 'subprocess'}])"
    )
    shown = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert shown.stdout.strip() == "[]"
