"""Tables as requests name and use them: a name or an ARN on one side, the catalog's record on the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from geodyne.catalog import SYSTEM_PREFIX, IndexRecord, PartitionRecord, TableRecord, TableStatus
from geodyne.errors import ApiError, validation
from geodyne.limits import TABLES_MAX
from geodyne.model.indexkeys import IndexSchema
from geodyne.model.keys import hash_of

ARN_PARTITION = "aws"
ARN_PARTS = 6
CACHED_TABLES_MAX = 2 * TABLES_MAX

# Items of a table in these states can be read and written.
_SERVING = frozenset({TableStatus.ACTIVE, TableStatus.UPDATING})


class Table:
    """A table's record with what every request derives from it."""

    __slots__ = ("indexes", "key_names", "local_indexes", "record", "schema")

    def __init__(self, record: TableRecord) -> None:
        self.record = record
        self.schema = record.key_schema
        self.key_names = self.schema.names
        self.indexes = {index.name: Index(index, self) for index in record.indexes}
        self.local_indexes = tuple(index.name for index in record.indexes if not index.is_global)

    @property
    def serves(self) -> bool:
        return self.record.status in _SERVING

    def partition(self, key: bytes) -> PartitionRecord:
        """The partition that owns a key, by the hash in its first 8 bytes."""
        return self.record.partition_of(hash_of(key))

    def renewed(self, tables: TableCache, records: Mapping[str, TableRecord]) -> Table:
        """The same table as the catalog has it now. Raises ResourceNotFoundException when it serves no more."""
        return tables.serving(records, self.record.name)


class Index:
    """A secondary index of a table with what requests derive from it."""

    __slots__ = ("kept", "key_names", "record", "schema", "table")

    def __init__(self, record: IndexRecord, table: Table) -> None:
        self.record = record
        self.table = table
        self.schema = IndexSchema(record.hash_keys, record.range_keys, table.schema)
        self.key_names = tuple(name for name, _ in (*record.hash_keys, *record.range_keys))
        included = record.included if record.projection == "INCLUDE" else ()
        self.kept = None if record.projection == "ALL" else frozenset((*self.schema.names, *included))

    def lacks(self, attributes: Iterable[str]) -> list[str]:
        """Those of the attributes that the index does not keep, each once."""
        if self.kept is None:
            return []
        return [name for name in dict.fromkeys(attributes) if name not in self.kept]

    def partition(self, key: bytes) -> PartitionRecord:
        """The partition that holds an entry: one of the table for a local index, of its own for a global one."""
        if self.record.is_global:
            return self.record.partition_of(hash_of(key))
        return self.table.partition(key)

    def renewed(self, tables: TableCache, records: Mapping[str, TableRecord]) -> Index:
        """The same index as the catalog has it now. Raises ApiError when it is there no more."""
        index = self.table.renewed(tables, records).indexes.get(self.record.name)
        if index is None or index.record.revision != self.record.revision:
            raise no_index(self.record.name)
        return index


Place = Table | Index  # where a Query or Scan reads


class TableCache:
    """`Table` by record. A new record of a table (another object) replaces what was derived from the old one."""

    __slots__ = ("_account_id", "_region", "_tables")

    def __init__(self, region: str, account_id: str) -> None:
        self._region = region
        self._account_id = account_id
        self._tables: dict[str, Table] = {}

    def find(self, records: Mapping[str, TableRecord], name_or_arn: str) -> Table | None:
        """The table, in whatever state, or None. Raises ApiError for an ARN that names no table of this region."""
        record = records.get(name_or_arn)
        if record is None:
            if ":" not in name_or_arn:
                return None
            record = records.get(self.name_of(name_or_arn))
            if record is None:
                return None
        table = self._tables.get(record.name)
        if table is None or table.record is not record:
            if record.name.startswith(SYSTEM_PREFIX):
                return None  # the region's own: nobody's to use
            if len(self._tables) >= CACHED_TABLES_MAX:
                self._tables.clear()
            table = self._tables[record.name] = Table(record)
        return table

    def serving(self, records: Mapping[str, TableRecord], name_or_arn: str) -> Table:
        """The table whose items a request wants. Raises ResourceNotFoundException unless it serves them."""
        table = self.find(records, name_or_arn)
        if table is None or not table.serves:
            raise not_found()
        return table

    def name_of(self, name_or_arn: str) -> str:
        """The name of a table given by name or ARN.

        An ARN of another account names no table here. Raises ValidationException for an ARN of another service,
        region or kind of resource.
        """
        if not name_or_arn.startswith("arn:"):
            return name_or_arn
        parts = name_or_arn.split(":", ARN_PARTS - 1)
        if len(parts) != ARN_PARTS or parts[2] != "dynamodb":
            raise _invalid_arn("Invalid table ARN:", name_or_arn)
        _, partition, _, region, account, resource = parts
        if partition != ARN_PARTITION:
            raise _invalid_arn("Invalid AWS partition in", name_or_arn)
        if region != self._region:
            raise _invalid_arn("Invalid AWS region in", name_or_arn)
        kind, _, name = resource.partition("/")
        if kind != "table" or not name or "/" in name:
            raise _invalid_arn("Invalid resource type in", name_or_arn)
        if account != self._account_id or name.startswith(SYSTEM_PREFIX):
            raise not_found()
        return name


def table_arn(region: str, account_id: str, name: str) -> str:
    return f"arn:{ARN_PARTITION}:dynamodb:{region}:{account_id}:table/{name}"


def not_found(name: str | None = None) -> ApiError:
    """The data plane does not repeat the table's name; the control plane does."""
    what = "Requested resource not found"
    return ApiError("ResourceNotFoundException", what if name is None else f"{what}: Table: {name} not found")


def no_index(name: str) -> ApiError:
    return validation(f"The table does not have the specified index: {name}")


def _invalid_arn(problem: str, arn: str) -> ApiError:
    return validation(f"1 validation error detected: {problem} '{arn}'")
