"""`geodyne trigger`: what it asks for, what it waits for, and how it ends."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from geodyne import topology
from geodyne.cli import __main__ as cli
from geodyne.cli import control, trigger, triggers
from geodyne.cli.devcontrol import DevControl, control_of
from geodyne.cli.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, CommandError

UUID = "00000000-0000-4000-8000-000000000000"
ARN = "arn:aws:dynamodb:r:0:table/things/stream/label"


def mapping(state: str) -> dict[str, Any]:
    return {
        "UUID": UUID,
        "State": state,
        "EventSourceArn": ARN,
        "FunctionArn": "arn:aws:lambda:r:0:function:f",
        "LastProcessingResult": "OK",
    }


class Region:
    """Answers each operation with what it was given, the last of it again and again; an error is raised."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {name: value if isinstance(value, list) else [value] for name, value in answers.items()}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.regions: list[str | None] = []

    def __call__(self, operation: str, body: dict[str, Any], *, region: str | None = None) -> dict[str, Any]:
        self.regions.append(region)
        self.asked.append((operation, dict(body)))
        answers = self.answers[operation]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        result: dict[str, Any] = answer
        return result


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trigger, "POLL_SECONDS", 0.0)


def run(monkeypatch: pytest.MonkeyPatch, region: Region, *words: str) -> int:
    monkeypatch.setattr(trigger, "_asking", lambda _arguments: region)
    return cli.main(["trigger", *words])


def test_what_is_said_is_asked_for_under_the_names_of_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    region = Region(CreateEventSourceMapping=mapping("Enabled"))
    words = [
        "create",
        "--table",
        "things",
        "--function",
        "f",
        "--starting-position",
        "TRIM_HORIZON",
        "--disabled",
        "--batch-size",
        "7",
    ]
    words += [
        "--batching-window-s",
        "1",
        "--parallelization-factor",
        "2",
        "--max-record-age-s",
        "60",
        "--max-retries",
        "3",
    ]
    words += [
        "--tumbling-window-s",
        "4",
        "--bisect",
        "--report-failures",
        "--filter",
        "{}",
        "--on-failure",
        "file:///d",
    ]
    assert run(monkeypatch, region, *words) == EXIT_OK
    assert region.asked == [
        (
            "CreateEventSourceMapping",
            {
                "TableName": "things",
                "FunctionName": "f",
                "StartingPosition": "TRIM_HORIZON",
                "Enabled": False,
                "BatchSize": 7,
                "MaximumBatchingWindowInSeconds": 1,
                "ParallelizationFactor": 2,
                "MaximumRecordAgeInSeconds": 60,
                "MaximumRetryAttempts": 3,
                "TumblingWindowInSeconds": 4,
                "BisectBatchOnFunctionError": True,
                "FunctionResponseTypes": ["ReportBatchItemFailures"],
                "FilterCriteria": {"Filters": [{"Pattern": "{}"}]},
                "DestinationConfig": {"OnFailure": {"Destination": "file:///d"}},
            },
        )
    ]


def test_an_update_says_only_what_changes_and_can_take_back(monkeypatch: pytest.MonkeyPatch) -> None:
    region = Region(UpdateEventSourceMapping=mapping("Enabled"))
    words = ["--no-bisect", "--no-report-failures", "--no-filters", "--on-failure", ""]
    assert run(monkeypatch, region, "update", UUID, *words) == EXIT_OK
    assert region.asked[0][1] == {
        "UUID": UUID,
        "BisectBatchOnFunctionError": False,
        "FunctionResponseTypes": [],
        "FilterCriteria": {"Filters": []},
        "DestinationConfig": {"OnFailure": {"Destination": ""}},
    }
    assert run(monkeypatch, region, "update", UUID) == EXIT_FAILED
    assert run(monkeypatch, region, "update", UUID, "--filter", "{}", "--no-filters") == EXIT_FAILED


def test_a_change_is_waited_for_unless_told_not_to(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = [mapping("Enabling"), mapping("Enabled")]
    region = Region(UpdateEventSourceMapping=mapping("Enabling"), GetEventSourceMapping=shown)
    assert run(monkeypatch, region, "enable", UUID) == EXIT_OK
    assert capsys.readouterr().out == f"mapping {UUID} is Enabled\n"
    assert run(monkeypatch, region, "disable", UUID, "--no-wait", "--json") == EXIT_OK
    assert json.loads(capsys.readouterr().out) == mapping("Enabling")
    assert [name for name, _ in region.asked].count("GetEventSourceMapping") == 2


def test_a_deleted_mapping_is_waited_for_until_it_is_gone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = trigger._Refused("gone", "ResourceNotFoundException")
    region = Region(DeleteEventSourceMapping=mapping("Deleting"), GetEventSourceMapping=[mapping("Deleting"), gone])
    assert run(monkeypatch, region, "delete", UUID) == EXIT_OK
    assert capsys.readouterr().out == f"mapping {UUID} is deleted\n"


def test_a_change_that_does_not_settle_ends_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trigger, "SETTLED_SECONDS_MAX", -1.0)
    region = Region(UpdateEventSourceMapping=mapping("Updating"))
    assert run(monkeypatch, region, "update", UUID, "--batch-size", "1") == EXIT_FAILED
    assert f"mapping {UUID} is still Updating; `geodyne trigger show" in capsys.readouterr().err


def test_a_list_reads_all_pages(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pages = [{"EventSourceMappings": [mapping("Enabled")], "NextMarker": "m"}, {"EventSourceMappings": []}]
    region = Region(ListEventSourceMappings=pages)
    assert run(monkeypatch, region, "list", "--function", "f", "--region", "r") == EXIT_OK
    out = capsys.readouterr().out.split()
    assert out[-6:] == ["r", UUID, "table/things/stream/label", "f", "Enabled", "OK"]
    assert region.asked[1][1] == {"FunctionName": "f", "Marker": "m"}


def test_without_a_region_all_are_listed_and_one_that_does_not_answer_hides_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    function = {"name": "f", "kind": "http", "handler": "", "url": "http://h", "directory": "", "timeout_s": 3.0}
    away = CommandError("no router of b answers")
    region = Region(ListRegions={"regions": ["a", "b", "c"]}, ListFunctions=[{"functions": [function]}, away])
    region.answers["ListFunctions"].append({"functions": [function]})
    assert run(monkeypatch, region, "function", "list", "--json") == EXIT_FAILED
    said = capsys.readouterr()
    assert [one["region"] for one in json.loads(said.out)["functions"]] == ["a", "c"]
    assert said.err == "geodyne: b: no router of b answers\n"
    assert region.regions == [None, "a", "b", "c"]


def test_a_mapping_is_shown_with_values_as_json_has_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {**mapping("Enabled"), "BisectBatchOnFunctionError": False, "FilterCriteria": {"Filters": []}}
    assert run(monkeypatch, Region(GetEventSourceMapping=told), "show", UUID) == EXIT_OK
    lines = {line.split(maxsplit=1)[0]: line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines()}
    assert lines["State"] == "Enabled"
    assert lines["BisectBatchOnFunctionError"] == "false"
    assert lines["FilterCriteria"] == '{"Filters": []}'


def test_an_update_names_no_defaults_because_what_is_not_said_stays(capsys: pytest.CaptureFixture[str]) -> None:
    for command, expected in (("create", True), ("update", False)):
        with pytest.raises(SystemExit):
            cli.main(["trigger", command, "--help"])
        assert ("default: 100" in capsys.readouterr().out) == expected


def test_a_module_that_is_not_there_is_told_at_once_and_nothing_of_one_that_is_there_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "inner").mkdir()
    for file in ("there.py", "inner/__init__.py", "inner/there.py"):
        (tmp_path / file).write_text("raise SystemExit('it has run')\n")
    for module, found in (
        ("there", True),
        ("inner.there", True),
        ("inner.away", False),
        ("there.away", False),
        ("away", False),
        ("json", True),
    ):
        region = Region(PutFunction={"function": {"name": "f"}})
        words = ["function", "add", "f", "--handler", f"{module}:handle", "--path", str(tmp_path)]
        assert run(monkeypatch, region, *words) == EXIT_OK
        assert (f"no module {module} is found in {tmp_path}" in capsys.readouterr().err) != found


def test_a_python_function_is_a_handler_in_a_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    region = Region(PutFunction={"function": {"name": "f"}})
    words = ["--path", str(tmp_path), "--timeout-s", "5", "--memory-mb", "256", "--env", "A=b=c"]
    assert run(monkeypatch, region, "function", "add", "f", "--handler", "m:h", *words) == EXIT_OK
    assert region.asked[0][1] == {
        "name": "f",
        "kind": "python",
        "handler": "m:h",
        "directory": str(tmp_path),
        "environment": {"A": "b=c"},
        "timeout_s": 5.0,
        "memory_mb": 256,
    }


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--handler", "m:h"], "--handler needs --path"),
        (["--handler", "m:h", "--path", "/nowhere/at/all"], "is not a directory"),
        (["--handler", "m:h", "--path", "/", "--env", "x"], "--env takes NAME=VALUE"),
        (["--url", "http://h", "--memory-mb", "128"], "go with --handler only"),
    ],
)
def test_a_function_that_is_described_wrongly_is_not_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], text: str
) -> None:
    region = Region()
    assert run(monkeypatch, region, "function", "add", "f", *words) == EXIT_FAILED
    assert text in capsys.readouterr().err
    assert region.asked == []


@pytest.mark.parametrize(
    "words",
    [["create", "--function", "f"], ["function", "add", "f"], ["function", "add", "f", "--url", "u", "--handler", "h"]],
)
def test_wrong_usage_has_an_exit_code_of_its_own(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, Region(), *words)
    assert ended.value.code == EXIT_USAGE


def test_geodyne_dev_is_found_by_its_data_directory_while_it_runs(tmp_path: Path) -> None:
    async def administer(arguments: dict[str, Any]) -> dict[str, Any]:
        if arguments["operation"] == "Refuse":
            return {"error": "no", "code": "C"}
        return {"result": arguments}

    async def ask(request: dict[str, Any]) -> dict[str, Any]:
        path = control_of(tmp_path)
        assert path is not None
        return await asyncio.to_thread(control.call, path, request, 5.0)

    async def scenario() -> None:
        served = DevControl(tmp_path, "here", administer)
        await served.start()
        try:
            request = {"command": "trigger", "region": None, "operation": "List", "body": {"a": 1}}
            assert await ask(request) == {"result": {"operation": "List", "body": {"a": 1}}}
            assert await ask({**request, "operation": "ListRegions"}) == {"result": {"regions": ["here"]}}
            assert await ask({**request, "operation": "Refuse"}) == {"refused": "no", "code": "C"}
            for wrong in ({"command": "status"}, {**request, "region": "there"}):
                with pytest.raises(CommandError):
                    await ask(wrong)
        finally:
            await served.stop()

    asyncio.run(scenario())
    assert control_of(tmp_path) is None
    (tmp_path / "control.json").write_text('{"control": "/gone/control"}')
    assert control_of(tmp_path) is None, "one that was killed left its file behind"


def test_the_supervisor_knows_its_regions_and_does_not_guess_which_one_is_meant() -> None:
    async def scenario() -> None:
        several = topology.default()
        named = await triggers.administer(several, {}, {"operation": "ListRegions", "region": None}, "token")
        assert named == {"result": {"regions": list(several.regions)}}
        with pytest.raises(CommandError, match="which region"):
            await triggers.administer(several, {}, {"operation": "ListFunctions", "region": None}, "token")

    asyncio.run(scenario())
