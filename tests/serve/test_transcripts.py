"""The golden transcripts' requests, sent to the product byte by byte as they stand: it answers as they show.

Every example of the reference page is one of them. What differs from run to run (ids, times, counts, paths)
has to be of the same kind; names of models may have their version, which the page's examples leave out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import h11
import pytest
from attrs import frozen

from foundry_proto.operations import DOCUMENTED
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.transport import Transport
from tests.support.asking import ask
from tests.support.scripted_model import scripted_server
from tests.support.transcripts import TRANSCRIPTS

pytestmark = pytest.mark.anyio

PHI: Final = "/openai/load/Phi-4-mini-instruct-generic-cpu"
BOTH: Final = (PHI, "/openai/load/phi-3.5-mini-instruct-generic-cpu")


@frozen(kw_only=True)
class Case:
    """What makes the product answer as a transcript shows."""

    given: tuple[str, ...] = ()
    """What is asked before."""
    allowed: bool = True
    """Whether the server may be stopped by request."""
    exact: bool = True
    """Whether the values are those of the transcript; otherwise only their kinds are."""


CASES: Final[dict[str, Case]] = {
    "cache_location/running": Case(),
    "cached_models/documented": Case(exact=False),
    "chat_completions/documented": Case(),
    "chat_completions/refused": Case(),
    "chat_completions/unknown_model": Case(),
    "core_load_model/loaded": Case(),
    "core_load_model/loaded_already": Case(given=(PHI,)),
    "core_load_model/not_downloaded": Case(),
    "core_load_model/unknown_model": Case(),
    "core_loaded_models/one": Case(given=(PHI,)),
    "core_status/running": Case(exact=False),
    "core_unload_model/not_loaded": Case(),
    "core_unload_model/unknown_model": Case(),
    "core_unload_model/unloaded": Case(given=(PHI,)),
    "count_tokens/documented": Case(),
    "count_tokens/no_model": Case(),
    "count_tokens/unknown_model": Case(),
    "get_gpu_device/documented": Case(),
    "get_model/cached": Case(exact=False),
    "get_model/unknown_model": Case(),
    "health/ready": Case(),
    "health_live/live": Case(),
    "health_ready/ready": Case(),
    "list_catalog/as_an_object": Case(exact=False),
    "list_catalog/documented": Case(exact=False),
    "list_catalog/in_no_format": Case(),
    "list_models/all": Case(exact=False),
    "list_models/cached": Case(exact=False),
    "list_models/neither": Case(),
    "load_model/documented": Case(),
    "load_model/no_time": Case(),
    "load_model/not_downloaded": Case(),
    "load_model/unknown_model": Case(),
    "loaded_models/documented": Case(given=BOTH),
    "register_model/documented": Case(),
    "service_status/documented": Case(),
    "set_gpu_device/documented": Case(),
    "set_gpu_device/no_number": Case(),
    "shutdown/allowed": Case(),
    "shutdown/not_allowed": Case(allowed=False),
    "unload_all_models/documented": Case(given=BOTH),
    "unload_model/documented": Case(given=(PHI,)),
    "unload_model/unknown_model": Case(),
    "unregister_model/unknown": Case(),
    "watch/no_websocket": Case(),
}

VARYING: Final = {
    *("id", "created", "pid"),
    *("prompt_tokens", "completion_tokens", "total_tokens", "tokenCount"),
    *("modelDirPath", "ModelDirPath", "modelCachePath", "location"),
}
"""What differs from run to run, or from machine to machine."""

ANSWER: Final = "I'm doing well, thank you! How can I assist you today?"
"""What the reference page's model says."""


def check_alike(expected: Any, actual: Any, *, exact: bool, where: str = "") -> None:
    """Hold what was answered against what is shown; more fields than shown are no harm."""
    match expected:
        case _ if actual is None and where.endswith(".promptTemplate"):
            pass
        case dict():
            assert isinstance(actual, dict), where
            for name, value in expected.items():
                assert name in actual, f"{where}.{name} is missing"
                check_alike(value, actual[name], exact=exact and name not in VARYING, where=f"{where}.{name}")
        case list() if exact:
            assert len(actual) == len(expected), where
            for number, (one, other) in enumerate(zip(expected, actual, strict=True)):
                check_alike(one, other, exact=exact, where=f"{where}[{number}]")
        case list():
            assert isinstance(actual, list), where
            for one in actual[:1] if expected else []:
                check_alike(expected[0], one, exact=exact, where=f"{where}[…]")
        case str() if exact:
            assert expected in (actual, actual.rpartition(":")[0]), where
        case _ if exact:
            assert actual == expected, where
        case _:
            assert type(actual) is type(expected), where


async def replied(transport: Transport, request: bytes) -> tuple[h11.Response, bytes]:
    """Send a request as it stands, and read its reply."""
    http = h11.Connection(h11.CLIENT)
    method, target, _ = request.partition(b"\r\n")[0].split(b" ")
    http.send(h11.Request(method=method, target=target, headers=[(b"host", b"localhost:5272")]))
    http.send(h11.EndOfMessage())
    await transport.send(request)
    return await _read(http, transport)


async def _read(http: h11.Connection, transport: Transport) -> tuple[h11.Response, bytes]:
    head, body = None, b""
    while not isinstance(event := http.next_event(), h11.EndOfMessage):
        match event:
            case h11.Response():
                head = event
            case h11.Data():
                body += event.data
            case _:
                http.receive_data(await transport.receive())
    assert head is not None
    return head, body


@pytest.mark.parametrize("transcript", [one for one in TRANSCRIPTS if str(one) in CASES], ids=str)
async def test_the_product_answers_as_the_transcript_shows(
    transcript: Any, page_home: ModelDirectory, tmp_path: Path
) -> None:
    case = CASES[str(transcript)]
    home = ModelDirectory(tmp_path, page_home.models)
    async with scripted_server(
        home,
        text=ANSWER,
        endpoints=["http://localhost:5272"],
        stop=(lambda: None) if case.allowed else None,
        available=("cpu", "dml"),
    ) as (server, _):
        transport = await server.connect()
        for target in case.given:
            assert (await ask(transport, "GET", target)).status == 200
        head, body = await replied(transport, transcript.request)
        shown_head, _, shown_body = transcript.response.partition(b"\r\n\r\n")
        first, *headers = shown_head.split(b"\r\n")
        assert head.status_code == int(first.split()[1])
        for line in headers:
            name, value = line.split(b": ")
            if name != b"content-length" or not shown_body:
                assert (name, value) in head.headers, line
        if shown_body:
            check_alike(json.loads(shown_body), json.loads(body), exact=case.exact)
        else:
            assert body == b""


def test_every_example_of_the_reference_page_is_answered() -> None:
    streamed = {operation.name for operation in DOCUMENTED if operation.stream is not None}
    examples = {str(one) for one in TRANSCRIPTS if one.name == "documented"}
    assert {f"{operation.name}/documented" for operation in DOCUMENTED} <= examples
    assert {one for one in examples if one.partition("/")[0] not in streamed} <= set(CASES)
    assert set(CASES) <= {str(one) for one in TRANSCRIPTS}
