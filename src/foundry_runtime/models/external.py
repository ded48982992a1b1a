"""Relays requests to another server that speaks OpenAI's API.

Knows: how a request reaches that server, unchanged but for the model's name; how its answer comes back, chunk
by chunk; and how to say what went wrong there or on the way.
Refuses to know: which models are registered (`registered.py`), and what is in a request.

Proxies and certificate authorities are those of the environment (`HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`,
…), as the HTTP client reads them. Redirections are not followed: a key must not go to another host.

The HTTP client's package is imported when the first request is relayed, in a thread: that takes 0.1 s, which
a server that relays nothing need not spend.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
from attrs import evolve

from foundry_proto.errors import RemoteProtocolError
from foundry_proto.events import Failure, Head, Headers, Request, Response, StreamEnd, StreamItem, header
from foundry_proto.exchange import Answer
from foundry_proto.jsontext import ContentError, load_json, replace_member
from foundry_proto.messages.errors import read_failure, status_phrase
from foundry_proto.sse import ServerSentEvent, SSEDecoder
from foundry_runtime.application import Send
from foundry_runtime.download.http import make_client, pieces_of, reason_of
from foundry_runtime.download.sources.api import DownloadFailed
from foundry_runtime.models.registered import ExternalModel

if TYPE_CHECKING:
    import httpx

__all__ = ["Relay"]

_CONNECT: Final = 10.0
"""Seconds for the other server to take a connection."""
_SILENCE: Final = 600.0
"""Seconds that it may be silent: it may have to load a model, or to read a long prompt."""
_LIMIT: Final = 64 * 1024 * 1024
"""The most bytes of a whole answer, or of one event of a stream."""
_ERROR_LIMIT: Final = 64 * 1024
_LINGER: Final = 0.5
"""Seconds for an answer's framing to end behind `[DONE]`, so that its connection can be used again."""
_KEPT_HEADERS: Final = (b"retry-after", b"x-request-id")


class _TooLarge(Exception):
    """The answer is larger than it may be."""


class Relay:
    """Relays requests; one for all models and all tasks of an event loop.

    Args:
        connect_timeout: Seconds for the other server to take a connection.
        silence: Seconds that it may be silent.
    """

    def __init__(self, *, connect_timeout: float = _CONNECT, silence: float = _SILENCE) -> None:
        self._connect_timeout = connect_timeout
        self._silence = silence
        self._name = f"1.1 foundry-{uuid.uuid4().hex[:12]}"
        self._opening = anyio.Lock()
        self._client: httpx.AsyncClient | None = None

    async def aclose(self) -> None:
        """Close the connections that nobody uses."""
        if self._client is not None:
            await self._client.aclose()

    async def _opened(self) -> httpx.AsyncClient:
        async with self._opening:
            if self._client is None:
                make = partial(make_client, connect=self._connect_timeout, silence=self._silence)
                self._client = await anyio.to_thread.run_sync(make)
            return self._client

    async def answer(self, model: ExternalModel, request: Request[Any], send: Send) -> None:
        """Have the other server answer a request of OpenAI's API; leaving early hangs up there, too.

        Args:
            model: Whose it is.
            request: What was asked; its raw body goes on, with the model's name as the other server has it.
            send: Where the answer goes.

        Raises:
            Hangup: The client is gone.
        """
        if self._name.encode() in _via(request.head):
            message = f"model: {model.base_uri}, where {model.name} was registered, is this very server"
            await send(Failure(status=508, message=message, param="model", code="loop_detected"))
            return
        host = urlsplit(model.base_uri).netloc
        try:
            client = await self._opened()
        except DownloadFailed as error:
            await send(_odd(host, str(error)))
            return
        import httpx  # noqa: PLC0415 - see above

        url = f"{model.base_uri}{request.head.operation.path.removeprefix('/v1')}"
        body = replace_member(request.raw, "model", model.name)
        try:
            async with client.stream(
                "POST", url, content=body, headers=self._headers(model, request.head)
            ) as reply:
                await _pass_on(reply, host, send)
        except httpx.HTTPError as error:
            await send(self._failure(error, host))
        except RemoteProtocolError as error:
            await send(_odd(host, str(error)))
        except _TooLarge:
            await send(_odd(host, f"expected an answer of at most {_LIMIT} bytes, got more"))

    def _headers(self, model: ExternalModel, head: Head) -> dict[str, str]:
        headers = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            # Compressed, a chunk might wait for the next ones.
            "accept-encoding": "identity",
            "via": ", ".join([*([via] if (via := _via(head).decode("latin-1")) else []), self._name]),
        }
        # Choice: a key that was registered goes before the client's own, which was meant for this server.
        if model.api_key is not None:
            headers["authorization"] = f"Bearer {model.api_key}"
        elif (given := header(head.headers, b"authorization")) is not None:
            headers["authorization"] = given.decode("latin-1")
        return headers

    def _failure(self, error: httpx.HTTPError, host: str) -> Failure:
        """Say why there is no answer, or no more of it."""
        import httpx  # noqa: PLC0415 - see above

        reason = reason_of(error)
        match error:
            case httpx.ConnectTimeout():
                return _late(host, f"no connection within {self._connect_timeout:g} seconds")
            case httpx.TimeoutException():
                return _late(host, f"silent for {self._silence:g} seconds")
            case httpx.ConnectError() | httpx.ProxyError() | httpx.UnsupportedProtocol():
                return _odd(host, f"cannot connect: {reason}")
            case _:
                return _odd(host, f"the connection was lost: {reason}")


def _via(head: Head) -> bytes:
    """Through which servers a request came (RFC 9110, section 7.6.3)."""
    return b", ".join(value for name, value in head.headers if name == b"via")


async def _pass_on(reply: httpx.Response, host: str, send: Send) -> None:
    media = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not reply.is_success:
        await send(await _refusal(reply, host))
    elif media == "text/event-stream":
        await _pass_stream(reply, host, send)
    else:
        body = await _whole(reply, _LIMIT)
        try:
            load_json(body)
        except ContentError as error:
            await send(_odd(host, str(error)))
        else:
            await send(Response(value=body, headers=_kept(reply)))


async def _pass_stream(reply: httpx.Response, host: str, send: Send) -> None:
    decoder = SSEDecoder(max_event_size=_LIMIT)
    async with pieces_of(reply.aiter_bytes()) as pieces:
        async for piece in pieces:
            decoder.receive_data(piece)
            answers: list[Answer] = []
            while isinstance(event := decoder.next_event(), ServerSentEvent):
                answers.append(_answer(event, host))
                if not isinstance(answers[-1], StreamItem):
                    await send(*answers)
                    if isinstance(answers[-1], StreamEnd):
                        await _read_out(pieces, _LINGER)
                    return
            if answers:
                await send(*answers)
    await send(_odd(host, "expected data: [DONE], got the end of the stream"))


def _answer(event: ServerSentEvent, host: str) -> Answer:
    """An event as ours. Its data goes on as it is; only what may tell of an error is looked into."""
    if event.data == "[DONE]":
        return StreamEnd()
    data = event.data.encode()
    is_object = event.data.startswith("{") and event.data.endswith("}")
    if event.event == "error" or '"error"' in event.data or not is_object:
        try:
            plain = load_json(data)
        except ContentError as error:
            return _odd(host, str(error))
        if not isinstance(plain, dict) or plain.get("error") is not None or event.event == "error":
            failure = read_failure(plain, status=502)
            return _prefixed(failure, host) if failure else _odd(host, "the stream ended with an error")
    return StreamItem(value=data if b"\n" not in data else data.replace(b"\n", b" "))


async def _read_out(pieces: AsyncIterator[bytes], seconds: float) -> None:
    """Wait for an answer's end, whose content is of no interest any more."""
    import httpx  # noqa: PLC0415 - see above

    with suppress(httpx.HTTPError), anyio.move_on_after(seconds):
        async for _ in pieces:
            pass


async def _refusal(reply: httpx.Response, host: str) -> Failure:
    """What the other server says of itself, under its own status where a failure can have it."""
    status = reply.status_code
    if not 400 <= status <= 599:
        to = f" to {reply.headers['location'][:200]}" if "location" in reply.headers else ""
        return _odd(host, f"expected an answer, got status {status}{to}")
    try:
        body = await _whole(reply, _ERROR_LIMIT)
    except _TooLarge:
        body = b""
    try:
        failure = read_failure(load_json(body), status=status, headers=_kept(reply))
    except ContentError:
        failure = None
    if failure is None:
        text = " ".join(body[:200].decode("utf-8", "replace").split())
        message = f"{status} {status_phrase(status)}: {text}".rstrip(": ")
        failure = Failure(status=status, message=message, headers=_kept(reply))
    return _prefixed(failure, host)


async def _whole(reply: httpx.Response, limit: int) -> bytes:
    body = bytearray()
    async with pieces_of(reply.aiter_bytes()) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) > limit:
                raise _TooLarge
    return bytes(body)


def _kept(reply: httpx.Response) -> Headers:
    """The headers that mean something to the client."""
    return tuple((name.lower(), value) for name, value in reply.headers.raw if name.lower() in _KEPT_HEADERS)


def _odd(host: str, message: str) -> Failure:
    return Failure(status=502, message=f"{host}: {message}", code="external_server")


def _late(host: str, message: str) -> Failure:
    return Failure(status=504, message=f"{host}: {message}", code="external_server_timeout")


def _prefixed(failure: Failure, host: str) -> Failure:
    """The same failure, which says whose it is."""
    return evolve(failure, message=f"{host}: {failure.message}")
