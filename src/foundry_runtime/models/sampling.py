"""How tokens are drawn for a request: what it says, else what its model says, else what OpenAI says.

Knows: that order. Refuses to know: how drawing works, and what an engine would do by itself: its own hidden
defaults never apply.
"""

from __future__ import annotations

from typing import Final, TypeVar

from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_proto.sentinels import Absent, Maybe
from foundry_runtime.engine.api import Sampling
from foundry_runtime.models.folder import SearchDefaults

__all__ = ["sampling_for"]

T = TypeVar("T")

_OPENAI: Final = Sampling(temperature=1.0, top_p=1.0, top_k=0, seed=None)


def sampling_for(request: ChatCompletionRequest, search: SearchDefaults) -> Sampling:
    """Decide how tokens are drawn.

    Args:
        request: What a client asked; a field that is absent or null is left to the model.
        search: What the model's `genai_config.json` says; `None` is left to OpenAI's defaults.

    Choice: a model with `do_sample` false is greedy whatever temperature stands beside it, as
    onnxruntime-genai reads it; a temperature in the request overrules both.
    """
    greedy = 0.0 if search.do_sample is False else None
    # onnxruntime-genai writes 0 for a nucleus that is not cut; from a client it would mean the narrowest.
    its_top_p = search.top_p or None
    return Sampling(
        temperature=_first(request.temperature, greedy, search.temperature, _OPENAI.temperature),
        top_p=_first(request.top_p, its_top_p, _OPENAI.top_p),
        top_k=_first(request.top_k, search.top_k, _OPENAI.top_k),
        seed=_first(request.seed, request.random_seed, _OPENAI.seed),
    )


def _first(*values: Maybe[T]) -> T:
    """The first that is given; the last one always counts as given."""
    for value in values[:-1]:
        if value is not None and not isinstance(value, Absent):
            return value
    return values[-1]  # type: ignore[return-value]
