"""What a crowd costs one who streams: idle connections, and readers that take a little at a time.

Run: `python benchmarks/connections.py`. One server (a scripted engine in a thread of its own, over loopback)
streams one answer, chunk by chunk, alone and among 1,000 idle connections that are kept alive and 200 readers
that take 1 KB a second of a large reply; runs alternate, on asyncio and on trio. What counts is the median
time between two of the stream's chunks. The client is this process: plain sockets, and a thread for the slow
readers. Connections cost memory; how much is read from the server's process. The limits of connections and of
open files are raised for this. The exit status is 1 when a limit is missed.
"""

from __future__ import annotations

import re
import resource
import socket
import sys
import threading
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final

from _common import HERE, Report, chat_request, parser, process, user

RUNS: Final = 1
IDLE: Final = 1000
SLOW: Final = 200
RATE: Final = 1024
"""Bytes a second that a slow reader takes."""
CHUNKS: Final = 400
LIMIT: Final = 20.0
"""Per cent."""
RUNTIMES: Final = ("asyncio",)
GET: Final = b"GET /openai/status HTTP/1.1\r\nHost: localhost\r\n\r\n"


def request(model: str) -> bytes:
    body = chat_request(model, [user("say it")], stream=True)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def connect(port: int, *, small: bool = False) -> socket.socket:
    sock = socket.socket()
    if small:  # so that it is the server which waits, not this machine's buffers that fill
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    return sock


def stream(port: int) -> float:
    """The median time between two chunks, in microseconds."""
    with connect(port) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(request("stream"))
        times, seen = [], b""
        while not seen.endswith(b"0\r\n\r\n"):
            seen += sock.recv(1 << 16)
            times.append(perf_counter())
            seen = seen[-16:]
        assert len(times) > CHUNKS // 2, f"expected a read a chunk, got {len(times)} reads"
        return median(1e6 * (late - early) for early, late in pairwise(times))


class Crowd:
    """Idle connections, and readers that take a little at a time."""

    def __init__(self, port: int) -> None:
        self._over = threading.Event()
        self._idle = [connect(port) for _ in range(IDLE)]
        for sock in self._idle:
            sock.sendall(GET)
            assert sock.recv(4096).startswith(b"HTTP/1.1 200 ")
        self._slow = [connect(port, small=True) for _ in range(SLOW)]
        for sock in self._slow:
            sock.sendall(request("large"))
        self._thread = threading.Thread(target=self._read_slowly)
        self._thread.start()

    def _read_slowly(self) -> None:
        while not self._over.wait(1 / 4):
            for number, sock in enumerate(self._slow):
                if number % 50 == 0:
                    time.sleep(0.001)
                sock.recv(RATE // 4)

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        for sock in (*self._idle, *self._slow):
            sock.close()


def resident(pid: int) -> float:
    """The memory of a process, in KB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return float(found[1])


def memory_per_idle(port: int, pid: int) -> float:
    """KB of the server's for each idle connection."""
    before = resident(pid)
    with ExitStack() as stack:
        for _ in range(IDLE):
            sock = stack.enter_context(connect(port))
            sock.sendall(GET)
            assert sock.recv(4096).startswith(b"HTTP/1.1 200 ")
        time.sleep(0.3)
        return (resident(pid) - before) / IDLE


def run(runtime: str, report: Report) -> None:
    with process(HERE, str(HERE / "_crowd_server.py"), runtime) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        stream(port)  # the first of all is slower
        per_idle = memory_per_idle(port, server.pid)
        time.sleep(0.5)
        alone, among = [], []
        for _ in range(RUNS):
            alone.append(stream(port))
            crowd = Crowd(port)
            time.sleep(1.0)
            among.append(stream(port))
            crowd.close()
            time.sleep(0.5)
        longer = 100 * (median(among) / median(alone) - 1)
        shown = [f"{median(one):.0f} ({min(one):.0f} to {max(one):.0f})" for one in (alone, among)]
        checked = report.check(f"{runtime}: a chunk's time, longer by", longer, most=LIMIT)
        report.add(runtime, *shown, longer, checked, round(per_idle, 1))


def main() -> int:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    options = parser(__doc__).parse_args()
    report = Report(
        f"One stream among {IDLE} idle connections and {SLOW} slow readers",
        (
            "runtime",
            "alone, µs a chunk (least to most)",
            "among them",
            "longer by, %",
            "limit",
            "KB for an idle connection",
        ),
        notes=(
            f"Medians of {RUNS} runs each, alternating; a run is the median over a stream of {CHUNKS} chunks.",
            f"The scripted engine takes 1 ms a step. A slow reader takes {RATE} bytes a second.",
        ),
    )
    for runtime in RUNTIMES:
        run(runtime, report)
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
