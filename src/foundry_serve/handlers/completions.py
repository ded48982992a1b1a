"""`POST /v1/completions`: from texts that are to go on to the events that answer.

Knows: what of the request decides the prompts, the jobs and the form of the answer.
Refuses to know: HTTP, SSE, threads, and how jobs are run (`generation.py`).
"""

from __future__ import annotations

import time
import uuid
from functools import partial
from typing import Final

from attrs import evolve

from foundry_proto.chat.chat_stream import Identity
from foundry_proto.chat.text_choices import TextShape, shape_of
from foundry_proto.chat.text_completion import text_answer_to
from foundry_proto.events import Request
from foundry_proto.jsontext import ContentError
from foundry_proto.messages.inputs import each_of
from foundry_proto.messages.text_completions import TextCompletionRequest
from foundry_runtime.application import Send
from foundry_runtime.engine.admission import check_ids
from foundry_runtime.engine.api import Job, Sampling
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
from foundry_serve.leasing import model_for, noting_provider, refusing, sends_refusals
from foundry_serve.services import Services

__all__ = ["completions"]

_MAX_TOKENS: Final = 16
"""How many tokens are generated when the request does not say: OpenAI's own number."""


@sends_refusals
async def completions(services: Services, request: Request[TextCompletionRequest], send: Send) -> None:
    """Answer with what comes behind each prompt, streamed or whole."""
    if not await relayed(services, request, send):
        await _complete(services, request.value, send)


async def _complete(services: Services, body: TextCompletionRequest, send: Send) -> None:
    with refusing():
        shape = shape_of(body)
    async with model_for(services, body.model, ttl=body.ttl or None, ep=body.ep) as model:
        send = noting_provider(send, model, body.ep)
        sampling = sampling_of(body, model.folder)
        prompts = await make_prompt(services, partial(_prompts, model, body))
        jobs = [
            choice
            for prompt in prompts
            for choice in choices_of(_job(model, body, shape, prompt, sampling), shape.generated)
        ]
        identity = Identity(id=f"cmpl-{uuid.uuid4().hex}", created=int(time.time()), model=body.model)
        answer = text_answer_to(body, shape, identity, prompts=[prompt.text for prompt in prompts])
        await generate(services, model, jobs, stops_of(body.stop), answer, send, prompt_field="prompt")


def _prompts(model: LoadedModel, body: TextCompletionRequest) -> list[Prompt]:
    """The prompts, each of them known to be what the model can read."""
    return [_prompt(model, name, one, body.suffix or None) for name, one in each_of("prompt", body.prompt)]


def _prompt(model: LoadedModel, name: str, given: str | tuple[int, ...], suffix: str | None) -> Prompt:
    if isinstance(given, str):
        prompt = model.prompts.make_text(given, suffix)
        if not prompt.ids:
            raise ContentError("expected at least 1 token, got an empty text", (name,))
        # What is echoed is what was sent, without what marks a gap to be filled.
        return evolve(prompt, text=given)
    if suffix is not None:
        raise ContentError("expected none beside token ids, got text", ("suffix",))
    check_ids(given, name, vocabulary=model.folder.vocab_size)
    return Prompt(ids=given, text=model.prompts.tokenizer.decode(given))


def _job(
    model: LoadedModel, body: TextCompletionRequest, shape: TextShape, prompt: Prompt, sampling: Sampling
) -> Job:
    # The best are found by the tokens' own logprobs.
    chosen = 0 if shape.chooses else None
    return Job(
        prompt=prompt.ids,
        max_tokens=body.max_tokens or min(_MAX_TOKENS, allowed_output(model.folder, len(prompt.ids), None)),
        sampling=sampling,
        logprobs=chosen if shape.logprobs is None else shape.logprobs,
    )
