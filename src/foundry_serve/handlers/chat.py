"""`POST /v1/chat/completions`: from a request to the events that answer it.

Knows: what of a chat request decides its prompt, its jobs and the form of its answer.
Refuses to know: HTTP, SSE, threads, tokens, and how jobs are run (`generation.py`).
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, cast

from foundry_proto.chat.calls import call_id
from foundry_proto.chat.chat_stream import Identity, answer_to
from foundry_proto.chat.offer import ToolOffer, offer_of
from foundry_proto.chat.reading import Reading
from foundry_proto.events import Failure, Request
from foundry_proto.messages.chat import ChatCompletionRequest, TextFormat
from foundry_proto.sentinels import ABSENT
from foundry_runtime.application import Send
from foundry_runtime.engine.api import Job
from foundry_runtime.engine.text.prompt import Prompt, PromptMaker
from foundry_runtime.models.pool import LoadedModel
from foundry_runtime.models.sampling import logprobs_for
from foundry_serve.generation import (
    allowed_output,
    choices_of,
    generate,
    make_prompt,
    sampling_of,
    stops_of,
)
from foundry_serve.handlers.external import relayed
from foundry_serve.leasing import Refusal, model_for, noting_provider, refusing
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
    with refusing():
        offer = offer_of(body)
        logprobs = logprobs_for(body)
    if offer is not None and offer.must_call:
        raise Refusal(Failure(status=400, message="tool_choice: not offered yet", param="tool_choice"))
    async with model_for(services, body.model, ttl=body.ttl or None, ep=body.ep) as model:
        send = noting_provider(send, model, body.ep)
        sampling = sampling_of(body, model.folder)
        prompt = await chat_prompt(services, model, body)
        asked = body.max_completion_tokens or body.max_tokens or body.max_completion_token or None
        job = Job(
            prompt=prompt.ids,
            max_tokens=allowed_output(model.folder, len(prompt.ids), asked),
            sampling=sampling,
            logprobs=logprobs,
        )
        jobs = choices_of(job, body.n or 1)
        answer = answer_to(
            body,
            Identity(id=f"chatcmpl-{uuid.uuid4().hex}", created=int(time.time()), model=body.model),
            choices=len(jobs),
            reading=_reading(model.prompts, prompt, offer),
        )
        shown = _markers(model.prompts, offer)
        await generate(services, model, jobs, stops_of(body.stop), answer, send, shown=shown)


async def chat_prompt(services: Services, model: LoadedModel, body: ChatCompletionRequest) -> Prompt:
    """Make a chat's prompt: all that the model reads.

    Raises:
        Refusal: The messages are not what the model can read, a function must be called that is not offered,
            or the model's chat template failed.
    """
    effort = body.reasoning_effort or None
    return await make_prompt(
        services, lambda: model.prompts.make_chat(body.messages, offer_of(body), effort=effort)
    )


def _reading(prompts: PromptMaker, prompt: Prompt, offer: ToolOffer | None) -> Reading:
    return Reading(
        markup=prompts.markup,
        offer=offer,
        begins_in_reasoning=prompt.opens_reasoning,
        call_id=lambda: call_id(secrets.randbits(64)),
    )


def _markers(prompts: PromptMaker, offer: ToolOffer | None) -> Collection[str]:
    """What the answer is read by: where nothing can be called, the markers of calls mean nothing."""
    return prompts.markup.shown if offer is not None else prompts.markup.reasoning or ()


# What is part of the protocol but not offered yet, and the values that ask for nothing and so are accepted.
_NEUTRAL: Final[Mapping[str, Callable[[Any], bool]]] = {
    "response_format": lambda value: isinstance(value, TextFormat),
}


def _not_offered(body: ChatCompletionRequest) -> Failure | None:
    for name, neutral in _NEUTRAL.items():
        value = getattr(body, name)
        if value is not None and cast("object", value) is not ABSENT and not neutral(value):
            return Failure(
                status=400, message=f"{name}: not offered yet", param=name, code="unsupported_parameter"
            )
    return None
