"""WebSockets on asyncio and trio: whole texts over a transport, conversations, and a client.

`frames.py` alone knows how texts are framed, `socket.py` moves them, `asgi.py` where a server of others does
so; `conversing.py` serves a conversation over them, and `client.py` holds one.
"""

from foundry_runtime.websocket.client import Conversation, ConversationClosed, open_conversation
from foundry_runtime.websocket.conversing import Conversing, text_limit
from foundry_runtime.websocket.frames import Closed, Frames, Reply, Text
from foundry_runtime.websocket.socket import Patience, TextSocket, WebSocket, open_websocket

__all__ = [
    "Closed",
    "Conversation",
    "ConversationClosed",
    "Conversing",
    "Frames",
    "Patience",
    "Reply",
    "Text",
    "TextSocket",
    "WebSocket",
    "open_conversation",
    "open_websocket",
    "text_limit",
]
