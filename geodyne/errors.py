"""The one catalogue of errors that a client can see, and the exception that carries them.

Names, HTTP status codes and prefixes are DynamoDB's (botocore's service model; the developer guide, "Error
handling"). `retryable`: an SDK tries again by itself. `definite`: the operation had no effect for certain.
An error is added only when some caller can react to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SERVICE = "com.amazonaws.dynamodb.v20120810"
CORAL = "com.amazon.coral.service"
VALIDATE = "com.amazon.coral.validate"


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """One kind of error. `message_key` is the member that carries the text: DynamoDB is not uniform about it."""

    code: str
    status: int = 400
    prefix: str = SERVICE
    retryable: bool = False
    definite: bool = True
    message_key: str = "message"


CATALOGUE: dict[str, ErrorKind] = {
    kind.code: kind
    for kind in (
        ErrorKind("ValidationException", prefix=VALIDATE),
        ErrorKind("SerializationException", prefix=CORAL, message_key="Message"),
        ErrorKind("UnknownOperationException", prefix=CORAL),
        ErrorKind("MissingAuthenticationTokenException", prefix=CORAL),
        ErrorKind("IncompleteSignatureException", prefix=CORAL),
        ErrorKind("InvalidSignatureException", prefix=CORAL),
        ErrorKind("UnrecognizedClientException", prefix=CORAL),
        ErrorKind("ExpiredTokenException", prefix=CORAL),
        ErrorKind("AccessDeniedException", prefix=CORAL, message_key="Message"),
        ErrorKind("ResourceNotFoundException"),
        ErrorKind("ResourceInUseException"),
        ErrorKind("ResourceConflictException", status=409),
        ErrorKind("TableNotFoundException"),
        ErrorKind("TableAlreadyExistsException"),
        ErrorKind("GlobalTableNotFoundException"),
        ErrorKind("LimitExceededException", retryable=True),
        ErrorKind("ConditionalCheckFailedException"),
        ErrorKind("DuplicateItemException"),
        ErrorKind("ItemCollectionSizeLimitExceededException"),
        ErrorKind("TransactionConflictException", retryable=True),
        ErrorKind("TransactionCanceledException", message_key="Message"),
        ErrorKind("TransactionInProgressException", retryable=True, message_key="Message"),
        ErrorKind("IdempotentParameterMismatchException", message_key="Message"),
        ErrorKind("ProvisionedThroughputExceededException", retryable=True),
        ErrorKind("ThrottlingException", prefix=CORAL, retryable=True),
        ErrorKind("RequestLimitExceeded", retryable=True),
        ErrorKind("ReplicatedWriteConflictException", retryable=True),
        ErrorKind("ExpiredIteratorException"),
        ErrorKind("TrimmedDataAccessException"),
        ErrorKind("RequestEntityTooLargeException", status=413, prefix=CORAL),
        ErrorKind("InternalServerError", status=500, retryable=True, definite=False),
        ErrorKind("ServiceUnavailable", status=503, prefix=CORAL, retryable=True),
    )
}


class ApiError(Exception):
    """An error answer to a client. `details` are further members of the body (Item, CancellationReasons ...)."""

    def __init__(self, code: str, message: str | None = "", **details: Any) -> None:
        super().__init__(code, message)
        self.kind = CATALOGUE[code]
        self.message = message
        self.details = details

    @property
    def reason(self) -> str:
        """For people: the message, or the code of an error that has none."""
        return self.message or self.kind.code


def replica_exists(table: str) -> str:
    """What DynamoDB says of a new replica whose region has a table of that name."""
    return (
        f"Failed to create a the new replica of table with name: ‘{table}’ because one or more replicas already "
        "existed as tables."
    )


def validation(message: str) -> ApiError:
    """The error that most bad requests deserve."""
    return ApiError("ValidationException", message)
