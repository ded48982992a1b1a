"""Web sites on the loopback interface for tests of who fetches from them: each remembers what it was asked.

They run in threads of their own, so that one loop or the other, and child processes, can ask them.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

from attrs import define, field, frozen

__all__ = ["Asked", "Said", "Site", "content", "running_site"]


@frozen(kw_only=True)
class Asked:
    """A request."""

    method: str
    target: str
    """As it came, with its query."""
    headers: Mapping[str, str]
    """By name in lower case."""
    body: bytes

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))


@frozen
class Said:
    """An answer."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(factory=dict)
    hold: tuple[int, threading.Event] | None = None
    """After how many bytes of the body nothing comes, until when."""


@define
class Site:
    """A site that is up."""

    url: str
    asked: list[Asked] = field(factory=list)
    """All requests, in the order in which they came."""

    def of(self, path: str) -> list[Asked]:
        """The requests whose path has this in it."""
        return [one for one in self.asked if path in one.path]


_OPEN = threading.Event()
_OPEN.set()


def content(asked: Asked, data: bytes, headers: Mapping[str, str] | None = None) -> Said:
    """A file's content, or the range of it that was asked for."""
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.headers.get("range", ""))
    more = {"accept-ranges": "bytes", **(headers or {})}
    if not wanted:
        return Said(200, data, more)
    start, stop = int(wanted[1]), min(int(wanted[2] or len(data)) + 1, len(data))
    if start >= len(data):
        return Said(416, b"", {"content-range": f"bytes */{len(data)}"})
    more["content-range"] = f"bytes {start}-{stop - 1}/{len(data)}"
    return Said(206, data[start:stop], more)


@contextmanager
def running_site(answer: Callable[[Asked], Said]) -> Iterator[Site]:
    """Run a site; `answer` is called in a thread per connection."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(method=self.command, target=self.path, headers=headers, body=body)
            site.asked.append(asked)
            said = answer(asked)
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(said.body)))
            self.end_headers()
            if self.command != "HEAD":
                count, gate = said.hold or (0, _OPEN)
                self.wfile.write(said.body[:count])
                gate.wait()
                self.wfile.write(said.body[count:])

        do_GET = do_POST = do_HEAD = _answer  # noqa: N815 - the names that the base class calls

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            """A client that hangs up is no news."""

    server = Server(("127.0.0.1", 0), Handler)
    site = Site(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
