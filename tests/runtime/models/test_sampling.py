"""Whose word counts for sampling: the request's, then the model's, then OpenAI's."""

from __future__ import annotations

import pytest

from foundry_proto.jsontext import ContentError
from foundry_proto.messages.chat import ChatCompletionRequest, UserMessage
from foundry_runtime.engine.api import Sampling
from foundry_runtime.models.folder import SearchDefaults
from foundry_runtime.models.sampling import logprobs_for, sampling_for

AUTHORS = SearchDefaults(do_sample=True, temperature=0.2, top_p=0.9, top_k=50)
SILENT = SearchDefaults()
FRESH = SearchDefaults(repetition_penalty=1.1)
SEEDED = SearchDefaults(random_seed=9)


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
        ({"random_seed": 2, "metadata": {"random_seed": "3"}}, SEEDED, Sampling(seed=2)),
        ({"metadata": {"random_seed": "-3"}}, SEEDED, Sampling(seed=-3)),
        ({"metadata": {"random_seed": 3.0, "top_k": None}}, SEEDED, Sampling(seed=3)),
        ({"metadata": {"other": "7"}}, SEEDED, Sampling(seed=9)),
        ({"metadata": None}, SEEDED, Sampling(seed=9)),
        ({"top_k": 0, "metadata": {"top_k": "3"}}, SearchDefaults(top_k=50), Sampling(top_k=0)),
        ({"metadata": {"top_k": "3"}}, SearchDefaults(top_k=50), Sampling(top_k=3)),
        ({"metadata": {"top_k": 40.0}}, SearchDefaults(top_k=50), Sampling(top_k=40)),
        ({"min_p": 0.1}, AUTHORS, Sampling(temperature=0.2, top_p=0.9, top_k=50, min_p=0.1)),
        (
            {"repetition_penalty": 1.3},
            SearchDefaults(repetition_penalty=1.1),
            Sampling(repetition_penalty=1.3),
        ),
        (
            {"repetition_penalty": None},
            SearchDefaults(repetition_penalty=1.1),
            Sampling(repetition_penalty=1.1),
        ),
        (
            {"presence_penalty": -0.5, "frequency_penalty": 2, "logit_bias": {"0": 1, "49151": -100}},
            SILENT,
            Sampling(presence_penalty=-0.5, frequency_penalty=2, logit_bias={0: 1, 49_151: -100}),
        ),
        ({"presence_penalty": None, "frequency_penalty": None, "logit_bias": None}, SILENT, Sampling()),
        ({"logit_bias": {}}, SILENT, Sampling()),
    ],
)
def test_the_request_goes_before_the_model_and_the_model_before_openai(
    asked: dict[str, object], search: SearchDefaults, expected: Sampling
) -> None:
    assert sampling_for(_asked(**asked), search) == expected


TOP_K = "expected an integer from 0 to 2147483647"
SEED = "expected an integer from -9223372036854775808 to 9223372036854775807"
NO_TOKEN = "expected a token id as the key, got"


@pytest.mark.parametrize(
    ("asked", "param", "message"),
    [
        ({"logit_bias": {"5": 1, "": 2}}, "logit_bias.", f'{NO_TOKEN} ""'),
        ({"logit_bias": {"-5": 1}}, "logit_bias.-5", f'{NO_TOKEN} "-5"'),
        ({"logit_bias": {"5.0": 1}}, "logit_bias.5.0", f'{NO_TOKEN} "5.0"'),
        ({"logit_bias": {"07": 1}}, "logit_bias.07", f'{NO_TOKEN} "07"'),
        ({"logit_bias": {"1_0": 1}}, "logit_bias.1_0", f'{NO_TOKEN} "1_0"'),
        ({"logit_bias": {"\u0665": 1}}, "logit_bias.\u0665", f'{NO_TOKEN} "\u0665"'),
        ({"logit_bias": {"12345678901": 1}}, "logit_bias.12345678901", f'{NO_TOKEN} "12345678901"'),
        (
            {"logit_bias": {str(token): 1 for token in range(2049)}},
            "logit_bias",
            "expected at most 2048 token ids, got 2049",
        ),
        ({"metadata": {"top_k": "-1"}}, "metadata.top_k", f"{TOP_K}, got -1"),
        ({"metadata": {"top_k": "4 0"}}, "metadata.top_k", f'{TOP_K}, got "4 0"'),
        ({"metadata": {"top_k": ""}}, "metadata.top_k", f'{TOP_K}, got ""'),
        ({"metadata": {"top_k": True}}, "metadata.top_k", f"{TOP_K}, got true"),
        ({"metadata": {"top_k": [1]}}, "metadata.top_k", f"{TOP_K}, got an array"),
        ({"metadata": {"top_k": "many"}, "top_k": 3}, "metadata.top_k", f'{TOP_K}, got "many"'),
        ({"metadata": {"random_seed": "9" * 20}}, "metadata.random_seed", f"{SEED}, got {'9' * 20}"),
        ({"metadata": {"random_seed": "x"}, "seed": 1}, "metadata.random_seed", f'{SEED}, got "x"'),
    ],
)
def test_what_is_no_token_and_no_number_is_named(asked: dict[str, object], param: str, message: str) -> None:
    with pytest.raises(ContentError) as caught:
        sampling_for(_asked(**asked), SILENT)
    assert (caught.value.param, str(caught.value)) == (param, f"{param}: {message}")


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ({}, None),
        ({"logprobs": None, "top_logprobs": None}, None),
        ({"logprobs": False}, None),
        # Some clients send the default along.
        ({"logprobs": False, "top_logprobs": 0}, None),
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 20}, 20),
    ],
)
def test_logprobs_are_told_where_they_are_asked_for(asked: dict[str, object], count: int | None) -> None:
    assert logprobs_for(_asked(**asked)) == count


@pytest.mark.parametrize("logprobs", [{}, {"logprobs": None}, {"logprobs": False}])
def test_the_likeliest_tokens_need_logprobs(logprobs: dict[str, object]) -> None:
    with pytest.raises(ContentError) as caught:
        logprobs_for(_asked(top_logprobs=1, **logprobs))
    assert str(caught.value) == "top_logprobs: expected logprobs to be true beside it"
