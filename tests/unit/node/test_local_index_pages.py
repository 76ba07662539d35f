"""Pages of a local index: what an entry counts, and when the whole item is read for it."""

from __future__ import annotations

from typing import Any

from geodyne.limits import READ_UNIT_BYTES
from geodyne.messages import Page, Range
from node.engine.ranges import PageBuilder
from node.storage.port import LocalEntry, Row

WHOLE = Row(b'{"pk":{"S":"a"},"n":{"N":"1"},"note":{"S":"long"}}', b"v", 8193)
KEYS = b'{"pk":{"S":"a"}}'


def page(entries: list[LocalEntry], **more: Any) -> tuple[Page, list[bytes]]:
    """The page, and the keys of the entries whose items were read."""
    read: list[bytes] = []

    def item_of(key: bytes) -> Row:
        read.append(key)
        return WHOLE

    members = {"limit": 0, "max_bytes": 1 << 20, **more}
    builder = PageBuilder(Range(1, 1, b"", b"z", None, False, strong=True, slot=1, **members))
    builder.add_entries(entries, item_of)
    return builder.page(), read


def kept(key: bytes) -> LocalEntry:
    return LocalEntry(1, key, KEYS, 10)


def test_an_entry_that_holds_what_it_keeps_is_answered_without_its_item() -> None:
    answer, read = page([kept(b"a"), kept(b"b")])
    assert (answer.items, answer.size, answer.fetched_blocks, read) == ((KEYS, KEYS), 20, 0, [])


def test_an_entry_that_stands_for_its_item_counts_the_items_size_and_no_fetch() -> None:
    answer, read = page([LocalEntry(1, b"a", None, 0)], fetch=True)
    assert (answer.items, answer.size, answer.fetched_blocks) == ((WHOLE.value,), 8193, 0)
    assert read == [b"a"]


def test_a_fetched_item_is_filtered_whole_and_counted_in_blocks_of_its_own() -> None:
    answer, _ = page(
        [kept(b"a"), kept(b"b")], fetch=True, filter="n > :n", values={":n": {"N": "0"}}, projection="note"
    )
    assert answer.items == (b'{"note":{"S":"long"}}',) * 2
    assert (answer.size, answer.fetched_blocks) == (20, 6)
    rejected, _ = page([kept(b"a")], fetch=True, filter="n > :n", values={":n": {"N": "1"}})
    assert (rejected.count, rejected.scanned, rejected.fetched_blocks) == (0, 1, 3)


def test_no_item_is_read_beyond_the_end_of_the_page() -> None:
    answer, read = page([kept(b"a"), kept(b"b"), kept(b"c")], fetch=True, limit=2)
    assert (answer.last_key, read) == (b"b", [b"a", b"b"])
    answer, _ = page([kept(b"a"), kept(b"b"), kept(b"c")], max_bytes=20)
    assert (answer.last_key, answer.size) == (b"b", 20)


def test_a_fetched_item_fills_the_page_with_whole_read_units() -> None:
    entries = [kept(b"a"), kept(b"b"), kept(b"c")]
    answer, read = page(entries, fetch=True, max_bytes=2 * 3 * READ_UNIT_BYTES)  # of two items and their entries
    assert (answer.last_key, answer.size, read) == (b"b", 20, [b"a", b"b"])
