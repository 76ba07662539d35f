"""Telling who leads what: the peers, the clients that watch, the planning of the catalog, the maintainers of indexes.

Each telling looks at all groups. When a node dies, hundreds of groups change hands within a second, and a look for
each of them would be quadratic in their number: so there is one look for whatever changed within GAP_S, and none later
than that.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from geodyne.messages import METADATA_PARTITION
from geodyne.peermessages import Leads
from node.waits import CATALOG_TOPIC

if TYPE_CHECKING:
    from node.service import NodeService

logger = logging.getLogger("geodyne.node")

GAP_S: Final = 0.02  # a look at 1,000 groups takes 1 to 2 ms


class LeadNews:
    """What one node tells of its leadership, and has heard of that of its peers."""

    def __init__(self, service: NodeService) -> None:
        self._service = service
        self._of_peers: dict[str, Leads] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._not_before_s = 0.0
        self._closed = False

    def heard(self, peer: str, leads: Leads) -> None:
        """What a peer leads."""
        self._of_peers[peer] = leads
        self.changed()

    def lost(self, peer: str) -> None:
        """The peer is not connected any more."""
        self._of_peers.pop(peer, None)

    def changed(self) -> None:
        """Leadership, a definition or the catalog may have changed. Needs a running loop."""
        if self._timer is None and not self._closed:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, self._not_before_s - loop.time()), self._tell)

    def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def led(self) -> dict[int, int]:
        """partition -> definition revision that its leader has applied, over the whole region as far as known."""
        led: dict[int, int] = {}
        for leads in (*self._of_peers.values(), self._service.catalog.leads()):
            for partition, _, revision in leads.leads:
                led[partition] = max(led.get(partition, -1), revision)
        return led

    def _tell(self) -> None:
        self._timer = None
        self._not_before_s = asyncio.get_running_loop().time() + GAP_S
        try:
            self._look()
        except Exception as error:
            logger.exception("telling who leads failed")
            self._service.fail(f"telling who leads failed: {error}")
            raise

    def _look(self) -> None:
        service = self._service
        known = service.catalog.leads()
        leads = service.catalog.refresh_leads(service.groups)
        if leads is not known:
            for peer in service.peers:
                service.network.send(peer, leads)
            service.metrics.leader_partitions.set(len(leads.leads))
            service.waits.news(CATALOG_TOPIC)
        metadata = service.groups.get(METADATA_PARTITION)
        if metadata is not None and metadata.serving:
            service.catalog.plan(self.led())
        service.indexes.review()
