"""What a case expects, in words that a report can print: each function returns, or says what came instead.

Knows: the aspects of an answer that are judged. Refuses to know: any route.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Final, TypeVar

from foundry_proto.codec import ContentError, decode, structure
from foundry_proto.conformance.link import Reply
from foundry_proto.conformance.problems import Aspect, Unmet, Untestable
from foundry_proto.jsontext import show

__all__ = [
    "equal",
    "error",
    "find",
    "is_a",
    "json_of",
    "media_type",
    "message",
    "one_of",
    "refused",
    "require",
    "says_no_model",
    "status",
    "structured",
    "text",
]

T = TypeVar("T")

_NOUNS: Final[dict[type, str]] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "an array",
    dict: "an object",
    type(None): "null",
}
_STEP: Final = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_MISSING: Final = object()
_NO_MODEL: Final = "No OpenAIService provider found for modelName"


def require(condition: object, aspect: Aspect, otherwise: str) -> None:
    """Expect something to be true.

    Raises:
        Unmet: It is not; `otherwise` says what was expected, and what came.
    """
    if not condition:
        raise Unmet(aspect, otherwise)


def status(reply: Reply, *expected: int) -> None:
    """Expect one of these statuses.

    Raises:
        Unmet: It is another one.
        Untestable: The model's context is too small for what was asked.
    """
    if reply.status == 400 and 200 in expected and b"context_length_exceeded" in reply.body:
        raise Untestable("the model's context is too small for it")
    names = " or ".join(map(str, expected))
    got = f"{reply.status}{_excerpt(reply)}"
    require(reply.status in expected, "status", f"expected {names}, got {got}")


def _excerpt(reply: Reply) -> str:
    body = reply.body[:160].decode("utf-8", "replace").strip()
    return f" with {body!r}" if body else ""


def media_type(reply: Reply, expected: str) -> None:
    """Expect a media type, whatever its parameters."""
    got = reply.header("content-type")
    media = (got or "").partition(";")[0].strip().lower()
    require(media == expected, "headers", f"content-type: expected {expected}, got {got or 'none'}")


def json_of(reply: Reply) -> Any:
    """Expect JSON, and give it; whether it is said to be JSON is judged by cases of its own."""
    return message(reply, object)


def message(reply: Reply, cls: type[T]) -> T:
    """Expect the body to be a message of this class, and give it."""
    try:
        return decode(cls, reply.body)
    except ContentError as error:
        raise Unmet("body", str(error)) from None


def structured(value: object, cls: type[T]) -> T:
    """Expect a JSON value to be a message of this class, and give it."""
    try:
        return structure(cls, value)
    except ContentError as error:
        raise Unmet("body", str(error)) from None


def find(value: Any, path: str, default: Any = _MISSING) -> Any:
    """Give what stands at a path such as `choices[0].message.role`; expect that something does.

    Args:
        value: Where to look.
        path: From there on.
        default: What to give where nothing is; without it something is expected.
    """
    found, seen = value, ""
    for key, index in _STEP.findall(path):
        seen += f"[{index}]" if index else f".{key}" if seen else key
        try:
            found = found[int(index) if index else key]
        except (KeyError, IndexError, TypeError):
            if default is not _MISSING:
                return default
            raise Unmet("body", f"{path}: expected a value, and nothing is at {seen}") from None
    return found


def equal(value: Any, path: str, expected: object) -> None:
    """Expect a value at a path."""
    got = find(value, path)
    same = got == expected and type(got) is type(expected)
    require(same, "body", f"{path}: expected {show(expected)}, got {show(got)}")


def one_of(value: Any, path: str, expected: Collection[object]) -> None:
    """Expect one of several values at a path."""
    got = find(value, path)
    names = " or ".join(show(one) for one in expected)
    require(got in expected, "body", f"{path}: expected {names}, got {show(got)}")


def is_a(value: Any, path: str, *kinds: type) -> Any:
    """Expect a kind of JSON value at a path, and give it; an empty path is the value itself."""
    got = find(value, path)
    names = " or ".join(_NOUNS[kind] for kind in kinds)
    require(type(got) in kinds, "body", f"{path or 'body'}: expected {names}, got {show(got)}")
    return got


def text(value: Any, path: str) -> str:
    """Expect a string that is not empty at a path, and give it."""
    got: str = is_a(value, path, str)
    require(got, "body", f'{path}: expected a string that is not empty, got ""')
    return got


def error(reply: Reply, *expected: int) -> Any:
    """Expect a refusal with one of these statuses and OpenAI's error object, and give the body."""
    status(reply, *expected)
    body = json_of(reply)
    _is_error_object(body)
    return body


def refused(reply: Reply | None, *expected: int) -> None:
    """Expect a refusal, or that the server has closed the connection without a word."""
    if reply is not None:
        status(reply, *expected)


def says_no_model(reply: Reply) -> None:
    """Expect the words by which the official clients tell that a model is not there to be loaded."""
    require(
        _NO_MODEL.encode() in reply.body, "body", f"expected {_NO_MODEL!r} in it, got {reply.body[:160]!r}"
    )


def _is_error_object(body: Any) -> None:
    """Expect OpenAI's error object in a body."""
    text(body, "error.message")
    text(body, "error.type")
