"""What a server tells of its own work to those who watch: requests, what was generated, downloads.

Knows: what of them is worth an event.
Refuses to know: who watches, and how events reach them (`foundry_runtime.feed`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import anyio
from attrs import define, field

from foundry_proto.events import Failure, Request, Response
from foundry_proto.exchange import Answer
from foundry_proto.jsontext import dump_json
from foundry_proto.messages.downloads import DownloadRequest
from foundry_proto.messages.watch import DownloadEnded, DownloadProgressed, Generated, RequestServed
from foundry_proto.operations import WATCH
from foundry_proto.progress import Progress
from foundry_proto.sentinels import ABSENT
from foundry_runtime.application import Handler, Hangup, Send
from foundry_runtime.engine.api import Job
from foundry_runtime.engine.driver import Delta, Done
from foundry_runtime.feed import Feed
from foundry_serve.services import Services

__all__ = ["MAX_TOKEN", "DownloadReport", "GenerationReport", "reported"]

MAX_TOKEN: Final = 4096
"""Most bytes of a progress token's JSON: each update carries it."""


def reported(handlers: Mapping[str, Handler[Services]]) -> Mapping[str, Handler[Services]]:
    """Have each request that these handlers serve be told of."""
    return {
        # Who watches is no news.
        name: handler if name == WATCH.name else _reported(name, handler)
        for name, handler in handlers.items()
    }


def _reported(name: str, handler: Handler[Services]) -> Handler[Services]:
    async def handle(services: Services, request: Request[Any], send: Send) -> None:
        served = _Served(services.feed, name)
        with served.told():
            await handler(services, request, served.watching(send))

    return handle


@define(eq=False)
class _Served:
    """A request while it is served."""

    _feed: Feed
    _operation: str
    _begun: float = field(init=False, factory=anyio.current_time)
    _first: float | None = field(init=False, default=None)
    _status: int | None = field(init=False, default=None)
    _failed: bool = field(init=False, default=False)

    def watching(self, send: Send) -> Send:
        async def watched(*events: Answer) -> None:
            for event in events:
                self._take(event)
            await send(*events)

        return watched

    def _take(self, event: Answer) -> None:
        if self._first is None:
            self._first = anyio.current_time() - self._begun
            self._status = event.status if isinstance(event, Response | Failure) else 200
        self._failed = self._failed or isinstance(event, Failure)

    @contextmanager
    def told(self) -> Iterator[None]:
        outcome: Any = "cancelled"
        try:
            yield
            outcome = "failed" if self._failed else "answered"
        except Hangup:
            raise
        except Exception:
            outcome, self._status = "failed", self._status or 500
            raise
        finally:
            self._feed.publish(
                RequestServed(
                    operation=self._operation,
                    status=self._status,
                    outcome=outcome,
                    seconds=anyio.current_time() - self._begun,
                    first_seconds=self._first,
                )
            )


@define(eq=False)
class GenerationReport:
    """What is generated for one answer.

    Args:
        feed: Where it is told, when it is done.
        model: The model's id.
        jobs: One for each choice; those of one prompt have the same.
    """

    _feed: Feed
    _model: str
    _jobs: Sequence[Job]
    _begun: float = field(init=False, factory=anyio.current_time)
    _first: float | None = field(init=False, default=None)
    _done: dict[int, Done] = field(init=False, factory=dict)

    def take(self, index: int, delivery: Delta | Done) -> None:
        """Note what came of one job; with the last one's end all is told."""
        if self._first is None:
            self._first = anyio.current_time() - self._begun
        if not isinstance(delivery, Done):
            return
        self._done[index] = delivery
        if len(self._done) < len(self._jobs) or not self._feed.watched:
            return
        prompts = {id(job.prompt): self._done[number] for number, job in enumerate(self._jobs)}
        self._feed.publish(
            Generated(
                model=self._model,
                choices=len(self._jobs),
                prompt_tokens=sum(one.prompt_tokens for one in prompts.values()),
                cached_tokens=sum(one.cached_tokens for one in prompts.values()),
                completion_tokens=sum(one.completion_tokens for one in self._done.values()),
                seconds=anyio.current_time() - self._begun,
                first_token_seconds=self._first,
            )
        )


@define(eq=False)
class DownloadReport:
    """One download's news for those who know its token; none, if it has no token or wants no such report.

    Args:
        feed: Where it is told.
        request: What was asked for.
    """

    _feed: Feed
    _request: DownloadRequest
    _model: str = field(init=False)
    _wanted: bool = field(init=False)

    def __attrs_post_init__(self) -> None:
        model = self._request.model
        self._model = model if isinstance(model, str) else model.name
        # Choice: who gives a token has somebody look for it, unless the request says that nobody does.
        self._wanted = (
            self._request.progress_token not in (ABSENT, None)
            and self._request.ignore_pipe_report is not True
        )

    def wrong(self) -> str | None:
        """What is wrong with a token that cannot go into every update; `None` if nothing is."""
        if not self._wanted or (size := len(dump_json(self._request.progress_token))) <= MAX_TOKEN:
            return None
        self._wanted = False
        return f"expected at most {MAX_TOKEN} bytes of JSON, got {size}"

    def progress(self, progress: Progress) -> None:
        """Tell how far it is."""
        if self._wanted:
            self._feed.publish(
                DownloadProgressed(
                    progress_token=self._request.progress_token,
                    model=self._model,
                    file=progress.file,
                    fraction=progress.fraction,
                )
            )

    def ended(self, failure: Failure | None) -> None:
        """Tell what became of it."""
        if self._wanted:
            self._feed.publish(
                DownloadEnded(
                    progress_token=self._request.progress_token,
                    model=self._model,
                    success=failure is None,
                    error_message=None if failure is None else failure.message,
                )
            )
