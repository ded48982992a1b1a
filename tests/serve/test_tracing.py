"""What OpenTelemetry is told: a span for each piece of a model's work, by its own conventions."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from foundry_runtime.engine.api import EngineLost
from foundry_runtime.engine.scripted import ScriptedEngine
from foundry_runtime.models.directory import ModelDirectory
from foundry_serve import tracing
from foundry_serve.observing import Watching
from foundry_serve.tracing import OpenTelemetry, open_telemetry
from tests.support.asking import ask
from tests.support.scripted_model import scripted_server
from tests.support.tiny_model import MODEL_ID

pytestmark = pytest.mark.anyio

CHAT = {"model": MODEL_ID, "messages": [{"role": "user", "content": "a secret"}]}
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


async def traced(
    home: ModelDirectory, *bodies: object, prompts: bool = False, target: str = "/v1/chat/completions"
) -> Sequence[ReadableSpan]:
    """The spans of requests, the last of which loses the engine if it says that it does."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = OpenTelemetry(provider.get_tracer("tests"), prompts=prompts)
    fails = {2: EngineLost("it fell over")} if any("ping" in str(one) for one in bodies) else {}

    def engine(script: object, **more: object) -> ScriptedEngine:
        return ScriptedEngine(script, fail_at=fails, **more)  # type: ignore[arg-type]

    async with scripted_server(home, text="one two", engine=engine, watching=Watching(traces=tracer)) as (
        server,
        _,
    ):
        transport = await server.connect()
        for body in bodies:
            own = (("traceparent", PARENT), ("x-request-id", "seven"))
            await ask(transport, "POST", target, json.dumps(body).encode(), *own)
        await ask(transport, "GET", "/status")
    provider.shutdown()
    return exporter.get_finished_spans()


async def test_a_chat_is_a_span_in_its_clients_trace(tiny_home: ModelDirectory) -> None:
    asked = {**CHAT, "temperature": 0.5, "seed": 7, "max_tokens": 5, "stop": "x", "stream": False}
    (span,) = await traced(tiny_home, asked)
    assert span.name == f"chat {MODEL_ID}"
    assert span.kind is SpanKind.SERVER
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" == TRACE
    assert span.parent is not None
    attributes = dict(span.attributes or {})
    assert attributes.pop("gen_ai.usage.input_tokens") == 20
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "foundry_proto",
        "gen_ai.request.model": MODEL_ID,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.seed": 7,
        "gen_ai.request.max_tokens": 5,
        "gen_ai.request.stop_sequences": ("x",),
        "gen_ai.request.stream": False,
        "gen_ai.response.model": MODEL_ID,
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "foundry.request.id": "seven",
    }
    assert span.status.status_code is StatusCode.UNSET


async def test_what_goes_wrong_is_told_without_what_was_asked(tiny_home: ModelDirectory) -> None:
    nope, lost = await traced(tiny_home, {**CHAT, "model": "nope"}, {**CHAT, "user": "ping"})
    assert nope.attributes is not None
    assert nope.attributes["error.type"] == "model_not_found"
    assert nope.status.status_code is StatusCode.UNSET  # the client's own fault
    assert lost.attributes is not None
    assert lost.attributes["error.type"] == "engine_lost"
    assert lost.attributes["http.response.status_code"] == 503
    assert lost.status.status_code is StatusCode.ERROR
    assert "a secret" not in str([nope.to_json(), lost.to_json()])


async def test_messages_are_told_where_that_is_wanted(tiny_home: ModelDirectory) -> None:
    (span,) = await traced(tiny_home, CHAT, prompts=True)
    assert span.attributes is not None
    text = {"type": "text", "content": "a secret"}
    assert json.loads(str(span.attributes["gen_ai.input.messages"])) == [{"role": "user", "parts": [text]}]


TOOLS = {
    "model": MODEL_ID,
    "messages": [
        {"role": "developer", "content": [{"type": "text", "text": "be"}, {"type": "text", "text": "brief"}]},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "hm",
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "rain"},
        {"role": "assistant", "function_call": {"name": "look", "arguments": "{}"}},
        {"role": "function", "name": "look", "content": None},
    ],
}


async def test_messages_are_told_in_the_conventions_form(tiny_home: ModelDirectory) -> None:
    (span,) = await traced(tiny_home, TOOLS, prompts=True)
    assert span.attributes is not None
    call = {"type": "tool_call", "id": "1", "name": "look", "arguments": "{}"}
    assert json.loads(str(span.attributes["gen_ai.input.messages"])) == [
        {"role": "system", "parts": [{"type": "text", "content": one} for one in ("be", "brief")]},
        {"role": "assistant", "parts": [{"type": "reasoning", "content": "hm"}, call]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "1", "response": "rain"}]},
        {"role": "assistant", "parts": [{**call, "id": None}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": None, "response": ""}]},
    ]


async def test_what_is_asked_of_an_answers_form_is_told(tiny_home: ModelDirectory) -> None:
    asked = {**CHAT, "stream": True, "n": 2, "response_format": {"type": "text"}}
    streamed, whole = await traced(tiny_home, asked, {**CHAT, "n": 1})
    assert streamed.attributes is not None
    assert streamed.attributes["gen_ai.request.choice.count"] == 2
    assert streamed.attributes["gen_ai.output.type"] == "text"
    assert float(str(streamed.attributes["gen_ai.response.time_to_first_chunk"])) >= 0
    assert not {"gen_ai.request.choice.count", "gen_ai.output.type"} & set(whole.attributes or ())


async def test_texts_that_go_on_are_spans_of_their_own_kind(tiny_home: ModelDirectory) -> None:
    (span,) = await traced(tiny_home, {"model": MODEL_ID, "prompt": "one"}, target="/v1/completions")
    assert span.name == f"text_completion {MODEL_ID}"
    body = {"model": MODEL_ID, "prompt": ["one", "two"]}
    (span,) = await traced(tiny_home, body, prompts=True, target="/v1/completions")
    assert span.attributes is not None
    told = json.loads(str(span.attributes["gen_ai.input.messages"]))
    assert [one["parts"][0]["content"] for one in told] == ["one", "two"]


WITHOUT = """
import sys
sys.modules["opentelemetry.sdk"] = None
from foundry_serve.config import BadConfig
from foundry_serve.tracing import open_telemetry
assert not [name for name in sys.modules if name.startswith("opentelemetry.trace")]
try:
    open_telemetry()
except BadConfig as error:
    print(error)
"""


def test_without_the_extra_it_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("tracing: expected OpenTelemetry, which foundry-proto[otel] installs: ")


def test_an_exporter_is_made_by_the_sdks_own_variables(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    traces, end = open_telemetry(prompts=True)
    assert traces.prompts
    end()


def test_the_end_does_not_wait_for_a_collector_that_is_gone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracing, "_LAST_SECONDS", 0.05)
    taken = threading.Event()
    shut_down = TracerProvider.shutdown

    def shut_down_late(provider: TracerProvider) -> None:
        taken.wait()
        shut_down(provider)

    monkeypatch.setattr(TracerProvider, "shutdown", shut_down_late)
    _, end = open_telemetry()
    end()
    assert "nobody has taken the last traces in 0.05 s: they are lost" in caplog.text
    (sending,) = [one for one in threading.enumerate() if one.name == "traces"]
    taken.set()
    sending.join()
