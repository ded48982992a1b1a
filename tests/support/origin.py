"""An origin of files over HTTP on this machine, which does wrong what its script says.

Knows: ranges, and each fault that a line or a server can have; what was asked for, and how much was sent.
Refuses to know: any test framework, and who asks. It runs in threads, so that no event loop of who is tested
is its own.
"""

from __future__ import annotations

import gzip
import re
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from attrs import define, field, frozen

__all__ = ["Asked", "Fault", "Origin", "origin"]

_PIECE: Final = 256 * 1024


@frozen(kw_only=True)
class Fault:
    """What is wrong with one answer; of what is not said, nothing is."""

    status: int | None = None
    """In place of 200 or 206, with an empty body."""
    headers: Mapping[str, str] = field(factory=dict)
    """Set, in place of what is right."""
    cut: int | None = None
    """The connection is lost after so many bytes of the body."""
    stall: int | None = None
    """Nothing more comes after so many bytes of the body."""
    rate: float | None = None
    """Bytes a second."""
    whole: bool = False
    """Ranges are not understood."""
    corrupt: bool = False
    """Each byte is another one."""
    shift: int = 0
    """By how many bytes the range begins too late."""
    longer: int = 0
    """How many bytes come too many, in chunks, so that no length says so."""
    zipped: bool = False
    """The bytes come compressed."""
    silent: bool = False
    """Not even a head comes."""


@define
class Asked:
    """One request, and what came of it."""

    path: str
    """With its query."""
    range: str | None
    headers: Mapping[str, str]
    """Of the request, in lower case."""
    when: float = field(factory=time.monotonic)
    sent: int = 0
    """Bytes of the body."""
    ended: bool = False
    """Whether all of it went."""


Script = Callable[[str, str | None], Fault | None]


@define(eq=False)
class Origin:
    """Files by path, and the faults that come over who asks for them."""

    files: dict[str, bytes] = field(factory=dict)
    """With a slash in front. An address may have any query."""
    faults: dict[str, list[Fault]] = field(factory=dict)
    """By path: each is for one request, the first for the next."""
    always: Script = field(default=lambda path, ranges: None)
    """Says what is wrong with a request whose path has no fault left."""
    rate: float | None = None
    """Bytes a second, of each connection."""
    pages: Callable[[str], bytes | None] = field(default=lambda path: None)
    """What else there is, by path with query."""
    asked: list[Asked] = field(factory=list)
    url: str = ""
    """Where it is."""
    stopping: threading.Event = field(factory=threading.Event)

    @property
    def sent(self) -> int:
        """Bytes of all bodies."""
        return sum(asked.sent for asked in self.asked)

    def count(self, path: str) -> int:
        """How often a path was asked for."""
        return sum(asked.path.partition("?")[0] == path for asked in self.asked)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    origin: Origin

    def do_GET(self) -> None:
        origin = self.origin
        path = self.path.partition("?")[0]
        asked = Asked(self.path, self.headers.get("range"), {k.lower(): v for k, v in self.headers.items()})
        origin.asked.append(asked)
        faults = origin.faults.get(path)
        fault = (faults.pop(0) if faults else origin.always(self.path, asked.range)) or Fault()
        content = origin.files.get(path)
        if content is None:
            content = origin.pages(self.path)
        if fault.silent:
            origin.stopping.wait()
            self.close_connection = True
        elif content is None and fault.status is None:
            self._answer(404, {}, [b""], asked, fault)
        elif fault.status is not None:
            self._answer(fault.status, dict(fault.headers), [b""], asked, fault)
        else:
            self._file(content or b"", asked, fault)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.do_GET()

    def _file(self, content: bytes, asked: Asked, fault: Fault) -> None:
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", asked.range or "")
        start, stop, status, headers = 0, len(content), 200, {}
        if found and not fault.whole:
            start, stop = int(found[1]) + fault.shift, min(int(found[2]) + 1, len(content))
            if start >= len(content):
                self._answer(416, {"Content-Range": f"bytes */{len(content)}"}, [b""], asked, fault)
                return
            status = 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        body = memoryview(content)[start:stop]
        if fault.corrupt:
            body = memoryview(bytes(byte ^ 0x55 for byte in body))
        if fault.longer:
            body = memoryview(bytes(body) + b"x" * fault.longer)
            headers["Transfer-Encoding"] = "chunked"
        if fault.zipped:
            body = memoryview(gzip.compress(body))
            headers["Content-Encoding"] = "gzip"
        self._answer(status, {**headers, **fault.headers}, [body], asked, fault)

    def _answer(
        self,
        status: int,
        headers: Mapping[str, str],
        body: Sequence[bytes | memoryview],
        asked: Asked,
        fault: Fault,
    ) -> None:
        length = sum(map(len, body))
        given = {"Content-Length": str(length), **headers}
        chunked = "Transfer-Encoding" in given
        if chunked:
            del given["Content-Length"]
        self.send_response_only(status)
        for name, value in given.items():
            self.send_header(name, value)
        self.end_headers()
        for piece in self._paced(body[0], fault):
            self._send(b"%x\r\n%b\r\n" % (len(piece), bytes(piece)) if chunked else piece)
            asked.sent += len(piece)
        if chunked:
            self._send(b"0\r\n\r\n")
        asked.ended = True

    def _paced(self, body: bytes | memoryview, fault: Fault) -> Iterator[bytes | memoryview]:
        """The body in pieces, at its pace, up to where it breaks off."""
        rate = fault.rate or self.origin.rate
        most = _PIECE if rate is None else max(1, min(_PIECE, int(rate / 100)))
        end = min((one for one in (fault.cut, fault.stall) if one is not None), default=len(body))
        begun = time.monotonic()
        for position in range(0, min(end, len(body)), most):
            yield body[position : min(position + most, end)]
            if rate is not None:
                due = begun + (position + most) / rate
                self.origin.stopping.wait(max(0.0, due - time.monotonic()))
        if fault.stall is not None:
            self.origin.stopping.wait()
        if fault.stall is not None or fault.cut is not None:
            # With a reset, as lines are lost.
            linger = b"\x01\0\0\0\0\0\0\0"
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            raise _Cut

    def _send(self, data: bytes | memoryview) -> None:
        self.connection.sendall(data)

    def handle(self) -> None:
        with suppress(_Cut, OSError):
            super().handle()

    def log_message(self, *_args: object) -> None:
        pass


class _Cut(Exception):
    """The connection is lost."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        raise AssertionError from sys.exception()


@contextmanager
def origin(*, tls: ssl.SSLContext | None = None, **more: object) -> Iterator[Origin]:
    """Serve for as long as the block takes."""
    made = Origin(**more)  # type: ignore[arg-type]
    handler = type("Handler", (_Handler,), {"origin": made})
    with _Server(("127.0.0.1", 0), handler) as server:
        port = server.server_address[1]
        made.url = f"http://127.0.0.1:{port}"
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
            made.url = f"https://localhost:{port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield made
        finally:
            made.stopping.set()
            server.shutdown()
            thread.join()
