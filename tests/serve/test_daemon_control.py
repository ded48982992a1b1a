"""Finding the service: its process must be there, and answer as the one that the state file names."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import trio.testing
from attrs import evolve

from foundry_proto.events import Response
from foundry_proto.messages.service import CoreStatus
from foundry_proto.operations import Operations
from foundry_proto.operations.service import CORE_STATUS
from foundry_runtime.application import Application
from foundry_runtime.platform import birth_of, start_detached
from foundry_runtime.server import serve
from foundry_runtime.transport import open_tcp_listeners
from foundry_serve.config import Config
from foundry_serve.config_sources import load_config
from foundry_serve.daemon import control
from foundry_serve.daemon.log import LOG_LIMIT
from foundry_serve.daemon.state import ServiceFiles, ServiceState

pytestmark = pytest.mark.anyio

STATE = ServiceState(phase="running", endpoints=("http://127.0.0.1:9",), model_dir_path="/models")
virtual = pytest.mark.parametrize(
    "anyio_backend", [("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})], ids=["virtual"]
)


@pytest.fixture
def files(tmp_path: Path) -> ServiceFiles:
    return ServiceFiles(tmp_path)


async def answers(_: ServiceState) -> str | None:
    await anyio.lowlevel.checkpoint()
    return None


async def fails(_: ServiceState) -> str | None:
    await anyio.lowlevel.checkpoint()
    return "it sulks"


async def test_without_a_state_there_is_no_service(files: ServiceFiles) -> None:
    assert await control.find(files, probe=answers) is None
    assert list(files.home.iterdir()) == []


async def test_what_was_left_behind_is_cleaned_up(files: ServiceFiles) -> None:
    files.write(evolve(STATE, birth="long ago"))
    assert await control.find(files, probe=answers) is None
    assert not files.state.exists()
    files.state.write_text("no JSON")
    assert await control.find(files, probe=answers) is None
    assert not files.state.exists()


async def test_a_service_that_does_not_answer_is_found_with_the_reason(files: ServiceFiles) -> None:
    files.write(STATE)
    assert await control.find(files, probe=answers) == control.Found(state=STATE)
    assert await control.find(files, probe=fails) == control.Found(state=STATE, problem="it sulks")
    stopping = evolve(STATE, phase="stopping")
    files.write(stopping)
    assert await control.find(files, probe=answers) == control.Found(state=stopping, problem="it is stopping")


def sleeping() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


async def test_a_service_that_ends_while_it_is_asked_is_none(files: ServiceFiles) -> None:
    with sleeping() as process:
        state = evolve(STATE, pid=process.pid, birth=birth_of(process.pid) or "")
        files.write(state)
        assert await control.find(files, probe=fails) == control.Found(state=state, problem="it sulks")

        async def ends(_: ServiceState) -> str | None:
            process.kill()
            process.wait()
            return await fails(state)

        assert await control.find(files, probe=ends) is None
        assert not files.state.exists()


@virtual
async def test_a_service_that_is_starting_is_waited_for(files: ServiceFiles) -> None:
    files.write(evolve(STATE, phase="starting", endpoints=()))

    async def gets_ready() -> None:
        await anyio.sleep(25)
        files.write(STATE)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gets_ready)
        begin = anyio.current_time()
        assert await control.find(files, probe=answers) == control.Found(state=STATE)
        assert 25 <= anyio.current_time() - begin < 26


@virtual
async def test_a_service_that_never_gets_ready_is_not_waited_for_without_end(files: ServiceFiles) -> None:
    starting = evolve(STATE, phase="starting", endpoints=())
    files.write(starting)
    begin = anyio.current_time()
    found = await control.find(files, probe=answers)
    assert found == control.Found(
        state=starting, problem=f"its process {os.getpid()} has been starting for long"
    )
    assert 30 <= anyio.current_time() - begin < 31


@asynccontextmanager
async def status_server(pid: int) -> AsyncIterator[str]:
    """Another program's server, which speaks the same protocol."""

    async def status(_context: None, _request: object, send: Callable[..., object]) -> None:
        answer = CoreStatus(endpoints=(), model_cache_path="", pid=pid)
        await send(Response(value=answer))  # type: ignore[misc]

    @asynccontextmanager
    async def nothing(_: object) -> AsyncIterator[None]:
        yield None

    application = Application(Operations([CORE_STATUS]), {"core_status": status}, nothing)
    async with anyio.create_task_group() as tasks:
        listeners = await open_tcp_listeners("127.0.0.1", 0)
        tasks.start_soon(serve, application, listeners)
        yield f"http://{listeners[0].address}"
        tasks.cancel_scope.cancel()


async def test_the_process_that_answers_must_be_the_one(files: ServiceFiles) -> None:
    async with status_server(os.getpid()) as url:
        assert await control.probe(evolve(STATE, endpoints=(url,))) is None
    async with status_server(77) as url:
        problem = await control.probe(evolve(STATE, endpoints=(url,)))
        assert problem == f"another server, process 77, answers at {url}"


@contextmanager
def talking(answer: bytes) -> Iterator[str]:
    """A server that says one thing to the first who asks, and is gone."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def talk() -> None:
            connection, _ = listener.accept()
            with connection:
                listener.close()
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=talk)
        thread.start()
        yield f"http://127.0.0.1:{port}"
        thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi",
        b"220 mail.example.org ESMTP\r\n",
        b"",
    ],
)
async def test_another_programs_server_is_not_the_service(answer: bytes) -> None:
    with talking(answer) as url:
        assert await control.probe(evolve(STATE, endpoints=(url,))) is not None


async def test_a_port_at_which_nobody_listens_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    problem = await control.probe(evolve(STATE, endpoints=(url,)))
    assert problem is not None
    assert problem.startswith(f"its process {os.getpid()} does not answer: cannot connect to {url[7:]}: ")


@virtual
async def test_a_silent_service_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(host: str, port: int, **_: object) -> object:
        await anyio.sleep(3600)
        return None

    monkeypatch.setattr("foundry_runtime.client.connect_tcp", connect)
    begin = anyio.current_time()
    problem = await control.probe(STATE)
    assert problem == f"its process {os.getpid()} is silent at http://127.0.0.1:9"
    assert anyio.current_time() - begin == pytest.approx(control.ANSWERING)


class Launched:
    """Programs that are started in the service's place."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
        self.children: list[subprocess.Popen[bytes]] = []
        self._program = program
        monkeypatch.setattr(control, "start_detached", self._start)

    def _start(self, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        child = start_detached([sys.executable, "-c", self._program], **options)
        self.children.append(child)
        return child

    def assert_ended(self) -> None:
        (child,) = self.children
        child.wait(60)


START: Any = {"loaded": load_config(environment={})}


async def test_a_service_that_does_not_get_ready_in_time_is_ended(
    files: ServiceFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched = Launched(monkeypatch, "import sys, time; print('hello', flush=True); time.sleep(60)")
    with pytest.raises(control.StartFailed, match=r"^the service did not start within 0\.5 seconds$"):
        await control.start(files, **START, within=0.5)
    launched.assert_ended()
    assert not files.state.exists()


async def test_a_start_that_is_given_up_leaves_no_service(
    files: ServiceFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched = Launched(monkeypatch, "import time; time.sleep(60)")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(control.start, files, **START))
        while not launched.children:  # noqa: ASYNC110 - there is no event to wait for
            await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    launched.assert_ended()
    assert not files.state.exists()
    with files.try_alone("start") as alone:
        assert alone


async def test_a_service_that_ends_at_once_is_quoted(
    files: ServiceFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    Launched(monkeypatch, "import sys; print('earlier', flush=True); sys.exit('no disk')")
    with pytest.raises(control.StartFailed, match="ended with status 1") as first:
        await control.start(files, **START)
    assert first.value.lines == ["earlier", "no disk"]
    with pytest.raises(control.StartFailed) as second:
        await control.start(files, **START)
    assert second.value.lines == first.value.lines  # and not those of the first attempt


async def test_nothing_is_started_beside_a_service_that_is_silent(
    files: ServiceFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched = Launched(monkeypatch, "")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setattr(control, "ANSWERING", 0.05)
        files.write(evolve(STATE, endpoints=(f"http://127.0.0.1:{listener.getsockname()[1]}",)))
        with pytest.raises(control.StartFailed, match=r"^there is a service, and its process .* is silent"):
            await control.start(files, **START)
    assert launched.children == []


async def test_a_log_that_has_grown_is_put_away_before_a_start(
    files: ServiceFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    Launched(monkeypatch, "print('new')")
    files.log.parent.mkdir(parents=True)
    files.log.write_bytes(b"old" * LOG_LIMIT)
    with pytest.raises(control.StartFailed):
        await control.start(files, **START)
    assert files.log.read_text() == "new\n"
    assert files.log.with_name("service.log.1").stat().st_size == 3 * LOG_LIMIT


@pytest.mark.skipif(os.name == "nt", reason="there, who asks is not told how a process takes it")
async def test_a_service_that_does_not_stop_is_killed(
    files: ServiceFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "ENDING", 0.1)
    stubborn = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); input()"
    with running(stubborn) as process:
        assert process.stdout is not None
        await anyio.to_thread.run_sync(process.stdout.readline)
        options = Config(drain=0.1)
        state = evolve(STATE, pid=process.pid, birth=birth_of(process.pid) or "", options=options)
        for now in (False, True):
            files.write(state)
            stopped = await control.stop(files, now=now)
            assert stopped == (None if now else state)
        assert process.wait() == -signal.SIGKILL
    assert not files.state.exists()


def running(program: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


async def test_a_service_of_another_user_is_not_stopped(
    files: ServiceFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int) -> None:
        raise PermissionError

    monkeypatch.setattr(control, "request_stop", refuse)
    files.write(evolve(STATE, phase="stopping"))
    with pytest.raises(control.StopFailed, match=rf"^the service's process {os.getpid()} is another user's$"):
        await control.stop(files)
