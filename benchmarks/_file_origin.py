"""An origin of files for measurements: HTTP with ranges, out of the page cache and past the interpreter.

It speaks as much of the Hugging Face hub as its client needs to fetch a file. Run by other benchmarks:
`_file_origin.py FOLDER` says its port, and serves until its standard input ends.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

_COMMIT: Final = "0" * 40


def _serve(connection: socket.socket, folder: Path) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    waiting = b""
    with suppress(OSError), connection:
        while True:
            while b"\r\n\r\n" not in waiting:
                if not (data := connection.recv(1 << 16)):
                    return
                waiting += data
            head, _, waiting = waiting.partition(b"\r\n\r\n")
            _answer(connection, head.decode("latin-1"), folder)


def _answer(connection: socket.socket, head: str, folder: Path) -> None:
    method, target, _ = head.split(" ", 2)
    path = folder / target.partition("?")[0].rpartition("/")[2]
    if "/resolve/" not in target and not path.is_file():
        connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        return
    size = path.stat().st_size
    found = re.search(r"(?im)^range: bytes=(\d+)-(\d*)", head)
    start = int(found[1]) if found else 0
    stop = int(found[2]) + 1 if found and found[2] else size
    etag = hashlib.sha256(path.name.encode()).hexdigest()
    lines = [
        "HTTP/1.1 206 Partial Content" if found else "HTTP/1.1 200 OK",
        f"Content-Length: {stop - start}",
        f'ETag: "{etag}"',
        f"X-Repo-Commit: {_COMMIT}",
        "Accept-Ranges: bytes",
        *([f"Content-Range: bytes {start}-{stop - 1}/{size}"] if found else []),
    ]
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    if method == "HEAD":
        return
    with path.open("rb") as file:
        while start < stop:
            start += os.sendfile(connection.fileno(), file.fileno(), start, stop - start)


def main(arguments: Sequence[str]) -> None:
    folder = Path(arguments[0])
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        print(listener.getsockname()[1], flush=True)

        def accept() -> None:
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=_serve, args=(connection, folder), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1:])
