"""How tokens are drawn for a request: what it says, else what its model says, else what OpenAI says.

Knows: that order, for each parameter; under which names a request may say it; and what of it only the two
together can be wrong about.
Refuses to know: how drawing works, and what an engine would do by itself: its hidden defaults never apply.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Protocol, TypeVar, cast

from foundry_proto.codec import structure
from foundry_proto.jsontext import ContentError, show
from foundry_proto.messages.chat import ChatCompletionRequest, Seed, TopK
from foundry_proto.sentinels import ABSENT, Absent, Maybe
from foundry_runtime.engine.api import Sampling
from foundry_runtime.models.folder import SearchDefaults

__all__ = ["MAX_BIASES", "SamplingRequest", "logprobs_for", "sampling_for"]

T = TypeVar("T")

MAX_BIASES: Final = 2048
"""Most entries of a `logit_bias`: more than anybody sends, and few enough to read on the event loop."""

_OPENAI: Final = Sampling()

_TOKEN_ID: Final = re.compile(r"0|[1-9][0-9]{0,9}")
_INTEGER: Final = re.compile(r"-?[0-9]{1,20}")


class SamplingRequest(Protocol):
    """What the requests that generate text have in common."""

    @property
    def temperature(self) -> Maybe[float]: ...  # noqa: D102 - the messages say what each of them is
    @property
    def top_p(self) -> Maybe[float]: ...  # noqa: D102 - as above
    @property
    def top_k(self) -> Maybe[int]: ...  # noqa: D102 - as above
    @property
    def min_p(self) -> Maybe[float]: ...  # noqa: D102 - as above
    @property
    def repetition_penalty(self) -> Maybe[float]: ...  # noqa: D102 - as above
    @property
    def presence_penalty(self) -> Maybe[float]: ...  # noqa: D102 - as above
    @property
    def frequency_penalty(self) -> Maybe[float]: ...  # noqa: D102 - as above
    @property
    def logit_bias(self) -> Maybe[Mapping[str, float]]: ...  # noqa: D102 - as above
    @property
    def seed(self) -> Maybe[int]: ...  # noqa: D102 - as above
    @property
    def random_seed(self) -> Maybe[int]: ...  # noqa: D102 - as above
    @property
    def metadata(self) -> Maybe[Mapping[str, object]]: ...  # noqa: D102 - as above


def sampling_for(request: SamplingRequest, search: SearchDefaults) -> Sampling:
    """Decide how tokens are drawn.

    Args:
        request: What a client asked; a field that is absent or null is left to the model. `top_k` may also
            stand in its `metadata`, and the seed as `random_seed` in either place: there later names count
            only where the earlier ones are silent.
        search: What the model's `genai_config.json` says; `None` is left to OpenAI's defaults.

    Raises:
        ContentError: A token id or a value in `metadata` is none.

    Choice: a model with `do_sample` false is greedy whatever temperature stands beside it, as
    onnxruntime-genai reads it; a temperature in the request overrules both.
    """
    greedy = 0.0 if search.do_sample is False else None
    # onnxruntime-genai writes 0 for a nucleus that is not cut; from a client it would mean the narrowest.
    its_top_p = search.top_p or None
    metadata = request.metadata or {}
    # Read even where it does not count: whether a request is accepted should not hang on another field.
    its_top_k = _from_metadata(metadata, "top_k", TopK)
    its_seed = _from_metadata(metadata, "random_seed", Seed)
    return Sampling(
        temperature=_first(request.temperature, greedy, search.temperature, otherwise=_OPENAI.temperature),
        top_p=_first(request.top_p, its_top_p, otherwise=_OPENAI.top_p),
        top_k=_first(request.top_k, its_top_k, search.top_k, otherwise=_OPENAI.top_k),
        min_p=_first(request.min_p, otherwise=_OPENAI.min_p),
        repetition_penalty=_first(
            request.repetition_penalty, search.repetition_penalty, otherwise=_OPENAI.repetition_penalty
        ),
        presence_penalty=_first(request.presence_penalty, otherwise=_OPENAI.presence_penalty),
        frequency_penalty=_first(request.frequency_penalty, otherwise=_OPENAI.frequency_penalty),
        logit_bias=_biases(request.logit_bias or {}),
        seed=_first(request.seed, request.random_seed, its_seed, search.random_seed, otherwise=_OPENAI.seed),
    )


def logprobs_for(request: ChatCompletionRequest) -> int | None:
    """How many of the likeliest tokens a chat wants told beside each; `None` where it wants no logprobs.

    Raises:
        ContentError: It asks for the likeliest tokens, but not for logprobs.
    """
    count = _first(request.top_logprobs, otherwise=0)
    if request.logprobs:
        return count
    if count:
        raise ContentError("expected logprobs to be true beside it", ("top_logprobs",))
    return None


def _first(*values: Maybe[T], otherwise: T) -> T:
    """The first that is given."""
    for value in values:
        if value is not None and not isinstance(value, Absent):
            return value
    return otherwise


def _from_metadata(metadata: Mapping[str, object], name: str, tp: Any) -> Maybe[int]:
    """An integer of the metadata, whose values are strings in OpenAI's API, and may be numbers here."""
    value = metadata.get(name)
    if value is None:
        return ABSENT
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value)
    try:
        return cast("int", structure(tp, value))
    except ContentError as error:
        raise error.under(name).under("metadata") from None


def _biases(given: Mapping[str, float]) -> Mapping[int, float]:
    if len(given) > MAX_BIASES:
        raise ContentError(f"expected at most {MAX_BIASES} token ids, got {len(given)}", ("logit_bias",))
    for key in given:
        if not _TOKEN_ID.fullmatch(key):
            raise ContentError(f"expected a token id as the key, got {show(key)}", ("logit_bias", key))
    return {int(key): bias for key, bias in given.items()}
