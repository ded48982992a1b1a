"""The Foundry Local protocol as pure state machines: bytes in, events out, and back.

No sockets, no clock, no threads: `foundry_runtime` binds this package to event loops. Here stand the names to
begin with; the messages are in `foundry_proto.messages`, and each module lists what else it offers.
"""

from foundry_proto._version import __version__
from foundry_proto.chat.assemble import ChatAssembler
from foundry_proto.chat.chat_stream import Identity, answer_to
from foundry_proto.chat.text_stream import TextStream
from foundry_proto.codec import ContentError, decode, encode
from foundry_proto.connection import ClientConnection, Limits, Phase, ServerConnection, Write
from foundry_proto.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from foundry_proto.events import (
    Disconnected,
    Failure,
    Head,
    Request,
    Response,
    StreamEnd,
    StreamItem,
)
from foundry_proto.exchange import ClientExchange, ServerExchange
from foundry_proto.operations import CHAT_COMPLETIONS, DOCUMENTED, Operation, Operations
from foundry_proto.progress import ProgressDecoder, encode_progress
from foundry_proto.sentinels import ABSENT, NEED_DATA, Absent, NeedData
from foundry_proto.sse import ServerSentEvent, SSEDecoder, encode_event

__all__ = [
    "ABSENT",
    "CHAT_COMPLETIONS",
    "DOCUMENTED",
    "NEED_DATA",
    "Absent",
    "ChatAssembler",
    "ClientConnection",
    "ClientExchange",
    "ContentError",
    "Disconnected",
    "Failure",
    "Head",
    "Identity",
    "Limits",
    "LocalProtocolError",
    "NeedData",
    "Operation",
    "Operations",
    "Phase",
    "ProgressDecoder",
    "ProtocolError",
    "RemoteProtocolError",
    "Request",
    "Response",
    "SSEDecoder",
    "ServerConnection",
    "ServerExchange",
    "ServerSentEvent",
    "StreamEnd",
    "StreamItem",
    "TextStream",
    "Write",
    "__version__",
    "answer_to",
    "decode",
    "encode",
    "encode_event",
    "encode_progress",
]
