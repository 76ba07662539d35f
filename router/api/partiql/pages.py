"""NextToken: where a SELECT goes on, opaque to clients.

A token carries its position and a digest over it, the statement, its parameters and the table: one that was changed,
or that belongs to another statement, is refused. There is no secret in it: whoever forges one says no more than an
ExclusiveStartKey does, and its content is looked at as that of any request.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from hashlib import blake2b
from typing import Any

import orjson

from geodyne.errors import ApiError, validation
from geodyne.limits import PARTIQL_TOKEN_LENGTH_MAX

_DIGEST_BYTES = 16

Position = dict[str, Any]


class Tokens:
    """The tokens of one statement with its parameters, on one table."""

    __slots__ = ("_about",)

    def __init__(self, statement: str, parameters: object, table_id: str) -> None:
        self._about = orjson.dumps([statement, parameters, table_id])

    def write(self, position: Position) -> str:
        """Raises ApiError when the position has no room in a token."""
        payload = orjson.dumps(position)
        token = urlsafe_b64encode(self._digest(payload) + payload).decode("ascii")
        if len(token) > PARTIQL_TOKEN_LENGTH_MAX:
            raise validation("The result cannot be continued: its NextToken would exceed the maximum allowed size")
        return token

    def read(self, token: str) -> Position:
        """Raises ApiError (ValidationException) for anything but a token of this statement."""
        try:
            data = urlsafe_b64decode(token.encode("ascii"))
        except (Base64Error, ValueError):
            raise invalid_token() from None
        payload = data[_DIGEST_BYTES:]
        # The decoder passes over characters that are none of base64.
        if urlsafe_b64encode(data) != token.encode("ascii") or data[:_DIGEST_BYTES] != self._digest(payload):
            raise invalid_token()
        try:
            position = orjson.loads(payload)
        except orjson.JSONDecodeError:
            raise invalid_token() from None
        if type(position) is not dict:
            raise invalid_token()
        return position

    def _digest(self, payload: bytes) -> bytes:
        length = len(self._about).to_bytes(8, "big")
        return blake2b(length + self._about + payload, digest_size=_DIGEST_BYTES, person=b"partiql-token").digest()


def invalid_token() -> ApiError:
    return validation("Invalid NextToken")
