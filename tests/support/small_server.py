"""A whole server without an event loop, and a world whose time is virtual: what the conformance kit tries.

Its framing, routing and messages are the library's own; its handlers say what a script says. A mutant is this
server with something changed: a handler, or the bytes on their way out.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import NoneType
from typing import Any, Final, TypeVar

from attrs import define, field, frozen

from foundry_proto.catalog import resolve
from foundry_proto.chat.chat_stream import Identity
from foundry_proto.conformance import Close, Happened, Open, Receive, Script, Send, Sleep, Together
from foundry_proto.connection import ServerConnection
from foundry_proto.errors import RemoteProtocolError
from foundry_proto.events import Disconnected, Failure, Head, Request, Response
from foundry_proto.exchange import Answer
from foundry_proto.messages.models import ModelInfo, RuntimeInfo
from foundry_proto.operations import ALL, Operation, Operations
from foundry_proto.sentinels import NEED_DATA
from foundry_proto.streams import SSE_JSON
from tests.support.small_handlers import HANDLERS

__all__ = ["CHAT_MODEL", "EMBEDDER", "OPERATIONS", "SmallModel", "SmallServer", "World", "run"]

T = TypeVar("T")

CHAT_MODEL: Final = "tiny-chat-generic-cpu:2"
EMBEDDER: Final = "tiny-vectors-generic-cpu:1"
UNCACHED: Final = "tiny-chat-generic-npu:1"

Rewrite = Callable[[str, str, bytes], bytes]
"""From a request's method and target, and a write, to what leaves in its place."""

_JSON = Mapping[str, object]


def _plain(name: str, method: str, path: str, *, body: bool = False, stream: bool = False) -> Any:
    return Operation(
        name=name,
        methods=(method,),
        path=path,
        summary="For the tests of the kit alone.",
        request=_JSON if body else NoneType,
        response=_JSON,
        item=_JSON if stream else NoneType,
        query=_Named if "{" in path else NoneType,
        stream=SSE_JSON if stream else None,
        streams=lambda request: stream and request.get("stream") is True,
        profile="extra",
        heading="none",
    )


@frozen(kw_only=True)
class _Named:
    name: str


OPERATIONS: Final[Operations] = Operations(
    [
        *ALL,
        _plain("responses", "POST", "/v1/responses", body=True, stream=True),
        _plain("get_response", "GET", "/v1/responses/{name}"),
        _plain("delete_response", "DELETE", "/v1/responses/{name}"),
        _plain("transcriptions", "POST", "/v1/audio/transcriptions", body=True),
    ]
)


@define
class SmallModel:
    id: str
    alias: str
    created: int = 0
    cached: bool = True
    task: str = "chat-completion"
    device: Any = "CPU"

    def info(self) -> ModelInfo:
        return ModelInfo(
            name=self.id,
            display_name=self.id.partition(":")[0],
            provider_type="AzureFoundry",
            uri=f"azureml://registries/azureml/models/{self.id}",
            version=self.id.rpartition(":")[2],
            publisher="Test",
            task=self.task,
            runtime=RuntimeInfo(
                device_type=self.device, execution_provider=f"{self.device}ExecutionProvider"
            ),
            file_size_mb=1,
            alias=self.alias,
            supports_tool_calling=True,
            license="MIT",
            license_description="MIT",
            parent_model_uri="azureml://parent",
            max_output_tokens=1024,
        )


@define
class SmallServer:
    """What the handlers share, and what a mutant changes."""

    handlers: dict[str, Callable[[SmallServer, Request[Any]], Iterator[Answer]]] = field(
        factory=lambda: dict(HANDLERS)
    )
    read: Callable[[bytes], bytes] = lambda data: data
    """What the server takes for what was sent."""
    rewrite: Rewrite = lambda _method, _target, data: data
    operations: Operations = OPERATIONS
    watch: bool = True
    pauses: bool = True
    """Whether a write that shall come later does."""
    models: list[SmallModel] = field(
        factory=lambda: [
            SmallModel(UNCACHED, "tiny-chat", cached=False, device="NPU"),
            SmallModel(CHAT_MODEL, "tiny-chat"),
            SmallModel(EMBEDDER, "tiny-vectors", task="embeddings"),
        ]
    )
    loaded: dict[str, float] = field(factory=dict)
    """A model that is in memory, and its time to live."""
    used: dict[str, float] = field(factory=dict)
    running: list[str] = field(factory=list)
    """The models of answers that are under way."""
    cut: set[str] = field(factory=set)
    """Models whose running answers are to be cut off: what only a mutant does."""
    stored: dict[str, Any] = field(factory=dict)
    device: int = 0
    stopped: bool = False
    now: float = 0.0
    headers: Callable[[], tuple[tuple[bytes, bytes], ...]] = lambda: (
        (b"date", b"Thu, 01 Jan 1970 00:00:00 GMT"),
    )
    counter: Iterator[int] = field(factory=lambda: itertools.count(1))

    def identity(self, prefix: str, model: str) -> Identity:
        return Identity(id=f"{prefix}-{next(self.counter)}", created=1_700_000_000, model=model)

    def find(self, name: str) -> SmallModel | None:
        return resolve(self.models, name)

    def load(self, model: SmallModel, ttl: float = 600.0) -> bool:
        new = model.id not in self.loaded
        self.loaded[model.id], self.used[model.id] = ttl, self.now
        return new

    def unload(self, model_id: str) -> bool:
        return self.loaded.pop(model_id, None) is not None

    def tick(self, now: float) -> None:
        self.now = now
        for model_id, ttl in list(self.loaded.items()):
            if model_id not in self.running and now - self.used[model_id] >= ttl:
                del self.loaded[model_id]


@define
class _Connection:
    """One connection: bytes in, bytes out, each with the time at which it is there."""

    server: SmallServer
    http: ServerConnection = field(init=False)
    out: deque[tuple[float, bytes]] = field(init=False, factory=deque)
    answers: Iterator[Answer] | None = field(init=False, default=None)
    asked: tuple[str, str] = field(init=False, default=("", ""))
    closed: bool = field(init=False, default=False)
    frames: bytearray | None = field(init=False, default=None)
    """What came since the connection became a WebSocket."""
    _seen: bytearray = field(init=False, factory=bytearray)

    @http.default
    def _http(self) -> ServerConnection:
        return ServerConnection(self.server.operations, headers=self.server.headers, client="127.0.0.1:50123")

    def feed(self, data: bytes) -> None:
        data = self.server.read(data)
        if self.frames is not None:
            self.frames += data
            self._frames()
            return
        self._seen += data
        if self.server.watch and self._seen.startswith(b"GET /foundry/watch "):
            if b"\r\n\r\n" in self._seen:
                self._upgrade()
            return
        self.http.receive_data(data)
        self._pump()

    def _pump(self) -> None:
        """Take events, until an answer is under way."""
        while self.answers is None:
            try:
                event = self.http.next_event()
            except RemoteProtocolError as error:
                self._write(self.http.send(*([error.failure] if error.failure else ())))
                continue
            match event:
                case Head():
                    self.asked = (event.method, event.operation.name)
                    if data := self.http.accept_body():
                        self.out.append((self.server.now, data))
                case Request():
                    self.answers = self.server.handlers[event.head.operation.name](self.server, event)
                case Failure() | Response():
                    self._write(self.http.send(event))
                    self.asked = ("", "")
                case Disconnected():
                    return
                case _ if event is NEED_DATA:
                    break
        if self.http.phase.value == "closing":
            self.closed = True

    def _write(self, writes: Sequence[Any]) -> None:
        for write in writes:
            data = self.server.rewrite(*self.asked, write.data)
            previous = self.out[-1][0] if self.out else self.server.now
            if data:
                after = write.after if self.server.pauses else 0.0
                self.out.append((max(previous, self.server.now) + after, data))

    def advance(self) -> None:
        """Let the answer under way go on until it says something."""
        while self.answers is not None and not self.out:
            try:
                answer = next(self.answers)
            except StopIteration:
                self.answers = None
                self._pump()
            except ConnectionError:
                self.answers, self.closed = None, True
            else:
                self._write(self.http.send(answer))

    def close(self) -> None:
        if self.answers is not None:
            self.answers.close()  # type: ignore[attr-defined]

    # A WebSocket, as far as the kit's cases go.

    def _upgrade(self) -> None:
        lines = bytes(self._seen).decode().split("\r\n")[1:]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        key = headers.get("sec-websocket-key", "")
        if "origin" in headers:
            status, more = "403 Forbidden", ""
        elif headers.get("upgrade") != "websocket" or headers["sec-websocket-version"] != "13":
            status, more = "426 Upgrade Required", "sec-websocket-version: 13\r\n"
        elif len(key) != 24:
            status, more = "400 Bad Request", ""
        else:
            accept = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
            status = "101 Switching Protocols"
            more = f"sec-websocket-accept: {base64.b64encode(accept).decode()}\r\n"
            self.frames = bytearray()
        length = "" if status.startswith("101") else "content-length: 0\r\n"
        data = f"HTTP/1.1 {status}\r\n{length}{more}\r\n".encode()
        self.out.append((self.server.now, self.server.rewrite("GET", "watch", data)))
        if self.frames is not None:
            self.out.append((self.server.now, b"\x89\x00"))  # a ping of its own

    def _frames(self) -> None:
        assert self.frames is not None
        while len(self.frames) >= 6:
            length = self.frames[1] & 0x7F
            mask, payload = self.frames[2:6], self.frames[6 : 6 + length]
            opcode = self.frames[0] & 0x0F
            plain = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
            del self.frames[: 6 + length]
            if opcode == 1:
                plain = (
                    b'{"type":"watching","topics":["models"],"note":"' + b"x" * 100 + b'"}'
                    if b"watch" in plain
                    else b'{"type":"error","id":null}'
                )
            reply = {1: 1, 9: 10, 8: 8}[opcode]
            head = bytes([0x80 | reply]) + (
                bytes([len(plain)]) if len(plain) < 126 else b"\x7e" + len(plain).to_bytes(2, "big")
            )
            self.out.append((self.server.now, self.server.rewrite("GET", "watch", head + plain)))


@define
class World:
    """Performs scripts against a server; no second passes but in its own count."""

    server: SmallServer
    now: float = 1000.0
    _connections: dict[int, _Connection] = field(init=False, factory=dict)
    _numbers: Iterator[int] = field(init=False, factory=lambda: itertools.count(1))

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def run(self, script: Script[T]) -> T:
        """Perform a script to its end; scripts that run together take turns."""
        results: dict[int, Any] = {}
        order = itertools.count()
        ready: list[tuple[float, int, int, Any, Any, Any]] = []

        def begin(one: Script[Any], parent: Any, place: int) -> None:
            heapq.heappush(ready, (self.now, next(order), place, one, parent, None))

        def end(parent: Any, place: int, value: Any) -> None:
            if parent is None:
                results[0] = value
                return
            parent[1][place] = value
            parent[2] -= 1
            if not parent[2]:
                heapq.heappush(ready, (self.now, next(order), parent[4], parent[0], parent[3], parent[1]))

        begin(script, None, 0)
        while ready:
            at, _, place, one, parent, happened = heapq.heappop(ready)
            self.now = max(self.now, at)
            self.server.tick(self.now)
            try:
                step = one.send(happened)
            except StopIteration as stopped:
                end(parent, place, stopped.value)
                continue
            if isinstance(step, Together):
                scripts = step.scripts
                group = [one, [None] * len(scripts), len(scripts), parent, place]
                for number, child in enumerate(scripts):
                    begin(child, group, number)
                continue
            happened = self._perform(step)
            heapq.heappush(ready, (happened.at, next(order), place, one, parent, happened))
        value: T = results[0]
        return value

    def _perform(self, step: Any) -> Happened:
        match step:
            case Sleep():
                return Happened(at=self.now + step.seconds)
            case Open() if self.server.stopped:
                return Happened(at=self.now, outcome="lost")
            case Open():
                number = next(self._numbers)
                self._connections[number] = _Connection(self.server)
                return Happened(at=self.now, connection=number)
            case Close():
                self._connections.pop(step.connection).close()
                return Happened(at=self.now)
            case Send():
                connection = self._connections[step.connection]
                if connection.closed and not connection.out:
                    return Happened(at=self.now, outcome="lost")
                connection.feed(step.data)
                return Happened(at=self.now)
            case Receive():
                return self._receive(step)
            case _:
                raise AssertionError(f"expected a step, got {step}")

    def _receive(self, step: Receive) -> Happened:
        connection = self._connections[step.connection]
        connection.advance()
        if connection.out:
            at, data = connection.out.popleft()
            return Happened(at=max(at, self.now), outcome="data", data=data)
        if connection.closed:
            return Happened(at=self.now, outcome="end")
        return Happened(at=self.now + step.patience, outcome="silence")


def run(script: Script[T], server: SmallServer | None = None) -> T:
    """Perform a script against a server."""
    return World(server or SmallServer()).run(script)
