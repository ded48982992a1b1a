"""A proxy on this machine, in threads: it tunnels (CONNECT), passes on (an absolute address), and tells."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from attrs import define, field

__all__ = ["Proxy", "proxy"]


@define
class Proxy:
    """What it was asked."""

    url: str
    asked: list[str] = field(factory=list)
    """Method and address."""
    refusal: int | None = None
    """The status with which it refuses."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def do_GET(self) -> None:
        self.proxy.asked.append(f"GET {self.path}")
        parts = urlsplit(self.path)
        connection = HTTPConnection(parts.netloc)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "proxy-connection"}
        connection.request("GET", f"{parts.path}?{parts.query}".rstrip("?"), headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        connection.close()

    def do_CONNECT(self) -> None:
        self.proxy.asked.append(f"CONNECT {self.path}")
        self.close_connection = True
        if self.proxy.refusal is not None:
            self.send_error(self.proxy.refusal)
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as there:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_pass_on, args=(there, self.connection))
            back.start()
            _pass_on(self.connection, there)
            back.join()

    def log_message(self, *_args: object) -> None:
        pass


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def proxy() -> Iterator[Proxy]:
    """Run one for as long as the block takes."""
    made = Proxy("")
    handler = type("Handler", (_Handler,), {"proxy": made})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        made.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()
