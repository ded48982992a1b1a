"""One of the HTTP servers that `http_speed.py` compares, alone in its process: `_http_servers.py KIND`.

Each answers `GET /openai/status` and streams from `POST /v1/chat/completions`, with the same bytes of body;
the port is printed when it listens. Bodies and chunks' JSON are made before: what is measured is the server.
"""

from __future__ import annotations

import json
import logging
import selectors
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, Literal, cast

import anyio
import h11
import uvicorn
from anyio.abc import ByteStream, SocketStream, TaskGroup
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import Response as StarletteResponse
from starlette.responses import StreamingResponse
from starlette.routing import Route

from foundry_proto.chat.chat_stream import Identity, content_encoder
from foundry_proto.codec import encode
from foundry_proto.events import Request, Response, StreamEnd, StreamItem
from foundry_proto.messages.service import ServiceStatus
from foundry_proto.operations import ALL, Operations
from foundry_proto.sse import encode_data
from foundry_runtime.application import Application, Send
from foundry_runtime.asgi import ASGIApplication
from foundry_runtime.server import serve
from foundry_runtime.transport import open_tcp_listeners
from foundry_serve.security import Policy, bound_names

CHUNKS: Final = 2_000
"""Chunks of a streamed answer; as tokens do, each leaves by itself."""
_IDENTITY: Final = Identity(id=f"chatcmpl-{'0' * 32}", created=1700000000, model="m")
_encode: Final = content_encoder(_IDENTITY, 0)
_TEXTS: Final = (" blue", " and", ",", " the", " lighthouse") * (CHUNKS // 5)
ITEMS: Final = [_encode(text) for text in _TEXTS]
EVENTS: Final = [encode_data(item) for item in ITEMS]
DONE: Final = encode_data(b"[DONE]")
STATUS: Final = encode(ServiceStatus(endpoints=("http://localhost:5272",), model_dir_path="/models"))


# Ours


async def _status(_: None, request: Request[None], send: Send) -> None:
    await send(Response(value=STATUS))


async def _chat(_: None, request: Request[Any], send: Send) -> None:
    for item in ITEMS:
        await send(StreamItem(value=item))
    await send(StreamEnd())


@asynccontextmanager
async def _lifespan(_: TaskGroup) -> AsyncIterator[None]:
    yield None


def application() -> Application[None]:
    """The product's table in full, of which two rows are measured, behind the product's checks."""
    handlers = dict.fromkeys((operation.name for operation in ALL), _status)
    gate = Policy(names=bound_names("127.0.0.1", ["127.0.0.1"]))
    return Application(Operations(ALL), {**handlers, "chat_completions": _chat}, _lifespan, gate=gate)


async def _serve_native() -> None:
    (listener,) = await open_tcp_listeners("127.0.0.1", 0)
    print(listener.port, flush=True)
    await serve(application(), [listener])


# What is compared with


async def _starlette_status(request: StarletteRequest) -> StarletteResponse:
    return StarletteResponse(STATUS, media_type="application/json")


async def _starlette_chat(request: StarletteRequest) -> StarletteResponse:
    json.loads(await request.body())

    async def chunks() -> AsyncIterator[bytes]:
        for item in ITEMS:
            yield b"data: %b\n\n" % item
        yield DONE

    return StreamingResponse(chunks(), media_type="text/event-stream", headers={"cache-control": "no-cache"})


def starlette() -> Starlette:
    return Starlette(
        routes=[
            Route("/openai/status", _starlette_status),
            Route("/v1/chat/completions", _starlette_chat, methods=["POST"]),
        ]
    )


def _uvicorn(app: Callable[..., Any], http: Literal["h11", "httptools"] = "h11") -> None:
    """Uvicorn without an access log.

    The socket is named TCP as uvicorn's own would be: else asyncio leaves Nagle's algorithm on, and each
    reply waits 40 ms for an acknowledgement.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(512)
        print(sock.getsockname()[1], flush=True)
        config = uvicorn.Config(app, http=http, loop="asyncio", log_level="warning", access_log=False)
        uvicorn.Server(config).run(sockets=[sock])


async def _bare(stream: SocketStream | ByteStream) -> None:
    """One connection of a server that knows neither routes nor limits nor time."""
    http = h11.Connection(h11.SERVER)
    headers = [("content-type", "application/json"), ("content-length", str(len(STATUS)))]
    streamed = [("content-type", "text/event-stream"), ("cache-control", "no-cache")]
    chat = False
    async with stream:
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                try:
                    http.receive_data(await stream.receive())
                except anyio.EndOfStream:
                    return
            elif isinstance(event, h11.Request):
                chat = event.method == b"POST"
            elif isinstance(event, h11.EndOfMessage):
                head = h11.Response(status_code=200, headers=streamed if chat else headers, reason="OK")
                if chat:
                    await stream.send(http.send(head) or b"")
                    for data in (*EVENTS, DONE):
                        await stream.send(http.send(h11.Data(data=data)) or b"")
                    await stream.send(http.send(h11.EndOfMessage()) or b"")
                else:
                    events = (head, h11.Data(data=STATUS), h11.EndOfMessage())
                    await stream.send(b"".join(http.send(event) or b"" for event in events))
                http.start_next_cycle()


async def _serve_bare() -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    print(listener.extra(anyio.abc.SocketAttribute.local_port), flush=True)
    await listener.serve(_bare)


def _serve_prepared() -> None:
    """What the system takes: a loop that knows nothing, and sends each piece by a call of its own."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = [b"%x\r\n%b\r\n" % (len(event), event) for event in (*EVENTS, DONE)]
    plain = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(STATUS), STATUS)
    with (
        selectors.DefaultSelector() as ready,
        socket.create_server(("127.0.0.1", 0), backlog=512) as listener,
    ):
        print(listener.getsockname()[1], flush=True)
        ready.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj is listener:
                    connection, _ = listener.accept()
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    ready.register(connection, selectors.EVENT_READ)
                    continue
                connection = cast("socket.socket", key.fileobj)
                if not (request := connection.recv(1 << 16)):
                    ready.unregister(connection)
                    connection.close()
                elif request.startswith(b"GET"):
                    connection.send(plain)
                else:
                    for piece in (head, *chunks, b"0\r\n\r\n"):
                        connection.send(piece)


KINDS: Final[dict[str, Callable[[], Any]]] = {
    "uvicorn (h11) + Starlette": lambda: _uvicorn(starlette()),
    "this server, asyncio": partial(anyio.run, _serve_native),
    "this server, trio": partial(anyio.run, _serve_native, backend="trio"),
    "this application under uvicorn (h11)": lambda: _uvicorn(ASGIApplication(application())),
    "this application under uvicorn (httptools)": lambda: _uvicorn(
        ASGIApplication(application()), "httptools"
    ),
    "bare anyio + h11, asyncio": partial(anyio.run, _serve_bare),
    "bare anyio + h11, trio": partial(anyio.run, _serve_bare, backend="trio"),
    "prepared bytes, no server": _serve_prepared,
}

if __name__ == "__main__":
    logging.basicConfig()
    KINDS[sys.argv[1]]()
