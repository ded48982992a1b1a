"""What OpenTelemetry is told of requests, where it is installed and asked for.

Knows: the semantic conventions for generative AI, and that a client's own trace goes on here (`traceparent`).
Refuses to know: where traces go: the variables of OpenTelemetry's SDK (`OTEL_EXPORTER_OTLP_ENDPOINT`, …) say.

Source: OpenTelemetry's semantic conventions for generative AI, which are in development: "Inference" and
"Embeddings" for names and attributes, the JSON schema of input messages for their form. Choice: the kind of a
span is SERVER, for this is the server's side; the conventions describe the client's.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, final

from attrs import frozen

from foundry_proto import __version__
from foundry_proto.events import Failure, Request
from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_proto.messages.embeddings import EmbeddingRequest
from foundry_proto.messages.text_completions import TextCompletionRequest
from foundry_serve.config import BadConfig

if TYPE_CHECKING:
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import Tracer

    from foundry_serve.observing import Noted

__all__ = ["NO_TRACES", "OpenTelemetry", "Span", "Traces", "open_telemetry"]


logger = logging.getLogger(__name__)

_LAST_SECONDS: Final = 2.0
"""How long the server's end may take for the sake of traces."""


class Span(Protocol):
    """A request in a trace."""

    def end(self, one: Noted, status: int | None, failure: Failure | None) -> None:
        """Tell how it ended."""


class Traces(Protocol):
    """Who is told of requests."""

    def span(self, request: Request[Any], one: Noted) -> Any:
        """Begin a request's span: a context that gives a `Span`."""


class _NoSpan:
    def end(self, one: Noted, status: int | None, failure: Failure | None) -> None:
        pass


class _NoTraces:
    @contextmanager
    def span(self, request: Request[Any], one: Noted) -> Iterator[Span]:  # noqa: ARG002 - it tells nobody
        yield _NO_SPAN


_NO_SPAN: Final = _NoSpan()
NO_TRACES: Final[Traces] = _NoTraces()
"""Nobody is told."""

_OPERATIONS: Final[Mapping[type[Any], str]] = {
    ChatCompletionRequest: "chat",
    TextCompletionRequest: "text_completion",
    EmbeddingRequest: "embeddings",
}
"""By the request's class, what the conventions call it; others are no work of a model, and have no span."""

_ASKED: Final = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "stream": "gen_ai.request.stream",
}
"""Properties of a request, and the attributes that say the same."""


@final
@frozen
class OpenTelemetry:
    """Tells a tracer.

    Args:
        tracer: Whom.
        prompts: Whether messages are told as well.
    """

    tracer: Tracer
    prompts: bool = False

    @contextmanager
    def span(self, request: Request[Any], one: Noted) -> Iterator[Span]:
        """Begin a request's span, inside of its client's trace if it has one."""
        from opentelemetry import trace  # noqa: PLC0415 - an extra
        from opentelemetry.propagate import extract  # noqa: PLC0415

        operation = _OPERATIONS.get(type(request.value))
        if operation is None:
            yield _NO_SPAN
            return
        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.head.headers}
        with self.tracer.start_as_current_span(
            f"{operation} {request.value.model[:200]}",
            context=extract(carrier),
            kind=trace.SpanKind.SERVER,
            attributes=self._attributes(operation, request, one),
            # What cancels a request is no error of its; what fails in one is told by its answer.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield _OtelSpan(span, streams=getattr(request.value, "stream", None) is True)

    def _attributes(self, operation: str, request: Request[Any], one: Noted) -> dict[str, Any]:
        body = request.value
        found: dict[str, Any] = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": "foundry_proto",
            "gen_ai.request.model": body.model,
            "http.request.method": request.head.method,
            "http.route": request.head.operation.path,
            "foundry.request.id": one.id,
        }
        for name, attribute in _ASKED.items():
            value = getattr(body, name, None)
            if isinstance(value, bool | int | float):
                found[attribute] = value
        choices = getattr(body, "n", None)
        if isinstance(choices, int) and choices != 1:
            found["gen_ai.request.choice.count"] = choices
        form = getattr(getattr(body, "response_format", None), "type", None)
        if isinstance(form, str):
            found["gen_ai.output.type"] = "json" if form.startswith("json") else "text"
        limit = getattr(body, "max_completion_tokens", None) or getattr(body, "max_tokens", None)
        if isinstance(limit, int):
            found["gen_ai.request.max_tokens"] = limit
        stop = getattr(body, "stop", None)
        if stop:
            found["gen_ai.request.stop_sequences"] = [stop] if isinstance(stop, str) else [*stop]
        if self.prompts and operation != "embeddings":  # for these the conventions have no messages
            messages = _messages(json.loads(request.raw))
            found["gen_ai.input.messages"] = json.dumps(messages, ensure_ascii=False)
        return found


def _messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a request asks, in the conventions' form. Token ids are no text, and are left out."""
    if "messages" in body:
        return [
            {"role": _ROLES.get(one["role"], one["role"]), "parts": [*_parts(one)]}
            for one in body["messages"]
        ]
    prompts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
    return [{"role": "user", "parts": [_text(one)]} for one in prompts if isinstance(one, str)]


_ROLES: Final = {"developer": "system", "function": "tool"}
"""Words of OpenAI's API, and those of the conventions that mean the same."""


def _parts(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    content = message.get("content")
    texts = [part["text"] for part in content] if isinstance(content, list) else [content]
    if message["role"] in {"tool", "function"}:
        id_ = message.get("tool_call_id")
        yield {"type": "tool_call_response", "id": id_, "response": "".join(filter(None, texts))}
        return
    if thought := message.get("reasoning_content"):
        yield {"type": "reasoning", "content": thought}
    for text in texts:
        if text:
            yield _text(text)
    calls = [(one.get("id"), one["function"]) for one in message.get("tool_calls") or ()]
    if older := message.get("function_call"):
        calls.append((None, older))
    for id_, call in calls:
        yield {"type": "tool_call", "id": id_, "name": call["name"], "arguments": call["arguments"]}


def _text(content: str) -> dict[str, Any]:
    return {"type": "text", "content": content}


@final
@frozen
class _OtelSpan:
    span: OtelSpan
    streams: bool

    def end(self, one: Noted, status: int | None, failure: Failure | None) -> None:
        """Tell how a request ended; see `Span`."""
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415 - an extra

        found: dict[str, Any] = {"gen_ai.response.model": one.model, "http.response.status_code": status}
        if (meter := one.generation) is not None:
            found.update(
                {
                    "gen_ai.response.finish_reasons": meter.reasons or None,
                    "gen_ai.usage.input_tokens": meter.prompt_tokens,
                    "gen_ai.usage.output_tokens": meter.completion_tokens,
                    "gen_ai.usage.cache_read.input_tokens": meter.cached_tokens,
                }
            )
            if self.streams:
                found["gen_ai.response.time_to_first_chunk"] = meter.first_seconds
        elif one.prompt_tokens is not None:
            found["gen_ai.usage.input_tokens"] = one.prompt_tokens
        if failure is not None:
            found["error.type"] = failure.code or str(failure.status)
            if failure.status >= 500:  # what a client did wrong is no error of the server's
                self.span.set_status(Status(StatusCode.ERROR))
        elif status is None:
            found["error.type"] = "hangup"
        self.span.set_attributes({name: value for name, value in found.items() if value is not None})


def open_telemetry(*, prompts: bool = False) -> tuple[OpenTelemetry, Callable[[], None]]:
    """Begin to send traces, as the SDK's own variables say.

    Returns:
        Who is told of requests, and what sends the last of them and ends.

    Raises:
        BadConfig: It is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise BadConfig(
            f"tracing: expected OpenTelemetry, which foundry-proto[otel] installs: {error}"
        ) from error
    # `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` go before this.
    provider = TracerProvider(
        resource=Resource.create({"service.version": __version__}), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    tracer = provider.get_tracer("foundry_serve", __version__)
    return OpenTelemetry(tracer, prompts=prompts), partial(_end, provider.shutdown)


def _end(shut_down: Callable[[], None]) -> None:
    """Have the last traces sent, unless that takes too long: a collector that is gone is tried for 10 s."""
    sending = threading.Thread(target=shut_down, name="traces", daemon=True)
    sending.start()
    sending.join(_LAST_SECONDS)
    if sending.is_alive():
        logger.warning("nobody has taken the last traces in %g s: they are lost", _LAST_SECONDS)
