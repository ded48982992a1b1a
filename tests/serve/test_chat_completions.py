"""Laws of `POST /v1/chat/completions`: what reaches the engine, what comes back, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from foundry_proto.chat.assemble import ChatAssembler
from foundry_proto.codec import structure
from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_proto.messages.completions import ChatCompletion, ChatCompletionChunk, Usage
from foundry_proto.operations import CHAT_COMPLETIONS
from foundry_runtime.client import Client, ServerFailure
from foundry_runtime.engine.api import EngineLost, Sampling
from foundry_runtime.engine.scripted import ScriptedEngine
from foundry_runtime.models.directory import ModelDirectory
from tests.serve.conftest import add_model
from tests.support.scripted_model import scripted_server
from tests.support.serving import at_rest, until
from tests.support.tiny_model import MODEL_ID, byte_level_fields

TINY = MODEL_ID.partition(":")[0]

pytestmark = pytest.mark.anyio


def request(**more: Any) -> ChatCompletionRequest:
    plain = {"model": TINY, "messages": [{"role": "user", "content": "Hello"}], **more}
    return structure(ChatCompletionRequest, plain)


async def ask(client: Client, **more: Any) -> ChatCompletion:
    return await client.call(CHAT_COMPLETIONS, request(**more))


def said(completion: ChatCompletion) -> str | None:
    return completion.choices[0].message.content


async def test_whole_and_streamed_answers_say_the_same(tiny_home: ModelDirectory) -> None:
    text = "naïve 日本語 👩‍👩‍👧 and more"
    async with scripted_server(tiny_home, text=text) as (server, _), server.client() as client:
        whole = await ask(client)
        assert said(whole) == text
        streamed = request(stream=True, stream_options={"include_usage": True})
        async with client.stream(CHAT_COMPLETIONS, streamed) as stream:
            chunks = [chunk async for chunk in stream]
        assert "".join(part.delta.content or "" for chunk in chunks for part in chunk.choices) == text
        assert chunks[-1].usage == whole.usage
        assert whole.id.startswith("chatcmpl-")
        assert (whole.model, whole.choices[0].finish_reason) == (TINY, "stop")


async def test_usage_counts_the_prompt_and_the_tokens_said(tiny_home: ModelDirectory) -> None:
    async with scripted_server(tiny_home) as (server, models), server.client() as client:
        usage = (await ask(client)).usage
        assert isinstance(usage, Usage)
        assert usage.prompt_tokens == len(models.jobs[0].prompt)
        assert usage.completion_tokens == models.engines[0].counters.generated_tokens - 1
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


@pytest.mark.parametrize("name", [TINY, MODEL_ID, MODEL_ID.upper()])
async def test_a_model_answers_to_each_of_its_names_and_is_echoed_as_asked(
    tiny_home: ModelDirectory, name: str
) -> None:
    async with scripted_server(tiny_home) as (server, _), server.client() as client:
        assert (await ask(client, model=name)).model == name


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        ({}, 64),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6, "max_tokens": 5}, 6),
        ({"max_completion_token": 7}, 7),
        ({"max_tokens": None}, 64),
    ],
)
async def test_the_allowed_output_is_the_requests_else_the_models(
    tiny_home: ModelDirectory, given: dict[str, int], allowed: int
) -> None:
    async with scripted_server(tiny_home) as (server, models), server.client() as client:
        await ask(client, **given)
        assert models.jobs[0].max_tokens == allowed


async def test_without_a_limit_the_output_never_passes_the_context(tiny_home: ModelDirectory) -> None:
    async with scripted_server(tiny_home, text="x" * 100) as (server, models), server.client() as client:
        long = [{"role": "user", "content": "a b c d e f g h " * 32}]
        completion = await ask(client, messages=long)
        (job,) = models.jobs
        assert len(job.prompt) + job.max_tokens == 512
        assert completion.choices[0].finish_reason == "length"
        short = await ask(client)  # cut by what the model allows an answer
        assert (short.choices[0].finish_reason, said(short)) == ("length", "x" * 64)


async def test_sampling_reaches_the_engine(tiny_home: ModelDirectory) -> None:
    async with scripted_server(tiny_home) as (server, models), server.client() as client:
        await ask(client, temperature=0.5, top_p=0.25, top_k=40.0, seed=7)
        assert models.jobs[0].sampling == Sampling(temperature=0.5, top_p=0.25, top_k=40, seed=7)
        penalties = {
            "presence_penalty": 1,
            "frequency_penalty": -0.5,
            "min_p": 0.1,
            "repetition_penalty": 1.2,
        }
        await ask(client, **penalties, metadata={"top_k": "9", "random_seed": "8"}, logit_bias={"17": -100})
        assert models.jobs[1].sampling == Sampling(top_k=9, seed=8, logit_bias={17: -100}, **penalties)


async def test_a_bias_and_penalties_change_what_is_said(tiny_home: ModelDirectory) -> None:
    tokens = byte_level_fields()["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    b, c = str(tokens.index("b")), str(tokens.index("c"))
    async with scripted_server(tiny_home, text="b" * 8) as (server, _), server.client() as client:
        assert said(await ask(client)) == "b" * 8
        assert said(await ask(client, logit_bias={b: -5, c: 6})) == "c" * 8
        # The script prefers b by 10. Each time that one of them is said, the other gains 2.
        assert said(await ask(client, frequency_penalty=2, logit_bias={c: 7})) == "bbcbcbcb"
        assert said(await ask(client, presence_penalty=2, logit_bias={c: 9})) == "bcbbbbbb"


@pytest.mark.parametrize(
    ("stop", "expected", "reason"),
    [
        ("two", "one ", "stop"),
        (["three", "o t"], "one tw", "stop"),
        (["four", ""], "one two three", "stop"),
        ("one", "", "stop"),
        ([], "one two three", "stop"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_text_ends_before_a_stop_sequence(
    tiny_home: ModelDirectory, stop: object, expected: str, reason: str, stream: bool
) -> None:
    async with scripted_server(tiny_home) as (server, _), server.client() as client:
        if stream:
            async with client.stream(CHAT_COMPLETIONS, request(stream=True, stop=stop)) as chunks:
                parts = [chunk.choices[0] async for chunk in chunks]
            assert "".join(part.delta.content or "" for part in parts) == expected
            assert parts[-1].finish_reason == reason
        else:
            completion = await ask(client, stop=stop)
            assert (said(completion), completion.choices[0].finish_reason) == (expected, reason)


@pytest.mark.parametrize("stream", [False, True])
async def test_each_of_n_choices_has_its_index_its_text_and_its_end_and_usage_counts_all(
    tiny_home: ModelDirectory, stream: bool
) -> None:
    async with scripted_server(tiny_home) as (server, models), server.client() as client:
        alone = (await ask(client)).usage
        assert isinstance(alone, Usage)
        asked = request(n=3, seed=5, stream=stream, stream_options={"include_usage": True})
        if stream:
            async with client.stream(CHAT_COMPLETIONS, asked) as chunks:
                assembler = ChatAssembler()
                async for chunk in chunks:
                    assembler.add(chunk)
            answer = assembler.completion()
        else:
            answer = await client.call(CHAT_COMPLETIONS, asked)
        assert [choice.index for choice in answer.choices] == [0, 1, 2]
        assert {choice.message.content for choice in answer.choices} == {"one two three"}
        assert {choice.finish_reason for choice in answer.choices} == {"stop"}
        assert isinstance(answer.usage, Usage)
        assert answer.usage.prompt_tokens == alone.prompt_tokens
        assert answer.usage.completion_tokens == 3 * alone.completion_tokens
        jobs = models.jobs[1:]
        assert [job.sampling.seed for job in jobs] == [5, 6, 7]
        assert len({id(job.prompt) for job in jobs}) == 1


async def test_choices_without_a_seed_are_drawn_apart(tiny_home: ModelDirectory) -> None:
    async with scripted_server(tiny_home) as (server, models), server.client() as client:
        await ask(client, n=2)
        assert [job.sampling.seed for job in models.jobs] == [None, None]


async def test_a_choice_that_fails_ends_the_others_and_the_answer(tiny_home: ModelDirectory) -> None:
    def script_of(script: Any) -> Any:
        said = []

        def one(prompt: Any) -> Any:
            said.append(prompt)
            if len(said) == 2:
                raise RuntimeError("the second choice is out of luck")
            return script(prompt)

        return one

    def engine(script: Any, **more: Any) -> ScriptedEngine:
        return ScriptedEngine(lazily(script_of(script)), **more)

    async with scripted_server(tiny_home, engine=engine) as (server, models), server.client() as client:
        with pytest.raises(ServerFailure, match=r"^generation failed: the second choice is out of luck$"):
            await ask(client, n=3)
        assert said(await ask(client)) == "one two three"
        assert models.engines[0].step() == ()


def lazily(script: Any) -> Any:
    """The same script, failing only when its first token is wanted."""

    def tokens(prompt: Any) -> Any:
        yield from script(prompt)

    return tokens


# ruff: noqa: E501
BAD = [
    ({"model": "nope"}, 404, "model",
     "model: No OpenAIService provider found for modelName:nope. No model of this name is here"),
    ({"model": "smollm2-135m"}, 404, "model",
     "model: No OpenAIService provider found for modelName:smollm2-135m. The model is not on this machine yet: download it first"),
    ({"temperature": 3}, 400, "temperature", "temperature: expected a number from 0 to 2, got 3"),
    ({"messages": [{"role": "wizard", "content": ""}]}, 400, "messages[0].role",
     'messages[0].role: expected "system", "developer", "user", "assistant", "tool" or "function", got "wizard"'),
    ({"messages": []}, 400, "messages", "messages: expected at least 1 item, got 0"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]}, 400,
     "messages[0].content[0]",
     'messages[0].content[0]: expected a text part, got one of type "image_url": this model reads text alone'),
    ({"max_tokens": 600}, 400, "messages",
     "the prompt has 13 tokens and max_tokens is 600: together they exceed the model's context of 512 tokens"),
    ({"n": 0}, 400, "n", "n: expected an integer from 1 to 128, got 0"),
    ({"presence_penalty": 2.5}, 400, "presence_penalty", "presence_penalty: expected a number from -2 to 2, got 2.5"),
    ({"repetition_penalty": 0}, 400, "repetition_penalty", "repetition_penalty: expected a number from 0.1 to 10, got 0"),
    ({"logit_bias": {"5": 101}}, 400, "logit_bias.5", "logit_bias.5: expected a number from -100 to 100, got 101"),
    ({"logit_bias": {"hello": 1}}, 400, "logit_bias.hello", 'logit_bias.hello: expected a token id as the key, got "hello"'),
    ({"logit_bias": {"380": 1}}, 400, "logit_bias.380", "logit_bias.380: expected a token id below 380, got 380"),
    ({"metadata": {"top_k": "many"}}, 400, "metadata.top_k",
     'metadata.top_k: expected an integer from 0 to 2147483647, got "many"'),
    ({"response_format": {"type": "regex", "regex": "("}}, 400, "response_format.regex",
     "response_format.regex: not a regular expression that is supported: unclosed group"),
    ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, 400, "tools[0].type",
     'tools[0].type: expected "function", got "custom"'),
    ({"tool_choice": "banana"}, 400, "tool_choice", 'tool_choice: expected "none", "auto" or "required", got "banana"'),
    ({"tool_choice": "required"}, 400, "tool_choice",
     'tool_choice: expected "none" or "auto", since there are no tools to call'),
    ({"tools": [{"type": "function", "function": {"name": "f"}}],
      "tool_choice": {"type": "function", "function": {"name": "g"}}}, 400, "tool_choice.function.name",
     'tool_choice.function.name: expected one of the functions offered ("f"), got "g"'),
    ({"top_logprobs": 3}, 400, "top_logprobs", "top_logprobs: expected logprobs to be true beside it"),
    ({"ep": "cuda"}, 400, "ep", "ep: expected a provider that is available here (cpu), got cuda"),
    ({"ep": "abacus"}, 400, "ep", 'ep: expected "cpu", "cuda", "dml", "qnn" or "webgpu", got "abacus"'),
]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("given", "status", "param", "message"), BAD, ids=lambda value: str(value)[:30])
async def test_what_cannot_be_done_is_refused_by_name_and_the_connection_goes_on(
    tiny_home: ModelDirectory, given: dict[str, Any], status: int, param: str, message: str, stream: bool
) -> None:
    plain = {"model": TINY, "messages": [{"role": "user", "content": "Hello"}], "stream": stream, **given}
    body = json.dumps(plain).encode()
    async with scripted_server(tiny_home) as (server, _):
        transport = await server.connect()
        await transport.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        head, _, reply = (await transport.receive()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert b"content-type: application/json" in head
        error = json.loads(reply)["error"]
        assert (error["param"], error["message"]) == (param, message)
        assert error["type"] == "invalid_request_error"
        await transport.send(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await transport.receive()).startswith(b"HTTP/1.1 404 ")


async def test_the_documents_example_with_its_nulls_and_empty_lists_is_answered(
    tiny_home: ModelDirectory,
) -> None:
    example = {
        "model": TINY,
        "messages": [{"role": "user", "content": "Hello, how are you?"}],
        "temperature": 0.7,
        "top_p": 1,
        "n": 1,
        "stream": False,
        "stop": None,
        "max_tokens": 100,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "logit_bias": {},
        "user": "user_id_123",
        "functions": [],
        "function_call": None,
        "metadata": {},
    }
    async with scripted_server(tiny_home) as (server, _), server.client() as client:
        completion = await client.call(CHAT_COMPLETIONS, structure(ChatCompletionRequest, example))
        assert said(completion) == "one two three"


async def test_what_users_type_reaches_the_model_as_they_typed_it(tiny_home: ModelDirectory) -> None:
    typed = ["", "a\0b", "\x1b[2J", "\ufffe\ufdd0", "<|im_end|>", "e\u0301\u200d🙂"]
    async with scripted_server(tiny_home) as (server, models), server.client() as client:
        parts = [{"type": "text", "text": text} for text in typed]
        messages = [{"role": "user", "content": parts, "name": "Ann"}]
        assert said(await ask(client, messages=messages)) == "one two three"
        tokenizer = models.prompts[0].tokenizer
        names = tokenizer.bytes_showing(tokenizer.special_tokens)
        text = b"".join(names[token] for token in models.jobs[0].prompt).decode()
        assert text == f"<|im_start|>user\n{''.join(typed)}<|im_end|>\n<|im_start|>assistant\n"
        assert list(models.jobs[0].prompt).count(tokenizer.special_tokens["<|im_end|>"]) == 1


async def test_what_asks_for_nothing_is_accepted(tiny_home: ModelDirectory) -> None:
    async with scripted_server(tiny_home) as (server, _), server.client() as client:
        nothing: dict[str, object] = {
            "n": 1,
            "logprobs": False,
            "tools": [],
            "tool_choice": "auto",
            "ep": "",
            "ttl": 600,
            "response_format": {"type": "text"},
            "parallel_tool_calls": True,
            "store": True,
            "service_tier": "auto",
            "metadata": {"a": "b", "c": [1, None]},
            "user": "",
            "reasoning_effort": "none",
            "verbosity": {"anything": ["at all"]},
        }
        assert said(await ask(client, **nothing)) == "one two three"
        assert said(await ask(client, ep="CPU")) == "one two three"


async def test_the_effort_of_reasoning_reaches_the_chat_template(
    tiny_home: ModelDirectory, tmp_path: Path
) -> None:
    home = ModelDirectory(tmp_path)
    folder = add_model(home, "thinker:1", tiny_home.models / "Test" / "tiny")
    template = "{{ reasoning_effort }}: {{ messages[0].content }}"
    (folder / "chat_template.jinja").write_text(template, "utf-8")
    async with scripted_server(home) as (server, models), server.client() as client:
        await ask(client, model="thinker", reasoning_effort="low")
        assert models.prompts[0].tokenizer.decode(models.jobs[0].prompt) == "low: Hello"


async def test_a_load_that_fails_is_told_and_tried_again(tiny_home: ModelDirectory) -> None:
    failures = [ValueError("the file is torn")]
    async with (
        scripted_server(tiny_home, failures=failures) as (server, models),
        server.client() as client,
    ):
        with pytest.raises(ServerFailure) as caught:
            await ask(client)
        failure = caught.value.failure
        assert failure.message == f"the model {MODEL_ID} could not be loaded: the file is torn"
        assert (failure.status, failure.type, failure.param) == (500, "server_error", "model")
        assert said(await ask(client)) == "one two three"
        assert models.loads == 2


async def test_requests_at_the_same_time_share_one_load(tiny_home: ModelDirectory) -> None:
    answers = []
    async with scripted_server(tiny_home) as (server, models), server.client() as client:

        async def one() -> None:
            answers.append(said(await ask(client)))

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(one)
        assert answers == ["one two three"] * 5
        assert models.loads == 1


async def collect(client: Client, chunks: list[ChatCompletionChunk]) -> None:
    async with client.stream(CHAT_COMPLETIONS, request(stream=True)) as stream:
        async for chunk in stream:
            chunks.append(chunk)  # noqa: PERF401 - those before a failure are wanted too


def failing(step: int, error: Exception) -> Any:
    return lambda script, **more: ScriptedEngine(script, fail_at={step: error}, **more)


@pytest.mark.parametrize("step", [1, 4])
async def test_a_step_that_fails_ends_its_requests_and_no_more(tiny_home: ModelDirectory, step: int) -> None:
    engine = failing(step, RuntimeError("out of luck"))
    async with scripted_server(tiny_home, engine=engine) as (server, models), server.client() as client:
        chunks: list[ChatCompletionChunk] = []
        with pytest.raises(ServerFailure, match=r"^generation failed: out of luck$") as caught:
            await collect(client, chunks)
        assert bool(chunks) == (step > 1)
        assert (caught.value.failure.status, caught.value.failure.type) == (500, "server_error")
        assert said(await ask(client)) == "one two three"
        assert models.loads == 1


async def test_a_lost_engine_is_replaced_for_the_next_request(tiny_home: ModelDirectory) -> None:
    lost = [EngineLost("it fell over")]

    def engine(script: Any, **more: Any) -> ScriptedEngine:
        return ScriptedEngine(script, fail_at={2: lost.pop()} if lost else {}, **more)

    async with scripted_server(tiny_home, engine=engine) as (server, models), server.client() as client:
        with pytest.raises(ServerFailure, match=r"^the model's engine is gone: it fell over$") as caught:
            await ask(client)
        assert caught.value.failure.status == 503
        assert said(await ask(client)) == "one two three"
        assert models.loads == 2


@pytest.mark.parametrize(("phase", "n"), [("prefill", 1), ("decode", 1), ("decode", 3)])
async def test_a_hang_up_stops_the_engine(tiny_home: ModelDirectory, phase: str, n: int) -> None:
    text = "x" * 400 if phase == "decode" else "x"
    slow = {"prefill_slice": 1} if phase == "prefill" else {}

    def engine(script: Any, **more: Any) -> ScriptedEngine:
        return ScriptedEngine(script, **more, **slow)  # type: ignore[arg-type]

    async with (
        scripted_server(tiny_home, text=text, engine=engine, step_seconds=0.001) as (server, models),
        server.client() as client,
    ):
        question = [{"role": "user", "content": "a b c d e f g h " * 25}]
        async with client.stream(
            CHAT_COMPLETIONS, request(messages=question, stream=True, max_tokens=60, n=n)
        ) as chunks:
            if phase == "decode":
                await anext(chunks)
            else:
                await until(lambda: models.engines and models.engines[0].counters.prompt_tokens > 5)
        counters = models.engines[0].counters
        await at_rest(lambda: counters.steps, pause=0.05)
        assert counters.prompt_tokens + counters.generated_tokens < n * (len(models.jobs[0].prompt) + 60)
        assert said(await ask(client, max_tokens=1)) == "x"
