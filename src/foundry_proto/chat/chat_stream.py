"""Generated text to a chat completion: as the chunks of a stream, or whole.

Knows: which chunks a stream has and in which order (role, content, finish reason, usage), what a whole
completion sums up, and how to write a content chunk in a fraction of a microsecond.
Refuses to know: tokens (`text_stream.py`), engines, time: id and creation time are arguments.

Both forms take the same two inputs, `text` and `finish`, and give events to send; `answer_to` chooses.

Source: the REST reference page, "Response body"; the order of a stream's chunks is the service's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from json.encoder import encode_basestring
from typing import Final, Protocol

from attrs import define, field, frozen

from foundry_proto.codec import encode
from foundry_proto.errors import LocalProtocolError
from foundry_proto.events import Response, StreamEnd, StreamItem
from foundry_proto.exchange import Answer
from foundry_proto.messages.chat import ChatCompletionRequest, StreamOptions
from foundry_proto.messages.completions import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionMessage,
    Choice,
    ChunkChoice,
    Delta,
    FinishReason,
    PromptTokensDetails,
    Usage,
)

__all__ = ["ChatAnswer", "Identity", "StreamedAnswer", "WholeAnswer", "answer_to", "content_encoder"]


@frozen(kw_only=True)
class Identity:
    """What is the same in every chunk of a completion."""

    id: str
    """`chatcmpl-` and letters of the server's choice."""
    created: int
    """Seconds since 1970."""
    model: str
    """As the request named it."""


@define
class _Counts:
    """Usage so far, over all choices; the prompt counts once."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0

    def usage(self) -> Usage:
        return Usage(
            prompt_tokens=self.prompt,
            completion_tokens=self.completion,
            total_tokens=self.prompt + self.completion,
            prompt_tokens_details=PromptTokensDetails(cached_tokens=self.cached),
        )


class ChatAnswer(Protocol):
    """One chat completion in the making, in whichever form was asked for."""

    def text(self, index: int, text: str) -> Sequence[Answer]:
        """Add text to a choice.

        Returns:
            What to send now; often nothing.
        """
        ...

    def finish(
        self,
        index: int,
        reason: FinishReason,
        *,
        prompt_tokens: int,
        completion_tokens: int,
        cached_tokens: int = 0,
    ) -> Sequence[Answer]:
        """End a choice; with the last one the answer is whole.

        Args:
            index: Which choice.
            reason: Why it ended.
            prompt_tokens: Tokens of the prompt, which all choices share.
            completion_tokens: Tokens generated for this choice.
            cached_tokens: Those of the prompt whose KV cache was there already.

        Returns:
            What to send now.
        """
        ...


def answer_to(request: ChatCompletionRequest, identity: Identity, *, choices: int = 1) -> ChatAnswer:
    """Begin the answer in the form that the request asks for."""
    if not request.stream:
        return WholeAnswer(identity, choices)
    options = request.stream_options
    include_usage = isinstance(options, StreamOptions) and options.include_usage is True
    return StreamedAnswer(identity, choices, include_usage=include_usage)


def content_encoder(identity: Identity, index: int) -> Callable[[str], bytes]:
    """Give a quick writer of one choice's content chunks.

    What the codec would write around the text is the same each time: it is made once, by the codec itself,
    and the text spliced in.
    """
    marker: Final = "\0"
    sample = _chunk(identity, index, Delta(content=marker))
    before, _, after = encode(sample).rpartition(encode_basestring(marker).encode())

    def encode_content(text: str) -> bytes:
        return before + encode_basestring(text).encode() + after

    return encode_content


def _chunk(
    identity: Identity, index: int, delta: Delta, reason: FinishReason | None = None
) -> ChatCompletionChunk:
    return ChatCompletionChunk(
        id=identity.id,
        created=identity.created,
        model=identity.model,
        choices=(ChunkChoice(index=index, delta=delta, finish_reason=reason),),
    )


@define
class StreamedAnswer:
    """A completion as chunks: each choice's role, content and finish reason; then the usage, if asked for."""

    _identity: Identity
    _choices: int
    _include_usage: bool = field(kw_only=True, default=False)
    _encoders: dict[int, Callable[[str], bytes]] = field(init=False, factory=dict)
    _finished: set[int] = field(init=False, factory=set)
    _counts: _Counts = field(init=False, factory=_Counts)

    def text(self, index: int, text: str) -> Sequence[Answer]:
        """Add text to a choice: its role chunk, if it is the first, and a chunk of content."""
        self._check(index)
        if not text:
            return ()
        begun = self._begin(index)
        return (*begun, StreamItem(value=self._encoders[index](text)))

    def finish(
        self,
        index: int,
        reason: FinishReason,
        *,
        prompt_tokens: int,
        completion_tokens: int,
        cached_tokens: int = 0,
    ) -> Sequence[Answer]:
        """End a choice; with the last one come the usage and the end of the stream."""
        self._check(index)
        begun = self._begin(index)
        self._finished.add(index)
        counts = self._counts
        counts.prompt, counts.cached = prompt_tokens, cached_tokens
        counts.completion += completion_tokens
        last = StreamItem(value=_chunk(self._identity, index, Delta(), reason))
        if len(self._finished) < self._choices:
            return (*begun, last)
        if not self._include_usage:
            return (*begun, last, StreamEnd())
        usage = ChatCompletionChunk(
            id=self._identity.id,
            created=self._identity.created,
            model=self._identity.model,
            choices=(),
            usage=counts.usage(),
        )
        return (*begun, last, StreamItem(value=usage), StreamEnd())

    def _begin(self, index: int) -> Sequence[Answer]:
        if index in self._encoders:
            return ()
        self._encoders[index] = content_encoder(self._identity, index)
        return (StreamItem(value=_chunk(self._identity, index, Delta(role="assistant", content=""))),)

    def _check(self, index: int) -> None:
        _check_choice(index, self._choices, self._finished)


@define
class WholeAnswer:
    """A completion as one reply, given when its last choice ends."""

    _identity: Identity
    _choices: int
    _texts: dict[int, list[str]] = field(init=False, factory=dict)
    _finished: dict[int, FinishReason] = field(init=False, factory=dict)
    _counts: _Counts = field(init=False, factory=_Counts)

    def text(self, index: int, text: str) -> Sequence[Answer]:
        """Keep text of a choice."""
        _check_choice(index, self._choices, self._finished)
        self._texts.setdefault(index, []).append(text)
        return ()

    def finish(
        self,
        index: int,
        reason: FinishReason,
        *,
        prompt_tokens: int,
        completion_tokens: int,
        cached_tokens: int = 0,
    ) -> Sequence[Answer]:
        """End a choice; with the last one comes the reply."""
        _check_choice(index, self._choices, self._finished)
        self._finished[index] = reason
        counts = self._counts
        counts.prompt, counts.cached = prompt_tokens, cached_tokens
        counts.completion += completion_tokens
        if len(self._finished) < self._choices:
            return ()
        choices = tuple(
            Choice(
                index=number,
                message=ChatCompletionMessage(content="".join(self._texts.get(number, ()))),
                finish_reason=self._finished[number],
            )
            for number in range(self._choices)
        )
        completion = ChatCompletion(
            id=self._identity.id,
            created=self._identity.created,
            model=self._identity.model,
            choices=choices,
            usage=counts.usage(),
        )
        return (Response(value=completion),)


def _check_choice(index: int, choices: int, finished: set[int] | dict[int, FinishReason]) -> None:
    if not 0 <= index < choices:
        raise LocalProtocolError(f"choice: expected an index from 0 to {choices - 1}, got {index}")
    if index in finished:
        raise LocalProtocolError(f"choice {index} has finished")
