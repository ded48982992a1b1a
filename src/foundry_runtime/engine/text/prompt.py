"""From a conversation, or a text, to the ids that the model reads: how prompts are made and counted.

Knows: which special tokens of the rendered text are the template's own. Refuses to know: requests, engines,
limits of length.

A special token's text that a user typed stays text. Where it stands in a message, it is broken by a mark, a
character that occurs in none of them; what is whole in the rendered text is the template's. Then the marks
go. The rest of the text is cut nowhere else: a cut changes ids.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Final, cast

from attrs import field, frozen

from foundry_proto.chat.markup import Markup, find_markup
from foundry_proto.chat.offer import ToolOffer
from foundry_proto.jsontext import ContentError
from foundry_proto.messages.chat import ChatMessage, ReasoningEffort
from foundry_runtime.engine.text.messages import template_messages
from foundry_runtime.engine.text.template import ChatTemplate, ConversationRefused
from foundry_runtime.engine.text.tokenizer import Tokenizer
from foundry_runtime.engine.text.tools import ToolManner, find_manner

__all__ = ["Message", "Prompt", "PromptMaker"]

Message = Mapping[str, object]
"""A message as templates expect it: plain JSON data, with `role` and with `content` as one string."""


@frozen(kw_only=True, eq=False)
class Prompt:
    """A rendered conversation."""

    ids: Sequence[int]
    """The token ids, as an array of C ints: what an engine is given, and `usage.prompt_tokens` counts."""
    text: str
    """What the template wrote, special tokens by their text."""
    opens_reasoning: bool = False
    """Whether it ends with the marker that begins reasoning: the answer then goes on within it."""


# The characters that Unicode keeps out of texts, then those that it leaves to private use.
_MARKS: Final = (*range(0xFDD0, 0xFDF0), *range(0xE000, 0xF900))
# White space as Unicode has it, for which the `tokenizers` library strips; Python strips four more.
_BLANKS: Final = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)


# Before what precedes the gap, before what follows it, and where the missing text begins.
_FILLING: Final = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen Coder
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, and what was taught like it
    (
        "<\uff5cfim\u2581begin\uff5c>",
        "<\uff5cfim\u2581hole\uff5c>",
        "<\uff5cfim\u2581end\uff5c>",
    ),  # DeepSeek Coder
)


@frozen(eq=False, repr=False)
class PromptMaker:
    """Makes prompts for one model; may be used from several threads at once.

    Args:
        tokenizer: The model's tokenizer.
        template: Its chat template.
        markup: How it marks reasoning and calls; without it, what its template and its tokens show.
    """

    tokenizer: Tokenizer
    template: ChatTemplate
    markup: Markup = field()
    _special: re.Pattern[str] | None = field(init=False)
    """A special token's text in a rendered prompt."""
    _typed: re.Pattern[str] | None = field(init=False)
    """The first character of such a text in a message, or of a beginning of one that ends the message."""

    @markup.default
    def _find_markup(self) -> Markup:
        return find_markup(self.template.source, self.tokenizer.added_tokens)

    @_special.default
    def _find_special(self) -> re.Pattern[str] | None:
        texts = self.tokenizer.special_tokens
        return re.compile(f"({_any_of(texts)})") if texts else None

    @_typed.default
    def _find_typed(self) -> re.Pattern[str] | None:
        texts = self.tokenizer.special_tokens
        return re.compile(f"(?={_any_of(texts, cut_off=True)})(.)", re.DOTALL) if texts else None

    @cached_property
    def manner(self) -> ToolManner:
        """What the template does with tools; found out when it is first asked for."""
        return find_manner(self.template)

    def make_chat(
        self,
        messages: Sequence[ChatMessage],
        offer: ToolOffer | None = None,
        *,
        effort: ReasoningEffort | None = None,
    ) -> Prompt:
        """Make the prompt of a chat.

        Blocks as `make` does.

        Args:
            messages: As the request has them.
            offer: What the model may call.
            effort: How much it shall think; `None` leaves it to the template.

        Raises:
            ContentError: A part of a message is no text; the path names it.
            ConversationRefused: The template does not take these messages.
            TemplateError: The model's chat template failed.
        """
        plain = template_messages(messages)
        if offer is None and not any("tool_calls" in one or one["role"] == "tool" for one in plain):
            return self.make(plain, effort=effort)
        return self.make(*self.manner.prepare(plain, offer, self.markup.calls[0]), effort=effort)

    def make(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, object]] | None = None,
        *,
        effort: ReasoningEffort | None = None,
        add_generation_prompt: bool = True,
    ) -> Prompt:
        """Render a conversation and encode it.

        Blocks for 0.4 ms a kB, while other threads run: call it in a worker thread. How long a conversation
        may be is the caller's to limit.

        Args:
            messages: The conversation.
            tools: The tools that the model may call, as plain JSON data.
            effort: How much it shall think; `None` leaves it to the template.
            add_generation_prompt: Whether the prompt ends where the assistant's answer begins.

        Raises:
            ConversationRefused: The template does not take these messages.
            TemplateError: The model's chat template failed.
        """
        mark = self._mark_for((messages, tools))
        if mark:
            messages = cast("Sequence[Message]", self._marked(messages, mark))
            tools = cast("Sequence[Mapping[str, object]] | None", self._marked(tools, mark))
        text = self.template.render(
            messages, tools=tools, more=_effort(effort), add_generation_prompt=add_generation_prompt
        )
        text = _whole_characters(text)
        parts = self._special.split(text) if self._special else [text]
        if mark:
            # The template may have written it as JSON does.
            escaped = json.dumps(mark)[1:-1]
            parts = [part.replace(mark, "").replace(escaped, "") for part in parts]
        text = "".join(parts)
        begins = self.markup.reasoning[0] if self.markup.reasoning is not None else None
        opens_reasoning = begins is not None and text.rstrip().endswith(begins)
        return Prompt(ids=self._encode(parts), text=text, opens_reasoning=opens_reasoning)

    def make_text(self, text: str, suffix: str | None = None) -> Prompt:
        """Encode a text that is no conversation, as the tokenizer's own file has it.

        Blocks as `make` does. Who sends a whole prompt writes its structure too: here the text of a special
        token is that token, and what the tokenizer puts before texts comes before this one, unless it stands
        there.

        Args:
            text: What is to be gone on with.
            suffix: What stands behind the text that is to be generated.

        Raises:
            ContentError: The model knows no tokens for filling in what is missing between two texts.
        """
        if suffix is not None:
            before, between, after = self._filling()
            text = f"{before}{text}{between}{suffix}{after}"
        text = _whole_characters(text)
        ids = self._encode(self._special.split(text) if self._special else [text])
        first = array("i", self.tokenizer.before_texts)
        return Prompt(ids=ids if ids[: len(first)] == first else first + ids, text=text)

    def _filling(self) -> Sequence[str]:
        """The tokens between which a model of code was taught to see what stands before and behind a gap."""
        for texts in _FILLING:
            if all(text in self.tokenizer.special_tokens for text in texts) or all(
                len(ids) == 1 for ids in self.tokenizer.encode_pieces(texts)
            ):
                return texts
        raise ContentError("expected none: this model has no tokens for filling in, got text", ("suffix",))

    def _mark_for(self, given: object) -> str:
        """A character for breaking special tokens in these texts, or none when there is nothing to break."""
        typed = self._typed
        if typed is None or not any(typed.search(text) for text in _texts(given)):
            return ""
        used: set[str] = set()
        for text in _texts(given):
            used.update(text)
        for code in _MARKS:
            if chr(code) not in used and not any(f"\\u{code:04x}" in text for text in _texts(given)):
                return chr(code)
        raise ConversationRefused(f"messages: expected text, got all {len(_MARKS)} characters that are none")

    def _marked(self, value: object, mark: str) -> object:
        if isinstance(value, str):
            return self._typed.sub(rf"\1{mark}", value) if self._typed else value
        if isinstance(value, Mapping):
            return {self._marked(key, mark): self._marked(item, mark) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._marked(item, mark) for item in value]
        return value

    def _encode(self, parts: list[str]) -> array[int]:
        """The ids of what stands between special tokens, and of these: every second part."""
        tokenizer = self.tokenizer
        pieces, special = parts[::2], parts[1::2]
        for index, token in enumerate(special):
            if token in tokenizer.takes_blanks_before:
                pieces[index] = pieces[index].rstrip(_BLANKS)
            if token in tokenizer.takes_blanks_after:
                pieces[index + 1] = pieces[index + 1].lstrip(_BLANKS)
        encoded = tokenizer.encode_pieces(pieces)
        ids = encoded[0]
        for token, piece in zip(special, encoded[1:], strict=True):
            ids.append(tokenizer.special_tokens[token])
            ids.extend(piece)
        return ids


def _effort(effort: ReasoningEffort | None) -> Mapping[str, object]:
    """What templates look at to know how much the model shall think: each family has its own variable."""
    if effort is None:
        return {}
    thinks = effort != "none"
    return {"reasoning_effort": effort, "enable_thinking": thinks, "thinking": thinks}


def _texts(value: object) -> Iterator[str]:
    """All strings in JSON data, the names of members too."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, Mapping):
            waiting.extend(item)
            waiting.extend(item.values())
        elif isinstance(item, list | tuple):
            waiting.extend(item)


def _any_of(texts: Iterable[str], *, cut_off: bool = False) -> str:
    r"""A pattern for the longest of these texts that stands here, looking at no letter twice: `a(?:bc|d)`.

    Args:
        texts: What to find, none of them empty.
        cut_off: Whether a beginning of one at the very end will do: `a(?:\Z|b(?:\Z|c)|d)`. The next text that
            the template writes may be another message's, and complete it.
    """
    by_letter: dict[str, list[str]] = {}
    for text in texts:
        by_letter.setdefault(text[:1], []).append(text[1:])
    may_end_here = by_letter.pop("", None) is not None
    branches = [re.escape(letter) + _any_of(rest, cut_off=cut_off) for letter, rest in by_letter.items()]
    if not branches:
        return ""
    if cut_off and not may_end_here:
        branches.append(r"\Z")
    return f"(?:{'|'.join(branches)}){'?' if may_end_here else ''}"


def _whole_characters(text: str) -> str:
    """The text with each half of a surrogate pair that stands alone replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
