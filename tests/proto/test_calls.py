"""Calls: what is read of each form, and that a text which is not wholly calls is none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_proto.chat.calls import (
    DEEPSEEK_BEGIN,
    DEEPSEEK_END,
    DEEPSEEK_SEPARATOR,
    Call,
    CallStyle,
    call_id,
    read_calls,
)
from tests.support.strategies import JSON_VALUES, TEXTS

F = Call(name="f", arguments='{"a":1}')
G = Call(name="g", arguments="{}")


def deepseek(*pairs: tuple[str, str]) -> str:
    return "".join(f"{DEEPSEEK_BEGIN}{a}{DEEPSEEK_SEPARATOR}{b}{DEEPSEEK_END}\n" for a, b in pairs)


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ('{"name": "f", "arguments": {"a": 1}}', [F]),
        ('\n{"name": "f", "parameters": {"a": 1}}\n', [F]),
        ('{"arguments": "{\\"a\\": 1}", "name": "f"}', [F]),
        ('{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}', [F]),
        ('{"name": "g"}', [G]),
        ('{"name": "g", "arguments": null}', [G]),
        ('[{"name": "f", "arguments": {"a": 1}}, {"name": "g"}]', [F, G]),
        ('{"name": "f", "arguments": {"a": 1}}; {"name": "g"}', [F, G]),
        ('{"name": "f", "arguments": {"a": 1}}\n[{"name": "g"}],', [F, G]),
        ('{"name": "é\\n", "arguments": {"x": "}]\\"{"}}', [Call(name="é\n", arguments='{"x":"}]\\"{"}')]),
    ],
)
def test_objects_and_arrays_are_read_with_either_word_for_arguments(text: str, calls: list[Call]) -> None:
    assert read_calls(text, "json") == tuple(calls)
    assert read_calls(text, "named") == tuple(calls)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ; ",
        "not JSON",
        "[]",
        '"name"',
        "{}",
        '{"name": 123, "arguments": {}}',
        '{"name": null}',
        '{"name": ""}',
        '{"name": {"x": 1}}',
        '{"arguments": {"x": 1}}',
        '{"name": "f", "arguments": [1]}',
        '{"name": "f", "arguments": "no JSON"}',
        '{"name": "f", "arguments": "[1]"}',
        '{"name": "f", "arguments": 5}',
        '{"name": "f", "arguments": {}',
        '{"name": "f"}}',
        '}{"name": "f"}',
        '{"name": "f"]',
        '{"name": "f", "name": "g"}',
        '{"name": "f", "arguments": {"x": NaN}}',
        '{"name": "\\ud800"}',
        '{"name": "\ud800"}',
        '{"name": "f"} and more',
        'Call: {"name": "f"}',
        '[{"name": "f"}, 123]',
        '[{"name": "f"}, {"name": 123}]',
        '[[{"name": "f"}]]',
        '{"function": {"arguments": {}}}',
        '{"name": "f',
        '{"name": "f\\',
        "{" * 100_000,
        "[" * 100_000 + "]" * 100_000,
    ],
    ids=lambda text: text[:40].encode("ascii", "backslashreplace").decode(),
)
def test_a_text_that_is_not_wholly_calls_is_none(text: str) -> None:
    assert read_calls(text, "json") == ()
    assert read_calls(text, "named") == ()


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ('f[ARGS]{"a": 1}', [F]),
        (' f {"a": 1}', [F]),
        ('f[CALL_ID]abcdef123[ARGS]{"a": 1}\n', [F]),
        ("f[ARGS]", []),
        ("f[ARGS]{", []),
        ("f[ARGS][1]", []),
        ("two words{}", []),
    ],
)
def test_a_name_with_arguments_behind_it_is_a_call(text: str, calls: list[Call]) -> None:
    assert read_calls(text, "named") == tuple(calls)
    assert read_calls(text, "json") == ()


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        (deepseek(("function", 'f\n```json\n{"a": 1}\n```')), [F]),
        (deepseek(("f", '{"a": 1}'), ("g", "{}")), [F, G]),
        ("", []),
        ("prose " + deepseek(("g", "{}")), []),
        (deepseek(("g", "{}")) + "prose", []),
        (deepseek(("g", "{}")) + DEEPSEEK_BEGIN, []),
        (deepseek(("g", "no JSON")), []),
    ],
)
def test_deepseeks_own_form_is_read(text: str, calls: list[Call]) -> None:
    assert read_calls(text, "deepseek") == tuple(calls)


@given(st.lists(st.tuples(TEXTS.filter(bool), st.dictionaries(TEXTS, JSON_VALUES, max_size=3)), min_size=1))
@settings(deadline=None)
def test_what_is_written_as_json_is_read_again(written: list[tuple[str, dict[str, object]]]) -> None:
    plain = [{"name": name, "arguments": arguments} for name, arguments in written]
    for text in (json.dumps(plain), "\n".join(json.dumps(one, ensure_ascii=False) for one in plain)):
        calls = read_calls(text, "json")
        assert [(call.name, json.loads(call.arguments)) for call in calls] == written


@given(st.text('{}[]",:; \n\\namefrgu1', max_size=60), st.sampled_from(("json", "named", "deepseek")))
@settings(deadline=None)
def test_any_text_gives_calls_with_a_name_and_an_object_or_none(text: str, style: CallStyle) -> None:
    for call in read_calls(text, style):
        assert call.name
        assert isinstance(json.loads(call.arguments), dict)


@pytest.mark.parametrize(
    ("number", "made"),
    [(0, "call_AAAAAAAAA"), (1, "call_BAAAAAAAA"), (62, "call_ABAAAAAAA"), (62**9 - 1, "call_999999999")],
)
def test_an_id_is_nine_letters_or_digits(number: int, made: str) -> None:
    assert call_id(number) == made
    assert call_id(number + 62**9) == made


@given(st.integers(0, 62**9 - 1), st.integers(0, 62**9 - 1))
@settings(deadline=None)
def test_different_numbers_give_different_ids(one: int, other: int) -> None:
    assert (call_id(one) == call_id(other)) == (one == other)
