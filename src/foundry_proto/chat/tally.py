"""Which choices of an answer have ended, and how many tokens they cost: the same for chats and completions.

Knows: what counts once for several choices.
Refuses to know: what a choice says, and in which form it is sent.

The laws:
- A prompt counts once, however many choices it has.
- Of a prompt only what each of its choices has found cached counts as cached: what one has computed for the
  others was not there before the request.
"""

from __future__ import annotations

from attrs import define, field

from foundry_proto.errors import LocalProtocolError
from foundry_proto.messages.completions import CompletionTokensDetails, PromptTokensDetails, Usage

__all__ = ["Tally"]


@define
class Tally:
    """The choices of one answer.

    Args:
        choices: How many there are.
        per_prompt: How many of them have the same prompt, one behind the other.
    """

    _choices: int
    _per_prompt: int
    _finished: set[int] = field(init=False, factory=set)
    _prompts: dict[int, int] = field(init=False, factory=dict)
    _cached: dict[int, int] = field(init=False, factory=dict)
    _completion: int = field(init=False, default=0)
    _reasoning: int = field(init=False, default=0)

    def check(self, index: int) -> None:
        """Expect a choice that has not ended.

        Raises:
            LocalProtocolError: It has, or there is none of that index.
        """
        if not 0 <= index < self._choices:
            raise LocalProtocolError(f"choice: expected an index from 0 to {self._choices - 1}, got {index}")
        if index in self._finished:
            raise LocalProtocolError(f"choice {index} has finished")

    def finish(self, index: int, *, prompt: int, completion: int, cached: int, reasoning: int = 0) -> None:
        """Note that a choice has ended.

        Args:
            index: Which one.
            prompt: Tokens of its prompt.
            completion: Tokens generated for it.
            cached: Those of the prompt whose KV cache was there already.
            reasoning: Those of the generated ones that it thought with.

        Raises:
            LocalProtocolError: It had ended, or there is none of that index.
        """
        self.check(index)
        self._finished.add(index)
        number = index // self._per_prompt
        self._prompts[number] = prompt
        self._cached[number] = min(cached, self._cached.get(number, cached))
        self._completion += completion
        self._reasoning += reasoning

    @property
    def whole(self) -> bool:
        """Whether all choices have ended."""
        return len(self._finished) == self._choices

    def usage(self) -> Usage:
        """The tokens so far."""
        prompt = sum(self._prompts.values())
        return Usage(
            prompt_tokens=prompt,
            completion_tokens=self._completion,
            total_tokens=prompt + self._completion,
            prompt_tokens_details=PromptTokensDetails(cached_tokens=sum(self._cached.values())),
            completion_tokens_details=CompletionTokensDetails(reasoning_tokens=self._reasoning),
        )
