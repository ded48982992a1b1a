"""The cases that follow from the table of operations: one row there, several cases here.

Knows: what a row says: its methods, its types with their ranges, what streams, how failures look; and for
each operation a request that can be answered (`_SAMPLES`).
Refuses to know: what an operation means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import NoneType
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import attrs
from attrs import frozen

from foundry_proto.conformance.asking import LEFT_OUT, ask, chat_body, events_of, progress_of
from foundry_proto.conformance.case import Case, Group, Need, Order, ProfileName, Section
from foundry_proto.conformance.expecting import error, media_type, message, require, status, structured
from foundry_proto.conformance.link import Reply
from foundry_proto.conformance.steps import Call, Script
from foundry_proto.conformance.target import Target
from foundry_proto.messages.errors import CompatibleErrorBody, ErrorBody
from foundry_proto.operations import Operation, Operations
from foundry_proto.streams import PROGRESS
from foundry_proto.wire import Between, describe, field_name, fields_of, json_kinds, members, wire_of

__all__ = ["derive"]

_Op = Operation[Any, Any, Any]


@frozen(kw_only=True)
class _Sample:
    """A request that can be answered."""

    group: Group
    profiles: tuple[ProfileName, ...]
    path: Callable[[Target], Mapping[str, str]] = lambda _: {}
    body: Callable[[Target], dict[str, Any]] | None = None
    needs: tuple[Need, ...] = ()
    order: Order = "any"


def _named(target: Target) -> Mapping[str, str]:
    return {"name": target.model_id}


def _text(target: Target) -> dict[str, Any]:
    return {"model": target.model, "prompt": "One, two,", "max_tokens": 2}


def _vector(target: Target) -> dict[str, Any]:
    return {"model": target.embedder or target.model, "input": "a"}


def _download(target: Target) -> dict[str, Any]:
    return {"model": target.model_id}


_MEMORY: Final[tuple[Need, ...]] = ("model", "unload")
_OLD: Final[tuple[ProfileName, ...]] = ("documented", "sdk-0.5")
_ALL: Final[tuple[ProfileName, ...]] = ("documented", "sdk-0.5", "core", "openai")

_SAMPLES: Final[Mapping[str, _Sample]] = {
    "chat_completions": _Sample(
        group="chat", profiles=_ALL, body=lambda target: chat_body(target, max_tokens=2), needs=("model",)
    ),
    "count_tokens": _Sample(group="tokens", profiles=("documented",), body=chat_body, needs=("model",)),
    "completions": _Sample(group="completions", profiles=("openai",), body=_text, needs=("model",)),
    "embeddings": _Sample(group="embeddings", profiles=("openai", "core"), body=_vector, needs=("embedder",)),
    "service_status": _Sample(group="service", profiles=_OLD),
    "list_catalog": _Sample(group="catalog", profiles=_OLD),
    "cached_models": _Sample(group="catalog", profiles=_OLD),
    "loaded_models": _Sample(group="memory", profiles=_OLD),
    "load_model": _Sample(group="memory", profiles=_OLD, path=_named, needs=_MEMORY, order="alone"),
    "unload_model": _Sample(group="memory", profiles=_OLD, path=_named, needs=_MEMORY, order="alone"),
    "unload_all_models": _Sample(group="memory", profiles=("documented",), needs=_MEMORY, order="alone"),
    "get_gpu_device": _Sample(group="devices", profiles=("documented",)),
    "set_gpu_device": _Sample(
        group="devices", profiles=("documented",), path=lambda _: {"deviceId": "0"}, order="alone"
    ),
    "download_model": _Sample(group="downloads", profiles=_OLD, body=_download, needs=("model", "download")),
    "core_status": _Sample(group="core-service", profiles=("core",)),
    "shutdown": _Sample(group="core-service", profiles=("core",), needs=("shutdown",), order="last"),
    "core_loaded_models": _Sample(group="core-memory", profiles=("core",)),
    "core_load_model": _Sample(
        group="core-memory", profiles=("core",), path=_named, needs=_MEMORY, order="alone"
    ),
    "core_unload_model": _Sample(
        group="core-memory", profiles=("core",), path=_named, needs=_MEMORY, order="alone"
    ),
    "list_models": _Sample(group="models", profiles=("core", "openai")),
    "get_model": _Sample(group="models", profiles=("core", "openai"), path=_named, needs=("model",)),
    "cache_location": _Sample(group="extra", profiles=("extra",)),
    "openapi": _Sample(group="extra", profiles=("extra",)),
    "watch": _Sample(group="websocket", profiles=("extra",)),
    "register_model": _Sample(group="extra", profiles=("extra",), order="alone"),
    "unregister_model": _Sample(
        group="extra", profiles=("extra",), path=lambda _: {"name": "no-such-model"}, order="alone"
    ),
}
"""By an operation's name; one without a row here has only the cases that need no answer."""

_OURS: Final[Mapping[str, tuple[ProfileName, ...]]] = {
    **dict.fromkeys(("top_k", "random_seed", "ep", "ttl"), ("documented",)),
    **dict.fromkeys(("max_completion_token", "min_p", "repetition_penalty", "all"), ("extra",)),
}
"""Properties that not every profile's documents have: to the others they are unknown, and ignored."""

_CHANGED_BY_SAMPLE: Final = ("register_model", "unregister_model", "shutdown", "set_gpu_device")
"""Operations whose sample would change something, or end the server: only their refusals are tried."""


def derive(operations: Operations) -> tuple[Case, ...]:
    """Give the cases that follow from a table of operations.

    Args:
        operations: Also such as the project does not know: their cases are of the group and profile `extra`.
    """
    cases: list[Case] = []
    for operation in operations:
        cases += _cases_of(operation)
    return tuple(cases)


def _cases_of(operation: _Op) -> Iterable[Case]:
    # An operation that is none of these was added by who embeds the library: it belongs to no document.
    sample = _SAMPLES.get(operation.name, _Sample(group="extra", profiles=("extra",)))
    section = Section(
        f"op.{operation.name}",
        group=sample.group,
        profiles=sample.profiles,
        source=operation.heading,
        needs=sample.needs,
        order=sample.order,
    )
    known = operation.name in _SAMPLES
    if known and not operation.upgrade and operation.name not in _CHANGED_BY_SAMPLE:
        _add_answers(section, operation, sample)
    _add_methods(section, operation)
    if known and operation.has_body:
        _add_bodies(section, operation, sample)
    if known and operation.query is not NoneType:
        _add_words(section, operation, sample)
    return section.cases


def _target(operation: _Op, params: Mapping[str, str]) -> str:
    return operation.target({name: value or "x" for name, value in params.items()})


def _ask(operation: _Op, sample: _Sample, target: Target, **changes: object) -> Script[Reply]:
    """Ask an operation for what its sample says."""
    made = None if sample.body is None else {**sample.body(target), **changes}
    body = None if made is None else {key: value for key, value in made.items() if value is not LEFT_OUT}
    return ask(target, operation.methods[0], _target(operation, sample.path(target)), body)


def _add_answers(section: Section, operation: _Op, sample: _Sample) -> None:
    def answers(target: Target) -> Script[None]:
        reply: Reply = yield Call(lambda: _ask(operation, sample, target))
        status(reply, 200)
        if operation.stream is PROGRESS:
            media_type(reply, "text/plain")
            progress_of(reply)
        elif operation.response is NoneType:
            require(not reply.body, "body", f"expected an empty body, got {reply.body[:80]!r}")
        else:
            media_type(reply, "application/json")
            message(reply, operation.response)

    section.add("answers", f"{operation.summary} Its answer is what the operation's type says.", answers)
    if operation.item is NoneType or operation.stream is PROGRESS:
        return

    def streams(target: Target) -> Script[None]:
        reply: Reply = yield Call(lambda: _ask(operation, sample, target, stream=True))
        status(reply, 200)
        media_type(reply, "text/event-stream")
        for frame in events_of(reply).events:
            structured(frame, operation.item)

    section.add("streams", "Each event of its stream is what the operation's type says.", streams)


def _add_methods(section: Section, operation: _Op) -> None:
    path = "/".join("x" if part.startswith("{") else part for part in operation.path.split("/"))
    more: dict[str, Any] = {"needs": (), "order": "any" if section.order == "any" else "alone"}

    def wrong_method(target: Target) -> Script[None]:
        reply = yield from ask(target, "PATCH", path)
        status(reply, 405)
        allow = reply.header("allow") or ""
        first = operation.methods[0]
        require(first in allow, "headers", f"allow: expected {first} in it, got {allow or 'none'}")

    section.add(
        "method",
        f"PATCH {operation.path} is refused with 405, and Allow names the methods that there are.",
        wrong_method,
        level="SHOULD",
        source="RFC 9110, section 15.5.6",
        **more,
    )


def _add_bodies(section: Section, operation: _Op, sample: _Sample) -> None:
    path = operation.path
    more: dict[str, Any] = {"needs": (), "order": "any"}
    bodies = (("json", "that is no JSON", b"{invalid json"), ("array", "that is no object", b"[1]"))
    for name, words, raw in bodies:
        section.add(
            f"body.{name}",
            f"A body {words} is refused.",
            _refused(operation, path, raw),
            **more,
        )
    failure = CompatibleErrorBody if operation.errors == "compatible" else ErrorBody

    def form(target: Target) -> Script[None]:
        reply = yield from ask(target, operation.methods[0], path, b"{invalid json")
        error(reply, 400)
        media_type(reply, "application/json")
        message(reply, failure)

    section.add(
        "failure",
        "A refusal has the form that the clients of the route read, every member of it.",
        form,
        level="SHOULD",
        **more,
    )
    if operation.name in _CHANGED_BY_SAMPLE:
        return
    # A refusal needs no model that could do it.
    more = {"needs": tuple(need for need in sample.needs if need != "embedder"), "order": "any"}
    for field in fields_of(operation.request):
        key = field_name(field, wire_of(operation.request).writes[0])
        more["profiles"] = _profiles_of(key, section.profiles)
        wrong = list(_wrong_values(field.type))
        if wrong:
            script = _field_refused(operation, sample, key, wrong)
            words = f"{key} is {describe(field.type)}; anything else is refused."
            section.add(f"field.{key}", words, script, level="SHOULD", **more)
        if field.default is attrs.NOTHING:
            script = _field_refused(operation, sample, key, [LEFT_OUT])
            section.add(f"field.{key}.missing", f"{key} cannot be left out.", script, **more)


def _refused(operation: _Op, path: str, raw: bytes) -> Callable[[Target], Script[None]]:
    def script(target: Target) -> Script[None]:
        reply = yield from ask(target, operation.methods[0], path, raw)
        status(reply, 400, 422)

    return script


def _field_refused(
    operation: _Op, sample: _Sample, key: str, wrong: list[object]
) -> Callable[[Target], Script[None]]:
    def script(target: Target) -> Script[None]:
        for value in wrong:
            reply = yield from _ask(operation, sample, target, **{key: value})
            got = reply.status
            require(got in (400, 404, 422), "status", f"{key} {value!r}: expected a refusal, got {got}")

    return script


_OTHERS: Final[tuple[object, ...]] = ("0.5", True, 7, [7], {"no": "such"})
"""One of each kind of JSON value."""


def _wrong_values(tp: Any) -> Iterator[object]:
    """Values that a type does not allow: one of another kind, and those just beyond a range."""
    kinds = json_kinds(tp)
    for value in _OTHERS:
        if type(value) not in kinds and not (isinstance(value, bool) and bool in kinds):
            yield value
            break
    for member in members(tp):
        if get_origin(member) is Annotated and isinstance(get_args(member)[1], Between):
            limits = get_args(member)[1]
            step = 1 if get_args(member)[0] is int else 0.5
            yield limits.least - step
            yield limits.most + step
        if get_origin(member) is Literal and all(isinstance(one, str) for one in get_args(member)):
            yield "no-such-value"


def _profiles_of(key: str, profiles: tuple[ProfileName, ...]) -> tuple[ProfileName, ...]:
    """The profiles, of an operation's, whose documents have a property."""
    known = _OURS.get(key, profiles)
    return tuple(name for name in profiles if name in known) or ("extra",)


def _add_words(section: Section, operation: _Op, sample: _Sample) -> None:
    for field in fields_of(operation.query):
        key = field_name(field, wire_of(operation.query).writes[0])
        in_path = f"{{{key}}}" in operation.path
        if not in_path and _takes_some_words(field.type):
            section.add(
                f"word.{key}",
                f"{key} is {describe(field.type)}; anything else is refused.",
                _word_refused(operation, sample, key),
                level="SHOULD",
                profiles=_profiles_of(key, tuple(name for name in section.profiles if name != "sdk-0.5")),
            )


def _takes_some_words(tp: Any) -> bool:
    """Whether there are words that the type does not allow."""
    return str not in json_kinds(tp) or get_origin(members(tp)[0]) is Literal


def _word_refused(operation: _Op, sample: _Sample, key: str) -> Callable[[Target], Script[None]]:
    def script(target: Target) -> Script[None]:
        path = _target(operation, sample.path(target))
        reply = yield from ask(target, operation.methods[0], f"{path}?{key}=no-such-value")
        status(reply, 400, 404, 422)

    return script
