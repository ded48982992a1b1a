"""Generated text to what it means: content, reasoning, calls.

Knows: where markers stand in text that comes in pieces, and that what may yet become a marker must wait.
Refuses to know: tokens, ids of calls, and how any of it is sent.

The laws:
- Any cut of the same text gives the same parts, once neighbouring text of one kind is joined.
- What looks like a marker and is none is text. So is a whole block that holds anything but calls, markers
  and all: nothing that a model wrote is lost, and what is shown as a call can be made.
- A marker within reasoning means nothing but reasoning's end.
- White space alone, beside a call or reasoning, is no content. Content behind reasoning begins with its first
  letter, and reasoning neither begins nor ends with white space.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum
from typing import Final, assert_never

from attrs import define, field, frozen

from foundry_proto.chat.calls import Call, read_calls
from foundry_proto.chat.markup import CallMarkers, Markup
from foundry_proto.errors import LocalProtocolError

__all__ = ["Content", "Part", "Reasoning", "Splitter"]


@frozen
class Content:
    """Text of the answer."""

    text: str


@frozen
class Reasoning:
    """Text of what the model thought before it answered."""

    text: str


Part = Content | Reasoning | Call
"""A piece of what a model said."""


class _In(Enum):
    """What the next character belongs to."""

    CONTENT = "content"
    REASONING = "reasoning"
    BLOCK = "what stands between the markers of calls"
    BARE = "an answer that may be nothing but calls"


_BARE_KEYS: Final = ('"name"', '"type"', '"function"', '"arguments"', '"parameters"')
"""What an object that is a call may begin with."""


@define(eq=False)
class Splitter:
    """Cuts one generated text at its markers.

    Args:
        markup: The model's markers.
        functions: The names of the functions that it may call; `None` does not look for calls.
        begins_in_reasoning: Whether the prompt has opened reasoning already.

    Raises:
        LocalProtocolError: The text begins in reasoning, for which the markup has no markers.
    """

    _markup: Markup
    _functions: Collection[str] | None = None
    _begins_in_reasoning: bool = field(kw_only=True, default=False)
    _state: _In = field(init=False, default=_In.CONTENT)
    _held: str = field(init=False, default="")
    """The end of the text so far, as long as a marker may begin with it."""
    _blanks: list[str] = field(init=False, factory=list)
    """White space that waits: for the first letter of content, or the next one of reasoning."""
    _begun: bool = field(init=False, default=False)
    """Whether a letter has come since the last marker."""
    _behind_reasoning: bool = field(init=False, default=False)
    """Whether this content stands right behind reasoning."""
    _reasoned: bool = field(init=False, default=False)
    """Whether there was any text of reasoning."""
    _plain: bool = field(init=False, default=True)
    """Whether there was nothing but content."""
    _block: CallMarkers = field(init=False)
    _body: list[str] = field(init=False, factory=list)
    """What the block, or the bare answer, holds so far."""
    _bare: bool = field(init=False)
    """Whether the answer may be nothing but calls, as far as it has come."""
    _begins: Mapping[str, CallMarkers | None] = field(init=False)
    """What each marker begins that content may hold: calls, or reasoning."""
    _ends_content: re.Pattern[str] = field(init=False)
    _ends_reasoning: re.Pattern[str] = field(init=False)
    _ends_block: re.Pattern[str] = field(init=False)
    _finished: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        looks_for_calls = self._functions is not None
        calls = self._markup.calls if looks_for_calls else ()
        before, behind = self._markup.reasoning or (None, None)
        self._begins = {**({before: None} if before else {}), **{block.begin: block for block in calls}}
        self._ends_content = _any_of(self._begins)
        self._ends_reasoning = _any_of([behind] if behind else [])
        self._bare = self._markup.bare and looks_for_calls
        if self._begins_in_reasoning:
            if not behind:
                raise LocalProtocolError("reasoning: expected markup that has markers for it, got none")
            self._enter(_In.REASONING)
            self._plain = False

    @property
    def in_reasoning(self) -> bool:
        """Whether the text so far ends within reasoning."""
        return self._state is _In.REASONING

    def push(self, text: str) -> Sequence[Part]:
        """Give the next piece of the text.

        Returns:
            What is certain now.

        Raises:
            LocalProtocolError: The text was already finished.
        """
        if self._finished:
            raise LocalProtocolError("expected no call after finish")
        parts: list[Part] = []
        text, self._held = self._held + text, ""
        while text:
            text = self._take(text, parts)
        return parts

    def finish(self) -> Sequence[Part]:
        """Say that the text is complete.

        Returns:
            What was kept back.

        Raises:
            LocalProtocolError: The text was already finished.
        """
        if self._finished:
            raise LocalProtocolError("expected no call after finish")
        self._finished = True
        parts: list[Part] = []
        match self._state:
            case _In.CONTENT:
                self._say(self._held, parts)
            case _In.REASONING:
                self._reason(self._held, parts)
            case _In.BLOCK:
                self._body.append(self._held)
                self._close_block(None, parts)
            case _In.BARE:
                self._close_bare(parts)
            case _:
                assert_never(self._state)
        if self._plain and not self._begun:
            parts += [Content(blanks) for blanks in self._blanks if blanks]
        return parts

    def _take(self, text: str, parts: list[Part]) -> str:
        """Take in the text up to its first marker, and the marker; give what is left."""
        match self._state:
            case _In.CONTENT:
                return self._take_content(text, parts)
            case _In.REASONING:
                return self._take_reasoning(text, parts)
            case _In.BLOCK:
                return self._take_block(text, parts)
            case _In.BARE:
                return self._take_bare(text)
            case _:
                assert_never(self._state)

    def _cut(self, pattern: re.Pattern[str], text: str) -> tuple[str, str, str]:
        """Cut at the first marker; what may become one waits, with nothing behind it."""
        match = pattern.search(text)
        if match is None:
            return text, "", ""
        before, marker, rest = text[: match.start()], match["marker"] or "", text[match.end() :]
        if not marker:
            self._held = match[0]
        return before, marker, rest

    def _enter(self, state: _In) -> None:
        self._state = state
        self._begun = False
        self._blanks = []

    # Content.

    def _take_content(self, text: str, parts: list[Part]) -> str:
        if self._bare and (letters := text.lstrip()):
            if letters.startswith("{"):
                self._blanks.append(text[: -len(letters)])
                self._state = _In.BARE
                return letters
            self._bare = False
        before, marker, rest = self._cut(self._ends_content, text)
        self._say(before, parts)
        if marker:
            self._open(marker)
        return rest

    def _open(self, marker: str) -> None:
        block = self._begins[marker]
        if block is None:
            self._plain = False
            self._enter(_In.REASONING)
            return
        self._state = _In.BLOCK
        self._block, self._body = block, []
        ends = [] if block.end is None else [block.end]
        # The next block may begin before this one has ended: then this one is none.
        ends += [begin for begin, opens in self._begins.items() if opens and begin not in ends]
        self._ends_block = _any_of(ends)

    def _say(self, text: str, parts: list[Part]) -> None:
        if not self._begun:
            letters = text.lstrip()
            if not letters:
                self._blanks.append(text)
                return
            text = letters if self._behind_reasoning else "".join(self._blanks) + text
            self._begun = True
        if text:
            parts.append(Content(text))

    # Reasoning.

    def _take_reasoning(self, text: str, parts: list[Part]) -> str:
        before, marker, rest = self._cut(self._ends_reasoning, text)
        self._reason(before, parts)
        if marker:
            self._enter(_In.CONTENT)
            self._behind_reasoning = True
        return rest

    def _reason(self, text: str, parts: list[Part]) -> None:
        letters = text.rstrip()
        if not letters:
            self._blanks.append(text)
            return
        if self._begun:
            parts.append(Reasoning("".join(self._blanks) + letters))
        else:
            parts.append(Reasoning(("\n" if self._reasoned else "") + letters.lstrip()))
        self._begun = self._reasoned = True
        self._blanks = [text[len(letters) :]]

    # Calls.

    def _take_block(self, text: str, parts: list[Part]) -> str:
        before, marker, rest = self._cut(self._ends_block, text)
        self._body.append(before)
        if marker and marker == self._block.end:
            self._close_block(marker, parts)
        elif marker:
            self._close_block(None, parts)
            self._open(marker)
        return rest

    def _close_block(self, end: str | None, parts: list[Part]) -> None:
        """Read what the block holds; `end` is `None` where its end marker did not come."""
        block, body = self._block, "".join(self._body)
        whole = end is not None or block.end is None
        calls = read_calls(block.keeps + body, block.style) if whole else ()
        self._state = _In.CONTENT
        if calls:
            self._call(calls, parts)
        else:
            self._say(block.begin + body + (end or ""), parts)

    def _call(self, calls: Sequence[Call], parts: list[Part]) -> None:
        parts += calls
        self._plain = self._behind_reasoning = False
        self._enter(_In.CONTENT)

    def _take_bare(self, text: str) -> str:
        self._body.append(text)
        if self._bare and not text.isspace():  # how the object begins is not certain yet
            body = "".join(self._body)
            key = body[1:].lstrip()
            self._bare = any(known.startswith(key) for known in _BARE_KEYS)
            if not self._bare and not key.startswith(_BARE_KEYS):
                self._body = []
                self._state = _In.CONTENT
                return body
        return ""

    def _close_bare(self, parts: list[Part]) -> None:
        body = "".join(self._body)
        calls = read_calls(body, "json")
        # JSON may be the answer itself: it is a call only if there is such a function.
        if calls and all(call.name in (self._functions or ()) for call in calls):
            self._call(calls, parts)
        else:
            self._state = _In.CONTENT
            self._say(body, parts)


def _any_of(markers: Iterable[str]) -> re.Pattern[str]:
    r"""A pattern for the first of these markers, or a beginning of one at the very end: `a(?:b\Z|\Z)`.

    The group `marker` is what was found whole.
    """
    known = list(markers)
    if not known:
        return re.compile(r"(?P<marker>(?!))")
    whole = "|".join(map(re.escape, known))
    begun = "|".join(_begin_of(marker) for marker in known)
    return re.compile(f"(?P<marker>{whole})|(?:{begun})")


def _begin_of(marker: str) -> str:
    pattern = ""
    for letter in reversed(marker[:-1]):
        pattern = re.escape(letter) + (rf"(?:{pattern}|\Z)" if pattern else r"\Z")
    return pattern or r"(?!)"
