"""Laws of `POST /v1/completions`: what reaches the engine, what comes back, and what is refused."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from foundry_proto.codec import encode, structure
from foundry_proto.messages.completions import Usage
from foundry_proto.messages.text_completions import TextCompletion, TextCompletionRequest, TextLogprobs
from foundry_proto.operations import CHAT_COMPLETIONS, COMPLETIONS
from foundry_runtime.client import Client, ServerFailure
from foundry_runtime.engine.api import Sampling
from foundry_runtime.engine.scripted import ScriptedEngine
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.server import serve
from foundry_runtime.transport import open_tcp_listeners
from tests.support.applications import chat_request
from tests.support.scripted_model import scripted_server
from tests.support.tiny_model import MODEL_ID

pytestmark = pytest.mark.anyio

TINY = MODEL_ID.partition(":")[0]


def request(prompt: object, **more: Any) -> TextCompletionRequest:
    return structure(TextCompletionRequest, {"model": TINY, "prompt": prompt, **more})


async def ask(client: Client, prompt: object, **more: Any) -> TextCompletion:
    return await client.call(COMPLETIONS, request(prompt, **more))


def texts(completion: TextCompletion) -> list[str]:
    return [choice.text for choice in completion.choices]


async def test_whole_and_streamed_answers_say_the_same(tiny_home: ModelDirectory) -> None:
    text = "naïve 日本語 👩‍👩‍👧 and more"
    async with scripted_server(tiny_home, text=text) as (server, _), server.client() as client:
        more = {"max_tokens": 60, "echo": True, "n": 2}
        whole = await ask(client, ["Hello", " world"], **more)
        assert texts(whole) == [before + text for before in ("Hello", "Hello", " world", " world")]
        options = {"stream": True, "stream_options": {"include_usage": True}}
        async with client.stream(COMPLETIONS, request(["Hello", " world"], **more, **options)) as stream:
            events = [event async for event in stream]
        pieces = [(part.index, part.text) for event in events for part in event.choices]
        for index in range(4):
            assert "".join(piece for number, piece in pieces if number == index) == texts(whole)[index]
        assert events[-1].usage == whole.usage
        assert whole.id.startswith("cmpl-")
        assert (whole.model, {choice.finish_reason for choice in whole.choices}) == (TINY, {"stop"})


async def test_a_prompt_reaches_the_engine_as_it_is_special_tokens_included(
    tiny_home: ModelDirectory,
) -> None:
    async with scripted_server(tiny_home) as (server, models), server.client() as client:
        await ask(client, "<|im_start|>user\nHello<|im_end|>")
        (job,) = models.jobs
        assert (job.prompt[0], job.prompt[-1]) == (1, 2)
        await ask(client, [list(job.prompt), [5]])
        assert list(models.jobs[1].prompt) == list(job.prompt)
        assert list(models.jobs[2].prompt) == [5]


async def test_usage_counts_each_prompt_once_and_all_that_is_generated(tiny_home: ModelDirectory) -> None:
    async with scripted_server(tiny_home) as (server, models), server.client() as client:
        usage = (await ask(client, ["Hello", "a b c"], n=2, best_of=3, max_tokens=4)).usage
        assert isinstance(usage, Usage)
        prompts = [len(models.jobs[0].prompt), len(models.jobs[3].prompt)]
        assert (usage.prompt_tokens, usage.completion_tokens) == (sum(prompts), 6 * 4)


@pytest.mark.parametrize(("given", "allowed"), [({}, 16), ({"max_tokens": 5}, 5), ({"max_tokens": None}, 16)])
async def test_without_a_limit_16_tokens_are_generated(
    tiny_home: ModelDirectory, given: dict[str, Any], allowed: int
) -> None:
    async with scripted_server(tiny_home, text="x" * 100) as (server, models), server.client() as client:
        (choice,) = (await ask(client, "Hello", **given)).choices
        assert models.jobs[0].max_tokens == allowed
        assert (choice.text, choice.finish_reason) == ("x" * allowed, "length")
        await ask(client, [5] * 500)
        assert models.jobs[1].max_tokens == 12


async def test_sampling_and_seeds_are_those_of_chats(tiny_home: ModelDirectory) -> None:
    async with scripted_server(tiny_home) as (server, models), server.client() as client:
        drawn = {"temperature": 0.5, "top_p": 0.25, "top_k": 40, "seed": 7, "presence_penalty": 1}
        await ask(client, ["a", "b"], n=2, **drawn)
        expected = [
            Sampling(temperature=0.5, top_p=0.25, top_k=40, seed=seed, presence_penalty=1)
            for seed in (7, 8, 7, 8)
        ]
        assert [job.sampling for job in models.jobs] == expected


@pytest.mark.parametrize("stream", [False, True])
async def test_text_ends_before_a_stop_sequence_and_the_echo_does_not_count(
    tiny_home: ModelDirectory, stream: bool
) -> None:
    async with scripted_server(tiny_home) as (server, _), server.client() as client:
        more = {"stop": ["two", ""], "echo": True}
        if stream:
            async with client.stream(COMPLETIONS, request("two ", stream=True, **more)) as events:
                parts = [part async for event in events for part in event.choices]
            found = ("".join(part.text for part in parts), parts[-1].finish_reason)
        else:
            (choice,) = (await ask(client, "two ", **more)).choices
            found = (choice.text, choice.finish_reason)
        assert found == ("two one ", "stop")


async def test_logprobs_have_the_older_form(tiny_home: ModelDirectory) -> None:
    async with scripted_server(tiny_home, text="one") as (server, _), server.client() as client:
        (choice,) = (await ask(client, "Hello", logprobs=2)).choices
        told = choice.logprobs
        assert isinstance(told, TextLogprobs)
        assert "".join(told.tokens) == choice.text == "one"
        assert told.text_offset == tuple(range(3))
        assert told.top_logprobs is not None
        for token, logprob, tops in zip(told.tokens, told.token_logprobs, told.top_logprobs, strict=True):
            assert tops is not None
            assert len(tops) == 2
            assert tops[token] == logprob == max(tops.values())
        (choice,) = (await ask(client, "Hello", best_of=2)).choices
        assert choice.logprobs is None


async def test_the_echo_of_token_ids_is_their_text(tiny_home: ModelDirectory) -> None:
    async with scripted_server(tiny_home) as (server, models), server.client() as client:
        await ask(client, "Hello world")
        completion = await ask(client, list(models.jobs[0].prompt), echo=True)
        assert texts(completion) == ["Hello worldone two three"]


@pytest.mark.parametrize(
    ("more", "param", "message"),
    [
        ({"prompt": ""}, "prompt", "prompt: expected at least 1 token, got an empty text"),
        ({"prompt": ["a", ""]}, "prompt[1]", "prompt[1]: expected at least 1 token, got an empty text"),
        ({"prompt": [1, 999]}, "prompt[1]", "prompt[1]: expected a token id below "),
        ({"prompt": [[1], [2, -3]]}, "prompt[1][1]", "prompt[1][1]: expected a token id below "),
        ({"n": 2, "best_of": 1}, "best_of", "best_of: expected at least n, which is 2, got 1"),
        ({"echo": True, "logprobs": 1}, "logprobs", "logprobs: expected none beside echo, got 1"),
        (
            {"suffix": "b"},
            "suffix",
            "suffix: expected none: this model has no tokens for filling in, got text",
        ),
        ({"prompt": [1], "suffix": "b"}, "suffix", "suffix: expected none beside token ids, got text"),
        ({"logit_bias": {"x": 1}}, "logit_bias.x", 'logit_bias.x: expected a token id as the key, got "x"'),
        ({"ep": "cuda"}, "ep", "ep: expected a provider that is available here (cpu), got cuda"),
        ({"max_tokens": 600}, "prompt", "the prompt has "),
        ({"model": "nope"}, "model", "model: No OpenAIService provider found for modelName:nope. "),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_cannot_be_served_is_named_before_an_answer_begins(
    tiny_home: ModelDirectory, more: dict[str, Any], param: str, message: str, stream: bool
) -> None:
    asked = request(**{"prompt": "a", **more, "stream": stream})
    async with scripted_server(tiny_home) as (server, _), server.client() as client:

        async def call() -> None:
            if stream:
                async with client.stream(COMPLETIONS, asked) as events:
                    await anext(events)
            else:
                await client.call(COMPLETIONS, asked)

        with pytest.raises(ServerFailure) as caught:
            await call()
        failure = caught.value.failure
        assert (failure.status, failure.param) == (404 if param == "model" else 400, param)
        assert failure.message.startswith(message)
        assert texts(await ask(client, "a")) == ["one two three"]


async def test_a_failure_in_the_middle_ends_the_stream_with_an_error(tiny_home: ModelDirectory) -> None:
    engine = partial(ScriptedEngine, fail_at={4: RuntimeError("no more memory")})
    async with scripted_server(tiny_home, engine=engine) as (server, _), server.client() as client:
        async with client.stream(COMPLETIONS, request("a", stream=True)) as events:
            assert (await anext(events)).choices[0].text
            with pytest.raises(ServerFailure, match=r"^generation failed: no more memory$"):
                async for _ in events:
                    pass
        assert texts(await ask(client, "a")) == ["one two three"]


async def test_a_model_without_a_chat_template_lets_texts_go_on_and_answers_no_chats(
    tiny_home: ModelDirectory, tmp_path: Path
) -> None:
    home = ModelDirectory(tmp_path)
    folder = shutil.copytree(tiny_home.models / "Test" / "tiny", home.models / "tiny")
    (folder / "chat_template.jinja").unlink()
    async with scripted_server(home) as (server, _), server.client() as client:
        assert texts(await ask(client, "a")) == ["one two three"]
        with pytest.raises(
            ServerFailure, match=r"lets texts go on \(/v1/completions\), and answers no chats"
        ) as caught:
            await client.call(CHAT_COMPLETIONS, chat_request(TINY))
        assert (caught.value.failure.status, caught.value.failure.code) == (400, "unsupported_model")


@pytest.mark.client
async def test_openais_client_reads_both_forms(tiny_home: ModelDirectory) -> None:
    openai = pytest.importorskip("openai")

    def call(address: str) -> tuple[Any, list[Any]]:
        with openai.OpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0) as client:
            create = client.completions.create
            whole = create(model=TINY, prompt=[[5], [5, 6]], logprobs=1, max_tokens=3)
            options = {"include_usage": True}
            stream = list(create(model=TINY, prompt="Hello", stream=True, stream_options=options))
            with pytest.raises(openai.BadRequestError, match="expected at least 1 token"):
                create(model=TINY, prompt="")
            return whole, stream

    async with scripted_server(tiny_home) as (server, _), anyio.create_task_group() as group:
        (listener,) = await open_tcp_listeners("127.0.0.1", 0)
        await group.start(partial(serve, server.application, [listener]))
        whole, stream = await anyio.to_thread.run_sync(call, listener.address)
        group.cancel_scope.cancel()
    assert [choice.text for choice in whole.choices] == ["one", "one"]
    assert whole.choices[1].logprobs.tokens == list("one")
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + 6
    assert "".join(choice.text for event in stream for choice in event.choices) == "one two three"
    assert stream[-1].usage.completion_tokens > 3
    assert encode(structure(TextCompletion, whole.model_dump()))
