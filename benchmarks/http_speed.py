"""How fast HTTP is: requests a second and time per streamed chunk, against uvicorn with h11 and Starlette.

Run: `python benchmarks/http_speed.py`; needs no model. All servers answer with the same bytes, which is
checked first; they run in processes of their own and are measured in turns, the client being this process.
Plain requests go over eight connections at once, with one request on its way on each; a stream has its
connection to itself, and each of its chunks is sent by itself. The limits compare medians of one run; the
exit status is 1 when one is missed.

The file is not called `http.py` since Python's own `http` could then not be imported by any program here.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from statistics import median
from time import perf_counter
from typing import Final

from _common import HERE, Report, chat_request, parser, user

RUNS: Final = 7
CONNECTIONS: Final = 8
REQUESTS: Final = 4_000
STREAMS: Final = 4
PEER: Final = "uvicorn (h11) + Starlette"
NATIVE: Final = "this server, asyncio"
TRIO: Final = "this server, trio"
MOUNTED: Final = "this application under uvicorn (httptools)"
MOUNTED_SLOWLY: Final = "this application under uvicorn (h11)"
KINDS: Final = (
    PEER,
    NATIVE,
    TRIO,
    MOUNTED,
    MOUNTED_SLOWLY,
    "bare anyio + h11, asyncio",
    "bare anyio + h11, trio",
    "prepared bytes, no server",
)
PLAIN_LIMITS: Final[Mapping[str, float]] = {NATIVE: 0.9, TRIO: 1.05}
STREAM_LIMITS: Final[Mapping[str, float]] = {NATIVE: 1.5, TRIO: 1.5}
MOUNTED_LIMIT: Final = 1.3
"""How many times the native server's time the application may take under another server, whichever way that
parses HTTP: uvicorn takes httptools where it finds it, and h11 where not."""

_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"


def plain_request(port: int) -> bytes:
    """A request with the headers that a client's library sends."""
    return (
        f"GET /openai/status HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: application/json\r\n"
        "Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nUser-Agent: http-speed/1\r\n\r\n"
    ).encode()


def stream_request(port: int) -> bytes:
    body = chat_request("m", [user("Say something.")], stream=True)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: application/json\r\n"
        "Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nUser-Agent: http-speed/1\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def read_plain(connection: socket.socket) -> bytes:
    """One reply with a `Content-Length`."""
    data = connection.recv(1 << 16)
    while True:
        head, found, body = data.partition(b"\r\n\r\n")
        if found:
            length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
            assert length is not None, head
            if len(body) == int(length[1]):
                return body
        more = connection.recv(1 << 16)
        assert more, f"the server closed the connection behind {data[-200:]!r}"
        data += more


def read_stream(connection: socket.socket) -> bytes:
    """One reply in chunks, framing and all."""
    pieces = [b""]
    while not (pieces[-1].endswith(_LAST_CHUNK) or b"".join(pieces[-2:]).endswith(_LAST_CHUNK)):
        pieces.append(connection.recv(1 << 16))
        assert pieces[-1], "the server closed the connection"
    return b"".join(pieces)


def body_of_stream(reply: bytes) -> bytes:
    rest, body = reply.partition(b"\r\n\r\n")[2], b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body


def requests_a_second(port: int, requests: int) -> float:
    """Requests a second over several connections, each with one on its way."""
    request = plain_request(port)
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(port)) for _ in range(CONNECTIONS)]
        start = perf_counter()
        for connection in connections:
            connection.sendall(request)
        for number in range(requests):
            connection = connections[number % CONNECTIONS]
            data = connection.recv(1 << 16)
            assert data.startswith(b"HTTP/1.1 200 OK\r\n"), data
            while b"\r\n\r\n" not in data or not data.endswith(b"}"):  # some send head and body apart
                data += connection.recv(1 << 16)
            if number < requests - CONNECTIONS:
                connection.sendall(request)
        return requests / (perf_counter() - start)


def chunk_time(port: int, streams: int) -> float:
    """Microseconds from the first to the last chunk of a stream, by chunk."""
    request = stream_request(port)
    times = []
    with connect(port) as connection:
        for _ in range(streams):
            connection.sendall(request)
            data = connection.recv(1 << 16)
            start = perf_counter()
            pieces = [data]
            while not pieces[-1].endswith(_LAST_CHUNK):
                pieces.append(connection.recv(1 << 16))
                if len(pieces[-1]) < len(_LAST_CHUNK):
                    pieces[-2:] = [pieces[-2] + pieces[-1]]
            end = perf_counter()
            chunks = sum(piece.count(b"\ndata: ") for piece in pieces[1:])
            times.append((end - start) / chunks * 1e6)
    return median(times)


@contextmanager
def server(kind: str) -> Iterator[int]:
    """A server in a process of its own; gives the port."""
    command = [sys.executable, str(HERE / "_http_servers.py"), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            yield int(child.stdout.readline())
        finally:
            child.terminate()
            child.wait()


def check_bytes(ports: Mapping[str, int]) -> None:
    """See that all say the same."""
    bodies: dict[str, tuple[bytes, bytes]] = {}
    for kind, port in ports.items():
        with connect(port) as connection:
            connection.sendall(plain_request(port))
            plain = read_plain(connection)
            connection.sendall(stream_request(port))
            bodies[kind] = plain, body_of_stream(read_stream(connection))
    assert len(set(bodies.values())) == 1, {kind: (a[:200], b[-200:]) for kind, (a, b) in bodies.items()}


def main() -> int:
    made = parser(__doc__)
    made.add_argument("--runs", type=int, default=RUNS, help=f"turns ({RUNS})")
    options = made.parse_args()
    plain: dict[str, list[float]] = {kind: [] for kind in KINDS}
    streamed: dict[str, list[float]] = {kind: [] for kind in KINDS}
    report = Report(
        title="HTTP: requests a second, and microseconds per streamed chunk",
        columns=("what", "server", "median", "lowest", "highest", f"times {PEER}", "limit"),
        notes=(
            f"Medians of {options.runs} turns, each of {REQUESTS} requests and {STREAMS} streams.",
            "More than 1.0 times is faster.",
        ),
    )
    with ExitStack() as stack:
        ports = {kind: stack.enter_context(server(kind)) for kind in KINDS}
        check_bytes(ports)
        for run in range(options.runs + 1):
            for kind, port in ports.items():
                rate, time = requests_a_second(port, REQUESTS), chunk_time(port, STREAMS)
                if run:  # the first one warms up
                    plain[kind].append(rate)
                    streamed[kind].append(time)
    for kind, rates in plain.items():
        ratio = median(rates) / median(plain[PEER])
        least = PLAIN_LIMITS.get(kind)
        limit = "" if least is None else report.check(f"{kind}, plain", ratio, least=least)
        report.add("requests/s", kind, median(rates), min(rates), max(rates), ratio, limit)
    for kind, times in streamed.items():
        ratio = median(streamed[PEER]) / median(times)
        least = STREAM_LIMITS.get(kind)
        limit = "" if least is None else report.check(f"{kind}, streamed", ratio, least=least)
        report.add("µs/chunk", kind, median(times), min(times), max(times), ratio, limit)
    for kind in (MOUNTED, MOUNTED_SLOWLY):
        for what, share in (
            ("requests/s", median(plain[NATIVE]) / median(plain[kind])),
            ("µs/chunk", median(streamed[kind]) / median(streamed[NATIVE])),
        ):
            limit = report.check(f"{kind}, {what}, of the native server's", share, most=MOUNTED_LIMIT)
            report.add(what, f"{kind}: times {NATIVE}", share, None, None, None, limit)
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
