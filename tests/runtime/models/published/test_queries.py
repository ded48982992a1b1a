"""What the public catalogue is asked, to the letter, and how its answers go on."""

from __future__ import annotations

import json
import re

import pytest

from foundry_proto.jsontext import ContentError
from foundry_runtime.models.published.queries import FIRST, Continuation, Page, question, read_page

BODY = """\
{"resourceIds":[{"resourceId":"azureml","entityContainerType":"Registry"}],
 "indexEntitiesRequest":{"filters":[
  {"field":"type","operator":"eq","values":["models"]},{"field":"kind","operator":"eq","values":["Versioned"]},
  {"field":"labels","operator":"eq","values":["latest"]},
  {"field":"annotations/tags/foundryLocal","operator":"eq","values":[""]},
  {"field":"properties/variantInfo/variantMetadata/device","operator":"eq","values":["DEVICE"]},
  {"field":"properties/variantInfo/variantMetadata/executionProvider","operator":"eq","values":["PROVIDER"]}],
 "pageSize":50}}"""


@pytest.mark.parametrize(
    ("name", "device", "provider"),
    [("cpu", "cpu", "CPUExecutionProvider"), ("qnn", "npu", "QNNExecutionProvider")],
)
def test_a_question_is_what_the_official_client_asks(name: str, device: str, provider: str) -> None:
    body = BODY.replace("DEVICE", device).replace("PROVIDER", provider)
    # In its order, too.
    assert json.dumps(question(name)) == json.dumps(json.loads(body))


def test_a_further_page_is_asked_for_by_what_the_last_one_said() -> None:
    request = question("cpu", Continuation(skip=50, token="x"))["indexEntitiesRequest"]
    assert list(request)[1:] == ["pageSize", "skip", "continuationToken"]
    assert (request["skip"], request["continuationToken"]) == (50, "x")


@pytest.mark.parametrize(
    ("start", "said", "following"),
    [
        (FIRST, {"nextSkip": 50, "continuationToken": None}, Continuation(skip=50)),
        (FIRST, {"continuationToken": "x"}, Continuation(token="x")),
        (FIRST, {"nextSkip": 50, "continuationToken": "x"}, Continuation(skip=50, token="x")),
        (FIRST, {}, None),
        (FIRST, {"nextSkip": 0, "continuationToken": ""}, None),
        (FIRST, {"nextSkip": True, "continuationToken": 5}, None),
        (Continuation(skip=50), {"nextSkip": 50}, None),
    ],
)
def test_an_answer_goes_on_where_it_says(
    start: Continuation, said: dict[str, object], following: Continuation | None
) -> None:
    assert read_page({"indexEntitiesResponse": {"value": [1], **said}}, start) == Page(
        entries=[1], following=following
    )


def test_a_page_without_entries_is_the_last() -> None:
    assert read_page({"indexEntitiesResponse": {"value": [], "nextSkip": 9}}, FIRST).following is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "body: expected an object with an object indexEntitiesResponse, got an array"),
        ({"a": 1}, "body: expected an object with an object indexEntitiesResponse, got an object"),
        (
            {"indexEntitiesResponse": {"value": None}},
            "indexEntitiesResponse: expected an object with an array, got an object",
        ),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_refused(content: object, message: str) -> None:
    with pytest.raises(ContentError, match="^" + re.escape(message)):
        read_page(content, FIRST)
