"""What a region that is at peace again looks like: one catalog everywhere, no table on its way, no replica astray."""

from __future__ import annotations

from collections.abc import Iterator

from geodyne.catalog import TableStatus
from geodyne.messages import METADATA_PARTITION
from geodyne.sim.network import ANSWER_WITHIN_S, Violation
from geodyne.sim.region import Region

IN_PLACE_S = 10.0  # beyond what a request may still take


async def check_nothing_is_left_over(here: Region) -> None:
    """Raises Violation unless, within a bound, everybody has the same catalog, every table is ACTIVE, and every node
    holds exactly the replicas that the catalog assigns to it, in memory and on disk; of one that was given up the log
    keeps no entry, but that there was one."""
    await here.run_for(ANSWER_WITHIN_S + 1.0)
    try:
        await here.until(lambda: not [*_left(here)], "everything is in its place", IN_PLACE_S)
    except Violation:
        leads = [f"{node.id} leads {node.handler.catalog.leads()}" for node in here.nodes]
        raise Violation("; ".join([*_left(here), *leads])) from None


def _left(here: Region) -> Iterator[str]:
    parties = [(client.id, client.region.catalog) for client in here.clients]
    parties += [(node.id, node.handler.catalog.catalog) for node in here.nodes]
    catalogs = {
        party: (view.revision, tuple(sorted((t.name, t.status.value, t.revision) for t in view.tables.values())))
        for party, view in parties
    }
    if len({*catalogs.values()}) > 1:
        yield from (f"{party} has {catalog}" for party, catalog in catalogs.items())
    tables = here.nodes[0].handler.catalog.catalog.tables
    yield from (
        f"{table.name} is {table.status}" for table in tables.values() if table.status is not TableStatus.ACTIVE
    )
    partitions = [partition for table in tables.values() for partition in table.all_partitions]
    for node in here.nodes:
        assert node.node is not None
        wanted = {METADATA_PARTITION, *(one.id for one in partitions if node.id in one.holders)}
        for where, held in (
            ("memory", {group.partition for group in node.node.service.groups}),
            ("state", set(node.node._store._groups)),
            ("log", {one for one, log in node.node._log._index.groups.items() if one in wanted or log.last_index}),
        ):
            if held != wanted:
                yield f"{node.id} {where}: {sorted(held)}, not {sorted(wanted)}"
