"""One request and its response without HTTP's bytes: what a status, a header and a body mean.

`server.py` has the server's side, `client.py` the client's. Whatever carries an exchange uses these: HTTP/1.1
(`foundry_proto.connection`), an ASGI server, a WebSocket.
"""

from foundry_proto.exchange._heads import MAX_QUERY_WORDS
from foundry_proto.exchange.client import ClientAnswer, ClientExchange
from foundry_proto.exchange.gate import Asked, Gate
from foundry_proto.exchange.server import (
    Answer,
    Data,
    End,
    Piece,
    ServerExchange,
    Start,
)

__all__ = [
    "MAX_QUERY_WORDS",
    "Answer",
    "Asked",
    "ClientAnswer",
    "ClientExchange",
    "Data",
    "End",
    "Gate",
    "Piece",
    "ServerExchange",
    "Start",
]
