"""Requests out of the bytes of one connection: heads whole and strict, bodies as they come.

Knows: what a strict server refuses that h11 lets pass; where a request ends, so that what follows is the next
one's; when the connection must end with the answer.
Refuses to know: what a request means, whether its body is wanted, and what is answered (`server.py`).

The laws:
- Any cut of the same bytes gives the same requests, or the same refusal.
- Bytes wait in one buffer, which remembers where it was searched; a head is looked at up to the limit and no
  further.
- No byte of the next request is taken with this one's.

Source: RFC 9112; its sections are named beside what implements them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast

import h11
from attrs import define, field

from foundry_proto._headers import wants_close
from foundry_proto.connection._h11 import feed, in_words
from foundry_proto.connection.terms import Limits
from foundry_proto.errors import RemoteProtocolError
from foundry_proto.events import Failure, Headers, header

__all__ = ["RequestReader", "malformed"]

# What h11 lets pass and a strict server must not (RFC 9112, sections 2.2 and 5.2): a bare LF or CR, a header
# folded over lines, NUL. A parser in front of this one might have read something else there.
_FORBIDDEN: Final = re.compile(rb"\x00|\r(?!\n)|(?<!\r)\n|\r\n[ \t]")
_FORBIDDEN_NAMES: Final[Mapping[bytes, str]] = {
    b"\x00": "NUL",
    b"\r": "bare CR and no folded header",
    b"\n": "bare LF",
}
_HEAD_END: Final = b"\r\n\r\n"
# A name or an IPv4 address, or an address in brackets, and a port; also nothing (RFC 3986, section 3.2.2).
_HOST: Final = re.compile(rb"(?:[\w.~!$&'()*+,;=%-]*|\[[\w.:~%]+\])(?::[0-9]*)?", re.ASCII)


@define
class RequestReader:
    """The requests of one connection, one after the other: `begin`, then a head, then its body."""

    _limits: Limits
    _http: h11.Connection = field(init=False)
    _input: bytearray = field(init=False, factory=bytearray)
    _searched: int = field(init=False)
    """How much of the input was searched for a head's end."""
    _fed: bytes = field(init=False)
    """What h11 was given last of a chunked body, and four bytes before it."""
    rest: int | None = field(init=False)
    """Bytes of the request's body that were not taken yet; `None` while only h11 can know."""
    awaits_continue: bool = field(init=False)
    """Whether the client waits for `100 Continue` before it sends the body (RFC 9110, section 10.1.1)."""
    knows_chunks: bool = field(init=False)
    """Whether the client knows chunks (RFC 9112, section 6.1: not with HTTP/1.0)."""
    is_last: bool = field(init=False)
    """Whether the connection ends with the answer to this request."""

    def __attrs_post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Wait for the next request."""
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=self._limits.head)
        self._searched = 0
        self._fed = b""
        self.rest = 0
        self.awaits_continue = self.knows_chunks = self.is_last = False

    @property
    def waiting(self) -> int:
        """Bytes that have come and were not taken."""
        return len(self._input)

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the peer."""
        self._input += data

    def take_rest(self) -> bytes:
        """Take all that waits, whatever it is."""
        rest = bytes(self._input)
        self._input.clear()
        return rest

    def take_head(self) -> tuple[str, str, Headers] | None:
        """Take a request's head, once it is there.

        Returns:
            Method, target and headers; what they say of framing is known to the reader from here on.

        Raises:
            RemoteProtocolError: It is none that a strict server accepts.
        """
        head = self._take_raw_head()
        if head is None:
            return None
        self._http.receive_data(head)
        request = self._parse()
        if not request.http_version.startswith(b"1."):
            version = request.http_version.decode()
            raise malformed(f"expected HTTP/1.1 or HTTP/1.0, got HTTP/{version}", 505)
        # As they stood, and lowered here: one by one, h11 gives them at four times the price.
        headers: Headers = tuple([(name.lower(), value) for name, value in request.headers.raw_items()])
        host = header(headers, b"host") or b""
        if _HOST.fullmatch(host) is None:  # RFC 9112, section 3.2 demands the refusal.
            raise malformed(f"host: expected a name or an address, got {host[:80].decode('latin-1')!r}")
        length = header(headers, b"content-length")
        coding = header(headers, b"transfer-encoding")
        self.awaits_continue = self._http.they_are_waiting_for_100_continue
        self.rest = None if coding is not None else int(length or 0)
        self.knows_chunks = request.http_version >= b"1.1"
        # A length and a coding at once may be an attempt to smuggle a request: RFC 9112, section 6.1 demands
        # the close. Otherwise the client does (section 9.3), or its version.
        both = coding is not None and length is not None
        self.is_last = both or not self.knows_chunks or wants_close(headers)
        if request.http_version == b"1.0":
            # To be ignored there (RFC 9110, section 7.8).
            headers = tuple(one for one in headers if one[0] != b"upgrade")
        return request.method.decode(), request.target.decode(), headers

    def _take_raw_head(self) -> bytes | None:
        """Take a whole head from the input, once it is there and contains nothing forbidden."""
        # A server ignores an empty line before the request line (RFC 9112, section 2.2).
        while self._input.startswith(b"\r\n"):
            del self._input[:2]
        if not self._input:
            return None
        # Nothing beyond the limit is looked at: what is wrong with a head must not depend on how it was cut.
        limit = self._limits.head
        start = max(0, self._searched - len(_HEAD_END) + 1)
        end = self._input.find(_HEAD_END, start, limit)
        stop = end + len(_HEAD_END) if end >= 0 else min(len(self._input), limit)
        # A CR that is the last byte so far may yet be followed by its LF.
        stop -= self._input.endswith(b"\r", 0, stop)
        if (found := _FORBIDDEN.search(self._input, start, stop)) is not None:
            raise malformed(f"expected no {_FORBIDDEN_NAMES[found[0][:1]]} in a request's head")
        if end < 0:
            if len(self._input) > limit:
                raise malformed(f"expected a request's head of at most {limit} bytes, got more", 431)
            self._searched = stop
            return None
        head = bytes(self._input[:stop])
        del self._input[:stop]
        # The request line, the headers, the empty line: each ends with one.
        if head.count(b"\r\n") > self._limits.headers + 2:
            raise malformed(f"expected at most {self._limits.headers} headers, got more", 431)
        return head

    def take_body(self) -> bytes | bytearray:
        """Take what is here of the body; nothing when all is taken, and `rest` is then 0 at its end.

        Raises:
            RemoteProtocolError: It is not framed as HTTP/1.1 wants it.
        """
        self.awaits_continue = self.awaits_continue and not self._input
        if self.rest is not None:
            data = self._input[: self.rest]
            del self._input[: self.rest]
            self.rest -= len(data)
            return data
        while (part := self._parse()) is h11.NEED_DATA:
            if not self._input:
                return b""
            fed = feed(self._http, self._input, self._limits.head)
            self._fed = self._fed[-len(_HEAD_END) :] + fed
        if isinstance(part, h11.Data):
            return cast("bytearray", part.data)
        self._take_back()
        return b""

    def _take_back(self) -> None:
        """Take what h11 was given beyond a chunked body's end: it is the next request's."""
        behind = self._http.trailing_data[0]
        # h11 ends trailers at bare LFs, too; where they end, a parser in front of this one must agree.
        if not self._fed.removesuffix(behind).endswith(_HEAD_END):
            raise malformed("expected CRLF CRLF at the end of a chunked body")
        self._input[:0] = behind
        self.rest = 0

    def forget_body(self) -> bool:
        """Forget what is here of a body that nobody wants; whether that was the last of it."""
        while self.rest != 0 and self.take_body():
            pass
        return self.rest == 0

    def _parse(self) -> Any:
        """Give h11's next event; its types are not known to checkers."""
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise malformed(in_words(error), error.error_status_hint) from error


def malformed(message: str, status: int = 400) -> RemoteProtocolError:
    """Make the error for a request whose framing is broken, with the answer to it."""
    return RemoteProtocolError(message, Failure(status=status, message=message))
