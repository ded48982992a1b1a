"""Servers that are wrong in one way each: by them the conformance kit shows that its cases can fail.

Each is the small server with a handler or some bytes changed, and names the cases that are meant to catch it:
exactly those, and no other, must fail. `*` stands for any letters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

import attrs
from attrs import evolve, frozen

from foundry_proto.codec import ContentError, encode, structure
from foundry_proto.events import Failure, Request, Response, StreamEnd, StreamItem
from foundry_proto.exchange import Answer
from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_proto.operations import CHAT_COMPLETIONS, Operations
from tests.support.small_handlers import HANDLERS
from tests.support.small_server import OPERATIONS, SmallServer

__all__ = ["MUTANTS", "Mutant", "meant"]

Handler = Callable[[Any, Request[Any]], Iterator[Answer]]


@frozen(kw_only=True)
class Mutant:
    """A server that is wrong in one way."""

    name: str
    wrong: str
    """What it does."""
    make: Callable[[], SmallServer]
    caught_by: tuple[str, ...]
    """The cases that are meant to see it."""


def meant(mutant: Mutant, ids: Sequence[str]) -> set[str]:
    """The ids of the cases that are meant to catch a mutant; each of its patterns must mean one at least.

    A pattern that begins with `!` takes cases out again.
    """
    found: set[str] = set()
    for pattern in mutant.caught_by:
        matching = {name for name in ids if fnmatchcase(name, pattern.removeprefix("!"))}
        assert matching, f"{mutant.name}: {pattern} is no case"
        found = found - matching if pattern.startswith("!") else found | matching
    return found


# Bytes.


_CHUNK: Final = re.compile(rb"[0-9a-fA-F]+\r\n")


def _reframed(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Change the body's bytes in one write: of a whole reply, or of each chunk of a stream."""
    head, body = b"", data
    if data.startswith(b"HTTP/"):
        head, end, body = data.partition(b"\r\n\r\n")
        head += end
    if b"content-length:" in head.lower() and body:
        changed = change(body)
        return re.sub(rb"(?i)content-length: \d+", b"content-length: %d" % len(changed), head) + changed
    if not body or (head and b"chunked" not in head):
        return head + (change(body) if body else b"")
    if not _CHUNK.match(body):  # a stream for HTTP/1.0
        return change(data)
    out = head
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return out + body
        changed = change(rest[:length])
        out += b"%x\r\n%b\r\n" % (len(changed), changed) if changed else b""
        body = rest[length + 2 :]
    return out


def bodies(change: Callable[[bytes], bytes], *names: str) -> Callable[[], SmallServer]:
    """Change the bodies that operations answer with; an empty one takes a chunk away."""

    def rewrite(_: str, name: str, data: bytes) -> bytes:
        return _reframed(data, change) if name in names else data

    return lambda: SmallServer(rewrite=rewrite)


def heads(change: Callable[[bytes], bytes], *names: str) -> Callable[[], SmallServer]:
    """Change the heads of operations' answers; of all without a name."""

    def rewrite(_: str, name: str, data: bytes) -> bytes:
        if not data.startswith(b"HTTP/") or (names and name not in names):
            return data
        head, end, body = data.partition(b"\r\n\r\n")
        return change(head) + end + body

    return lambda: SmallServer(rewrite=rewrite)


def values(change: Callable[[Any], object], *names: str) -> Callable[[], SmallServer]:
    """Change the JSON of answers, whole ones and chunks; `change` works on the value or gives another."""

    def on(body: bytes) -> bytes:
        prefix = b"data: " if body.startswith(b"data: {") else b""
        if not prefix and not body.startswith((b"{", b"[")):
            return body
        value = json.loads(body[len(prefix) :])
        changed = change(value)
        text = json.dumps(value if changed is None else changed, ensure_ascii=False).encode()
        return prefix + text + (b"\n\n" if prefix else b"")

    return bodies(on, *names)


def reads(change: Callable[[bytes], bytes]) -> Callable[[], SmallServer]:
    """Change what the server takes for what was sent."""
    return lambda: SmallServer(read=change)


# Handlers.


def handlers(**changed: Handler) -> Callable[[], SmallServer]:
    return lambda: SmallServer(handlers={**HANDLERS, **changed})


def asked(change: Callable[[Any], Any], *names: str) -> Callable[[], SmallServer]:
    """Have operations answer another request than was sent."""

    def wrap(handler: Handler) -> Handler:
        return lambda server, request: handler(server, evolve(request, value=change(request.value)))

    return handlers(**{name: wrap(HANDLERS[name]) for name in names})


def _without(*properties: str) -> Callable[[Any], Any]:
    return lambda value: evolve(value, **dict.fromkeys(properties))


def _lenient(server: Any, request: Request[Any]) -> Iterator[Answer]:
    """What has another type than it should have is left out."""
    given: Mapping[str, object] = request.value
    kept = {}
    for field in attrs.fields(attrs.resolve_types(ChatCompletionRequest)):
        if field.name in given:
            try:
                structure(field.type or object, given[field.name])
            except ContentError:
                if field.default is not attrs.NOTHING:
                    continue
            kept[field.name] = given[field.name]
    try:
        value = structure(ChatCompletionRequest, kept)
    except ContentError as error:
        yield Failure(status=400, message=str(error), param=error.param)
        return
    yield from HANDLERS["chat_completions"](server, evolve(request, value=value))


def _lenient_server() -> SmallServer:
    row: Any = CHAT_COMPLETIONS
    row = evolve(
        row,
        request=Mapping[str, object],
        streams=lambda value: value.get("stream") is True,
    )
    rows = [row if one.name == row.name else one for one in OPERATIONS]
    return SmallServer(operations=Operations(rows), handlers={**HANDLERS, "chat_completions": _lenient})


def _any_model(server: Any, request: Request[Any]) -> Iterator[Answer]:
    known = server.find(request.value.model) is not None
    value = request.value if known else evolve(request.value, model="tiny-chat")
    yield from HANDLERS["chat_completions"](server, evolve(request, value=value))


def _cutting_unload(server: Any, request: Request[Any]) -> Iterator[Answer]:
    model = server.find(request.head.query.name)
    if model is not None and model.id in server.running:
        server.cut.add(model.id)
    yield from HANDLERS["unload_model"](server, request)


def _chat_after_cut(server: Any, request: Request[Any]) -> Iterator[Answer]:
    if not server.running:
        server.cut.clear()
    yield from HANDLERS["chat_completions"](server, request)


def _always_forced(server: Any, request: Request[Any]) -> Iterator[Answer]:
    model = server.find(request.head.query.name)
    if model is not None:
        server.unload(model.id)
    yield from HANDLERS["unload_model"](server, request)


def _never_unloading(server: Any, request: Request[Any]) -> Iterator[Answer]:
    known = server.find(request.head.query.name) is not None
    yield from [Response(value=None)] if known else HANDLERS["unload_model"](server, request)


def _no_ttl(server: Any, request: Request[Any]) -> Iterator[Answer]:
    words = evolve(request.head.query, ttl=0)
    yield from HANDLERS["load_model"](server, evolve(request, head=evolve(request.head, query=words)))


def _telling_load(server: Any, request: Request[Any]) -> Iterator[Answer]:
    for answer in HANDLERS["load_model"](server, request):
        yield Response(value=b'{"status":"loaded"}') if isinstance(answer, Response) else answer


def _no_auto_load(server: Any, request: Request[Any]) -> Iterator[Answer]:
    model = server.find(request.value.model)
    if model is not None and model.task == "chat-completion" and model.id not in server.loaded:
        yield Failure(status=400, message=f"Model not loaded: Model '{model.id}' must be loaded first")
        return
    yield from HANDLERS["chat_completions"](server, request)


def _failing_in_stream(server: Any, request: Request[Any]) -> Iterator[Answer]:
    """What is wrong with a streamed request is said in the stream."""
    for answer in HANDLERS["chat_completions"](server, request):
        if isinstance(answer, Failure) and request.value.stream:
            yield StreamItem(value=b'{"error":{"message":"no","type":"invalid_request_error"}}')
            yield StreamEnd()
            return
        yield answer


def _at_the_end(server: Any, request: Request[Any]) -> Iterator[Answer]:
    """A stream that is only sent when it is whole."""
    answers = list(HANDLERS["chat_completions"](server, request))
    items = [answer for answer in answers if isinstance(answer, StreamItem)]
    if not items:
        yield from answers
        return
    joined = b"\n\ndata: ".join(_json(item.value) for item in items)
    yield StreamItem(value=_Raw(joined))
    yield StreamEnd()


class _Raw(bytes):
    """Bytes that pass for one line."""

    def __contains__(self, _: object) -> bool:
        return False


def _json(value: Any) -> bytes:
    return value if isinstance(value, bytes) else encode(value)


def _server_error(server: Any, request: Request[Any]) -> Iterator[Answer]:
    for answer in HANDLERS["chat_completions"](server, request):
        yield evolve(answer, status=500, type="server_error") if isinstance(answer, Failure) else answer


def _falling(server: Any, request: Request[Any]) -> Iterator[Answer]:
    items = list(HANDLERS["download_model"](server, request))
    yield from items[:1] if len(items) < 3 else [items[1], items[0], *items[2:]]


def _bare_list(server: Any, request: Request[Any]) -> Iterator[Answer]:
    for answer in HANDLERS["list_models"](server, request):
        assert isinstance(answer, Response)
        yield Response(value=_json(answer.value).replace(b'"object":"list",', b""))


def _first_length(data: bytes) -> bytes:
    """What is left where only the first of several lengths counts."""
    lines = data.split(b"\r\n")
    lengths = [line for line in lines if line.startswith(b"Content-Length: ")]
    if len(lengths) > 1:
        lines.remove(lengths[1])
    return b"\r\n".join(lines).replace(b"Content-Length: 2, 3", b"Content-Length: 2")


def _reversed_list() -> SmallServer:
    return values(lambda value: value[::-1], "list_catalog")()


# Values.


def _chunks(change: Callable[[dict[str, Any]], object]) -> Callable[[], SmallServer]:
    def on(value: Any) -> object:
        return change(value) if value.get("object") == "chat.completion.chunk" else None

    return values(on, "chat_completions")


def _whole(change: Callable[[dict[str, Any]], object]) -> Callable[[], SmallServer]:
    def on(value: Any) -> object:
        return change(value) if value.get("object") == "chat.completion" else None

    return values(on, "chat_completions")


def _each(change: Callable[[dict[str, Any]], object]) -> Callable[[], SmallServer]:
    """Change each model of the catalogue."""

    def on(value: Any) -> None:
        for entry in value:
            change(entry)

    return values(on, "list_catalog")


def _first_choice(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], None]:
    def on(value: dict[str, Any]) -> None:
        for choice in value["choices"]:
            change(choice)

    return on


def _usage(value: dict[str, Any]) -> None:
    value["usage"] = value.get("usage") or {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


def _wrong_total(value: dict[str, Any]) -> None:
    value["usage"]["total_tokens"] += 1


def _role(choice: dict[str, Any]) -> None:
    choice["delta"]["role"] = "assistant"


def _no_role(choice: dict[str, Any]) -> None:
    choice["delta"].pop("role", None)


def _renamed(value: Any, keep: str) -> object:
    return {key: item for key, item in value.items() if key[0].isupper() is (keep == "pascal")}


def _set(**items: object) -> Callable[[dict[str, Any]], None]:
    return lambda value: value.update(items)


def _drop(*names: str) -> Callable[[dict[str, Any]], None]:
    def change(value: dict[str, Any]) -> None:
        for name in names:
            value.pop(name, None)

    return change


def _finish(choice: dict[str, Any]) -> None:
    if choice["finish_reason"] is not None:
        choice["finish_reason"] = "stop"


def _text_beside_calls(value: dict[str, Any]) -> None:
    message = value["choices"][0]["message"]
    if message.get("tool_calls"):
        message["content"] = "<tool_call>{}</tool_call>"


def _arguments_object(value: dict[str, Any]) -> None:
    for call in value["choices"][0]["message"].get("tool_calls") or ():
        call["function"]["arguments"] = json.loads(call["function"]["arguments"])


def _stop_for_calls(value: dict[str, Any]) -> None:
    for choice in value["choices"]:
        if choice["finish_reason"] == "tool_calls":
            choice["finish_reason"] = "stop"


def _numbers(value: Any) -> None:
    if value.get("object") == "list":
        for one in value["data"]:
            if isinstance(one["embedding"], str):
                one["embedding"] = [0.25, -0.5, 1.0]


def _split_cup(data: bytes) -> bytes:
    cup = "☕".encode()
    if cup not in data or not data.startswith(b"data: "):
        return data
    return data.replace(cup, cup[:1]) + data.replace(cup, cup[1:]).replace(b'" ', b'"')


_END: Final = b"data: [DONE]\n\n"


def _errors(change: Callable[[dict[str, Any]], object]) -> Callable[[Any], None]:
    def on(value: Any) -> None:
        if isinstance(value, dict) and isinstance(value.get("error"), dict):
            change(value)

    return on


def _changing() -> Callable[[], SmallServer]:
    counter = iter(range(1_700_000_000, 1_800_000_000))
    return _chunks(lambda value: value.update(created=next(counter)))


def _head_with_body() -> SmallServer:
    def rewrite(method: str, _: str, data: bytes) -> bytes:
        return data + b'{"object":"list","data":[]}' if method == "HEAD" else data

    return SmallServer(rewrite=rewrite)


MUTANTS: Final[tuple[Mutant, ...]] = (
    Mutant(
        name="no [DONE]",
        wrong="chat streams end without `data: [DONE]`",
        make=bodies(lambda body: b"" if body == _END else body, "chat_completions"),
        caught_by=("chat.stream.done", "sse.done.exact", "http.version.1-0.stream", "unload.running*"),
    ),
    Mutant(
        name="behind [DONE]",
        wrong="something comes behind `data: [DONE]`",
        make=bodies(lambda body: body + b"data: [DONE]\n\n" if body == _END else body, "chat_completions"),
        caught_by=("sse.done.last",),
    ),
    Mutant(
        name="usage everywhere",
        wrong="every chunk has `usage`",
        make=_chunks(_usage),
        caught_by=("chat.stream.usage.none", "chat.stream.usage.once", "chat.stream.usage.false"),
    ),
    Mutant(
        name="usage forgotten",
        wrong="`include_usage` is not heeded",
        make=asked(_without("stream_options"), "chat_completions"),
        caught_by=("chat.stream.usage", "chat.stream.usage.same"),
    ),
    Mutant(
        name="lenient types",
        wrong="optional properties of a wrong type are left out",
        make=_lenient_server,
        caught_by=(
            "op.chat_completions.field.*",
            "!op.chat_completions.field.model*",
            "!op.chat_completions.field.messages*",
            "chat.refuses.limit.*",
            "chat.refuses.stop.five",
            "chat.refuses.n.zero",
            "chat.refuses.temperature.*",
            "chat.refuses.penalty.above",
            "chat.refuses.stream.text",
            "chat.refuses.bias.range",
            "chat.refuses.tools.*",
            "chat.refuses.choice.unknown",
            "chat.refuses.format.*",
            "chat.refuses.logprobs.many",
            "chat.refuses.ttl.negative",
            "chat.refuses.top-k.fraction",
            "chat.refuses.param",
        ),
    ),
    Mutant(
        name="wrong content type",
        wrong="chat streams are `text/plain`",
        make=heads(lambda head: head.replace(b"text/event-stream", b"text/plain"), "chat_completions"),
        caught_by=("sse.media", "op.chat_completions.streams"),
    ),
    Mutant(
        name="JSON as text",
        wrong="whole answers to chats are `text/plain`",
        make=heads(lambda head: head.replace(b"application/json", b"text/plain"), "chat_completions"),
        caught_by=("chat.media", "op.chat_completions.answers", "op.chat_completions.failure"),
    ),
    Mutant(
        name="object-shaped list",
        wrong="`/foundry/list` is an object, as the page says",
        make=values(lambda value: {"models": value}, "list_catalog"),
        caught_by=("catalog.array",),
    ),
    Mutant(
        name="PascalCase only",
        wrong="`/openai/status` has the page's spelling alone",
        make=values(lambda value: _renamed(value, "pascal"), "service_status"),
        caught_by=("service.status.directory.client",),
    ),
    Mutant(
        name="camelCase only",
        wrong="`/openai/status` has the clients' spelling alone",
        make=values(lambda value: _renamed(value, "camel"), "service_status"),
        caught_by=("service.status.endpoints", "service.status.directory", "service.status.pipe"),
    ),
    Mutant(
        name="tuple without parentheses",
        wrong='progress is `"file", 0.5`',
        make=bodies(lambda body: re.sub(rb"(?m)^\((.*)\)$", rb"\1", body), "download_model"),
        caught_by=("download.end.tuple", "download.new.grammar"),
    ),
    Mutant(
        name="glued result",
        wrong="the last object stands behind the last line of progress",
        make=bodies(lambda body: body.rstrip(b"\n") if body.startswith(b"(") else body, "download_model"),
        caught_by=(
            "download.result",
            "download.result.client",
            "download.result.key",
            "download.result.line",
        ),
    ),
    Mutant(
        name="no pause",
        wrong="the last object comes at once",
        make=lambda: SmallServer(pauses=False),
        caught_by=("download.result.pause",),
    ),
    Mutant(
        name="success in PascalCase",
        wrong="the last object has the page's spelling alone",
        make=values(
            lambda value: _renamed(value, "pascal") if "Success" in value else None, "download_model"
        ),
        caught_by=("download.result.client", "download.result.key"),
    ),
    Mutant(
        name="no end of progress",
        wrong="no line says that the download is over",
        make=bodies(lambda body: body.replace(b"[DONE] All Completed!\n", b""), "download_model"),
        caught_by=("download.end",),
    ),
    Mutant(
        name="falling progress",
        wrong="progress falls back",
        make=handlers(download_model=_falling),
        caught_by=("download.new.rising",),
    ),
    Mutant(
        name="split UTF-8",
        wrong="a character is split between two events",
        make=bodies(_split_cup, "chat_completions"),
        caught_by=("sse.utf-8", "sse.newlines", "chat.stream.text"),
    ),
    Mutant(
        name="200 for an unknown model",
        wrong="a chat with a model that is not there is answered by another one",
        make=handlers(chat_completions=_any_model),
        caught_by=(
            "chat.refuses.model.empty",
            "chat.refuses.model.unknown",
            "chat.refuses.unknown.*",
            "chat.refuses.stream",
        ),
    ),
    Mutant(
        name="unload that kills",
        wrong="an unload with force cuts running streams",
        make=handlers(unload_model=_cutting_unload, chat_completions=_chat_after_cut),
        caught_by=("unload.running*",),
    ),
    Mutant(
        name="unload without asking",
        wrong="an unload without force ignores the time to live",
        make=handlers(unload_model=_always_forced),
        caught_by=("unload.gentle", "unload.default"),
    ),
    Mutant(
        name="unload that does nothing",
        wrong="an unload with force leaves the model in memory",
        make=handlers(unload_model=_never_unloading),
        caught_by=("unload.force", "unload.hang-up"),
    ),
    Mutant(
        name="no time to live",
        wrong="`ttl` is not heeded",
        make=handlers(load_model=_no_ttl),
        caught_by=("load.ttl",),
    ),
    Mutant(
        name="load with a body",
        wrong="`/openai/load` answers with JSON",
        make=handlers(load_model=_telling_load),
        caught_by=("load.empty", "op.load_model.answers"),
    ),
    Mutant(
        name="no loading by itself",
        wrong="a chat with a model that is not in memory is refused",
        make=handlers(chat_completions=_no_auto_load),
        caught_by=("unload.auto", "unload.running.request"),
    ),
    Mutant(
        name="stop not heeded",
        wrong="stop texts are not looked for",
        make=asked(_without("stop"), "chat_completions"),
        caught_by=("chat.stop", "chat.stop.several", "chat.stream.stop"),
    ),
    Mutant(
        name="wrong total",
        wrong="`usage.total_tokens` is no sum",
        make=_whole(_wrong_total),
        caught_by=("chat.usage",),
    ),
    Mutant(
        name="always stop",
        wrong="an answer that was cut says `stop`",
        make=values(
            lambda value: _first_choice(_finish)(value) if "choices" in value else None, "chat_completions"
        ),
        caught_by=(
            "chat.limit",
            "chat.stream.limit",
            "tools.finish",
            "tools.stream.finish",
            "tools.older.finish",
        ),
    ),
    Mutant(
        name="one answer",
        wrong="`n` is not heeded",
        make=asked(_without("n"), "chat_completions"),
        caught_by=("chat.n", "chat.n.usage", "chat.stream.n"),
    ),
    Mutant(
        name="one id",
        wrong="all answers have the same id",
        make=values(
            lambda value: value.update(id="chatcmpl-1") if "choices" in value else None, "chat_completions"
        ),
        caught_by=("chat.id", "chat.stream.id"),
    ),
    Mutant(
        name="no role",
        wrong="no chunk says a role",
        make=_chunks(_first_choice(_no_role)),
        caught_by=("chat.stream.role",),
    ),
    Mutant(
        name="role everywhere",
        wrong="every chunk says the role",
        make=_chunks(_first_choice(_role)),
        caught_by=("chat.stream.role.once",),
    ),
    Mutant(
        name="changing id",
        wrong="chunks of one stream have different times of creation",
        make=_changing(),
        caught_by=("chat.stream.same",),
    ),
    Mutant(
        name="chunks called completions",
        wrong="a chunk's object is `chat.completion`",
        make=_chunks(_set(object="chat.completion")),
        caught_by=("chat.stream.object", "op.chat_completions.streams"),
    ),
    Mutant(
        name="failure in the stream",
        wrong="a stream that cannot begin is answered with 200 and an event",
        make=handlers(chat_completions=_failing_in_stream),
        caught_by=("chat.refuses.stream",),
    ),
    Mutant(
        name="500 for the client's mistakes",
        wrong="what a chat handler refuses has status 500",
        make=handlers(chat_completions=_server_error),
        caught_by=(
            "chat.refuses.model.empty",
            "chat.refuses.model.unknown",
            "chat.refuses.part.image",
            "chat.refuses.bias.token",
            "chat.refuses.choice.absent",
            "chat.refuses.choice.toolless",
            "chat.refuses.logprobs.top",
            "chat.refuses.context*",
            "chat.refuses.ep.unknown",
            "chat.refuses.unknown.status",
            "chat.refuses.stream",
        ),
    ),
    Mutant(
        name="errors without a type",
        wrong="error objects have no `type`",
        make=values(_errors(lambda value: value["error"].pop("type")), "count_tokens"),
        caught_by=("tokens.model.*", "tokens.messages.missing", "op.count_tokens.failure"),
    ),
    Mutant(
        name="all at once",
        wrong="a stream comes in one piece, at its end",
        make=handlers(chat_completions=_at_the_end),
        caught_by=("sse.pieces",),
    ),
    Mutant(
        name="CRLF events",
        wrong="the lines of events end with CRLF",
        make=bodies(
            lambda body: body.replace(b"\n", b"\r\n") if body.startswith(b"data: ") else body,
            "chat_completions",
        ),
        caught_by=("sse.frames", "sse.done.exact", "http.version.1-0.stream", "sse.utf-8"),
    ),
    Mutant(
        name="heartbeats",
        wrong="comments stand between events",
        make=bodies(
            lambda body: b": ping\n\n" + body if body.startswith(b"data: ") else body, "chat_completions"
        ),
        caught_by=("sse.frames", "sse.comments"),
    ),
    Mutant(
        name="byte order mark",
        wrong="a stream begins with a byte order mark",
        make=bodies(
            lambda body: b"\xef\xbb\xbf" + body if b'"role":"assistant","content":""' in body else body,
            "chat_completions",
        ),
        caught_by=("sse.bom", "sse.frames", "sse.comments"),
    ),
    Mutant(
        name="text beside calls",
        wrong="an answer that calls has the call's raw text, too",
        make=_whole(_text_beside_calls),
        caught_by=("tools.content",),
    ),
    Mutant(
        name="arguments as an object",
        wrong="a call's arguments are an object",
        make=_whole(_arguments_object),
        caught_by=("tools.required",),
    ),
    Mutant(
        name="stop for calls",
        wrong="an answer that calls ends with `stop`",
        make=values(lambda value: _stop_for_calls(value) if "choices" in value else None, "chat_completions"),
        caught_by=("tools.finish", "tools.stream.finish"),
    ),
    Mutant(
        name="no maxOutputTokens",
        wrong="the list lacks what the page does not have",
        make=_each(_drop("maxOutputTokens")),
        caught_by=("catalog.sdk.output",),
    ),
    Mutant(
        name="version as a number",
        wrong="the list's versions are numbers",
        make=_each(lambda entry: entry.update(version=int(entry["version"]))),
        caught_by=("catalog.texts", "catalog.sdk.id", "op.list_catalog.answers"),
    ),
    Mutant(
        name="devices in small letters",
        wrong="the list's devices are `cpu` and `npu`",
        make=_each(lambda entry: entry["runtime"].update(deviceType=entry["runtime"]["deviceType"].lower())),
        caught_by=("catalog.sdk.device", "op.list_catalog.answers"),
    ),
    Mutant(
        name="list upside down",
        wrong="the list's variants stand in another order",
        make=_reversed_list,
        caught_by=("catalog.sdk.order",),
    ),
    Mutant(
        name="models without an object",
        wrong="`/v1/models` has no `object`",
        make=handlers(list_models=_bare_list),
        caught_by=("models.list",),
    ),
    Mutant(
        name="other counts",
        wrong="a count leaves the template's tokens out",
        make=values(
            lambda value: value.update(tokenCount=value["tokenCount"] - 1) if "tokenCount" in value else None,
            "count_tokens",
        ),
        caught_by=("tokens.usage",),
    ),
    Mutant(
        name="no base64",
        wrong="embeddings are always arrays",
        make=values(_numbers, "embeddings"),
        caught_by=("embeddings.base64",),
    ),
    Mutant(
        name="no Allow",
        wrong="405 comes without `Allow`",
        make=heads(lambda head: re.sub(rb"(?im)^allow: .*\r\n", b"", head + b"\r\n")[:-2]),
        caught_by=("http.method.allow", "http.options", "op.*.method"),
    ),
    Mutant(
        name="no Date",
        wrong="answers do not say when they were made",
        make=lambda: SmallServer(headers=tuple),
        caught_by=("http.date",),
    ),
    Mutant(
        name="deaf to close",
        wrong="`Connection: close` is not heeded",
        make=reads(lambda data: data.replace(b"Connection: close\r\n", b"")),
        caught_by=("http.close", "http.close.told"),
    ),
    Mutant(
        name="no chunked bodies",
        wrong="chunked requests are refused",
        make=reads(
            lambda data: data.replace(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n")
        ),
        caught_by=(
            "http.chunked",
            "http.chunked.pieces",
            "http.chunked.extensions",
            "http.chunked.trailers",
            "http.chunked.zeros",
            "http.chunked.size",
            "http.chunked.end",
        ),
    ),
    Mutant(
        name="first length counts",
        wrong="of two lengths that differ the first counts",
        make=reads(_first_length),
        caught_by=("http.length.conflict", "http.length.list"),
    ),
    Mutant(
        name="HEAD with a body",
        wrong="HEAD is answered like GET, body and all",
        make=_head_with_body,
        caught_by=("http.head.sync",),
    ),
    Mutant(
        name="wrong accept key",
        wrong="a WebSocket's handshake has another key",
        make=heads(lambda head: head.replace(b"accept: ", b"accept: x"), "watch"),
        caught_by=("websocket.handshake",),
    ),
)
