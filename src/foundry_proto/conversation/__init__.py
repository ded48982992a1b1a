"""What is said over a WebSocket, for either side: whole texts in, events out, and back, without a WebSocket.

`server.py` has the server's side, `client.py` the client's; `interest.py` says which events are for whom.
Whatever carries whole texts in order can carry a conversation: frames of ours, an ASGI server, a test.
"""

from foundry_proto.conversation.client import Answered, ClientConversation, Complained, Ended, Told
from foundry_proto.conversation.interest import is_wanted, same_json
from foundry_proto.conversation.server import (
    MAX_CALLS,
    MAX_ID,
    Called,
    Cancelled,
    Refused,
    ServerConversation,
    WatchBegun,
)

__all__ = [
    "MAX_CALLS",
    "MAX_ID",
    "Answered",
    "Called",
    "Cancelled",
    "ClientConversation",
    "Complained",
    "Ended",
    "Refused",
    "ServerConversation",
    "Told",
    "WatchBegun",
    "is_wanted",
    "same_json",
]
