"""A server's side of a conversation: what a client's texts mean, and how answers look as texts.

Knows: that each chat is an exchange of its own, the same as over HTTP, named by its client; how many there
may be at a time; that a wrong text ends nothing.
Refuses to know: frames, who runs a chat, what is watched and when it happens.

The laws:
- A text gives one event, and never an exception, whatever it is.
- A chat that was `Called` ends with exactly one of `answer`, `end`, `error` or `cancelled`, which carries its
  id; until then its id means that chat and no other.
- The same request gets the same statuses, headers and bodies as over HTTP: they are made by `ServerExchange`.
- An `error` without an id ended nothing.

`receive` may run in one thread while `send` runs in another: the first only adds to the calls, the second
only takes from them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, assert_never, cast

from attrs import define, field, frozen

from foundry_proto.codec import ContentError, encode, structure
from foundry_proto.errors import LocalProtocolError
from foundry_proto.events import Failure, Head, Headers, Request, Response, StreamEnd, StreamItem
from foundry_proto.exchange import Answer, Data, ServerExchange
from foundry_proto.jsontext import MAX_DEPTH, dump_json, load_json, show
from foundry_proto.messages.errors import ErrorDetail, error_body
from foundry_proto.messages.watch import (
    CallCancelled,
    CallEnded,
    CallFailed,
    CancelCall,
    ChatCall,
    ClientMessage,
    WatchRequest,
)
from foundry_proto.operations import CHAT_COMPLETIONS, Operations

__all__ = ["MAX_CALLS", "MAX_ID", "Called", "Cancelled", "Refused", "ServerConversation", "WatchBegun"]

MAX_CALLS: Final = 32
"""Most chats of one conversation at a time."""

MAX_ID: Final = 100
"""Most characters of a chat's id."""


@frozen(kw_only=True)
class Called:
    """A chat is to be answered."""

    id: str
    request: Request[Any]


@frozen(kw_only=True)
class Cancelled:
    """A chat that runs is to be ended; then say so with `cancelled`, unless it was over before."""

    id: str


@frozen(kw_only=True)
class WatchBegun:
    """The client is to be told of what it says here, and of nothing else any more."""

    request: Request[WatchRequest]


@frozen(kw_only=True)
class Refused:
    """Nothing is to be done but to send this."""

    data: bytes


# What is HTTP's, or the handshake's, and says nothing about a request.
_OWN: Final = (b"connection", b"upgrade", b"expect", b"transfer-", b"content-", b"sec-websocket-")
"""How such headers begin."""
_JSON: Final[Headers] = ((b"content-type", b"application/json"),)


class _Bodies:
    """A stream whose items go into texts of their own."""

    media_type: Final = b"application/json"
    final_pause: Final = 0.0

    def encode_item(self, value: object) -> bytes:
        return value if isinstance(value, bytes) else encode(value)

    def encode_failure(self, failure: Failure) -> tuple[bytes, ...]:
        return (encode(error_body(failure, "openai")),)

    def encode_end(self) -> tuple[bytes, ...]:
        return (b"",)


_bodies: Final = _Bodies()


@define
class _Call:
    exchange: ServerExchange
    unsent: list[bytes] = field(init=False, factory=list)
    """Texts that were made before an event of the same call turned out wrong."""


@define
class ServerConversation:
    """A server's side of one conversation.

    Args:
        operations: What is offered here; chats need their row.
        head: The request that opened the WebSocket: every chat has its headers and its client.
        check: Says whether a chat may be answered, as for a request over HTTP.
        body_limit: The most bytes of a chat's body, instead of what its row says.
        depth: The most levels of nesting in a body.
    """

    _operations: Operations
    _head: Head = field(kw_only=True)
    _check: Callable[[Head], Failure | None] = field(kw_only=True, default=lambda _: None)
    _body_limit: int | None = field(kw_only=True, default=None)
    _depth: int = field(kw_only=True, default=MAX_DEPTH)
    _headers: Headers = field(init=False)
    _calls: dict[str, _Call] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        kept = (one for one in self._head.headers if not one[0].startswith(_OWN))
        self._headers = (*kept, *_JSON)

    @property
    def running(self) -> Collection[str]:
        """The ids of the chats that are not over."""
        return self._calls.keys()

    def receive(self, data: bytes) -> Called | Cancelled | WatchBegun | Refused:
        """Take a whole text of the client's.

        Args:
            data: The text, UTF-8.

        Returns:
            What to do about it, never an exception: a text that is none of the protocol is `Refused`.
        """
        plain: object = None
        try:
            plain = load_json(data)
            message = structure(cast("type[ClientMessage]", ClientMessage), plain)
        except ContentError as error:
            failure = Failure(status=400, message=str(error).replace("body", "message", not error.path))
            return _refused(self._free_id(plain), failure, param=error.param)
        match message:
            case ChatCall():
                return self._call(message)
            case CancelCall():
                # Choice: the answer may have ended while this was on its way; nothing more is said then.
                return Cancelled(id=message.id)
            case WatchRequest():
                return WatchBegun(request=Request(head=self._head, value=message, raw=data))
            case _:
                assert_never(message)

    def _free_id(self, plain: object) -> str | None:
        """The id of a chat that cannot be read, if it has one by which its client knows it."""
        if not isinstance(plain, dict) or plain.get("type") != "chat":
            return None
        name = plain.get("id")
        return name if isinstance(name, str) and name not in self._calls else None

    def _call(self, call: ChatCall) -> Called | Refused:
        if not 1 <= len(call.id) <= MAX_ID:
            message = f"id: expected a text of 1 to {MAX_ID} characters, got {show(call.id)}"
            return _refused(None, Failure(status=400, message=message), param="id")
        if call.id in self._calls:
            message = f"id: expected one that is not in use, got {show(call.id)}"
            return _refused(None, Failure(status=409, message=message, code="id_in_use"), param="id")
        exchange = ServerExchange(
            self._operations,
            client=self._head.client,
            body_limit=self._body_limit,
            depth=self._depth,
            stream=_bodies,
        )
        answer = self._outcome(call, exchange)
        if isinstance(answer, Request):
            self._calls[call.id] = _Call(exchange)
            return Called(id=call.id, request=answer)
        return Refused(data=_text(call.id, exchange, answer))

    def _outcome(self, call: ChatCall, exchange: ServerExchange) -> Request[Any] | Failure:
        """What HTTP would make of the same request: head, who may ask, body."""
        if len(self._calls) >= MAX_CALLS:
            message = f"expected at most {MAX_CALLS} chats at a time on one WebSocket, got more"
            return Failure(status=429, message=message, code="too_many_chats")
        head = exchange.receive_head("POST", CHAT_COMPLETIONS.path, self._headers)
        if not isinstance(head, Head):
            return cast("Failure", head)  # a POST gets no other
        failure = self._check(head) or exchange.receive_body(dump_json(call.body))
        return failure or cast("Request[Any] | Failure", exchange.receive_end())

    def send(self, call: str | None, *events: Answer) -> list[bytes]:
        """Answer a chat, or tell what is watched.

        Args:
            call: The chat's id; `None` for the watch, of which items and a failure are told.
            events: The next of its answer.

        Returns:
            Texts to send.

        Raises:
            LocalProtocolError: No such chat is running, or an event cannot be sent at this point of its
                answer. What was taken before leaves with the next call.
        """
        if call is None:
            return [_told(event) for event in events]
        if (running := self._calls.get(call)) is None:
            raise LocalProtocolError(f"cannot send an answer: no chat {show(call)} is running")
        for event in events:
            running.unsent.append(_text(call, running.exchange, event))
        if running.exchange.answered:
            del self._calls[call]
        texts, running.unsent = running.unsent, []
        return texts

    def cancelled(self, call: str) -> list[bytes]:
        """End a chat without a whole answer.

        Args:
            call: The chat's id.

        Returns:
            Texts to send; none if it is over.
        """
        running = self._calls.pop(call, None)
        return [] if running is None else [*running.unsent, encode(CallCancelled(id=call))]


def _text(call: str, exchange: ServerExchange, event: Answer) -> bytes:
    """One event of an answer as a text. What the exchange has written as JSON is not written again."""
    body = b"".join(piece.data for piece in exchange.send(event) if isinstance(piece, Data))
    name = dump_json(call)
    match event:
        case StreamItem():
            return b'{"type":"chunk","id":%b%b,"body":%b}' % (name, _headers(event.headers), body)
        case StreamEnd():
            return encode(CallEnded(id=call))
        case Response():
            front = b'{"type":"answer","id":%b,"status":%d' % (name, event.status)
            return b'%b%b,"body":%b}' % (front, _headers(event.headers), body or b"null")
        case Failure():
            front = b'{"type":"error","id":%b,"status":%d' % (name, event.status)
            return b"%b%b,%b" % (front, _headers(event.headers), body.removeprefix(b"{"))
        case _:
            assert_never(event)


def _headers(headers: Headers) -> bytes:
    return b',"headers":' + dump_json(_named(headers)) if headers else b""


def _named(headers: Headers) -> Mapping[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}


def _told(event: Answer) -> bytes:
    match event:
        case StreamItem():
            return _bodies.encode_item(event.value)
        case Failure():
            return _refused(None, event, param=event.param).data
        case _:
            raise LocalProtocolError(f"cannot send {type(event).__name__} for a watch")


def _refused(call: str | None, failure: Failure, *, param: str | None) -> Refused:
    detail = ErrorDetail(message=failure.message, type=failure.type, param=param, code=failure.code)
    return Refused(data=encode(CallFailed(id=call, status=failure.status, error=detail)))
