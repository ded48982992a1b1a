"""Forms made to hurt: each is refused or followed, from a thread with little stack; the process lives on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import reduce
from typing import Any, Final, TypeVar

import pytest

from foundry_proto.jsontext import ContentError
from foundry_runtime.engine.text.guidance._library import GuidanceError
from foundry_runtime.engine.text.guidance.forms import Form, Json, Lark, Literal, Regex
from tests.runtime.text.guidance.walking import Walker

T = TypeVar("T")


def chain(link: Callable[[int], object], length: int, end: object) -> dict[str, Any]:
    """Definitions of which each refers to the next."""
    links = {f"d{index}": link(index + 1) for index in range(length)}
    return {"$defs": {**links, f"d{length}": end}, "$ref": "#/$defs/d0"}


def nested(link: Callable[[object], object], depth: int, inner: object) -> object:
    return reduce(lambda inner, _: link(inner), range(depth), inner)


def next_one(index: int) -> dict[str, str]:
    return {"$ref": f"#/$defs/d{index}"}


def rules(right: str, count: int = 480) -> str:
    lines = [f"r{index}: {right.replace('NEXT', f'r{index + 1}')}" for index in range(count)]
    return "\n".join(["start: r0", *lines, f'r{count}: "a"'])


SCHEMAS: Final[dict[str, object]] = {
    "references in a row": chain(next_one, 2000, {"type": "string"}),
    "unions in a row": chain(lambda index: {"anyOf": [next_one(index), {"type": "null"}]}, 1200, {}),
    "objects in a row": chain(
        lambda index: {"properties": {"x": next_one(index)}, "required": ["x"]}, 900, {}
    ),
    "intersections in a row": chain(lambda index: {"allOf": [next_one(index), {"minLength": 1}]}, 900, {}),
    "twice as many at each step": chain(lambda index: {"prefixItems": [next_one(index)] * 10}, 30, {}),
    "an object without an end": {"properties": {"x": {"$ref": "#"}}, "required": ["x"]},
    "arrays in arrays": nested(lambda inner: {"items": inner, "minItems": 1000}, 38, {}),
    "a billion items": {"type": "array", "minItems": 10**9, "maxItems": 10**12},
    "a billion letters": {"type": "string", "minLength": 10**9},
    "many properties": {"properties": {f"p{index}": {"type": "string"} for index in range(500)}},
    "many constants": {"enum": [f"value {index}" for index in range(4000)]},
    "many objects": {"enum": [{"a": index} for index in range(2400)]},
    "a long constant": {"const": "x" * 100_000},
    "deep constants": {"const": nested(lambda inner: [inner], 90, [])},
    "a pattern of powers": {"type": "string", "pattern": "^(((a{1,1000}){1,1000}){1,1000}){1,1000}$"},
    "a pattern with many states": {"type": "string", "pattern": "(a|b)*a(a|b){30}", "maxLength": 1000},
    "patterns that meet": {"allOf": [{"pattern": f"^(a|b)*a(a|b){{{n}}}$"} for n in range(20, 24)]},
    "names with many states": {"patternProperties": {f"^{x}(a|b)*a(a|b){{20}}$": {} for x in "cdefgh"}},
}
GRAMMARS: Final = {
    "rules in a row": rules("NEXT"),
    "groups in a row": rules('(("x"? NEXT)?)+'),
    "terminals in a row": rules("(NEXT)?").replace("r", "R").replace("staRt: R0", "start: R0"),
    "twice as many at each step": rules("NEXT NEXT", 30),
    "a billion times": 'start: ("a"{1,1000000000} "b"){1,1000000000}',
    "nothing, many times": 'start: (""{1,100000}){1,100000} "a"',
    "itself": "start: start start | ",
    "in many ways": "start: (/a/ | /aa/ | /a*/)*",
    "not that": "start: A\nA: ~/.*(a|b){20}c/ & ~/(.*x){10}.{20}/ & /(?s:.*)/",
    "parts of a text": 'start: A\nA: %regex {"substring_chars": "' + "abcdefgh" * 1000 + '"}',
    "many ways on": "start: " + " | ".join(f'"w{index}" start' for index in range(2500)),
    "an array within": 'start: %json {"maxItems": 1000000000, "items": {"minItems": 1000000000}}',
    "parentheses": "start: " + "(" * 999 + '"a"' + ")" * 999,
    "no end": "start: /",
}
EXPRESSIONS: Final = {
    "powers": "(((a{1,1000}){1,1000}){1,1000}){1,1000}",
    "stars": "(" * 200 + "a" + ")*" * 200,
    "many states": "(.*a){20}.{50}b.*",
    "classes": r"\p{L}{1,1000}[\p{L}&&[^a]]{1000}",
    "a choice of many": "|".join(f"w{index}" for index in range(600)),
    "what may be left out": "(?:a?){1000}a{1000}",
    "halves of pairs": "\\x{d800}",
}
FORMS: Final[dict[str, Form]] = {
    **{f"a schema: {name}": Json(schema) for name, schema in SCHEMAS.items()},
    **{f"a grammar: {name}": Lark(grammar) for name, grammar in GRAMMARS.items()},
    **{f"an expression: {name}": Regex(pattern) for name, pattern in EXPRESSIONS.items()},
}


def with_little_stack(work: Callable[[], T]) -> T:
    """Work in a thread as small as any system makes them."""
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again below
            result.set_exception(error)

    usual = threading.stack_size(512 * 1024)
    try:
        thread = threading.Thread(target=run)
        thread.start()
    finally:
        threading.stack_size(usual)
    thread.join()
    return result.result()


@pytest.mark.parametrize("name", FORMS)
def test_a_form_that_would_hurt_is_refused_or_followed(walker: Walker, name: str) -> None:
    def follow() -> None:
        # What goes wrong later ends its own answer.
        with suppress(ContentError, GuidanceError):
            walker.walk(walker.guidance.compile(FORMS[name]), most=40)

    with_little_stack(follow)
    assert walker.walk(walker.guidance.compile(Literal("on it goes"))) == "on it goes"
