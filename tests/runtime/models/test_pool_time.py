"""How long models stay, under trio's virtual clock: hours pass in no time."""

from __future__ import annotations

import anyio
import pytest
import trio.testing

from tests.runtime.models.pooling import folder, pooled

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> object:
    """A clock that jumps to the next deadline when every task waits."""
    return ("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})


async def test_a_model_that_nobody_uses_leaves_after_ten_minutes() -> None:
    async with pooled() as (pool, shells):
        await pool.load(folder())
        await anyio.sleep(599)
        assert pool.loaded() == ["m:1"]
        await anyio.sleep(2)
        assert (pool.loaded(), shells.closed) == ([], ["m:1"])


async def test_each_use_gives_a_model_its_time_to_live_again() -> None:
    async with pooled() as (pool, shells):
        for _ in range(5):
            async with pool.lease(folder(), ttl=100):
                await anyio.sleep(50)
            await anyio.sleep(99)
        assert len(shells.loads) == 1
        await anyio.sleep(2)
        assert pool.loaded() == []


async def test_a_model_stays_while_it_is_used_longer_than_it_lives() -> None:
    async with pooled() as (pool, shells):
        async with pool.lease(folder(), ttl=1):
            await anyio.sleep(3600)
            assert pool.loaded() == ["m:1"]
        await anyio.sleep(0.5)
        assert pool.loaded() == ["m:1"]
        await anyio.sleep(0.6)
        assert pool.loaded() == []
        async with pool.lease(folder()):
            pass
        await anyio.sleep(599)
        assert (pool.loaded(), len(shells.loads)) == (["m:1"], 2)


async def test_a_pinned_model_stays_until_it_is_loaded_on_other_terms() -> None:
    async with pooled() as (pool, _):
        await pool.load(folder(), pin=True)
        await anyio.sleep(80_000)
        assert not pool.unload("m:1")
        assert pool.loaded() == ["m:1"]
        await pool.load(folder(), ttl=5)
        await anyio.sleep(6)
        assert pool.loaded() == []


async def test_the_model_whose_time_is_over_first_leaves_first() -> None:
    async with pooled() as (pool, _):
        await pool.load(folder("long:1"), ttl=1000)
        await pool.load(folder("short:1"), ttl=10)
        await pool.load(folder("middle:1"), ttl=100)
        left = []
        for seconds in (11, 90, 900):
            await anyio.sleep(seconds)
            left.append(pool.loaded())
        assert left == [["long:1", "middle:1"], ["long:1"], []]


async def test_who_comes_while_a_model_leaves_waits_and_has_it_loaded_again() -> None:
    async with pooled(closing_seconds=20, seconds=5) as (pool, shells):
        await pool.load(folder(), ttl=10)
        await anyio.sleep(15)
        begin = anyio.current_time()
        async with pool.lease(folder()):
            assert anyio.current_time() - begin == pytest.approx(15 + 5)
        assert (len(shells.loads), shells.closed) == (2, ["m:1"])


async def test_a_load_that_takes_long_counts_no_idle_time() -> None:
    async with pooled(seconds=100) as (pool, _):
        await pool.load(folder(), ttl=10)
        await anyio.sleep(9)
        assert pool.loaded() == ["m:1"]
