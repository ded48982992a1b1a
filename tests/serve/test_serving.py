"""Laws of serving as a program does it: at which addresses, and which of them is told."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from foundry_proto.operations.service import CORE_STATUS
from foundry_runtime.client import Client
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.server import serve
from foundry_runtime.transport import open_tcp_listeners
from foundry_serve.app import make_application
from foundry_serve.config import Config, Runtime
from foundry_serve.listening import endpoints_of
from foundry_serve.serving import run_server
from tests.support.scripted_model import ScriptedModels


@pytest.mark.parametrize(
    ("hosts", "urls"),
    [
        (["127.0.0.1", "::1"], ["http://127.0.0.1:5", "http://[::1]:5"]),
        (["::1", "127.0.0.1"], ["http://127.0.0.1:5", "http://[::1]:5"]),
        (["0.0.0.0"], ["http://127.0.0.1:5"]),
        (["::"], ["http://localhost:5"]),
        (["::1"], ["http://localhost:5"]),
        (["2001:db8::7"], ["http://[2001:db8::7]:5"]),
        (["192.0.2.9"], ["http://192.0.2.9:5"]),
    ],
    ids=str,
)
def test_the_first_address_told_is_the_one_that_clients_can_read(hosts: list[str], urls: list[str]) -> None:
    listeners: Any = [SimpleNamespace(host=host, port=5, tls=False) for host in hosts]
    assert endpoints_of(listeners) == urls


@pytest.mark.anyio
async def test_one_server_answers_at_all_addresses_that_it_is_bound_to(tiny_home: ModelDirectory) -> None:
    listeners = [listener for _ in range(2) for listener in await open_tcp_listeners("localhost", 0)]
    endpoints = endpoints_of(listeners)
    assert len(set(endpoints)) == len(listeners)
    assert len({listener.port for listener in listeners}) == 2
    async with anyio.create_task_group() as tasks:
        application = make_application(tiny_home, ScriptedModels(tasks), endpoints=endpoints)
        await tasks.start(partial(serve, application, listeners))
        for url in endpoints:
            async with Client(url) as client:
                status = await client.call(CORE_STATUS)
                assert list(status.endpoints) == endpoints
        tasks.cancel_scope.cancel()


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")
@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_a_server_that_fails_before_it_serves_leaves_no_socket_behind(
    tmp_path: Path, runtime: Runtime
) -> None:
    class Full:
        """A state file for which there is no room."""

        def listening(self, _endpoints: Sequence[str]) -> None:
            assert path.is_socket()
            raise OSError(errno.ENOSPC, "no space left on device")

        def serving(self) -> None: ...

        def stopping(self) -> None: ...

    path = tmp_path / "socket"
    config = Config(tcp=False, unix_socket=str(path), runtime=runtime)
    with pytest.raises(OSError, match="no space left on device"):
        run_server(config, ModelDirectory(tmp_path), Full())
    assert not path.exists()
