"""Laws of the synchronous client, against a server on each event loop and against bare sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import pytest

from foundry_proto.errors import LocalProtocolError, RemoteProtocolError
from foundry_proto.operations import CHAT_COMPLETIONS
from foundry_proto.operations.service import SERVICE_STATUS
from foundry_runtime.blocking import BlockingClient
from foundry_runtime.client import ServerFailure
from foundry_runtime.server import serve
from foundry_runtime.transport import TransportBroken, open_tcp_listeners
from tests.runtime.test_client import STATUS
from tests.support.applications import chat_request, make_test_application
from tests.support.serving import until


@contextmanager
def in_a_thread(backend: str) -> Iterator[tuple[int, Any]]:
    """The test application on a loop of its own; gives the port, and what the handlers did."""
    application = make_test_application()

    async def run(*, task_status: Any) -> None:
        listeners = await open_tcp_listeners("127.0.0.1", 0)
        async with anyio.create_task_group() as tasks:
            await tasks.start(partial(serve, application, listeners))
            task_status.started(listeners[0].port)

    with anyio.from_thread.start_blocking_portal(backend) as portal:
        future, port = portal.start_task(run)
        yield port, application._running[0]
        future.cancel()


@pytest.fixture(params=["asyncio", "trio"])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[int, Any]]:
    with in_a_thread(request.param) as found:
        yield found


def test_an_answer_comes_whole_or_in_chunks_that_add_up_to_it(server: tuple[int, Any]) -> None:
    with BlockingClient(f"http://127.0.0.1:{server[0]}") as client:
        whole = client.call(CHAT_COMPLETIONS, chat_request(text="one two"))
        with client.chat(chat_request(text="one two")) as chunks:
            with pytest.raises(LocalProtocolError):
                _ = chunks.completion
            said = [chunk.choices[0].delta.content or "" for chunk in chunks]
            assert list(chunks) == []
        assert chunks.completion.choices == whole.choices
        assert "".join(said) == "one two "
        with client.stream(CHAT_COMPLETIONS, chat_request(text="a b", stream=True)) as items:
            assert len(list(items)) > 2
        with pytest.raises(ServerFailure, match=r"^messages: expected at least 1 item, got 0$"):
            client.call(CHAT_COMPLETIONS, type(chat_request())(model="m", messages=()))
        assert len(client._idle) == 1


def test_leaving_a_stream_early_hangs_up(server: tuple[int, Any]) -> None:
    port, journal = server
    with BlockingClient(f"http://127.0.0.1:{port}") as client:
        with client.chat(chat_request("hold")) as chunks:
            next(chunks)
        anyio.run(until, lambda: journal.cancelled)
        assert client._idle == []


def test_threads_have_a_connection_each(server: tuple[int, Any]) -> None:
    port, journal = server
    with BlockingClient(f"http://127.0.0.1:{port}") as client:

        def call() -> None:
            client.call(CHAT_COMPLETIONS, chat_request("slow", text="one"))

        threads = [threading.Thread(target=call) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert journal.begun == ["slow"] * 3
        assert len(client._idle) == 3


class Script:
    """Connections of a server that answers what is listed for each, and then closes at the next request."""

    def __init__(self, *connections: list[bytes] | OSError) -> None:
        self.left = list(connections)
        self.asked: list[bytes] = []
        self.threads: list[threading.Thread] = []

    def connect(self) -> socket.socket:
        replies = self.left.pop(0)
        if isinstance(replies, OSError):
            raise replies
        ours, theirs = socket.socketpair()
        thread = threading.Thread(target=self._serve, args=(theirs, replies))
        thread.start()
        self.threads.append(thread)
        return ours

    def _serve(self, sock: socket.socket, replies: list[bytes]) -> None:
        with sock:
            for reply in (*replies, None):
                if reply == b"" or not (request := sock.recv(65536)):
                    break
                self.asked.append(request)
                if reply is not None:
                    sock.sendall(reply)

    def join(self) -> None:
        for thread in self.threads:
            thread.join()


def test_a_safe_call_outlives_the_servers_restart() -> None:
    script = Script([STATUS], ConnectionRefusedError(111, "refused"), [STATUS])
    with BlockingClient(connect=script.connect) as client:
        for _ in range(2):
            assert client.call(SERVICE_STATUS).model_dir_path == "/"
    script.join()
    assert len(script.asked) == 3


def test_a_call_that_changes_something_is_not_sent_twice() -> None:
    script = Script([STATUS], [STATUS])
    with BlockingClient(connect=script.connect) as client:
        client.call(SERVICE_STATUS)
        with pytest.raises(
            RemoteProtocolError, match=r"^the server closed the connection without an answer$"
        ):
            client.call(CHAT_COMPLETIONS, chat_request())
    script.join()
    assert len(script.asked) == 2


def test_a_connection_that_the_server_has_closed_is_not_used_for_anything() -> None:
    whole = b'{"id":"i","created":1,"model":"m","choices":[]}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
    script = Script([STATUS, b""], [answer % (len(whole), whole)])
    with BlockingClient(connect=script.connect) as client:
        client.call(SERVICE_STATUS)
        script.join()
        assert client.call(CHAT_COMPLETIONS, chat_request()).id == "i"
    script.join()
    assert [request.split(b" ")[0] for request in script.asked] == [b"GET", b"POST"]


def test_a_server_that_is_silent_for_too_long_is_a_time_out() -> None:
    ours, theirs = socket.socketpair()
    with theirs, BlockingClient(connect=lambda: ours, timeout=0.01) as client:
        with pytest.raises(TimeoutError):
            client.call(SERVICE_STATUS)
        theirs.settimeout(60)
        while theirs.recv(65536):
            pass  # The connection was closed.


def test_nobody_there_is_told_with_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    client = BlockingClient(f"http://127.0.0.1:{port}", retries=0)
    with pytest.raises(ConnectionRefusedError) as caught:
        client.call(SERVICE_STATUS)
    assert f"cannot connect to 127.0.0.1:{port}: " in str(caught.value)


def test_a_broken_connection_is_called_as_the_other_client_does() -> None:
    class Reset:
        def settimeout(self, seconds: float) -> None: ...

        def sendall(self, data: bytes) -> None:
            raise ConnectionResetError(104, "reset")

        def close(self) -> None:
            closed.append(self)

    closed: list[object] = []
    made: Callable[[], Any] = Reset
    client = BlockingClient(connect=made, retries=0)
    with pytest.raises(TransportBroken, match=r"^the connection is broken: reset$"):
        client.call(SERVICE_STATUS)
    assert len(closed) == 1


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")
def test_it_calls_through_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "a b.sock"
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            with listener.accept()[0] as sock:
                sock.recv(65536)
                sock.sendall(STATUS)

        thread = threading.Thread(target=serve)
        thread.start()
        client = stack.enter_context(BlockingClient("http://localhost", unix=path))
        assert client.call(SERVICE_STATUS).model_dir_path == "/"
        thread.join()
