"""An engine of your own in thirty lines, held to the contract of engines: `python engine.py`."""

from __future__ import annotations

from collections.abc import Sequence

from foundry_proto.errors import LocalProtocolError
from foundry_runtime.engine.admission import check_job
from foundry_runtime.engine.api import Counters, EngineEvent, Finished, Job, Started, Token
from foundry_runtime.engine.check import check_engine


class Shout:
    """Says each prompt again, in capitals; its tokens are bytes."""

    context_length = 1024

    def __init__(self) -> None:
        self.counters = Counters()
        self._said: dict[Job, int] = {}

    def admit(self, job: Job) -> None:
        """Take a job, or raise `Refused`: also where it wants something of logits, as there are none here."""
        if job in self._said:
            raise LocalProtocolError("this job is in the engine already")
        check_job(job, context_length=self.context_length, vocabulary=256, has_logits=False)
        self._said[job] = -1

    def cancel(self, job: Job) -> None:
        """Forget a job."""
        self._said.pop(job, None)

    def close(self) -> None:
        """Forget all of them."""
        self._said.clear()

    def step(self) -> Sequence[EngineEvent]:
        """Give each job its start, its next token, or its end."""
        self.counters.steps += 1
        return [event for job in list(self._said) for event in self._advance(job)]

    def _advance(self, job: Job) -> list[EngineEvent]:
        said = self._said[job] = self._said[job] + 1
        if said == 0:  # here a real engine computes the prompt, in slices of about 0.1 s
            self.counters.prompt_tokens += len(job.prompt)
            return [Started(job=job)]
        self.counters.generated_tokens += 1
        if said > len(job.prompt) or said >= job.max_tokens:
            self.cancel(job)
        if said > len(job.prompt):
            return [Finished(job=job, reason="stop")]
        token = Token(job=job, id=bytes([job.prompt[said - 1]]).upper()[0])
        return [token] if said < job.max_tokens else [token, Finished(job=job, reason="length")]


if __name__ == "__main__":
    check_engine(Shout)
    print("an engine")
