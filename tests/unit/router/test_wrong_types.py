"""Every member of every operation refuses every other JSON type, in the parser's words."""

from __future__ import annotations

from typing import Any

import pytest

from geodyne.errors import ApiError
from router.api.shapes import validator
from router.api.valuetypes import check_value_types
from tests.api.wrongtypes import operation_names, wrong_types


def refusal(operation: str, body: Any) -> tuple[str, str | None]:
    try:
        validator(operation)(body)
        check_value_types(operation, body)
    except ApiError as error:
        if error.kind.code != "ValidationException":
            return error.kind.code, error.message
        try:
            check_value_types(operation, body)
        except ApiError as hidden:
            return hidden.kind.code, hidden.message
        return error.kind.code, error.message
    return "accepted", None


@pytest.mark.parametrize("operation", operation_names())
def test_a_wrong_type_anywhere_is_named(operation: str) -> None:
    wrong = [
        (case.path, case.body, found, case.message)
        for case in wrong_types(operation)
        if (found := refusal(operation, case.body)) != ("SerializationException", case.message)
    ]
    assert wrong == []
