"""`geodyne node`: what it waits for, what it says meanwhile, and how it ends."""

from __future__ import annotations

import argparse
import json
from typing import Any

import pytest

from geodyne.cli import node
from geodyne.cli.errors import EXIT_INTERRUPTED, EXIT_OK, CommandError
from geodyne.cli.options import add_rebuild_option, add_ttl_options

NODE = "r/node-a"


def listed(state: str, replicas: int, joining: int = 0, moves: int = 0, process: str = "running") -> dict[str, Any]:
    member = {"node": NODE, "zone": "a", "state": state, "replicas": replicas, "joining": joining}
    return {
        "regions": {"r": {"members": [member] if state else [], "moves": moves}},
        "processes": {NODE: {"region": "r", "zone": "a", "pid": 1, "state": process}},
    }


class Supervisor:
    """Answers `node_list` with one account after the other, the last one again and again; an exception is raised."""

    def __init__(self, *accounts: Any) -> None:
        self.requests: list[dict[str, Any]] = []
        self._accounts = list(accounts)

    def __call__(self, request: dict[str, Any]) -> dict[str, Any]:
        self.requests.append(request)
        if request["command"] == "node_add":
            return {"node": NODE, "zone": "a", "region": "r", "data_dir": "/d"}
        if request["command"] != "node_list":
            return {"node": NODE, "state": "DRAINING", "replicas": 2, "joining": 0}
        account = self._accounts.pop(0) if len(self._accounts) > 1 else self._accounts[0]
        if isinstance(account, BaseException):
            raise account
        answer: dict[str, Any] = account
        return answer


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "POLL_SECONDS", 0.0)


def arguments(**given: Any) -> argparse.Namespace:
    defaults = {
        "node": NODE,
        "force": False,
        "no_wait": False,
        "json": False,
        "zone": "a",
        "region": None,
        "name": None,
    }
    return argparse.Namespace(**{**defaults, **given})


def test_draining_waits_until_nothing_is_left_and_tells_each_change_once(capsys: pytest.CaptureFixture[str]) -> None:
    ask = Supervisor(
        listed("DRAINING", 2), listed("DRAINING", 2), listed("", 0), listed("DRAINING", 1), listed("DRAINING", 0)
    )
    assert node._drain(arguments(), ask) == EXIT_OK
    assert capsys.readouterr().out.splitlines() == [
        "r/node-a: 2 replicas left",
        "r/node-a: 1 replica left",
        "r/node-a is drained",
    ]
    assert ask.requests[0] == {"command": "node_drain", "node": NODE, "force": False}


def test_with_json_standard_output_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert node._drain(arguments(json=True), Supervisor(listed("DRAINING", 1), listed("DRAINING", 0))) == EXIT_OK
    shown = capsys.readouterr()
    assert json.loads(shown.out)["replicas"] == 0
    assert "1 replica left" in shown.err


def test_ctrl_c_leaves_the_work_going_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert node._drain(arguments(), Supervisor(listed("DRAINING", 1), KeyboardInterrupt())) == EXIT_INTERRUPTED
    assert "draining r/node-a goes on; `geodyne node list` shows how far it is" in capsys.readouterr().err


def test_without_waiting_the_command_returns_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    ask = Supervisor(listed("DRAINING", 2))
    assert node._drain(arguments(no_wait=True), ask) == EXIT_OK
    assert len(ask.requests) == 1
    assert capsys.readouterr().out == "r/node-a is being drained\n"


def test_a_drain_that_another_command_called_off_fails() -> None:
    with pytest.raises(CommandError, match="was made active again meanwhile"):
        node._drain(arguments(), Supervisor(listed("DRAINING", 2), listed("ACTIVE", 2)))


def test_waiting_ends_when_nothing_moves_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "STALLED_SECONDS_MAX", 0.0)
    with pytest.raises(CommandError, match=r"2 replicas left, and nothing has changed .* draining r/node-a goes on"):
        node._drain(arguments(), Supervisor(listed("DRAINING", 2)))


def test_a_node_is_added_once_it_runs_is_known_and_nothing_has_been_on_its_way_for_a_while(
    capsys: pytest.CaptureFixture[str],
) -> None:
    quiet = [listed("ACTIVE", 3)] * node.SETTLED_POLLS
    ask = Supervisor(
        listed("", 0, process="starting"), listed("", 0), *quiet[1:], listed("ACTIVE", 1, joining=1, moves=1), *quiet
    )
    assert node._add(arguments(), ask) == EXIT_OK
    assert capsys.readouterr().out.splitlines() == [
        "r/node-a is starting in zone a; its data goes to /d",
        "r/node-a is starting",
        "r/node-a runs and is yet to be known to its region",
        "r/node-a has 3 replicas, 0 on their way",
        "r/node-a has 1 replica, 1 on their way",
        "r/node-a has 3 replicas, 0 on their way",
        "r/node-a is added",
    ]


def test_the_list_shows_nodes_that_their_region_does_not_tell_of_too() -> None:
    account = listed("", 0, process="stopped")
    account["regions"]["r"]["error"] = "nobody answers"
    text = node.as_text(account)
    assert "r/node-a  a     unknown                     stopped" in text
    assert "the region does not say more: nobody answers" in text
    assert "2 replicas on their way" in node.as_text(listed("ACTIVE", 3, moves=2))


def test_a_node_that_is_being_drained_is_shown_as_drained_once_nothing_is_on_it() -> None:
    assert "DRAINING  1" in node.as_text(listed("DRAINING", 1))
    assert "DRAINED  0" in node.as_text(listed("DRAINING", 0))


@pytest.mark.parametrize("text", ["0.5", "x", "-1", "1e9", "nan"])
def test_a_time_to_rebuild_out_of_bounds_is_wrong_usage(text: str) -> None:
    parser = argparse.ArgumentParser()
    add_rebuild_option(parser)
    assert parser.parse_args(["--rebuild-after", "3"]).rebuild_after == 3.0
    with pytest.raises(SystemExit):
        parser.parse_args([f"--rebuild-after={text}"])


@pytest.mark.parametrize("text", ["0", "x", "-1", "1e9", "nan"])
def test_a_time_between_looks_for_expired_items_out_of_bounds_is_wrong_usage(text: str) -> None:
    parser = argparse.ArgumentParser()
    add_ttl_options(parser, change_interval_s=7.0)
    assert parser.parse_args(["--ttl-interval", "0.5"]).ttl_interval == 0.5
    assert parser.parse_args(["--ttl-change-interval", "0"]).ttl_change_interval == 0.0
    assert parser.parse_args([]).ttl_change_interval == 7.0
    with pytest.raises(SystemExit):
        parser.parse_args([f"--ttl-interval={text}"])
