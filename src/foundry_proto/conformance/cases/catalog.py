"""Lists of models: the catalogue as the first clients need it, and the lists of newer ones.

Knows: what the strictest client refuses a whole list for. Refuses to know: which models there are.
"""

from __future__ import annotations

import re
from typing import Any, Final

from foundry_proto.catalog import device_of, version_of
from foundry_proto.conformance.asking import ask
from foundry_proto.conformance.case import Section
from foundry_proto.conformance.expecting import (
    equal,
    error,
    find,
    is_a,
    json_of,
    one_of,
    require,
    status,
    text,
)
from foundry_proto.conformance.problems import Untestable
from foundry_proto.conformance.steps import Script
from foundry_proto.conformance.target import Target

__all__ = ["CASES"]

_PAGE: Final = "the REST reference page, GET /foundry/list"
_CLIENTS: Final = "the official clients, which refuse the whole list otherwise"
_list = Section("catalog", group="catalog", profiles=("documented", "sdk-0.5"), source=_PAGE)
_sdk = Section("catalog.sdk", group="catalog", profiles=("sdk-0.5",), source=_CLIENTS)
_cached = Section(
    "cached",
    group="catalog",
    profiles=("documented", "sdk-0.5"),
    source="the REST reference page, GET /openai/models",
)
_models = Section(
    "models",
    group="models",
    profiles=("core", "openai"),
    source="OpenAI's API reference, Models",
)

_TEXTS: Final = (
    "name",
    "displayName",
    "modelType",
    "providerType",
    "uri",
    "version",
    "publisher",
    "task",
    "alias",
    "license",
    "licenseDescription",
    "parentModelUri",
)


def _json(target: Target, path: str) -> Script[Any]:
    reply = yield from ask(target, "GET", path)
    status(reply, 200)
    return json_of(reply)


def _entries(target: Target) -> Script[list[Any]]:
    """The catalogue's elements, one at least."""
    body = yield from _json(target, "/foundry/list")
    entries = is_a(body, "models" if isinstance(body, dict) else "", list)
    if not entries:
        raise Untestable("the catalogue is empty")
    return list(entries)


@_list.case("array", "The list is a plain array.", profiles=("sdk-0.5",), source=_CLIENTS)
def _array(target: Target) -> Script[None]:
    is_a((yield from _json(target, "/foundry/list")), "", list)


@_list.case(
    "list", "The list is an array of objects, or an object whose models are one.", profiles=("documented",)
)
def _any_list(target: Target) -> Script[None]:
    body = yield from _json(target, "/foundry/list")
    for entry in is_a({"models": body if isinstance(body, list) else find(body, "models")}, "models", list):
        is_a(entry, "", dict)


@_list.case("texts", "Each model has its names, kinds, addresses and licence as strings.")
def _texts(target: Target) -> Script[None]:
    for entry in (yield from _entries(target)):
        for name in _TEXTS:
            is_a(entry, name, str)


@_list.case("size", "fileSizeMb is a whole number.")
def _size(target: Target) -> Script[None]:
    for entry in (yield from _entries(target)):
        is_a(entry, "fileSizeMb", int)


@_list.case("settings", "modelSettings is an object with parameters.")
def _settings(target: Target) -> Script[None]:
    for entry in (yield from _entries(target)):
        is_a(entry, "modelSettings", dict)


@_list.case("tools", "supportsToolCalling is true or false.")
def _tools(target: Target) -> Script[None]:
    for entry in (yield from _entries(target)):
        is_a(entry, "supportsToolCalling", bool)


@_list.case("runtime", "runtime names a device and an execution provider.")
def _runtime(target: Target) -> Script[None]:
    for entry in (yield from _entries(target)):
        text(entry, "runtime.executionProvider")
        text(entry, "runtime.deviceType")


@_list.case("names", "No two models of the list have one name.")
def _names(target: Target) -> Script[None]:
    names = [find(entry, "name") for entry in (yield from _entries(target))]
    require(len(set(names)) == len(names), "body", "name: expected another one for each model")


@_sdk.case("device", "deviceType is CPU, GPU or NPU, in these letters.")
def _device(target: Target) -> Script[None]:
    for entry in (yield from _entries(target)):
        one_of(entry, "runtime.deviceType", ("CPU", "GPU", "NPU"))


@_sdk.case("template", "promptTemplate is there: an object, or null.")
def _template(target: Target) -> Script[None]:
    for entry in (yield from _entries(target)):
        is_a(entry, "promptTemplate", dict, type(None))


@_sdk.case("output", "maxOutputTokens is there: a whole number, or null.")
def _output(target: Target) -> Script[None]:
    for entry in (yield from _entries(target)):
        is_a(entry, "maxOutputTokens", int, type(None))


@_sdk.case(
    "nulls", "Nothing but promptTemplate is null, for the clients that can read no null.", level="SHOULD"
)
def _nulls(target: Target) -> Script[None]:
    for entry in (yield from _entries(target)):
        nulls = [name for name, value in entry.items() if value is None and name != "promptTemplate"]
        require(not nulls, "body", f"expected no null, got {nulls} of {find(entry, 'name')}")


@_sdk.case("minimum", "minFLVersion is a string, for the clients that need it.", level="SHOULD")
def _minimum(target: Target) -> Script[None]:
    for entry in (yield from _entries(target)):
        is_a(entry, "minFLVersion", str)


@_sdk.case("id", "A model's name ends with its version, and version is the same.")
def _id(target: Target) -> Script[None]:
    for entry in (yield from _entries(target)):
        name = text(entry, "name")
        require(re.fullmatch(r".+:\d+", name), "body", f"name: expected a version at its end, got {name!r}")
        equal(entry, "version", name.rpartition(":")[2])


@_sdk.case(
    "order",
    "Of one alias models for an NPU come first, then GPU, then CPU; of one device newer ones first.",
    level="SHOULD",
)
def _order(target: Target) -> Script[None]:
    by_alias: dict[str, list[tuple[int, int]]] = {}
    for entry in (yield from _entries(target)):
        name = str(find(entry, "name"))
        device = ("NPU", "GPU", "CPU", None).index(device_of(name))
        generic = "-generic-" in name
        rank = (2 * device + generic, -version_of(name))
        by_alias.setdefault(str(find(entry, "alias")), []).append(rank)
    for alias, ranks in by_alias.items():
        require(ranks == sorted(ranks), "body", f"expected the models of {alias} in another order")


@_cached.case("array", "The cached models are an array of ids.")
def _cached_array(target: Target) -> Script[None]:
    for number, _ in enumerate(is_a((yield from _json(target, "/openai/models")), "", list)):
        text((yield from _json(target, "/openai/models")), f"[{number}]")


@_cached.case(
    "known", "Each cached model is a model of the list.", source="the official clients, which drop the others"
)
def _cached_known(target: Target) -> Script[None]:
    names = [find(entry, "name") for entry in (yield from _entries(target))]
    for one in is_a((yield from _json(target, "/openai/models")), "", list):
        require(one in names, "body", f"expected a name of /foundry/list, got {one!r}")


@_cached.case("model", "A model that can be used is among the cached ones.", needs=("model",))
def _cached_model(target: Target) -> Script[None]:
    cached = yield from _json(target, "/openai/models")
    require(target.listed in cached, "body", f"expected {target.model_id} among {cached}")


@_models.case("list", "The models are a list object.")
def _model_list(target: Target) -> Script[None]:
    body = yield from _json(target, "/v1/models")
    equal(body, "object", "list")
    is_a(body, "data", list)


@_models.case("entries", "Each model has id, object, created and owned_by.")
def _model_entries(target: Target) -> Script[None]:
    for entry in is_a((yield from _json(target, "/v1/models")), "data", list):
        text(entry, "id")
        equal(entry, "object", "model")
        is_a(entry, "created", int)
        is_a(entry, "owned_by", str)


@_models.case("model", "A model that can be used is among them.", needs=("model",))
def _model_there(target: Target) -> Script[None]:
    ids = [find(one, "id") for one in is_a((yield from _json(target, "/v1/models")), "data", list)]
    require(target.listed in ids, "body", f"expected {target.model_id} among {ids}")


@_models.case("ids", "No two models have one id.")
def _model_ids(target: Target) -> Script[None]:
    ids = [find(one, "id") for one in is_a((yield from _json(target, "/v1/models")), "data", list)]
    require(len(set(ids)) == len(ids), "body", "id: expected another one for each model")


@_models.case("usable", "A chat can use a model by the id that the list has.", needs=("model",))
def _model_usable(target: Target) -> Script[None]:
    body = {"model": target.listed, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    status((yield from ask(target, "POST", "/v1/chat/completions", body)), 200)


@_models.case("one", "A model is described by its id.", needs=("model",))
def _one(target: Target) -> Script[None]:
    body = yield from _json(target, f"/v1/models/{target.listed}")
    equal(body, "id", target.listed)
    equal(body, "object", "model")


@_models.case(
    "one.encoded",
    "A model's id may be percent-encoded in a path.",
    needs=("model",),
    source="the newer clients, which encode it",
)
def _one_encoded(target: Target) -> Script[None]:
    body = yield from _json(target, f"/v1/models/{target.listed.replace(':', '%3A')}")
    equal(body, "id", target.listed)


@_models.case("one.same", "A model is described as it is listed.", level="SHOULD", needs=("model",))
def _one_same(target: Target) -> Script[None]:
    listed = find((yield from _json(target, "/v1/models")), "data")
    body = yield from _json(target, f"/v1/models/{target.listed}")
    require(body in listed, "body", f"expected what the list has, got {body}")


@_models.case("unknown", "A model that nobody knows is answered with 404 and an error object.")
def _unknown(target: Target) -> Script[None]:
    error((yield from ask(target, "GET", "/v1/models/no-such-model:1")), 404)


CASES = (*_list.cases, *_sdk.cases, *_cached.cases, *_models.cases)
