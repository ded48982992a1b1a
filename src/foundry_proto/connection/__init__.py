"""HTTP/1.1 around exchanges, for either side, without a socket.

`server.py` has the server's side, `client.py` the client's: bytes in, events out, and back. A driver moves
the bytes; it decides nothing that HTTP decides, and needs no more than `terms.py`.
"""

from foundry_proto.connection.client import ClientConnection
from foundry_proto.connection.server import ServerConnection
from foundry_proto.connection.terms import Limits, Phase, Write

__all__ = ["ClientConnection", "Limits", "Phase", "ServerConnection", "Write"]
