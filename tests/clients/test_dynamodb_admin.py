"""dynamodb-admin: its server is started against the region, and its pages are used as a browser would use them."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.clients.nodejs import MODULES, NODE, require_clients
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

PROGRAM = MODULES / "dynamodb-admin" / "dist" / "dynamodb-admin.js"
LISTENING = re.compile(r"listening on http://127\.0\.0\.1:(\d+)")
STOP_S_MAX = 10.0
REQUEST_S_MAX = 30.0
TABLE = "clients-admin"
# What the page sends, but for the units: the browser makes texts of those (see the test of it below).
FORM: dict[str, Any] = {
    "TableDefinition": {
        "TableName": TABLE,
        "HashAttributeName": "pk",
        "HashAttributeType": "S",
        "RangeAttributeName": "sk",
        "RangeAttributeType": "N",
        "ReadCapacityUnits": 3,
        "WriteCapacityUnits": 3,
    },
    "SecondaryIndexes": [],
}
INDEX = {
    "IndexName": "by-colour",
    "IndexType": "global",
    "HashAttributeName": "colour",
    "HashAttributeType": "S",
    "RangeAttributeName": "sk",
    "RangeAttributeType": "N",
    "ReadCapacityUnits": 3,
    "WriteCapacityUnits": 3,
}


class Page(NamedTuple):
    status: int
    text: str


class Admin:
    """The pages of a running dynamodb-admin."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_S_MAX)

    def request(self, method: str, path: str, body: Any = None) -> Page:
        payload = None if body is None else json.dumps(body).encode()
        self._connection.request(method, path, payload, {"Content-Type": "application/json"} if payload else {})
        response = self._connection.getresponse()
        return Page(response.status, response.read().decode())

    def tables(self) -> dict[str, dict[str, Any]]:
        """Every table by name, as the program's own description of them has it. It lists, then describes each: a table
        that is gone in between fails the page, and a second look shows the rest."""
        page = self.request("GET", "/api/tables")
        while page.status == 500 and "Requested resource not found: Table: clients-" in page.text:
            page = self.request("GET", "/api/tables")
        assert page.status == 200, page
        return {table["TableName"]: table for table in json.loads(page.text)}

    def items(self, table: str, **query: Any) -> list[dict[str, Any]]:
        """The rows that the page of a table shows for these values of its search form."""
        text = {name: value if isinstance(value, str) else json.dumps(value) for name, value in query.items()}
        page = self.request("GET", f"/tables/{table}/items?{urllib.parse.urlencode(text)}")
        assert page.status == 200, page
        return [
            {name: value for name, value in item.items() if name != "__key"} for item in json.loads(page.text)["Items"]
        ]

    def put(self, path: str, item: dict[str, Any]) -> None:
        """Save an item. The program reads it back eventually consistent, so it may say at once that it is not there."""
        page = self.request("PUT", path, item)
        assert page.status == 200 or page == Page(404, "Not found"), page

    def create(self, form: dict[str, Any]) -> None:
        assert self.request("POST", "/create-table", form) == Page(204, "")
        name = form["TableDefinition"]["TableName"]
        until(f"{name} is ACTIVE", lambda: self.tables()[name]["TableStatus"] == "ACTIVE")

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def admin(request: pytest.FixtureRequest) -> Iterator[Admin]:
    require_clients()
    environment: dict[str, str] = request.getfixturevalue("environment")
    endpoint: str = request.getfixturevalue("endpoint")
    options = ["--host", "127.0.0.1", "--port", "0", "--dynamo-endpoint", endpoint, "--skip-default-credentials"]
    log: Path = request.getfixturevalue("tmp_path_factory").mktemp("admin") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(NODE), str(PROGRAM), *options],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        port = until("dynamodb-admin listens", lambda: LISTENING.search(log.read_text()))[1]
        admin = Admin(int(port))
        yield admin
        admin.close()
    finally:
        process.terminate()
        process.wait(STOP_S_MAX)


@pytest.fixture(scope="module")
def made(admin: Admin) -> Iterator[str]:
    """A table made with the form, provisioned, without indexes."""
    admin.create(FORM)
    yield TABLE
    assert admin.request("DELETE", f"/tables/{TABLE}").status == 204
    until("the table is gone", lambda: TABLE not in admin.tables())


def test_the_front_page_lists_what_the_form_made(admin: Admin, made: str) -> None:
    page = admin.request("GET", "/")
    assert page.status == 200
    assert f'data-table-name="{made}"' in page.text
    table = admin.tables()[made]
    assert table["ProvisionedThroughput"]["ReadCapacityUnits"] == 3
    assert [key["AttributeName"] for key in table["KeySchema"]] == ["pk", "sk"]


def test_every_page_of_a_table_is_rendered(admin: Admin, made: str) -> None:
    for page in ("", "/get", "/meta", "/add-item"):
        answer = admin.request("GET", f"/tables/{made}{page}")
        assert (answer.status, made in answer.text) == (200, True), page
    assert admin.request("GET", f"/tables/{made}/items/none,1") == Page(404, "Not found")


def test_an_item_is_added_shown_edited_and_deleted(admin: Admin, made: str) -> None:
    item = {"pk": "a", "sk": 1, "colour": "red", "list": [1, "x", None, {"deep": True}]}
    admin.put(f"/tables/{made}/add-item", item)
    shown = f"/tables/{made}/items/a,1"
    until("the item is shown", lambda: "red" in admin.request("GET", shown).text)
    admin.put(shown, {**item, "colour": "blue"})
    until("the change is shown", lambda: admin.items(made) == [{**item, "colour": "blue"}])
    found = f"/tables/{made}/get?hash=a&range=1"
    until("it is found by its key", lambda: admin.request("GET", found).status == 302)
    assert admin.request("DELETE", shown).status == 204
    until("the item is gone", lambda: admin.request("GET", shown).status == 404)


def test_the_search_form_queries_and_scans_page_by_page(admin: Admin, made: str) -> None:
    for n in range(15):
        admin.put(f"/tables/{made}/add-item", {"pk": "q", "sk": n, "n": n})
    filters = {"pk": {"operator": "=", "value": "q", "type": "S"}, "sk": {"operator": ">=", "value": "4", "type": "N"}}

    def query(**more: Any) -> list[int]:
        return [item["sk"] for item in admin.items(made, operationType="query", filters=filters, **more)]

    until("every replica has them", lambda: query() == list(range(4, 15)))
    page = {"pageSize": "5", "startKey": {"pk": "q", "sk": 8}}
    until("a page begins where it is told", lambda: query(**page) == [9, 10, 11, 12, 13])
    odd = {"n": {"operator": "<", "value": "2", "type": "N"}}
    until("a scan finds them", lambda: sorted(item["sk"] for item in admin.items(made, filters=odd)) == [0, 1])
    assert admin.request("DELETE", f"/tables/{made}/all").status == 200
    until("the table is purged", lambda: admin.items(made) == [])


def test_a_table_with_an_index_is_made_with_the_form_and_its_index_queried(admin: Admin) -> None:
    name = "clients-admin-indexed"
    definition = {**FORM["TableDefinition"], "TableName": name}
    admin.create({"TableDefinition": definition, "SecondaryIndexes": [INDEX]})
    try:
        indexes = admin.tables()[name]["GlobalSecondaryIndexes"]
        assert [index["IndexName"] for index in indexes] == ["by-colour"]
        item = {"pk": "a", "sk": 1, "colour": "red"}
        admin.put(f"/tables/{name}/add-item", item)
        filters = {"colour": {"operator": "=", "value": "red", "type": "S"}}
        asked = {"operationType": "query", "queryableSelection": "by-colour", "filters": filters}
        until("the index has the item", lambda: admin.items(name, **asked) == [item])
    finally:
        assert admin.request("DELETE", f"/tables/{name}").status == 204


def test_units_as_texts_are_refused_as_the_service_refuses_them(admin: Admin) -> None:
    """What browsers send (aaronshaf/dynamodb-admin#518). DynamoDB makes no number of a text."""
    definition = {**FORM["TableDefinition"], "TableName": "clients-admin-texts", "ReadCapacityUnits": "3"}
    page = admin.request("POST", "/create-table", {"TableDefinition": definition, "SecondaryIndexes": []})
    assert (page.status, "STRING_VALUE cannot be converted to Long" in page.text) == (500, True)
    assert "clients-admin-texts" not in admin.tables()
