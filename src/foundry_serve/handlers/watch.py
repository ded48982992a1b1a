"""`GET /foundry/watch`: what happens here, to who wants to be told.

Knows: that the present state of what is watched comes first, and that no event is lost between the two.
Refuses to know: WebSockets, and who else watches.
"""

from __future__ import annotations

from foundry_proto.events import Request, StreamItem
from foundry_proto.messages.watch import Watching, WatchRequest
from foundry_runtime.application import Send
from foundry_serve.services import Services

__all__ = ["watch"]


async def watch(services: Services, request: Request[WatchRequest], send: Send) -> None:
    """Tell what happens, until nobody wants to know it any more."""
    wish = request.value
    with services.feed.watching(wish) as watcher:
        present = services.pool.states() if "models" in wish.topics else ()
        await send(
            StreamItem(value=Watching(topics=wish.topics)), *(StreamItem(value=one) for one in present)
        )
        while True:
            await send(*(StreamItem(value=event) for event in await watcher.receive()))
