"""`POST /v1/chat/completions`: from a request to the events that answer it.

Knows: in which order a chat can fail before its answer begins (model, load, prompt, length), and how an
engine's deliveries become an answer.
Refuses to know: HTTP, SSE, threads, tokens.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

import anyio
import anyio.to_thread

from foundry_proto.chat.chat_stream import ChatAnswer, Identity, answer_to
from foundry_proto.events import Failure, Request
from foundry_proto.exchange import Answer
from foundry_proto.jsontext import ContentError
from foundry_proto.messages.chat import ChatCompletionRequest, TextFormat
from foundry_proto.sentinels import ABSENT
from foundry_runtime.application import Send
from foundry_runtime.engine.api import EngineLost, Job, Refused
from foundry_runtime.engine.driver import Broken, Delivery, Delta, Done
from foundry_runtime.engine.text.messages import template_messages
from foundry_runtime.engine.text.prompt import Prompt
from foundry_runtime.engine.text.template import ConversationRefused, TemplateError
from foundry_runtime.models.folder import BadModelFolder, ModelFolder
from foundry_runtime.models.pool import LoadedModel, LoadFailed
from foundry_runtime.models.sampling import sampling_for
from foundry_serve.services import Services

__all__ = ["chat_completions"]


async def chat_completions(services: Services, request: Request[ChatCompletionRequest], send: Send) -> None:
    """Answer a chat, streamed or whole."""
    prepared = await _prepare(services, request.value)
    if isinstance(prepared, Failure):
        await send(prepared)
        return
    model, job = prepared
    identity = Identity(
        id=f"chatcmpl-{uuid.uuid4().hex}", created=int(time.time()), model=request.value.model
    )
    answer = answer_to(request.value, identity)
    generation = model.worker.submit(job, model.text_stream(_stops(request.value)))
    try:
        over = False
        while not over:
            events: list[Answer] = []
            for delivery in await generation.receive():
                events += _events(answer, delivery)
                over = not isinstance(delivery, Delta)
                if isinstance(delivery, Broken) and isinstance(delivery.error, EngineLost):
                    services.pool.discard(model)
            await send(*events)
    finally:
        generation.cancel()


async def _prepare(services: Services, body: ChatCompletionRequest) -> tuple[LoadedModel, Job] | Failure:
    """Find and load the model, make the prompt, and say what is to be generated."""
    if (failure := _not_offered(body)) is not None:
        return failure
    try:
        folder = await anyio.to_thread.run_sync(services.directory.resolve, body.model)
        if folder is None:
            return _no_such_model(body.model)
        model = await services.pool.get(folder)
    except (BadModelFolder, LoadFailed) as error:
        return Failure(status=500, message=str(error), type="server_error", param="model")
    try:
        prompt = await anyio.to_thread.run_sync(
            lambda: model.prompts.make(template_messages(body.messages)), limiter=services.prompt_threads
        )
    except ContentError as error:
        return Failure(status=400, message=str(error), param=error.param)
    except ConversationRefused as error:
        return Failure(status=400, message=str(error), param="messages")
    except TemplateError as error:
        return Failure(status=500, message=str(error), type="server_error", code="chat_template_failed")
    asked = body.max_completion_tokens or body.max_tokens or body.max_completion_token or None
    max_tokens = asked or _allowed(folder, prompt)
    return model, Job(prompt=prompt.ids, max_tokens=max_tokens, sampling=sampling_for(body, folder.search))


def _allowed(folder: ModelFolder, prompt: Prompt) -> int:
    """How much may be generated when the request does not say: never past the context."""
    return max(1, min(folder.max_output_tokens, folder.context_length - len(prompt.ids)))


def _stops(body: ChatCompletionRequest) -> Sequence[str]:
    if not body.stop:
        return ()
    stops = (body.stop,) if isinstance(body.stop, str) else body.stop
    return [stop for stop in stops if stop]


def _events(answer: ChatAnswer, delivery: Delivery) -> Sequence[Answer]:
    match delivery:
        case Delta():
            return answer.text(0, delivery.text)
        case Done():
            return answer.finish(
                0,
                delivery.reason,
                prompt_tokens=delivery.prompt_tokens,
                completion_tokens=delivery.completion_tokens,
                cached_tokens=delivery.cached_tokens,
            )
        case Broken():
            return (_broken(delivery.error),)


def _broken(error: Exception) -> Failure:
    match error:
        case Refused():
            # An engine knows of no messages, but when the prompt is too long they are to blame.
            param = "messages" if error.code == "context_length_exceeded" else error.param
            return Failure(status=400, message=str(error), param=param, code=error.code)
        case EngineLost():
            return Failure(status=503, message=f"the model's engine is gone: {error}", type="server_error")
        case _:
            return Failure(status=500, message=f"generation failed: {error}", type="server_error")


def _no_such_model(name: str) -> Failure:
    # The phrase in the middle is what clients of the first service look for.
    short = name[:200]
    message = f"model: No OpenAIService provider found for modelName:{short}. No model of this name is here"
    return Failure(status=404, message=message, param="model", code="model_not_found")


# What is part of the protocol but not offered yet, and the values that ask for nothing and so are accepted.
_NEUTRAL: Final[Mapping[str, Callable[[Any], bool]]] = {
    "n": lambda value: value == 1,
    "presence_penalty": lambda value: value == 0,
    "frequency_penalty": lambda value: value == 0,
    "logit_bias": lambda value: not value,
    "logprobs": lambda value: value is False,
    "functions": lambda value: not value,
    "tools": lambda value: value == (),
    "response_format": lambda value: isinstance(value, TextFormat),
    "ep": lambda value: value.lower() in ("", "cpu"),
}


def _not_offered(body: ChatCompletionRequest) -> Failure | None:
    for name, neutral in _NEUTRAL.items():
        value = getattr(body, name)
        if value is not None and cast("object", value) is not ABSENT and not neutral(value):
            return Failure(
                status=400, message=f"{name}: not offered yet", param=name, code="unsupported_parameter"
            )
    return None
