"""What went wrong on the streams of this process, counted since it started."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector


class StreamFaults(Collector):
    """Also what a metrics page asks: register it there."""

    def __init__(self) -> None:
        self.corrupt = 0  # batches that were not as sent, or could not be understood: each ended its stream
        self.refused = 0  # streams whose other end must not talk to this process
        self.overflowed = 0  # streams ended because the other end did not read

    def collect(self) -> Iterable[Metric]:
        """One family, a sample for each kind."""
        family = CounterMetricFamily(
            "geodyne_stream_faults", "Streams between processes that were ended or refused, by cause.", labels=["cause"]
        )
        for cause in ("corrupt", "refused", "overflowed"):
            family.add_metric([cause], getattr(self, cause))
        yield family


PROCESS_FAULTS: Final = StreamFaults()
