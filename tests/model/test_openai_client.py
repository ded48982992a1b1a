"""The unmodified official client against `foundry serve` with the real model, on both loops."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("openai_program.py")
LAST_1X = "openai==1.109.1"

pytestmark = [pytest.mark.model, pytest.mark.client]


@pytest.fixture(scope="session")
def last_1x(test_cache: Path) -> Path:
    """An environment with the last release of the client's first generation."""
    home = test_cache / LAST_1X.replace("==", "-")
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = home / "complete"
    if not done.exists():
        venv.create(home, with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "install", "--quiet", LAST_1X]
        # The installer that this Python brings has warnings of its own.
        if subprocess.run(install, env={**os.environ, "PYTHONWARNINGS": "default"}, check=False).returncode:
            pytest.skip(f"{LAST_1X} cannot be installed here")
        done.touch()
    return python


@pytest.fixture(
    scope="module", params=[("asyncio", "newest"), ("trio", "newest"), ("trio", "1.x")], ids="-".join
)
def report(request: pytest.FixtureRequest, server_on: Callable[[str], str]) -> dict[str, Any]:
    """What the client's program printed; a client that has met one loop would notice nothing of the other."""
    pytest.importorskip("openai")
    runtime, client = request.param
    python = sys.executable if client == "newest" else str(request.getfixturevalue("last_1x"))
    command = [python, str(PROGRAM), server_on(runtime)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["version"].startswith("1.") == (client == "1.x")
    return result


def test_the_model_answers(report: dict[str, Any]) -> None:
    colors = report["sync"]["colors"]
    assert all(color in colors["content"].lower() for color in ("red", "blue", "yellow"))
    assert (colors["finish_reason"], colors["object"], colors["model"]) == (
        "stop",
        "chat.completion",
        "smollm2-135m",
    )


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_streamed_text_is_the_whole_text_at_temperature_0(report: dict[str, Any], kind: str) -> None:
    whole, stream = report[kind]["whole"], report[kind]["stream"]
    assert "".join(stream["pieces"]) == whole["content"]
    assert len(stream["pieces"]) > 5
    assert stream["finish_reasons"] == [whole["finish_reason"]]
    assert stream["first_role"] == "assistant"
    assert stream["same"]


def test_characters_are_never_split(report: dict[str, Any]) -> None:
    text = "".join(report["sync"]["stream"]["pieces"])
    assert not text.isascii()
    assert "\ufffd" not in text[:-1]  # the last one may be cut by the limit of tokens


def test_usage_is_the_same_in_both_forms_and_only_when_asked_for(report: dict[str, Any]) -> None:
    usage, of_whole = ({**report["sync"][form]["usage"]} for form in ("stream", "whole"))
    # How much of the prompt was there already depends on what was asked before.
    for one in (usage, of_whole):
        assert 0 <= one.pop("prompt_tokens_details")["cached_tokens"] < one["prompt_tokens"]
    assert usage == of_whole
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert report["async"]["stream"]["usage"] is None


def test_stop_and_length_end_an_answer(report: dict[str, Any]) -> None:
    stopped, cut = report["sync"]["stopped"], report["sync"]["cut"]
    assert stopped["finish_reason"] == "stop"
    assert stopped["content"]
    assert "blue" not in stopped["content"].lower()
    assert (cut["finish_reason"], cut["usage"]["completion_tokens"]) == ("length", 3)


def test_the_newer_limit_counts(report: dict[str, Any]) -> None:
    cut = report["sync"]["both_limits"]
    assert (cut["finish_reason"], cut["usage"]["completion_tokens"]) == ("length", 5)


def test_equal_requests_give_equal_answers_at_temperature_0_or_with_a_seed(report: dict[str, Any]) -> None:
    sync = report["sync"]
    assert report["async"]["whole"]["content"] == sync["whole"]["content"]
    first, second = sync["seeded"]
    assert first == second
    assert [index for index, _ in first] == [0, 1]
    assert first[0][1] != first[1][1]


def test_log_probabilities_are_those_of_the_tokens_that_were_said(report: dict[str, Any]) -> None:
    told = report["sync"]["logprobs"]
    joined = b"".join(map(bytes, told["bytes"])).decode("utf-8", "replace")
    assert joined == told["content"] == report["sync"]["whole"]["content"]
    assert len(told["bytes"]) == told["tokens"]
    assert told["sorted"]
    assert told["greedy"]
    assert told["negative"]


def test_a_text_goes_on_alike_in_both_forms_and_at_temperature_0_by_its_likeliest_tokens(
    report: dict[str, Any],
) -> None:
    story = report["sync"]["story"]
    (choice,) = story["choices"]
    told = choice["logprobs"]
    assert "".join(report["sync"]["story_pieces"]) == choice["text"] == "".join(told["tokens"])
    assert told["token_logprobs"] == [max(tops.values()) for tops in told["top_logprobs"]]
    assert (choice["finish_reason"], story["usage"]["completion_tokens"]) == ("length", 16)
    assert "village" not in choice["text"][:8]  # it goes on, and does not begin again


def valid(name: str, arguments: str) -> bool:
    plain = json.loads(arguments)
    if name == "get_time":
        return bool(plain == {})
    return isinstance(plain["city"], str) and plain["unit"] in ("celsius", "fahrenheit") and len(plain) == 2


def test_where_it_must_the_model_calls_with_valid_arguments(report: dict[str, Any]) -> None:
    told = report["sync"]["tools"]
    required = told["required"]
    (call,) = required["tool_calls"]
    assert re.fullmatch(r"call_[A-Za-z0-9]{9}", call["id"])
    assert valid(call["function"]["name"], call["function"]["arguments"])
    assert (required["content"], required["finish_reason"]) == (None, "tool_calls")
    (named,) = told["named"]["tool_calls"]
    assert (named["function"]["name"], json.loads(named["function"]["arguments"])) == ("get_time", {})


def test_streamed_calls_add_up_by_hand_and_by_the_clients_helper(report: dict[str, Any]) -> None:
    told = report["sync"]["tools"]
    streamed, (call,) = told["streamed"], told["required"]["tool_calls"]
    assert {name: streamed[name] for name in ("name", "arguments")} == call["function"]
    assert streamed["indexes"] == [0]
    assert streamed["finish_reason"] == "tool_calls"
    assert re.fullmatch(r"call_[A-Za-z0-9]{9}", streamed["id"])
    assert told["events"] == ["tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"]
    assert told["parsed"] in (["GetWeather", "get_weather"], ["dict", "get_time"], ["NoneType", "get_time"])


def test_an_answer_is_an_instance_of_the_programs_own_class(report: dict[str, Any]) -> None:
    made = report["sync"]["structured"]
    newest = not report["version"].startswith("1.")
    assert set(made) == {"parse", *(("TOOLS", "JSON_SCHEMA") if newest else ())}
    for kind, unit in made.values():
        assert kind == "GetWeather"
        assert unit in ("celsius", "fahrenheit")


def test_the_older_form_is_answered_in_the_older_form(report: dict[str, Any]) -> None:
    older = report["sync"]["tools"]["older"]
    assert older["function_call"] == {"name": "get_time", "arguments": "{}"}
    assert (older["content"], older["finish_reason"]) == (None, "function_call")


def test_without_a_choice_there_is_no_call(report: dict[str, Any]) -> None:
    told = report["sync"]["tools"]
    assert "tool_calls" not in told["none"]
    assert told["none"] == told["plain"]
    assert told["answer"]["content"] or told["answer"].get("tool_calls")


def test_errors_are_the_clients_own_kinds(report: dict[str, Any]) -> None:
    assert report["sync"]["errors"] == {
        "not_found": ["NotFoundError", 404, "model", "model_not_found"],
        "temperature": ["BadRequestError", 400, "temperature", None],
        "context": ["BadRequestError", 400, "messages", "context_length_exceeded"],
    }
