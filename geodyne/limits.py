"""Every numeric limit of the API that a client can run into, in one place, with its relations asserted.

Source: Amazon DynamoDB Developer Guide, "Quotas" and "Constraints"; the service model for request shapes. DynamoDB
counts 1 KB as 1024 bytes. Names end in the unit (BYTES, KEYS, ITEMS) and in MAX or MIN where they bound something.
"""

from __future__ import annotations

KB = 1024
MB = 1024 * KB
GB = 1024 * MB

# --- items and attribute values ---------------------------------------------------------------------------

ITEM_BYTES_MAX = 400 * KB
ITEM_COLLECTION_BYTES_MAX = 10 * GB  # items of one partition key and their entries, of a table with local indexes
NESTING_MAX = 32  # levels of values: 31 lists or maps around a scalar
ATTRIBUTE_NAME_BYTES_MAX = 65_535  # "64 KB": the last accepted length is one less than the documented one
NUMBER_DIGITS_MAX = 38
NUMBER_EXPONENT_MIN = -130  # of the leading digit: 1E-130 is the smallest magnitude but zero
NUMBER_EXPONENT_MAX = 125  # 9.99...E+125 is the largest

# --- keys --------------------------------------------------------------------------------------------------

PARTITION_KEY_BYTES_MAX = 2048
SORT_KEY_BYTES_MAX = 1024
KEY_NAME_BYTES_MAX = 255

# --- expressions -------------------------------------------------------------------------------------------

EXPRESSION_BYTES_MAX = 4 * KB
EXPRESSION_OPERATORS_MAX = 300
EXPRESSION_DEPTH_MAX = 64  # of parentheses, NOT and nested functions: keeps the parser's stack bounded
EXPRESSION_VALUES_BYTES_MAX = 2 * MB  # all substitution values of a request, and the names of its placeholders
PLACEHOLDER_BYTES_MAX = 255  # one "#name" or ":value"
IN_OPERANDS_MAX = 100
LIST_INDEX_MAX = 2**31 - 1
LEGACY_ELEMENTS_MAX = 5_000  # attributes and values of one legacy parameter; ours: keeps its translation under 0.1 s
PATH_DEREFERENCES_MAX = 32  # of one document path: dots and brackets
PARSED_EXPRESSIONS_MAX = 1024  # entries of each cache of parsed texts; a tree of a 4 KB text takes up to 60 KB

# --- PartiQL -----------------------------------------------------------------------------------------------

PARSED_STATEMENTS_MAX = 256  # entries of the cache of parsed statements
PARTIQL_CACHED_LENGTH_MAX = 2048  # characters of one: its tree takes up to 250 KB
PARTIQL_STATEMENT_LENGTH_MAX = 8192  # characters
PARTIQL_DEPTH_MAX = 40  # of brackets, signs, NOT and calls: keeps the parser's stack bounded
PARTIQL_HASH_CHOICES_MAX = 50  # values of IN, or of OR, for the partition key
PARTIQL_IN_PAGE_ITEMS = 10  # items of one page, when there are several values for the partition key
PARTIQL_TOKEN_LENGTH_MAX = 32_768

# --- requests ----------------------------------------------------------------------------------------------

BODY_BYTES_MAX = 16 * MB
PAGE_BYTES = 1 * MB  # of evaluated items in one page of a Query or Scan
BATCH_GET_KEYS_MAX = 100
BATCH_GET_BYTES_MAX = 16 * MB
BATCH_WRITE_ITEMS_MAX = 25
BATCH_WRITE_BYTES_MAX = 16 * MB
TRANSACTION_BYTES_MAX = 4 * MB  # of all items of a transaction together
SCAN_SEGMENTS_MAX = 1_000_000

# --- tables ------------------------------------------------------------------------------------------------

TABLE_NAME_LENGTH_MIN = 3
TABLE_NAME_LENGTH_MAX = 255
TABLE_NAME_PATTERN = "[a-zA-Z0-9_.-]+"
TABLE_ARN_LENGTH_MAX = 1024  # where a table may be named by its ARN
TABLES_MAX = 2500  # of one region
LIST_TABLES_PAGE_MAX = 100
TABLE_READ_UNITS_MAX = 40_000
TABLE_WRITE_UNITS_MAX = 40_000
ACCOUNT_READ_UNITS_MAX = 80_000
ACCOUNT_WRITE_UNITS_MAX = 80_000
THROUGHPUT_UNITS_MAX = 1_000_000_000_000  # of one member of a request; the account's quota is lower
DECREASES_AT_ANY_TIME_MAX = 4  # of provisioned units in a day (UTC); each further one an hour after the last
# What an on-demand table or index serves from its first moment ("On-demand capacity mode").
ON_DEMAND_READ_UNITS = 12_000
ON_DEMAND_WRITE_UNITS = 4_000
TAGS_MAX = 50

# --- streams -----------------------------------------------------------------------------------------------

STREAMS_PAGE_MAX = 100  # of ListStreams
STREAM_SHARDS_PAGE_MAX = 100  # of DescribeStream
STREAM_PAGE_RECORDS_MAX = 1000  # of GetRecords
STREAM_PAGE_BYTES = 1 * MB

# --- secondary indexes -------------------------------------------------------------------------------------

LOCAL_INDEXES_MAX = 5
GLOBAL_INDEXES_MAX = 20
INDEX_KEY_ATTRIBUTES_MAX = 4  # HASH attributes of a global index, and RANGE attributes
PROJECTED_ATTRIBUTES_MAX = 100  # NonKeyAttributes of all indexes of a table; 20 of one (service model)

# --- capacity ----------------------------------------------------------------------------------------------

READ_UNIT_BYTES = 4 * KB
WRITE_UNIT_BYTES = 1 * KB

assert ITEM_BYTES_MAX < PAGE_BYTES < BODY_BYTES_MAX  # any item fits in a page, any page in a body
assert BATCH_WRITE_ITEMS_MAX * ITEM_BYTES_MAX <= BATCH_WRITE_BYTES_MAX <= BODY_BYTES_MAX
assert BATCH_GET_BYTES_MAX >= PAGE_BYTES
assert PARTITION_KEY_BYTES_MAX + SORT_KEY_BYTES_MAX < ITEM_BYTES_MAX
assert PARTITION_KEY_BYTES_MAX < 2**16 - 256  # its length travels in two bytes, the first of which is below 0xFF
assert NUMBER_EXPONENT_MAX - NUMBER_EXPONENT_MIN <= 255  # the exponent of a number key fits a byte
assert IN_OPERANDS_MAX < EXPRESSION_OPERATORS_MAX < EXPRESSION_BYTES_MAX
assert EXPRESSION_VALUES_BYTES_MAX >= ITEM_BYTES_MAX
assert PARTIQL_DEPTH_MAX > NESTING_MAX  # any value that can be stored can be written
assert TABLE_READ_UNITS_MAX <= ACCOUNT_READ_UNITS_MAX
assert TABLE_WRITE_UNITS_MAX <= ACCOUNT_WRITE_UNITS_MAX
assert TABLE_NAME_LENGTH_MIN <= TABLE_NAME_LENGTH_MAX <= TABLE_ARN_LENGTH_MAX
