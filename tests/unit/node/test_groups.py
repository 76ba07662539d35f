"""Coming back from disk: every pair of log and state that a crash can leave behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import cast

import pytest

from geodyne.catalog import PartitionRecord
from geodyne.messages import METADATA_PARTITION
from geodyne.peermessages import Entry, Vote, VoteRequest
from node.groups import Groups, StateLost
from node.raft.configuration import Configuration
from node.raft.effects import FORGOTTEN
from node.raft.liveness import Liveness
from node.raft.settings import Settings
from node.state import GroupState
from node.storage.port import RecoveredGroup, StoredGroup
from node.storage.roster import Roster
from node.storage.sqlite import StateStore
from node.storage.wal import Wal, WalSettings

PARTITION = 7


class Clock:
    def wall_us(self) -> int:
        return 1

    def lease_ms(self) -> int:
        return 1


class Log:
    """Notes what recovery asks of the log."""

    def __init__(self) -> None:
        self.resets: list[tuple[int, int, int]] = []
        self.hard_states: list[tuple[int, int, str]] = []
        self.destroyed: list[int] = []
        self._waiting: list[Callable[[], None]] = []

    def append(self, group: int, entries: Sequence[Entry]) -> None:
        raise AssertionError

    def set_hard_state(self, group: int, term: int, vote: str) -> None:
        self.hard_states.append((group, term, vote))

    def reset(self, group: int, index: int, term: int) -> None:
        self.resets.append((group, index, term))

    def destroy(self, group: int) -> None:
        self.destroyed.append(group)

    def compact(self, group: int, through_index: int, term: int) -> None:
        raise AssertionError

    def sync(self, done: Callable[[], None]) -> None:
        self._waiting.append(done)

    @property
    def overloaded(self) -> bool:
        raise AssertionError

    def durable(self) -> None:
        for done in self._waiting:
            done()

    def close(self) -> None:
        raise AssertionError


class Store:
    def __init__(self) -> None:
        self.created: list[int] = []
        self.destroyed: list[int] = []

    def destroy(self, partition: int) -> None:
        self.destroyed.append(partition)

    def create(self, partition: int, state: bytes) -> None:
        self.created.append(partition)


def entries(first: int, *terms: int) -> list[Entry]:
    return [Entry(index, term, b"") for index, term in enumerate(terms, first)]


def stored(applied_index: int, applied_term: int) -> StoredGroup:
    state = GroupState()
    state.applied_index, state.applied_term = applied_index, applied_term
    return StoredGroup(state.to_bytes(), None, 0)


class Recovered:
    def __init__(
        self,
        log: RecoveredGroup | None,
        state: StoredGroup | None,
        voters: tuple[str, ...] = ("a", "b", "c"),
        since: int | None = 0,
        original: bool = True,
        held: bool = True,
        wal: Wal | None = None,
    ) -> None:
        self.log = Log()
        self.roster = Roster("a", 100, lambda data: None, since)
        self.store = Store()
        groups = Groups(
            node_id="a",
            region="us-east-1",
            clock=Clock(),
            random=Random(1),
            log=wal or self.log,
            store=cast(StateStore, self.store),
            liveness=Liveness(Settings(), ("b", "c"), 1, 0),
            settings=Settings(),
            roster=self.roster,
        )
        groups.recover({PARTITION: log} if log else {}, {PARTITION: state} if state else {})
        self.groups = groups
        if held:
            groups.hold(PARTITION, 1, voters, original=original)
            group = groups.get(PARTITION)
            assert group is not None
            self.raft = group.raft


def test_a_replica_that_died_before_its_first_log_record_begins_empty() -> None:
    recovered = Recovered(None, stored(0, 0))
    assert (recovered.raft.log.last_index, recovered.raft.term) == (0, 0)


def test_a_replica_that_is_in_no_store_is_made() -> None:
    assert Recovered(None, None).store.created == [PARTITION]


def test_a_state_behind_its_log_goes_on_from_where_it_is() -> None:
    recovered = Recovered(RecoveredGroup((3, "b"), 0, 0, entries(1, 1, 2, 3)), stored(2, 2))
    assert recovered.log.resets == []
    assert (recovered.raft.commit_index, recovered.raft.log.last_index) == (2, 3)


def test_a_snapshot_beyond_the_log_takes_its_place() -> None:
    recovered = Recovered(RecoveredGroup((3, "b"), 0, 0, entries(1, 1, 2)), stored(9, 3))
    assert recovered.log.resets == [(PARTITION, 9, 3)]
    assert (recovered.raft.log.offset_index, recovered.raft.log.last_index) == (9, 9)
    assert recovered.raft.term == 3


def test_a_snapshot_that_contradicts_a_longer_log_takes_its_place() -> None:
    """The log's tail came from a leader that was overruled: no entry of it may ever be served from here."""
    recovered = Recovered(RecoveredGroup((4, ""), 0, 0, entries(1, 1, 2, 2, 2, 2)), stored(3, 4))
    assert recovered.log.resets == [(PARTITION, 3, 4)]
    assert recovered.raft.log.last_index == 3
    assert recovered.raft.log.last_term == 4


def test_a_snapshot_that_the_log_goes_through_leaves_the_log_alone() -> None:
    recovered = Recovered(RecoveredGroup((4, ""), 1, 1, entries(2, 2, 4, 4)), stored(3, 4))
    assert recovered.log.resets == []
    assert recovered.raft.log.last_index == 4


def test_a_vote_of_the_present_term_survives_a_reset_of_the_log() -> None:
    recovered = Recovered(RecoveredGroup((5, "b"), 0, 0, []), stored(9, 3))
    assert recovered.raft.term == 5
    assert recovered.raft._vote == "b"


@pytest.mark.parametrize("state", [None, stored(3, 1)])
def test_a_lone_replica_whose_log_begins_beyond_its_state_is_refused(state: StoredGroup | None) -> None:
    with pytest.raises(StateLost, match="the log begins at 6"):
        Recovered(RecoveredGroup((1, ""), 5, 1, entries(6, 1)), state, voters=("a",))


@pytest.mark.parametrize(("state", "applied"), [(None, (0, 0)), (stored(3, 1), (3, 1))])
def test_a_replica_whose_log_begins_beyond_its_state_goes_on_as_a_newcomer(
    state: StoredGroup | None, applied: tuple[int, int]
) -> None:
    recovered = Recovered(RecoveredGroup((4, "b"), 5, 1, entries(6, 1)), state)
    assert recovered.raft.newcomer
    assert recovered.raft.term == 4
    assert (recovered.raft.log.last_index, recovered.raft.log.last_term) == applied
    assert recovered.log.hard_states == [(PARTITION, 4, FORGOTTEN)]
    assert recovered.log.resets == [(PARTITION, *applied)]


# --- newcomers ----------------------------------------------------------------------------------------------


def test_a_replica_of_a_partition_made_before_its_directory_is_a_newcomer() -> None:
    assert Recovered(None, None, since=None).raft.newcomer
    assert Recovered(None, None, since=PARTITION + 1).raft.newcomer
    assert not Recovered(None, None, since=PARTITION).raft.newcomer


def test_a_state_without_a_log_does_not_say_what_was_promised() -> None:
    recovered = Recovered(None, stored(9, 3), since=None)
    assert recovered.raft.newcomer
    assert recovered.raft.term == 3


@pytest.mark.parametrize("state", [None, stored(0, 0)])
def test_an_empty_log_does_not_say_what_was_promised(state: StoredGroup | None) -> None:
    """What a start that was killed early leaves of a partition: its name in the log, or its state, or both."""
    assert Recovered(RecoveredGroup((0, ""), 0, 0, []), state, since=None).raft.newcomer


def test_a_newcomer_on_disk_stays_one_whatever_the_roster_says() -> None:
    assert Recovered(RecoveredGroup((5, FORGOTTEN), 0, 0, []), stored(0, 0), since=0).raft.newcomer
    behind = Recovered(RecoveredGroup((2, FORGOTTEN), 0, 0, []), stored(9, 3), since=0).raft
    assert behind.newcomer
    assert behind.term == 3


def test_a_lone_replica_is_never_a_newcomer() -> None:
    assert not Recovered(None, None, voters=("a",), since=None).raft.newcomer


def test_a_newcomer_that_no_other_voter_ever_knew_is_a_voter() -> None:
    recovered = Recovered(None, None, since=None)
    recovered.roster.meet("b", 200, 0)
    assert recovered.groups.vouched(1) == []
    recovered.roster.meet("c", 300, 100)
    assert [group.partition for group in recovered.groups.vouched(1)] == [PARTITION]
    assert not recovered.raft.newcomer


def test_a_replica_that_lost_its_state_needs_more_than_that_its_directory_is_known() -> None:
    """It took part with this very directory."""
    recovered = Recovered(RecoveredGroup((4, "b"), 5, 1, entries(6, 1)), None)
    for peer in ("b", "c"):
        recovered.roster.meet(peer, 200, 100)
    assert recovered.groups.vouched(1) == []
    assert recovered.raft.newcomer


def test_a_newcomer_that_another_voter_knew_by_another_directory_stays_one() -> None:
    recovered = Recovered(None, None, since=None)
    recovered.roster.meet("b", 200, 0)
    recovered.roster.meet("c", 300, 99)
    assert recovered.groups.vouched(1) == []
    assert recovered.raft.newcomer


# --- replicas that move -------------------------------------------------------------------------------------


def test_a_replica_of_a_partition_that_began_elsewhere_is_a_newcomer_and_stays_one() -> None:
    """Whatever is known of this directory, and durably, since the catalog will come to say otherwise."""
    recovered = Recovered(None, None, original=False)
    assert recovered.raft.newcomer
    assert recovered.log.hard_states == [(PARTITION, 0, FORGOTTEN)]
    assert recovered.groups.vouched(1) == []


def test_a_replica_with_a_log_of_its_own_keeps_what_it_promised_wherever_the_partition_began() -> None:
    recovered = Recovered(RecoveredGroup((3, "b"), 0, 0, entries(1, 1, 2)), stored(2, 2), original=False)
    assert not recovered.raft.newcomer
    assert recovered.log.hard_states == []


def test_consensus_goes_on_with_the_configuration_that_the_state_has_come_to() -> None:
    state = GroupState()
    state.applied_index, state.applied_term = 5, 2
    state.configuration, state.configuration_index = Configuration(("a", "d"), ("b",), ("e",), 4), 3
    held = StoredGroup(state.to_bytes(), None, 0)
    recovered = Recovered(RecoveredGroup((2, ""), 5, 2, entries(6, 2)), held, ("a", "b", "c"))
    assert recovered.raft.configuration == state.configuration
    assert recovered.raft.configuration_index == 3


def moved_away(recovered: Recovered, configuration: int = 9, term: int = 0, deleted: bool = False) -> None:
    """The catalog has the partition on other nodes, or no more."""
    record = PartitionRecord(PARTITION, 1, 0, 1, ("b", "c", "d"), configuration=configuration, configuration_term=term)
    recovered.groups.drop_all_but((), {} if deleted else {PARTITION: record}, PARTITION + 1)


def test_a_replica_that_is_given_up_leaves_a_mark_that_it_has_forgotten() -> None:
    recovered = Recovered(RecoveredGroup((3, "b"), 0, 0, entries(1, 1, 2)), stored(2, 2))
    moved_away(recovered)
    assert recovered.groups.get(PARTITION) is None
    assert recovered.log.resets == [(PARTITION, 0, 0)]
    assert recovered.log.hard_states == [(PARTITION, 3, FORGOTTEN)]


@pytest.mark.parametrize("deleted", [False, True])
def test_a_replica_that_was_half_given_up_when_the_power_failed_votes_with_all_it_had_or_not_at_all(
    deleted: bool, tmp_path: Path
) -> None:
    """A catalog that fell back brings it to life again. Without its entries it might elect who lacks them, too."""
    directory, settings = tmp_path / "log", WalSettings("c", "a", inline=True)
    wal, _ = Wal.open(directory, settings)
    wal.set_hard_state(PARTITION, 3, "b")
    wal.append(PARTITION, entries(1, 1, 2, 3))
    wal.sync(lambda: None)
    (segment,) = directory.iterdir()
    before = segment.stat().st_size
    held = RecoveredGroup((3, "b"), 0, 0, entries(1, 1, 2, 3))
    moved_away(Recovered(held, stored(2, 2), wal=wal), deleted=deleted)
    wal.close()
    whole = segment.read_bytes()
    assert len(whole) > before
    for size in range(before, len(whole) + 1):
        segment.write_bytes(whole[:size])
        torn, found = Wal.open(directory, settings)
        torn.discard()
        left = found.groups[PARTITION]
        assert left.hard_state[1] == FORGOTTEN or left == held
    assert left == RecoveredGroup((3, FORGOTTEN), 0, 0, [])


def test_of_a_partition_that_is_no_more_the_mark_stays_until_the_log_of_the_catalog_begins_beyond_that() -> None:
    """Until then a start may find a catalog that still has it."""
    recovered = Recovered(RecoveredGroup((3, "b"), 0, 0, entries(1, 1, 2)), stored(2, 2))
    catalog = {METADATA_PARTITION: RecoveredGroup((1, ""), 4, 1, entries(5, 1, 1))}
    recovered.groups.recover(catalog, {METADATA_PARTITION: stored(5, 1)})
    recovered.groups.hold(METADATA_PARTITION, 1, ("a", "b", "c"))
    recovered.groups.drop_all_but((), {}, PARTITION + 1)
    assert recovered.groups.get(PARTITION) is None
    assert recovered.log.hard_states == [(PARTITION, 3, FORGOTTEN)]
    recovered.log.durable()
    recovered.groups.forget_marks()
    assert (recovered.store.destroyed, recovered.log.destroyed) == ([PARTITION], [])
    group = recovered.groups.get(METADATA_PARTITION)
    assert group is not None
    group.raft.compact(5)
    recovered.groups.drop_all_but((), {}, PARTITION + 1)
    recovered.groups.forget_marks()
    assert recovered.log.destroyed == [PARTITION]
    assert recovered.log.hard_states == [(PARTITION, 3, FORGOTTEN)]


def test_a_replica_that_comes_back_before_its_rows_are_gone_waits_for_that() -> None:
    recovered = Recovered(RecoveredGroup((3, "b"), 0, 0, entries(1, 1, 2)), stored(2, 2))
    freed: list[bool] = []
    recovered.groups.freed = lambda: freed.append(True)
    moved_away(recovered)
    recovered.groups.hold(PARTITION, 1, ("b", "c", "d"), original=False)
    assert recovered.groups.get(PARTITION) is None
    recovered.log.durable()
    assert (recovered.store.destroyed, freed) == ([PARTITION], [True])
    recovered.groups.hold(PARTITION, 1, ("b", "c", "d"), original=True)
    group = recovered.groups.get(PARTITION)
    assert group is not None
    assert (group.raft.newcomer, group.raft.term) == (True, 3)


def test_a_replica_whose_log_knows_more_than_the_catalog_is_kept() -> None:
    joined = [Entry(3, 2, Configuration(("a", "c", "d"), ("b", "c", "d")).to_payload())]
    recovered = Recovered(RecoveredGroup((3, "b"), 0, 0, [*entries(1, 1, 2), *joined]), stored(2, 2))
    moved_away(recovered, configuration=2)
    assert recovered.groups.get(PARTITION) is not None
    assert recovered.groups.lingering
    moved_away(recovered, configuration=4)
    assert recovered.groups.get(PARTITION) is None
    assert not recovered.groups.lingering


def test_a_configuration_beyond_an_entry_that_was_overruled_keeps_no_replica() -> None:
    """It is later by its index, but what is before it in this log was never committed: nor will it be."""
    joined = [Entry(4, 2, Configuration(("a", "c", "d"), ("b", "c", "d")).to_payload())]
    recovered = Recovered(RecoveredGroup((3, "b"), 0, 0, [*entries(1, 1, 2, 2), *joined]), stored(2, 2))
    moved_away(recovered, configuration=3, term=2)
    assert recovered.groups.lingering
    moved_away(recovered, configuration=3, term=3)
    assert recovered.groups.get(PARTITION) is None
    assert not recovered.groups.lingering


def asks(term: int, pre: bool = True) -> VoteRequest:
    return VoteRequest(PARTITION, term, 0, 0, pre, False)


def test_the_node_of_a_replica_that_was_given_up_says_that_it_leads_no_more() -> None:
    """Until another one is there that can say so itself."""
    recovered = Recovered(RecoveredGroup((3, "a"), 0, 0, entries(1, 1, 2)), stored(2, 2))
    assert recovered.groups.resigned(asks(2)) is None
    moved_away(recovered)
    assert recovered.groups.given_up(PARTITION)
    assert recovered.groups.resigned(asks(2)) == Vote(PARTITION, 3, False, True, True)
    assert recovered.groups.resigned(asks(4, pre=False)) is None
    assert recovered.groups.resigned(asks(2)._replace(group=PARTITION + 1)) is None
    recovered.log.durable()
    recovered.groups.hold(PARTITION, 1, ("b", "c", "d"), original=False)
    assert not recovered.groups.given_up(PARTITION)
    assert recovered.groups.resigned(asks(2)) is None


def test_a_start_answers_from_the_mark_that_a_replica_left() -> None:
    recovered = Recovered(RecoveredGroup((3, FORGOTTEN), 0, 0, []), None, held=False)
    assert recovered.groups.resigned(asks(3)) == Vote(PARTITION, 3, False, True, True)


def test_a_start_keeps_it_too_though_the_catalog_does_not_ask_for_it() -> None:
    joined = [Entry(3, 2, Configuration(("a", "c", "d"), ("b", "c", "d")).to_payload())]
    recovered = Recovered(RecoveredGroup((3, "b"), 0, 0, [*entries(1, 1, 2), *joined]), stored(2, 2), held=False)
    moved_away(recovered, configuration=2)
    assert recovered.groups.get(PARTITION) is not None
    assert not recovered.log.resets
