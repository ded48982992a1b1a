"""Chats that come piece by piece: the order of a stream's chunks, what each has, and how it ends.

Knows: chunks as JSON. Refuses to know: how events are framed (`sse.py`).
"""

from __future__ import annotations

from typing import Any, Final

from foundry_proto.conformance.asking import (
    CHAT,
    DONE,
    ask,
    chat,
    chat_body,
    open_link,
    request,
    stream,
)
from foundry_proto.conformance.case import ALL_PROFILES, Section
from foundry_proto.conformance.expecting import equal, find, is_a, json_of, one_of, require, status, text
from foundry_proto.conformance.steps import Script, Together
from foundry_proto.conformance.target import Target

__all__ = ["CASES"]

_stream = Section(
    "chat.stream",
    group="chat",
    profiles=ALL_PROFILES,
    source="the REST reference page, POST /v1/chat/completions",
    needs=("model",),
)
_OPENAI: Final = "OpenAI's API reference, Streaming"
_CORE: Final = "the newer service's streams"
_USAGE: Final = {"include_usage": True}


def _with_choices(events: tuple[Any, ...]) -> list[Any]:
    return [event for event in events if find(event, "choices")]


@_stream.case("done", "A stream ends with data: [DONE].")
def _done(target: Target) -> Script[None]:
    streamed = yield from stream(target)
    require(streamed.done, "stream", f"expected data: {DONE} at the end, got the end")


@_stream.case("object", "Each chunk's object is chat.completion.chunk.")
def _object(target: Target) -> Script[None]:
    for event in (yield from stream(target)).events:
        equal(event, "object", "chat.completion.chunk")


@_stream.case("same", "id, created and model are the same in all chunks of a stream.")
def _same(target: Target) -> Script[None]:
    events = (yield from stream(target)).events
    for name in ("id", "created", "model"):
        values = {find(event, name) for event in events}
        require(len(values) == 1, "stream", f"{name}: expected one value in all chunks, got {len(values)}")


@_stream.case("id", "Two streams have two ids.")
def _id(target: Target) -> Script[None]:
    ids = set()
    for _ in range(2):
        ids.add(text((yield from stream(target, max_tokens=1)).events[0], "id"))
    require(len(ids) == 2, "stream", "id: expected another one for each stream, got one twice")


@_stream.case("choices", "Each chunk has choices, whose index is 0 where one answer was asked for.")
def _choices(target: Target) -> Script[None]:
    for event in (yield from stream(target)).events:
        for choice in is_a(event, "choices", list):
            equal(choice, "index", 0)
            is_a(choice, "delta", dict)


@_stream.case("role", "The first chunk says the assistant's role.", source=_OPENAI)
def _role(target: Target) -> Script[None]:
    equal((yield from stream(target)).events[0], "choices[0].delta.role", "assistant")


@_stream.case("role.alone", "The first chunk has the role and empty content.", level="INFO", source=_CORE)
def _role_alone(target: Target) -> Script[None]:
    first = (yield from stream(target)).events[0]
    equal(first, "choices[0].delta.content", "")
    equal(first, "choices[0].finish_reason", None)


@_stream.case("role.once", "No chunk but the first says a role.", level="SHOULD", source=_CORE)
def _role_once(target: Target) -> Script[None]:
    for event in _with_choices((yield from stream(target)).events)[1:]:
        role = find(event, "choices[0].delta.role", None)
        require(role is None, "stream", f"delta.role: expected it in the first chunk alone, got {role!r}")


@_stream.case("finish", "The last chunk of a choice says why it ended, and no other does.")
def _finish(target: Target) -> Script[None]:
    chunks = _with_choices((yield from stream(target)).events)
    one_of(chunks[-1], "choices[0].finish_reason", ("stop", "length"))
    for chunk in chunks[:-1]:
        reason = find(chunk, "choices[0].finish_reason", None)
        require(
            reason is None, "stream", f"finish_reason: expected it in the last chunk alone, got {reason!r}"
        )


@_stream.case(
    "finish.null",
    "Until a choice's last chunk its finish_reason is null, and there.",
    level="SHOULD",
    source=_OPENAI,
)
def _finish_null(target: Target) -> Script[None]:
    for chunk in _with_choices((yield from stream(target)).events)[:-1]:
        equal(chunk, "choices[0].finish_reason", None)


@_stream.case("finish.alone", "The chunk with the finish_reason has no text.", level="SHOULD", source=_CORE)
def _finish_alone(target: Target) -> Script[None]:
    last = _with_choices((yield from stream(target)).events)[-1]
    content = find(last, "choices[0].delta.content", "") or ""
    require(content == "", "stream", f"delta.content: expected none in the last chunk, got {content!r}")


@_stream.case("text", "A stream's text is the text of the same answer whole.")
def _text(target: Target) -> Script[None]:
    streamed = (yield from stream(target)).text()
    reply = yield from chat(target)
    whole = find(json_of(reply), "choices[0].message.content")
    require(streamed == whole, "stream", f"expected {whole!r}, got {streamed!r}")


@_stream.case("limit", "A stream cut by max_tokens ends with length.")
def _limit(target: Target) -> Script[None]:
    chunks = _with_choices((yield from stream(target, max_tokens=1)).events)
    equal(chunks[-1], "choices[0].finish_reason", "length")


@_stream.case("stop", "No part of a stop text is in a stream.")
def _stop(target: Target) -> Script[None]:
    whole = (yield from stream(target)).text()
    cut = whole[len(whole) // 2 :][:3] or whole
    stopped = (yield from stream(target, stop=cut)).text()
    expected = whole[: whole.index(cut)]
    require(stopped == expected, "stream", f"expected {expected!r}, got {stopped!r}")


@_stream.case("usage.none", "Without include_usage no chunk has usage.", source=_OPENAI)
def _no_usage(target: Target) -> Script[None]:
    for event in (yield from stream(target)).events:
        usage = event.get("usage")
        require(usage is None, "stream", f"usage: expected none, got {usage}")


@_stream.case(
    "usage", "With include_usage one chunk without choices has the usage, before the end.", source=_OPENAI
)
def _usage(target: Target) -> Script[None]:
    events = (yield from stream(target, stream_options=_USAGE)).events
    equal(events[-1], "choices", [])
    prompt, completion, total = (
        is_a(events[-1], f"usage.{name}_tokens", int) for name in ("prompt", "completion", "total")
    )
    require(total == prompt + completion, "stream", f"usage.total_tokens: expected the sum, got {total}")


@_stream.case("usage.once", "With include_usage no chunk but that one has usage.", source=_OPENAI)
def _usage_once(target: Target) -> Script[None]:
    for event in (yield from stream(target, stream_options=_USAGE)).events[:-1]:
        usage = event.get("usage")
        require(usage is None, "stream", f"usage: expected it in the last chunk alone, got {usage}")


@_stream.case(
    "usage.same", "A stream's usage is that of the same answer whole.", level="SHOULD", source=_OPENAI
)
def _usage_same(target: Target) -> Script[None]:
    streamed = (yield from stream(target, stream_options=_USAGE)).events[-1]
    whole = json_of((yield from chat(target)))
    for name in ("prompt_tokens", "completion_tokens"):
        equal(streamed, f"usage.{name}", find(whole, f"usage.{name}"))


@_stream.case("usage.false", "include_usage false asks for nothing.", source=_OPENAI)
def _usage_false(target: Target) -> Script[None]:
    for event in (yield from stream(target, stream_options={"include_usage": False})).events:
        require(event.get("usage") is None, "stream", "usage: expected none, got some")


@_stream.case(
    "n",
    "A stream of two answers has the chunks of both, told apart by index.",
    level="SHOULD",
    source=_OPENAI,
)
def _two(target: Target) -> Script[None]:
    streamed = yield from stream(target, n=2, max_tokens=3)
    chunks = _with_choices(streamed.events)
    indexes = {find(choice, "index") for chunk in chunks for choice in chunk["choices"]}
    require(indexes == {0, 1}, "stream", f"index: expected 0 and 1, got {sorted(indexes)}")
    ends = [choice for chunk in chunks for choice in chunk["choices"] if choice.get("finish_reason")]
    require(len(ends) == 2, "stream", f"finish_reason: expected one for each answer, got {len(ends)}")


@_stream.case("whole", "A request without stream, or with stream false, is answered whole.")
def _whole(target: Target) -> Script[None]:
    for changes in ({}, {"stream": False}, {"stream": None}):
        reply = yield from chat(target, max_tokens=1, **changes)
        status(reply, 200)
        equal(json_of(reply), "object", "chat.completion")


@_stream.case(
    "keep-alive", "A connection lives on behind a stream.", level="SHOULD", source="RFC 9112, section 9.3"
)
def _keep_alive(target: Target) -> Script[None]:
    link = yield from open_link(target)
    for _ in range(2):
        yield from link.send(request(target, "POST", CHAT, chat_body(target, stream=True, max_tokens=2)))
        status((yield from link.reply("POST")), 200)


@_stream.case("at-once", "Several streams at the same time each have the text that they have alone.")
def _at_once(target: Target) -> Script[None]:
    alone = (yield from stream(target)).text()
    several = yield Together(tuple(stream(target) for _ in range(3)))
    for streamed in several:
        require(streamed.text() == alone, "stream", f"expected {alone!r}, got {streamed.text()!r}")


@_stream.case("hang-up", "A client that goes away in the middle of a stream does the server no harm.")
def _hang_up(target: Target) -> Script[None]:
    link = yield from open_link(target)
    body = chat_body(target, stream=True, max_tokens=64)
    yield from link.send(request(target, "POST", CHAT, body))
    status((yield from link.head("POST")), 200)
    yield from link.piece()
    yield from link.close()
    status((yield from ask(target, "POST", CHAT, chat_body(target, max_tokens=1))), 200)


CASES = tuple(_stream.cases)
