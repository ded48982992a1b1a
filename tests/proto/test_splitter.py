"""Splitter: which part of a text is content, reasoning or a call, however the text is cut."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_proto.chat.calls import Call
from foundry_proto.chat.markup import FAMILIES, HERMES, CallMarkers, Markup
from foundry_proto.chat.splitter import Content, Part, Reasoning, Splitter
from foundry_proto.chat.text_stream import TextStream
from foundry_proto.errors import LocalProtocolError
from tests.support.chunking import chunkings, in_pieces

THINK = ("<think>", "</think>")
QWEN = Markup(reasoning=THINK, calls=HERMES.markup.calls)
BY_NAME = {family.name: family.markup for family in FAMILIES}
LLAMA, MISTRAL, PHI = BY_NAME["Llama 3"], BY_NAME["Mistral"], BY_NAME["Phi-4-mini"]

F = '{"name": "f", "arguments": {"a": 1}}'
G = '{"name": "g", "parameters": {}}'
CALL_F, CALL_G = Call(name="f", arguments='{"a":1}'), Call(name="g", arguments="{}")
BOTH = frozenset({"f", "g"})

Simple = list[str | Call]
"""Content as it is, reasoning with a question mark before it, calls."""


def simple(parts: Sequence[Part]) -> Simple:
    joined: Simple = []
    kind: type[Part] | None = None
    for part in parts:
        if isinstance(part, Call):
            joined.append(part)
        elif kind is type(part):
            joined[-1] = str(joined[-1]) + part.text
        else:
            joined.append(("?" if isinstance(part, Reasoning) else "") + part.text)
        kind = type(part)
    return joined


def run(
    pieces: Sequence[str],
    markup: Markup = QWEN,
    functions: frozenset[str] | None = BOTH,
    *,
    begins_in_reasoning: bool = False,
) -> Simple:
    splitter = Splitter(markup, functions, begins_in_reasoning=begins_in_reasoning)
    parts = [part for piece in pieces for part in splitter.push(piece)]
    parts += splitter.finish()
    assert all(part.text for part in parts if not isinstance(part, Call))
    return simple(parts)


def check(text: str, expected: Simple, markup: Markup = QWEN, *, begins_in_reasoning: bool = False) -> None:
    for size in (1, 2, 3, 7, max(1, len(text))):
        assert run(in_pieces(text, size), markup, begins_in_reasoning=begins_in_reasoning) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, world!", ["Hello, world!"]),
        ("", []),
        (f"<tool_call>{F}</tool_call>", [CALL_F]),
        (f"<tool_call>\n{F}\n</tool_call>", [CALL_F]),
        (f"<tool_call>[{F}, {G}]</tool_call>", [CALL_F, CALL_G]),
        (f"\n<tool_call>{F}</tool_call>\n<tool_call>{G}</tool_call>\n", [CALL_F, CALL_G]),
        (f"prefix <tool_call>{F}</tool_call> suffix", ["prefix ", CALL_F, " suffix"]),
        (f"<tool_call>{F}</tool_call> middle <tool_call>{G}</tool_call>", [CALL_F, " middle ", CALL_G]),
        (f"<think>a</think>\n<tool_call>{F}</tool_call>", ["?a", CALL_F]),
    ],
)
def test_calls_between_markers_are_calls_and_the_rest_is_content(text: str, expected: Simple) -> None:
    check(text, expected)


@pytest.mark.parametrize(
    "text",
    [
        "hello <too",
        "<tool x",
        "a <toolbox> b",
        "<<tool_call",
        "</tool_call>",
        "prefix <tool_call>{",
        f"prefix <tool_call>{F}",
        f"<tool_call>{F}</tool_call",
        "before <tool_call>not JSON</tool_call> after",
        '<tool_call>{"name": 1}</tool_call>',
        "<tool_call></tool_call>",
        "<tool_call> </tool_call>",
        "\n  \n",
        " \n<tool_call>x</tool_call>\n ",
        "<tool_call><tool_call></tool_call>",
        "a</think>b",
        F,
        "\0<\ufffd\x1b",
    ],
)
def test_what_is_no_call_is_content_to_the_last_character(text: str) -> None:
    check(text, [text])


def test_a_block_that_was_not_closed_is_text_and_the_next_one_is_read() -> None:
    check(f"<tool_call>oops <tool_call>{F}</tool_call>", ["<tool_call>oops ", CALL_F])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>a</think>\nb", ["?a", "b"]),
        ("<think>\na\n\nb\n</think>\n\n c \n", ["?a\n\nb", "c \n"]),
        ("\n<think>\n\n</think>\n\nb", ["b"]),
        ("<think>a", ["?a"]),
        ("<think>a </thi", ["?a </thi"]),
        ("<think>a \n", ["?a"]),
        ("<think>", []),
        ("<think>a</think>\n", ["?a"]),
        ("x<think>a</think>y<think>b</think>", ["x", "?a", "y", "?\nb"]),
        ("<think>a</think><think>b</think>c", ["?a\nb", "c"]),
        (f"<think>Use <tool_call>{F}</tool_call></think>b", [f"?Use <tool_call>{F}</tool_call>", "b"]),
        ("<think>a <think> b</think>c", ["?a <think> b", "c"]),
        (f"<think>a</think>\n<tool_call>{F}</tool_call>\n b", ["?a", CALL_F, "\n b"]),
        ("<think>a</think>\n<tool_call>b", ["?a", "<tool_call>b"]),
    ],
)
def test_reasoning_is_what_stands_between_its_markers(text: str, expected: Simple) -> None:
    check(text, expected)


def test_reasoning_that_the_prompt_opened_goes_on_to_its_end() -> None:
    check("a\n</think>\n\nb", ["?a", "b"], begins_in_reasoning=True)
    check("a", ["?a"], begins_in_reasoning=True)
    check("</think>\n", [], begins_in_reasoning=True)


def test_without_markers_for_it_no_text_begins_in_reasoning() -> None:
    with pytest.raises(LocalProtocolError) as caught:
        Splitter(HERMES.markup, begins_in_reasoning=True)
    assert str(caught.value) == "reasoning: expected markup that has markers for it, got none"


def test_it_tells_whether_it_is_in_reasoning() -> None:
    splitter = Splitter(QWEN)
    told = []
    for piece in ("a", "<think", ">", "b", "</think>", "c"):
        splitter.push(piece)
        told.append(splitter.in_reasoning)
    assert told == [False, False, True, True, False, False]


def test_calls_are_only_looked_for_where_functions_are_offered() -> None:
    text = f"<tool_call>{F}</tool_call>"
    assert run([text], functions=None) == [text]
    assert run([F], LLAMA, functions=None) == [F]
    assert run([f"<think>a</think>{text}"], functions=None) == ["?a", text]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"<|python_tag|>{F}", [CALL_F]),
        (f"<|python_tag|>{F}; {G}", [CALL_F, CALL_G]),
        (f"Wait.<|python_tag|>{F}\n", ["Wait.", CALL_F]),
        ('<|python_tag|>search.call(query="x")', ['<|python_tag|>search.call(query="x")']),
        (F, [CALL_F]),
        (f" \n{F}\n", [CALL_F]),
        (f"{F}; {G}", [CALL_F, CALL_G]),
        ('{\n "type": "function", "name": "g"}', [CALL_G]),
        ('{ "name": "other", "parameters": {}}', ['{ "name": "other", "parameters": {}}']),
        (f"{F} is how it is called", [f"{F} is how it is called"]),
        (' {"answer": 42}', [' {"answer": 42}']),
        ("{", ["{"]),
        ("{ ", ["{ "]),
        ('{"na', ['{"na']),
        ("{}", ["{}"]),
        (f'{{"x": 1}}<|python_tag|>{F}', ['{"x": 1}', CALL_F]),
        (f"It is {F}", [f"It is {F}"]),
    ],
)
def test_llamas_calls_run_to_the_end_and_may_stand_bare(text: str, expected: Simple) -> None:
    check(text, expected, LLAMA)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"[TOOL_CALLS] [{F}, {G}]", [CALL_F, CALL_G]),
        ('[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]g[ARGS]{}', [CALL_F, CALL_G]),
        (f"Sure.[TOOL_CALLS][{F}]", ["Sure.", CALL_F]),
        ("[TOOL_CALLS] oops[TOOL_CALLS]g{}", ["[TOOL_CALLS] oops", CALL_G]),
        ("[TOOL_CALLS]", ["[TOOL_CALLS]"]),
    ],
)
def test_mistrals_calls_end_where_the_next_begin(text: str, expected: Simple) -> None:
    check(text, expected, MISTRAL)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"<|tool_call|>[{F}]<|/tool_call|>", [CALL_F]),
        (f"functools[{F}, {G}]", [CALL_F, CALL_G]),
        ("functools.partial[x]", ["functools.partial[x]"]),
        ("functools[0]", ["functools[0]"]),
    ],
)
def test_a_marker_may_be_part_of_the_calls(text: str, expected: Simple) -> None:
    check(text, expected, PHI)


def test_equal_markers_on_both_sides_can_be_told_apart() -> None:
    fenced = Markup(calls=(CallMarkers(begin="```", end="```"),))
    check(f"a```{F}```b", ["a", CALL_F, "b"], fenced)
    check(f"```x```y```{F}```", ["```x```y", CALL_F], fenced)


def test_markers_of_one_letter_are_never_held_back() -> None:
    check(f"a|{F}|b", ["a", CALL_F, "b"], Markup(calls=(CallMarkers(begin="|", end="|"),)))


PIECES = st.sampled_from([
    "<think>", "</think>", "<tool_call>", "</tool_call>", "<tool", "_call>", "</", "<", "think>", F, G, "{",
    '{"name":', "}", "<|python_tag|>", "[TOOL_CALLS]", "[ARGS]", "<|tool_call|>", "<|/tool_call|>",
    "functools[", "[", "]", " ", "\n", "a", "é🙂",
])  # fmt: skip
TEXTS = st.lists(PIECES, max_size=14).map("".join)
WITHOUT_REASONING = (HERMES.markup, LLAMA, MISTRAL, PHI)
MARKUPS = st.sampled_from([*WITHOUT_REASONING, QWEN, evolve(LLAMA, reasoning=THINK)])


@given(TEXTS, MARKUPS, st.sampled_from([None, BOTH, frozenset({"f"})]), st.booleans(), st.data())
@settings(deadline=None, max_examples=400)
def test_any_cut_of_the_text_gives_the_same_parts(
    text: str, markup: Markup, functions: frozenset[str] | None, opened: bool, data: st.DataObject
) -> None:
    opened = opened and markup.reasoning is not None
    whole = run([text], markup, functions, begins_in_reasoning=opened)
    pieces = data.draw(chunkings(text))
    assert run(pieces, markup, functions, begins_in_reasoning=opened) == whole
    assert run(list(text), markup, functions, begins_in_reasoning=opened) == whole


@given(TEXTS, st.data())
@settings(deadline=None)
def test_any_tokens_of_the_same_bytes_give_the_same_parts(text: str, data: st.DataObject) -> None:
    tokens = data.draw(chunkings(text.encode()))
    stream = TextStream(tokens)
    pieces = [*(stream.push(number) for number in range(len(tokens))), stream.finish()]
    assert run(pieces) == run([text])


@given(TEXTS, st.sampled_from(WITHOUT_REASONING))
@settings(deadline=None)
def test_text_without_a_call_is_lost_nowhere(text: str, markup: Markup) -> None:
    parts = run([text], markup)
    if not any(isinstance(part, Call) for part in parts):
        assert "".join(map(str, parts)) == text


@given(st.text("<tol_ca>x", max_size=30), st.data())
@settings(deadline=None)
def test_exactly_the_longest_end_that_begins_a_marker_is_held_back(text: str, data: st.DataObject) -> None:
    splitter = Splitter(HERMES.markup, BOTH)
    read, sent = "", ""
    for piece in data.draw(chunkings(text)):
        read += piece
        sent += "".join(part.text for part in splitter.push(piece) if isinstance(part, Content))
        marker = "<tool_call>"
        if marker in read:
            return
        held = max((marker[:n] for n in range(len(marker)) if read.endswith(marker[:n])), key=len)
        assert sent + held == read


@pytest.mark.parametrize("markup", [QWEN, LLAMA], ids=["Qwen", "Llama"])
@pytest.mark.parametrize(
    "unit", ["<tool_call>", "<tool_call>x</tool_call>", " ", "<", "{ ", '{"name": "', "<think>", "<think> "]
)
def test_time_is_linear_in_the_text(unit: str, markup: Markup) -> None:
    """Looked at again for each piece, a block or its white space would take a minute, not 0.1 s."""
    run([unit] * 10_000, markup)


def test_nothing_follows_finish() -> None:
    splitter = Splitter(QWEN)
    splitter.finish()
    with pytest.raises(LocalProtocolError, match=r"^expected no call after finish$"):
        splitter.push("")
    with pytest.raises(LocalProtocolError, match=r"^expected no call after finish$"):
        splitter.finish()


def test_arguments_are_the_json_of_an_object() -> None:
    (call,) = run([f"<tool_call>{F}</tool_call>"])
    assert isinstance(call, Call)
    assert json.loads(call.arguments) == {"a": 1}
