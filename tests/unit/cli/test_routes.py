"""`geodyne routes`: what it asks for and what it shows."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from geodyne import topology
from geodyne.cli import __main__ as cli
from geodyne.cli import probe, routes, routing
from geodyne.cli.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, CommandError

CHECK = {"checked": True, "age_ms": 200, "write_ms": 3.1, "read_ms": 0.4, "error": ""}
SHOWN: dict[str, Any] = {
    "regions": {
        "us-east-1": {"healthy": True, "reason": "", "for_ms": 61_000, "tables": 2, "check": CHECK},
        "eu-west-1": {"healthy": False, "reason": "refused", "for_ms": 0, "tables": 0, "check": {}},
    },
    "policy": {"policy": "nearest", "source": "configuration"},
    "tables": {
        "orders": {"policy": "weighted", "weights": {"us-east-1": 3}, "affinity": "client", "source": "run time"}
    },
    "location": "us-east-1",
    "places": {"cork": "eu-west-1"},
    "networks": {"10.0.0.0/8": "eu-west-1"},
    "keys": {},
    "trusted_proxies": [],
    "changes_survive_restarts": True,
}
FOUND: dict[str, Any] = {
    "table": "orders",
    "origin": "eu-west-1",
    "origin_reason": "header",
    "policy": {"policy": "failover", "order": ["eu-west-1", "us-east-1"]},
    "routes": [{"region": "us-east-1", "reason": "fail-over from eu-west-1"}],
    "regions": [
        {"region": "eu-west-1", "healthy": False, "has_table": True, "round_trip_ms": 0.0},
        {"region": "us-east-1", "healthy": True, "has_table": True, "round_trip_ms": 76.0},
    ],
    "replicas": [{"region": "us-east-1", "status": "ACTIVE", "round_trip_ms": 76.0}],
}
Asked = list[dict[str, Any]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What the commands ask of the endpoint."""
    requests: Asked = []

    def ask(_arguments: object, request: dict[str, Any]) -> dict[str, Any]:
        requests.append(request)
        return FOUND if request["operation"] == "find" else SHOWN

    monkeypatch.setattr(routes, "ask", ask)
    return requests


def test_regions_policies_and_places_are_shown(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["routes"]) == EXIT_OK
    shown = capsys.readouterr().out
    for text in ("write 3.1 ms, read 0.4 ms", "down   0 s", "never", "default policy: nearest", "weighted us-east-1=3"):
        assert text in shown
    assert "changes last as long as" not in shown
    assert cli.main(["routes", "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out) == SHOWN


def test_a_table_or_a_place_asks_for_one_decision(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["routes", "--table", "orders", "--from", "cork"]) == EXIT_OK
    assert asked == [{"operation": "find", "table": "orders", "from": "cork", "address": None}]
    shown = capsys.readouterr().out
    assert "goes to: us-east-1 (fail-over from eu-west-1)" in shown
    assert "failover eu-west-1 us-east-1" in shown
    assert "76 ms       up     ACTIVE" in shown


def test_a_table_that_no_region_has_is_said_to_be_none() -> None:
    nowhere = {**FOUND, "regions": [{**known, "has_table": False} for known in FOUND["regions"]]}
    assert routes.route_as_text(nowhere).startswith("no region has a table orders\n")
    assert "no region has" not in routes.route_as_text(FOUND)


@pytest.mark.parametrize(
    ("words", "request_"),
    [
        (["set", "nearest"], {"table": None, "policy": {"policy": "nearest"}}),
        (["set", "pinned", "r", "--table", "t"], {"table": "t", "policy": {"policy": "pinned", "region": "r"}}),
        (["set", "failover", "r", "s"], {"table": None, "policy": {"policy": "failover", "order": ["r", "s"]}}),
        (
            ["set", "--affinity", "connection", "weighted", "r=3", "s=0"],
            {"table": None, "policy": {"policy": "weighted", "weights": {"r": 3, "s": 0}, "affinity": "connection"}},
        ),
    ],
)
def test_a_policy_is_set_in_words(words: list[str], request_: dict[str, Any], asked: Asked) -> None:
    assert cli.main(["routes", *words]) == EXIT_OK
    assert asked == [{"operation": "set", **request_}]


def test_a_policy_is_reset(asked: Asked) -> None:
    assert cli.main(["routes", "reset", "--table", "t"]) == EXIT_OK
    assert asked == [{"operation": "reset", "table": "t"}]


@pytest.mark.parametrize("words", [["nearest", "r"], ["pinned"], ["pinned", "r", "s"], ["weighted", "r"]])
def test_words_that_make_no_policy_are_refused(
    words: list[str], asked: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["routes", "set", *words]) == EXIT_FAILED
    assert "takes" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        cli.main(["routes", "set", "fastest"])
    assert ended.value.code == EXIT_USAGE


@pytest.mark.parametrize("policy", [SHOWN["policy"], SHOWN["tables"]["orders"], FOUND["policy"]])
def test_a_policy_is_shown_in_the_words_that_set_it(policy: dict[str, Any]) -> None:
    kind, *regions = routes.in_words(policy).split()
    again = routes.policy_of(kind, regions, None)
    assert again == {name: value for name, value in policy.items() if name not in ("source", "affinity")}


def test_the_supervisor_passes_the_call_on_and_says_when_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    clusters = topology.default()
    answers: list[probe.Answer | None] = [probe.Answer(200, b'{"error": "no"}'), None]
    posted = []

    async def post(
        address: str, call: str, body: dict[str, Any], token: str, seconds_max: float
    ) -> probe.Answer | None:
        posted.append((call, body, token))
        return answers.pop(0)

    monkeypatch.setattr(probe, "administer", post)
    request = {"command": "routes", "operation": "show", "table": None}
    assert asyncio.run(routing.administer(clusters, {}, request, "secret")) == {"refused": "no", "code": ""}
    assert posted == [("routes", {"operation": "show"}, "secret")]
    with pytest.raises(CommandError, match="global/router-1 does not answer"):
        asyncio.run(routing.administer(clusters, {}, request, "secret"))


def test_without_a_cluster_the_command_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["routes", "--data-dir", str(tmp_path)]) == EXIT_FAILED
    assert "no cluster is running" in capsys.readouterr().err
