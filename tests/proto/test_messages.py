"""The messages: the documented examples, each as its JSON says, and every refused request in exact words."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import tracemalloc
from types import ModuleType
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foundry_proto import messages
from foundry_proto.codec import ContentError, decode, encode
from foundry_proto.messages.chat import MAX_MESSAGES, ChatCompletionRequest, UserMessage
from foundry_proto.messages.completions import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionMessage,
    Choice,
    ChunkChoice,
    Delta,
    Usage,
)
from foundry_proto.messages.tools import FunctionDefinition, FunctionTool
from foundry_proto.sentinels import ABSENT
from tests.support.strategies import values_of

EXAMPLE_REQUEST = """{
  "model": "qwen2.5-0.5b-instruct-generic-cpu",
  "messages": [{"role": "user", "content": "Hello, how are you?"}],
  "temperature": 0.7, "top_p": 1, "n": 1, "stream": false, "stop": null, "max_tokens": 100,
  "presence_penalty": 0, "frequency_penalty": 0, "logit_bias": {}, "user": "user_id_123",
  "functions": [], "function_call": null, "metadata": {}
}"""

EXAMPLE_RESPONSE = """{
  "id": "chatcmpl-1234567890", "object": "chat.completion", "created": 1677851234,
  "model": "qwen2.5-0.5b-instruct-generic-cpu",
  "choices": [{
    "index": 0,
    "message": {"role": "assistant", "content": "I'm doing well, thank you! How can I assist you today?"},
    "finish_reason": "stop"
  }],
  "usage": {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}
}"""


def test_the_documented_request_is_read_as_it_stands() -> None:
    request = decode(ChatCompletionRequest, EXAMPLE_REQUEST.encode())
    assert request == ChatCompletionRequest(
        model="qwen2.5-0.5b-instruct-generic-cpu",
        messages=(UserMessage(role="user", content="Hello, how are you?"),),
        temperature=0.7,
        top_p=1.0,
        n=1,
        stream=False,
        stop=None,
        max_tokens=100,
        presence_penalty=0.0,
        frequency_penalty=0.0,
        logit_bias={},
        user="user_id_123",
        functions=(),
        function_call=None,
        metadata={},
    )
    assert json.loads(encode(request)) == json.loads(EXAMPLE_REQUEST)


def test_the_documented_response_is_read_and_written_as_it_stands() -> None:
    completion = decode(ChatCompletion, EXAMPLE_RESPONSE.encode())
    assert completion.choices[0].message.content == "I'm doing well, thank you! How can I assist you today?"
    assert completion.usage == Usage(
        prompt_tokens=10,
        completion_tokens=20,
        total_tokens=30,
        prompt_tokens_details=ABSENT,
        completion_tokens_details=ABSENT,
    )
    # Byte for byte, but for the blanks.
    assert encode(completion) == json.dumps(json.loads(EXAMPLE_RESPONSE), separators=(",", ":")).encode()


def test_the_documented_count_request_is_a_chat_request() -> None:
    data = b"""{"messages": [{"role": "system", "content": "This is a system message"},
        {"role": "user", "content": "Hello, what is Microsoft?"}], "model": "Phi-4-mini-instruct-cuda-gpu"}"""
    request = decode(ChatCompletionRequest, data)
    assert [message.role for message in request.messages] == ["system", "user"]
    assert json.loads(encode(request)) == {**json.loads(data)}


def test_a_completion_of_ours_carries_openais_nulls() -> None:
    completion = ChatCompletion(
        id="chatcmpl-1",
        created=1,
        model="m",
        choices=(Choice(index=0, message=ChatCompletionMessage(content="é"), finish_reason="stop"),),
        usage=Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3),
    )
    assert encode(completion).decode() == (
        '{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,'
        '"message":{"role":"assistant","content":"é","refusal":null},"logprobs":null,"finish_reason":"stop"}],'
        '"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,'
        '"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}},'
        '"system_fingerprint":null}'
    )


def test_a_chunk_without_usage_has_no_such_key() -> None:
    chunk = ChatCompletionChunk(
        id="chatcmpl-1", created=1, model="m", choices=(ChunkChoice(index=0, delta=Delta(content="é")),)
    )
    assert encode(chunk).decode() == (
        '{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,'
        '"delta":{"content":"é"},"logprobs":null,"finish_reason":null}],"system_fingerprint":null}'
    )


MODULES = [
    importlib.import_module(f"{messages.__name__}.{module.name}")
    for module in pkgutil.iter_modules(messages.__path__)
]


def classes(*modules: ModuleType) -> list[type]:
    return [
        cls
        for module in modules
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if attrs.has(cls) and cls.__module__ == module.__name__
    ]


@pytest.mark.parametrize("cls", classes(*MODULES), ids=lambda cls: cls.__name__)
@settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_message_is_what_its_json_says(cls: type, data: st.DataObject) -> None:
    value = data.draw(values_of(cls))
    assert decode(cls, encode(value)) == value


USER = {"role": "user", "content": "x"}
TOOL = {"type": "function", "function": {"name": "f"}}


def request(**properties: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [USER], **properties}).encode()


ROLES = '"system", "developer", "user", "assistant", "tool" or "function"'
FORMATS = '"text", "json_object", "json_schema", "regex" or "lark_grammar"'
PARTS = '"text", "input_text", "image_url", "input_audio", "file" or "refusal"'

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"model": 5}, "model: expected a string, got 5"),
    ({"model": None}, "model: expected a string, got null"),
    ({"messages": None}, "messages: expected an array of one or more messages, got null"),
    ({"messages": "hi"}, 'messages: expected an array of one or more messages, got "hi"'),
    ({"messages": {}}, "messages: expected an array of one or more messages, got an object"),
    ({"messages": []}, "messages: expected at least 1 item, got 0"),
    ({"messages": [USER] * 4097}, "messages: expected at most 4096 items, got 4097"),
    ({"messages": ["hi"]}, 'messages[0]: expected a message, got "hi"'),
    ({"messages": [{}]}, f"messages[0].role: expected {ROLES}, got nothing"),
    ({"messages": [{"content": "x"}]}, f"messages[0].role: expected {ROLES}, got nothing"),
    ({"messages": [USER, {"role": "wizard"}]}, f'messages[1].role: expected {ROLES}, got "wizard"'),
    ({"messages": [{"role": 5}]}, f"messages[0].role: expected {ROLES}, got 5"),
    (
        {"messages": [{"role": "user"}]},
        "messages[0].content: expected a string or an array of parts, got nothing",
    ),
    (
        {"messages": [{"role": "user", "content": 5}]},
        "messages[0].content: expected a string or an array of parts, got 5",
    ),
    (
        {"messages": [{"role": "user", "content": None}]},
        "messages[0].content: expected a string or an array of parts, got null",
    ),
    (
        {"messages": [{"role": "user", "content": [5]}]},
        "messages[0].content[0]: expected a part, got 5",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "video"}]}]},
        f'messages[0].content[0].type: expected {PARTS}, got "video"',
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        "messages[0].content[0].text: expected a string, got nothing",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
        'messages[0].content[0].image_url: expected an object, got "x"',
    ),
    (
        {"messages": [{"role": "tool", "content": "x"}]},
        "messages[0].tool_call_id: expected a string, got nothing",
    ),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"type": "function", "function": {}}]}]},
        "messages[0].tool_calls[0].id: expected a string, got nothing",
    ),
    (
        {"messages": [{"role": "assistant", "tool_calls": [5]}]},
        "messages[0].tool_calls[0]: expected a tool call, got 5",
    ),
    ({"temperature": 3}, "temperature: expected a number from 0 to 2, got 3"),
    ({"temperature": -0.1}, "temperature: expected a number from 0 to 2, got -0.1"),
    ({"temperature": "hot"}, 'temperature: expected a number from 0 to 2, got "hot"'),
    ({"temperature": "0.5"}, 'temperature: expected a number from 0 to 2, got "0.5"'),
    ({"temperature": True}, "temperature: expected a number from 0 to 2, got true"),
    ({"top_p": 1.1}, "top_p: expected a number from 0 to 1, got 1.1"),
    ({"n": 0}, "n: expected an integer from 1 to 128, got 0"),
    ({"n": 129}, "n: expected an integer from 1 to 128, got 129"),
    ({"n": 1.5}, "n: expected an integer from 1 to 128, got 1.5"),
    ({"stream": "true"}, 'stream: expected true or false, got "true"'),
    ({"stream": 1}, "stream: expected true or false, got 1"),
    ({"stream_options": True}, "stream_options: expected an object, got true"),
    (
        {"stream_options": {"include_usage": 1}},
        "stream_options.include_usage: expected true or false, got 1",
    ),
    ({"stop": 5}, "stop: expected a string or an array of at most 4 strings, got 5"),
    ({"stop": [5]}, "stop[0]: expected a string, got 5"),
    ({"stop": list("abcde")}, "stop: expected at most 4 items, got 5"),
    ({"max_tokens": 0}, "max_tokens: expected an integer from 1 to 2147483647, got 0"),
    ({"max_tokens": "10"}, 'max_tokens: expected an integer from 1 to 2147483647, got "10"'),
    (
        {"max_completion_tokens": -1},
        "max_completion_tokens: expected an integer from 1 to 2147483647, got -1",
    ),
    ({"presence_penalty": 2.5}, "presence_penalty: expected a number from -2 to 2, got 2.5"),
    ({"frequency_penalty": -3}, "frequency_penalty: expected a number from -2 to 2, got -3"),
    ({"logit_bias": {"5": 101}}, "logit_bias.5: expected a number from -100 to 100, got 101"),
    ({"logit_bias": []}, "logit_bias: expected an object, got an array"),
    ({"logprobs": 1}, "logprobs: expected true or false, got 1"),
    ({"top_logprobs": 21}, "top_logprobs: expected an integer from 0 to 20, got 21"),
    (
        {"seed": 2**63},
        f"seed: expected an integer from {-(2**63)} to {2**63 - 1}, got {2**63}",
    ),
    ({"user": 5}, "user: expected a string, got 5"),
    ({"functions": {}}, "functions: expected an array of functions, got an object"),
    ({"functions": [{}]}, "functions[0].name: expected a string, got nothing"),
    ({"functions": [5]}, "functions[0]: expected a function, got 5"),
    ({"function_call": 5}, 'function_call: expected "none", "auto" or a named function, got 5'),
    ({"function_call": "all"}, 'function_call: expected "none" or "auto", got "all"'),
    ({"function_call": {"name": 5}}, "function_call.name: expected a string, got 5"),
    ({"tools": "f"}, 'tools: expected an array of tools or a tool, got "f"'),
    ({"tools": [{"type": "custom", "custom": {}}]}, 'tools[0].type: expected "function", got "custom"'),
    ({"tools": [{"type": "function"}]}, "tools[0].function: expected a function, got nothing"),
    (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
        "tools[0].function.parameters: expected an object, got an array",
    ),
    ({"tools": {"type": "custom"}}, 'tools.type: expected "function", got "custom"'),
    ({"tool_choice": "banana"}, 'tool_choice: expected "none", "auto" or "required", got "banana"'),
    ({"tool_choice": {}}, 'tool_choice.type: expected "function" or "allowed_tools", got nothing'),
    (
        {"tool_choice": {"type": "function", "function": {}}},
        "tool_choice.function.name: expected a string, got nothing",
    ),
    ({"parallel_tool_calls": "no"}, 'parallel_tool_calls: expected true or false, got "no"'),
    ({"response_format": "json"}, 'response_format: expected a response format, got "json"'),
    (
        {"response_format": {"type": "xml"}},
        f'response_format.type: expected {FORMATS}, got "xml"',
    ),
    (
        {"response_format": {"type": "json_schema"}},
        "response_format.json_schema: expected an object, got nothing",
    ),
    ({"metadata": "x"}, 'metadata: expected an object, got "x"'),
    ({"top_k": 0.5}, "top_k: expected an integer from 0 to 2147483647, got 0.5"),
    ({"top_k": -1}, "top_k: expected an integer from 0 to 2147483647, got -1"),
    ({"random_seed": "1"}, f'random_seed: expected an integer from {-(2**63)} to {2**63 - 1}, got "1"'),
    ({"ep": 5}, "ep: expected a string, got 5"),
    ({"ttl": -1}, "ttl: expected an integer from 0 to 2147483647, got -1"),
]


@pytest.mark.parametrize(("properties", "message"), REFUSED, ids=[message[:60] for _, message in REFUSED])
def test_a_wrong_property_is_refused_by_name(properties: dict[str, Any], message: str) -> None:
    with pytest.raises(ContentError) as caught:
        decode(ChatCompletionRequest, request(**properties))
    assert str(caught.value) == message
    assert caught.value.param == message.partition(":")[0]


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_a_required_property_is_missed_by_name(missing: str) -> None:
    plain = json.loads(request())
    del plain[missing]
    expected = {"model": "a string", "messages": "an array of one or more messages"}[missing]
    with pytest.raises(ContentError) as caught:
        decode(ChatCompletionRequest, json.dumps(plain).encode())
    assert str(caught.value) == f"{missing}: expected {expected}, got nothing"


@pytest.mark.parametrize(
    "properties",
    [{one.name: None} for one in attrs.fields(ChatCompletionRequest)[2:]],
    ids=str,
)
def test_every_optional_property_may_be_null(properties: dict[str, None]) -> None:
    (name,) = properties
    assert getattr(decode(ChatCompletionRequest, request(**properties)), name) is None
    assert getattr(decode(ChatCompletionRequest, request()), name) is ABSENT


def test_the_documented_forms_of_tools_mean_the_same_functions() -> None:
    tool = FunctionTool(type="function", function=FunctionDefinition(name="f"))
    assert decode(ChatCompletionRequest, request(tools=[TOOL])).tools == (tool,)
    assert decode(ChatCompletionRequest, request(tools=TOOL)).tools == tool


@pytest.mark.parametrize("top_k", [40, 40.0])
def test_top_k_is_a_whole_number_however_it_is_written(top_k: float) -> None:
    value = decode(ChatCompletionRequest, request(top_k=top_k)).top_k
    assert (value, type(value)) == (40, int)


def test_a_hundred_thousand_messages_are_refused_within_bounded_memory() -> None:
    data = request(messages=[USER] * 100_000)
    tracemalloc.start()
    with pytest.raises(ContentError, match=rf"^messages: expected at most {MAX_MESSAGES} items, got 100000$"):
        decode(ChatCompletionRequest, data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Plain values are ten times their text; the classes for them, which are larger, are never made.
    assert peak < 12 * len(data)
