"""The short form of the soak: a few hundred requests, a third of them given up."""

from __future__ import annotations

import pytest

from foundry_runtime.models.directory import ModelDirectory
from tests.support.soak import soak
from tests.support.tiny_model import MODEL_ID


@pytest.mark.anyio
async def test_among_many_that_are_given_up_every_answer_is_what_it_is_alone(
    tiny_home: ModelDirectory,
) -> None:
    soaked = await soak(tiny_home, MODEL_ID, requests=200, prompts=12, seed=1)
    assert sum(soaked.ways.values()) == 200
    assert min(soaked.ways.values()) > 10
    assert soaked.kept_tokens > 0
