"""Markup: a model's family shows in its template, else in its tokens; markers can be told apart."""

from __future__ import annotations

import pytest

from foundry_proto.chat.markup import FAMILIES, HERMES, CallMarkers, Family, Markup, find_markup
from foundry_proto.errors import LocalProtocolError

BY_NAME = {family.name: family for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_each_sign_of_a_family_shows_it(family: Family) -> None:
    for sign in family.signs:
        assert find_markup(f"{{% if x %}}{sign}{{% endif %}}", ()) == family.markup
        assert find_markup("", {sign, "<s>"}) == family.markup


def test_a_template_counts_more_than_a_vocabulary() -> None:
    assert find_markup("<tool_call>", {"<|python_tag|>"}) == HERMES.markup
    assert find_markup("<|python_tag|>", {"<tool_call>"}) == BY_NAME["Llama 3"].markup


def test_a_model_that_shows_nothing_is_asked_for_the_common_form_and_does_not_reason() -> None:
    assert find_markup("{{ messages }}", {"<|im_end|>"}) == HERMES.markup
    assert HERMES.markup.reasoning is None


def test_one_marker_is_two_families_ways_told_apart_by_the_end() -> None:
    assert find_markup("", {"<|tool_call|>", "<|/tool_call|>"}) == BY_NAME["Phi-4-mini"].markup
    assert find_markup("", {"<|tool_call|>"}) == BY_NAME["Granite"].markup


@pytest.mark.parametrize(
    ("template", "tokens", "expected"),
    [
        ("{{ content.split('</think>') }}", (), ("<think>", "</think>")),
        ("", ("</think>",), ("<think>", "</think>")),
        ("", ("[THINK]", "[/THINK]"), ("[THINK]", "[/THINK]")),
        ("<think>", (), None),
    ],
)
def test_reasoning_shows_by_its_end(
    template: str, tokens: tuple[str, ...], expected: tuple[str, str] | None
) -> None:
    assert find_markup(template, tokens).reasoning == expected


def test_what_a_models_description_names_counts_before_all_signs() -> None:
    found = find_markup("<tool_call></think>", (), calls=("<tc>", "</tc>"), reasoning=("<r>", "</r>"))
    assert found == Markup(reasoning=("<r>", "</r>"), calls=(CallMarkers(begin="<tc>", end="</tc>"),))
    assert find_markup("", (), calls=("<tc>", "")).calls == (CallMarkers(begin="<tc>", end=None),)


def test_a_description_that_names_the_familys_own_markers_changes_nothing() -> None:
    tokens = ("<|tool_call|>", "<|/tool_call|>")
    phi = BY_NAME["Phi-4-mini"].markup
    assert find_markup("", tokens, calls=("<|tool_call|>", "<|/tool_call|>")) == phi


def test_all_markers_are_shown() -> None:
    calls = (CallMarkers(begin="<a>", end="</a>", inner=("<i>",)), CallMarkers(begin="<b>"))
    assert Markup(calls=calls).shown == {"<a>", "</a>", "<i>", "<b>"}
    assert Markup(reasoning=("<r>", "</r>")).shown == {"<r>", "</r>"}
    assert Markup().shown == frozenset()


@pytest.mark.parametrize(
    ("reasoning", "begins", "message"),
    [
        (None, ["<a>", "<a>b"], "markers: expected texts that cannot be mistaken, got '<a>' and '<a>b'"),
        (("<a>", "x"), ["<a"], "markers: expected texts that cannot be mistaken, got '<a>' and '<a'"),
        (("<r>", ""), [], "markers: expected texts of 1 to 64 characters, got one of 0"),
        (None, [""], "markers: expected texts of 1 to 64 characters, got one of 0"),
        (None, ["<" * 65], "markers: expected texts of 1 to 64 characters, got one of 65"),
    ],
)
def test_markers_that_cannot_be_told_apart_are_refused(
    reasoning: tuple[str, str] | None, begins: list[str], message: str
) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        Markup(reasoning=reasoning, calls=tuple(CallMarkers(begin=begin) for begin in begins))
    assert str(caught.value) == message
