"""`POST /v1/chat/completions/tokenizer/encode/count`: what a chat's prompt will cost, without the chat.

Knows: that the count is the same request's `usage.prompt_tokens`, because both make the same prompt.
Refuses to know: how it is made (`generation.py`), and how a model is had (`leasing.py`).

Choice: the model is loaded, as by the chat that will follow, and counts as used.
"""

from __future__ import annotations

from foundry_proto.events import Request, Response
from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_proto.messages.models import TokenCount
from foundry_runtime.application import Send
from foundry_serve.handlers.chat import chat_prompt
from foundry_serve.leasing import model_for, sends_refusals
from foundry_serve.services import Services

__all__ = ["count_tokens"]


@sends_refusals
async def count_tokens(services: Services, request: Request[ChatCompletionRequest], send: Send) -> None:
    """Count the tokens that the model would read."""
    body = request.value
    async with model_for(services, body.model, ttl=body.ttl or None, ep=body.ep) as model:
        prompt = await chat_prompt(services, model, body)
    await send(Response(value=TokenCount(token_count=len(prompt.ids))))
