"""Laws of the routes that speak of the service itself, and of what every route keeps."""

from __future__ import annotations

import json
import os
from functools import partial
from typing import Any

import anyio
import pytest

from foundry_proto.operations import ALL, Operation
from foundry_proto.operations.service import METRICS
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.server import serve
from foundry_runtime.transport import connect_tcp, open_tcp_listeners
from foundry_serve.app import make_application
from tests.support.asking import Reply, ask
from tests.support.scripted_model import ScriptedModels, scripted_server
from tests.support.tiny_model import MODEL_ID

pytestmark = pytest.mark.anyio

ENDPOINTS = ("http://127.0.0.1:5272", "http://[::1]:5272")


async def asked(home: ModelDirectory, method: str, target: str, body: bytes | None = None) -> Reply:
    async with scripted_server(home, endpoints=ENDPOINTS) as (server, _):
        return await ask(await server.connect(), method, target, body)


async def test_each_generation_reads_the_status_in_its_own_words(tiny_home: ModelDirectory) -> None:
    models = str(tiny_home.models)
    status = (await asked(tiny_home, "GET", "/openai/status")).json
    assert status["Endpoints"] == status["endpoints"] == list(ENDPOINTS)
    assert status["ModelDirPath"] == status["modelDirPath"] == models
    assert status["PipeName"] == status["pipeName"] == "inference_agent"
    assert (await asked(tiny_home, "GET", "/status")).json == {
        "endpoints": list(ENDPOINTS),
        "modelCachePath": models,
        "pid": os.getpid(),
    }
    assert (await asked(tiny_home, "GET", "/foundry/cache")).json == {"location": models}


async def test_a_server_answers_at_each_of_its_addresses_and_stops_despite_idle_clients(
    tiny_home: ModelDirectory,
) -> None:
    listeners = [*await open_tcp_listeners("127.0.0.1", 0), *await open_tcp_listeners("127.0.0.1", 0)]
    endpoints = [f"http://{listener.address}" for listener in listeners]
    assert len(set(endpoints)) == 2
    async with anyio.create_task_group() as group:
        stop = anyio.Event()
        models = ScriptedModels(group)
        application = make_application(tiny_home, models, endpoints=endpoints, stop=stop.set)
        with anyio.fail_after(60):
            async with anyio.create_task_group() as serving:
                await serving.start(partial(serve, application, listeners, stop=stop))
                transports = [await connect_tcp("127.0.0.1", listener.port) for listener in listeners]
                for transport in transports:
                    assert (await ask(transport, "GET", "/status")).json["endpoints"] == endpoints
                assert (await ask(transports[0], "POST", "/shutdown")).status == 200
            for transport in transports:
                assert await transport.receive() == b""
                await transport.aclose()


async def test_a_device_that_is_set_is_the_current_one(tiny_home: ModelDirectory) -> None:
    async with scripted_server(tiny_home) as (server, _):
        transport = await server.connect()
        assert (await ask(transport, "GET", "/openai/getgpudevice")).json == 0
        done = await ask(transport, "GET", "/openai/setgpudevice/1")
        assert (done.status, done.headers["content-length"], done.body) == (200, "0", b"")
        assert (await ask(transport, "GET", "/openai/getgpudevice")).json == 1
        for wrong in ("abc", "-1", "1.5"):
            refused = await ask(transport, "POST", f"/openai/setgpudevice/{wrong}")
            assert (refused.status, refused.json["error"]["param"]) == (400, "deviceId")
        assert (await ask(transport, "GET", "/openai/getgpudevice")).json == 1


async def test_a_shutdown_is_answered_and_then_happens(tiny_home: ModelDirectory) -> None:
    stopped = anyio.Event()
    async with scripted_server(tiny_home, stop=stopped.set) as (server, _):
        transport = await server.connect()
        assert (await ask(transport, "GET", "/shutdown")).status == 405
        assert not stopped.is_set()
        reply = await ask(transport, "POST", "/shutdown")
        assert (reply.status, reply.json) == (200, {"status": "shutting_down"})
        await stopped.wait()


async def test_a_shutdown_is_for_this_machine_and_for_servers_that_allow_it(
    tiny_home: ModelDirectory,
) -> None:
    stopped = anyio.Event()
    async with scripted_server(tiny_home, stop=stopped.set) as (server, _):
        far = await ask(await server.connect(client="192.168.1.2:50123"), "POST", "/shutdown")
        assert (far.status, far.json["error"]["code"]) == (403, "forbidden")
        assert "loopback" in far.json["detail"]
    assert not stopped.is_set()
    here = await asked(tiny_home, "POST", "/shutdown")
    assert (here.status, here.json["error"]["code"]) == (403, "forbidden")
    assert "not started so" in here.json["errorMessage"]


async def test_the_document_describes_every_route_that_is_offered(tiny_home: ModelDirectory) -> None:
    reply = await asked(tiny_home, "GET", "/openapi.json")
    assert reply.json["openapi"] == "3.1.0"
    described = {(method.upper(), path) for path, item in reply.json["paths"].items() for method in item}
    assert described == {(method, operation.path) for operation in ALL for method in operation.methods}


@pytest.mark.parametrize(
    "path", ["/v1/responses", "/v1/responses/resp_1/input_items", "/v1/audio/transcriptions"]
)
async def test_a_route_that_is_not_offered_yet_says_so_to_openais_clients(
    tiny_home: ModelDirectory, path: str
) -> None:
    reply = await asked(tiny_home, "POST", path, b"{}")
    error = {"param": None, "type": "invalid_request_error", "code": "not_offered_yet"}
    assert (reply.status, reply.json) == (
        404,
        {"error": {"message": f"POST {path}: not offered here yet", **error}},
    )


def filled(operation: Operation[Any, Any, Any]) -> str:
    """A target that reaches the row; its parameter names nothing that is there."""
    return "/".join("7" if part.startswith("{") else part for part in operation.path.split("/"))


async def test_every_route_answers_other_methods_with_those_that_it_has(tiny_home: ModelDirectory) -> None:
    async with scripted_server(tiny_home) as (server, _):
        transport = await server.connect()
        for operation in ALL:
            match = ALL.match(filled(operation))
            assert match is not None
            allowed = ", ".join(match.allow())
            options = await ask(transport, "OPTIONS", filled(operation))
            assert (options.status, options.headers["allow"], options.body) == (204, allowed, b"")
            refused = await ask(transport, "PATCH", filled(operation))
            assert (refused.status, refused.headers["allow"]) == (405, allowed), operation.name
            assert refused.json["error"]["code"] == "method_not_allowed"
            assert ("errorMessage" in refused.json) is not operation.path.startswith("/v1/"), operation.name


async def test_a_head_is_answered_like_its_get_where_a_get_changes_nothing(tiny_home: ModelDirectory) -> None:
    async with scripted_server(tiny_home) as (server, models):
        transport = await server.connect()
        for operation in ALL:
            if "GET" not in operation.methods:
                continue
            head = await ask(transport, "HEAD", filled(operation))
            if not operation.safe:
                assert head.status == 405, operation.name
                continue
            get = await ask(transport, "GET", filled(operation))
            # What differs from one request to the next; and what is counted has grown meanwhile.
            other = dict.fromkeys(("date", "x-request-id"), "")
            if operation is METRICS:
                other["content-length"] = ""
            alike = (head.status, {**head.headers, **other}) == (get.status, {**get.headers, **other})
            assert alike, (operation.name, head, get)
            assert head.body == b""
        assert models.loads == 0


async def test_every_route_with_a_body_wants_json_and_not_too_much_of_it(tiny_home: ModelDirectory) -> None:
    async with scripted_server(tiny_home) as (server, _):
        for operation in ALL:
            if not operation.has_body:
                continue
            method, target = operation.methods[0], filled(operation)
            text = ("content-type", "text/plain"), ("content-length", "2")
            refused = await ask(await server.connect(), method, target, None, *text, whole=False)
            assert refused.status == 415, operation.name
            large = ("content-length", str(operation.body_limit + 1))
            refused = await ask(await server.connect(), method, target, None, large, whole=False)
            assert (refused.status, refused.headers["connection"]) == (413, "close"), operation.name
            assert (await ask(await server.connect(), method, target, b"{")).status == 400, operation.name


CHAT: dict[str, Any] = {
    "model": MODEL_ID,
    "messages": [
        {"role": "system", "content": "This is a system message"},
        {"role": "user", "content": "Hello, what is Microsoft?"},
    ],
}
COUNT = "/v1/chat/completions/tokenizer/encode/count"


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"temperature": 0, "stop": None, "max_tokens": 3},
        {"messages": [{"role": "user", "content": "日本 <|im_end|>"}]},
        {"tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]},
    ],
    ids=["plain", "with more properties", "special text", "tools"],
)
async def test_a_count_is_the_usage_of_the_same_request(
    tiny_home: ModelDirectory, more: dict[str, Any]
) -> None:
    body = json.dumps({**CHAT, **more}).encode()
    async with scripted_server(tiny_home) as (server, models):
        transport = await server.connect()
        count = await ask(transport, "POST", COUNT, body)
        assert models.jobs == []
        chat = await ask(transport, "POST", "/v1/chat/completions", body)
        assert (count.status, count.json) == (200, {"tokenCount": chat.json["usage"]["prompt_tokens"]})


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"model": "nope"}, 404, "model"),
        ({"model": None}, 400, "model"),
        ({"messages": []}, 400, "messages"),
        ({"temperature": 3}, 400, "temperature"),
        ({"ep": "abacus"}, 400, "ep"),
    ],
)
async def test_a_count_is_refused_as_the_chat_would_be(
    tiny_home: ModelDirectory, change: dict[str, Any], status: int, param: str
) -> None:
    reply = await asked(tiny_home, "POST", COUNT, json.dumps({**CHAT, **change}).encode())
    assert (reply.status, reply.json["error"]["param"]) == (status, param)
