"""The real model gives its memory back when it leaves."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import pytest

from foundry_runtime.models.folder import ModelFolder
from foundry_runtime.models.loading import ModelOpener
from foundry_runtime.models.pool import ModelPool
from tests.support.serving import until

pytestmark = [pytest.mark.anyio, pytest.mark.model]

WEIGHTS = 150
"""Megabytes of the model's file, which lie in memory as they are."""


def resident() -> int:
    """This process's resident set in megabytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
async def test_memory_goes_back_to_the_system_when_a_model_leaves(default_model: Path) -> None:
    async with anyio.create_task_group() as group:
        pool = ModelPool(ModelOpener(), group)
        await pool.load(ModelFolder.read(default_model))
        with_model = resident()
        pool.unload(pool.loaded()[0], force=True)
        with anyio.fail_after(60):
            await until(lambda: resident() < with_model - WEIGHTS, pause=0.01)
        await pool.aclose()
        group.cancel_scope.cancel()
