"""The times and bounds of consensus, with the relations between them that safety and liveness rest on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """Times in milliseconds of the lease clock, sizes in bytes. Every node of a region must use the same values.

    heartbeat_ms         how often a node tells every other that it lives
    lease_ms             how long a node that acknowledged a heartbeat votes for nobody else, from its receipt
    clock_drift_ms       how much of a lease the holder gives away for clocks of different speed and for rounding
    election_ms_min      silence after which a peer counts as lost; also the shortest election timeout
    election_ms_max      longest election timeout; a leader without a quorum for this long steps down
    disconnect_grace_ms  a reset connection is given this long to come back before its peer may count as lost
    stagger_ms           the replicas of a group that lost its leader wake this far apart, by rank
    prevote_retry_ms     first wait after a refused round of pre-votes; doubles up to election_ms_min. What is waited
                         is drawn between that and twice as long
    retry_ms             silence of a follower with appends outstanding before it is probed again
    retry_ms_max         that wait doubles up to this
    commit_notice_ms     how long a leader waits for an append to carry the commit index before it sends one for it
    transfer_ms          a transfer of leadership not done by then ends in an election
    append_bytes_max     payload of one append; a single larger entry still travels
    inflight_appends_max, inflight_bytes_max   unanswered appends to one follower of one group
    """

    heartbeat_ms: int = 200
    lease_ms: int = 750
    clock_drift_ms: int = 15
    election_ms_min: int = 900
    election_ms_max: int = 1500
    disconnect_grace_ms: int = 100
    stagger_ms: int = 80
    prevote_retry_ms: int = 150
    retry_ms: int = 400
    retry_ms_max: int = 3200
    commit_notice_ms: int = 20
    transfer_ms: int = 1000
    append_bytes_max: int = 1 << 20
    inflight_appends_max: int = 64
    inflight_bytes_max: int = 8 << 20

    def __post_init__(self) -> None:
        relations = (
            (0 < 3 * self.heartbeat_ms <= self.lease_ms, "a lease must outlast three heartbeats"),
            (2 <= self.clock_drift_ms < self.lease_ms, "the drift allowance covers rounding and leaves a lease"),
            # Who counts a peer as lost is free to vote against it: so every promise to it must be over by then.
            (self.lease_ms < self.election_ms_min, "a peer may be lost only after its lease is over"),
            (self.election_ms_min < self.election_ms_max, "election timeouts need room for jitter"),
            (0 < self.disconnect_grace_ms <= self.election_ms_min, "the grace only ever shortens detection"),
            (self.stagger_ms > 0 and 0 < self.prevote_retry_ms <= self.election_ms_min, "waits are positive"),
            (0 < self.retry_ms <= self.retry_ms_max, "retries back off"),
            (self.commit_notice_ms > 0 and self.transfer_ms > 0, "waits are positive"),
            (self.inflight_appends_max > 0, "at least one append may be in flight"),
            (0 < self.append_bytes_max <= self.inflight_bytes_max, "a full append fits in the window"),
        )
        broken = [why for holds, why in relations if not holds]
        if broken:
            raise ValueError("; ".join(broken))

    @property
    def lease_held_ms(self) -> int:
        """What a leader may use of a lease, from the send time of the heartbeat that was acknowledged."""
        return self.lease_ms - self.clock_drift_ms
