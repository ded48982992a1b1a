"""`POST /v1/chat/completions`: from a request to the events that answer it.

Knows: what of a chat request decides its prompt, its jobs and the form of its answer.
Refuses to know: HTTP, SSE, threads, tokens, and how jobs are run (`generation.py`).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from foundry_proto.chat.chat_stream import Identity, answer_to
from foundry_proto.events import Failure, Request
from foundry_proto.messages.chat import ChatCompletionRequest, TextFormat
from foundry_proto.sentinels import ABSENT
from foundry_runtime.application import Send
from foundry_runtime.engine.api import Job
from foundry_runtime.engine.text.messages import template_messages
from foundry_runtime.engine.text.prompt import Prompt
from foundry_runtime.models.pool import LoadedModel
from foundry_serve.generation import (
    allowed_output,
    choices_of,
    generate,
    make_prompt,
    sampling_of,
    stops_of,
)
from foundry_serve.handlers.external import relayed
from foundry_serve.leasing import Refusal, model_for
from foundry_serve.services import Services

__all__ = ["chat_completions", "chat_prompt"]


async def chat_completions(services: Services, request: Request[ChatCompletionRequest], send: Send) -> None:
    """Answer a chat, streamed or whole."""
    if await relayed(services, request, send):
        return
    try:
        await _chat(services, request.value, send)
    except Refusal as refusal:
        await send(refusal.failure)


async def _chat(services: Services, body: ChatCompletionRequest, send: Send) -> None:
    if (failure := _not_offered(body)) is not None:
        raise Refusal(failure)
    async with model_for(services, body.model, ttl=body.ttl or None) as model:
        sampling = sampling_of(body, model.folder)
        prompt = await chat_prompt(services, model, body)
        asked = body.max_completion_tokens or body.max_tokens or body.max_completion_token or None
        job = Job(
            prompt=prompt.ids,
            max_tokens=allowed_output(model.folder, len(prompt.ids), asked),
            sampling=sampling,
        )
        jobs = choices_of(job, body.n or 1)
        identity = Identity(id=f"chatcmpl-{uuid.uuid4().hex}", created=int(time.time()), model=body.model)
        answer = answer_to(body, identity, choices=len(jobs))
        await generate(services, model, jobs, stops_of(body.stop), answer, send)


async def chat_prompt(services: Services, model: LoadedModel, body: ChatCompletionRequest) -> Prompt:
    """Make a chat's prompt: all that the model reads.

    Raises:
        Refusal: The messages are not what the model can read, or its chat template failed.
    """
    return await make_prompt(services, lambda: model.prompts.make(template_messages(body.messages)))


# What is part of the protocol but not offered yet, and the values that ask for nothing and so are accepted.
_NEUTRAL: Final[Mapping[str, Callable[[Any], bool]]] = {
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
