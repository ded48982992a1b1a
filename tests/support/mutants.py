"""Servers that are wrong in one way each: by them the conformance kit shows that its cases can fail.

Each is the small server with a handler or some bytes changed, and names the cases that are meant to catch it:
exactly those, and no other, must fail. `*` stands for any letters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Final

from attrs import frozen

from tests.support import mutations as ways
from tests.support.small_server import SmallServer

__all__ = ["MUTANTS", "Mutant", "meant"]


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


MUTANTS: Final[tuple[Mutant, ...]] = (
    Mutant(
        name="no [DONE]",
        wrong="chat streams end without `data: [DONE]`",
        make=ways.bodies(lambda body: b"" if body == ways.END else body, "chat_completions"),
        caught_by=("chat.stream.done", "sse.done.exact", "http.version.1-0.stream", "unload.running*"),
    ),
    Mutant(
        name="behind [DONE]",
        wrong="something comes behind `data: [DONE]`",
        make=ways.bodies(
            lambda body: body + b"data: [DONE]\n\n" if body == ways.END else body, "chat_completions"
        ),
        caught_by=("sse.done.last",),
    ),
    Mutant(
        name="usage everywhere",
        wrong="every chunk has `usage`",
        make=ways.chunks(ways.with_usage),
        caught_by=("chat.stream.usage.none", "chat.stream.usage.once", "chat.stream.usage.false"),
    ),
    Mutant(
        name="usage forgotten",
        wrong="`include_usage` is not heeded",
        make=ways.asked(ways.without("stream_options"), "chat_completions"),
        caught_by=("chat.stream.usage", "chat.stream.usage.same"),
    ),
    Mutant(
        name="lenient types",
        wrong="optional properties of a wrong type are left out",
        make=ways.lenient_server,
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
        make=ways.heads(lambda head: head.replace(b"text/event-stream", b"text/plain"), "chat_completions"),
        caught_by=("sse.media", "op.chat_completions.streams"),
    ),
    Mutant(
        name="JSON as text",
        wrong="whole answers to chats are `text/plain`",
        make=ways.heads(lambda head: head.replace(b"application/json", b"text/plain"), "chat_completions"),
        caught_by=("chat.media", "op.chat_completions.answers", "op.chat_completions.failure"),
    ),
    Mutant(
        name="object-shaped list",
        wrong="`/foundry/list` is an object, as the page says",
        make=ways.values(lambda value: {"models": value}, "list_catalog"),
        caught_by=("catalog.array",),
    ),
    Mutant(
        name="PascalCase only",
        wrong="`/openai/status` has the page's spelling alone",
        make=ways.values(lambda value: ways.renamed(value, "pascal"), "service_status"),
        caught_by=("service.status.directory.client",),
    ),
    Mutant(
        name="camelCase only",
        wrong="`/openai/status` has the clients' spelling alone",
        make=ways.values(lambda value: ways.renamed(value, "camel"), "service_status"),
        caught_by=("service.status.endpoints", "service.status.directory", "service.status.pipe"),
    ),
    Mutant(
        name="tuple without parentheses",
        wrong='progress is `"file", 0.5`',
        make=ways.bodies(lambda body: re.sub(rb"(?m)^\((.*)\)$", rb"\1", body), "download_model"),
        caught_by=("download.end.tuple", "download.new.grammar"),
    ),
    Mutant(
        name="glued result",
        wrong="the last object stands behind the last line of progress",
        make=ways.bodies(
            lambda body: body.rstrip(b"\n") if body.startswith(b"(") else body, "download_model"
        ),
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
        make=ways.values(
            lambda value: ways.renamed(value, "pascal") if "Success" in value else None, "download_model"
        ),
        caught_by=("download.result.client", "download.result.key"),
    ),
    Mutant(
        name="no end of progress",
        wrong="no line says that the download is over",
        make=ways.bodies(lambda body: body.replace(b"[DONE] All Completed!\n", b""), "download_model"),
        caught_by=("download.end",),
    ),
    Mutant(
        name="falling progress",
        wrong="progress falls back",
        make=ways.handlers(download_model=ways.falling_progress),
        caught_by=("download.new.rising",),
    ),
    Mutant(
        name="split UTF-8",
        wrong="a character is split between two events",
        make=ways.bodies(ways.split_cup, "chat_completions"),
        caught_by=("sse.utf-8", "sse.newlines", "chat.stream.text"),
    ),
    Mutant(
        name="200 for an unknown model",
        wrong="a chat with a model that is not there is answered by another one",
        make=ways.handlers(chat_completions=ways.any_model),
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
        make=ways.handlers(unload_model=ways.cutting_unload, chat_completions=ways.chat_after_cut),
        caught_by=("unload.running*",),
    ),
    Mutant(
        name="unload without asking",
        wrong="an unload without force ignores the time to live",
        make=ways.handlers(unload_model=ways.always_forced),
        caught_by=("unload.gentle", "unload.default"),
    ),
    Mutant(
        name="unload that does nothing",
        wrong="an unload with force leaves the model in memory",
        make=ways.handlers(unload_model=ways.never_unloading),
        caught_by=("unload.force", "unload.hang-up"),
    ),
    Mutant(
        name="no time to live",
        wrong="`ttl` is not heeded",
        make=ways.handlers(load_model=ways.no_ttl),
        caught_by=("load.ttl",),
    ),
    Mutant(
        name="load with a body",
        wrong="`/openai/load` answers with JSON",
        make=ways.handlers(load_model=ways.telling_load),
        caught_by=("load.empty", "op.load_model.answers"),
    ),
    Mutant(
        name="no loading by itself",
        wrong="a chat with a model that is not in memory is refused",
        make=ways.handlers(chat_completions=ways.no_auto_load),
        caught_by=("unload.auto", "unload.running.request"),
    ),
    Mutant(
        name="stop not heeded",
        wrong="stop texts are not looked for",
        make=ways.asked(ways.without("stop"), "chat_completions"),
        caught_by=("chat.stop", "chat.stop.several", "chat.stream.stop"),
    ),
    Mutant(
        name="wrong total",
        wrong="`usage.total_tokens` is no sum",
        make=ways.whole(ways.wrong_total),
        caught_by=("chat.usage",),
    ),
    Mutant(
        name="always stop",
        wrong="an answer that was cut says `stop`",
        make=ways.values(
            lambda value: ways.first_choice(ways.always_stop)(value) if "choices" in value else None,
            "chat_completions",
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
        make=ways.asked(ways.without("n"), "chat_completions"),
        caught_by=("chat.n", "chat.n.usage", "chat.stream.n"),
    ),
    Mutant(
        name="one id",
        wrong="all answers have the same id",
        make=ways.values(
            lambda value: value.update(id="chatcmpl-1") if "choices" in value else None, "chat_completions"
        ),
        caught_by=("chat.id", "chat.stream.id"),
    ),
    Mutant(
        name="no role",
        wrong="no chunk says a role",
        make=ways.chunks(ways.first_choice(ways.without_role)),
        caught_by=("chat.stream.role",),
    ),
    Mutant(
        name="role everywhere",
        wrong="every chunk says the role",
        make=ways.chunks(ways.first_choice(ways.with_role)),
        caught_by=("chat.stream.role.once",),
    ),
    Mutant(
        name="changing id",
        wrong="chunks of one stream have different times of creation",
        make=ways.changing(),
        caught_by=("chat.stream.same",),
    ),
    Mutant(
        name="chunks called completions",
        wrong="a chunk's object is `chat.completion`",
        make=ways.chunks(ways.having(object="chat.completion")),
        caught_by=("chat.stream.object", "op.chat_completions.streams"),
    ),
    Mutant(
        name="failure in the stream",
        wrong="a stream that cannot begin is answered with 200 and an event",
        make=ways.handlers(chat_completions=ways.failing_in_stream),
        caught_by=("chat.refuses.stream",),
    ),
    Mutant(
        name="500 for the client's mistakes",
        wrong="what a chat handler refuses has status 500",
        make=ways.handlers(chat_completions=ways.server_error),
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
        make=ways.values(ways.in_errors(lambda value: value["error"].pop("type")), "count_tokens"),
        caught_by=("tokens.model.*", "tokens.messages.missing", "op.count_tokens.failure"),
    ),
    Mutant(
        name="all at once",
        wrong="a stream comes in one piece, at its end",
        make=ways.handlers(chat_completions=ways.at_the_end),
        caught_by=("sse.pieces",),
    ),
    Mutant(
        name="CRLF events",
        wrong="the lines of events end with CRLF",
        make=ways.bodies(
            lambda body: body.replace(b"\n", b"\r\n") if body.startswith(b"data: ") else body,
            "chat_completions",
        ),
        caught_by=("sse.frames", "sse.done.exact", "http.version.1-0.stream", "sse.utf-8"),
    ),
    Mutant(
        name="heartbeats",
        wrong="comments stand between events",
        make=ways.bodies(
            lambda body: b": ping\n\n" + body if body.startswith(b"data: ") else body, "chat_completions"
        ),
        caught_by=("sse.frames", "sse.comments"),
    ),
    Mutant(
        name="byte order mark",
        wrong="a stream begins with a byte order mark",
        make=ways.bodies(
            lambda body: b"\xef\xbb\xbf" + body if b'"role":"assistant","content":""' in body else body,
            "chat_completions",
        ),
        caught_by=("sse.bom", "sse.frames", "sse.comments"),
    ),
    Mutant(
        name="text beside calls",
        wrong="an answer that calls has the call's raw text, too",
        make=ways.whole(ways.text_beside_calls),
        caught_by=("tools.content",),
    ),
    Mutant(
        name="arguments as an object",
        wrong="a call's arguments are an object",
        make=ways.whole(ways.arguments_object),
        caught_by=("tools.required",),
    ),
    Mutant(
        name="stop for calls",
        wrong="an answer that calls ends with `stop`",
        make=ways.values(
            lambda value: ways.stop_for_calls(value) if "choices" in value else None, "chat_completions"
        ),
        caught_by=("tools.finish", "tools.stream.finish"),
    ),
    Mutant(
        name="no maxOutputTokens",
        wrong="the list lacks what the page does not have",
        make=ways.each(ways.lacking("maxOutputTokens")),
        caught_by=("catalog.sdk.output",),
    ),
    Mutant(
        name="version as a number",
        wrong="the list's versions are numbers",
        make=ways.each(lambda entry: entry.update(version=int(entry["version"]))),
        caught_by=("catalog.texts", "catalog.sdk.id", "op.list_catalog.answers"),
    ),
    Mutant(
        name="devices in small letters",
        wrong="the list's devices are `cpu` and `npu`",
        make=ways.each(
            lambda entry: entry["runtime"].update(deviceType=entry["runtime"]["deviceType"].lower())
        ),
        caught_by=("catalog.sdk.device", "op.list_catalog.answers"),
    ),
    Mutant(
        name="list upside down",
        wrong="the list's variants stand in another order",
        make=ways.reversed_list,
        caught_by=("catalog.sdk.order",),
    ),
    Mutant(
        name="models without an object",
        wrong="`/v1/models` has no `object`",
        make=ways.handlers(list_models=ways.bare_list),
        caught_by=("models.list",),
    ),
    Mutant(
        name="other counts",
        wrong="a count leaves the template's tokens out",
        make=ways.values(
            lambda value: value.update(tokenCount=value["tokenCount"] - 1) if "tokenCount" in value else None,
            "count_tokens",
        ),
        caught_by=("tokens.usage",),
    ),
    Mutant(
        name="no base64",
        wrong="embeddings are always arrays",
        make=ways.values(ways.with_numbers, "embeddings"),
        caught_by=("embeddings.base64",),
    ),
    Mutant(
        name="no Allow",
        wrong="405 comes without `Allow`",
        make=ways.heads(lambda head: re.sub(rb"(?im)^allow: .*\r\n", b"", head + b"\r\n")[:-2]),
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
        make=ways.reads(lambda data: data.replace(b"Connection: close\r\n", b"")),
        caught_by=("http.close", "http.close.told"),
    ),
    Mutant(
        name="no chunked bodies",
        wrong="chunked requests are refused",
        make=ways.reads(
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
        make=ways.reads(ways.first_length),
        caught_by=("http.length.conflict", "http.length.list"),
    ),
    Mutant(
        name="HEAD with a body",
        wrong="HEAD is answered like GET, body and all",
        make=ways.head_with_body,
        caught_by=("http.head.sync",),
    ),
    Mutant(
        name="wrong accept key",
        wrong="a WebSocket's handshake has another key",
        make=ways.heads(lambda head: head.replace(b"accept: ", b"accept: x"), "watch"),
        caught_by=("websocket.handshake",),
    ),
)
