"""The launch file of a process: what is written is what is read, and nothing half-right is accepted."""

from __future__ import annotations

import json
import logging
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from geodyne import topology
from geodyne.cli import launch
from geodyne.settings import Endpoint, ProcessConfig, SettingsError, load, save

TOKEN = "0123456789abcdef" * 4


def configs() -> dict[str, ProcessConfig]:
    shape = topology.default()
    purposes = launch.internal_purposes(shape)
    resolved = launch.on_loopback(shape, {purpose: 20_000 + n for n, purpose in enumerate(purposes)})
    options = launch.ClusterOptions("c1", Path("/c"), auth=True, capacity="enforce", log_level="info")
    return {p.id: launch.process_config(p, resolved, options, Path("/d")) for p in resolved.processes()}


def test_a_launch_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    for config in configs().values():
        save(config, tmp_path / "x.json")
        assert load(tmp_path / "x.json") == config


def test_routers_listen_on_the_public_ports_and_no_address_is_used_twice() -> None:
    made = configs()
    assert made["us-east-1/router-1"].listen == Endpoint("127.0.0.1", 8000)
    assert made["global/router-1"].listen == Endpoint("127.0.0.1", 8100)
    takers = [config for config in made.values() if config.role != topology.ROLE_DELIVERY]
    addresses = [config.listen for config in takers] + [config.metrics for config in made.values()]
    assert len(set(addresses)) == len(takers) + len(made)


def test_delivery_which_nobody_dials_has_its_metrics_address_only() -> None:
    made = [config for config in configs().values() if config.role == topology.ROLE_DELIVERY]
    assert len(made) == 3
    assert all(config.listen == config.metrics == launch.endpoint(config.spec.address) for config in made)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"format": 2}, "format 2 is not known"),
        ({"role": "king"}, "role must be one of"),
        ({"capacity": "none"}, "capacity must be one of"),
        ({"auth": True}, "auth must be on or off"),
        ({"process_id": "us-east-1/node-z"}, "is not a process of the topology"),
        ({"zone": "b"}, "differ from those in the topology"),
        ({"listen": {"host": "", "port": 1}}, "listen must be a host and a port"),
        ({"metrics": 9000}, "metrics must be an object"),
        ({"data_dir": ""}, "data_dir must be given"),
        ({"credentials": ""}, "credentials must name a file"),
        ({"colour": "red"}, "colour is unknown"),
        ({"topology": {}}, "topology is malformed"),
        ({"cluster_id": ""}, "cluster_id must not be empty"),
        ({"log_level": 3}, "log_level must be a text"),
        ({"admin_token": 3}, "admin_token must be a text"),
        ({"admin_token": "short"}, "admin_token must be 32 to 128"),
        ({"admin_token": "a\r\n" * 20}, "admin_token must be 32 to 128"),
    ],
)
def test_a_wrong_member_is_refused_by_name(tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(json.dumps({**configs()["us-east-1/node-a"].to_json(), **change}))
    with pytest.raises(SettingsError, match=expected) as caught:
        load(file)
    assert str(file) in str(caught.value)


def test_a_missing_or_broken_launch_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        load(tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"format":')
    with pytest.raises(SettingsError, match="not a JSON file"):
        load(tmp_path / "half.json")


def test_a_router_without_a_credentials_file_must_not_check_signatures(tmp_path: Path) -> None:
    router = configs()["us-east-1/router-1"]
    save(replace(router, credentials="", auth=False), tmp_path / "x.json")
    with pytest.raises(SettingsError, match="credentials"):
        save(replace(router, credentials=""), tmp_path / "x.json")


def test_a_launch_file_is_for_its_user_alone_even_where_an_older_one_was_not(tmp_path: Path) -> None:
    file, left_behind = tmp_path / "x.json", tmp_path / "x.json.new"
    for older in (file, left_behind):
        older.write_text("{}")
        older.chmod(0o644)
    save(replace(configs()["us-east-1/node-a"], admin_token=TOKEN), file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert load(file).admin_token == TOKEN
    assert not left_behind.exists()


def test_an_older_launch_file_has_no_admin_token(tmp_path: Path) -> None:
    save(configs()["us-east-1/node-a"], tmp_path / "x.json")
    assert "admin_token" not in json.loads((tmp_path / "x.json").read_text())
    assert load(tmp_path / "x.json").admin_token == ""


def test_the_admin_token_is_told_by_no_representation_log_line_or_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = launch.ClusterOptions("c", Path("/c"), True, "enforce", "info", admin_token=TOKEN)
    config = replace(configs()["us-east-1/node-a"], admin_token=TOKEN)
    logging.getLogger("geodyne.test").warning("started", extra={"config": config, "options": options})
    logging.getLogger("geodyne.test").warning("%s %r", config, options)
    assert TOKEN not in f"{config!r} {options!r} {caplog.text} {[vars(record) for record in caplog.records]}"
    for spoilt in (TOKEN + "!", [TOKEN]):
        (tmp_path / "x.json").write_text(json.dumps({**config.to_json(), "admin_token": spoilt}))
        with pytest.raises(SettingsError, match="admin_token must be") as caught:
            load(tmp_path / "x.json")
        assert TOKEN not in str(caught.value)
