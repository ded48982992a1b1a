"""HTTP for downloads: one client, small requests that are tried again, and answers that were looked at.

Knows: which refusals and failures pass, and how long to wait for that; where a redirect may lead, and what
does not go along; what of an address may be told. Refuses to know: what is asked for.

Proxies and certificate authorities are those of the environment (`HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`,
…), as the HTTP client reads them. Nothing of a request is logged: addresses may be signed, which makes them
secrets. The client's package is imported when it is needed, in a thread: that takes 0.1 s.
"""

from __future__ import annotations

import logging
import random
import ssl
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from foundry_proto._version import __version__
from foundry_proto.messages.errors import status_phrase
from foundry_runtime.download.sources.api import DownloadFailed

if TYPE_CHECKING:
    import httpx

__all__ = [
    "AskFailed",
    "RequestFailed",
    "answer_to",
    "ask",
    "make_client",
    "open_client",
    "pieces_of",
    "reason_of",
    "shown",
]

CONNECT: Final = 15.0
"""Seconds for a server to take a connection."""
SILENCE: Final = 30.0
"""Seconds that a server may be silent."""
_MOST_REDIRECTS: Final = 5
_SHORT: Final = 64 * 1024
"""The most bytes that are read for the sake of the connection."""
_FIRST_DELAY: Final = 0.5
"""Seconds to wait after a failure; twice as many after each further one."""
_LONGEST_WAIT: Final = 600.0
"""Seconds for which a server may want to be left in peace; for longer, people shall decide."""
_MIB: Final = 1024 * 1024
_PASSING: Final = frozenset({408, 425, 429})
"""Refusals that are not meant for ever, beside all of 5xx."""
_TALKATIVE: Final = ("httpx", "httpcore.connection", "httpcore.proxy", "httpcore.http11")
_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


class RequestFailed(Exception):
    """A request brought no answer that can be used; the text says why."""

    def __init__(
        self, reason: str, *, status: int | None = None, again_after: float = 0.0, final: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        """The answer's, if there is one."""
        self.again_after = again_after
        """Seconds for which the server wants to be left in peace."""
        self.final = final
        """Whether it is of no use to ask again."""


class AskFailed(DownloadFailed):
    """A small request failed for good; the text says what was asked of whom, and why."""

    def __init__(self, text: str, status: int | None) -> None:
        super().__init__(text)
        self.status = status
        """The last answer's, if there was one."""


@asynccontextmanager
async def open_client() -> AsyncIterator[httpx.AsyncClient]:
    """Open what all requests of a download go through; use it within one event loop.

    Raises:
        DownloadFailed: What the environment says about proxies or certificates cannot be used.
    """
    client = await anyio.to_thread.run_sync(make_client)
    async with client:
        yield client


def make_client(*, connect: float = CONNECT, silence: float = SILENCE) -> httpx.AsyncClient:
    """Make a client as the environment wants it; to be called in a thread.

    Args:
        connect: Seconds for a server to take a connection.
        silence: Seconds that it may be silent.

    Raises:
        DownloadFailed: What the environment says about proxies or certificates cannot be used.
    """
    import httpx  # noqa: PLC0415 - see above

    for name in _TALKATIVE:
        logging.getLogger(name).addFilter(_is_not_ours)
    try:
        return httpx.AsyncClient(
            timeout=httpx.Timeout(silence, connect=connect, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
            headers={"user-agent": f"foundry-proto/{__version__}"},
            event_hooks={"request": [_leave_no_handshake]},
        )
    except (httpx.InvalidURL, ValueError, ImportError, OSError) as error:
        raise DownloadFailed(
            "expected proxies and certificates that can be used in the environment (HTTPS_PROXY,"
            f" SSL_CERT_FILE and the like), got: {reason_of(error)}"
        ) from error


async def _leave_no_handshake(request: httpx.Request) -> None:
    """Have the connection closed if TLS does not come about on it: a hook of a client for each request.

    Of itself httpcore 1.0 does that where the handshake fails, and leaves the socket to the garbage collector
    where it is cancelled.

    Args:
        request: What is about to be sent.
    """
    begun: list[Any] = []

    async def trace(name: str, info: Mapping[str, Any]) -> None:
        if name.endswith("connect_tcp.complete"):
            begun.append(info["return_value"])
        elif name.endswith("start_tls.failed"):
            with anyio.CancelScope(shield=True):
                await begun[-1].aclose()

    request.extensions["trace"] = trace


def _is_not_ours(_record: logging.LogRecord) -> bool:
    return not _quiet.get()


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the HTTP client from logging addresses and headers."""
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


async def ask(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    json: Any = None,
    params: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    what: str,
    most_bytes: int = 64 * _MIB,
    attempts: int = 4,
) -> httpx.Response:
    """Make a small request whose answer is read whole; one that fails in passing is made again.

    Args:
        client: As `open_client` gives it.
        method: It must not matter if it is carried out twice.
        url: Where.
        json: The body, if there is one.
        params: Added to the address.
        headers: Of the request. They do not go to another host, wherever a redirect leads.
        what: What is asked for, as an error says it.
        most_bytes: The most bytes of the answer.
        attempts: How often to try.

    Returns:
        An answer of success, with its body.

    Raises:
        AskFailed: There is none.
    """
    import httpx  # noqa: PLC0415 - see above

    delay = _FIRST_DELAY
    for attempt in range(1, attempts + 1):
        try:
            request = client.build_request(method, url, json=json, params=params, headers=headers)
            async with answer_to(client, request, own=headers or ()) as answer:
                body = await _whole(answer, most_bytes)
            # The body is decoded: what says otherwise goes.
            kept = [
                (name, value)
                for name, value in answer.headers.multi_items()
                if name not in {"content-encoding", "content-length", "transfer-encoding"}
            ]
            return httpx.Response(answer.status_code, headers=kept, content=body, request=answer.request)
        except (httpx.InvalidURL, UnicodeError) as error:
            raise AskFailed(f"{what}: {shown(url)}: {reason_of(error)}", None) from error
        except RequestFailed as error:
            if error.final or attempt == attempts:
                raise AskFailed(f"{what}: {shown(url)}: {error.reason}", error.status) from error
            # Nobody gains by guessing it.
            await anyio.sleep(max(delay * (0.5 + random.random() / 2), error.again_after))  # noqa: S311
            delay *= 2
    raise AssertionError("attempts: expected at least one")


async def _whole(answer: httpx.Response, most_bytes: int) -> bytes:
    body = bytearray()
    async with pieces_of(answer.aiter_bytes()) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) > most_bytes:
                raise RequestFailed(f"expected at most {most_bytes} bytes, got more", final=True)
    return bytes(body)


@asynccontextmanager
async def answer_to(
    client: httpx.AsyncClient, request: httpx.Request, *, own: Collection[str] = ()
) -> AsyncIterator[httpx.Response]:
    """Send a request, follow where its answers lead, and give the answer of success; its body is yet to come.

    Args:
        client: As `open_client` gives it.
        request: What to send.
        own: Names of headers that do not go to another host; `Authorization` and cookies never do.

    Raises:
        RequestFailed: There is no such answer, or it broke off while it was read in the block.
    """
    import httpx  # noqa: PLC0415 - see above

    with _quietly():
        try:
            answer = await _follow(client, request, own)
            try:
                _check_status(answer)
                yield answer
            finally:
                with anyio.CancelScope(shield=True):
                    await answer.aclose()
        except httpx.HTTPError as error:
            raise _failure(error) from error


async def _follow(client: httpx.AsyncClient, request: httpx.Request, own: Collection[str]) -> httpx.Response:
    for _ in range(_MOST_REDIRECTS + 1):
        answer = await client.send(request, stream=True)
        following = answer.next_request
        if following is None:
            return answer
        await _read_out(answer)
        here, there = request.url, following.url
        if here.scheme == "https" and there.scheme != "https":
            raise RequestFailed(f"expected a redirect to https, got {shown(str(there))}", final=True)
        if (here.scheme, here.netloc) != (there.scheme, there.netloc):
            for name in (*own, "authorization", "cookie"):
                following.headers.pop(name, None)
            own = ()
        request = following
    raise RequestFailed(f"expected at most {_MOST_REDIRECTS} redirects, got more", final=True)


async def _read_out(answer: httpx.Response) -> None:
    """Leave an answer whose body is of no interest: read, if it is short, so that the connection stays."""
    try:
        if _length(answer) <= _SHORT:
            await answer.aread()
    finally:
        with anyio.CancelScope(shield=True):
            await answer.aclose()


def _length(answer: httpx.Response) -> int:
    text = answer.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else _SHORT + 1


def _check_status(answer: httpx.Response) -> None:
    status = answer.status_code
    if answer.is_success:
        return
    passes = status in _PASSING or status >= 500
    reason = f"{status} {status_phrase(status)}".rstrip()
    again_after = _again_after(answer) if passes else 0.0
    if again_after > _LONGEST_WAIT:
        reason, passes = f"{reason}, not to be asked again for {again_after:.0f} seconds", False
    raise RequestFailed(reason, status=status, again_after=again_after, final=not passes)


def _again_after(answer: httpx.Response) -> float:
    """For how many seconds a server wants to be left in peace (RFC 9110, section 10.2.3)."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    with suppress(ValueError, TypeError):
        return max(0.0, (_date(text) - _now(answer)).total_seconds())
    return 0.0


def _now(answer: httpx.Response) -> datetime:
    """What time it is for the server, whose clock may differ from ours."""
    with suppress(ValueError, TypeError):
        return _date(answer.headers.get("date", ""))
    return datetime.now(UTC)


def _date(text: str) -> datetime:
    date = parsedate_to_datetime(text)
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)


def _failure(error: httpx.HTTPError) -> RequestFailed:
    """Say why there is no answer, or no more of it, and whether there may be one later."""
    import httpx  # noqa: PLC0415 - see above

    reason = reason_of(error)
    match error:
        case httpx.ConnectTimeout():
            return RequestFailed(f"no connection within {CONNECT:g} seconds")
        case httpx.TimeoutException():
            return RequestFailed("silent for too long")
        case httpx.ProxyError():
            # The proxy's own refusal is the error's text.
            return RequestFailed(f"the proxy refused: {reason}", final=reason.startswith("4"))
        case httpx.UnsupportedProtocol():
            return RequestFailed(f"expected http or https: {reason}", final=True)
        case httpx.ConnectError():
            if _is_about_certificates(error):
                hint = "SSL_CERT_FILE can name the authority that signed it"
                return RequestFailed(f"cannot trust the server: {reason} ({hint})", final=True)
            return RequestFailed(f"cannot connect: {reason}")
        case _:
            return RequestFailed(f"the connection was lost: {reason}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _is_about_certificates(error: BaseException) -> bool:
    # On one of the loops the cause is lost, and only its text is left.
    return any(
        isinstance(cause, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(cause)
        for cause in _causes(error)
    )


def reason_of(error: BaseException) -> str:
    """What an error says, or the one that led to it: on some loops the HTTP client's own say nothing."""
    return next(filter(None, map(str, _causes(error))), type(error).__name__)


@asynccontextmanager
async def pieces_of(pieces: AsyncIterator[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    """Read an answer's body, piece by piece. It may be left at any point.

    The client has generators within generators, which only end in good order when the innermost does: whoever
    leaves early has that one's read cancelled.

    Args:
        pieces: As the client gives them.
    """
    import httpx  # noqa: PLC0415 - see above

    try:
        yield pieces
    finally:
        with suppress(httpx.HTTPError), anyio.move_on_after(0):
            async for _ in pieces:
                pass


def shown(url: str) -> str:
    """An address as it may be told: without what may be secret in it."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "an address that is none"
    return f"{parts.scheme}://{host}{parts.path}"[:300] if host else url.partition("?")[0][:300]
