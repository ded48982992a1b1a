"""How models mark their reasoning and their tool calls in generated text: a table by model family.

Knows: each family's markers, how it writes calls between them, and by which signs a model shows its family.
Refuses to know: how a text is cut at markers (`splitter.py`), and where templates and vocabularies come from.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal

from attrs import evolve, field, frozen

from foundry_proto.chat.calls import DEEPSEEK_BEGIN, DEEPSEEK_END, DEEPSEEK_SEPARATOR, CallStyle
from foundry_proto.errors import LocalProtocolError

__all__ = ["FAMILIES", "HERMES", "REASONING", "CallMarkers", "Family", "Markup", "find_markup"]


_LONGEST: Final = 64
"""Characters of a marker: three times those of the longest known."""


@frozen(kw_only=True)
class CallMarkers:
    """What stands around calls, and how they are written in between."""

    begin: str
    """Where calls begin."""
    end: str | None = None
    """Where they end; `None`: where the next ones begin, or with the answer."""
    style: CallStyle = "json"
    keeps: str = ""
    """The part of `begin` that belongs to the calls already."""
    between: str = ""
    """What the family writes between a marker and the calls."""
    inner: tuple[str, ...] = ()
    """Further markers between the two."""
    array: bool = False
    """Whether the family writes an array, and all its calls at once."""
    key: Literal["arguments", "parameters"] = "arguments"
    """What the family calls a call's arguments."""


@frozen(kw_only=True)
class Markup:
    """The markers of one model.

    Raises:
        LocalProtocolError: A marker is empty, too long, or how another one begins, so that they could not be
            told apart.
    """

    reasoning: tuple[str, str] | None = None
    """What stands before and behind reasoning."""
    calls: tuple[CallMarkers, ...] = ()
    """The first is how the model is asked to write them."""
    bare: bool = False
    """Whether an answer that is nothing but JSON of a call's form is a call too."""
    shown: frozenset[str] = field(init=False)
    """All markers: as text, also where they are tokens that are otherwise not shown."""

    @shown.default
    def _all(self) -> frozenset[str]:
        markers = [*(self.reasoning or ()), *(one.begin for one in self.calls)]
        for one in self.calls:
            markers += [*one.inner, *([] if one.end is None else [one.end])]
        return frozenset(markers)

    def __attrs_post_init__(self) -> None:
        begins = [*(self.reasoning or ())[:1], *(one.begin for one in self.calls)]
        for number, marker in enumerate(begins):
            for other in begins[:number]:
                if marker.startswith(other) or other.startswith(marker):
                    raise LocalProtocolError(
                        f"markers: expected texts that cannot be mistaken, got {other!r} and {marker!r}"
                    )
        for marker in self.shown:
            if not 0 < len(marker) <= _LONGEST:
                raise LocalProtocolError(
                    f"markers: expected texts of 1 to {_LONGEST} characters, got one of {len(marker)}"
                )


@frozen(kw_only=True)
class Family:
    """Models that write calls alike."""

    name: str
    signs: tuple[str, ...]
    """Texts of which any, in a model's chat template or among its added tokens, shows this family."""
    markup: Markup


HERMES: Final = Family(
    name="Hermes, Qwen",
    signs=("<tool_call>",),
    markup=Markup(calls=(CallMarkers(begin="<tool_call>", end="</tool_call>", between="\n"),)),
)
"""The most common way, and the one that models are asked for whose template knows of no tools."""

_PHI: Final = CallMarkers(begin="<|tool_call|>", end="<|/tool_call|>", array=True)

FAMILIES: Final = (
    Family(
        name="DeepSeek",
        signs=("<\uff5ctool▁calls▁begin\uff5c>",),
        markup=Markup(
            calls=(
                CallMarkers(
                    begin="<\uff5ctool▁calls▁begin\uff5c>",
                    end="<\uff5ctool▁calls▁end\uff5c>",
                    style="deepseek",
                    inner=(DEEPSEEK_BEGIN, DEEPSEEK_SEPARATOR, DEEPSEEK_END),
                ),
            )
        ),
    ),
    Family(
        name="Mistral",
        signs=("[TOOL_CALLS]",),
        markup=Markup(
            calls=(
                CallMarkers(begin="[TOOL_CALLS]", style="named", inner=("[ARGS]", "[CALL_ID]"), array=True),
            )
        ),
    ),
    Family(
        name="Phi-4-mini",
        signs=("<|/tool_call|>",),
        markup=Markup(calls=(_PHI, CallMarkers(begin="functools[", keeps="["))),
    ),
    Family(
        name="Granite",
        signs=("<|tool_call|>",),
        markup=Markup(calls=(CallMarkers(begin="<|tool_call|>", array=True),)),
    ),
    HERMES,
    Family(
        name="Llama 3",
        signs=("<|python_tag|>",),
        markup=Markup(calls=(CallMarkers(begin="<|python_tag|>", key="parameters"),), bare=True),
    ),
)
"""Where several show, the first counts."""

REASONING: Final = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
)
"""Reasoning's markers; a model has those of which the second shows in its template or its added tokens."""


def find_markup(
    template: str,
    tokens: Collection[str],
    *,
    calls: tuple[str, str] | None = None,
    reasoning: tuple[str, str] | None = None,
) -> Markup:
    """Find out how a model marks reasoning and calls.

    Args:
        template: The source of its chat template, which counts more than its vocabulary: models inherit
            their vocabulary from others.
        tokens: The texts of its added tokens.
        calls: The markers of calls that the model's own description names; these count before all signs.
        reasoning: The same for reasoning.

    Returns:
        Its family's, or those of `HERMES` where no family shows.

    Raises:
        LocalProtocolError: The markers given could not be told apart.
    """
    if reasoning is None:
        reasoning = next((pair for pair in REASONING if pair[1] in template or pair[1] in tokens), None)
    found = next((one for one in FAMILIES if any(sign in template for sign in one.signs)), None)
    found = found or next((one for one in FAMILIES if any(sign in tokens for sign in one.signs)), HERMES)
    markup = evolve(found.markup, reasoning=reasoning)
    if calls is None or calls in [(one.begin, one.end) for one in markup.calls]:
        return markup
    return Markup(reasoning=reasoning, calls=(CallMarkers(begin=calls[0], end=calls[1] or None),))
