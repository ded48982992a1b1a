"""Whose word counts for sampling: the request's, then the model's, then OpenAI's."""

from __future__ import annotations

import pytest

from foundry_proto.messages.chat import ChatCompletionRequest, UserMessage
from foundry_runtime.engine.api import Sampling
from foundry_runtime.models.folder import SearchDefaults
from foundry_runtime.models.sampling import sampling_for

AUTHORS = SearchDefaults(do_sample=True, temperature=0.2, top_p=0.9, top_k=50)
SILENT = SearchDefaults()


def _asked(**fields: object) -> ChatCompletionRequest:
    return ChatCompletionRequest(model="m", messages=(UserMessage(role="user", content="Hi"),), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "search", "expected"),
    [
        ({}, SILENT, Sampling(temperature=1, top_p=1, top_k=0, seed=None)),
        ({}, AUTHORS, Sampling(temperature=0.2, top_p=0.9, top_k=50)),
        (
            {"temperature": None, "top_p": None, "top_k": None, "seed": None},
            AUTHORS,
            Sampling(temperature=0.2, top_p=0.9, top_k=50),
        ),
        ({"temperature": 0}, AUTHORS, Sampling(temperature=0, top_p=0.9, top_k=50)),
        (
            {"temperature": 0.7, "top_p": 0, "top_k": 0, "seed": 0},
            AUTHORS,
            Sampling(temperature=0.7, top_p=0, top_k=0, seed=0),
        ),
        ({"top_p": 0.5}, SILENT, Sampling(temperature=1, top_p=0.5)),
        ({"top_k": 3}, SILENT, Sampling(temperature=1, top_k=3)),
        # `do_sample` false is greedy, whatever stands beside it, until a request asks for a temperature.
        ({}, SearchDefaults(do_sample=False), Sampling(temperature=0)),
        ({}, SearchDefaults(do_sample=False, temperature=0.6), Sampling(temperature=0)),
        ({"temperature": 0.5}, SearchDefaults(do_sample=False, temperature=0.6), Sampling(temperature=0.5)),
        ({"top_p": 0.5}, SearchDefaults(do_sample=False), Sampling(temperature=0, top_p=0.5)),
        ({}, SearchDefaults(do_sample=True), Sampling(temperature=1)),
        ({}, SearchDefaults(temperature=0.6), Sampling(temperature=0.6)),
        # The files say 0 for a nucleus that is not cut.
        ({}, SearchDefaults(top_p=0.0), Sampling(temperature=1, top_p=1)),
        ({"seed": 1, "random_seed": 2}, SILENT, Sampling(seed=1)),
        ({"random_seed": 2}, SILENT, Sampling(seed=2)),
        ({"seed": 0, "random_seed": 2}, SILENT, Sampling(seed=0)),
    ],
)
def test_the_request_goes_before_the_model_and_the_model_before_openai(
    asked: dict[str, object], search: SearchDefaults, expected: Sampling
) -> None:
    assert sampling_for(_asked(**asked), search) == expected
