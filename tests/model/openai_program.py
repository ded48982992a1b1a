"""What a program with OpenAI's official client does; run by the tests with several releases of that client.

    python openai_program.py http://127.0.0.1:5272/v1

Prints one JSON object: the client's version, and what each of its calls gave.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from typing import Any, Literal

import openai
import pydantic

MODEL = "smollm2-135m"
COLORS = [{"role": "user", "content": "Name three primary colors"}]
LETTERS = [{"role": "user", "content": "Say hello in Russian, Greek and Japanese."}]
STORY = "Once upon a time, in a small village"
GREEDY: dict[str, Any] = {"model": MODEL, "temperature": 0, "max_tokens": 48}
CLOCK: dict[str, Any] = {"type": "function", "function": {"name": "get_time", "description": "The time"}}
SEEDED: dict[str, Any] = {"model": MODEL, "temperature": 1, "seed": 7, "max_tokens": 12, "n": 2}


def chunks_of(stream: list[Any]) -> dict[str, Any]:
    choices = [chunk.choices[0] for chunk in stream if chunk.choices]
    return {
        "pieces": [choice.delta.content for choice in choices if choice.delta.content],
        "first_role": choices[0].delta.role,
        "finish_reasons": [choice.finish_reason for choice in choices if choice.finish_reason],
        "usage": stream[-1].usage.model_dump() if stream[-1].usage else None,
        "same": len({(chunk.id, chunk.created, chunk.model) for chunk in stream}) == 1,
    }


def whole(completion: Any) -> dict[str, Any]:
    choice = completion.choices[0]
    return {
        "content": choice.message.content,
        "finish_reason": choice.finish_reason,
        "usage": completion.usage.model_dump(),
        "object": completion.object,
        "model": completion.model,
    }


def choices(completion: Any) -> list[list[Any]]:
    return [[choice.index, choice.message.content] for choice in completion.choices]


def logprobs(completion: Any) -> dict[str, Any]:
    choice = completion.choices[0]
    entries = choice.logprobs.content
    return {
        "content": choice.message.content,
        "bytes": [list(entry.bytes) for entry in entries],
        "sorted": all(entry.top_logprobs[0].logprob >= entry.top_logprobs[1].logprob for entry in entries),
        "greedy": all(entry.top_logprobs[0].token == entry.token for entry in entries),
        "negative": all(entry.logprob <= 0 for entry in entries),
        "tokens": completion.usage.completion_tokens,
    }


def message(completion: Any) -> dict[str, Any]:
    choice = completion.choices[0]
    dumped: dict[str, Any] = choice.message.model_dump(exclude_none=True)
    return {**dumped, "finish_reason": choice.finish_reason, "content": choice.message.content}


def call_of(streamed: list[Any]) -> dict[str, Any]:
    """The first call of a stream, added up as OpenAI's own examples do it."""
    call: dict[str, Any] = {"id": "", "name": "", "arguments": "", "indexes": []}
    for chunk in streamed:
        for delta in chunk.choices[0].delta.tool_calls or ():
            call["indexes"].append(delta.index)
            call["id"] += delta.id or ""
            call["name"] += delta.function.name or ""
            call["arguments"] += delta.function.arguments or ""
    return {**call, "finish_reason": streamed[-1].choices[0].finish_reason}


class GetWeather(pydantic.BaseModel):
    city: str
    unit: Literal["celsius", "fahrenheit"]


def tools(client: Any) -> dict[str, Any]:
    create: Any = client.chat.completions.create
    weather = openai.pydantic_function_tool(GetWeather, name="get_weather", description="The weather")
    asked: dict[str, Any] = {
        **GREEDY,
        "max_tokens": 96,
        "messages": [{"role": "user", "content": "How is the weather in Oslo?"}],
    }
    both = {"tools": [weather, CLOCK], "tool_choice": "required"}
    required = create(**asked, **both)
    call = required.choices[0].message.tool_calls[0]
    result = {"role": "tool", "tool_call_id": call.id, "content": "12 degrees"}
    history = [*asked["messages"], required.choices[0].message, result]
    with client.chat.completions.stream(**asked, **both) as stream:
        events = [event.type for event in stream]
        parsed = stream.get_final_completion().choices[0].message.tool_calls[0].function
    brief = {**asked, "max_tokens": 16}
    named = {"type": "function", "function": {"name": "get_time"}}
    older = {"functions": [CLOCK["function"]], "function_call": {"name": "get_time"}}
    return {
        "required": message(required),
        "streamed": call_of(list(create(**asked, **both, stream=True))),
        "events": [event for event in events if event.startswith("tool_calls")],
        "parsed": [type(parsed.parsed_arguments).__name__, parsed.name],
        "named": message(create(**asked, tools=both["tools"], tool_choice=named)),
        "older": message(create(**asked, **older)),
        "none": message(create(**brief, tools=both["tools"], tool_choice="none")),
        "plain": message(create(**brief)),
        "answer": message(create(**{**asked, "messages": history}, tools=both["tools"])),
    }


def structured(client: Any) -> dict[str, Any]:
    """What programs make of an answer with a class of theirs: the client's own helper, and instructor."""
    asked: dict[str, Any] = {
        **GREEDY,
        "messages": [{"role": "user", "content": "How is the weather in Oslo, in celsius?"}],
    }
    completion = client.chat.completions.parse(**asked, response_format=GetWeather)
    made = {"parse": completion.choices[0].message.parsed}
    if importlib.util.find_spec("instructor"):  # where it was installed beside the client
        import instructor  # noqa: PLC0415

        for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
            helper: Any = instructor.from_openai(client, mode=mode)
            create = helper.chat.completions.create
            made[mode.name] = create(**asked, response_model=GetWeather, max_retries=0)
    return {name: [type(one).__name__, one.unit] for name, one in made.items()}


def synchronous(base_url: str) -> dict[str, Any]:
    with openai.OpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
        create: Any = client.chat.completions.create  # types would only differ between the releases
        asked = {"stream": True, "stream_options": {"include_usage": True}}
        result: dict[str, Any] = {
            "colors": whole(create(model=MODEL, messages=COLORS, seed=1)),
            "whole": whole(create(messages=LETTERS, **GREEDY)),
            "stream": chunks_of(list(create(messages=LETTERS, **GREEDY, **asked))),
            "stopped": whole(create(messages=COLORS, **GREEDY, stop=["Blue", "blue"])),
            "cut": whole(create(**{**GREEDY, "messages": COLORS, "max_tokens": 3})),
            "both_limits": whole(create(messages=COLORS, **GREEDY, max_completion_tokens=5)),
            "seeded": [choices(create(messages=COLORS, **SEEDED)) for _ in range(2)],
            "tools": tools(client),
            "structured": structured(client),
            "logprobs": logprobs(create(messages=LETTERS, **GREEDY, logprobs=True, top_logprobs=2)),
        }
        story: dict[str, Any] = {**GREEDY, "prompt": STORY, "max_tokens": 16}
        result["story"] = client.completions.create(**story, logprobs=2).model_dump()
        result["story_pieces"] = [
            choice.text
            for event in client.completions.create(**story, stream=True)
            for choice in event.choices
        ]
        errors = {}
        wrong: dict[str, dict[str, Any]] = {
            "not_found": {"model": "no-such-model"},
            "temperature": {"temperature": 3},
            "context": {"max_tokens": 100_000},
        }
        for name, more in wrong.items():
            try:
                create(**{**GREEDY, "messages": COLORS, **more})
            except openai.APIStatusError as error:
                body: Any = error.body
                errors[name] = [type(error).__name__, error.status_code, body["param"], body["code"]]
        return {**result, "errors": errors}


async def asynchronous(base_url: str) -> dict[str, Any]:
    async with openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
        create: Any = client.chat.completions.create  # types would only differ between the releases
        completion = await create(messages=LETTERS, **GREEDY)
        stream = await create(messages=LETTERS, **GREEDY, stream=True)
        return {"whole": whole(completion), "stream": chunks_of([chunk async for chunk in stream])}


def main() -> None:
    base_url = sys.argv[1]
    report = {
        "version": openai.__version__,
        "sync": synchronous(base_url),
        "async": asyncio.run(asynchronous(base_url)),
    }
    sys.stdout.write(json.dumps(report))


main()
