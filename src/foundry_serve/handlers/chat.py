"""`POST /v1/chat/completions`: from a request to the events that answer it.

Knows: what of a chat request decides its prompt, its jobs and the form of its answer.
Refuses to know: HTTP, SSE, threads, tokens, and how jobs are run (`generation.py`).
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Collection

from foundry_proto.chat.calls import call_id
from foundry_proto.chat.chat_stream import Identity, answer_to
from foundry_proto.chat.offer import ToolOffer, offer_of
from foundry_proto.chat.reading import Reading
from foundry_proto.events import Failure, Request
from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_runtime.application import Send
from foundry_runtime.engine.api import Grammar, Job
from foundry_runtime.engine.text.guidance.asked import form_for
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
from foundry_serve.leasing import Refusal, model_for, noting_provider, refusing, sends_refusals
from foundry_serve.services import Services

__all__ = ["chat_completions", "chat_prompt"]


@sends_refusals
async def chat_completions(services: Services, request: Request[ChatCompletionRequest], send: Send) -> None:
    """Answer a chat, streamed or whole."""
    if not await relayed(services, request, send):
        await _chat(services, request.value, send)


async def _chat(services: Services, body: ChatCompletionRequest, send: Send) -> None:
    with refusing():
        if len(body.messages) > services.most_messages:
            message = f"messages: expected at most {services.most_messages} items, got {len(body.messages)}"
            raise Refusal(Failure(status=400, message=message, param="messages"))
        offer = offer_of(body)
        logprobs = logprobs_for(body)
    async with model_for(services, body.model, ttl=body.ttl or None, ep=body.ep) as model:
        send = noting_provider(send, model, body.ep)
        sampling = sampling_of(body, model.folder)
        prompt, grammar = await make_prompt(services, lambda: _prompt_and_grammar(model, body, offer))
        asked = body.max_completion_tokens or body.max_tokens or body.max_completion_token or None
        job = Job(
            prompt=prompt.ids,
            max_tokens=allowed_output(model.folder, len(prompt.ids), asked),
            sampling=sampling,
            logprobs=logprobs,
            grammar=grammar,
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
    return await make_prompt(services, lambda: _prompt(model, body, offer_of(body)))


def _prompt(model: LoadedModel, body: ChatCompletionRequest, offer: ToolOffer | None) -> Prompt:
    return model.prompts.make_chat(body.messages, offer, effort=body.reasoning_effort or None)


def _prompt_and_grammar(
    model: LoadedModel, body: ChatCompletionRequest, offer: ToolOffer | None
) -> tuple[Prompt, Grammar | None]:
    prompt = _prompt(model, body, offer)
    prompts = model.prompts
    form = form_for(
        body,
        markup=prompts.markup,
        offer=offer,
        opens_reasoning=prompt.opens_reasoning,
        knows_tools=offer is None or prompts.manner.tools != "words",
    )
    return prompt, None if form is None else model.guidance.compile(form)


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
