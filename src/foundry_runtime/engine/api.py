"""What an inference engine is: a step machine without threads.

Knows: jobs (one sequence each), what a step may hand out, and the three ways in which work can fail:
refused before it begins, failed alone, or lost with the whole engine.
Refuses to know: text (an engine deals in token ids), event loops, threads, who asked.

An engine is owned by one thread. Its owner calls `admit` and `cancel` between steps, and `step` as long as
any job is unfinished. A step is bounded in time (about 100 ms), so that a cancel is never far away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from attrs import define, field, frozen

if TYPE_CHECKING:  # an engine without logits needs no numpy
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "Counters",
    "EmbeddingFailed",
    "Engine",
    "EngineEvent",
    "EngineFailed",
    "EngineLost",
    "Failed",
    "FinishReason",
    "Finished",
    "Grammar",
    "Guide",
    "Job",
    "ModelLoadError",
    "Overloaded",
    "Perishable",
    "Refused",
    "Sampling",
    "Started",
    "Token",
    "TokenLogprobs",
]

FinishReason = Literal["stop", "length"]
"""`stop`: the model ended its turn, or its grammar let nothing follow; `length`: the job's `max_tokens` were
generated, and the answer might have gone on."""


class Refused(Exception):
    """A job that can never run, found at `admit`: becomes a 4xx before any reply has begun.

    Args:
        message: For the client: the value, and what was expected.
        param: The request's field that is to blame, `None` when it is no single one.
        code: OpenAI's machine-readable code, such as `context_length_exceeded`.
    """

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class Overloaded(Exception):
    """A job that cannot run now, since too many wait, found at `admit`: becomes a 503, to be tried again.

    Args:
        message: For the client.
        retry_after: Seconds after which there may be room.
    """

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EngineLost(Exception):
    """The whole engine is gone: every job in it has ended, and only `close` may still be called."""


class EngineFailed(Exception):
    """What an engine in another process raised that has no name here; the text is its own."""


class EmbeddingFailed(Exception):
    """Some texts get no vectors; what would have made them goes on."""


class ModelLoadError(Exception):
    """A model cannot be loaded: the text names its folder and the cause. Nothing was kept of it."""


@frozen(kw_only=True)
class Sampling:
    """How the next token is drawn from the logits; in which order, `engine/text/sampler.py` says."""

    temperature: float = 1.0
    """Divides the logits; 0 takes the likeliest token (greedy)."""
    top_p: float = 1.0
    """Nucleus: the smallest set of likeliest tokens whose probabilities reach this sum; 1 keeps all."""
    top_k: int = 0
    """How many of the likeliest tokens are kept; 0 keeps all."""
    min_p: float = 0.0
    """Keeps the tokens whose probability is at least this part of the likeliest one's; 0 keeps all."""
    repetition_penalty: float = 1.0
    """Divides a positive logit, and multiplies a negative one, of each token that the prompt or the answer
    has; 1 changes nothing."""
    presence_penalty: float = 0.0
    """Subtracted from the logit of each token that was generated."""
    frequency_penalty: float = 0.0
    """Subtracted from a token's logit once for each time that it was generated."""
    logit_bias: Mapping[int, float] = field(factory=dict)
    """Token id to what is added to its logit; -100 excludes it in practice, 100 all others."""
    seed: int | None = None
    """Equal seeds give equal draws for equal jobs; `None` draws differently each time."""

    @property
    def takes_logits_as_they_are(self) -> bool:
        """Whether no penalty and no bias changes the logits before the draw."""
        return (
            self.repetition_penalty == 1
            and self.presence_penalty == 0
            and self.frequency_penalty == 0
            and not any(self.logit_bias.values())
        )


class Guide(Protocol):
    """How far one sequence has come in its grammar; used by the engine's thread alone."""

    def constrain(self, logits: npt.NDArray[np.float32]) -> None:
        """Make `-inf` of the logits of all tokens that the grammar does not allow next, in place.

        Where the text may end it allows the model's end tokens. It is called once for each token, and not
        when nothing may follow.
        """
        ...

    def accept(self, token: int) -> None:
        """Take the token that was chosen, which the grammar allows; an end token too."""
        ...

    @property
    def complete(self) -> bool:
        """Whether nothing may follow: the sequence has ended, even without an end token."""
        ...


class Grammar(Protocol):
    """What a sequence must look like: compiled before its job, and shared by any number of them."""

    def begin(self) -> Guide:
        """Start at the grammar's beginning, for one job; cheap enough for an engine's thread."""
        ...


@frozen(kw_only=True, eq=False)
class Job:
    """One sequence to generate; compared by identity."""

    prompt: Sequence[int]
    """Token ids of the rendered prompt, at least one. Jobs that are choices of one answer have the very same
    object, which tells an engine that its prompt may be computed once."""
    max_tokens: int
    """How many tokens may be generated, at least one, the end token not counted."""
    sampling: Sampling
    grammar: Grammar | None = None
    """What the answer must look like; `None` leaves it free."""
    logprobs: int | None = None
    """How many of the likeliest tokens are told beside each generated one; 0 tells the logarithm of its own
    probability alone, `None` nothing."""


@frozen(kw_only=True)
class Started:
    """The first event of a job: its prompt is being computed from now on."""

    job: Job
    cached_tokens: int = 0
    """How many of the prompt's tokens need no computing, because an earlier prompt's KV cache serves: all of
    them for a choice whose prompt another one has computed."""


@frozen(kw_only=True)
class TokenLogprobs:
    """How likely a generated token was, and which were likelier: natural logarithms of probabilities.

    Choice: the model's own probabilities are told, before temperature, penalties, bias and grammar.
    """

    logprob: float
    top: Sequence[tuple[int, float]] = ()
    """Token ids with their logprobs, likeliest first; as many as the job asked for."""


@frozen(kw_only=True)
class Token:
    """One generated token of one job; the end token is never handed out."""

    job: Job
    id: int
    logprobs: TokenLogprobs | None = None
    """Where the job asked for them."""


@frozen(kw_only=True)
class Finished:
    """The last event of a job that ended by itself."""

    job: Job
    reason: FinishReason


@frozen(kw_only=True)
class Failed:
    """The last event of a job that an error ended; the other jobs and the engine go on."""

    job: Job
    error: Exception


EngineEvent = Started | Token | Finished | Failed
"""A job's events, in this order: `Started`, any number of `Token`, `Finished` or `Failed` (which may come
alone)."""


@define(kw_only=True)
class Counters:
    """What the engine has done since it was made; only ever grows. Read it from any thread."""

    steps: int = 0
    prompt_tokens: int = 0
    """Prompt tokens computed in prefill."""
    generated_tokens: int = 0
    """Tokens drawn in decode, end tokens included."""


class Engine(Protocol):
    """A step machine over one loaded model; not thread-safe, with no threads above the kernels."""

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and output together."""
        ...

    @property
    def counters(self) -> Counters:
        """Running totals, for tests and metrics."""
        ...

    def admit(self, job: Job) -> None:
        """Take a job; its first computation happens in a later `step`.

        Args:
            job: One sequence: the prompt's token ids, and how to go on.

        Raises:
            Refused: The job can never run here. Nothing was kept of it.
            Overloaded: The job cannot run now. Nothing was kept of it.
            LocalProtocolError: The job is in the engine already.
        """
        ...

    def cancel(self, job: Job) -> None:
        """Forget a job at once: no event for it follows. A job that has ended, or is unknown, is ignored.

        Args:
            job: The same object as was admitted.
        """
        ...

    def step(self) -> Sequence[EngineEvent]:
        """Compute one bounded slice of work for the admitted jobs.

        Returns:
            The events in the order in which they happened; may be empty after a slice of prefill, and is
            without jobs.

        Raises:
            EngineLost: All jobs have ended with the engine.
            Exception: Any other fails exactly the jobs admitted at that time; the engine stays usable.
        """
        ...

    def close(self) -> None:
        """Free everything, unfinished jobs included. Calling it again does nothing."""
        ...


@runtime_checkable
class Perishable(Protocol):
    """What an engine shows beside, if it can be gone while nobody steps it: one in another process."""

    @property
    def lost(self) -> bool:
        """Whether it is gone, so that only `close` may still be called. Read it from any thread."""
        ...

    @property
    def pid(self) -> int:
        """The process that it is in."""
        ...
