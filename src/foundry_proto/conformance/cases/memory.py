"""Models in memory, by the first service's routes: loading, unloading, and how long they stay.

Knows: that a model which somebody else has loaded is left alone (`Target.loaded_before`).
Refuses to know: what loading means for an engine, and the newer service's routes (`core_memory.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

from foundry_proto.conformance.asking import CHAT, ask, chat, chat_body, events_of, open_link, request
from foundry_proto.conformance.case import Section
from foundry_proto.conformance.cases._in_memory import expect_in_memory, in_path, models_in_memory
from foundry_proto.conformance.expecting import error, require, says_no_model, status
from foundry_proto.conformance.link import Reply
from foundry_proto.conformance.steps import Happened, Script, Sleep, Together
from foundry_proto.conformance.target import Target

__all__ = ["CASES"]

_CLIENTS: Final = "the official clients' own tests"
_load = Section(
    "load",
    group="memory",
    profiles=("documented", "sdk-0.5"),
    source="the REST reference page, GET /openai/load/{name}",
    needs=("model", "unload"),
    order="alone",
)
_unload = Section(
    "unload",
    group="memory",
    profiles=("documented", "sdk-0.5"),
    source="the REST reference page, GET /openai/unload/{name}",
    needs=("model", "unload"),
    order="alone",
)
_LIST: Final = "/openai/loadedmodels"
_PATIENCE: Final = 5.0
"""Seconds for which a model may stay when its time to live is over."""


def _done(target: Target, path: str) -> Script[None]:
    """Ask for what is answered with 200 and an empty body."""
    reply = yield from ask(target, "GET", path)
    status(reply, 200)
    require(not reply.body, "body", f"expected an empty body, got {reply.body[:80]!r}")


def _ok(target: Target, path: str) -> Script[None]:
    status((yield from ask(target, "GET", path)), 200)


def _load_it(target: Target, query: str = "?ttl=600&ep=") -> Script[None]:
    yield from _ok(target, f"/openai/load/{in_path(target.model_id)}{query}")


def _unload_it(target: Target) -> Script[None]:
    yield from _ok(target, f"/openai/unload/{in_path(target.model_id)}?force=true")


def _loaded(target: Target) -> Script[list[Any]]:
    return models_in_memory(target, _LIST)


def _is_loaded(target: Target, expected: bool) -> Script[None]:
    return expect_in_memory(target, _LIST, expected=expected)


@_load.case("empty", "A load is answered with 200 and an empty body.")
def _empty(target: Target) -> Script[None]:
    yield from _done(target, f"/openai/load/{in_path(target.model_id)}?ttl=600&ep=")


@_load.case("listed", "A model that was loaded is among those in memory, by its id.")
def _listed(target: Target) -> Script[None]:
    yield from _load_it(target)
    yield from _is_loaded(target, expected=True)


@_load.case("strings", "The models in memory are an array of ids.")
def _strings(target: Target) -> Script[None]:
    for one in (yield from _loaded(target)):
        require(isinstance(one, str), "body", f"expected strings, got {one!r}")


@_load.case("again", "A model that is in memory may be loaded again.")
def _again(target: Target) -> Script[None]:
    yield from _load_it(target)
    yield from _load_it(target)
    names = yield from _loaded(target)
    count = names.count(target.model_id)
    require(count == 1, "state", f"expected the model once, got it {count} times")


@_load.case("chat", "A model that was loaded answers.")
def _chat(target: Target) -> Script[None]:
    yield from _load_it(target)
    status((yield from chat(target, max_tokens=1)), 200)


@_load.case("together", "Two loads of one model at the same time both succeed.")
def _together(target: Target) -> Script[None]:
    yield from _unload_it(target)
    yield Together((_load_it(target), _load_it(target)))
    yield from _is_loaded(target, expected=True)


@_load.case("encoded", "A name's colon may be percent-encoded.")
def _encoded(target: Target) -> Script[None]:
    yield from _ok(target, f"/openai/load/{quote(target.model_id, safe='')}?ttl=600")


@_load.case(
    "versionless",
    "A name may lack its version.",
    level="SHOULD",
    source="the REST reference page, whose examples do",
)
def _versionless(target: Target) -> Script[None]:
    name = quote(target.model_id.partition(":")[0])
    yield from _ok(target, f"/openai/load/{name}?ttl=600")
    yield from _is_loaded(target, expected=True)


@_load.case(
    "case",
    "A name may be written in any letter case.",
    level="SHOULD",
    source="the official clients, which compare so",
)
def _case(target: Target) -> Script[None]:
    yield from _ok(target, f"/openai/load/{in_path(target.model_id).upper()}?ttl=600")
    yield from _is_loaded(target, expected=True)


@_load.case(
    "timeout",
    "A client that sends timeout in place of ttl is answered.",
    profiles=("sdk-0.5",),
    source="the official client for C#",
)
def _timeout(target: Target) -> Script[None]:
    yield from _load_it(target, "?timeout=600")


@_load.case("unload.false", "unload=false is accepted.")
def _keep(target: Target) -> Script[None]:
    yield from _load_it(target, "?unload=false")
    yield from _load_it(target)


@_load.case("ep", "ep=cpu is accepted.", level="SHOULD")
def _ep(target: Target) -> Script[None]:
    yield from _load_it(target, "?ttl=600&ep=cpu")


_REFUSED: Final = (
    ("ep.unknown", "An execution provider that nobody knows is refused.", "?ep=steam"),
    ("ttl.word", "A ttl that is no number is refused.", "?ttl=soon"),
    ("ttl.negative", "A negative ttl is refused.", "?ttl=-5"),
    ("unload.word", "An unload that is neither true nor false is refused.", "?unload=perhaps"),
)


def _add_refused(name: str, requirement: str, query: str) -> None:
    def script(target: Target) -> Script[None]:
        error((yield from ask(target, "GET", f"/openai/load/{in_path(target.model_id)}{query}")), 400, 422)

    _load.add(name, requirement, script, level="SHOULD", profiles=("documented",))


for _row in _REFUSED:
    _add_refused(*_row)


@_load.case(
    "unknown",
    "A model that nobody knows is not loaded: an error status, and the words that the clients look for.",
    profiles=("sdk-0.5",),
    needs=(),
    source="the official clients, which search for them",
)
def _unknown(target: Target) -> Script[None]:
    reply = yield from ask(target, "GET", "/openai/load/no-such-model:1?ttl=600&ep=")
    require(reply.status >= 400, "status", f"expected an error, got {reply.status}")
    says_no_model(reply)


@_load.case("unknown.status", "A model that nobody knows is refused.", needs=())
def _unknown_status(target: Target) -> Script[None]:
    error((yield from ask(target, "GET", "/openai/load/no-such-model:1")), 400, 404)


@_load.case(
    "uncached",
    "A model that must be downloaded first is not loaded, with the words that the clients look for.",
    profiles=("sdk-0.5",),
    needs=("uncached",),
    source="the official clients, which search for them",
)
def _uncached(target: Target) -> Script[None]:
    assert target.uncached is not None
    reply = yield from ask(target, "GET", f"/openai/load/{in_path(target.uncached['name'])}")
    require(reply.status >= 400, "status", f"expected an error, got {reply.status}")
    says_no_model(reply)


@_load.case(
    "redirect",
    "A load is never redirected.",
    profiles=("sdk-0.5",),
    source="the official clients, which follow no redirection",
)
def _redirect(target: Target) -> Script[None]:
    reply = yield from ask(target, "GET", f"/openai/load/{in_path(target.model_id)}?ttl=600&ep=")
    require(not 300 <= reply.status < 400, "status", f"expected no redirection, got {reply.status}")


@_load.case("ttl", "A model leaves the memory when nobody has used it for its ttl.")
def _ttl(target: Target) -> Script[None]:
    yield from _unload_it(target)
    yield from _load_it(target, "?ttl=1")
    yield from _is_loaded(target, expected=True)
    yield from _leaves(target, 1.0)
    yield from _load_it(target)


def _leaves(target: Target, ttl: float) -> Script[None]:
    """Wait until the model has left the memory."""
    yield Sleep(ttl)
    began: Happened = yield Sleep(0.1)
    now = began
    while target.model_id in (yield from _loaded(target)):
        waited = now.at - began.at < _PATIENCE
        require(waited, "state", f"expected the model to be gone {_PATIENCE:g} s after its time")
        now = yield Sleep(0.2)


@_unload.case("empty", "An unload is answered with 200 and an empty body.")
def _unload_empty(target: Target) -> Script[None]:
    yield from _load_it(target)
    yield from _done(target, f"/openai/unload/{in_path(target.model_id)}?force=true")


@_unload.case("force", "With force a model leaves the memory at once.")
def _force(target: Target) -> Script[None]:
    yield from _load_it(target)
    yield from _unload_it(target)
    yield from _is_loaded(target, expected=False)


@_unload.case(
    "gentle",
    "Without force a model stays while its time to live is not over, and the answer is 200.",
    source=_CLIENTS,
)
def _gentle(target: Target) -> Script[None]:
    yield from _load_it(target, "?ttl=600")
    yield from _ok(target, f"/openai/unload/{in_path(target.model_id)}?force=false")
    yield from _is_loaded(target, expected=True)


@_unload.case("default", "An unload without a word is one without force.", level="SHOULD")
def _default(target: Target) -> Script[None]:
    yield from _load_it(target, "?ttl=600")
    yield from _ok(target, f"/openai/unload/{in_path(target.model_id)}")
    yield from _is_loaded(target, expected=True)


@_unload.case(
    "again", "A model that is not in memory may be unloaded: 200, and nothing happens.", level="SHOULD"
)
def _unload_again(target: Target) -> Script[None]:
    yield from _unload_it(target)
    yield from _unload_it(target)


@_unload.case("unknown", "A model that nobody knows is not unloaded.", level="SHOULD", needs=())
def _unload_unknown(target: Target) -> Script[None]:
    error((yield from ask(target, "GET", "/openai/unload/no-such-model:1?force=true")), 404, 400)


@_unload.case(
    "word", "A force that is neither true nor false is refused.", level="SHOULD", profiles=("documented",)
)
def _unload_word(target: Target) -> Script[None]:
    error(
        (yield from ask(target, "GET", f"/openai/unload/{in_path(target.model_id)}?force=perhaps")), 400, 422
    )


@_unload.case("reload", "A model that was unloaded can be used again.")
def _reload(target: Target) -> Script[None]:
    yield from _unload_it(target)
    yield from _load_it(target)
    status((yield from chat(target, max_tokens=1)), 200)


@_unload.case(
    "auto",
    "A chat loads its model by itself.",
    level="SHOULD",
    source="the first service, whose clients count on it",
)
def _auto(target: Target) -> Script[None]:
    yield from _unload_it(target)
    status((yield from chat(target, max_tokens=1)), 200)
    yield from _is_loaded(target, expected=True)


@_unload.case(
    "all",
    "unloadall is answered with 200 and an empty body, and no model is in memory then.",
    source="the REST reference page, GET /openai/unloadall",
)
def _all(target: Target) -> Script[None]:
    yield from _load_it(target)
    yield from _done(target, "/openai/unloadall")
    names = yield from _loaded(target)
    require(names == [], "state", f"expected no models in memory, got {names}")


def _unload_under(target: Target, unload: Callable[[Target], Script[Any]]) -> Script[Reply]:
    """Unload the model in the middle of a stream, and read the stream on."""
    link = yield from open_link(target)
    yield from link.send(request(target, "POST", CHAT, chat_body(target, stream=True, max_tokens=48)))
    status((yield from link.head("POST")), 200)
    yield from link.piece()
    yield from unload(target)
    return (yield from link.rest())


@_unload.case("running", "An unload with force does not cut a stream that runs.")
def _running(target: Target) -> Script[None]:
    yield from _load_it(target)
    reply = yield from _unload_under(target, _unload_it)
    streamed = events_of(reply)
    require(streamed.done, "stream", "expected data: [DONE] at the end, got the end")


@_unload.case(
    "running.request",
    "A request that comes while a model is unloaded under a stream is answered, too.",
    level="SHOULD",
)
def _running_request(target: Target) -> Script[None]:
    yield from _load_it(target)

    def unload_and_ask(one: Target) -> Script[None]:
        yield from _unload_it(one)
        status((yield from chat(one, max_tokens=1)), 200)

    reply = yield from _unload_under(target, unload_and_ask)
    require(events_of(reply).done, "stream", "expected data: [DONE] at the end, got the end")


@_unload.case("hang-up", "A stream whose client is gone does not keep its model in memory.", level="SHOULD")
def _hung_up(target: Target) -> Script[None]:
    yield from _load_it(target)
    link = yield from open_link(target)
    yield from link.send(request(target, "POST", CHAT, chat_body(target, stream=True, max_tokens=48)))
    yield from link.head("POST")
    yield from link.close()
    yield from _unload_it(target)
    yield from _is_loaded(target, expected=False)


CASES = (*_load.cases, *_unload.cases)
