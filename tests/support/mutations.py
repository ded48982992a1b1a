"""The ways in which a mutant differs from the small server: changed bytes, values, requests and handlers.

Knows: how to change one thing and leave the framing right.
Refuses to know: which cases see it (`mutants.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import attrs
from attrs import evolve

from foundry_proto.codec import ContentError, encode, structure
from foundry_proto.events import Failure, Request, Response, StreamEnd, StreamItem
from foundry_proto.exchange import Answer
from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_proto.operations import CHAT_COMPLETIONS, Operations
from tests.support.small_handlers import HANDLERS
from tests.support.small_server import OPERATIONS, SmallServer

Handler = Callable[[Any, Request[Any]], Iterator[Answer]]


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


def without(*properties: str) -> Callable[[Any], Any]:
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


def lenient_server() -> SmallServer:
    row: Any = CHAT_COMPLETIONS
    row = evolve(
        row,
        request=Mapping[str, object],
        streams=lambda value: value.get("stream") is True,
    )
    rows = [row if one.name == row.name else one for one in OPERATIONS]
    return SmallServer(operations=Operations(rows), handlers={**HANDLERS, "chat_completions": _lenient})


def any_model(server: Any, request: Request[Any]) -> Iterator[Answer]:
    known = server.find(request.value.model) is not None
    value = request.value if known else evolve(request.value, model="tiny-chat")
    yield from HANDLERS["chat_completions"](server, evolve(request, value=value))


def cutting_unload(server: Any, request: Request[Any]) -> Iterator[Answer]:
    model = server.find(request.head.query.name)
    if model is not None and model.id in server.running:
        server.cut.add(model.id)
    yield from HANDLERS["unload_model"](server, request)


def chat_after_cut(server: Any, request: Request[Any]) -> Iterator[Answer]:
    if not server.running:
        server.cut.clear()
    yield from HANDLERS["chat_completions"](server, request)


def always_forced(server: Any, request: Request[Any]) -> Iterator[Answer]:
    model = server.find(request.head.query.name)
    if model is not None:
        server.unload(model.id)
    yield from HANDLERS["unload_model"](server, request)


def never_unloading(server: Any, request: Request[Any]) -> Iterator[Answer]:
    known = server.find(request.head.query.name) is not None
    yield from [Response(value=None)] if known else HANDLERS["unload_model"](server, request)


def no_ttl(server: Any, request: Request[Any]) -> Iterator[Answer]:
    words = evolve(request.head.query, ttl=0)
    yield from HANDLERS["load_model"](server, evolve(request, head=evolve(request.head, query=words)))


def telling_load(server: Any, request: Request[Any]) -> Iterator[Answer]:
    for answer in HANDLERS["load_model"](server, request):
        yield Response(value=b'{"status":"loaded"}') if isinstance(answer, Response) else answer


def no_auto_load(server: Any, request: Request[Any]) -> Iterator[Answer]:
    model = server.find(request.value.model)
    if model is not None and model.task == "chat-completion" and model.id not in server.loaded:
        yield Failure(status=400, message=f"Model not loaded: Model '{model.id}' must be loaded first")
        return
    yield from HANDLERS["chat_completions"](server, request)


def failing_in_stream(server: Any, request: Request[Any]) -> Iterator[Answer]:
    """What is wrong with a streamed request is said in the stream."""
    for answer in HANDLERS["chat_completions"](server, request):
        if isinstance(answer, Failure) and request.value.stream:
            yield StreamItem(value=b'{"error":{"message":"no","type":"invalid_request_error"}}')
            yield StreamEnd()
            return
        yield answer


def at_the_end(server: Any, request: Request[Any]) -> Iterator[Answer]:
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


def server_error(server: Any, request: Request[Any]) -> Iterator[Answer]:
    for answer in HANDLERS["chat_completions"](server, request):
        yield evolve(answer, status=500, type="server_error") if isinstance(answer, Failure) else answer


def falling_progress(server: Any, request: Request[Any]) -> Iterator[Answer]:
    items = list(HANDLERS["download_model"](server, request))
    yield from items[:1] if len(items) < 3 else [items[1], items[0], *items[2:]]


def bare_list(server: Any, request: Request[Any]) -> Iterator[Answer]:
    for answer in HANDLERS["list_models"](server, request):
        assert isinstance(answer, Response)
        yield Response(value=_json(answer.value).replace(b'"object":"list",', b""))


def first_length(data: bytes) -> bytes:
    """What is left where only the first of several lengths counts."""
    lines = data.split(b"\r\n")
    lengths = [line for line in lines if line.startswith(b"Content-Length: ")]
    if len(lengths) > 1:
        lines.remove(lengths[1])
    return b"\r\n".join(lines).replace(b"Content-Length: 2, 3", b"Content-Length: 2")


def reversed_list() -> SmallServer:
    return values(lambda value: value[::-1], "list_catalog")()


# Values.


def chunks(change: Callable[[dict[str, Any]], object]) -> Callable[[], SmallServer]:
    def on(value: Any) -> object:
        return change(value) if value.get("object") == "chat.completion.chunk" else None

    return values(on, "chat_completions")


def whole(change: Callable[[dict[str, Any]], object]) -> Callable[[], SmallServer]:
    def on(value: Any) -> object:
        return change(value) if value.get("object") == "chat.completion" else None

    return values(on, "chat_completions")


def each(change: Callable[[dict[str, Any]], object]) -> Callable[[], SmallServer]:
    """Change each model of the catalogue."""

    def on(value: Any) -> None:
        for entry in value:
            change(entry)

    return values(on, "list_catalog")


def first_choice(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], None]:
    def on(value: dict[str, Any]) -> None:
        for choice in value["choices"]:
            change(choice)

    return on


def with_usage(value: dict[str, Any]) -> None:
    value["usage"] = value.get("usage") or {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


def wrong_total(value: dict[str, Any]) -> None:
    value["usage"]["total_tokens"] += 1


def with_role(choice: dict[str, Any]) -> None:
    choice["delta"]["role"] = "assistant"


def without_role(choice: dict[str, Any]) -> None:
    choice["delta"].pop("role", None)


def renamed(value: Any, keep: str) -> object:
    return {key: item for key, item in value.items() if key[0].isupper() is (keep == "pascal")}


def having(**items: object) -> Callable[[dict[str, Any]], None]:
    return lambda value: value.update(items)


def lacking(*names: str) -> Callable[[dict[str, Any]], None]:
    def change(value: dict[str, Any]) -> None:
        for name in names:
            value.pop(name, None)

    return change


def always_stop(choice: dict[str, Any]) -> None:
    if choice["finish_reason"] is not None:
        choice["finish_reason"] = "stop"


def text_beside_calls(value: dict[str, Any]) -> None:
    message = value["choices"][0]["message"]
    if message.get("tool_calls"):
        message["content"] = "<tool_call>{}</tool_call>"


def arguments_object(value: dict[str, Any]) -> None:
    for call in value["choices"][0]["message"].get("tool_calls") or ():
        call["function"]["arguments"] = json.loads(call["function"]["arguments"])


def stop_for_calls(value: dict[str, Any]) -> None:
    for choice in value["choices"]:
        if choice["finish_reason"] == "tool_calls":
            choice["finish_reason"] = "stop"


def with_numbers(value: Any) -> None:
    if value.get("object") == "list":
        for one in value["data"]:
            if isinstance(one["embedding"], str):
                one["embedding"] = [0.25, -0.5, 1.0]


def split_cup(data: bytes) -> bytes:
    cup = "☕".encode()
    if cup not in data or not data.startswith(b"data: "):
        return data
    return data.replace(cup, cup[:1]) + data.replace(cup, cup[1:]).replace(b'" ', b'"')


END: Final = b"data: [DONE]\n\n"


def in_errors(change: Callable[[dict[str, Any]], object]) -> Callable[[Any], None]:
    def on(value: Any) -> None:
        if isinstance(value, dict) and isinstance(value.get("error"), dict):
            change(value)

    return on


def changing() -> Callable[[], SmallServer]:
    counter = iter(range(1_700_000_000, 1_800_000_000))
    return chunks(lambda value: value.update(created=next(counter)))


def head_with_body() -> SmallServer:
    def rewrite(method: str, _: str, data: bytes) -> bytes:
        return data + b'{"object":"list","data":[]}' if method == "HEAD" else data

    return SmallServer(rewrite=rewrite)
