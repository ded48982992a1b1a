"""Print what happens at a server: models that come and go, downloads, requests. Needs trio-websocket.

python watch.py ws://127.0.0.1:5272/foundry/watch
"""

from __future__ import annotations

import json
import sys
from typing import Any
from urllib.parse import urlsplit

import trio
from trio_websocket import ConnectionClosed, wrap_client_stream

WISH = {"type": "watch", "topics": ["models", "downloads", "requests"]}
DEFAULT = "ws://127.0.0.1:5272/foundry/watch"


def line(message: dict[str, Any]) -> str:
    """Say in words what a message tells."""
    match message:
        case {"type": "model", "model": model, "state": "failed", "reason": reason}:
            return f"{model}: could not be loaded: {reason}"
        case {"type": "model", "model": model, "state": state}:
            return f"{model}: {state}"
        case {"type": "download", "model": model, "fraction": fraction, "file": file}:
            return f"{model}: {fraction:.1%} {file}"
        case {"type": "downloaded", "model": model, "success": True}:
            return f"{model}: downloaded"
        case {"type": "downloaded", "model": model, "errorMessage": why}:
            return f"{model}: not downloaded: {why}"
        case {"type": "request", "operation": operation, "status": status, "seconds": seconds}:
            return f"{operation}: {status} after {seconds:.2f} s"
        case {"type": "generation", "model": model, "completionTokens": tokens, "seconds": seconds}:
            return f"{model}: {tokens} tokens in {seconds:.2f} s"
        case other:
            return json.dumps(other)  # of a newer server, or an error


async def main(url: str) -> None:
    """Watch one server, until it closes."""
    at = urlsplit(url)
    # A connection of our own, since trio-websocket leaves one open that its server closes.
    async with (
        await trio.open_tcp_stream(at.hostname or "", at.port or 80) as tcp,
        trio.open_nursery() as tasks,
    ):
        socket = await wrap_client_stream(tasks, tcp, at.netloc, at.path)
        await socket.send_message(json.dumps(WISH))
        try:
            while True:
                print(line(json.loads(await socket.get_message())), flush=True)
        except ConnectionClosed as closed:
            print(f"closed: {closed.reason}")


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else DEFAULT)
