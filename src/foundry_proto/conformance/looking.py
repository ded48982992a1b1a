"""What is to be known of a server before cases are tried: a model, what is offered, what must be left alone.

Knows: where each of these can be found, in servers of all profiles. Whatever is not found is no failure here:
the cases that need it say so.
Refuses to know: what conforms.
"""

from __future__ import annotations

from typing import Any, Final

from attrs import evolve

from foundry_proto.conformance.asking import CHAT, ask, chat_body
from foundry_proto.conformance.case import GROUPS
from foundry_proto.conformance.link import Reply
from foundry_proto.conformance.problems import Unmet
from foundry_proto.conformance.steps import Script
from foundry_proto.conformance.target import Target
from foundry_proto.jsontext import ContentError, load_json

__all__ = ["look"]

_GETS: Final = ("/v1/models", "/openai/models", "/openai/status", "/status")
_LOADED: Final = ("/openai/loadedmodels", "/models/loaded")
_LOADERS: Final = (("/openai/loadedmodels", "/openai/load/"), ("/models/loaded", "/models/load/"))
_ABSENT: Final = (404, 405, 501)
_MOST_TRIED: Final = 5
"""Models that are asked for vectors, until one gives any."""


def look(target: Target) -> Script[Target]:
    """Find out what is to be known of a server.

    Args:
        target: How it is reached; a model that is named there is not looked for.

    Returns:
        The script, which returns the same target with what was found.

    Raises:
        Unmet: It cannot be reached, or what it says is no HTTP.
    """
    target = evolve(target, get=(yield from _path(target)))
    loaded = yield from _loaded(target)
    catalog = yield from _list(target, "/foundry/list")
    cached = yield from _list(target, "/openai/models")
    served = yield from _list(target, "/v1/models")
    ids = [name for name in (_id(one) for one in (*served, *cached)) if name]
    named = target.model or _first_chat_model(ids, catalog)
    target = evolve(target, model=named, loaded_before=bool(loaded))
    target = evolve(target, loader=(yield from _loader(target)))
    target = evolve(target, model_trouble=(yield from _trouble(target)))
    target = evolve(
        target,
        absent=(yield from _absent(target)),
        listed=_listed(named, ids, catalog),
        uncached=next((one for one in catalog if _id(one) and _id(one) not in cached), None),
    )
    return evolve(target, embedder=(yield from _embedder(target, ids)))


def _ask(target: Target, method: str, path: str, body: object = None) -> Script[Reply | None]:
    """Ask; what is broken is left to the cases."""
    try:
        return (yield from ask(target, method, path, body))
    except Unmet as unmet:
        if unmet.aspect == "connection" and path == _GETS[0]:
            raise
        return None


def _value(reply: Reply | None) -> Any:
    if reply is None or reply.status != 200:
        return None
    try:
        return load_json(reply.body)
    except ContentError:
        return None


def _path(target: Target) -> Script[str]:
    """A path that answers GET."""
    for path in _GETS:
        reply = yield from _ask(target, "GET", path)
        if reply is not None and reply.status == 200:
            return path
    return _GETS[0]


def _list(target: Target, path: str) -> Script[list[Any]]:
    value = _value((yield from _ask(target, "GET", path)))
    if isinstance(value, dict):
        value = value.get("data") or value.get("models")
    return value if isinstance(value, list) else []


def _id(one: Any) -> str:
    """What a list's element calls its model."""
    name = (one.get("id") or one.get("name")) if isinstance(one, dict) else one
    return name if isinstance(name, str) else ""


def _loaded(target: Target) -> Script[list[Any]]:
    loaded: list[Any] = []
    for path in _LOADED:
        loaded += yield from _list(target, path)
    return loaded


def _first_chat_model(ids: list[str], catalog: list[Any]) -> str:
    tasks = {_id(one): one.get("task") for one in catalog if isinstance(one, dict)}
    return next((name for name in ids if tasks.get(name, "chat-completion") == "chat-completion"), "")


def _listed(name: str, ids: list[str], catalog: list[Any]) -> str:
    """The id in the lists of a model that may have been named in other letters, in part, or by its alias."""
    wanted = name.casefold()
    aliases = [_id(one) for one in catalog if isinstance(one, dict) and one.get("alias") == name]
    meant = [one for one in ids if one.casefold().partition(":")[0] == wanted.partition(":")[0]]
    return next((one for one in (*meant, *aliases) if one in ids), "")


def _loader(target: Target) -> Script[Any]:
    """Where models are loaded: beside the list of those that are."""
    for listing, path in _LOADERS:
        reply = yield from _ask(target, "GET", listing)
        if reply is not None and reply.status == 200:
            return path
    return ""


def _trouble(target: Target) -> Script[str]:
    if not target.model:
        return "no model was named, and none is listed"
    reply = yield from _ask(target, "POST", CHAT, chat_body(target, max_tokens=1))
    if target.loader and (reply is None or reply.status != 200):
        yield from _ask(target, "GET", f"{target.loader}{target.model}")
        reply = yield from _ask(target, "POST", CHAT, chat_body(target, max_tokens=1))
    if reply is None:
        return f"{target.model} does not answer"
    body = reply.body[:160].decode("utf-8", "replace")
    return "" if reply.status == 200 else f"{target.model} does not answer: status {reply.status}, {body}"


def _absent(target: Target) -> Script[frozenset[str]]:
    absent = set()
    for group, (method, path) in GROUPS.items():
        reply = yield from _ask(target, method, path, {} if method == "POST" else None)
        if reply is None or reply.status in _ABSENT:
            absent.add(group)
    return frozenset(absent)


def _embedder(target: Target, ids: list[str]) -> Script[str]:
    if "embeddings" in target.absent:
        return ""
    for name in dict.fromkeys([target.model, *ids[:_MOST_TRIED]]):
        reply = yield from _ask(target, "POST", "/v1/embeddings", {"model": name, "input": "a"})
        if reply is not None and reply.status == 200:
            return name
    return ""
