"""How failures look in replies of either family, and what is read from any server's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from foundry_proto.codec import encode
from foundry_proto.events import Failure
from foundry_proto.messages.errors import error_body, read_failure, status_phrase

FAILURE = Failure(status=404, message="no such model: é", param="model", code="model_not_found")


def test_an_error_is_openais_object() -> None:
    assert encode(error_body(FAILURE, "openai")).decode() == (
        '{"error":{"message":"no such model: é","type":"invalid_request_error","param":"model",'
        '"code":"model_not_found"}}'
    )


def test_an_error_of_the_older_routes_can_be_read_by_clients_of_both_generations() -> None:
    assert encode(error_body(FAILURE, "compatible")).decode() == (
        '{"error":{"message":"no such model: é","type":"invalid_request_error","param":"model",'
        '"code":"model_not_found"},"type":"about:blank","title":"Not Found","status":404,'
        '"detail":"no such model: é","success":false,"errorMessage":"no such model: é"}'
    )


@pytest.mark.parametrize(
    ("status", "phrase"),
    [
        (200, "OK"),
        (404, "Not Found"),
        (499, "Client Error"),
        (529, "Server Error"),
        (299, "Success"),
        (42, "Unknown"),
    ],
)
def test_every_status_has_a_phrase(status: int, phrase: str) -> None:
    assert status_phrase(status) == phrase


@pytest.mark.parametrize("family", ["openai", "compatible"])
@pytest.mark.parametrize(
    "failure", [FAILURE, Failure(status=529, message="overloaded")], ids=["known", "unknown"]
)
def test_what_was_written_is_read_back(failure: Failure, family: Any) -> None:
    assert read_failure(json.loads(encode(error_body(failure, family))), status=failure.status) == failure


@pytest.mark.parametrize(
    ("plain", "failure"),
    [
        # OpenAI's form with a number for a code, as llama.cpp and vLLM write it.
        (
            {"error": {"message": "no", "type": "exceed_context", "code": 400}},
            Failure(status=418, message="no", type="exceed_context", code="400"),
        ),
        (
            {"error": {"message": "no", "type": None, "param": 5, "code": []}},
            Failure(status=418, message="no"),
        ),
        ({"error": {"message": "no", "type": ""}}, Failure(status=418, message="no")),
        ({"error": "no"}, Failure(status=418, message="no")),
        # The first service's problem details, and its download's end.
        ({"type": "u", "title": "Bad", "status": 418, "detail": "no"}, Failure(status=418, message="no")),
        ({"success": False, "errorMessage": "no"}, Failure(status=418, message="no")),
        ({"error": None, "errorMessage": "", "message": "no"}, Failure(status=418, message="no")),
        ({"title": "no"}, Failure(status=418, message="no")),
        ({"error": {}}, None),
        ({"error": {"message": ""}}, None),
        ({"error": {"message": 5}}, None),
        ({"error": 5}, None),
        ({}, None),
        ([], None),
        ("no", None),
        (None, None),
    ],
    ids=repr,
)
def test_any_servers_error_is_read_as_well_as_it_can_be(plain: object, failure: Failure | None) -> None:
    assert read_failure(plain, status=418) == failure


def test_a_read_failure_keeps_the_replys_headers() -> None:
    headers = ((b"retry-after", b"5"),)
    assert read_failure({"error": {"message": "no"}}, status=503, headers=headers) == Failure(
        status=503, message="no", type="server_error", headers=headers
    )


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request_error"), (499, "invalid_request_error"), (500, "server_error")],
)
def test_a_failure_is_the_servers_from_500_on(status: int, kind: str) -> None:
    assert Failure(status=status, message="no").type == kind
