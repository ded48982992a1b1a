"""Counting a prompt's tokens without answering it.

Knows: that the count is what the same chat's `usage` says. Refuses to know: any tokenizer.
"""

from __future__ import annotations

from typing import Final

from foundry_proto.conformance.asking import LEFT_OUT, ask, chat, chat_body
from foundry_proto.conformance.case import Section
from foundry_proto.conformance.expecting import equal, error, find, is_a, json_of, require, status
from foundry_proto.conformance.steps import Script
from foundry_proto.conformance.target import Target

__all__ = ["CASES"]

_COUNT: Final = "/v1/chat/completions/tokenizer/encode/count"
_tokens = Section(
    "tokens",
    group="tokens",
    profiles=("documented",),
    source=f"the REST reference page, POST {_COUNT}",
    needs=("model",),
)
_EXAMPLE: Final = (
    {"role": "system", "content": "This is a system message"},
    {"role": "user", "content": "Hello, what is Microsoft?"},
)


def _count(target: Target, **changes: object) -> Script[int]:
    reply = yield from ask(target, "POST", _COUNT, chat_body(target, **changes))
    status(reply, 200)
    count: int = is_a(json_of(reply), "tokenCount", int)
    return count


@_tokens.case("example", "The page's own example is counted.")
def _example(target: Target) -> Script[None]:
    body = {"model": target.model, "messages": list(_EXAMPLE)}
    reply = yield from ask(target, "POST", _COUNT, body)
    status(reply, 200)
    count = is_a(json_of(reply), "tokenCount", int)
    require(count > 0, "body", f"tokenCount: expected more than 0, got {count}")


@_tokens.case("usage", "The count is the prompt_tokens of the same chat.", level="SHOULD")
def _usage(target: Target) -> Script[None]:
    count = yield from _count(target, messages=list(_EXAMPLE))
    reply = yield from chat(target, messages=list(_EXAMPLE), max_tokens=1)
    equal(json_of(reply), "usage.prompt_tokens", count)


@_tokens.case("more", "A longer prompt has more tokens.")
def _more(target: Target) -> Script[None]:
    few = yield from _count(target)
    many = yield from _count(target, messages=[{"role": "user", "content": "Name many colors. " * 20}])
    require(many > few, "body", f"tokenCount: expected more than {few}, got {many}")


@_tokens.case("model.missing", "A count without a model is refused.")
def _no_model(target: Target) -> Script[None]:
    error((yield from ask(target, "POST", _COUNT, chat_body(target, model=LEFT_OUT))), 400, 422)


@_tokens.case("model.unknown", "A count for a model that is not there is refused.")
def _unknown_model(target: Target) -> Script[None]:
    error((yield from ask(target, "POST", _COUNT, chat_body(target, model="no-such-model"))), 404, 400)


@_tokens.case("messages.missing", "A count without messages is refused.")
def _no_messages(target: Target) -> Script[None]:
    body = error((yield from ask(target, "POST", _COUNT, chat_body(target, messages=LEFT_OUT))), 400, 422)
    find(body, "error.message")


CASES = tuple(_tokens.cases)
