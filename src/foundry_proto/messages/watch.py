"""What is said over the WebSocket of `/foundry/watch`: texts, each a JSON object, told apart by its `type`.

Knows: the messages of a client, which watches and chats, and those of a server, which tells and answers.
Refuses to know: in which order they may come (`conversation/`), and how they are framed.

Every answer to a chat carries the chat's `id`; its `body` is what HTTP would have carried. What a server
tells of itself carries none.

Source: this project's own; what it is for is the role of the named pipe (`PipeName`) in the first service.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal, TypeAlias

from attrs import frozen

from foundry_proto.messages.errors import ErrorDetail
from foundry_proto.sentinels import ABSENT, Absent
from foundry_proto.wire import Items, Wire

__all__ = [
    "MAX_TOKENS",
    "CallAnswered",
    "CallCancelled",
    "CallChunk",
    "CallEnded",
    "CallFailed",
    "CancelCall",
    "ChatCall",
    "ClientMessage",
    "DownloadEnded",
    "DownloadProgressed",
    "Generated",
    "ModelChanged",
    "ModelState",
    "RequestServed",
    "ServerEvent",
    "ServerMessage",
    "Topic",
    "WatchRequest",
    "Watching",
]

Topic = Literal["models", "downloads", "requests"]
"""What a server tells of: which models are in memory, how far downloads are, what was served."""

MAX_TOKENS: Final = 100
"""Most progress tokens that one client looks for at a time."""


# A client's.


@frozen(kw_only=True)
class WatchRequest:
    """A client's wish to be told; it takes the place of the one before."""

    WIRE: ClassVar = Wire(writes=("camel",))
    type: Literal["watch"] = "watch"
    topics: tuple[Topic, ...]
    """What to tell; nothing ends it."""
    progress_tokens: Annotated[tuple[object, ...], Items(most=MAX_TOKENS)] | Absent | None = ABSENT
    """The downloads to tell of, by their `progressToken`; without it, all that have one."""


@frozen(kw_only=True)
class ChatCall:
    """A client's chat: what `POST /v1/chat/completions` would take."""

    type: Literal["chat"] = "chat"
    id: str
    """The client's own name for this chat, which all answers carry; free again when it is over."""
    body: object
    """The chat completion request."""


@frozen(kw_only=True)
class CancelCall:
    """A client's wish that a chat ends; one that is over already is no error."""

    type: Literal["cancel"] = "cancel"
    id: str


ClientMessage: TypeAlias = WatchRequest | ChatCall | CancelCall
"""What a client may say."""


# A server's answers to a client's calls.


@frozen(kw_only=True)
class CallAnswered:
    """A chat's whole answer, and its end."""

    type: Literal["answer"] = "answer"
    id: str
    status: int = 200
    headers: Mapping[str, str] | Absent = ABSENT
    """Of HTTP's headers those that say something beside the body."""
    body: object
    """The chat completion."""


@frozen(kw_only=True)
class CallChunk:
    """A piece of a chat's streamed answer."""

    type: Literal["chunk"] = "chunk"
    id: str
    headers: Mapping[str, str] | Absent = ABSENT
    """As in an answer; only the first chunk has them."""
    body: object
    """The chat completion chunk."""


@frozen(kw_only=True)
class CallEnded:
    """A streamed answer is whole: the role of `data: [DONE]`."""

    type: Literal["end"] = "end"
    id: str


@frozen(kw_only=True)
class CallCancelled:
    """A chat has ended because its client wished so."""

    type: Literal["cancelled"] = "cancelled"
    id: str


@frozen(kw_only=True)
class CallFailed:
    """A chat was refused, or could not go on; without an id, another message was wrong, and nothing ended."""

    type: Literal["error"] = "error"
    id: str | None
    status: int
    """What HTTP would have answered with."""
    headers: Mapping[str, str] | Absent = ABSENT
    error: ErrorDetail


# What a server tells of itself.


@frozen(kw_only=True)
class Watching:
    """What is told from here on; the present state of what is watched follows."""

    type: Literal["watching"] = "watching"
    topics: tuple[Topic, ...]


ModelState = Literal["absent", "loading", "ready", "draining", "unloading", "failed"]
"""Where a model is on its way through the memory; `failed`: its load did, and it is absent again."""


@frozen(kw_only=True)
class ModelChanged:
    """A model has changed its state, or is in it when the watch begins."""

    type: Literal["model"] = "model"
    model: str
    """The model's id."""
    state: ModelState
    provider: str | Absent = ABSENT
    """Where it runs, if it is ready."""
    reason: str | Absent = ABSENT
    """Why its load failed."""


@frozen(kw_only=True)
class DownloadProgressed:
    """How far a download has come."""

    WIRE: ClassVar = Wire(writes=("camel",))
    type: Literal["download"] = "download"
    progress_token: object
    """What the download's request has as its `progressToken`."""
    model: str
    file: str
    fraction: float
    """The part of the whole download that is done, from 0 to 1."""


@frozen(kw_only=True)
class DownloadEnded:
    """What became of a download."""

    WIRE: ClassVar = Wire(writes=("camel",))
    type: Literal["downloaded"] = "downloaded"
    progress_token: object
    model: str
    success: bool
    error_message: str | None = None


@frozen(kw_only=True)
class RequestServed:
    """A request was served to its end, over HTTP or here."""

    WIRE: ClassVar = Wire(writes=("camel",))
    type: Literal["request"] = "request"
    operation: str
    """The row's name, such as `chat_completions`."""
    status: int | None = None
    """What was answered; null when the client was gone before anything was."""
    outcome: Literal["answered", "failed", "cancelled"]
    """Whether the answer is whole, is an error or ends with one, or was not waited for."""
    seconds: float
    """From the whole request to the end of its answer."""
    first_seconds: float | None = None
    """The same to the answer's first piece; null without one."""


@frozen(kw_only=True)
class Generated:
    """A model has generated the text of an answer."""

    WIRE: ClassVar = Wire(writes=("camel",))
    type: Literal["generation"] = "generation"
    model: str
    choices: int
    prompt_tokens: int
    cached_tokens: int
    """Of the prompt's tokens those that were not computed again."""
    completion_tokens: int
    seconds: float
    """From the prompt's end to the last token, waiting for its turn included."""
    first_token_seconds: float | None = None


ServerEvent: TypeAlias = ModelChanged | DownloadProgressed | DownloadEnded | RequestServed | Generated
"""What happens at a server."""

ServerMessage: TypeAlias = (
    CallAnswered | CallChunk | CallEnded | CallCancelled | CallFailed | Watching | ServerEvent
)
"""What a server may say."""
