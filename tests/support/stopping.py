"""A real server that gets SIGTERM in the middle of everything, and what its clients see then.

    python -m tests.support.stopping

prints a table of all ways, with the seconds from the signal to the end of the process. The tests play some.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Literal, get_args

import anyio
import trustme
from attrs import field, frozen

from foundry_runtime.download.delivery import Delivery, deliver
from foundry_runtime.download.sources.api import WantedModel
from foundry_runtime.models.directory import ModelDirectory
from tests.support.masking import CLOSE, frame
from tests.support.origin import Origin, origin
from tests.support.remote_source import LIST, RemoteSource, model_files
from tests.support.slow_server import LOADING, SECONDS, STREAMING, STUCK
from tests.support.tiny_model import tiny_model_folder

__all__ = ["MODES", "Mode", "stop_amid_everything"]

MODEL: Final = "tiny-random-generic-cpu"
STREAMS: Final = 4
PATIENCE: Final = 60
"""Seconds behind which something has not happened: less than what must not be waited for takes."""
SIZE: Final = 1_000_000
GOOD_BYE: Final = (1001).to_bytes(2) + b"the server is stopping"

Loop = Literal["asyncio", "trio"]
Phase = Literal["loading", "stuck", "prefill", "cut", "finished"]


@frozen(kw_only=True)
class Mode:
    """In the middle of what, and of which server."""

    phase: Phase
    """`stuck`: a load that would not end; `cut`: answers that would not; `finished`: answers and a download
    that end while they may."""
    runtime: Loop
    tls: bool = False
    isolate: bool = False

    def __str__(self) -> str:
        more = ("TLS" if self.tls else "", "isolated" if self.isolate else "")
        return ", ".join(filter(None, (self.phase, self.runtime, *more)))

    @property
    def drain(self) -> float:
        """Seconds that answers have."""
        return 600 if self.phase == "finished" else 0.3


PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
LOOPS: Final[tuple[Loop, ...]] = get_args(Loop)
MODES: Final = tuple(
    Mode(phase=phase, runtime=runtime, tls=tls, isolate=isolate)
    for phase, runtime, tls, isolate in itertools.product(PHASES, LOOPS, (False, True), (False, True))
)


@frozen
class _Clients:
    """Who has connections to the server."""

    host: str
    port: int
    trust: ssl.SSLContext | None
    stack: ExitStack = field(factory=ExitStack)

    def connect(self, head: str, body: str = "") -> socket.socket:
        """Ask for something on a connection of its own."""
        sock = self.stack.enter_context(socket.create_connection((self.host, self.port), timeout=PATIENCE))
        if self.trust is not None:
            sock = self.stack.enter_context(self.trust.wrap_socket(sock, server_hostname="localhost"))
        if body:
            head += f"Content-Length: {len(body)}\r\n"
        sock.sendall(f"{head}Host: localhost:{self.port}\r\n\r\n{body}".encode())
        return sock

    def chat(self, **more: Any) -> socket.socket:
        """Ask for a streamed answer."""
        message = {"role": "user", "content": "Hello " * 20}
        body = json.dumps({"model": MODEL, "messages": [message], "stream": True, **more})
        return self.connect("POST /v1/chat/completions HTTP/1.1\r\n", body)

    def download(self, url: str) -> socket.socket:
        """Ask for a model."""
        body = json.dumps({"model": {"Name": "other:1", "Uri": url, "ProviderType": "Test"}})
        return self.connect("POST /openai/download HTTP/1.1\r\n", body)

    def websocket(self) -> socket.socket:
        """Open one."""
        return self.connect(
            "GET /foundry/watch HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        )


def _until(sock: socket.socket, what: bytes) -> bytes:
    """What comes until something has come."""
    said = b""
    while what not in said:
        piece = sock.recv(65536)
        assert piece, f"expected {what!r}, got the end behind {said!r}"
        said += piece
    return said


def _rest(sock: socket.socket) -> bytes:
    """What comes until the end, however it ends."""
    said = b""
    try:
        while piece := sock.recv(65536):
            said += piece
    except ConnectionResetError:
        pass
    return said


@contextmanager
def _slow_server(
    home: ModelDirectory, mode: Mode, certificate: Path | None
) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    phase = mode.phase if mode.phase in SECONDS else STREAMING
    variables = {
        **os.environ,
        "FOUNDRY_RUNTIME": mode.runtime,
        "FOUNDRY_DRAIN": str(mode.drain),
        "FOUNDRY_ISOLATE": str(mode.isolate).lower(),
        "FOUNDRY_TLS_CERT": "" if certificate is None else str(certificate),
        "FOUNDRY_HOME": str(home.home),
    }
    command = [sys.executable, "-m", "tests.support.slow_server", str(home.home), phase]
    with subprocess.Popen(
        command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            host, _, port = server.stdout.readline().strip().rpartition("://")[2].partition(":")
            assert server.stdout.readline() == "serving\n"
            yield server, host, int(port)
        finally:
            server.kill()


def _children(pid: int) -> list[int]:
    """Its child processes, whichever thread began them, where the system tells."""
    told = Path("/proc").glob(f"{pid}/task/*/children")
    return [int(child) for one in told for child in one.read_text().split()]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def stop_amid_everything(mode: Mode, folder: Path) -> float:
    """Play it, and check what all see.

    Args:
        mode: How.
        folder: An empty one.

    Returns:
        Seconds from the signal to the end of the process.
    """
    home = ModelDirectory(folder / "home")
    (target := home.models / "Test").mkdir(parents=True)
    tiny_model_folder(target)
    authority, certificate, trust = trustme.CA(), None, None
    if mode.tls:
        certificate, trust = folder / "server.pem", ssl.create_default_context()
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
        authority.configure_trust(trust)
    with (
        origin(files=model_files(SIZE), rate=20_000) as remote,
        _slow_server(home, mode, certificate) as (server, host, port),
    ):
        clients = _Clients(host, port, trust)
        with clients.stack:
            took = _play(mode, clients, server, remote)
    _check_files(home, remote, finished=mode.phase == "finished")
    return took


def _play(mode: Mode, clients: _Clients, server: subprocess.Popen[str], remote: Origin) -> float:
    assert server.stdout is not None
    assert server.stderr is not None
    idle = clients.connect("GET /openai/status HTTP/1.1\r\n")
    _until(idle, b"}")
    watching = clients.websocket()
    _until(watching, b"\r\n\r\n")
    download = clients.download(remote.url)
    _until(download, b"model.onnx.data")
    asked = {"logit_bias": {"0": -100, "2": -100}, "max_tokens": 20 if mode.phase == "finished" else 400}
    if mode.phase in {"cut", "finished"}:
        streams = [clients.chat(**asked) for _ in range(STREAMS)]
        for stream in streams:
            _until(stream, b'"content"')
    else:
        streams = [clients.chat(**asked)]
        assert server.stdout.readline() == "within\n"
    children = _children(server.pid)
    if sys.platform == "linux" and mode.phase not in {LOADING, STUCK}:  # there, it may not have begun
        assert len(children) == mode.isolate
    began = time.monotonic()
    server.send_signal(signal.SIGTERM)
    if mode.phase == "finished":
        remote.rate = None
        remote.stopping.set()
    said = _until(watching, GOOD_BYE)
    assert said
    watching.sendall(frame(CLOSE, GOOD_BYE[:2]))
    assert _rest(idle) == b""
    for stream in streams:
        answer = _rest(stream)
        assert (b"data: [DONE]" in answer) == (mode.phase == "finished"), answer
    end = _rest(download)
    assert (b'"success":true' in end) == (mode.phase == "finished"), end
    rest = server.stdout.read()
    assert server.wait(PATIENCE) == 0
    took = time.monotonic() - began
    assert "stopping\n" in rest
    # It is at its end when nobody has it any more: no child process either.
    told = server.stderr.read()
    assert re.fullmatch(r".*not waited for.*\n" if mode.phase == STUCK else "", told), told
    deadline = time.monotonic() + PATIENCE  # the system ends those whose parent was ended, in its own time
    while any(map(_runs, children)):
        assert time.monotonic() < deadline, f"{children} still run"
        time.sleep(0.01)
    return took


def _check_files(home: ModelDirectory, remote: Origin, *, finished: bool) -> None:
    """What is there is whole, and what is not yet can be gone on with: nothing is locked."""
    assert ("other:1" in {entry.id for entry in home.entries()}) == finished
    assert not list(home.home.rglob(".*.????????????????"))
    before = sum(asked.sent for asked in remote.asked if asked.path != LIST)

    async def go_on() -> None:
        with origin(files=remote.files) as again, anyio.fail_after(PATIENCE):
            wanted = WantedModel(id="other:1", uri=again.url, publisher="")
            await deliver(Delivery(model=wanted, source=RemoteSource(), directory=home))
            assert sum(asked.sent for asked in again.asked if asked.path != LIST) <= SIZE + 200 - before / 2

    if not finished:
        anyio.run(go_on)
        assert "other:1" in {entry.id for entry in home.entries()}


def _main() -> None:
    print("# From SIGTERM to the end of the process\n")  # noqa: T201
    print("| in the middle of | seconds to the end |\n|---|---|")  # noqa: T201
    for mode in MODES:
        folder = Path(tempfile.mkdtemp())
        try:
            took = stop_amid_everything(mode, folder)
        finally:
            shutil.rmtree(folder)
        print(f"| {mode} | {took:.1f} |", flush=True)  # noqa: T201


if __name__ == "__main__":
    _main()
