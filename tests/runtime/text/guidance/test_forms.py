"""Forms allow what they say, alone and put together."""

from __future__ import annotations

import pytest

from foundry_proto.jsontext import ContentError
from foundry_runtime.engine.text.guidance.forms import (
    ANY_OBJECT,
    MAX_GROUPS,
    MAX_LARK,
    MAX_RULES,
    Form,
    Json,
    Lark,
    Literal,
    Marker,
    OneOf,
    Regex,
    Repeated,
    Text,
    Then,
    leaves_of,
)
from tests.runtime.text.guidance.walking import Walker

NUMBER = Json({"type": "integer", "minimum": 0, "maximum": 99})
WORD = Regex("[a-z]{1,3}")


@pytest.mark.parametrize(
    ("form", "allowed", "forbidden"),
    [
        (Literal('a"\\\n\x7fé😀'), ['a"\\\n\x7fé😀'], ["a"]),
        (Literal(""), [""], ["a"]),
        (Text(), ["", "any\n<text>"], ["<|im_start|>"]),
        (Marker("<call>"), ["<call>"], [""]),
        (Then((Literal("("), NUMBER, Literal(")"))), ["(7)", "(99)"], ["()", "(100)", "7"]),
        (OneOf((NUMBER, WORD, Literal("null "))), ["7", "abc", "null "], ["abcd", "a7", ""]),
        (Repeated(form=WORD, least=1, most=3, between=", "), ["a", "a, b, c"], ["", "a, ", "a, b, c, d"]),
        (Repeated(form=WORD, between=";"), ["", "a", "a;b;c;d;e"], [";a"]),
        (Repeated(form=Literal("\n"), most=2), ["", "\n\n"], ["\n\n\n"]),
        (Repeated(form=WORD, least=1, most=1, between=";"), ["a"], ["", "a;b"]),
        (Repeated(form=WORD, most=1), ["", "a"], ["a;"]),
        (Repeated(form=WORD, most=0), [""], ["a"]),
        (Repeated(form=Literal("x"), least=2), ["xx", "xxxxx"], ["x"]),
        # Text ends with its marker, as soon as that comes, and what is behind it is bound.
        (Then((Text(until="<c>"), NUMBER)), ["<c>5", "a < c <c>5"], ["5", "a<c>b", "<c>x<c>5"]),
        (Then((Text(until="<|im_start|>"), NUMBER)), ["a<|im_start|>5"], ["a5", "<|im_start|>a"]),
        (
            Then((Repeated(form=Then((Text(until="<c>"), NUMBER, Literal("</c>")))), Text())),
            ["none at all", "a<c>1</c>b<c>22</c>c", "<c>1</c>"],
            ["a<c>b", "a<c>1", "a<c>1</c>b<c>c</c>"],
        ),
        (OneOf((ANY_OBJECT, Then((Literal("<c>"), ANY_OBJECT)))), ["{}", '<c>{"a": [1]}'], ["<c>", "[]"]),
        (Lark('start: x ("," x)*\nx: /[0-9]+/ | %json {"const": "a"}'), ["1,22", '"a",3'], ["a", "1,"]),
        (Lark('start: "a" <|im_start|>'), ["a<|im_start|>"], ["a"]),
        (OneOf((Lark("start: A\nA: /a+/"), Lark("start: A\nA: /b+/"))), ["aaa", "b"], ["ab"]),
    ],
)  # fmt: skip
def test_a_form_allows_what_it_says(
    walker: Walker, form: Form, allowed: list[str], forbidden: list[str]
) -> None:
    assert [text for text in allowed if not walker.accepts(form, text)] == []
    assert [text for text in forbidden if walker.accepts(form, text)] == []


def test_json_is_written_on_one_line_with_a_blank_behind_colons_and_commas(walker: Walker) -> None:
    form = Json(
        {"type": "object", "properties": {"é": {"type": "array", "items": {"type": "integer"}}, "b": {}}}
    )
    assert walker.accepts(form, '{"é": [1, 2], "b": {"c": [true, "d"]}}')
    for other in (
        '{"é":[1, 2]}',
        '{"é": [1,2]}',
        '{ "é": []}',
        '{"é": []}\n',
        ' {"é": []}',
        '{\n"é": []}',
        '{"é": [ ]}',
    ):
        assert not walker.accepts(form, other), other


def test_names_cannot_be_written_in_another_way(walker: Walker) -> None:
    """`\\u0061` is an `a`: it would be a name that is listed, with a value that is not checked."""
    form = Json({"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": True})
    assert walker.accepts(form, '{"a": 1, "b": "x", "\\n": 2}')
    assert not walker.begins(form, '{"\\u')
    assert not walker.begins(form, '{"b": 1, "a"')


def test_a_schema_within_a_grammar_is_written_as_all_are(walker: Walker) -> None:
    with pytest.raises(ContentError, match=r"^g\.properties\.a\.not: not supported"):
        walker.guidance.compile(Lark('start: %json {"properties": {"a": {"not": {}}}}', ("g",)))
    nested = Lark('start: "<" %json { "const": "%json {" } ">"')
    assert walker.accepts(nested, '<"%json {">')
    with pytest.raises(ContentError, match=r"^g: expected JSON behind %json: "):
        walker.guidance.compile(Lark('start: %json {"const" "a"}', ("g",)))


def test_the_part_that_is_refused_is_named(walker: Walker) -> None:
    good, bad = Json({"type": "null"}, ("first",)), Json({"minLength": 2, "maxLength": 1}, ("second", 3))
    assert list(leaves_of(Then((good, OneOf((bad, Text())), Repeated(form=WORD))))) == [good, bad, WORD]
    with pytest.raises(ContentError) as caught:
        walker.guidance.compile(Then((good, OneOf((bad, Text())))))
    assert str(caught.value).startswith("second[3]: no value is valid: ")


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        ("start: nothing", 'line 1, column 8: unknown name: "nothing"'),
        ('start: "a"\nstart: "b"', 'line 2, column 8: duplicate rule: "start"'),
        ("x: /a/", "the grammar engine refuses it: no start rule found"),
        ("start: start", "nothing matches it"),
        ('start: x\nx[temperature=0.5]: "a"', "the option temperature of a rule is not supported"),
        ('start: x "b"\nx[stop="b"]: /.*/', "the option stop of a rule is not supported"),
        ("start: @nowhere", "the grammar engine refuses it: unknown grammar @nowhere"),
        ("start: /a/\0", "expected no NUL character"),
        ("#" * (MAX_LARK + 1), f"expected at most {MAX_LARK} characters, got {MAX_LARK + 1}"),
        (
            "start: a0\n" + "\n".join(f'a{index}: "a"' for index in range(MAX_RULES)),
            f"expected at most {MAX_RULES} rules, got {MAX_RULES + 1}",
        ),
        (
            "start: " + "(" * (MAX_GROUPS + 1) + '"a"' + ")" * (MAX_GROUPS + 1),
            f"expected at most {MAX_GROUPS} opening parentheses, got {MAX_GROUPS + 1}",
        ),
    ],
)
def test_a_grammar_that_is_refused_is_told_why(walker: Walker, grammar: str, message: str) -> None:
    with pytest.raises(ContentError) as caught:
        walker.guidance.compile(Lark(grammar, ("response_format", "lark_grammar")))
    assert str(caught.value) == f"response_format.lark_grammar: {message}"
