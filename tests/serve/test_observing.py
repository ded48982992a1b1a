"""What is told of a server while it runs: health, numbers, ids, lines of the log."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from foundry_proto.messages.completions import Usage
from foundry_proto.operations import CHAT_COMPLETIONS
from foundry_proto.operations.service import HEALTH, HEALTH_LIVE, HEALTH_READY, METRICS
from foundry_runtime.client import Client, ServerFailure
from foundry_runtime.engine.api import EngineLost
from foundry_runtime.engine.scripted import ScriptedEngine
from foundry_runtime.models.directory import ModelDirectory
from foundry_serve.logs import formatter
from foundry_serve.observing import Watching
from tests.support.applications import chat_request
from tests.support.asking import ask
from tests.support.scripted_model import scripted_server
from tests.support.serving import until
from tests.support.tiny_model import MODEL_ID

pytestmark = pytest.mark.anyio

SECRET = "xyzzy-plugh-4711"


async def numbers(client: Client) -> dict[str, float]:
    """All samples, by name and labels."""
    text = await client.call(METRICS)
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


async def test_health_is_told_and_ends_with_the_request_to_stop(tiny_home: ModelDirectory) -> None:
    stopping = False
    watching = Watching(stopping=lambda: stopping)
    async with scripted_server(tiny_home, watching=watching) as (server, _), server.client() as client:
        assert (await client.call(HEALTH)).status == "ready"
        assert (await client.call(HEALTH_READY)).status == "ready"
        stopping = True
        for operation in (HEALTH, HEALTH_READY):
            with pytest.raises(ServerFailure, match=r"^not ready: the server is stopping$") as caught:
                await client.call(operation)
            assert (caught.value.failure.status, caught.value.failure.code) == (503, "not_ready")
        assert (await client.call(HEALTH_LIVE)).status == "live"


async def test_a_server_whose_models_cannot_be_read_is_not_ready(tmp_path: Path) -> None:
    home = ModelDirectory(tmp_path)
    async with scripted_server(home) as (server, _), server.client() as client:
        assert (await client.call(HEALTH)).status == "ready"  # a folder that is not there has no models
        home.models.parent.mkdir(parents=True, exist_ok=True)
        home.models.write_text("no folder")
        with pytest.raises(ServerFailure, match=r"^not ready: the models cannot be read: Not a directory$"):
            await client.call(HEALTH)


async def test_what_is_asked_is_counted(tiny_home: ModelDirectory) -> None:
    text = "one two three"
    async with scripted_server(tiny_home, text=text) as (server, models), server.client() as client:
        first = (await client.call(CHAT_COMPLETIONS, chat_request(MODEL_ID, "hi", n=2))).usage
        with pytest.raises(ServerFailure):
            await client.call(CHAT_COMPLETIONS, chat_request("nope"))
        async with client.stream(CHAT_COMPLETIONS, chat_request(MODEL_ID, stream=True)) as chunks:
            async for _ in chunks:
                pass
        transport = await server.connect()
        await ask(transport, "GET", "/no/such/thing")
        await ask(transport, "POST", "/v1/chat/completions", b"{")
        found = await numbers(client)
    assert isinstance(first, Usage)
    model = f"model={MODEL_ID}"
    assert found["foundry_requests_total{operation=chat_completions,status=200}"] == 2
    assert found["foundry_requests_total{operation=chat_completions,status=404}"] == 1
    assert found["foundry_requests_total{operation=chat_completions,status=400}"] == 1
    assert found["foundry_requests_total{operation=none,status=404}"] == 1
    assert found["foundry_request_seconds_count{operation=chat_completions}"] == 3
    assert found["foundry_requests_running{operation=chat_completions}"] == 0
    # Two choices of one request, and a stream.
    each = first.completion_tokens // 2
    assert found[f"foundry_generated_tokens_total{{{model}}}"] == 3 * each
    assert found[f"foundry_prompts_total{{{model}}}"] == 3
    assert found[f"foundry_prompt_tokens_total{{{model}}}"] > first.prompt_tokens
    assert found[f"foundry_time_to_first_token_seconds_count{{{model}}}"] == 2
    assert found[f"foundry_time_between_tokens_seconds_count{{{model}}}"] == 3 * (each - 1)
    for state in ("waiting", "answering"):
        assert found[f"foundry_generations{{{model},state={state}}}"] == 0
    assert found[f"foundry_models_loaded{{{model},provider=cpu}}"] == 1
    assert found[f"foundry_model_loads_total{{{model},outcome=loaded}}"] == 1
    assert found["foundry_downloads_running{}"] == 0
    assert models.loads == 1


async def test_what_a_client_does_not_wait_for_is_counted_as_such(
    tiny_home: ModelDirectory, lines: io.StringIO
) -> None:
    async with scripted_server(tiny_home, text="x" * 400, step_seconds=0.001) as (server, models):
        async with server.client() as client:
            asked = chat_request(MODEL_ID, stream=True, max_tokens=300)
            async with client.stream(CHAT_COMPLETIONS, asked) as chunks:
                async for chunk in chunks:
                    if chunk.choices[0].delta.content:
                        break
        metrics = models.services[0].metrics
        running = metrics.requests_running.labels("chat_completions")
        await until(lambda: running._value.get() == 0)
        async with server.client() as client:
            found = await numbers(client)
    name = "foundry_requests_unfinished_total{operation=chat_completions,reason=hangup}"
    assert found[name] == 1
    assert found[f"foundry_generations{{model={MODEL_ID},state=answering}}"] == 0
    (chat,) = [one for line in lines.getvalue().splitlines() if "unfinished" in (one := json.loads(line))]
    assert chat["completion_tokens"] > 0
    assert not [name for name in found if "_created" in name]
    assert "prompt_tokens" not in chat  # nobody has counted them yet


async def test_what_fails_is_counted_by_its_kind(tiny_home: ModelDirectory) -> None:
    def engine(script: Any, **more: Any) -> ScriptedEngine:
        return ScriptedEngine(script, fail_at={2: EngineLost("it fell over")}, **more)

    async with scripted_server(tiny_home, engine=engine) as (server, _), server.client() as client:
        with pytest.raises(ServerFailure):
            await client.call(CHAT_COMPLETIONS, chat_request(MODEL_ID))
        found = await numbers(client)
    assert found[f"foundry_generations_failed_total{{error=EngineLost,model={MODEL_ID}}}"] == 1
    assert found["foundry_requests_total{operation=chat_completions,status=503}"] == 1


async def test_numbers_are_told_only_where_that_is_wanted(tiny_home: ModelDirectory) -> None:
    watching = Watching(metrics=False)
    async with scripted_server(tiny_home, watching=watching) as (server, _), server.client() as client:
        with pytest.raises(ServerFailure, match=r"^metrics: expected a server that tells them") as caught:
            await client.call(METRICS)
        assert caught.value.failure.status == 404


ID = re.compile(r"[0-9a-f]{32}")


async def test_every_answer_has_an_id_which_may_be_the_clients_own(tiny_home: ModelDirectory) -> None:
    async with scripted_server(tiny_home) as (server, _):
        transport = await server.connect()
        for target in ("/status", "/openai/load/nope"):
            for given in ("my-own.id:7", "two words", "", "x" * 129):
                answer = await ask(transport, "GET", target, None, ("x-request-id", given))
                found = answer.headers["x-request-id"]
                assert found == given if given == "my-own.id:7" else ID.fullmatch(found)
        assert ID.fullmatch((await ask(transport, "GET", "/status")).headers["x-request-id"])
        lost = await ask(transport, "GET", "/no/such/thing", None, ("x-request-id", "seven"))
        assert ID.fullmatch(lost.headers["x-request-id"])


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """All that is logged, as JSON."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(formatter("json"))
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield text
    root.setLevel(level)
    root.removeHandler(handler)


async def ask_secrets(home: ModelDirectory, watching: Watching) -> None:
    """Ask in ways that work, are refused, and fail; each has the secret in it."""

    def engine(script: Any, **more: Any) -> ScriptedEngine:
        return ScriptedEngine(script, fail_at={40: ValueError("out of luck")}, **more)

    async with scripted_server(home, text="one", engine=engine, watching=watching) as (server, _):
        transport = await server.connect()
        message = [{"role": "user", "content": SECRET}]
        for body in (
            {"model": MODEL_ID, "messages": message},
            {"model": MODEL_ID, "messages": message, "temperature": SECRET},
            {"model": MODEL_ID, "messages": message, "logit_bias": {SECRET: 1}},
            {"model": MODEL_ID, "messages": [{"role": SECRET, "content": SECRET}]},
            {"model": SECRET, "messages": message},
            {"model": MODEL_ID, "messages": message, "max_tokens": 2000},
            {"model": MODEL_ID, "messages": message * 3},
        ):
            await ask(transport, "POST", "/v1/chat/completions", json.dumps(body).encode())
        await ask(transport, "GET", f"/openai/load/{SECRET}")


async def test_no_prompt_is_logged_unless_it_is_asked_for(
    tiny_home: ModelDirectory, lines: io.StringIO
) -> None:
    await ask_secrets(tiny_home, Watching())
    assert lines.getvalue()
    assert SECRET not in lines.getvalue()
    await ask_secrets(tiny_home, Watching(prompts=True))
    assert SECRET in lines.getvalue()


async def test_a_line_of_the_log_tells_a_request(tiny_home: ModelDirectory, lines: io.StringIO) -> None:
    async with scripted_server(tiny_home, text="one") as (server, _):
        transport = await server.connect()
        body = json.dumps({"model": MODEL_ID, "messages": [{"role": "user", "content": "hi"}]}).encode()
        own = ("x-request-id", "seven")
        await ask(transport, "POST", "/v1/chat/completions", body, own)
        await ask(transport, "GET", "/openai/load/nope", None, own)
        await ask(transport, "GET", "/health", None, own)
    told = [json.loads(line) for line in lines.getvalue().splitlines()]
    chat, load, health = [one for one in told if one["logger"] == "foundry_serve.requests"]
    assert chat["message"].startswith("chat_completions 200 in 0.")
    assert chat["level"] == "info"
    assert chat["request_id"] == "seven"
    assert chat["model"] == MODEL_ID
    assert chat["prompt_tokens"] > 0
    assert chat["completion_tokens"] > 0
    assert 0 <= chat["first_token_seconds"] <= chat["seconds"]
    assert (load["status"], load["code"], load["param"]) == (404, "model_not_found", "name")
    assert load["message"].startswith("load_model 404 (model_not_found) in 0.")
    assert health["level"] == "debug"  # asked again and again
    within = [one for one in told if one["logger"].startswith("foundry_runtime.models.pool")]
    assert [one["message"] for one in within[:2]] == [f"loading {MODEL_ID}", f"loaded {MODEL_ID} on cpu"]
    assert {one["request_id"] for one in within[:2]} == {"seven"}  # which began it


def test_lines_for_people_and_for_programs() -> None:
    record = logging.LogRecord("a.b", logging.WARNING, "f.py", 1, "%s of %d", ("one", 2), None)
    line = formatter("text").format(record)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} WARNING a\.b: one of 2", line)
    found = json.loads(formatter("json").format(record))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", found.pop("time"))
    assert found == {"level": "warning", "logger": "a.b", "message": "one of 2"}
    error = ValueError("oh\nno")
    record.exc_info = (ValueError, error, None)
    (line,) = formatter("json").format(record).splitlines()
    assert "oh\nno" in json.loads(line)["exception"]
