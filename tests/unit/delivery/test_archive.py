"""Archives: objects that are the same for the same batch, whole, and tried until they are kept."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path
from typing import Any

import orjson
import pytest

from delivery.archive import ArchiveFunction, archive_object
from delivery.events import arrival, invocation_event
from delivery.verdict import NotReached, Reply, Returned
from geodyne.triggers.functions import ARCHIVE, FunctionError, FunctionSpec, check
from tests.cluster.awsstubs import S3Stub
from tests.unit.delivery.fakes import SOURCE, START_US, feed_record

LABEL = "2026-11-24T03:44:12.123"
STREAM = SOURCE._replace(arn=f"arn:aws:dynamodb:us-east-1:000000000000:table/t/stream/{LABEL}")


def event(*numbers: int) -> bytes:
    found = [arrival(feed_record(number * 65_536, f"k{number}", START_US), STREAM, ()) for number in numbers]
    return invocation_event([one for one in found if one is not None], None, STREAM.arn, "shard")


def lines(body: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in gzip.decompress(body).splitlines()]


def calls(url: str, *events: bytes) -> list[Reply]:
    async def play() -> list[Reply]:
        function = ArchiveFunction(FunctionSpec("a", ARCHIVE, url=url), region="us-east-1")
        replies = [await function.call(one, "request") for one in events]
        await function.close()
        return replies

    return asyncio.run(play())


def files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def test_an_object_holds_the_records_as_lines_and_is_named_by_the_first_and_last() -> None:
    kept = archive_object(event(1, 2, 3))
    assert kept is not None
    first, last = (number.zfill(20) for number in ("65536", "196608"))
    assert kept.name.startswith(f"t/{LABEL}/3{first}-3{last}-")
    assert lines(kept.body) == orjson.loads(event(1, 2, 3))["Records"]
    assert archive_object(event(1, 2, 3)) == kept, "to the byte"
    assert archive_object(b'{"Records":[]}') is None


def test_a_batch_that_comes_again_takes_the_place_of_its_file(tmp_path: Path) -> None:
    directory = tmp_path / "with spaces"
    assert calls(directory.as_uri(), event(1, 2, 3), event(4), event(1, 2, 3)) == [Returned(None)] * 3
    first, second = files(directory)
    assert [len(lines(path.read_bytes())) for path in (first, second)] == [3, 1]


def test_a_batch_that_is_cut_otherwise_takes_no_records_away(tmp_path: Path) -> None:
    assert calls(tmp_path.as_uri(), event(1, 2, 3), event(1, 2)) == [Returned(None)] * 2
    assert sorted(len(lines(path.read_bytes())) for path in files(tmp_path)) == [2, 3]


def test_a_directory_that_cannot_be_written_is_not_reached(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (reply,) = calls((tmp_path / "file").as_uri(), event(1))
    assert isinstance(reply, NotReached)


def test_a_store_that_fails_is_not_reached_until_it_takes_the_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    with S3Stub() as stub:
        stub.faults = 1
        url = f"s3://bucket/some/prefix?endpoint={stub.endpoint}"
        refused, taken, again = calls(url, event(1, 2), event(1, 2), event(1, 2))
    assert isinstance(refused, NotReached)
    assert (taken, again) == (Returned(None), Returned(None))
    ((name, body),) = stub.objects.items()
    assert name.startswith("bucket/some/prefix/t/")
    assert len(lines(body)) == 2


@pytest.mark.parametrize(
    "url",
    ["", "file://relative", "/path", "s3://", "s3://Bucket/x", "s3://bucket?endpoint=ftp://x", "http://x/", "gs://b"],
)
def test_a_url_that_names_no_place_is_refused(url: str) -> None:
    with pytest.raises(FunctionError):
        check(FunctionSpec("a", ARCHIVE, url=url))


@pytest.mark.parametrize("url", ["file:///a/b", "s3://bucket", "s3://b.c-d/p/q", "s3://bucket/p?endpoint=http://h:1"])
def test_a_url_of_a_directory_or_a_bucket_is_taken(url: str) -> None:
    check(FunctionSpec("a", ARCHIVE, url=url))
