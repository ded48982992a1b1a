"""`POST /v1/embeddings`: from texts or token ids to their vectors.

Knows: which inputs are refused, and in which words.
Refuses to know: how vectors are made (`engine/embed.py`) and written (`foundry_proto.vectors`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NoReturn

import anyio.to_thread

from foundry_proto.events import Failure, Request, Response
from foundry_proto.messages.embeddings import EmbeddingRequest
from foundry_proto.messages.inputs import each_of
from foundry_proto.vectors import encode_embeddings
from foundry_runtime.application import Send
from foundry_runtime.engine.admission import check_ids
from foundry_runtime.engine.api import EmbeddingFailed, EngineLost, Refused
from foundry_runtime.models.pool import LoadedEncoder
from foundry_serve.handlers.external import relayed
from foundry_serve.leasing import Refusal, encoder_for, sends_refusals
from foundry_serve.observing import note
from foundry_serve.services import Services

__all__ = ["embeddings"]


@sends_refusals
async def embeddings(services: Services, request: Request[EmbeddingRequest], send: Send) -> None:
    """Answer with a vector for each input."""
    if not await relayed(services, request, send):
        await send(Response(value=await _embed(services, request.value)))


async def _embed(services: Services, body: EmbeddingRequest) -> bytes:
    async with encoder_for(services, body.model) as model:
        if body.dimensions and body.dimensions != model.embedder.dimensions:
            # Choice: a vector that is cut means something only to models that were taught so, and no file of
            # a model says that.
            expected = f"{model.embedder.dimensions}, as many as the model gives"
            _refuse(f"dimensions: expected {expected}, got {body.dimensions}", "dimensions")
        inputs = await anyio.to_thread.run_sync(
            partial(_token_ids, model, body), limiter=services.prompt_threads
        )
        try:
            vectors = await model.embedder.embed(inputs)
        except EngineLost as error:
            raise Refusal(Failure(status=503, message=str(error), type="server_error")) from error
        except EmbeddingFailed as error:
            message = f"the inputs could not be embedded: {error}"
            raise Refusal(Failure(status=500, message=message, type="server_error")) from error
    tokens = sum(map(len, inputs))
    note(prompt_tokens=tokens)
    services.metrics.embedded(model.folder.id, tokens)
    write = partial(
        encode_embeddings,
        vectors,
        model=body.model,
        tokens=tokens,
        encoding_format=body.encoding_format or "float",
    )
    return await anyio.to_thread.run_sync(write, limiter=services.prompt_threads)


def _token_ids(model: LoadedEncoder, body: EmbeddingRequest) -> Sequence[Sequence[int]]:
    """The inputs' token ids, each of them known to be what the model can read."""
    given = each_of("input", body.input)
    for name, one in given:
        if not one:
            _refuse(f"{name}: expected a text that is not empty, got an empty one", name)
    encoded = iter(model.inputs.encode([one for _, one in given if isinstance(one, str)]))
    inputs = [next(encoded) if isinstance(one, str) else one for _, one in given]
    for (name, _), ids in zip(given, inputs, strict=True):
        _check(model, name, ids)
    return inputs


def _check(model: LoadedEncoder, name: str, ids: Sequence[int]) -> None:
    most = model.folder.context_length
    if not ids:
        _refuse(f"{name}: expected at least 1 token, got none", name)
    if len(ids) > most:
        message = f"{name}: expected at most {most} tokens, which is the model's context, got {len(ids)}"
        _refuse(message, name, code="context_length_exceeded")
    try:
        check_ids(ids, name, vocabulary=model.folder.vocab_size)
    except Refused as error:
        _refuse(str(error), error.param or name)


def _refuse(message: str, param: str, *, code: str | None = None) -> NoReturn:
    raise Refusal(Failure(status=400, message=message, param=param, code=code))
