"""What changes of items ask of an index, and which batches a partition of an index takes."""

import pytest

from geodyne.messages import ApplyIndex, Change, FeedRecord, IndexEntry, Item
from geodyne.model.indexkeys import IndexSchema, encode_index_key, item_key_of
from geodyne.model.keys import KeySchema, encode_key
from geodyne.model.values import dumps, item_size, loads
from node.indexes.entries import differences, kept
from node.indexes.sources import BatchStanding, Sources, after, news, standing
from node.state import GroupState, IndexDefinition, IndexSource

TABLE = KeySchema("pk", "S")
SCHEMA = IndexSchema((("v", "S"),), (("n", "N"),), TABLE)
ALL = IndexDefinition("i", 1, 0, SCHEMA, "ALL", ())
KEYS = IndexDefinition("i", 1, 0, SCHEMA, "KEYS_ONLY", ())
INCLUDE = IndexDefinition("i", 1, 0, SCHEMA, "INCLUDE", ("x",))


def item(v: str | None = "a", n: str | None = "1", **more: object) -> Item:
    made: Item = {"pk": {"S": "p"}, **more}  # type: ignore[dict-item]
    if v is not None:
        made["v"] = {"S": v}
    if n is not None:
        made["n"] = {"N": n}
    return made


KEY = encode_key(TABLE, item())


def change(index: IndexDefinition, old: Item | None, new: Item | None) -> list[IndexEntry]:
    image = dumps(new) if new is not None else None
    size = item_size(new) if new is not None else 0
    record = FeedRecord(7, Change(KEY, b"", image, size), dumps(old) if old is not None else None)
    return list(differences(index, record, old, new))


def entry_key(of: Item) -> bytes:
    key = encode_index_key(SCHEMA, of, KEY)
    assert key is not None
    return key


def test_a_new_item_is_put() -> None:
    assert change(ALL, None, item()) == [IndexEntry(entry_key(item()), 7, dumps(item()), item_size(item()))]


def test_an_item_that_goes_is_removed() -> None:
    assert change(ALL, item(), None) == [IndexEntry(entry_key(item()), 7, None, 0)]


def test_an_item_that_moves_is_removed_first() -> None:
    removed, put = change(ALL, item("a"), item("b"))
    assert (removed.key, removed.image) == (entry_key(item("a")), None)
    assert (put.key, put.image) == (entry_key(item("b")), dumps(item("b")))


@pytest.mark.parametrize(
    ("index", "entries"), [(KEYS, 0), (INCLUDE, 0), (ALL, 1)], ids=lambda value: getattr(value, "projection", "")
)
def test_what_an_index_does_not_keep_is_no_change(index: IndexDefinition, entries: int) -> None:
    assert len(change(index, item(), item(other={"S": "y"}))) == entries


def test_an_included_attribute_is_a_change() -> None:
    (entry,) = change(INCLUDE, item(x={"S": "1"}), item(x={"S": "2"}, y={"S": "3"}))
    assert entry.image is not None
    assert loads(entry.image) == item(x={"S": "2"})
    assert entry.size == item_size(item(x={"S": "2"}))


WRONG_TYPE: Item = {**item(), "n": {"S": "1"}}


@pytest.mark.parametrize("left_out", [item(v=None), item(n=None), item(v="x" * 3000), WRONG_TYPE])
def test_an_item_without_the_key_of_the_index_is_left_out(left_out: Item) -> None:
    assert kept(ALL, KEY, dumps(left_out), left_out, 1) is None
    assert change(ALL, left_out, left_out) == []
    assert [entry.image for entry in change(ALL, item(), left_out)] == [None]


def test_an_entry_leads_back_to_its_item() -> None:
    entry = kept(KEYS, KEY, dumps(item()), item(), 1)
    assert entry is not None
    assert item_key_of(SCHEMA, entry.key) == KEY


# --- batches ------------------------------------------------------------------------------------------------


def batch(term: int, number: int, *sequences: int) -> ApplyIndex:
    return ApplyIndex(9, 1, 3, term, number, tuple(IndexEntry(b"k", sequence, b"{}", 2) for sequence in sequences))


KNOWN = IndexSource(term=5, number=7, sequence=100)


@pytest.mark.parametrize(
    ("term", "number", "expected"),
    [
        (5, 8, BatchStanding.NEWS),
        (6, 1, BatchStanding.NEWS),
        (5, 7, BatchStanding.REPEATED),
        (5, 3, BatchStanding.REPEATED),
        (4, 9, BatchStanding.FENCED),
    ],
)
def test_a_batch_is_judged_by_term_and_number(term: int, number: int, expected: BatchStanding) -> None:
    assert standing(batch(term, number), KNOWN) is expected


def test_changes_that_were_taken_are_not_taken_again_and_rows_always_are() -> None:
    call = batch(6, 1, 99, 100, 0, 101)
    assert [entry.sequence for entry in news(call, KNOWN)] == [0, 101]
    assert after(call, KNOWN) == IndexSource(6, 1, 101)
    assert after(batch(6, 2, 0), KNOWN) == IndexSource(6, 2, 100)


def test_what_is_not_applied_yet_counts() -> None:
    state, sources = GroupState(), Sources()
    state.sources[3] = KNOWN
    assert sources.newest(state, 3) == (0, KNOWN)
    sources.took(3, 55, IndexSource(5, 8, 120))
    assert sources.newest(state, 3) == (55, IndexSource(5, 8, 120))
    sources.clear()
    assert sources.newest(state, 3) == (0, KNOWN)
    assert sources.newest(state, 4) == (0, IndexSource())


def test_sources_are_part_of_the_state() -> None:
    state = GroupState()
    state.sources = {3: KNOWN, 4: IndexSource(1, 2, 0)}
    assert GroupState.from_bytes(state.to_bytes()).sources == state.sources
