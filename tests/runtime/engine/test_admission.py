"""What is refused where an engine has no logits; `test_scripted.py` has what any engine refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from attrs import evolve

from foundry_runtime.engine.admission import check_job
from foundry_runtime.engine.api import Guide, Job, Refused, Sampling

PLAIN = Job(prompt=[1], max_tokens=1, sampling=Sampling())


class AnyText:
    """A grammar that nothing begins."""

    def begin(self) -> Guide:
        raise AssertionError("an admission begins no grammar")


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"grammar": AnyText()}, "response_format"),
        ({"logprobs": 0}, "logprobs"),
        ({"sampling": Sampling(logit_bias={3: 0.5})}, "logit_bias"),
        ({"sampling": Sampling(repetition_penalty=1.1)}, "repetition_penalty"),
        ({"sampling": Sampling(presence_penalty=-0.5)}, "presence_penalty"),
        ({"sampling": Sampling(frequency_penalty=0.5)}, "frequency_penalty"),
    ],
)
def test_an_engine_without_logits_takes_no_job_that_needs_them(
    changed: Mapping[str, Any], param: str
) -> None:
    job = evolve(PLAIN, **changed)
    check_job(job, context_length=9)
    with pytest.raises(Refused) as caught:
        check_job(job, context_length=9, has_logits=False)
    assert caught.value.param == param
    assert str(caught.value) == f"{param}: needs logits, which this model's engine does not have"


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.3, top_p=0.5, top_k=4, min_p=0.1, seed=1),
        Sampling(logit_bias={3: 0.0}),
    ],
)
def test_an_engine_without_logits_takes_what_asks_nothing_of_them(sampling: Sampling) -> None:
    check_job(evolve(PLAIN, sampling=sampling), context_length=9, has_logits=False)
