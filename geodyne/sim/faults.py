"""The faults of a run: a list drawn from the seed before the run begins, so that it can be printed, cut down and given
again. Each fault has a number of its own for whatever chance it needs, so that leaving others out changes little."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

FAULTY_S = 52.0  # the time in which they happen
LEADER = "leader"  # whoever leads then: faults of leaders are the ones that matter
ZONES = ("a", "b", "c")
KINDS_OF_A_RUN = (6, 10)
FAULTS_OF_A_RUN = (13, 22)
BURST_CHANCE = 0.4
BURST_S = 0.8
LEADER_CHANCE = 0.5

# Kind -> how long it lasts, in seconds. Of one that ends a process: until it starts again.
KINDS: dict[str, tuple[float, float]] = {
    "kill": (0.0, 2.5),  # at any callback of the loop
    "power": (0.0, 2.5),  # the same, and what was not durable is lost or torn
    "tear": (0.0, 2.5),  # killed in the middle of a write to the log
    "blackout": (0.1, 1.5),  # the power of all zones
    "stop": (0.0, 1.0),  # an orderly stop
    "pause": (0.2, 4.0),  # SIGSTOP; clocks go on
    "cut": (0.0, 0.0),  # streams break, and what was on its way is lost
    "partition": (0.5, 6.0),  # a node from the others, with or without clients
    "oneway": (0.5, 6.0),  # in one direction between two nodes
    "glimpse": (0.8, 1.6),  # a node from the others for an election's time, and then from one of them only
    "corner": (0.5, 5.0),  # a node and one client from everybody else
    "disorder": (0.5, 5.0),  # messages of consensus lost, doubled, reordered
    "slow_network": (0.5, 5.0),
    "slow_disk": (0.5, 3.0),
    "full_disk": (0.3, 3.0),
    "failed_sync": (0.1, 1.0),
    "read_only": (0.3, 3.0),
    "lost_disk": (0.0, 2.5),
    "rot_state": (0.0, 0.0),  # a value in the state of a live node
    "rot_page": (0.0, 2.0),  # a page of the state of a dead one
    "rot_log": (0.0, 2.0),  # a byte of the log of a dead one
    "jump": (0.0, 0.0),  # of the wall clock
    "drift": (0.0, 0.0),  # of the lease clock, within the allowance
    "member": (0.0, 0.0),  # another node of the zone takes over, and the one there leaves or stays empty
    "router": (0.1, 1.0),  # a router dies with what it was doing
}


class Fault(NamedTuple):
    """`at_s` counts from the start of the clients. `target` is a zone or LEADER."""

    at_s: float
    kind: str
    target: str
    for_s: float
    number: int

    def __str__(self) -> str:
        return f"{self.at_s:.3f}:{self.kind}:{self.target}:{self.for_s:.3f}:{self.number}"


def parse(text: str) -> Fault:
    """What `str` of a fault gives. Raises ValueError with a sentence for whoever wrote it."""
    try:
        at_s, kind, target, for_s, number = text.split(":")
        times, drawn = (float(at_s), float(for_s)), int(number)
    except ValueError:
        raise ValueError(f"a fault is AT:KIND:TARGET:FOR:NUMBER, such as 7.5:kill:leader:1.2:7, not {text!r}") from None
    if kind not in KINDS:
        raise ValueError(f"there is no fault {kind!r}; there are {', '.join(KINDS)}")
    if target not in (*ZONES, LEADER):
        raise ValueError(f"a fault's target is {', '.join(ZONES)} or {LEADER}")
    if not all(0 <= time < 3600 for time in times):
        raise ValueError("times are in seconds, less than an hour")
    return Fault(times[0], kind, target, times[1], drawn)


def draw(seed: int) -> tuple[Fault, ...]:
    """The faults of a seed, in order. Each seed has some of the kinds: a run in which everything happens never gets far
    with anything."""
    random = Random(f"faults of {seed}")
    kinds = random.sample(sorted(KINDS), random.randint(*KINDS_OF_A_RUN))
    times: list[float] = []
    for _ in range(random.randint(*FAULTS_OF_A_RUN)):
        if times and random.random() < BURST_CHANCE:
            times.append(min(FAULTY_S, random.choice(times) + random.uniform(0.0, BURST_S)))
        else:
            times.append(random.uniform(0.0, FAULTY_S))
    return tuple(sorted(_draw_one(random, at_s, random.choice(kinds)) for at_s in times))


def _draw_one(random: Random, at_s: float, kind: str) -> Fault:
    target = LEADER if random.random() < LEADER_CHANCE else random.choice(ZONES)
    return Fault(round(at_s, 3), kind, target, round(random.uniform(*KINDS[kind]), 3), random.getrandbits(24))


def text_of(plan: Sequence[Fault]) -> str:
    """For --plan."""
    return " ".join(map(str, plan)) or "none"


def plan_of(text: str) -> tuple[Fault, ...]:
    """What `text_of` gives. Raises ValueError."""
    return () if text.strip() == "none" else tuple(sorted(parse(word) for word in text.split()))
