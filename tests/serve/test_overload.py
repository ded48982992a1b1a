"""One request too many is told to come again, and costs nobody anything."""

from __future__ import annotations

from typing import Any

import pytest

from foundry_proto.operations import CHAT_COMPLETIONS
from foundry_runtime.client import ServerFailure
from foundry_runtime.engine.api import Job, Overloaded
from foundry_runtime.engine.scripted import ScriptedEngine
from foundry_runtime.models.directory import ModelDirectory
from tests.support.applications import chat_request
from tests.support.scripted_model import scripted_server
from tests.support.tiny_model import MODEL_ID


@pytest.mark.anyio
async def test_one_request_too_many_is_told_when_to_come_again(
    tiny_home: ModelDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    admit = ScriptedEngine.admit

    def full(engine: ScriptedEngine, job: Job) -> Any:
        monkeypatch.setattr(ScriptedEngine, "admit", admit)
        raise Overloaded("1 request waits for this model already", retry_after=2.1)

    monkeypatch.setattr(ScriptedEngine, "admit", full)
    async with scripted_server(tiny_home) as (server, _), server.client() as client:
        with pytest.raises(ServerFailure) as refused:
            await client.call(CHAT_COMPLETIONS, chat_request(MODEL_ID))
        failure = refused.value.failure
        assert (failure.status, failure.code) == (503, "overloaded")
        assert failure.message == "1 request waits for this model already"
        assert (b"retry-after", b"3") in failure.headers
        completion = await client.call(CHAT_COMPLETIONS, chat_request(MODEL_ID))
        assert completion.choices[0].finish_reason == "stop"
