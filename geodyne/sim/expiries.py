"""What a replica's index of what expires holds, compared with what its rows say it must."""

from __future__ import annotations

from geodyne.model.expiry import SECOND_MAX
from geodyne.model.values import loads
from geodyne.sim.network import Violation
from node.state import Definition
from node.storage.sqlite import StateStore

ROWS_MAX = 100_000
END = b"\xff" * 64


def check_expiries(who: str, store: StateStore, partition: int, definition: Definition) -> None:
    """Raises Violation when the index lacks what it must have, or has what it must not."""
    found = set(store.expiring(partition, (0, b""), SECOND_MAX, ROWS_MAX))
    wanted = set()
    if definition.ttl:
        for key, row in store.range(partition, b"", END, False, ROWS_MAX):
            value = loads(row.value or b"{}").get(definition.ttl, {}).get("N", "")
            if value.isdecimal() and 0 < int(value) <= SECOND_MAX:
                wanted.add((int(value), key))
    complete = store.expiries_filled(partition)
    if found - wanted or (complete and wanted - found):
        raise Violation(
            f"{who}: what expires in partition {partition}: {sorted(found - wanted)} is there, and should not be; "
            f"{sorted(wanted - found)} is not there (complete: {complete})"
        )
