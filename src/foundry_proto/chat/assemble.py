"""The chunks of a stream to the completion that they add up to: the client's inverse of `chat_stream.py`.

Knows: how deltas add up: text and log probabilities are joined, tool calls by their running index, the last
finish reason and the usage are kept.
Refuses to know: how chunks arrive, and whether the stream ended well.
"""

from __future__ import annotations

from attrs import define, field

from foundry_proto.errors import LocalProtocolError
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
    Usage,
)
from foundry_proto.messages.tools import FunctionCall, ToolCall
from foundry_proto.sentinels import ABSENT, Maybe

__all__ = ["ChatAssembler"]


@define
class _Function:
    name: list[str] = field(factory=list)
    arguments: list[str] = field(factory=list)

    def add(self, delta: Maybe[FunctionCallDelta]) -> None:
        if delta:
            self.name.append(delta.name or "")
            self.arguments.append(delta.arguments or "")

    def whole(self) -> FunctionCall:
        return FunctionCall(name="".join(self.name), arguments="".join(self.arguments))


@define
class _Call:
    id: str = ""
    function: _Function = field(factory=_Function)


@define
class _Choice:
    """One choice so far."""

    content: list[str] = field(factory=list)
    refusal: list[str] = field(factory=list)
    reasoning: list[str] = field(factory=list)
    calls: dict[int, _Call] = field(factory=dict)
    function: _Function | None = None
    logprobs: list[TokenLogprob] | None = None
    reason: FinishReason | None = None

    def add(self, part: ChunkChoice) -> None:
        self._add_delta(part.delta)
        self.reason = part.finish_reason or self.reason
        if part.logprobs:
            if self.logprobs is None:
                self.logprobs = []
            self.logprobs += part.logprobs.content or ()

    def _add_delta(self, delta: Delta) -> None:
        for piece, pieces in (
            (delta.content, self.content),
            (delta.refusal, self.refusal),
            (delta.reasoning_content, self.reasoning),
        ):
            if piece:
                pieces.append(piece)
        for call in delta.tool_calls or ():
            known = self.calls.setdefault(call.index, _Call())
            known.id = call.id or known.id
            known.function.add(call.function)
        if delta.function_call:
            self.function = self.function or _Function()
            self.function.add(delta.function_call)

    def whole(self, index: int) -> Choice:
        logprobs = None if self.logprobs is None else ChoiceLogprobs(content=tuple(self.logprobs))
        return Choice(index=index, message=self._message(), logprobs=logprobs, finish_reason=self.reason)

    def _message(self) -> ChatCompletionMessage:
        calls = tuple(
            ToolCall(id=call.id, function=call.function.whole()) for _, call in sorted(self.calls.items())
        )
        only_calls = (calls or self.function) and not self.content
        return ChatCompletionMessage(
            content=None if only_calls else "".join(self.content),
            refusal="".join(self.refusal) or None,
            reasoning_content="".join(self.reasoning) or ABSENT,
            tool_calls=calls or ABSENT,
            function_call=self.function.whole() if self.function else ABSENT,
        )


@define
class ChatAssembler:
    """Adds up a stream's chunks."""

    _first: ChatCompletionChunk | None = field(init=False, default=None)
    _choices: dict[int, _Choice] = field(init=False, factory=dict)
    _usage: Maybe[Usage] = field(init=False, default=ABSENT)

    @property
    def begun(self) -> bool:
        """Whether there is anything to add up."""
        return self._first is not None

    def add(self, chunk: ChatCompletionChunk) -> str:
        """Take the next chunk.

        Args:
            chunk: In the order in which they came; those of several choices may be mixed.

        Returns:
            The text that it adds to the first choice, for who prints as it comes.
        """
        self._first = self._first or chunk
        self._usage = chunk.usage or self._usage
        text = ""
        for part in chunk.choices:
            self._choices.setdefault(part.index, _Choice()).add(part)
            if part.index == 0:
                text += part.delta.content or ""
        return text

    def completion(self) -> ChatCompletion:
        """Give the completion so far; of a stream that was cut, the finish reason is null.

        Raises:
            LocalProtocolError: There was no chunk.
        """
        if self._first is None:
            raise LocalProtocolError("completion: no chunk has come")
        return ChatCompletion(
            id=self._first.id,
            created=self._first.created,
            model=self._first.model,
            choices=tuple(choice.whole(index) for index, choice in sorted(self._choices.items())),
            usage=self._usage,
            system_fingerprint=self._first.system_fingerprint,
        )
