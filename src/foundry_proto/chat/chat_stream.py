"""Generated text to a chat completion: as the chunks of a stream, or whole.

Knows: which chunks a stream has and in which order (role; reasoning, content and calls as they come; finish
reason, usage), what a whole completion sums up, and how to write a content chunk in a fraction of a
microsecond.
Refuses to know: tokens (`text_stream.py`), markers (`splitter.py`), engines, time: id and creation time are
arguments.

Both forms take the same two inputs, `text` and `finish`, and give events to send; `answer_to` chooses.

Source: the REST reference page, "Response body"; the order of a stream's chunks is the service's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from json.encoder import encode_basestring
from typing import Final, Literal, Protocol, assert_never

from attrs import define, field, frozen

from foundry_proto.chat.calls import Call
from foundry_proto.chat.reading import ChoiceReader, Reading
from foundry_proto.chat.splitter import Content, Part, Reasoning
from foundry_proto.chat.tally import Tally
from foundry_proto.codec import encode
from foundry_proto.events import Response, StreamEnd, StreamItem
from foundry_proto.exchange import Answer
from foundry_proto.messages.chat import ChatCompletionRequest, StreamOptions
from foundry_proto.messages.completions import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionMessage,
    Choice,
    ChoiceLogprobs,
    ChunkChoice,
    Delta,
    FinishReason,
    FunctionCallDelta,
    TokenLogprob,
    ToolCallDelta,
)
from foundry_proto.messages.tools import FunctionCall, ToolCall
from foundry_proto.sentinels import ABSENT

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


class ChatAnswer(Protocol):
    """One chat completion in the making, in whichever form was asked for."""

    def text(
        self, index: int, text: str, *, tokens: int = 0, logprobs: Sequence[TokenLogprob] = ()
    ) -> Sequence[Answer]:
        """Add text to a choice.

        Args:
            index: Which choice.
            text: Any piece of its text.
            tokens: How many tokens the piece is, for the count of reasoning's tokens.
            logprobs: One for each token, where they were asked for.

        Returns:
            What to send now; often nothing.
        """
        ...

    def finish(
        self,
        index: int,
        reason: Literal["stop", "length"],
        *,
        prompt_tokens: int,
        completion_tokens: int,
        cached_tokens: int = 0,
    ) -> Sequence[Answer]:
        """End a choice; with the last one the answer is whole.

        Args:
            index: Which choice.
            reason: Why its text ended; where there were calls, the answer says so.
            prompt_tokens: Tokens of the prompt, which all choices share.
            completion_tokens: Tokens generated for this choice.
            cached_tokens: Those of the prompt whose KV cache was there already. Of several choices the least
                counts: what one computed for the others was not there before the request.

        Returns:
            What to send now.
        """
        ...


def answer_to(
    request: ChatCompletionRequest,
    identity: Identity,
    *,
    choices: int = 1,
    reading: Reading | None = None,
) -> ChatAnswer:
    """Begin the answer in the form that the request asks for.

    Args:
        request: What was asked.
        identity: What is the same in every chunk.
        choices: How many there will be.
        reading: What there is to find in the text; without it, all text is content.
    """
    reading = reading or Reading()
    if not request.stream:
        return WholeAnswer(identity, choices, reading=reading)
    options = request.stream_options
    include_usage = isinstance(options, StreamOptions) and options.include_usage is True
    return StreamedAnswer(identity, choices, reading=reading, include_usage=include_usage)


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
    identity: Identity,
    index: int,
    delta: Delta,
    reason: FinishReason | None = None,
    logprobs: Sequence[TokenLogprob] = (),
) -> ChatCompletionChunk:
    choice = ChunkChoice(index=index, delta=delta, logprobs=_logprobs(logprobs), finish_reason=reason)
    return ChatCompletionChunk(
        id=identity.id, created=identity.created, model=identity.model, choices=(choice,)
    )


def _logprobs(entries: Sequence[TokenLogprob]) -> ChoiceLogprobs | None:
    return ChoiceLogprobs(content=tuple(entries)) if entries else None


def _is_older_form(reading: Reading) -> bool:
    return reading.offer is not None and reading.offer.older_form


@define
class _StreamedChoice:
    reader: ChoiceReader
    encode: Callable[[str], bytes]
    calls: int = 0


@define
class StreamedAnswer:
    """A completion as chunks: each choice's role, what it says, its finish reason; then the usage, if asked
    for."""

    _identity: Identity
    _choices: int
    _reading: Reading = field(kw_only=True, factory=Reading)
    _include_usage: bool = field(kw_only=True, default=False)
    _plain: bool = field(init=False)
    _begun: dict[int, _StreamedChoice] = field(init=False, factory=dict)
    _tally: Tally = field(init=False)

    @_tally.default
    def _no_choice_yet(self) -> Tally:
        return Tally(self._choices, self._choices)

    @_plain.default
    def _is_plain(self) -> bool:
        return self._reading.plain

    def text(
        self, index: int, text: str, *, tokens: int = 0, logprobs: Sequence[TokenLogprob] = ()
    ) -> Sequence[Answer]:
        """Add text to a choice: its role chunk, if it is the first, and what is certain of it."""
        self._tally.check(index)
        if self._plain and not logprobs and index in self._begun:  # the common case, quick
            return (StreamItem(value=self._begun[index].encode(text)),) if text else ()
        if not text and not logprobs:
            return ()
        begun, choice = self._begin(index)
        return (*begun, *self._items(index, choice, choice.reader.text(text, tokens, logprobs)))

    def finish(
        self,
        index: int,
        reason: Literal["stop", "length"],
        *,
        prompt_tokens: int,
        completion_tokens: int,
        cached_tokens: int = 0,
    ) -> Sequence[Answer]:
        """End a choice; with the last one come the usage and the end of the stream."""
        self._tally.check(index)
        begun, choice = self._begin(index)
        reader = choice.reader
        events = [*begun, *self._items(index, choice, reader.finish())]
        if left := reader.take_logprobs():  # of tokens that had no text
            chunk = _chunk(self._identity, index, Delta(content=""), logprobs=left)
            events.append(StreamItem(value=chunk))
        events.append(StreamItem(value=_chunk(self._identity, index, Delta(), reader.reason(reason))))
        self._tally.finish(
            index,
            prompt=prompt_tokens,
            completion=completion_tokens,
            cached=cached_tokens,
            reasoning=reader.reasoning_tokens,
        )
        if not self._tally.whole:
            return events
        if self._include_usage:
            usage = ChatCompletionChunk(
                id=self._identity.id,
                created=self._identity.created,
                model=self._identity.model,
                choices=(),
                usage=self._tally.usage(),
            )
            events.append(StreamItem(value=usage))
        return (*events, StreamEnd())

    def _begin(self, index: int) -> tuple[Sequence[Answer], _StreamedChoice]:
        known = self._begun.get(index)
        if known is not None:
            return (), known
        choice = _StreamedChoice(self._reading.begin(), content_encoder(self._identity, index))
        self._begun[index] = choice
        role = _chunk(self._identity, index, Delta(role="assistant", content=""))
        return (StreamItem(value=role),), choice

    def _items(self, index: int, choice: _StreamedChoice, parts: Sequence[Part]) -> list[Answer]:
        items: list[Answer] = []
        for part in parts:
            logprobs = choice.reader.take_logprobs()
            if isinstance(part, Content) and not logprobs:
                items.append(StreamItem(value=choice.encode(part.text)))
            else:
                delta = self._delta(choice, part)
                items.append(StreamItem(value=_chunk(self._identity, index, delta, logprobs=logprobs)))
        return items

    def _delta(self, choice: _StreamedChoice, part: Part) -> Delta:
        match part:
            case Content(text):
                return Delta(content=text)
            case Reasoning(text):
                return Delta(reasoning_content=text)
            case Call():
                # Whole calls: one that breaks off, or turns out to be none, must not have begun.
                function = FunctionCallDelta(name=part.name, arguments=part.arguments)
                if _is_older_form(self._reading):
                    return Delta(function_call=function)
                call = ToolCallDelta(
                    index=choice.calls, id=self._reading.call_id(), type="function", function=function
                )
                choice.calls += 1
                return Delta(tool_calls=(call,))
            case _:
                assert_never(part)


@define
class _WholeChoice:
    reader: ChoiceReader
    parts: list[Part] = field(factory=list)
    reason: FinishReason | None = None

    def message(self, reading: Reading) -> ChatCompletionMessage:
        content = "".join([part.text for part in self.parts if isinstance(part, Content)])
        reasoning = "".join([part.text for part in self.parts if isinstance(part, Reasoning)])
        functions = [
            FunctionCall(name=part.name, arguments=part.arguments)
            for part in self.parts
            if isinstance(part, Call)
        ]
        older = functions if _is_older_form(reading) else []
        calls = [] if older else [ToolCall(id=reading.call_id(), function=one) for one in functions]
        return ChatCompletionMessage(
            content=None if functions and not content else content,
            reasoning_content=reasoning or ABSENT,
            tool_calls=tuple(calls) or ABSENT,
            function_call=older[0] if older else ABSENT,
        )


@define
class WholeAnswer:
    """A completion as one reply, given when its last choice ends."""

    _identity: Identity
    _choices: int
    _reading: Reading = field(kw_only=True, factory=Reading)
    _begun: dict[int, _WholeChoice] = field(init=False, factory=dict)
    _tally: Tally = field(init=False)

    @_tally.default
    def _no_choice_yet(self) -> Tally:
        return Tally(self._choices, self._choices)

    def text(
        self, index: int, text: str, *, tokens: int = 0, logprobs: Sequence[TokenLogprob] = ()
    ) -> Sequence[Answer]:
        """Keep text of a choice."""
        self._tally.check(index)
        choice = self._choice(index)
        choice.parts += choice.reader.text(text, tokens, logprobs)
        return ()

    def finish(
        self,
        index: int,
        reason: Literal["stop", "length"],
        *,
        prompt_tokens: int,
        completion_tokens: int,
        cached_tokens: int = 0,
    ) -> Sequence[Answer]:
        """End a choice; with the last one comes the reply."""
        self._tally.check(index)
        choice = self._choice(index)
        choice.parts += choice.reader.finish()
        choice.reason = choice.reader.reason(reason)
        self._tally.finish(
            index,
            prompt=prompt_tokens,
            completion=completion_tokens,
            cached=cached_tokens,
            reasoning=choice.reader.reasoning_tokens,
        )
        if not self._tally.whole:
            return ()
        completion = ChatCompletion(
            id=self._identity.id,
            created=self._identity.created,
            model=self._identity.model,
            choices=tuple(
                Choice(
                    index=number,
                    message=choice.message(self._reading),
                    logprobs=_logprobs(choice.reader.take_logprobs()),
                    finish_reason=choice.reason,
                )
                for number, choice in sorted(self._begun.items())
            ),
            usage=self._tally.usage(),
        )
        return (Response(value=completion),)

    def _choice(self, index: int) -> _WholeChoice:
        known = self._begun.get(index)
        if known is None:
            known = self._begun[index] = _WholeChoice(self._reading.begin())
        return known
