"""From a loaded model to generated text: the prompt, its limits, its jobs, and what comes of them.

Knows: how a prompt can fail; that an answer's choices are jobs of one prompt; how the deliveries of all of
them become one answer, and that nothing is generated for a client that is gone.
Refuses to know: any request's form: handlers say what to generate, and an `Answering` what is sent.

    try:
        async with model_for(services, body.model) as model:
            prompt = await make_prompt(services, lambda: model.prompts.make(messages))
            limit = allowed_output(model.folder, len(prompt.ids), asked)
            jobs = [Job(...), ...]
            await generate(services, model, jobs, stops, answer, send)
    except Refusal as refusal:
        await send(refusal.failure)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Protocol, TypeVar

import anyio.to_thread
from attrs import evolve

from foundry_proto.events import Failure
from foundry_proto.exchange import Answer
from foundry_proto.messages.completions import TokenLogprob
from foundry_proto.sentinels import Maybe
from foundry_runtime.application import Send
from foundry_runtime.engine.api import EngineLost, FinishReason, Job, Overloaded, Refused, Sampling
from foundry_runtime.engine.driver import Broken, Delta, Done
from foundry_runtime.engine.text.template import ConversationRefused, NoTemplate, TemplateError
from foundry_runtime.models.folder import ModelFolder
from foundry_runtime.models.pool import LoadedModel
from foundry_runtime.models.sampling import SamplingRequest, sampling_for
from foundry_serve.leasing import Refusal, refusing
from foundry_serve.logprobs import LogprobTeller
from foundry_serve.observing import metering
from foundry_serve.reporting import GenerationReport
from foundry_serve.services import Services

__all__ = [
    "Answering",
    "allowed_output",
    "choices_of",
    "generate",
    "make_prompt",
    "sampling_of",
    "stops_of",
]


T = TypeVar("T")


class Answering(Protocol):
    """An answer in the making: what is sent when a choice gets text, and when it ends."""

    def text(
        self, index: int, text: str, /, *, tokens: int, logprobs: Sequence[TokenLogprob]
    ) -> Sequence[Answer]:
        """Take a choice's next text, the number of its tokens, and where they were asked for their logprobs;
        gives what to send now."""
        ...

    def finish(
        self,
        index: int,
        reason: FinishReason,
        /,
        *,
        prompt_tokens: int,
        completion_tokens: int,
        cached_tokens: int,
    ) -> Sequence[Answer]:
        """End a choice; gives what to send now, with the last choice the answer's end."""
        ...


def sampling_of(body: SamplingRequest, folder: ModelFolder) -> Sampling:
    """Decide how tokens are drawn.

    Raises:
        Refusal: What a property says is no token id, or no number.
    """
    with refusing():
        return sampling_for(body, folder.search)


async def make_prompt(services: Services, make: Callable[[], T]) -> T:
    """Make a prompt, or several, in a thread: it takes 0.4 ms a kB.

    Raises:
        Refusal: What was sent is not what the model can read, or its chat template failed.
    """
    try:
        with refusing():
            return await anyio.to_thread.run_sync(make, limiter=services.prompt_threads)
    except Refused as error:
        raise Refusal(Failure(status=400, message=str(error), param=error.param)) from error
    except ConversationRefused as error:
        raise Refusal(Failure(status=400, message=str(error), param="messages")) from error
    except NoTemplate as error:
        message = f"model: it lets texts go on (/v1/completions), and answers no chats: {error}"
        raise Refusal(
            Failure(status=400, message=message, param="model", code="unsupported_model")
        ) from error
    except TemplateError as error:
        raise Refusal(
            Failure(status=500, message=str(error), type="server_error", code="chat_template_failed")
        ) from error


def allowed_output(folder: ModelFolder, prompt_tokens: int, asked: int | None) -> int:
    """How many tokens may be generated.

    Args:
        folder: The model.
        prompt_tokens: How many tokens its prompt has.
        asked: The request's own limit. An engine refuses one that does not fit the context beside the
            prompt; without one it is the model's, never past the context.
    """
    return asked or max(1, min(folder.max_output_tokens, folder.context_length - prompt_tokens))


def choices_of(job: Job, count: int) -> list[Job]:
    """The jobs of one prompt's alternatives.

    Choice: with a seed, the first is what the request would get alone, and each further one draws from the
    seed that follows; equal seeds would give equal texts.
    """
    seed = job.sampling.seed
    if seed is None:
        return [evolve(job) for _ in range(count)]
    return [evolve(job, sampling=evolve(job.sampling, seed=seed + number)) for number in range(count)]


def stops_of(stop: Maybe[str | tuple[str, ...]]) -> Sequence[str]:
    """A request's stop texts; empty ones ask for nothing."""
    if not stop:
        return ()
    return [text for text in ((stop,) if isinstance(stop, str) else stop) if text]


async def generate(
    services: Services,
    model: LoadedModel,
    jobs: Sequence[Job],
    stops: Sequence[str],
    answer: Answering,
    send: Send,
    *,
    shown: Collection[str] = (),
    prompt_field: str = "messages",
) -> None:
    """Generate all jobs, and send what the answer makes of them; one that fails ends them all.

    Args:
        services: Where a model whose engine is lost is given back.
        model: What generates.
        jobs: One for each choice.
        stops: Texts at which a choice ends.
        answer: Makes the events.
        send: Sends them; all that came at once leaves in one write.
        shown: Special tokens that the answer wants to see as text, because they mark something.
        prompt_field: The request's field that the prompt was made of.
    """
    generations = model.worker.submit_all([(job, model.text_stream(stops, shown)) for job in jobs])
    tellers = [LogprobTeller(model.prompts.tokenizer, shown) for _ in jobs]
    report = GenerationReport(services.feed, model.folder.id, jobs)
    left = len(jobs)
    try:
        with metering(services.metrics, model.folder.id, len(jobs)) as meter:
            while left:
                events: list[Answer] = []
                deliveries = await generations.receive()
                meter.delivered(deliveries)
                for index, delivery in deliveries:
                    if isinstance(delivery, Broken):
                        if isinstance(delivery.error, EngineLost):
                            services.pool.discard(model)
                        await send(*events, _broken(delivery.error, prompt_field))
                        return
                    events += _events(answer, index, delivery, tellers[index])
                    report.take(index, delivery)
                    left -= isinstance(delivery, Done)
                await send(*events)
    finally:
        generations.cancel()


def _events(answer: Answering, index: int, delivery: Delta | Done, teller: LogprobTeller) -> Sequence[Answer]:
    match delivery:
        case Delta():
            logprobs = teller.tell(delivery) if delivery.logprobs else ()
            return answer.text(index, delivery.text, tokens=len(delivery.tokens), logprobs=logprobs)
        case Done():
            return answer.finish(
                index,
                delivery.reason,
                prompt_tokens=delivery.prompt_tokens,
                completion_tokens=delivery.completion_tokens,
                cached_tokens=delivery.cached_tokens,
            )


def _broken(error: Exception, prompt_field: str) -> Failure:
    match error:
        case Refused():
            # An engine knows of no fields, but when the prompt is too long this one is to blame.
            param = prompt_field if error.code == "context_length_exceeded" else error.param
            return Failure(status=400, message=str(error), param=param, code=error.code)
        case Overloaded():
            wait = f"{max(1, math.ceil(error.retry_after))}".encode()
            return Failure(
                status=503,
                message=str(error),
                type="server_error",
                code="overloaded",
                headers=((b"retry-after", wait),),
            )
        case EngineLost():
            message = f"the model's engine is gone: {error}"
            return Failure(
                status=503,
                message=message,
                type="server_error",
                code="engine_lost",
                headers=((b"retry-after", b"1"),),
            )
        case _:
            return Failure(status=500, message=f"generation failed: {error}", type="server_error")
