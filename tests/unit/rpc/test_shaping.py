"""What a path does to a stream of bytes: figures follow from the model and the seed alone."""

from __future__ import annotations

from random import Random

import pytest

from geodyne.network import LinkQuality
from geodyne.rpc.shaping import PACKET_BYTES, RETRANSMIT_S_MIN, Shaper

DRAWS = 20_000


def late_s(quality: LinkQuality, size: int, seed: int = 1, draws: int = DRAWS) -> list[float]:
    """How much later than over the distance alone each of so many pieces is, each on an idle path."""
    shaper = Shaper(Random(seed))
    return [shaper.due_s(0.0, size, quality) - quality.round_trip_ms / 2_000 for _ in range(draws)]


def test_a_clear_path_delays_by_half_a_round_trip() -> None:
    assert Shaper(Random(1)).due_s(7.0, 1_000_000, LinkQuality(80)) == 7.04


def test_jitter_is_between_nothing_and_its_bound() -> None:
    late = late_s(LinkQuality(80, jitter_ms=10), 100)
    assert 0 <= min(late) < 0.001
    assert 0.009 < max(late) <= 0.01
    assert abs(sum(late) / DRAWS - 0.005) < 0.0002


def test_bandwidth_is_shared_by_what_comes_at_the_same_time() -> None:
    shaper, quality = Shaper(Random(1)), LinkQuality(0, bandwidth_mbit=8)  # a megabyte a second
    assert [shaper.due_s(5.0, 100_000, quality) for _ in range(3)] == pytest.approx([5.1, 5.2, 5.3])
    assert shaper.due_s(9.0, 100_000, quality) == pytest.approx(9.1)  # idle since


def test_a_packet_is_lost_as_often_as_asked_and_costs_a_time_out() -> None:
    late = late_s(LinkQuality(80, loss=0.05), 100)
    lost = [seconds for seconds in late if seconds > 0]
    assert abs(len(lost) / DRAWS - 0.05) < 0.005
    assert min(lost) >= RETRANSMIT_S_MIN - 1e-9


def test_a_loss_among_many_packets_costs_one_round_trip() -> None:
    late = late_s(LinkQuality(80, loss=0.01), 50 * PACKET_BYTES)
    lost = [seconds for seconds in late if seconds > 0]
    assert abs(len(lost) / DRAWS - (1 - 0.99**50)) < 0.02
    assert abs(min(lost) - 0.08) < 1e-9


def test_the_same_seed_gives_the_same_delays() -> None:
    quality = LinkQuality(80, jitter_ms=10, loss=0.1)
    assert late_s(quality, 3_000, seed=4, draws=100) == late_s(quality, 3_000, seed=4, draws=100)
    assert late_s(quality, 3_000, seed=4, draws=100) != late_s(quality, 3_000, seed=5, draws=100)
