"""The pool does what the lifecycle says, on both loops, whatever is cancelled."""

from __future__ import annotations

import anyio
import pytest

from foundry_runtime.models.pool import Loaded, LoadFailed, ModelPool, ProviderUnavailable
from tests.runtime.models.pooling import Shells, folder, pooled
from tests.support.serving import until

pytestmark = pytest.mark.anyio


async def test_all_that_want_a_model_at_once_share_one_load() -> None:
    async with pooled(seconds=0.01) as (pool, shells), anyio.create_task_group() as group:
        got: list[Loaded] = []

        async def use() -> None:
            async with pool.lease(folder()) as model:
                got.append(model)

        for _ in range(3):
            group.start_soon(use)
            group.start_soon(pool.load, folder())
        await until(lambda: len(got) == 3)
        assert len(shells.loads) == 1
        assert got == [got[0]] * 3
        assert pool.loaded() == ["m:1"]


async def test_a_load_says_whether_it_had_to() -> None:
    async with pooled() as (pool, _):
        assert await pool.load(folder())
        assert not await pool.load(folder())
        assert pool.loaded() == ["m:1"]


async def test_a_model_whose_engine_has_ended_unasked_is_loaded_anew() -> None:
    async with pooled() as (pool, shells):
        async with pool.lease(folder()) as model:
            model.worker.lost = True  # type: ignore[union-attr, misc]
        async with pool.lease(folder()) as other:
            assert other is not model
        assert len(shells.loads) == 2
        assert shells.closed == ["m:1"]


async def test_a_failed_load_is_told_to_each_that_waits_and_tried_again() -> None:
    async with pooled(seconds=0.01, failures=[ValueError("torn")]) as (pool, shells):
        told: list[str] = []

        async def use() -> None:
            with pytest.raises(LoadFailed) as error:
                async with pool.lease(folder()):
                    pass
            told.append(str(error.value))

        async with anyio.create_task_group() as group:
            group.start_soon(use)
            group.start_soon(use)
        assert told == ["the model m:1 could not be loaded: torn"] * 2
        assert pool.loaded() == []
        assert await pool.load(folder())
        shells.failures.append(KeyError())
        with pytest.raises(LoadFailed, match=r"^the model other:1 could not be loaded: KeyError$"):
            await pool.load(folder("other:1"))


async def test_a_load_goes_on_when_who_began_it_is_cancelled() -> None:
    async with pooled(seconds=0.01) as (pool, shells):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(pool.load, folder())
                await until(lambda: shells.loads)
                scope.cancel()
        await until(pool.loaded)
        assert len(shells.loads) == 1


@pytest.mark.parametrize("way", ["waiting", "using"])
async def test_a_cancelled_lease_is_given_back(way: str) -> None:
    async with pooled(seconds=0.01 if way == "waiting" else 0) as (pool, shells):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:

                async def use() -> None:
                    async with pool.lease(folder()):
                        await anyio.sleep_forever()

                group.start_soon(use)
                await until(lambda: shells.loads if way == "waiting" else pool.loaded())
                scope.cancel()
        await until(pool.loaded)
        assert pool.unload("m:1", force=True)
        await until(lambda: shells.closed)


async def test_a_lease_is_given_back_by_any_exception() -> None:
    async with pooled() as (pool, shells):
        with pytest.raises(ZeroDivisionError):
            async with pool.lease(folder()):
                raise ZeroDivisionError
        assert pool.unload("m:1", force=True)
        await until(lambda: shells.closed == ["m:1"])


async def test_force_never_takes_a_model_from_who_uses_it_and_the_next_gets_another() -> None:
    async with pooled() as (pool, shells), anyio.create_task_group() as group:
        second: list[Loaded] = []

        async def use() -> None:
            async with pool.lease(folder()) as model:
                second.append(model)

        async with pool.lease(folder()) as first:
            assert not pool.unload("m:1")
            assert pool.unload("m:1", force=True)
            assert pool.loaded() == []
            assert not pool.unload("m:1", force=True)
            group.start_soon(use)
            await anyio.wait_all_tasks_blocked()
            assert (shells.closed, second) == ([], [])
        await until(lambda: second)
        assert second[0] is not first
        assert shells.closed == ["m:1"]
        assert pool.loaded() == ["m:1"]


async def test_unloading_all_leaves_none_loaded() -> None:
    async with pooled() as (pool, shells):
        await pool.load(folder("a:1"), pin=True)
        await pool.load(folder("b:1"), ttl=3600)
        pool.unload_all()
        assert pool.loaded() == []
        assert not pool.unload("c:1", force=True)
        await until(lambda: len(shells.closed) == 2)


async def test_a_model_whose_engine_is_lost_is_replaced_once() -> None:
    async with pooled() as (pool, shells):
        async with pool.lease(folder()) as lost:
            pool.discard(lost)
            pool.discard(lost)
        async with pool.lease(folder()) as model:
            assert model is not lost
            pool.discard(lost)
            assert pool.loaded() == ["m:1"]
        assert len(shells.loads) == 2


async def test_a_model_is_loaded_from_its_folder_as_it_is_when_asked_for() -> None:
    async with pooled() as (pool, shells):
        await pool.load(folder(path="old"))
        pool.unload("m:1", force=True)
        await pool.load(folder(path="new"))
        assert [str(read.path) for read, _ in shells.loads] == ["old", "new"]


async def test_an_idle_model_moves_to_another_provider_and_one_in_use_stays() -> None:
    async with pooled() as (pool, shells):
        await pool.load(folder())
        assert pool.provider_of("m:1") == "cpu"
        async with pool.lease(folder(), provider="cuda") as model:
            assert model.provider == "cuda"
            async with pool.lease(folder(), provider="cpu") as same:
                assert same is model
            assert not await pool.load(folder(), provider="cpu")
        assert [provider for _, provider in shells.loads] == [None, "cuda"]
        assert await pool.load(folder(), provider="cpu")
        assert pool.provider_of("other:1") is None


async def test_a_provider_that_is_not_there_changes_nothing() -> None:
    async with pooled() as (pool, shells):
        await pool.load(folder())
        expected = r"^expected a provider that is available here \(cpu, cuda\), got qnn$"
        with pytest.raises(ProviderUnavailable, match=expected):
            async with pool.lease(folder(), provider="qnn"):
                pass
        with pytest.raises(ProviderUnavailable, match=expected):
            await pool.load(folder(), provider="qnn")
        assert pool.loaded() == ["m:1"]
        assert len(shells.loads) == 1


async def test_what_cannot_be_closed_well_can_be_loaded_again(caplog: pytest.LogCaptureFixture) -> None:
    async with pooled(closing_failures=[RuntimeError("stuck")]) as (pool, _):
        await pool.load(folder())
        pool.unload("m:1", force=True)
        assert await pool.load(folder())
        assert "closing m:1 failed" in caplog.text


async def test_closing_frees_what_is_used_and_refuses_who_waits_and_who_comes() -> None:
    shells = Shells()
    refusal = r"^the model \w+:1 could not be loaded: the server is stopping$"
    async with anyio.create_task_group() as group:
        pool = ModelPool(shells, group)
        async with pool.lease(folder("used:1")):
            shells.seconds = 3600

            async def wait() -> None:
                with pytest.raises(LoadFailed, match=refusal):
                    await pool.load(folder("slow:1"))

            async with anyio.create_task_group() as waiting:
                waiting.start_soon(wait)
                await until(lambda: "slow:1" in shells.there)
                await pool.aclose()
            assert shells.closed == ["used:1"]
        with pytest.raises(LoadFailed, match=refusal):
            await pool.load(folder("late:1"))
        group.cancel_scope.cancel()
    assert shells.there == []


async def test_a_load_that_ends_after_the_close_is_freed() -> None:
    shells = Shells(seconds=0.01)
    async with anyio.create_task_group() as group:
        pool = ModelPool(shells, group)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as waiting:
                waiting.start_soon(pool.load, folder())
                await until(lambda: shells.there)
                scope.cancel()
        await pool.aclose()
        await until(lambda: shells.closed == ["m:1"])
        group.cancel_scope.cancel()


async def test_a_cancelled_application_tells_those_that_wait() -> None:
    shells = Shells(seconds=3600)
    async with anyio.create_task_group() as waiting, anyio.create_task_group() as group:
        pool = ModelPool(shells, group)

        async def wait() -> None:
            with pytest.raises(LoadFailed, match="the server is stopping"):
                await pool.load(folder())

        waiting.start_soon(wait)
        await until(lambda: shells.there)
        group.cancel_scope.cancel()
    assert shells.there == []
