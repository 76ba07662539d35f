"""Every operation of the service model is there, or says that it is not."""

from __future__ import annotations

from botocore.loaders import Loader

from router.api.registry import OPERATIONS
from tests.api.service import Service

MODEL = Loader().load_service_model("dynamodb", "service-2")


def test_what_is_not_built_is_an_unknown_operation(service: Service) -> None:
    for name in sorted(set(MODEL["operations"]) - set(OPERATIONS)):
        for body in ({}, {"TableName": "any"}, {"TableName": 3}):
            answer = service.call(name, body)
            assert (answer.status, answer.code) == (400, "UnknownOperationException"), name


def test_what_is_built_answers_an_empty_request(service: Service) -> None:
    for name in sorted(OPERATIONS):
        answer = service.call(name, {})
        if answer.status != 200:
            assert (answer.status, answer.code) == (400, "ValidationException"), (name, answer.body)


def test_nothing_is_built_that_the_model_does_not_have() -> None:
    assert set(OPERATIONS) <= set(MODEL["operations"])
