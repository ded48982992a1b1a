"""The server answers as its own OpenAPI document says: whatever schemathesis sends, it finds no status and no
body that the document does not have, and no failure of the server's own.

The requests are drawn from the document, always the same ones, in both directions: what it allows, and what
it does not. Names of models are made likely to mean one, so that answers are looked at, too. With
`SCHEMATHESIS_EXAMPLES=200` in the environment each route gets that many, and every property its boundaries.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final

import anyio
import anyio.from_thread
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core import NOT_SET
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from foundry_proto.codec import encode
from foundry_proto.openapi import openapi_document
from foundry_proto.operations import ALL
from foundry_proto.streams import SSE_JSON
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.server import serve
from foundry_runtime.transport import open_tcp_listeners
from foundry_serve.app import make_application
from tests.serve.conftest import add_model
from tests.support.scripted_model import ScriptedModels
from tests.support.tiny_model import MODEL_ID

NAMES: Final = [MODEL_ID, MODEL_ID.partition(":")[0], "smollm2-135m", "nope"]
"""Models that are here, known, and nowhere."""

CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

LARGE: Final = [operation.path for operation in ALL if operation.name in ("chat_completions", "count_tokens")]
"""What takes requests of so many properties that a single one takes half a second to draw."""

MORE: Final = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "0"))


def document() -> Any:
    """The document, in which the names of models are some that are there."""
    plain = json.loads(encode(openapi_document(ALL)))
    names = {"type": "string", "enum": NAMES}
    for schema in plain["components"]["schemas"].values():
        if schema.get("properties", {}).get("model") == {"type": "string"}:
            schema["properties"]["model"] = names
    for item in plain["paths"].values():
        for operation in item.values():
            for parameter in operation["parameters"]:
                if parameter["name"] == "name":
                    parameter["schema"] = names
    return plain


SCHEMA: Final = schemathesis.openapi.from_dict(document())


def drawn(examples: int, *, boundaries: bool) -> settings:
    """As many requests as that, the same in every run, and some at the boundaries of each property."""
    phases = (Phase.explicit, Phase.generate) if boundaries or MORE else (Phase.generate,)
    return settings(
        max_examples=MORE or examples,
        phases=phases,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@asynccontextmanager
async def product(home: ModelDirectory) -> AsyncIterator[str]:
    """Serve the product's application over TCP; give its URL."""
    stop = anyio.Event()
    async with anyio.create_task_group() as engines, anyio.create_task_group() as tasks:
        application = make_application(home, ScriptedModels(engines))
        (listener,) = await open_tcp_listeners("127.0.0.1", 0)
        await tasks.start(partial(serve, application, [listener], stop=stop))
        yield f"http://{listener.address}"
        stop.set()


@pytest.fixture(scope="module")
def servers(tiny_home: ModelDirectory, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iterator[str]]:
    """A server on each event loop; they are asked in turn."""
    with ExitStack() as stack:
        urls = []
        for backend in ("asyncio", "trio"):
            home = ModelDirectory(tmp_path_factory.mktemp(backend))
            add_model(home, MODEL_ID, tiny_home.models / "Test" / "tiny")
            portal = stack.enter_context(anyio.from_thread.start_blocking_portal(backend))
            urls.append(stack.enter_context(portal.wrap_async_context_manager(product(home))))
        yield itertools.cycle(urls)


@SCHEMA.exclude(path=LARGE).parametrize()
@drawn(6, boundaries=True)
def test_every_answer_is_one_that_the_document_has(
    case: schemathesis.Case[Any], servers: Iterator[str]
) -> None:
    case.validate_response(case.call(base_url=next(servers)), checks=CHECKS)


@SCHEMA.include(path=LARGE).parametrize()
@drawn(3, boundaries=False)
def test_every_answer_to_a_chat_is_one_that_the_document_has(
    case: schemathesis.Case[Any], servers: Iterator[str]
) -> None:
    case.validate_response(case.call(base_url=next(servers)), checks=CHECKS)


def answered(media: str, schema: object, *, status: str = "200") -> object:
    return {status: {"description": "", "content": {media: {"schema": schema}}}}


EVENT: Final = "text/event-stream"
A_CHAT: Final = {"model": MODEL_ID, "messages": [{"role": "user", "content": "Hi"}], "stream": True}


@pytest.mark.parametrize(
    ("path", "method", "body", "answers"),
    [
        (
            "/openai/getgpudevice",
            "GET",
            None,
            answered("application/json", {"type": "integer"}, status="204"),
        ),
        ("/openai/getgpudevice", "GET", None, answered("application/json", {"type": "string"})),
        ("/openai/getgpudevice", "GET", None, answered("text/plain", {"type": "integer"})),
        ("/v1/chat/completions", "POST", A_CHAT, answered(EVENT, SSE_JSON.schema(int, lambda _: False))),
    ],
    ids=["status", "type", "form", "event"],
)
def test_an_answer_that_the_document_does_not_have_is_noticed(
    path: str, method: str, body: Any, answers: object, servers: Iterator[str]
) -> None:
    plain = document()
    plain["paths"][path][method.lower()]["responses"] = answers
    case = schemathesis.openapi.from_dict(plain)[path][method].Case(
        body=body or NOT_SET, media_type="application/json"
    )
    with pytest.raises(FailureGroup):
        case.validate_response(case.call(base_url=next(servers)), checks=CHECKS)
