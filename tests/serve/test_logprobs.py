"""Laws of log probabilities over HTTP: one entry a token, whose bytes are the text's, in both forms."""

from __future__ import annotations

import math
from typing import Any

import pytest

from foundry_proto.messages.completions import ChoiceLogprobs
from foundry_runtime.models.directory import ModelDirectory
from tests.serve.test_tools import CALL, TOOLS, both_forms, complete
from tests.support.scripted_model import scripted_server

pytestmark = pytest.mark.anyio

TEXT = "naïve 日本語 👩‍👩‍👧"


async def logprobs_of(
    home: ModelDirectory, text: str, *, stream: bool, model: str = "words", **more: Any
) -> ChoiceLogprobs | None:
    async with scripted_server(home, text=text) as (server, _), server.client() as client:
        (choice,) = (await complete(client, model, stream=stream, **more)).choices
        assert choice.logprobs is None or isinstance(choice.logprobs, ChoiceLogprobs)
        return choice.logprobs


@both_forms
async def test_the_bytes_of_all_tokens_are_the_text_though_tokens_cut_characters(
    families_home: ModelDirectory, stream: bool
) -> None:
    told = await logprobs_of(families_home, TEXT, stream=stream, logprobs=True)
    assert told
    entries = told.content or ()
    assert b"".join(bytes(entry.bytes or ()) for entry in entries).decode() == TEXT
    assert all(entry.token == bytes(entry.bytes or ()).decode("utf-8", "replace") for entry in entries)
    assert any(entry.token == "\ufffd" for entry in entries)
    assert all(entry.top_logprobs == () for entry in entries)
    assert all(-1 < entry.logprob < 0 for entry in entries)


@both_forms
async def test_the_likeliest_tokens_stand_beside_each_the_special_ones_by_name(
    families_home: ModelDirectory, stream: bool
) -> None:
    told = await logprobs_of(families_home, "ab", stream=stream, logprobs=True, top_logprobs=3)
    assert told
    for entry, letter in zip(told.content or (), "ab", strict=True):
        tops = entry.top_logprobs or ()
        # The scripted engine likes its letter best, and of all others those with the lowest ids.
        assert [(top.token, bytes(top.bytes or ())) for top in tops] == [
            (letter, letter.encode()),
            ("<|endoftext|>", b"<|endoftext|>"),
            ("<|im_start|>", b"<|im_start|>"),
        ]
        assert tops[0].logprob == entry.logprob
        assert math.isclose(tops[0].logprob - tops[1].logprob, 10, abs_tol=1e-4)


@both_forms
async def test_what_is_a_call_or_a_thought_has_its_entries_too(
    families_home: ModelDirectory, stream: bool
) -> None:
    text = f"<think>a</think>\nb{CALL}"
    told = await logprobs_of(families_home, text, stream=stream, model="qwen", logprobs=True, tools=TOOLS)
    assert told
    assert b"".join(bytes(entry.bytes or ()) for entry in told.content or ()).decode() == text


@both_forms
@pytest.mark.parametrize("more", [{}, {"logprobs": False}, {"logprobs": None, "top_logprobs": 0}], ids=str)
async def test_without_asking_there_are_none(
    families_home: ModelDirectory, more: dict[str, Any], stream: bool
) -> None:
    assert await logprobs_of(families_home, TEXT, stream=stream, **more) is None


@both_forms
async def test_a_stop_text_has_no_entries(families_home: ModelDirectory, stream: bool) -> None:
    told = await logprobs_of(families_home, "abcd", stream=stream, logprobs=True, stop="c")
    assert told
    assert [entry.token for entry in told.content or ()] == ["a", "b"]
