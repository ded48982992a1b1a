"""The synchronous client: the same machine, table and answers as `client.py`, over plain sockets.

Knows: how to connect, send and receive with a socket that blocks, and how its failures are called here.
Refuses to know: what both clients know (`calling.py`), and event loops.

    with BlockingClient("http://127.0.0.1:5272") as client:
        with client.chat(request) as chunks:
            for chunk in chunks:
                ...
        completion = chunks.completion

One client serves any number of threads, each call having a connection of its own.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

from attrs import define, evolve, field

from foundry_proto.connection import ClientConnection
from foundry_proto.events import Headers, StreamEnd
from foundry_proto.exchange import ClientAnswer
from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_proto.messages.completions import ChatCompletion, ChatCompletionChunk
from foundry_proto.operations import CHAT_COMPLETIONS, Operation
from foundry_proto.sentinels import NEED_DATA
from foundry_runtime.calling import (
    CONNECT_TIMEOUT,
    DEFAULT_TIMEOUT,
    DEFAULT_URL,
    KEEP_IDLE,
    RETRIES,
    Attempts,
    Call,
    Chunks,
    Items,
    Whom,
    value_of,
)
from foundry_runtime.platform import unix_socket_family
from foundry_runtime.transport import TransportBroken

__all__ = ["BlockingChatStream", "BlockingClient", "BlockingStream", "ConnectSocket"]

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")
ItemT = TypeVar("ItemT")

ConnectSocket = Callable[[], socket.socket]
"""Opens a connection to the server."""


@contextmanager
def _named_failures() -> Iterator[None]:
    """Call what a socket raises as the other client does; a time-out is one already."""
    try:
        yield
    except TimeoutError:
        raise
    except OSError as error:
        raise TransportBroken(f"the connection is broken: {error.strerror or error}") from error


@define(eq=False)
class _Call(Call):
    """A call on a socket: the only two functions that touch both."""

    sock: socket.socket = field(kw_only=True)

    def send(self, data: bytes) -> None:
        with _named_failures():
            self.sock.sendall(data)

    def next_event(self) -> ClientAnswer:
        while (event := self.known_event()) is NEED_DATA:
            with _named_failures():
                data = self.sock.recv(65536)
            self.received(data)
        return event

    def is_stale(self) -> bool:
        """Whether the server has closed a connection that nobody uses, or says what nobody asked."""
        try:
            return bool(select.select([self.sock], [], [], 0)[0])
        except ValueError:  # Where there are more files open than `select` can count.
            return True


class BlockingStream(Generic[ItemT]):
    """The items of a streamed answer, in order; an iterator."""

    def __init__(self, next_event: Callable[[], ClientAnswer], items: Items) -> None:
        self._next_event = next_event
        self._items = items

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ItemT:
        """Wait for the next item; raises as `Stream` does."""
        item = StreamEnd() if self._items.over else self._items.take(self._next_event())
        if isinstance(item, StreamEnd):
            raise StopIteration
        return cast("ItemT", item)  # what the row says, as the codec made it


class BlockingChatStream(BlockingStream[ChatCompletionChunk]):
    """The chunks of a chat completion, and what they add up to."""

    def __init__(self, next_event: Callable[[], ClientAnswer], chunks: Chunks) -> None:
        super().__init__(next_event, chunks)
        self._chunks = chunks

    @property
    def completion(self) -> ChatCompletion:
        """The completion so far; see `ChatStream.completion`."""
        return self._chunks.completion()


class BlockingClient:
    """Calls the operations of one server, each call blocking its thread; connections are used again.

    Args:
        connect: Opens a connection in a way of its own; its time-outs are set by the client.

    The others, and the errors of all methods, are those of `Client`.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        unix: str | Path | None = None,
        tls: ssl.SSLContext | None = None,
        connect: ConnectSocket | None = None,
        api_key: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        connect_timeout: float = CONNECT_TIMEOUT,
        retries: int = RETRIES,
        headers: Headers = (),
    ) -> None:
        self._whom = Whom.at(base_url, unix=unix, tls=tls, api_key=api_key, headers=headers)
        self._connect = connect or self._connect_to_server
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._retries = retries
        self._idle: list[_Call] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that nobody uses."""
        while (call := self._take_idle()) is not None:
            call.sock.close()

    def call(
        self,
        operation: Operation[RequestT, ResponseT, Any],
        value: RequestT | None = None,
        *,
        params: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> ResponseT:
        """Call an operation that answers as a whole; see `Client.call`."""
        with self._calling(operation, value, params, query) as call:
            return cast("ResponseT", value_of(call.next_event()))

    @contextmanager
    def stream(
        self,
        operation: Operation[RequestT, Any, ItemT],
        value: RequestT | None = None,
        *,
        params: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Iterator[BlockingStream[ItemT]]:
        """Call an operation that answers item by item; see `Client.stream`."""
        with self._calling(operation, value, params, query) as call:
            yield BlockingStream(call.next_event, Items())

    @contextmanager
    def chat(self, request: ChatCompletionRequest) -> Iterator[BlockingChatStream]:
        """Have a conversation answered chunk by chunk; see `Client.chat`."""
        with self._calling(CHAT_COMPLETIONS, evolve(request, stream=True), None, None) as call:
            yield BlockingChatStream(call.next_event, Chunks())

    @contextmanager
    def _calling(
        self,
        operation: Operation[Any, Any, Any],
        value: object,
        params: Mapping[str, str] | None,
        query: Mapping[str, str] | None,
    ) -> Iterator[_Call]:
        call = self._begin(operation, value, params, query)
        try:
            yield call
        finally:
            if call.connection.reusable:
                call.idle_since = time.monotonic()
                self._idle.append(call)
            else:
                call.sock.close()

    def _begin(
        self,
        operation: Operation[Any, Any, Any],
        value: object,
        params: Mapping[str, str] | None,
        query: Mapping[str, str] | None,
    ) -> _Call:
        """Send a call; one that changes nothing is tried again until its answer begins."""
        attempts = Attempts(safe=operation.safe, retries=self._retries)
        while True:
            kept, sent = self._kept(), False
            call = kept
            try:
                call = call or self._open()
                call.send(call.begin(operation, value, params, query, self._whom.headers))
                sent = True
                if operation.safe:
                    call.put_back(call.next_event())
                return call  # noqa: TRY300 - an `else` would stand behind the long `except`
            except BaseException as error:  # whatever ended it: a broken connection serves no other call
                heard = False
                if call is not None:
                    heard = call.heard
                    call.sock.close()
                pause = attempts.again(error, kept=kept is not None, sent=sent, heard=heard)
                if pause is None:
                    raise
            if kept is not None:
                self.close()  # The others are as old.
            time.sleep(pause)

    def _kept(self) -> _Call | None:
        """Take the connection that was used last, unless the server has closed it, or may be about to."""
        while (call := self._take_idle()) is not None:
            if time.monotonic() - call.idle_since < KEEP_IDLE and not call.is_stale():
                return call
            call.sock.close()
        return None

    def _take_idle(self) -> _Call | None:
        try:
            return self._idle.pop()  # One step: other threads may do the same.
        except IndexError:
            return None

    def _open(self) -> _Call:
        sock = self._connect()
        sock.settimeout(self._timeout)
        return _Call(ClientConnection(self._whom.authority, prefix=self._whom.prefix), sock=sock)

    def _connect_to_server(self) -> socket.socket:
        """Connect.

        Raises:
            OSError: Nobody answers there; the text names it.
            TransportBroken: Somebody did, but the handshake of TLS failed.
        """
        whom, patience = self._whom, self._connect_timeout
        where = str(whom.unix) if whom.unix is not None else whom.authority
        try:
            if whom.unix is not None:
                sock = socket.socket(unix_socket_family(), socket.SOCK_STREAM)
                sock.settimeout(patience)
                _or_closed(sock, lambda: sock.connect(str(whom.unix)))
            else:
                sock = socket.create_connection((whom.host, whom.port), patience)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except TimeoutError:
            raise
        except OSError as error:
            raise type(error)(error.errno, f"cannot connect to {where}: {error.strerror or error}") from error
        if whom.tls is None:
            return sock
        context = whom.tls
        with _named_failures():
            return _or_closed(sock, lambda: context.wrap_socket(sock, server_hostname=whom.host))


T = TypeVar("T")


def _or_closed(sock: socket.socket, attempt: Callable[[], T]) -> T:
    try:
        return attempt()
    except BaseException:
        sock.close()
        raise
