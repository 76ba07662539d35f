"""The faults of a run of several regions, drawn before it begins (as geodyne.sim.faults has those of one)."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from geodyne.sim.faults import Fault
from geodyne.sim.globalregions import FEED_BYTES, NAMES, Shape

FAULTY_S = 15.0
KINDS_OF_A_RUN = (4, 8)
FAULTS_OF_A_RUN = (8, 14)
BURST_CHANCE = 0.4
BURST_S = 0.8
MAJORITY_CHANCE = 0.06  # of a run in which one region has three nodes; it costs as much as three runs
PARTITIONS = (2, 2, 2, 4)  # of the table: each costs as much as a region's writers, and two show what partitions can
LIFE_CHANCE = 0.35  # of a run in which a region leaves or is wiped, and comes back

# Kind -> how long it lasts, in seconds. The target is a region; where two are meant, the number says which other one.
KINDS: dict[str, tuple[float, float]] = {
    "link": (0.0, 0.0),  # streams between two replicators break, and what was on its way is lost
    "oneway": (0.5, 8.0),  # nothing passes from one replicator to another
    "apart": (0.5, 12.0),  # nothing passes between two regions
    "alone": (0.5, 12.0),  # nothing passes between a region and all others
    "far": (1.0, 8.0),  # everything between two regions takes ten times as long
    "replicator": (0.0, 4.0),  # it is killed, and started again
    "frozen": (0.3, 6.0),  # a replicator is stopped and goes on (SIGSTOP)
    "kill": (0.0, 2.0),  # a node
    "power": (0.0, 2.0),  # a node, and what was not durable is lost or torn
    "blind": (0.3, 5.0),  # a replicator cannot reach the nodes of its own region
    "skew": (0.0, 0.0),  # the wall clocks of a region are set, up to half a minute off
    "jump": (0.0, 0.0),  # the clock of the replicator alone
    "leave": (0.5, 4.0),  # a region's replica is removed under writes, and added again
    "part": (0.5, 4.0),  # a replica is disassociated under writes, its table deleted later, and a replica added again
    "remove": (0.0, 0.0),  # the replica of one of three regions is removed, for ever
    "wipe": (0.5, 4.0),  # a region's data are lost; its replica is removed and added again
}
OF_LIFE = frozenset(("leave", "part", "remove", "wipe"))


def shape(seed: int) -> Shape:
    """What the regions of a seed are like."""
    random = Random(f"shape of {seed}")
    count = random.choice((2, 2, 3))
    nodes = [1] * count
    if random.random() < MAJORITY_CHANCE:
        nodes[random.randrange(count)] = 3
    feed_bytes = FEED_BYTES if random.random() < 0.4 else 1 << 30
    return Shape(tuple(nodes), feed_bytes, random.choice(PARTITIONS))


def draw(seed: int) -> tuple[Fault, ...]:
    """The faults of a seed, in order."""
    random = Random(f"global faults of {seed}")
    regions = NAMES[: len(shape(seed).nodes)]
    kinds = random.sample(sorted(KINDS.keys() - OF_LIFE), random.randint(*KINDS_OF_A_RUN))
    times: list[float] = []
    for _ in range(random.randint(*FAULTS_OF_A_RUN)):
        if times and random.random() < BURST_CHANCE:
            times.append(min(FAULTY_S, random.choice(times) + random.uniform(0.0, BURST_S)))
        else:
            times.append(random.uniform(0.0, FAULTY_S))
    faults = [_draw_one(random, at_s, random.choice(kinds), regions) for at_s in times]
    if random.random() < LIFE_CHANCE:
        kind = random.choice(sorted(OF_LIFE if len(regions) > 2 else OF_LIFE - {"remove"}))
        faults.append(_draw_one(random, random.uniform(2.0, FAULTY_S), kind, regions))
    return tuple(sorted(faults))


def _draw_one(random: Random, at_s: float, kind: str, regions: Sequence[str]) -> Fault:
    target = random.choice(regions)
    return Fault(round(at_s, 3), kind, target, round(random.uniform(*KINDS[kind]), 3), random.getrandbits(24))


def parse(text: str) -> Fault:
    """What `str` of a fault gives. Raises ValueError."""
    at_s, kind, target, for_s, number = text.split(":")
    if kind not in KINDS:
        raise ValueError(f"between regions there is no fault {kind!r}; there are {', '.join(KINDS)}")
    if target not in NAMES:
        raise ValueError(f"a fault's target is {', '.join(NAMES)}")
    fault = Fault(float(at_s), kind, target, float(for_s), int(number))
    if not (0 <= fault.at_s < 3600 and 0 <= fault.for_s < 3600):
        raise ValueError("times are in seconds, less than an hour")
    return fault


def plan_of(text: str) -> tuple[Fault, ...]:
    """What geodyne.sim.faults.text_of gives. Raises ValueError."""
    return () if text.strip() == "none" else tuple(sorted(parse(word) for word in text.split()))
