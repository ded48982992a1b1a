"""Models in memory, by the newer service's routes, whose answers say what has happened.

Knows: those words (`loaded`, `already_loaded`, `unloaded`, `not_loaded`).
Refuses to know: the first service's routes, and what holds whichever route is used (`memory.py`).
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from foundry_proto.conformance.asking import ask, chat
from foundry_proto.conformance.case import Section
from foundry_proto.conformance.cases._in_memory import expect_in_memory, in_path
from foundry_proto.conformance.expecting import equal, error, json_of, one_of, status
from foundry_proto.conformance.link import Reply
from foundry_proto.conformance.steps import Script
from foundry_proto.conformance.target import Target

__all__ = ["CASES"]

_core = Section(
    "core.memory",
    group="core-memory",
    profiles=("core",),
    source="the newer service, GET /models/load and /models/unload",
    needs=("model", "unload"),
    order="alone",
)
_LIST: Final = "/models/loaded"


def _load_it(target: Target) -> Script[Reply]:
    return ask(target, "GET", f"/models/load/{in_path(target.model_id)}")


def _unload_it(target: Target) -> Script[Reply]:
    return ask(target, "GET", f"/models/unload/{in_path(target.model_id)}")


@_core.case("loaded", "A load says loaded, or already_loaded.")
def _loaded(target: Target) -> Script[None]:
    reply = yield from _load_it(target)
    status(reply, 200)
    one_of(json_of(reply), "status", ("loaded", "already_loaded"))


@_core.case("loaded.again", "A load of a model that is in memory says already_loaded.")
def _again(target: Target) -> Script[None]:
    yield from _load_it(target)
    reply = yield from _load_it(target)
    status(reply, 200)
    equal(json_of(reply), "status", "already_loaded")


@_core.case("list", "The models in memory are an array of ids.")
def _listed(target: Target) -> Script[None]:
    yield from _load_it(target)
    yield from expect_in_memory(target, _LIST, expected=True)


@_core.case("unloaded", "An unload says unloaded, and the model is gone.")
def _unloaded(target: Target) -> Script[None]:
    yield from _load_it(target)
    reply = yield from _unload_it(target)
    status(reply, 200)
    equal(json_of(reply), "status", "unloaded")
    yield from expect_in_memory(target, _LIST, expected=False)


@_core.case("unloaded.again", "An unload of a model that is not in memory says not_loaded.")
def _unloaded_again(target: Target) -> Script[None]:
    yield from _unload_it(target)
    reply = yield from _unload_it(target)
    status(reply, 200)
    equal(json_of(reply), "status", "not_loaded")


@_core.case("encoded", "A name may be percent-encoded, as the clients do.")
def _encoded(target: Target) -> Script[None]:
    path = f"/models/load/{quote(target.model_id, safe='')}"
    status((yield from ask(target, "GET", path)), 200)


@_core.case("load.unknown", "A model that nobody knows is answered with 404.", needs=())
def _unknown(target: Target) -> Script[None]:
    error((yield from ask(target, "GET", "/models/load/no-such-model:1")), 404)


@_core.case("unload.unknown", "An unload of a model that nobody knows is answered with 404.", needs=())
def _unload_unknown(target: Target) -> Script[None]:
    error((yield from ask(target, "GET", "/models/unload/no-such-model:1")), 404)


@_core.case(
    "load.uncached", "A model that must be downloaded first is refused with 400.", needs=("uncached",)
)
def _uncached(target: Target) -> Script[None]:
    assert target.uncached is not None
    error((yield from ask(target, "GET", f"/models/load/{in_path(target.uncached['name'])}")), 400)


@_core.case("reload", "A model that was unloaded can be loaded and used again.")
def _reload(target: Target) -> Script[None]:
    yield from _unload_it(target)
    reply = yield from _load_it(target)
    equal(json_of(reply), "status", "loaded")
    status((yield from chat(target, max_tokens=1)), 200)


CASES = tuple(_core.cases)
