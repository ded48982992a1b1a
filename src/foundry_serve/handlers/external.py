"""Models of other servers: chats that are relayed to them.

Knows: that a model on this machine goes before a registered one of the same name.
Refuses to know: HTTP, and how a registration is kept.
"""

from __future__ import annotations

import anyio.to_thread

from foundry_proto.events import Request
from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_runtime.application import Send
from foundry_serve.services import Services

__all__ = ["relayed"]


async def relayed(services: Services, request: Request[ChatCompletionRequest], send: Send) -> bool:
    """Answer a chat whose model another server has; whether this was one."""
    # On the loop: nearly always no more than a look at whether a small file is there.
    name = request.value.model
    model = services.registered.find(name)
    if model is None:
        return False
    found = await anyio.to_thread.run_sync(services.catalog.resolve, name)
    if found is not None and found.path is not None:
        return False
    await services.relay.chat(model, request, send)
    return True
