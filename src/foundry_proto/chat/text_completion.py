"""Generated text to a text completion: as the events of a stream, or whole.

Knows: which events a stream has and in which order, what a whole completion sums up, and how to write an
event quickly.
Refuses to know: how the texts grow (`text_choices.py`), tokens, engines, time: id and creation time are
arguments.

Both forms take the same two inputs as a chat's answer does, `text` and `finish`; `text_answer_to` chooses.

Source: OpenAI's API reference, "Completions".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from json.encoder import encode_basestring
from typing import Final, Protocol

from attrs import define, evolve, field

from foundry_proto.chat.chat_stream import Identity
from foundry_proto.chat.text_choices import TextChoices, TextReason, TextShape
from foundry_proto.codec import encode
from foundry_proto.events import Response, StreamEnd, StreamItem
from foundry_proto.exchange import Answer
from foundry_proto.messages.chat import StreamOptions
from foundry_proto.messages.completions import TokenLogprob
from foundry_proto.messages.text_completions import TextChoice, TextCompletion, TextCompletionRequest

__all__ = ["StreamedText", "TextAnswer", "WholeText", "text_answer_to"]


class TextAnswer(Protocol):
    """One text completion in the making, in whichever form was asked for."""

    def text(
        self, index: int, text: str, *, tokens: int = 0, logprobs: Sequence[TokenLogprob] = ()
    ) -> Sequence[Answer]:
        """Add text to one of the generated choices.

        Args:
            index: Which choice; those of the first prompt come first.
            text: Any piece of its text.
            tokens: How many tokens the piece is, which means nothing here.
            logprobs: One for each token, where they were asked for.

        Returns:
            What to send now; often nothing.
        """
        ...

    def finish(
        self,
        index: int,
        reason: TextReason,
        *,
        prompt_tokens: int,
        completion_tokens: int,
        cached_tokens: int = 0,
    ) -> Sequence[Answer]:
        """End a choice; with the last one the answer is whole.

        Args:
            index: Which choice.
            reason: Why its text ended.
            prompt_tokens: Tokens of its prompt.
            completion_tokens: Tokens generated for this choice.
            cached_tokens: Those of the prompt whose KV cache was there already.

        Returns:
            What to send now.
        """
        ...


def text_answer_to(
    request: TextCompletionRequest, shape: TextShape, identity: Identity, *, prompts: Sequence[str] = ()
) -> TextAnswer:
    """Begin the answer in the form that the request asks for.

    Args:
        request: What was asked.
        shape: How many texts that means.
        identity: What is the same in every event; its id begins with `cmpl-`.
        prompts: The prompts' texts, where the request asks for their echo.
    """
    choices = TextChoices(shape, list(prompts) if request.echo else [""] * shape.prompts)
    if not request.stream:
        return WholeText(identity, choices)
    options = request.stream_options
    include_usage = isinstance(options, StreamOptions) and options.include_usage is True
    return StreamedText(identity, choices, include_usage=include_usage)


@define
class StreamedText:
    """A completion as events: each choice's text and finish reason; then the usage, if asked for."""

    _identity: Identity
    _choices: TextChoices
    _include_usage: bool = field(kw_only=True, default=False)
    _encoders: dict[int, Callable[[str], bytes]] = field(init=False, factory=dict)

    def text(
        self,
        index: int,
        text: str,
        *,
        tokens: int = 0,  # noqa: ARG002 - the same calls as for a chat
        logprobs: Sequence[TokenLogprob] = (),
    ) -> Sequence[Answer]:
        """Add text to a choice: its prompt, if that is echoed, and an event with the text."""
        choice = self._choices.running(index)
        if not text and not logprobs:
            return ()
        begun = self._begin(index)
        if logprobs:
            choice.add(text, logprobs)
            item = self._event(TextChoice(text=text, index=index, logprobs=choice.take_logprobs()))
            return (*begun, StreamItem(value=item))
        return (*begun, StreamItem(value=self._encoders[index](text)))

    def finish(
        self,
        index: int,
        reason: TextReason,
        *,
        prompt_tokens: int,
        completion_tokens: int,
        cached_tokens: int = 0,
    ) -> Sequence[Answer]:
        """End a choice; with the last one come the usage and the end of the stream."""
        self._choices.finish(index, reason, prompt_tokens, completion_tokens, cached_tokens)
        last = self._event(TextChoice(text="", index=index, finish_reason=reason))
        events: list[Answer] = [*self._begin(index), StreamItem(value=last)]
        if not self._choices.tally.whole:
            return events
        if self._include_usage:
            usage = self._choices.tally.usage()
            events.append(StreamItem(value=evolve(self._event(), usage=usage)))
        return (*events, StreamEnd())

    def _begin(self, index: int) -> Sequence[Answer]:
        if index in self._encoders:
            return ()
        marker: Final = "\0"
        sample = encode(self._event(TextChoice(text=marker, index=index)))
        before, _, after = sample.rpartition(encode_basestring(marker).encode())
        # What stands around the text is the same each time: made once, by the codec itself.
        self._encoders[index] = lambda text: before + encode_basestring(text).encode() + after
        echo = self._choices.echo(index)
        return (StreamItem(value=self._encoders[index](echo)),) if echo else ()

    def _event(self, *choices: TextChoice) -> TextCompletion:
        identity = self._identity
        return TextCompletion(id=identity.id, created=identity.created, model=identity.model, choices=choices)


@define
class WholeText:
    """A completion as one reply, given when its last text ends."""

    _identity: Identity
    _choices: TextChoices

    def text(
        self,
        index: int,
        text: str,
        *,
        tokens: int = 0,  # noqa: ARG002 - the same calls as for a chat
        logprobs: Sequence[TokenLogprob] = (),
    ) -> Sequence[Answer]:
        """Keep text of a choice."""
        self._choices.running(index).add(text, logprobs)
        return ()

    def finish(
        self,
        index: int,
        reason: TextReason,
        *,
        prompt_tokens: int,
        completion_tokens: int,
        cached_tokens: int = 0,
    ) -> Sequence[Answer]:
        """End a choice; with the last one comes the reply."""
        self._choices.finish(index, reason, prompt_tokens, completion_tokens, cached_tokens)
        if not self._choices.tally.whole:
            return ()
        completion = TextCompletion(
            id=self._identity.id,
            created=self._identity.created,
            model=self._identity.model,
            choices=tuple(
                TextChoice(
                    text="".join(choice.pieces),
                    index=number,
                    logprobs=choice.take_logprobs(),
                    finish_reason=choice.reason,
                )
                for number, choice in enumerate(self._choices.given())
            ),
            usage=self._choices.tally.usage(),
        )
        return (Response(value=completion),)
