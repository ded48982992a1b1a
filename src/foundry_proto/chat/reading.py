"""How one choice's generated text is read, the same for a stream and for a whole answer.

Knows: which parts the text has, which of its calls count, which tokens were reasoning, and why the choice
ended; and that log probabilities leave with the next part that does.
Refuses to know: chunks and completions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from attrs import define, field, frozen

from foundry_proto.chat.calls import Call
from foundry_proto.chat.markup import Markup
from foundry_proto.chat.offer import ToolOffer
from foundry_proto.chat.splitter import Content, Part, Splitter
from foundry_proto.errors import LocalProtocolError
from foundry_proto.messages.completions import FinishReason, TokenLogprob

__all__ = ["ChoiceReader", "Reading"]


def _no_ids() -> str:
    raise LocalProtocolError("call_id: expected a function that makes ids, since tools are offered")


@frozen(kw_only=True)
class Reading:
    """What there is to find in the text of an answer's choices."""

    markup: Markup = field(factory=Markup)
    """The model's markers."""
    offer: ToolOffer | None = None
    """What the model may call; `None` does not look for calls."""
    begins_in_reasoning: bool = False
    """Whether the prompt has opened reasoning already."""
    call_id: Callable[[], str] = _no_ids
    """Makes the id of a call, another one each time: `call_` and nine letters or digits."""

    @property
    def plain(self) -> bool:
        """Whether all text is content."""
        return self.markup.reasoning is None and self.offer is None

    def begin(self) -> ChoiceReader:
        """Begin to read one choice."""
        if self.plain:
            return ChoiceReader(None, self.offer)
        functions = None if self.offer is None else self.offer.names
        splitter = Splitter(self.markup, functions, begins_in_reasoning=self.begins_in_reasoning)
        return ChoiceReader(splitter, self.offer)


@define
class ChoiceReader:
    """Reads one choice."""

    _splitter: Splitter | None
    _offer: ToolOffer | None
    _logprobs: list[TokenLogprob] = field(init=False, factory=list)
    reasoning_tokens: int = field(init=False, default=0)
    """Tokens so far that were reasoning, its end marker included."""
    calls: int = field(init=False, default=0)
    """Calls so far."""

    def text(self, text: str, tokens: int, logprobs: Sequence[TokenLogprob]) -> Sequence[Part]:
        """Take the next text in; gives the parts that are certain."""
        self._logprobs += logprobs
        if self._splitter is None:
            return (Content(text),) if text else ()
        if self._splitter.in_reasoning:
            self.reasoning_tokens += tokens
        return self._that_count(self._splitter.push(text))

    def finish(self) -> Sequence[Part]:
        """Say that the text is complete; gives what was kept back."""
        return () if self._splitter is None else self._that_count(self._splitter.finish())

    def take_logprobs(self) -> tuple[TokenLogprob, ...]:
        """Give the log probabilities of the tokens since the last time."""
        logprobs, self._logprobs = tuple(self._logprobs), []
        return logprobs

    def reason(self, reason: Literal["stop", "length"]) -> FinishReason:
        """Why the choice ended: a choice that was cut says so, also where it had made a call."""
        if reason == "length" or not self.calls or self._offer is None:
            return reason
        return "function_call" if self._offer.older_form else "tool_calls"

    def _that_count(self, parts: Sequence[Part]) -> Sequence[Part]:
        if self._offer is None:
            return parts
        counting: list[Part] = []
        for part in parts:
            if isinstance(part, Call):
                self.calls += 1
                if self.calls > 1 and not self._offer.several:
                    continue  # Choice: one was asked for, and the first is what the model wanted first
            counting.append(part)
        return counting
