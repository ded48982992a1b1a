"""What is counted and measured while the server runs, for Prometheus to collect.

Knows: every metric, with its name, its labels and what it means; that counting costs next to nothing.
Refuses to know: HTTP, and when something happens: whoever does it says so.

Each application has a registry of its own, so that two in one process, or in one test, do not add up. Labels
have few values: operations of the table, models that are on this machine, statuses;
never what a client wrote.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, assert_never, final

from attrs import define, field
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from foundry_proto import __version__
from foundry_runtime.engine.driver import Broken, Delivery, Delta, Done
from foundry_runtime.models.pool import Loaded, LoadedModel
from foundry_runtime.platform import resident_memory

__all__ = ["GenerationMeter", "Metrics"]

_REQUEST_SECONDS: Final = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_FIRST_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_GAP_SECONDS: Final = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5)
_LOAD_SECONDS: Final = (0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


@final
class Metrics:
    """All metrics of one application.

    Args:
        clock: Seconds, which no change of the wall clock moves.
    """

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # Linux alone tells of other processes' ways to count
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

        def counter(name: str, words: str, *labels: str) -> Counter:
            return Counter(f"foundry_{name}", words, labels, registry=registry)

        def gauge(name: str, words: str, *labels: str) -> Gauge:
            return Gauge(f"foundry_{name}", words, labels, registry=registry)

        def histogram(name: str, words: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(f"foundry_{name}", words, labels, buckets=buckets, registry=registry)

        gauge("build_info", "1, with the version that runs.", "version").labels(__version__).set(1)
        self.requests = counter("requests", "Requests that were answered.", "operation", "status")
        self.requests_unfinished = counter(
            "requests_unfinished", "Answers that were begun and not ended.", "operation", "reason"
        )
        self.requests_running = gauge("requests_running", "Requests being answered.", "operation")
        self.request_seconds = histogram(
            "request_seconds", "From a whole request to its answer's end.", _REQUEST_SECONDS, "operation"
        )
        self.generations = gauge(
            "generations", "Answers that wait for their first text, or get text.", "model", "state"
        )
        self.first_token_seconds = histogram(
            "time_to_first_token_seconds", "From a whole request to its first text.", _FIRST_SECONDS, "model"
        )
        self.gap_seconds = histogram(
            "time_between_tokens_seconds", "Between two texts of an answer.", _GAP_SECONDS, "model"
        )
        self.prompt_tokens = counter(
            "prompt_tokens", "Tokens of answered prompts, and of texts that became vectors.", "model"
        )
        self.cached_tokens = counter(
            "prompt_cached_tokens", "Of the prompts' tokens, those not computed again.", "model"
        )
        self.prompts = counter("prompts", "Prompts that were answered.", "model")
        self.cache_hits = counter(
            "prompt_cache_hits", "Prompts of which a part was not computed again.", "model"
        )
        self.generated_tokens = counter("generated_tokens", "Tokens that were generated.", "model")
        self.generations_failed = counter(
            "generations_failed", "Answers that an error ended.", "model", "error"
        )
        self.models_loaded = gauge("models_loaded", "1 for a model in memory.", "model", "provider")
        self.model_loads = counter("model_loads", "Loads that ended.", "model", "outcome")
        self.load_seconds = histogram("model_load_seconds", "How long a load took.", _LOAD_SECONDS, "model")
        self.engine_memory = gauge(
            "engine_process_resident_memory_bytes", "Of engines in processes of their own.", "model"
        )
        self.downloads_running = gauge("downloads_running", "Downloads under way.")
        self.download_requests = counter(
            "download_requests", "Requests for a download that ended with it.", "outcome"
        )

    def generation(self, model: str, jobs: int, began: float | None = None) -> GenerationMeter:
        """Begin to measure what is generated for one request.

        Args:
            model: The model's id.
            jobs: How many answers.
            began: When the request was whole, by the clock; now if that is not known.
        """
        return GenerationMeter(self, model, jobs, self.clock() if began is None else began)

    def embedded(self, model: str, tokens: int) -> None:
        """Count tokens that became vectors."""
        self.prompt_tokens.labels(model).inc(tokens)

    def render(self, models: Iterable[Loaded], downloads: int) -> Callable[[], bytes]:
        """Look at what is there now; gives how to write all metrics down, in any thread.

        Args:
            models: Those in memory.
            downloads: How many are under way.
        """
        self.models_loaded.clear()
        self.engine_memory.clear()
        children: dict[str, int] = {}
        for model in models:
            self.models_loaded.labels(model.folder.id, model.provider).set(1)
            if isinstance(model, LoadedModel) and (child := model.worker.process) is not None:
                children[model.folder.id] = child
        self.downloads_running.set(downloads)

        def write() -> bytes:
            for model_id, child in children.items():
                if (memory := resident_memory(child)) is not None:
                    self.engine_memory.labels(model_id).set(memory)
            return generate_latest(_Current(self._registry))

        return write


@final
class _Current(CollectorRegistry):
    """A registry without the times at which its series began: half as many series for Prometheus to keep."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._whole = registry

    def collect(self) -> Iterator[Metric]:
        """Give all metrics; see `CollectorRegistry`."""
        for metric in self._whole.collect():
            metric.samples = [one for one in metric.samples if not one.name.endswith("_created")]
            yield metric


@final
@define(eq=False, slots=False)
class GenerationMeter:
    """What is measured of one request's answers; a context that ends with them."""

    _metrics: Metrics
    _model: str
    _jobs: int
    _began: float
    _last: dict[int, float] = field(factory=dict)
    """Of each answer that has got text, when it last did."""
    _counted: dict[int, int] = field(factory=dict)
    """Of each answer, how many tokens were counted."""
    _left: set[int] = field(factory=set)
    prompt_tokens: int | None = None
    """Known when an answer ends; so is the next."""
    cached_tokens: int | None = None
    completion_tokens: int = 0
    first_seconds: float | None = None
    reasons: list[str] = field(factory=list)
    """Why each answer ended, in that order."""

    def __attrs_post_init__(self) -> None:
        metrics, model = self._metrics, self._model
        # Looked up once: it takes a microsecond, as long as counting does.
        self._waiting = metrics.generations.labels(model, "waiting")
        self._answering = metrics.generations.labels(model, "answering")
        self._gaps = metrics.gap_seconds.labels(model)
        self._generated = metrics.generated_tokens.labels(model)
        self._left.update(range(self._jobs))

    def __enter__(self) -> GenerationMeter:
        self._waiting.inc(self._jobs)
        return self

    def __exit__(self, *_: object) -> None:
        for index in tuple(self._left):
            self._leave(index)

    def delivered(self, deliveries: Sequence[tuple[int, Delivery]]) -> None:
        """Take what came of any answer at one time."""
        now = self._metrics.clock()
        for index, delivery in deliveries:
            match delivery:
                case Delta():
                    self._got_text(index, len(delivery.tokens), now)
                case Done():
                    self._ended(index, delivery)
                case Broken():
                    kind = type(delivery.error).__name__
                    self._metrics.generations_failed.labels(self._model, kind).inc()
                    self._leave(index)
                case _:
                    assert_never(delivery)

    def _got_text(self, index: int, tokens: int, now: float) -> None:
        before = self._last.get(index)
        self._last[index] = now
        if before is not None:
            self._gaps.observe(now - before)
        else:
            self._waiting.dec()
            self._answering.inc()
            if self.first_seconds is None:
                self.first_seconds = now - self._began
                self._metrics.first_token_seconds.labels(self._model).observe(self.first_seconds)
        self._count(index, tokens)

    def _count(self, index: int, tokens: int) -> None:
        self._counted[index] = self._counted.get(index, 0) + tokens
        self.completion_tokens += tokens
        self._generated.inc(tokens)

    def _ended(self, index: int, done: Done) -> None:
        metrics, model = self._metrics, self._model
        # What a stop text swallowed was generated, too.
        self._count(index, max(0, done.completion_tokens - self._counted.get(index, 0)))
        metrics.prompts.labels(model).inc()
        metrics.prompt_tokens.labels(model).inc(done.prompt_tokens)
        metrics.cached_tokens.labels(model).inc(done.cached_tokens)
        metrics.cache_hits.labels(model).inc(bool(done.cached_tokens))
        # An answer's choices share their prompt, which usage counts once.
        self.prompt_tokens = max(self.prompt_tokens or 0, done.prompt_tokens)
        self.cached_tokens = max(self.cached_tokens or 0, min(done.cached_tokens, done.prompt_tokens))
        self.reasons.append(done.reason)
        self._leave(index)

    def _leave(self, index: int) -> None:
        if index in self._left:
            self._left.discard(index)
            (self._answering if index in self._last else self._waiting).dec()
