"""Errors as the Lambda API answers them: the name in a header, the text in the body, statuses of its service model."""

from __future__ import annotations

from typing import Final, NamedTuple

import orjson

from geodyne.errors import ApiError

INVALID: Final = "InvalidParameterValueException"
NOT_FOUND: Final = "ResourceNotFoundException"
CONFLICT: Final = "ResourceConflictException"
IN_USE: Final = "ResourceInUseException"
THROTTLED: Final = "TooManyRequestsException"
FAILED: Final = "ServiceException"
UNKNOWN: Final = "UnknownOperationException"
MALFORMED: Final = "SerializationException"
TOO_LARGE: Final = "RequestTooLargeException"

_STATUS: Final = {
    INVALID: 400,
    IN_USE: 400,
    MALFORMED: 400,
    NOT_FOUND: 404,
    UNKNOWN: 404,
    CONFLICT: 409,
    TOO_LARGE: 413,
    THROTTLED: 429,
    FAILED: 500,
}
_FORBIDDEN: Final = 403  # whatever is wrong with a signature
_LOWER_CASE: Final = frozenset({INVALID, CONFLICT, THROTTLED})  # whose text is "message", not "Message"
# What the region's own errors are called here.
_SAME: Final = {
    "LimitExceededException": THROTTLED,
    "ServiceUnavailable": FAILED,
    "InternalServerError": FAILED,
    "ValidationException": INVALID,
}


class LambdaError(Exception):
    """An error answer of the Lambda API."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


class ErrorAnswer(NamedTuple):
    status: int
    code: str
    body: bytes


def invalid(message: str) -> LambdaError:
    """The error that most bad requests deserve."""
    return LambdaError(INVALID, message)


def answer(error: LambdaError | ApiError) -> ErrorAnswer:
    """Status, name and body of an error. An ApiError that has no name in Lambda's model is about a signature."""
    if isinstance(error, ApiError):
        code, text = error.kind.code, error.message or ""
        code = _SAME.get(code, code)
        status = _STATUS.get(code, _FORBIDDEN)
        if error.kind.code == "ServiceUnavailable":
            status = 503
    else:
        code, text, status = error.code, error.message, _STATUS[error.code]
    key = "message" if code in _LOWER_CASE else "Message"
    return ErrorAnswer(status, code, orjson.dumps({"Type": "Service" if status >= 500 else "User", key: text}))
