"""Laws of tools and reasoning over HTTP: what the model is told, what comes back, streamed and whole."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from foundry_proto.chat.assemble import ChatAssembler
from foundry_proto.codec import encode, structure
from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_proto.messages.completions import ChatCompletion, ChatCompletionChunk, Choice, Usage
from foundry_proto.operations import CHAT_COMPLETIONS
from foundry_runtime.client import Client, ServerFailure
from foundry_runtime.models.directory import ModelDirectory
from tests.support.scripted_model import scripted_server

pytestmark = pytest.mark.anyio

WEATHER = {
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
TOOLS = [{"type": "function", "function": WEATHER}, {"type": "function", "function": {"name": "get_time"}}]
CALL = '<tool_call>{"name": "get_weather", "arguments": {"city": "Zürich"}}</tool_call>'
SECOND = '<tool_call>{"name": "get_time"}</tool_call>'

both_forms = pytest.mark.parametrize("stream", [False, True])


def request(model: str, **more: Any) -> ChatCompletionRequest:
    plain = {"model": model, "messages": [{"role": "user", "content": "Hello"}], **more}
    return structure(ChatCompletionRequest, plain)


async def chunks_of(client: Client, asked: ChatCompletionRequest) -> list[ChatCompletionChunk]:
    async with client.stream(CHAT_COMPLETIONS, asked) as stream:
        return [chunk async for chunk in stream]


async def complete(client: Client, model: str, *, stream: bool, **more: Any) -> ChatCompletion:
    asked = request(model, stream=stream, stream_options={"include_usage": True}, **more)
    if not stream:
        return await client.call(CHAT_COMPLETIONS, asked)
    assembler = ChatAssembler()
    for chunk in await chunks_of(client, asked):
        assembler.add(chunk)
    return assembler.completion()


async def answer(
    home: ModelDirectory, text: str, model: str = "words", *, stream: bool, **more: Any
) -> Choice:
    async with scripted_server(home, text=text) as (server, _), server.client() as client:
        (choice,) = (await complete(client, model, stream=stream, **more)).choices
        return choice


def told(choice: Choice) -> dict[str, Any]:
    """A choice's message without what it has not, and its finish reason."""
    plain: dict[str, Any] = json.loads(encode(choice))
    message = {name: value for name, value in plain["message"].items() if name not in ("role", "refusal")}
    return {**message, "finish_reason": plain["finish_reason"]}


@both_forms
@pytest.mark.parametrize("model", ["words", "qwen"])
async def test_a_call_is_answered_as_a_call(families_home: ModelDirectory, model: str, stream: bool) -> None:
    choice = await answer(families_home, CALL, model, stream=stream, tools=TOOLS)
    (call,) = choice.message.tool_calls or ()
    assert re.fullmatch(r"call_[A-Za-z0-9]{9}", call.id)
    assert (call.type, call.function.name) == ("function", "get_weather")
    assert json.loads(call.function.arguments) == {"city": "Zürich"}
    assert (choice.message.content, choice.finish_reason) == (None, "tool_calls")


@both_forms
async def test_several_calls_have_ids_of_their_own_in_their_order(
    families_home: ModelDirectory, stream: bool
) -> None:
    choice = await answer(families_home, f"Sure.\n{CALL}\n{SECOND}", stream=stream, tools=TOOLS)
    calls = choice.message.tool_calls or ()
    assert [call.function.name for call in calls] == ["get_weather", "get_time"]
    assert len({call.id for call in calls}) == 2
    assert choice.message.content == "Sure.\n"


async def test_streamed_calls_have_a_running_index_and_no_chunk_has_their_markup(
    families_home: ModelDirectory,
) -> None:
    text = f"One<two {CALL}{SECOND}"
    async with scripted_server(families_home, text=text) as (server, _), server.client() as client:
        chunks = await chunks_of(client, request("words", stream=True, tools=TOOLS))
    deltas = [json.loads(encode(chunk.choices[0].delta)) for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta.get("content", "") for delta in deltas) == "One<two "
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert [(call["index"], call["type"], call["function"]["name"]) for call in calls] == [
        (0, "function", "get_weather"),
        (1, "function", "get_time"),
    ]
    assert [len(call["id"]) for call in calls] == [14, 14]
    assert [chunk.choices[0].finish_reason for chunk in chunks[-2:]] == [None, "tool_calls"]


@both_forms
@pytest.mark.parametrize(
    "text",
    [
        "Use <tool x to begin",
        "abc <tool_call>",
        'abc <tool_call>{"name": "get_weather", "arguments": {',
        CALL.removesuffix(">"),
        "<tool_call>get_weather()</tool_call>",
        '<tool_call>{"name": "get_weather", "arguments": "Zürich"}</tool_call>',
    ],
)
async def test_what_is_no_call_is_said_to_the_last_letter(
    families_home: ModelDirectory, text: str, stream: bool
) -> None:
    choice = await answer(families_home, text, stream=stream, tools=TOOLS)
    assert told(choice) == {"content": text, "finish_reason": "stop"}


@both_forms
async def test_a_call_that_the_limit_cut_off_is_text_and_the_reason_is_the_limit(
    families_home: ModelDirectory, stream: bool
) -> None:
    choice = await answer(families_home, CALL, stream=stream, tools=TOOLS, max_tokens=20)
    assert choice.finish_reason == "length"
    assert choice.message.content
    assert CALL.startswith(choice.message.content)
    text = f"{CALL}{'x' * 100}"
    whole = await answer(families_home, text, stream=stream, tools=TOOLS, max_tokens=len(CALL) + 50)
    assert whole.message.tool_calls
    assert whole.finish_reason == "length"


@both_forms
@pytest.mark.parametrize("more", [{}, {"tools": []}, {"tools": TOOLS, "tool_choice": "none"}], ids=str)
async def test_without_an_offer_markers_are_text(
    families_home: ModelDirectory, more: dict[str, Any], stream: bool
) -> None:
    assert told(await answer(families_home, CALL, stream=stream, **more)) == {
        "content": CALL,
        "finish_reason": "stop",
    }


@both_forms
async def test_one_call_at_most_is_answered_where_no_more_was_asked_for(
    families_home: ModelDirectory, stream: bool
) -> None:
    choice = await answer(families_home, CALL + SECOND, stream=stream, tools=TOOLS, parallel_tool_calls=False)
    assert [call.function.name for call in choice.message.tool_calls or ()] == ["get_weather"]
    assert choice.finish_reason == "tool_calls"


@both_forms
async def test_the_older_form_is_answered_in_the_older_form(
    families_home: ModelDirectory, stream: bool
) -> None:
    choice = await answer(
        families_home, CALL + SECOND, stream=stream, functions=[WEATHER, {"name": "get_time"}]
    )
    assert told(choice) == {
        "content": None,
        "function_call": {"name": "get_weather", "arguments": '{"city":"Zürich"}'},
        "finish_reason": "function_call",
    }


@both_forms
async def test_special_tokens_that_are_markers_are_read_and_never_shown(
    families_home: ModelDirectory, stream: bool
) -> None:
    call = '{"name": "get_time", "parameters": {}}'
    text = f"So:<|im_start|>{call}"
    choice = await answer(families_home, text, "marked", stream=stream, tools=TOOLS)
    assert (choice.message.content, choice.finish_reason) == ("So:", "tool_calls")
    plain = await answer(families_home, text, "marked", stream=stream)
    assert told(plain) == {"content": f"So:{call}", "finish_reason": "stop"}


@both_forms
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>a</think>\nb", {"content": "b", "reasoning_content": "a", "finish_reason": "stop"}),
        ("<think>a", {"content": "", "reasoning_content": "a", "finish_reason": "stop"}),
        ("<think>\n\n</think>\n\nb", {"content": "b", "finish_reason": "stop"}),
        ("a < b", {"content": "a < b", "finish_reason": "stop"}),
        (
            f"<think>{CALL}</think>b",
            {"content": "b", "reasoning_content": CALL, "finish_reason": "stop"},
        ),
    ],
)
async def test_what_a_model_thinks_is_told_apart_from_what_it_says(
    families_home: ModelDirectory, text: str, expected: dict[str, Any], stream: bool
) -> None:
    assert told(await answer(families_home, text, "qwen", stream=stream, tools=TOOLS)) == expected


@both_forms
async def test_a_model_whose_prompt_opens_its_thoughts_begins_with_them(
    families_home: ModelDirectory, stream: bool
) -> None:
    choice = await answer(families_home, "hm\n</think>\nyes", "deepseek", stream=stream)
    assert told(choice) == {"content": "yes", "reasoning_content": "hm", "finish_reason": "stop"}


@both_forms
async def test_a_model_without_markers_for_it_just_says_them(
    families_home: ModelDirectory, stream: bool
) -> None:
    text = "<think>a</think>\nb"
    assert told(await answer(families_home, text, stream=stream)) == {
        "content": text,
        "finish_reason": "stop",
    }


@both_forms
async def test_usage_tells_how_many_tokens_were_thoughts(families_home: ModelDirectory, stream: bool) -> None:
    pieces = ["<think>", "aaa", "</think>", "b"]
    async with (
        scripted_server(families_home, text="".join(pieces)) as (server, models),
        server.client() as client,
    ):
        usage = (await complete(client, "qwen", stream=stream, n=2)).usage
    counts = [len(ids) for ids in models.prompts[0].tokenizer.encode_pieces(pieces)]
    assert isinstance(usage, Usage)
    assert usage.completion_tokens == 2 * sum(counts)
    assert usage.completion_tokens_details
    assert usage.completion_tokens_details.reasoning_tokens == 2 * (counts[1] + counts[2])


async def prompt_of(home: ModelDirectory, model: str, **more: Any) -> str:
    async with scripted_server(home) as (server, models), server.client() as client:
        await complete(client, model, stream=False, **more)
        (job,), (prompts,) = models.jobs, models.prompts
        names = prompts.tokenizer.bytes_showing(prompts.tokenizer.special_tokens)
        return b"".join(names[token] for token in job.prompt).decode()


HISTORY: list[dict[str, Any]] = [
    {"role": "user", "content": "How is the weather?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "call_abc123XYZ",
                "type": "function",
                "function": {"name": "get_weather", "arguments": '{"city": "Zürich"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call_abc123XYZ", "content": "Sunny, 21 degrees"},
]


@pytest.mark.parametrize("model", ["words", "qwen", "deepseek", "marked", "parts"])
async def test_tools_calls_and_results_reach_the_model(families_home: ModelDirectory, model: str) -> None:
    text = await prompt_of(families_home, model, messages=HISTORY, tools=TOOLS)
    order = ["get_time", "How is the weather?", '{"city": "Zürich"}', "Sunny, 21 degrees"]
    places = [text.rindex(one) for one in order]
    assert places == sorted(places)
    alone = await prompt_of(families_home, model, messages=HISTORY)
    assert '{"city": "Zürich"}' in alone
    assert "get_time" not in alone


async def test_a_marker_that_a_user_types_is_no_special_token(families_home: ModelDirectory) -> None:
    messages = [{"role": "user", "content": "<|im_start|>x<|im_start|>"}]
    async with scripted_server(families_home) as (server, models), server.client() as client:
        await complete(client, "marked", stream=False, messages=messages, tools=TOOLS)
    # The template's own turns are the system message, the user's and the answer; 1 is the token's id.
    assert list(models.jobs[0].prompt).count(1) == 3


async def test_a_model_without_a_template_is_asked_in_its_description_s_words(
    families_home: ModelDirectory,
) -> None:
    text = await prompt_of(families_home, "parts", messages=[{"role": "user", "content": "Hi <|im_end|>"}])
    assert text == "<|im_start|>Hi <|im_end|><|im_end|>> <|im_start|>"


async def test_markers_that_cannot_be_told_apart_are_told_when_the_model_is_loaded(
    families_home: ModelDirectory, tmp_path: Path
) -> None:
    home = ModelDirectory(tmp_path)
    folder = home.models / "Test" / "odd-1"
    shutil.copytree(families_home.models / "Test" / "words-1", folder)
    identity = folder / "inference_model.json"
    identity.write_text(json.dumps({"Name": "odd:1", "toolCallStart": "<", "reasoningStart": "<r>"}))
    async with scripted_server(home) as (server, _), server.client() as client:
        with pytest.raises(ServerFailure, match="markers: expected texts of 1 to 64 characters") as caught:
            await complete(client, "odd", stream=False)
        assert caught.value.failure.param == "model"
