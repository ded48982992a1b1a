"""A client's side of a conversation: what to say, and what a server's texts mean.

Knows: which chats are under way, and that each answer is told in the words of a call over HTTP.
Refuses to know: frames, and how ids are chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias, cast, get_args

from attrs import define, field, fields, frozen

from foundry_proto.codec import ContentError, encode, structure
from foundry_proto.errors import LocalProtocolError, RemoteProtocolError
from foundry_proto.events import Failure, Headers, Response, StreamEnd, StreamItem
from foundry_proto.exchange import ClientAnswer
from foundry_proto.jsontext import load_json, show
from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_proto.messages.completions import ChatCompletion, ChatCompletionChunk
from foundry_proto.messages.watch import (
    CallAnswered,
    CallCancelled,
    CallChunk,
    CallEnded,
    CallFailed,
    CancelCall,
    ChatCall,
    ServerEvent,
    ServerMessage,
    Topic,
    Watching,
    WatchRequest,
)
from foundry_proto.sentinels import ABSENT, Absent

__all__ = ["Answered", "ClientConversation", "ClientEvent", "Complained", "Ended", "Told"]


@frozen(kw_only=True)
class Told:
    """The server tells what happens, or what it tells from now on."""

    event: ServerEvent | Watching


@frozen(kw_only=True)
class Answered:
    """The next of a chat's answer; after a `Response`, a `StreamEnd` or a `Failure` it is over."""

    id: str
    answer: ClientAnswer


@frozen(kw_only=True)
class Ended:
    """A chat is over because it was cancelled."""

    id: str


@frozen(kw_only=True)
class Complained:
    """The server could not use something that was said; no chat has ended."""

    failure: Failure


ClientEvent: TypeAlias = Told | Answered | Ended | Complained

_TYPES: Final = frozenset(fields(cls).type.default for cls in get_args(ServerMessage))


@define
class ClientConversation:
    """A client's side of one conversation."""

    _calls: set[str] = field(init=False, factory=set)

    def watch(self, *topics: Topic, progress_tokens: tuple[object, ...] | Absent = ABSENT) -> bytes:
        """Ask to be told of these topics, and of nothing else any more.

        Args:
            topics: None of them ends it.
            progress_tokens: The downloads to be told of; by default all that have a token.

        Returns:
            The text to send.
        """
        return encode(WatchRequest(topics=topics, progress_tokens=progress_tokens))

    def chat(self, call: str, request: ChatCompletionRequest) -> bytes:
        """Begin a chat.

        Args:
            call: An id that no running chat has.
            request: What is asked.

        Returns:
            The text to send.

        Raises:
            LocalProtocolError: The id is in use, or the request cannot be sent.
        """
        if call in self._calls:
            raise LocalProtocolError(f"chat: expected an id that is not in use, got {show(call)}")
        data = encode(ChatCall(id=call, body=request))
        self._calls.add(call)
        return data

    def cancel(self, call: str) -> bytes:
        """Ask for a chat to end; its answer may be whole all the same.

        Args:
            call: The chat's id.

        Returns:
            The text to send.
        """
        return encode(CancelCall(id=call))

    def receive(self, data: bytes) -> ClientEvent | None:
        """Take a whole text of the server's.

        Args:
            data: The text, UTF-8.

        Returns:
            What it says; `None` for a type that is not known, since servers grow.

        Raises:
            RemoteProtocolError: It is none of the protocol; any other exception is a bug.
        """
        try:
            plain = load_json(data)
            kind = plain.get("type") if isinstance(plain, dict) else ""
            if isinstance(kind, str) and kind and kind not in _TYPES:
                return None
            return self._event(structure(cast("type[ServerMessage]", ServerMessage), plain))
        except ContentError as error:
            raise RemoteProtocolError(f"the server's text is not what was expected: {error}") from None

    def _event(self, message: ServerMessage) -> ClientEvent:
        match message:
            case CallAnswered():
                value = structure(ChatCompletion, message.body)
                answer = Response(value=value, status=message.status, headers=_plain(message.headers))
                return self._answered(message.id, answer, last=True)
            case CallChunk():
                chunk = structure(ChatCompletionChunk, message.body)
                return self._answered(message.id, StreamItem(value=chunk), last=False)
            case CallEnded():
                return self._answered(message.id, StreamEnd(), last=True)
            case CallFailed():
                failure = _failure(message)
                if message.id is None:
                    return Complained(failure=failure)
                return self._answered(message.id, failure, last=True)
            case CallCancelled():
                self._take(message.id, last=True)
                return Ended(id=message.id)
            case _:
                return Told(event=message)

    def _answered(self, call: str, answer: ClientAnswer, *, last: bool) -> Answered:
        self._take(call, last=last)
        return Answered(id=call, answer=answer)

    def _take(self, call: str, *, last: bool) -> None:
        if call not in self._calls:
            raise RemoteProtocolError(f"expected an answer to a chat that runs, got one to {show(call)}")
        if last:
            self._calls.remove(call)


def _failure(message: CallFailed) -> Failure:
    error = message.error
    return Failure(
        status=message.status,
        message=error.message,
        type=error.type,
        param=error.param,
        code=error.code,
        headers=_plain(message.headers),
    )


def _plain(headers: Mapping[str, str] | Absent) -> Headers:
    return tuple((name.encode(), value.encode()) for name, value in (headers or {}).items())
