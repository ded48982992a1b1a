"""One range of a file over HTTP.

Knows: which answer is the range that was asked for, and when one that comes too slowly is given up.
Refuses to know: what becomes of the bytes, and whether it is asked for again.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import anyio
from attrs import define, field

from foundry_proto.transfer import Range
from foundry_runtime.download.fetching.remote import Limits, RemoteFile
from foundry_runtime.download.http import CONNECT, RequestFailed, answer_to, pieces_of, reason_of

if TYPE_CHECKING:
    import httpx

__all__ = ["Body", "NoRanges", "range_of"]

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,20})-(\d{1,20})/(\d{1,20}|\*)")


class NoRanges(RequestFailed):
    """The server gives whole files only."""


@define(eq=False)
class Body:
    """The bytes of a range, in pieces: all of them, or it raises.

    Raises:
        RequestFailed: They are not as many as they should be, or come too slowly.
    """

    _pieces: AsyncIterator[bytes]
    _skip: int
    """How many bytes come before the range."""
    _left: int
    _and_no_more: bool
    """Whether the answer ends with the range."""
    _limits: Limits
    _since: float = field(init=False, factory=anyio.current_time)
    _came: int = field(init=False, default=0)
    """Bytes since then."""

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> bytes:
        """Wait for further bytes of the range; the last ones come when the answer has ended, as it should."""
        while self._left:
            piece = await self._next()
            if piece is None:
                raise RequestFailed(f"the answer ended {self._left} bytes early")
            skipped = min(self._skip, len(piece))
            self._skip -= skipped
            piece = piece[skipped:] if skipped else piece
            if len(piece) >= self._left and self._and_no_more:
                more = await self._next()
                if len(piece) > self._left or more:
                    raise RequestFailed("expected the bytes that were asked for, got more")
            if piece:
                piece = piece[: self._left]
                self._left -= len(piece)
                return piece
        raise StopAsyncIteration

    async def _next(self) -> bytes | None:
        piece = await anext(self._pieces, None)
        if piece is not None:
            self._watch(len(piece))
        return piece

    def _watch(self, count: int) -> None:
        """See whether enough comes: a connection that gives a byte now and then is as good as lost."""
        self._came += count
        now = anyio.current_time()
        if now - self._since >= self._limits.silence:
            if self._came < self._limits.least:
                raise RequestFailed(f"too slow: {self._came} bytes in {now - self._since:.0f} seconds")
            self._since, self._came = now, 0


@asynccontextmanager
async def range_of(
    client: httpx.AsyncClient, remote: RemoteFile, wanted: Range, limits: Limits
) -> AsyncIterator[Body]:
    """Ask for a range, and give its bytes.

    Raises:
        NoRanges: The server does not know ranges, and the file is larger than one.
        RequestFailed: The answer is another one, or breaks off; also while it is read in the block.
    """
    import httpx  # noqa: PLC0415 - see `http.py`

    size = remote.wanted.size
    headers = {**remote.headers, "accept-encoding": "identity"}
    if (wanted.start, wanted.stop) != (0, size):
        headers["range"] = f"bytes={wanted.start}-{wanted.stop - 1}"
    timeout = httpx.Timeout(limits.silence, connect=min(CONNECT, limits.silence), pool=None)
    try:
        request = client.build_request("GET", remote.url, headers=headers, timeout=timeout)
    except (httpx.InvalidURL, ValueError) as error:
        raise RequestFailed(
            f"expected an address, got one that is none: {reason_of(error)}", final=True
        ) from error
    async with answer_to(client, request, own=remote.headers.keys()) as answer:
        first, last = _check(answer, wanted, size, limits)
        async with pieces_of(answer.aiter_raw()) as pieces:
            yield Body(pieces, wanted.start - first, wanted.stop - wanted.start, last == wanted.stop, limits)


def _check(answer: httpx.Response, wanted: Range, size: int, limits: Limits) -> tuple[int, int]:
    """See whether it is the range, or all of the file; gives where it begins and stops."""
    coding = answer.headers.get("content-encoding", "identity").strip().lower()
    if coding not in {"identity", ""}:
        raise RequestFailed(f"expected the bytes as they are, got Content-Encoding {coding[:40]}", final=True)
    if answer.status_code == 206:
        start, stop = wanted.start, wanted.stop
        given = answer.headers.get("content-range", "nothing")
        found = _CONTENT_RANGE.fullmatch(given.strip())
        if (
            found is None
            or (int(found[1]), int(found[2])) != (start, stop - 1)
            or (found[3] != "*" and int(found[3]) != size)
        ):
            raise RequestFailed(f"expected bytes {start}-{stop - 1}/{size}, got {given[:80]}")
    elif answer.status_code == 200:
        start, stop = 0, size
        if (wanted.start, wanted.stop) != (0, size) and size > limits.range_size:
            raise NoRanges("the server gives whole files only")
    else:
        raise RequestFailed(f"expected status 200 or 206, got {answer.status_code}")
    length = answer.headers.get("content-length")
    if length is not None and length.strip() != str(stop - start):
        raise RequestFailed(f"expected {stop - start} bytes, got a Content-Length of {length[:40]}")
    return start, stop
