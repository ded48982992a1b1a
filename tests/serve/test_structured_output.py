"""Answers of the form that a request asks for, over HTTP: whatever the model would rather say."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest

from foundry_proto.chat.assemble import ChatAssembler
from foundry_proto.codec import encode, structure
from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_proto.messages.completions import ChatCompletion, Choice
from foundry_proto.operations import CHAT_COMPLETIONS
from foundry_runtime.client import Client, ServerFailure
from foundry_runtime.models.directory import ModelDirectory
from tests.support.json_schemas import UNSUPPORTED
from tests.support.scripted_model import scripted_server

pytestmark = pytest.mark.anyio

both_forms = pytest.mark.parametrize("stream", [False, True])

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "age": {"type": "integer", "maximum": 150, "minimum": 0},
    },
    "required": ["name", "age"],
}
JOE = '{"name": "Joe", "age": 30}'


def schema_format(schema: object, **more: object) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, **more}}


def request(model: str, **more: Any) -> ChatCompletionRequest:
    plain = {"model": model, "messages": [{"role": "user", "content": "Hello"}], **more}
    return structure(ChatCompletionRequest, plain)


async def complete(client: Client, model: str, *, stream: bool, **more: Any) -> ChatCompletion:
    asked = request(model, stream=stream, stream_options={"include_usage": True}, **more)
    if not stream:
        return await client.call(CHAT_COMPLETIONS, asked)
    assembler = ChatAssembler()
    async with client.stream(CHAT_COMPLETIONS, asked) as chunks:
        async for chunk in chunks:
            assembler.add(chunk)
    return assembler.completion()


async def answers(home: ModelDirectory, text: str, model: str, *, stream: bool, **more: Any) -> list[Choice]:
    async with scripted_server(home, text=text) as (server, _), server.client() as client:
        return list((await complete(client, model, stream=stream, **more)).choices)


async def answer(
    home: ModelDirectory, text: str, model: str = "words", *, stream: bool = False, **more: Any
) -> Choice:
    (choice,) = await answers(home, text, model, stream=stream, **more)
    return choice


def content(choice: Choice) -> str:
    assert isinstance(choice.message.content, str)
    return choice.message.content


@both_forms
@pytest.mark.parametrize("text", ["I would rather talk.", '{"nome": 1', "[[[[", JOE, ""])
async def test_whatever_the_model_would_say_the_answer_is_valid(
    families_home: ModelDirectory, text: str, stream: bool
) -> None:
    choice = await answer(families_home, text, stream=stream, response_format=schema_format(PERSON))
    jsonschema.validate(json.loads(content(choice)), PERSON)
    assert choice.finish_reason == "stop"
    if text == JOE:
        assert content(choice) == JOE


async def test_each_choice_has_the_form(families_home: ModelDirectory) -> None:
    choices = await answers(
        families_home, "no", "words", stream=False, n=3, response_format=schema_format(PERSON)
    )
    assert [choice.index for choice in choices] == [0, 1, 2]
    for choice in choices:
        jsonschema.validate(json.loads(content(choice)), PERSON)


@both_forms
async def test_a_cut_answer_is_a_beginning_of_a_valid_one(
    families_home: ModelDirectory, stream: bool
) -> None:
    choice = await answer(
        families_home, JOE, stream=stream, response_format=schema_format(PERSON), max_tokens=7
    )
    assert choice.finish_reason == "length"
    assert JOE.startswith(content(choice))
    whole = await answer(
        families_home, JOE, stream=stream, response_format=schema_format(PERSON), max_tokens=len(JOE)
    )
    assert (whole.finish_reason, content(whole)) == ("stop", JOE)  # with the last token that is allowed


async def test_a_stop_text_ends_the_answer_there_valid_or_not(families_home: ModelDirectory) -> None:
    choice = await answer(families_home, JOE, response_format=schema_format(PERSON), stop=", ")
    assert (choice.finish_reason, content(choice)) == ("stop", '{"name": "Joe"')


@pytest.mark.parametrize("strict", [True, False, None])
async def test_a_schema_is_obeyed_strict_or_not(families_home: ModelDirectory, strict: bool | None) -> None:
    asked = schema_format(PERSON, strict=strict)
    assert json.loads(content(await answer(families_home, "no", response_format=asked)))


async def test_without_a_schema_any_object_will_do(families_home: ModelDirectory) -> None:
    said = '{"a": [1, {"b": null}], "c": "d"}'
    for asked in ({"type": "json_object"}, {"type": "json_schema", "json_schema": {"name": "x"}}):
        assert content(await answer(families_home, f"{said} and more", response_format=asked)) == said
        cut = await answer(families_home, "[1, 2]", response_format=asked, max_tokens=20)
        assert content(cut).startswith("{")


async def test_an_expression_or_a_grammar_is_obeyed(families_home: ModelDirectory) -> None:
    asked: dict[str, Any] = {"type": "regex", "regex": "(yes|no), [a-c]{3}"}
    choice = await answer(families_home, "no, maybe", response_format=asked)
    assert re.fullmatch("no, [a-c]{3}", content(choice))
    asked = {"type": "lark_grammar", "lark_grammar": 'start: "<" /[0-9]{2}/ ">"'}
    assert content(await answer(families_home, "<42> is it", response_format=asked)) == "<42>"


async def test_log_probabilities_are_the_models_own(families_home: ModelDirectory) -> None:
    choice = await answer(
        families_home, "no", response_format={"type": "regex", "regex": "yes"}, logprobs=True, top_logprobs=1
    )
    logprobs = json.loads(encode(choice))["logprobs"]["content"]
    assert logprobs[0]["token"] == "y"
    assert (
        logprobs[0]["logprob"] < logprobs[0]["top_logprobs"][0]["logprob"]
    )  # it would rather have said "no"


async def test_what_cannot_be_enforced_is_refused_by_name_and_no_engine_is_asked(
    families_home: ModelDirectory,
) -> None:
    async with scripted_server(families_home) as (server, models), server.client() as client:
        for keyword, (schema, path) in UNSUPPORTED.items():
            with pytest.raises(ServerFailure) as caught:
                await complete(client, "words", stream=True, response_format=schema_format(schema))
            failure = caught.value.failure
            place = f"response_format.json_schema.schema.{path}"
            assert (failure.status, failure.param, failure.type) == (400, place, "invalid_request_error")
            assert failure.message.startswith(f"{place}: ")
            assert keyword.partition(" ")[0] in failure.message
        assert models.jobs == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"response_format": {"type": "regex", "regex": "a("}},
            "response_format.regex: not a regular expression that is supported: unclosed group",
        ),
        (
            {"response_format": {"type": "lark_grammar", "lark_grammar": "start: x"}},
            'response_format.lark_grammar: line 1, column 8: unknown name: "x"',
        ),
        (
            {"response_format": schema_format({"items": 5})},
            "response_format.json_schema.schema.items: expected a schema: an object, true or false, got 5",
        ),
        (
            {
                "tools": [
                    {"type": "function", "function": {"name": "f"}},
                    {"type": "function", "function": {"name": "g", "parameters": {"minProperties": -1}}},
                ],
                "tool_choice": "required",
            },
            "tools[1].function.parameters.minProperties: expected an integer of at least 0, got -1",
        ),
        (
            {
                "functions": [{"name": "f", "parameters": {"type": "array"}}],
                "function_call": {"name": "f"},
            },
            'functions[0].parameters.type: expected "object": arguments are named',
        ),
    ],
)
async def test_a_form_that_is_none_is_refused(
    families_home: ModelDirectory, more: dict[str, Any], message: str
) -> None:
    async with scripted_server(families_home) as (server, _), server.client() as client:
        with pytest.raises(ServerFailure) as caught:
            await complete(client, "words", stream=False, **more)
    assert (caught.value.failure.status, caught.value.failure.message) == (400, message)


# Tools.

WEATHER = {
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 6}, "days": {"enum": [1, 7]}},
        "required": ["city", "days"],
    },
}
TIME = {"name": 'get "time"'}
TOOLS = [{"type": "function", "function": WEATHER}, {"type": "function", "function": TIME}]
NAMED = {"type": "function", "function": {"name": "get_weather"}}


def calls_of(choice: Choice) -> list[tuple[str, dict[str, Any]]]:
    return [
        (call.function.name, json.loads(call.function.arguments)) for call in choice.message.tool_calls or ()
    ]


@both_forms
@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("words", "It is sunny."),
        ("words", '<tool_call>\n{"name": "get_weather", "arguments": {"city": 5'),
        ("qwen", "<tool_call>It is sunny."),
        ("deepseek", "Hm.</think>It is sunny."),
        ("marked", "It is sunny."),
        ("parts", "It is sunny."),
    ],
)
async def test_a_call_that_is_required_is_made_in_each_familys_way(
    families_home: ModelDirectory, model: str, text: str, stream: bool
) -> None:
    choice = await answer(
        families_home, text, model, stream=stream, tools=TOOLS, tool_choice=NAMED, max_tokens=200
    )
    ((name, arguments),) = calls_of(choice)
    assert name == "get_weather"
    jsonschema.validate(arguments, WEATHER["parameters"])
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)


@pytest.mark.parametrize(
    ("model", "more", "count"),
    [
        ("qwen", {}, 2),
        ("words", {"parallel_tool_calls": True}, 2),
        ("words", {}, 1),  # which was never taught to call tools, and would go on calling
        ("qwen", {"parallel_tool_calls": False}, 1),
    ],
)
async def test_a_required_call_is_any_of_the_tools_and_may_be_several(
    families_home: ModelDirectory, model: str, more: dict[str, Any], count: int
) -> None:
    first = '<tool_call>\n{"name": "get \\"time\\"", "arguments": {}}\n</tool_call>'
    second = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo", "days": 7}}\n</tool_call>'
    calls = [('get "time"', {}), ("get_weather", {"city": "Oslo", "days": 7})]
    text = f"{first}\n{second}"
    choice = await answer(families_home, text, model, tools=TOOLS, tool_choice="required", **more)
    assert calls_of(choice) == calls[:count]
    assert choice.finish_reason == "tool_calls"


async def test_a_function_that_is_named_in_the_older_form_is_called(families_home: ModelDirectory) -> None:
    choice = await answer(
        families_home, "Sunny", functions=[WEATHER, TIME], function_call={"name": "get_weather"}
    )
    assert choice.finish_reason == "function_call"
    assert choice.message.function_call
    jsonschema.validate(json.loads(choice.message.function_call.arguments), WEATHER["parameters"])


@both_forms
@pytest.mark.parametrize("model", ["words", "marked"])
async def test_strict_tools_bind_calls_and_nothing_else(
    families_home: ModelDirectory, model: str, stream: bool
) -> None:
    strict = [{"type": "function", "function": {**WEATHER, "strict": True}}]
    free = await answer(families_home, "It is <sunny>.", model, stream=stream, tools=strict)
    assert (content(free), free.finish_reason) == ("It is <sunny>.", "stop")
    begin = "<|im_start|>" if model == "marked" else "<tool_call>"
    text = f'Well: {begin}{{"name": "get_weather", "arguments": {{"nonsense": true}}}}'
    bound = await answer(families_home, text, model, stream=stream, tools=strict, max_tokens=200)
    ((name, arguments), *_) = calls_of(bound)
    assert name == "get_weather"
    jsonschema.validate(arguments, WEATHER["parameters"])
    assert content(bound).startswith("Well: ")


@both_forms
async def test_an_answer_with_a_form_may_still_be_a_call(families_home: ModelDirectory, stream: bool) -> None:
    more: dict[str, Any] = {"stream": stream, "tools": TOOLS, "response_format": schema_format(PERSON)}
    assert json.loads(content(await answer(families_home, JOE, **more))) == json.loads(JOE)
    call = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo", "days": 1}}\n</tool_call>'
    assert calls_of(await answer(families_home, call, **more)) == [
        ("get_weather", {"city": "Oslo", "days": 1})
    ]
    other = await answer(families_home, "Well", **more, tool_choice="none")
    jsonschema.validate(json.loads(content(other)), PERSON)


# Reasoning.


@both_forms
@pytest.mark.parametrize(
    ("model", "text", "thought"),
    [
        ("qwen", f"<think>\nHm: {{}}</think>\n\n{JOE}", "Hm: {}"),
        ("qwen", JOE, None),
        ("deepseek", f"Hm</think>{JOE} and more", "Hm"),
    ],
)
async def test_a_form_binds_what_is_behind_reasoning(
    families_home: ModelDirectory, model: str, text: str, thought: str | None, stream: bool
) -> None:
    choice = await answer(families_home, text, model, stream=stream, response_format=schema_format(PERSON))
    assert (content(choice), choice.message.reasoning_content or None) == (JOE, thought)
    assert choice.finish_reason == "stop"
