"""The contract of an engine as a test: whoever writes one calls `check_engine` with its factory.

Knows: what `api.py` promises, law by law. Refuses to know: any test framework, and what an engine says.

A law that is broken raises `AssertionError` with a sentence about what was expected and what came.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Final

from foundry_runtime.engine._laws import LAWS
from foundry_runtime.engine._laws_of_choosing import LAWS_OF_CHOOSING
from foundry_runtime.engine._stage import GREEDY, Expected, check_alone, expect_idle
from foundry_runtime.engine.api import Engine, Job

__all__ = ["PROMPTS", "check_engine"]

PROMPTS: Final[Sequence[Sequence[int]]] = (
    (3,),
    (5, 6, 7, 8) * 4,
    tuple(range(2, 13)) * 9,
    (4, 9) * 120,
    array("i", range(2, 35)),
    (11, 12),
)
"""Of lengths about which engines make mistakes: one token, a whole slice, many slices and a rest."""


def check_engine(
    factory: Callable[[], Engine], *, prompts: Sequence[Sequence[int]] = PROMPTS, max_tokens: int = 12
) -> None:
    """Hold an engine to its contract.

    Args:
        factory: Makes the engine, with no jobs in it; called once.
        prompts: At least three of different lengths, one of them long enough for several steps. The second
            has three different tokens or more, and none with which an answer ends.
        max_tokens: How many tokens to generate for each.

    Raises:
        AssertionError: A law is broken.
    """
    engine = factory()
    try:
        solo = {
            number: check_alone(engine, Job(prompt=prompt, max_tokens=max_tokens, sampling=GREEDY))
            for number, prompt in enumerate(prompts)
        }
        for law in (*LAWS, *LAWS_OF_CHOOSING):
            law(engine, Expected(prompts, max_tokens, solo))
            expect_idle(engine, law.__name__.strip("_").replace("_", " "))
        engine.admit(Job(prompt=prompts[0], max_tokens=max_tokens, sampling=GREEDY))
    finally:
        engine.close()  # with an unfinished job
        engine.close()
