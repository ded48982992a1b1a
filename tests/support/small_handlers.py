"""What the small server's operations do: scripted answers, and just enough of what they depend on."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from foundry_proto.catalog import in_order
from foundry_proto.chat.calls import call_id
from foundry_proto.chat.chat_stream import answer_to
from foundry_proto.chat.markup import HERMES
from foundry_proto.chat.offer import offer_of
from foundry_proto.chat.reading import Reading
from foundry_proto.chat.stop import StopMatcher
from foundry_proto.chat.text_choices import TextReason, shape_of
from foundry_proto.chat.text_completion import text_answer_to
from foundry_proto.codec import encode
from foundry_proto.events import Failure, Request, Response, StreamEnd, StreamItem
from foundry_proto.exchange import Answer
from foundry_proto.jsontext import ContentError, dump_json
from foundry_proto.messages.chat import ChatCompletionRequest, ImagePart, JsonSchemaFormat
from foundry_proto.messages.completions import TokenLogprob, TopLogprob
from foundry_proto.messages.embeddings import Embedding, EmbeddingList, EmbeddingUsage
from foundry_proto.messages.inputs import each_of
from foundry_proto.messages.models import (
    LoadState,
    ModelList,
    ModelObject,
    ModelObjectList,
    TokenCount,
    UnloadState,
)
from foundry_proto.messages.service import CacheLocation, CoreStatus, ServiceStatus, ShuttingDown
from foundry_proto.openapi import openapi_document
from foundry_proto.operations import ALL
from foundry_proto.progress import Progress
from foundry_proto.providers import requested_provider

__all__ = ["HANDLERS", "TEXT", "no_such_model"]

TEXT: Final = (
    "Red",
    " and",
    " blüe",
    " ☕",
    "\n",
    "yellow",
    " three",
    " four",
    " five",
    " six",
    " seven",
    " 日本",
    " nine",
    " ten",
)
"""What the model says, token by token."""
_CONTEXT: Final = 10_000
_CALL: Final = '<tool_call>\n{"name": "%s", "arguments": {"unit": "celsius"}}\n</tool_call>'

Handled = Iterator[Answer]


def no_such_model(name: str, param: str = "model") -> Failure:
    message = f"{param}: No OpenAIService provider found for modelName:{name}. No model of this name is here"
    return Failure(status=404, message=message, param=param, code="model_not_found")


def _refused(error: ContentError) -> Failure:
    return Failure(status=400, message=str(error), param=error.param)


def _prompt(body: ChatCompletionRequest) -> int:
    """The prompt's tokens: its messages' words, and some for the template."""
    count = 3
    for one in body.messages:
        written = encode(one)
        content = one.content
        text = (
            content
            if isinstance(content, str)
            else "".join(part.text for part in content or () if hasattr(part, "text"))
        )
        count += 4 + len(text.split()) + (len(written) // 10 if not text else 0)
    return count + (0 if not body.tools else 20)


def _check(body: ChatCompletionRequest) -> None:
    for one in body.messages:
        for part in one.content if isinstance(one.content, tuple) else ():
            if isinstance(part, ImagePart):
                raise ContentError("expected text, got an image", ("messages",))
    for token in body.logit_bias or ():
        if not token.isdigit():
            raise ContentError(f"expected a token id, got {token!r}", ("logit_bias",))
    if body.top_logprobs and not body.logprobs:
        raise ContentError("expected logprobs beside it, got none", ("top_logprobs",))
    requested_provider(body.ep or "")


def chat_completions(server: Any, request: Request[ChatCompletionRequest]) -> Handled:
    body = request.value
    try:
        offer = offer_of(body)
        _check(body)
    except ContentError as error:
        yield _refused(error)
        return
    model = server.find(body.model)
    if model is None or not model.cached or model.task != "chat-completion":
        yield no_such_model(body.model)
        return
    limit = body.max_completion_tokens or body.max_tokens or 1024
    prompt = _prompt(body)
    if prompt + limit > _CONTEXT:
        message = (
            f"the prompt has {prompt} tokens and max_tokens is {limit}, more than the context of {_CONTEXT}"
        )
        yield Failure(status=400, message=message, param="messages", code="context_length_exceeded")
        return
    server.load(model, server.loaded.get(model.id, 600.0))
    if isinstance(body.response_format, JsonSchemaFormat):
        tokens: tuple[str, ...] = ('{"color":', ' "red"}')
    elif offer is not None and offer.must_call:
        tokens = tuple(_CALL % offer.functions[0].name)
    else:
        tokens = TEXT
    reading = Reading(markup=HERMES.markup, offer=offer, call_id=lambda: call_id(next(server.counter)))
    choices = body.n or 1
    answer = answer_to(body, server.identity("chatcmpl", body.model), choices=choices, reading=reading)
    stops = [body.stop] if isinstance(body.stop, str) else [one for one in body.stop or () if one]
    server.running.append(model.id)
    try:
        for index in range(choices):
            matcher = StopMatcher([one for one in stops if one])
            used = 0
            for token in tokens[:limit]:
                if model.id in server.cut:
                    raise ConnectionError
                used += 1
                logprobs = [_logprob(token, body.top_logprobs or 0)] if body.logprobs else []
                yield from answer.text(index, matcher.push(token), tokens=1, logprobs=logprobs)
                if matcher.stopped is not None:
                    break
            yield from answer.text(index, matcher.finish())
            reason = "stop" if matcher.stopped is not None or limit >= len(tokens) else "length"
            yield from answer.finish(index, reason, prompt_tokens=prompt, completion_tokens=used)  # type: ignore[arg-type]
    finally:
        server.running.remove(model.id)
        server.used[model.id] = server.now


def _logprob(token: str, count: int) -> TokenLogprob:
    top = tuple(TopLogprob(token=token, logprob=-0.5 - place, bytes=None) for place in range(count))
    return TokenLogprob(token=token, logprob=-0.5, bytes=None, top_logprobs=top)


def count_tokens(server: Any, request: Request[ChatCompletionRequest]) -> Handled:
    if server.find(request.value.model) is None:
        yield no_such_model(request.value.model)
        return
    yield Response(value=TokenCount(token_count=_prompt(request.value)))


def completions(server: Any, request: Request[Any]) -> Handled:
    body = request.value
    if server.find(body.model) is None:
        yield no_such_model(body.model)
        return
    prompts = [str(one) for _, one in each_of("prompt", body.prompt)]
    shape = shape_of(body)
    answer = text_answer_to(body, shape, server.identity("cmpl", body.model), prompts=prompts)
    for index in range(shape.prompts * shape.generated):
        tokens = TEXT[: body.max_tokens or 16]
        for token in tokens:
            yield from answer.text(index, token)
        reason: TextReason = "length" if len(tokens) < len(TEXT) else "stop"
        yield from answer.finish(index, reason, prompt_tokens=4, completion_tokens=len(tokens))


def embeddings(server: Any, request: Request[Any]) -> Handled:
    body = request.value
    model = server.find(body.model)
    if model is None or model.task != "embeddings":
        yield no_such_model(body.model)
        return
    inputs = each_of("input", body.input)
    vector = (0.25, -0.5, 1.0)
    packed = base64.b64encode(struct.pack("<3f", *vector)).decode()
    data = tuple(
        Embedding(index=place, embedding=packed if body.encoding_format == "base64" else vector)
        for place, _ in enumerate(inputs)
    )
    usage = EmbeddingUsage(prompt_tokens=len(data), total_tokens=len(data))
    yield Response(value=EmbeddingList(data=data, model=body.model, usage=usage))


def service_status(server: Any, _: Request[None]) -> Handled:
    yield Response(value=ServiceStatus(endpoints=("http://127.0.0.1:5272",), model_dir_path="/models"))


def core_status(server: Any, _: Request[None]) -> Handled:
    yield Response(value=CoreStatus(endpoints=("http://127.0.0.1:5272",), model_cache_path="/models", pid=1))


def cache_location(server: Any, _: Request[None]) -> Handled:
    yield Response(value=CacheLocation(location="/models"))


def get_gpu_device(server: Any, _: Request[None]) -> Handled:
    yield Response(value=server.device)


def set_gpu_device(server: Any, request: Request[None]) -> Handled:
    server.device = request.head.query.device_id
    yield Response(value=None)


def shutdown(server: Any, _: Request[None]) -> Handled:
    server.stopped = True
    yield Response(value=ShuttingDown())


def openapi(server: Any, _: Request[None]) -> Handled:
    yield Response(value=openapi_document(ALL))


def list_catalog(server: Any, request: Request[None]) -> Handled:
    models = tuple(model.info() for model in in_order(server.models))
    yield Response(value=ModelList(models=models) if request.head.query.format == "object" else models)


def cached_models(server: Any, _: Request[None]) -> Handled:
    yield Response(value=tuple(model.id for model in server.models if model.cached))


def _object(model: Any) -> ModelObject:
    return ModelObject(id=model.id, created=model.created, owned_by="Test")


def list_models(server: Any, _: Request[None]) -> Handled:
    yield Response(
        value=ModelObjectList(data=tuple(_object(model) for model in server.models if model.cached))
    )


def get_model(server: Any, request: Request[None]) -> Handled:
    model = server.find(request.head.query.name)
    yield no_such_model(request.head.query.name, "name") if model is None else Response(value=_object(model))


def load_model(server: Any, request: Request[None]) -> Handled:
    words = request.head.query
    try:
        requested_provider(words.ep or "")
    except ContentError as error:
        yield _refused(error)
        return
    model = server.find(words.name)
    if model is None or not model.cached:
        yield no_such_model(words.name, "name")
        return
    server.load(model, words.ttl or 600.0)
    yield Response(value=None)


def unload_model(server: Any, request: Request[None]) -> Handled:
    model = server.find(request.head.query.name)
    if model is None:
        yield no_such_model(request.head.query.name, "name")
        return
    if request.head.query.force is True:
        server.unload(model.id)
    yield Response(value=None)


def unload_all_models(server: Any, _: Request[None]) -> Handled:
    server.loaded.clear()
    yield Response(value=None)


def loaded_models(server: Any, _: Request[None]) -> Handled:
    yield Response(value=tuple(server.loaded))


def core_load_model(server: Any, request: Request[None]) -> Handled:
    model = server.find(request.head.query.name)
    if model is None:
        yield no_such_model(request.head.query.name, "name")
    elif not model.cached:
        yield Failure(status=400, message="Model not cached", param="name", code="model_not_cached")
    else:
        yield Response(value=LoadState(status="loaded" if server.load(model) else "already_loaded"))


def core_unload_model(server: Any, request: Request[None]) -> Handled:
    model = server.find(request.head.query.name)
    if model is None:
        yield no_such_model(request.head.query.name, "name")
        return
    yield Response(value=UnloadState(status="unloaded" if server.unload(model.id) else "not_loaded"))


def download_model(server: Any, request: Request[Any]) -> Handled:
    asked = request.value.model
    name = asked if isinstance(asked, str) else asked.name
    model = server.find(name)
    if model is None or (not isinstance(asked, str) and "../" in (asked.publisher or "")):
        yield no_such_model(name)
        return
    if not model.cached or request.value.force is True:
        yield StreamItem(value=Progress(file="genai_config.json", fraction=0.2))
        yield StreamItem(value=Progress(file="model.onnx", fraction=0.78))
        model.cached = True
    yield StreamEnd()


def register_model(server: Any, _: Request[Any]) -> Handled:
    yield Response(value=None)


def unregister_model(server: Any, request: Request[None]) -> Handled:
    yield no_such_model(request.head.query.name, "name")


def responses(server: Any, request: Request[Any]) -> Handled:
    body: Mapping[str, Any] = request.value
    given = body.get("input")
    items = given if isinstance(given, list) else [{"role": "user"}] if isinstance(given, str) else []
    if not isinstance(body.get("model"), str) or not items:
        yield Failure(status=400, message="expected a model and an input", param="input")
        return
    if not all(isinstance(item, dict) and "role" in item for item in items):
        yield Failure(status=400, message="input[0]: expected a message with a role", param="input")
        return
    if server.find(body["model"]) is None:
        yield no_such_model(body["model"])
        return
    answer = {
        "id": f"resp_{next(server.counter)}",
        "object": "response",
        "model": body["model"],
        "status": "completed",
        "output": [
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Red"}]}
        ],
        "usage": {"input_tokens": 3, "output_tokens": 1, "total_tokens": 4},
    }
    if body.get("store") is True:
        server.stored[str(answer["id"])] = answer
    if body.get("stream") is not True:
        yield Response(value=answer)
        return
    kinds = ("response.created", "response.in_progress", "response.output_text.delta", "response.completed")
    for number, kind in enumerate(kinds):
        yield StreamItem(value=dump_json({"type": kind, "sequence_number": number}))
    yield StreamEnd()


def _no_response(name: str) -> Failure:
    return Failure(status=404, message=f"The response '{name}' does not exist.", code="response_not_found")


def get_response(server: Any, request: Request[None]) -> Handled:
    name = request.head.query.name
    yield Response(value=server.stored[name]) if name in server.stored else _no_response(name)


def delete_response(server: Any, request: Request[None]) -> Handled:
    name = request.head.query.name
    found = server.stored.pop(name, None)
    deleted = {"id": name, "object": "response.deleted", "deleted": True}
    yield _no_response(name) if found is None else Response(value=deleted)


def transcriptions(server: Any, request: Request[Any]) -> Handled:
    missing = "filename" if "filename" not in request.value else "model"
    yield Failure(status=400, message=f"Missing required field: {missing}", param=missing)


_ALL: Final = (
    chat_completions,
    count_tokens,
    completions,
    embeddings,
    service_status,
    core_status,
    cache_location,
    get_gpu_device,
    set_gpu_device,
    shutdown,
    openapi,
    list_catalog,
    cached_models,
    list_models,
    get_model,
    load_model,
    unload_model,
    unload_all_models,
    loaded_models,
    core_load_model,
    core_unload_model,
    download_model,
    register_model,
    unregister_model,
    responses,
    get_response,
    delete_response,
    transcriptions,
)

HANDLERS: Final[Mapping[str, Callable[..., Handled]]] = {
    **{handler.__name__: handler for handler in _ALL},
    "core_loaded_models": loaded_models,
}
