"""Laws of the feed: everybody is told what he wants, in order, and nobody is waited for."""

from __future__ import annotations

import json

import anyio
import pytest

from foundry_proto.messages.watch import DownloadProgressed, ModelChanged, WatchRequest
from foundry_runtime.feed import Feed, TooSlow

pytestmark = pytest.mark.anyio

MODELS = WatchRequest(topics=("models",))


def loaded(model: str) -> ModelChanged:
    return ModelChanged(model=model, state="ready")


def models(texts: list[bytes]) -> list[str]:
    return [json.loads(text)["model"] for text in texts]


async def test_news_come_in_order_and_all_that_wait_come_together() -> None:
    feed = Feed()
    with feed.watching(MODELS) as one, feed.watching(MODELS) as other:
        for name in "abc":
            feed.publish(loaded(name))
        assert models(await one.receive()) == ["a", "b", "c"]
        feed.publish(loaded("d"))
        assert models(await one.receive()) == ["d"]
        assert models(await other.receive()) == ["a", "b", "c", "d"]


async def test_who_waits_is_woken() -> None:
    feed = Feed()
    heard: list[str] = []

    async def watch() -> None:
        with feed.watching(MODELS) as watcher:
            while len(heard) < 2:
                heard.extend(models(await watcher.receive()))

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        for name in "ab":
            await anyio.wait_all_tasks_blocked()
            feed.publish(loaded(name))
    assert heard == ["a", "b"]
    assert not feed.watched


async def test_only_what_is_wanted_waits() -> None:
    feed = Feed()
    feed.publish(loaded("before"))
    wish = WatchRequest(topics=("downloads",), progress_tokens=({"a": 1},))
    with feed.watching(wish) as watcher:
        feed.publish(loaded("m"))
        for token in ({"a": 2}, {"a": 1.0}, None):
            feed.publish(DownloadProgressed(progress_token=token, model=str(token), file="", fraction=0))
        assert models(await watcher.receive()) == ["{'a': 1.0}"]


@pytest.mark.parametrize(("events", "size"), [(5, 10**6), (10**6, 200)], ids=["events", "bytes"])
async def test_who_does_not_come_for_it_is_told_no_more_and_holds_nothing(events: int, size: int) -> None:
    feed = Feed(max_events=events, max_bytes=size)
    with feed.watching(MODELS) as slow, feed.watching(MODELS) as quick:
        for number in range(100):
            feed.publish(loaded(str(number)))
            assert models(await quick.receive()) == [str(number)]
        assert slow.held == 0
        with pytest.raises(TooSlow) as caught:
            await slow.receive()
        message = f"too slow: more than {events} events or {size} bytes were waiting"
        assert str(caught.value) == message
        feed.publish(loaded("last"))
        with pytest.raises(TooSlow):
            await slow.receive()


async def test_as_much_waits_as_may() -> None:
    feed = Feed(max_events=5)
    with feed.watching(MODELS) as watcher:
        for _ in range(3):
            for name in "abcde":
                feed.publish(loaded(name))
            assert watcher.held == 5 * len(b'{"type":"model","model":"a","state":"ready"}')
            assert models(await watcher.receive()) == list("abcde")
