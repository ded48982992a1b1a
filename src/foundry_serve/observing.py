"""What stands around every request: its id, its line in the log, its numbers and its trace.

Knows: when a request begins and ends, how, and what was learned of it meanwhile.
Refuses to know: what any operation does.

An id is the client's own `x-request-id`, if it can be one, or a new one. It is in the answer's headers and in
each line that is logged meanwhile.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, assert_never, final

import anyio
from attrs import define, evolve, field, frozen

from foundry_proto.events import Failure, Head, Headers, Request, Response, StreamEnd, StreamItem, header
from foundry_proto.exchange import Answer
from foundry_runtime.application import Answering, Hangup, Send
from foundry_runtime.models.folder import ModelFolder
from foundry_runtime.models.pool import Loaded, OpenModel
from foundry_serve.logs import request_id
from foundry_serve.metrics import GenerationMeter, Metrics
from foundry_serve.services import Services
from foundry_serve.tracing import NO_TRACES, Traces

__all__ = ["MeasuredOpener", "Noted", "Observer", "Watching", "metering", "note"]

logger = logging.getLogger("foundry_serve.requests")

_HEADER: Final = b"x-request-id"
_ID: Final = re.compile(rb"[A-Za-z0-9._~+/=:@-]{1,128}")
_QUIET: Final = {"health", "health_live", "health_ready", "metrics"}
"""What is asked again and again, by programs that watch; it is logged as detail."""
_MOST_PROMPT: Final = 20_000
"""Bytes of a request's body that are logged, where that is wanted."""
_LEFT: Final = 499
"""What stands for the status of an answer that its client did not wait for; no answer has it."""


@define(eq=False)
class Noted:
    """What is learned of a request while it is answered."""

    id: str
    began: float
    model: str | None = None
    """The model's id, once it is known which one is meant."""
    generation: GenerationMeter | None = None
    prompt_tokens: int | None = None
    """Where nothing is generated."""


_noted: ContextVar[Noted | None] = ContextVar("noted", default=None)


def note(*, model: str | None = None, prompt_tokens: int | None = None) -> None:
    """Note something of the request that is being answered, if one is."""
    if (one := _noted.get()) is not None:
        one.model = model or one.model
        one.prompt_tokens = one.prompt_tokens if prompt_tokens is None else prompt_tokens


def metering(metrics: Metrics, model: str, jobs: int) -> GenerationMeter:
    """Begin to measure what is generated for the request that is being answered."""
    one = _noted.get()
    meter = metrics.generation(model, jobs, None if one is None else one.began)
    if one is not None:
        one.generation = meter
    return meter


@frozen(kw_only=True)
class Watching:
    """What is told of a server while it runs, and to whom."""

    metrics: bool = True
    """Whether `/metrics` tells what was counted."""
    traces: Traces = NO_TRACES
    """Who is told of each request."""
    prompts: bool = False
    """Whether the log has what was asked."""
    stopping: Callable[[], bool] = field(default=lambda: False)
    """Whether the server has been asked to stop."""


@final
@frozen
class MeasuredOpener:
    """Opens models, and measures how long that takes; an `OpenModel`."""

    _open: OpenModel
    _metrics: Metrics

    async def __call__(self, folder: ModelFolder, provider: str | None) -> Loaded:
        """Load a model; see `OpenModel`."""
        began, outcome = self._metrics.clock(), "failed"
        try:
            model = await self._open(folder, provider)
            outcome = "loaded"
        finally:
            self._metrics.model_loads.labels(folder.id, outcome).inc()
            self._metrics.load_seconds.labels(folder.id).observe(self._metrics.clock() - began)
        return model

    async def providers(self) -> Sequence[str]:
        """The execution providers that models can run on here."""
        return await self._open.providers()


@define(eq=False)
class _Sent:
    """What has left of an answer."""

    status: int | None = None
    failure: Failure | None = None
    whole: bool = False

    def take(self, events: tuple[Answer, ...]) -> None:
        for event in events:
            match event:
                case Response():
                    self.status, self.whole = event.status, True
                case Failure():
                    self.failure = event
                    self.status, self.whole = self.status or event.status, self.status is None
                case StreamItem() | StreamEnd():
                    self.status = self.status or 200
                    self.whole = isinstance(event, StreamEnd)
                case _:
                    assert_never(event)


@final
class Observer:
    """Watches an application's requests; a `foundry_runtime.application.Observer`.

    Args:
        metrics: Where they are counted.
        traces: Who is told of each.
        prompts: Whether requests' bodies are logged.
    """

    def __init__(self, metrics: Metrics, *, traces: Traces = NO_TRACES, prompts: bool = False) -> None:
        self._metrics = metrics
        self._traces = traces
        self._prompts = prompts

    async def around(self, _: Services, request: Request[Any], send: Send, answer: Answering) -> None:
        """Have a request answered, and note what comes of it."""
        operation = request.head.operation.name
        sent = _Sent()
        one = Noted(id=_id_of(request.head.headers), began=self._metrics.clock())

        async def send_noted(*events: Answer) -> None:
            if sent.status is None:
                events = _marked(events, one.id)
            await send(*events)
            sent.take(events)

        running = self._metrics.requests_running.labels(operation)
        running.inc()
        left: str | None = None
        with _inside(one), self._traces.span(request, one) as span:
            if self._prompts and request.raw:
                self._log_prompt(operation, request.raw)
            try:
                await answer(request, send_noted)
            except (Hangup, anyio.get_cancelled_exc_class()):
                left = "hangup"
                raise
            finally:
                running.dec()
                if left is None and not sent.whole:
                    left = "error"
                self._end(operation, one, sent, left)
                span.end(one, sent.status, sent.failure)

    def refused(self, _: Services | None, failure: Failure, head: Head | None) -> Failure:
        """Note a request that no handler sees."""
        operation = "none" if head is None else head.operation.name
        found = _id_of(() if head is None else head.headers)
        self._metrics.requests.labels(operation, failure.status).inc()
        token = request_id.set(found)
        fields = _fields(operation, failure)
        logger.info("%s %s%s", operation, failure.status, _why(fields), extra={"fields": fields})
        request_id.reset(token)
        return evolve(failure, headers=(*failure.headers, (_HEADER, found.encode())))

    def _end(self, operation: str, one: Noted, sent: _Sent, left: str | None) -> None:
        seconds = self._metrics.clock() - one.began
        status = sent.status or _LEFT
        self._metrics.requests.labels(operation, status).inc()
        self._metrics.request_seconds.labels(operation).observe(seconds)
        if left is not None:
            self._metrics.requests_unfinished.labels(operation, left).inc()
        fields = _fields(
            operation, sent.failure, one, status=status, seconds=round(seconds, 4), unfinished=left
        )
        how = {None: "", "hangup": ", and the client left", "error": ", and broke off"}[left]
        level = logging.DEBUG if operation in _QUIET else logging.INFO
        words = f"{operation} {status}{_why(fields)} in {seconds:.3f} s{how}"
        logger.log(level, "%s", words, extra={"fields": fields})

    def _log_prompt(self, operation: str, raw: bytes) -> None:
        text = raw[:_MOST_PROMPT].decode(errors="replace")
        logger.info("%s was asked: %s", operation, text, extra={"fields": {"body": text}})


def _fields(
    operation: str, failure: Failure | None, one: Noted | None = None, **more: object
) -> dict[str, object]:
    """What programs read of a line. A failure's words may repeat what the client wrote: they are left out."""
    fields: dict[str, object] = {"operation": operation, **more}
    if failure is not None:
        # Of the field, its first name alone: what stands deeper may be a key that the client has chosen.
        param = None if failure.param is None else re.split(r"[.\[]", failure.param, maxsplit=1)[0]
        fields.update(status=more.get("status", failure.status), code=failure.code, param=param)
    if one is not None:
        fields["model"] = one.model
        fields["prompt_tokens"] = one.prompt_tokens
        if (meter := one.generation) is not None:
            fields.update(
                prompt_tokens=meter.prompt_tokens,
                cached_tokens=meter.cached_tokens,
                completion_tokens=meter.completion_tokens,
                first_token_seconds=None if meter.first_seconds is None else round(meter.first_seconds, 4),
            )
    return fields


def _why(fields: Mapping[str, object]) -> str:
    """What a line for people says of a failure: its code, else what it blames."""
    why = fields.get("code") or fields.get("param")
    return "" if why is None else f" ({why})"


def _id_of(headers: Headers) -> str:
    given = header(headers, _HEADER)
    if given is not None and _ID.fullmatch(given):
        return given.decode()
    return uuid.uuid4().hex


def _marked(events: tuple[Answer, ...], found: str) -> tuple[Answer, ...]:
    """An answer's beginning with the request's id in its head."""
    if events and isinstance(first := events[0], Response | StreamItem | Failure):
        return (evolve(first, headers=(*first.headers, (_HEADER, found.encode()))), *events[1:])
    return events


@contextmanager
def _inside(one: Noted) -> Iterator[None]:
    """Have all that happens meanwhile, in threads too, be known as part of a request."""
    tokens: list[tuple[Callable[[Any], None], Any]] = [
        (request_id.reset, request_id.set(one.id)),
        (_noted.reset, _noted.set(one)),
    ]
    try:
        yield
    finally:
        for reset, token in tokens:
            reset(token)
