"""Chat templates render as jinja2 renders them, reach nothing, and take no more than they may."""

from __future__ import annotations

import json
import os
import re
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Environment
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from foundry_runtime.engine.text import template as module
from foundry_runtime.engine.text.metering import Meter
from foundry_runtime.engine.text.template import (
    ChatTemplate,
    ConversationRefused,
    Limits,
    NoTemplate,
    TemplateError,
)
from tests.runtime.text.templates import BOMBS, CHATML, ESCAPES, ORDINARY

NAME = "model/chat_template.jinja"
SMALL = Limits(work=100_000, text=2**20, output=2**18)
REASONS = (
    "the template takes too many steps",
    "the template makes too much text",
    "the template makes too long a prompt",
    "the template is nested too deeply",
    "a number grows too large",
    "the argument .* is too large",
    "sum adds numbers only",
    "a format has the width .*: expected a number up to 1000",
    "strftime_now: expected at most 256 characters, got .*",
    r"access to attribute '\w+' of '\w+' object is unsafe.",
    "'lipsum' is undefined",
    "Range too big. The sandbox blocks ranges larger than MAX_RANGE .*",
)
MESSAGES = [{"role": "user", "content": "Hi"}]
NO_TEMPLATE = (
    ": expected a chat template, in chat_template.jinja, as chat_template in tokenizer_config.json, or as "
    "PromptTemplate in inference_model.json"
)
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def _render(source: str, messages: Sequence[Mapping[str, object]] = MESSAGES, **options: object) -> str:
    template = ChatTemplate.from_source(source, NAME, variables=TOKENS)
    return template.render(messages, **options)  # type: ignore[arg-type]


def _failure(source: str, messages: Sequence[Mapping[str, object]] = MESSAGES) -> str:
    with pytest.raises(TemplateError) as error:
        _render(source, messages)
    return str(error.value)


# What a template means


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{% if true %}\n  {% set x = 1 %}\nline\n{% endif %}\n", "line\n"),
        ("{{ bos_token }}{{ eos_token }}{{ pad_token }}", "<s></s>"),
        ("{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}", "TrueTrueTrue"),
        ("{% for x in [1, 2, 3] %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}{% endfor %}", "13"),
        ("{% for x in [1, 2, 3] %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% endfor %}", "1"),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}", "Hi"),
        ("{{ {'b': '<é>', 'a': none} | tojson }}", '{"b": "<é>", "a": null}'),
        ("{{ {'b': 'é', 'a': 1} | tojson(sort_keys=true, ensure_ascii=true) }}", '{"a": 1, "b": "\\u00e9"}'),
        ("{{ [1, 2] | tojson(indent=2) }}", "[\n  1,\n  2\n]"),
        ("{{ [1, 2] | tojson(separators=(',', ':')) }}", "[1,2]"),
        ("{{ strftime_now('%d %b %Y') }}", "01 Feb 2026"),
        ("{{ messages[0]['content'] }} {{ messages[0].content }} {{ messages[0].nothing }}", "Hi Hi "),
        (
            "{% set ns = namespace(x=1) %}{% for i in [3] %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}",
            "4",
        ),
        ("{{ namespace(x=1) }}", "<namespace>"),
        ("{{ [1, 2] | map('string') }}", "['1', '2']"),
    ],
)
def test_what_templates_expect_is_there(source: str, expected: str) -> None:
    template = ChatTemplate.from_source(
        source, NAME, variables=TOKENS, now=lambda: datetime(2026, 2, 1, tzinfo=UTC)
    )
    assert template.render(MESSAGES) == expected


def _plain_jinja() -> Environment:
    def tojson(value: object, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = tojson
    return environment


_WORDS = st.lists(
    st.sampled_from(["a", "b c", "\n", " ", "</think>", "{{ x }}", "'", '"', "é", "<b>", "%s"]), max_size=6
).map("".join)
_CONVERSATIONS = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": _WORDS},
        optional={
            "tool_calls": st.lists(
                st.fixed_dictionaries(
                    {
                        "function": st.fixed_dictionaries(
                            {"name": _WORDS, "arguments": st.dictionaries(_WORDS, _WORDS, max_size=2)}
                        )
                    }
                ),
                max_size=2,
            )
        },
    ),
    min_size=1,
    max_size=5,
)
_TOOLS = st.none() | st.lists(
    st.fixed_dictionaries({"name": _WORDS, "parameters": st.dictionaries(_WORDS, _WORDS, max_size=3)}),
    max_size=2,
)


@pytest.mark.parametrize("name", list(ORDINARY))
@given(messages=_CONVERSATIONS, tools=_TOOLS, generate=st.booleans())
@settings(deadline=None, max_examples=40)
def test_an_ordinary_template_renders_as_jinja2_alone_renders_it(
    name: str, messages: list[dict[str, object]], tools: list[dict[str, object]] | None, generate: bool
) -> None:
    source = ORDINARY[name]
    plain = _plain_jinja().from_string(re.sub(r"{%-? *(end)?generation *-?%}", "", source))
    expected = plain.render(
        messages=messages, tools=tools, documents=None, add_generation_prompt=generate, **TOKENS
    )
    assert _render(source, messages, tools=tools, add_generation_prompt=generate) == expected


def test_templates_leave_what_they_are_given_as_it_was() -> None:
    messages = [
        {"role": "user", "content": "Hi", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    ]
    before = json.dumps(messages)
    for source in ORDINARY.values():
        _render(source, messages)
    assert json.dumps(messages) == before


# What a template may not do


@pytest.mark.parametrize("source", ESCAPES)
def test_no_template_reaches_python(source: str) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    try:
        rendered = _render(source, messages)
    except TemplateError as error:
        rendered = str(error).removeprefix(NAME)
    assert not re.search(r"<class|<built-in|<module|object at 0x|root:|<bound", rendered)
    assert messages == [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ ''.__class__.x }}", "access to attribute '__class__' of 'str' object is unsafe."),
        ("{{ messages.append(1) }}", "access to attribute 'append' of 'list' object is unsafe."),
        ("{{ '{0.__class__.x}'.format(1) }}", "access to attribute '__class__' of 'int' object is unsafe."),
        ("{{ 'a'.encode().x }}", "access to attribute 'encode' of 'str' object is unsafe."),
        ("{% include 'x' %}", "no loader for this environment specified"),
    ],
)
def test_a_forbidden_thing_is_named(source: str, reason: str) -> None:
    assert _failure(source) == f"{NAME}, line 1: {reason}"


@pytest.fixture
def _counting_memory() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("_counting_memory")
@pytest.mark.parametrize("source", BOMBS)
def test_a_bomb_ends_in_an_error_within_the_limits(source: str) -> None:
    template = ChatTemplate.from_source(source, NAME, limits=SMALL)
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    with pytest.raises(TemplateError) as error:
        template.render(MESSAGES)
    _, peak = tracemalloc.get_traced_memory()
    assert re.fullmatch(rf"{NAME}(, line 1)?: ({'|'.join(REASONS)})", str(error.value))
    assert peak - before < 16 * SMALL.text


@given(source=st.sampled_from(BOMBS), work=st.integers(0, 20_000), text=st.integers(0, 2**16))
@settings(deadline=None, max_examples=40)
def test_under_any_limits_a_bomb_ends_in_a_template_error(source: str, work: int, text: int) -> None:
    template = ChatTemplate.from_source(source, NAME, limits=Limits(work=work, text=text, output=text))
    with pytest.raises(TemplateError):
        template.render(MESSAGES)


@pytest.mark.parametrize("step", ["ns.x + ns.x", "ns.x - -ns.x", "ns.x * 3", "ns.x ** 2", "ns.x // 1 + ns.x"])
def test_a_number_does_not_grow_without_end(step: str) -> None:
    source = "{% set ns = namespace(x=3) %}{% for i in range(5000) %}{% set ns.x = STEP %}{% endfor %}"
    assert _failure(source.replace("STEP", step)) == f"{NAME}, line 1: a number grows too large"


# Each makes or looks at this much, once: what it is charged must be of that order, also where no loop helps.
_SIZE = 100_000
_WORK = [
    "s == t",
    "s != t",
    "s < t",
    "s in t",
    "t not in l",
    "s is eq t",
    "s is in t",
    "s is lower",
    "s.find(t)",
    "s.count('b')",
    "s.startswith(t)",
    "s.isalpha()",
    "l.index('ab')",
    "s | float",
    "l | min",
    "s | wordcount",
    "{'b': s} | dictsort",
    "{(s, t): 1}",
    "{}[(s, t)]",
    "{}.get((s, t))",
]
_TEXT = [
    "s ~ t",
    "s + t",
    "s * 1",
    "1 * s",
    "l * 1",
    "(1,) * 20000",
    "s[1:]",
    "l[1:]",
    "s | upper",
    "s | e",
    "s | trim",
    "s | replace('a', 'b')",
    "s | indent",
    "s | tojson",
    "s | string",
    "s | list",
    "s | reverse",
    "s | batch(2)",
    "s | map('upper')",
    "s | unique",
    "s | sort",
    "l | map('string')",
    "l | select",
    "l | groupby(0)",
    "[s, t] | join",
    "['x', 'y'] | join(s)",
    "'%s' | format(s)",
    "'%s' % s",
    "'%1000d' * 100 % ((1,) * 100)",
    "'{}'.format(s)",
    "'{:1000}'.format(1) * 100",
    "'{x}'.format_map({'x': s})",
    "s.upper()",
    "s.strip('b')",
    "s.split('a')",
    "s.rsplit('a')",
    "s.replace('a', 'b')",
    "''.join([s, t])",
    "'x'.zfill(100000)",
    "'x'.center(100000)",
    "'x' | center(100000)",
    "dict(l)",
    "namespace(x=s)",
    "say(s)",
    "([[1] * 100] * 200) | tojson(indent=100)",
]


def _spent(source: str) -> tuple[int, int]:
    """The work and the text that rendering a template takes."""
    limits = Limits(work=10**9, text=10**9, output=10**9)
    template = ChatTemplate.from_source(
        "{% macro say(x) %}{{ x }}{% endmacro %}"
        "{% set s = 'a' * 100000 %}{% set t = 'a' * 100000 %}{% set l = ['ab'] * 50000 %}" + source,
        NAME,
        limits=limits,
    )
    meters: list[Meter] = []

    def watched(work_left: int, text_left: int) -> Meter:
        meters.append(Meter(work_left, text_left))
        return meters[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "Meter", watched)
        template.render([])
    meter = meters[-1]
    return 10**9 - meter.work_left, 10**9 - meter.text_left


@pytest.mark.parametrize("expression", _WORK)
def test_looking_at_much_costs_much_work(expression: str) -> None:
    (before, _), (after, _) = _spent(""), _spent(f"{{% set x = {expression} %}}")
    assert after - before >= _SIZE >> 6


@pytest.mark.parametrize("expression", _TEXT)
def test_making_much_costs_much_text(expression: str) -> None:
    (work_before, before), (work_after, after) = _spent(""), _spent(f"{{% set x = {expression} %}}")
    assert after - before >= _SIZE
    assert work_after - work_before >= _SIZE >> 6


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(10) %}BODY{% endfor %}",
        "{% for i in range(10) if CONDITION %}{% endfor %}",
        "{% for i in range(10) recursive %}BODY{% endfor %}",
        "{% macro m() %}BODY{% endmacro %}" + "{{ m() }}" * 10,
        "{% macro m() %}" + "{{ caller() }}" * 10 + "{% endmacro %}{% call m() %}BODY{% endcall %}",
        "{% block m %}BODY{% endblock %}" + "{{ self.m() }}" * 9,
    ],
)
def test_what_is_repeated_pays_for_its_body_each_time(source: str) -> None:
    body = "{% if nothing %}{% endif %}" * 200
    condition = " and ".join(["true"] * 200)
    (before, _), (after, _) = _spent(""), _spent(source.replace("BODY", body).replace("CONDITION", condition))
    assert after - before > 10 * 200
    (_, before), (_, after) = (
        _spent(""),
        _spent(source.replace("BODY", "x" * 1000).replace("CONDITION", "true")),
    )
    assert after - before >= (10_000 if "BODY" in source else 0)


def test_the_limits_grow_with_what_is_given() -> None:
    source = "{% for m in messages %}{% for i in range(20) %}{{ m.content | upper }}{% endfor %}{% endfor %}"
    limits = Limits(work=10_000, text=10_000, output=40_000)
    template = ChatTemplate.from_source(source.replace("20", "3"), NAME, limits=limits)
    assert len(template.render([{"role": "user", "content": "x" * 1000}] * 200)) == 600_000
    with pytest.raises(TemplateError, match="the template makes too long a prompt"):
        ChatTemplate.from_source(source, NAME, limits=limits).render(
            [{"role": "user", "content": "x" * 1000}] * 200
        )


def test_a_conversation_of_thousands_of_messages_is_rendered() -> None:
    messages = [{"role": role, "content": "word " * 20} for role in ("user", "assistant")] * 2_000
    assert len(_render(CHATML, messages)) > 400_000
    assert _render(ORDINARY["tools"], messages).endswith("80000 words by assistant, user")


# How it fails


def test_a_failure_names_the_file_the_line_and_the_reason() -> None:
    assert _failure("one\n{{ messages[0].content.nothing.more }}\n") == (
        f"{NAME}, line 2: 'str object' has no attribute 'nothing'"
    )
    assert (
        _failure("\n\n{% if %}{% endif %}")
        == f"{NAME}, line 3: Expected an expression, got 'end of statement block'"
    )
    assert _failure("\n{{ 'x' | frobnicate }}") == f"{NAME}, line 2: No filter named 'frobnicate'."
    assert _failure("{% macro m() %}\n{{ 1 + 'a' }}\n{% endmacro %}\n\n{{ m() }}") == (
        f"{NAME}, line 2: unsupported operand type(s) for +: 'int' and 'str'"
    )
    assert _failure("{{ 1 / 0 }}") == f"{NAME}, line 1: division by zero"
    assert _failure("x" * (64 * 2**10 + 1)) == f"{NAME}: expected at most 65536 characters, got 65537"
    assert _failure("{% if true %}" * 300) == f"{NAME}: cannot be compiled: the template is nested too deeply"


def test_a_conversation_that_the_template_refuses_is_told_apart() -> None:
    source = "{% if messages[0].role != 'user' %}\n{{ raise_exception('roles must alternate') }}{% endif %}ok"
    assert _render(source) == "ok"
    with pytest.raises(ConversationRefused) as refused:
        _render(source, [{"role": "assistant", "content": ""}])
    assert str(refused.value) == f"{NAME}, line 2: roles must alternate"
    with pytest.raises(ConversationRefused) as refused:
        _render("{{ raise_exception('x' * 1000) }}")
    assert str(refused.value) == f"{NAME}, line 1: {'x' * 500}"


def test_a_long_reason_is_cut() -> None:
    assert _failure(f"{{{{ {'x' * 2000}.y }}}}") == f"{NAME}, line 1: '{'x' * 499}…"


# Where it comes from


def _write(folder: Path, **files: object) -> None:
    for name, content in files.items():
        path = folder / {"jinja": "chat_template.jinja", "config": "tokenizer_config.json"}[name]
        path.write_bytes(content.encode() if isinstance(content, str) else json.dumps(content).encode())


def test_the_template_file_goes_before_the_configuration(tmp_path: Path) -> None:
    _write(tmp_path, config={"chat_template": "from the configuration", "bos_token": "<s>"})
    assert ChatTemplate.load(tmp_path).render([]) == "from the configuration"
    _write(tmp_path, jinja="{{ bos_token }}from the file\r\nwith its line ends")
    assert ChatTemplate.load(tmp_path).render([]) == "<s>from the file\nwith its line ends"


def test_a_named_template_is_used_for_tools(tmp_path: Path) -> None:
    named = [
        {"name": "default", "template": "plain"},
        {"name": "tool_use", "template": "{{ tools | length }} tools"},
    ]
    _write(tmp_path, config={"chat_template": named})
    template = ChatTemplate.load(tmp_path)
    assert template.render([]) == "plain"
    assert template.render([], tools=[]) == "plain"
    assert template.render([], tools=[{"name": "f"}]) == "1 tools"


def test_special_tokens_come_from_the_configuration(tmp_path: Path) -> None:
    _write(
        tmp_path,
        config={
            "bos_token": {"content": "<s>", "lstrip": False},
            "eos_token": "</s>",
            "pad_token": None,
            "unk_token": 5,
        },
        jinja="{{ bos_token }}{{ eos_token }}{{ pad_token is defined }}{{ unk_token is defined }}",
    )
    assert ChatTemplate.load(tmp_path).render([]) == "<s></s>FalseFalse"


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (
            {"config": {"chat_template": 5}},
            (
                "/tokenizer_config.json: chat_template:"
                " expected a string, or a list of objects with name and template"
            ),
        ),
        (
            {"config": {"chat_template": [{"name": "default", "template": "{{"}]}},
            "/tokenizer_config.json: chat_template[0], line 1: unexpected 'end of template'",
        ),
        ({"config": [1]}, "/tokenizer_config.json: expected an object, got list"),
        (
            {"config": "{"},
            (
                "/tokenizer_config.json: not JSON: Expecting property name enclosed in double quotes:"
                " line 1 column 2 (char 1)"
            ),
        ),
        (
            {"config": "[" * 100_000},
            (
                "/tokenizer_config.json: not JSON: maximum recursion depth exceeded while"
                " decoding a JSON array from a unicode string"
            ),
        ),
        ({"jinja": "{{ x | y }}"}, "/chat_template.jinja, line 1: No filter named 'y'."),
    ],
)
def test_a_folder_without_a_usable_template_is_refused_by_name(
    tmp_path: Path, files: dict[str, object], reason: str
) -> None:
    _write(tmp_path, **files)
    with pytest.raises(TemplateError) as error:
        ChatTemplate.load(tmp_path)
    assert str(error.value) == f"{tmp_path}{reason.replace('/', os.sep, 1)}"


@pytest.mark.parametrize(
    "config", [None, {}, {"chat_template": None}, {"chat_template": [{"name": "rag", "template": ""}]}]
)
def test_a_folder_without_a_template_renders_nothing(tmp_path: Path, config: object) -> None:
    if config is not None:
        _write(tmp_path, config=config)
    template = ChatTemplate.load(tmp_path)
    for tools in (None, [{"type": "function"}]):
        with pytest.raises(NoTemplate) as error:
            template.render(MESSAGES, tools=tools)
        assert str(error.value) == f"{tmp_path}{NO_TEMPLATE}"


def test_a_template_that_is_not_utf8_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(b"a\xff")
    with pytest.raises(TemplateError) as error:
        ChatTemplate.load(tmp_path)
    path = tmp_path / "chat_template.jinja"
    assert str(error.value) == f"{path}: expected UTF-8, got the byte 0xff"
