"""The in-memory log, its positions, and majorities."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geodyne.peermessages import Entry
from node.raft.log import RaftLog
from node.raft.quorum import majority, reached_by_majority
from node.raft.settings import Settings

ALL = 1 << 60


def made(terms: str, offset: tuple[int, int] = (0, 0)) -> RaftLog:
    return RaftLog(*offset, [Entry(offset[0] + n, int(term), b"x" * 10) for n, term in enumerate(terms, 1)])


def terms(log: RaftLog) -> str:
    return "".join(str(log.term(index)) for index in range(log.first_index, log.last_index + 1))


def test_a_log_from_the_disk_is_durable_and_has_no_gap() -> None:
    log = made("1123", (4, 1))
    assert (log.first_index, log.last_index, log.last_term, log.persisted_index) == (5, 8, 3, 8)
    assert log.bytes == 40
    with pytest.raises(ValueError):
        RaftLog(0, 0, [Entry(2, 1, b"")])
    with pytest.raises(ValueError):
        RaftLog(0, 0, [Entry(1, 2, b""), Entry(2, 1, b"")])


def test_appending_skips_what_is_there_and_cuts_at_the_first_conflict() -> None:
    log = made("1112")
    assert log.append(made("111").entries(2, 3, ALL)) == 0
    assert terms(log) == "1112"  # a late append does not cut what came after it
    assert log.append([Entry(3, 1, b""), Entry(4, 3, b""), Entry(5, 3, b"abc")]) == 4
    assert terms(log) == "11133"
    assert (log.persisted_index, log.written_index, log.bytes) == (3, 3, 33)
    assert [entry.index for entry in log.take_unwritten()] == [4, 5]
    assert log.take_unwritten() == ()


def test_appending_refuses_a_gap_and_what_is_compacted() -> None:
    log = made("11", (3, 1))
    for first in (3, 7):
        with pytest.raises(ValueError):
            log.append([Entry(first, 2, b"")])


def test_a_report_of_the_disk_about_entries_cut_since_is_ignored() -> None:
    log = made("1")
    log.append([Entry(2, 1, b""), Entry(3, 1, b"")])
    log.take_unwritten()
    log.append([Entry(2, 2, b"")])
    assert not log.persisted(3, 1)
    assert not log.persisted(2, 1)
    log.take_unwritten()
    assert log.persisted(2, 2)
    assert log.persisted_index == 2


def test_reading_is_cut_by_bytes_but_gives_at_least_one_entry() -> None:
    log = made("11111")
    assert len(log.entries(1, 5, 30)) == 3
    assert len(log.entries(1, 5, 1)) == 1
    assert log.entries(6, 5, ALL) == ()
    log.compact(2)
    with pytest.raises(LookupError):
        log.entries(2, 5, ALL)


def test_only_what_is_durable_is_compacted() -> None:
    log = made("112")
    log.append([Entry(4, 2, b"")])
    with pytest.raises(ValueError):
        log.compact(4)
    log.compact(3)
    assert (log.offset_index, log.offset_term, log.last_index, log.bytes) == (3, 2, 4, 0)
    assert log.holds(3, 2)
    assert not log.holds(2, 1)


@given(st.lists(st.integers(1, 4), max_size=8), st.integers(0, 9), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_going_back_by_terms_agrees_with_a_linear_search(drawn: list[int], index: int, term: int) -> None:
    log = made("".join(map(str, sorted(drawn))))
    slow = max(n for n in range(min(index, log.last_index) + 1) if log.term(n) <= term)
    assert log.conflict_before(index, term) == slow


@given(st.lists(st.integers(0, 9), min_size=1, max_size=7))
@settings(max_examples=60, deadline=None)
def test_reached_by_majority_is_what_some_majority_has_reached(values: list[int]) -> None:
    subsets = itertools.combinations(values, majority(len(values)))
    assert reached_by_majority(list(values)) == max(min(subset) for subset in subsets)


@pytest.mark.parametrize(
    "wrong",
    [
        {"lease_ms": 900},
        {"heartbeat_ms": 300},
        {"clock_drift_ms": 750},
        {"election_ms_max": 900},
        {"append_bytes_max": 9 << 20},
        {"inflight_appends_max": 0},
    ],
)
def test_settings_that_break_a_relation_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        Settings(**wrong)
