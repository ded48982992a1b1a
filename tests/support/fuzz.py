"""Feeds parsers what nobody would write, for as long as is asked: `python -m tests.support.fuzz TARGET`.

Input is random bytes, or what is nearly right: pieces of right input, cut, doubled, swapped and sprinkled with
bytes that mean something. A target raises on the first input that breaks its promise; then the smallest such
input is shown, and belongs into `CRASHES`. `--atheris` lets atheris, where it is installed, choose the input by
what of the code it reaches. The test-suite runs each target for a moment (`tests/support/test_fuzz.py`).
"""

# ruff: noqa: E501 - a row is a line

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.database import InMemoryExampleDatabase

from foundry_proto.catalog import canonical_id, versioned_id
from foundry_proto.codec import ContentError, decode
from foundry_proto.connection import ClientConnection, Limits, ServerConnection
from foundry_proto.errors import RemoteProtocolError
from foundry_proto.events import Response
from foundry_proto.messages.chat import ChatCompletionRequest, UserMessage
from foundry_proto.operations import ALL, CHAT_COMPLETIONS
from foundry_proto.paths import is_file_name, split_path
from foundry_proto.progress import ProgressDecoder
from foundry_proto.sentinels import NEED_DATA
from foundry_proto.sse import SSEDecoder
from foundry_runtime.importers._reader import GgufFile
from foundry_runtime.importers.errors import UnsupportedModel
from foundry_runtime.models.directory import ModelDirectory
from tests.support.connections import Driver

__all__ = ["CRASHES", "SECONDS", "TARGETS", "fuzz", "inputs"]

SECONDS: Final = 2.0
"""What one input may take."""
MEMORY: Final = 64 * 1024 * 1024
"""Bytes that one input may cost."""

Target = Callable[[bytes], None]


def _cut(data: bytes) -> list[bytes]:
    """Cut input where it says itself: each piece's length is a byte of it."""
    pieces, at = [], 0
    while at < len(data):
        size = 1 + data[at] % 61
        pieces.append(data[at : at + size])
        at += size
    return pieces


def server(data: bytes) -> None:
    """Any bytes give events or `RemoteProtocolError`, and the same ones however they are cut."""
    limits = Limits(head=2000, drain=500, waiting=500, body=5000)
    seen = []
    for pieces in ([data], _cut(data)):
        driver = Driver(ServerConnection(ALL, limits=limits), lambda _: (Response(value=None),))
        driver.feed(*pieces)
        driver.end()
        seen.append((driver.seen(), driver.output))
    assert seen[0] == seen[1], "cut otherwise, it means something else"


def client(data: bytes) -> None:
    """Any bytes give an answer or `RemoteProtocolError`, whether the call is streamed or not."""
    for stream in (False, True):
        connection = ClientConnection("localhost", limit=100_000)
        question = (UserMessage(role="user", content="x"),)
        connection.call(CHAT_COMPLETIONS, ChatCompletionRequest(model="m", messages=question, stream=stream))
        try:
            for piece in _cut(data):
                connection.receive_data(piece)
                while connection.next_event() is not NEED_DATA:
                    pass
            connection.receive_eof()
            while connection.next_event() is not NEED_DATA:
                pass
        except RemoteProtocolError:
            pass


def _decoder(make: Callable[[], SSEDecoder | ProgressDecoder]) -> Target:
    def target(data: bytes) -> None:
        """Any bytes give events or `RemoteProtocolError`."""
        decoder = make()
        try:
            for piece in _cut(data):
                decoder.receive_data(piece)
                while decoder.next_event() not in (NEED_DATA, None):
                    pass
            decoder.receive_eof()
            while decoder.next_event() not in (NEED_DATA, None):
                pass
        except RemoteProtocolError:
            pass

    return target


def codec(data: bytes) -> None:
    """Any bytes give a message or `ContentError`."""
    for operation in ALL:
        if operation.has_body:
            try:
                decode(operation.request, data)
            except ContentError:
                pass


def gguf(data: bytes) -> None:
    """Any file gives its tensors' names or `UnsupportedModel`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.gguf")
        path.write_bytes(data)
        try:
            with GgufFile(path) as file:
                for tensor in file.tensors.values():
                    file.rows(tensor, 0, 1)
        except UnsupportedModel:
            pass


def names(data: bytes) -> None:
    """No name leads out of the folder where models are, whichever way it comes."""
    home = ModelDirectory(Path("/home/models"))
    inside = home.models
    for text in (data.decode("utf-8", "replace"), data.decode("latin-1")):
        canonical_id(text)
        with suppress(ValueError):
            versioned_id(text)
        if (parts := split_path(text)) is not None:
            assert all(map(is_file_name, parts)), parts
        publisher, _, name = text.partition("/")
        for one in (text, publisher, name):
            try:
                path = home.path_for(publisher, one)
            except ValueError:
                continue
            assert path.parent.parent == inside, path
            assert ".." not in path.parts
    match = ALL.match("/openai/load/" + data.decode("latin-1"))
    if match is not None:
        for value in match.params.values():
            value.encode()


_REQUEST: Final = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
_REPLY: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_CHAT: Final = b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true,"temperature":0.5}'
_GGUF: Final = (
    b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0"
    b"\x14\0\0\0\0\0\0\0general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0llama"
    b"\x01\0\0\0\0\0\0\0x\x09\0\0\0\x04\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0"
    b"\x01\0\0\0\0\0\0\0t\x01\0\0\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
)

# fmt: off
TARGETS: Final[dict[str, tuple[Target, Sequence[bytes]]]] = {
    "server": (
        server,
        (_REQUEST, b"GET /openai/status HTTP/1.1\r\nHost: x\r\n\r\n", b"2\r\n{}\r\n0\r\n\r\n", b"chunked", b"Transfer-Encoding: "),
    ),
    "client": (
        client,
        (_REPLY, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"6\r\ndata: \r\n", b"data: [DONE]\n\n", b"0\r\n\r\n"),
    ),
    "sse": (_decoder(lambda: SSEDecoder(max_event_size=2000)), (b"data: x\n\n", b"event: y\r\n", b"id: 1\r", b"retry: 5\n", b"\xef\xbb\xbf", b":")),
    "progress": (
        _decoder(lambda: ProgressDecoder(max_event_size=2000)),
        (b'("file", 0.5)\n', b"Total 12.50% Downloading file\n", b"[DONE] All Completed!\n", b'{"success":true,"errorMessage":null}'),
    ),
    "codec": (codec, (_CHAT, b'"tools":[{"type":"function","function":{"name":"f","parameters":{}}}]', b'{"a":[', b"\\ud83d", b"1e400")),
    "gguf": (gguf, (_GGUF, _GGUF[:24], b"\xff" * 8, b"\0" * 8)),
    "names": (names, (b"..%2f..%2fetc", b"Microsoft/phi-4:1", b"../", b"..\\", b"%00", b"CON", b":", b"/", b"%c0%ae")),
}
"""What is fed, and pieces of what it reads."""
# fmt: on

CRASHES: Final[dict[str, Sequence[bytes]]] = dict.fromkeys(TARGETS, ())
"""What has broken a promise once, by target."""

_SPICE: Final = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b":",
    b"0",
    b"-1",
    b"\xff",
    b'"',
    b"{",
    b"[",
    b"%",
    b"\xc3",
    b"9" * 30,
)


def inputs(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Random bytes, and what is nearly right."""
    piece = st.one_of(st.sampled_from((*seeds, *_SPICE)), st.binary(max_size=12))
    cut = st.tuples(st.sampled_from(seeds), st.integers(0, 200), st.integers(0, 200)).map(
        lambda one: one[0][min(one[1:]) : max(one[1:])]
    )
    return st.one_of(st.binary(max_size=300), st.lists(st.one_of(piece, cut), max_size=14).map(b"".join))


def checked(target: Target, data: bytes) -> None:
    """Run a target on one input: it keeps its promise, in time."""
    begin = time.perf_counter()
    target(data)
    assert time.perf_counter() - begin < SECONDS, f"took longer than {SECONDS:g} s"


def fuzz(name: str, seconds: float) -> int:
    """Feed a target for a while; gives the number of inputs, or raises with the smallest that fails."""
    target, seeds = TARGETS[name]
    deadline, count = time.monotonic() + seconds, 0
    for data in CRASHES[name]:
        checked(target, data)
    strategy = inputs(seeds)
    while time.monotonic() < deadline:

        @settings(
            max_examples=300,
            deadline=None,
            database=InMemoryExampleDatabase(),
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def feed(data: bytes) -> None:
            nonlocal count
            count += 1
            if time.monotonic() < deadline:
                checked(target, data)

        feed()
    return count


def _fuzz_with_atheris(name: str, seconds: float) -> None:
    atheris: Any = import_module("atheris")  # an extra

    target, seeds = TARGETS[name]
    rng = random.Random(0)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        rng.seed(seed)
        if rng.random() < 0.5:
            at = rng.randrange(len(data) + 1)
            return (data[:at] + rng.choice((*seeds, *_SPICE)) + data[at:])[:most]
        mutated: bytes = atheris.Mutate(data, most)
        return mutated

    atheris.instrument_all()
    atheris.Setup(
        [sys.argv[0], f"-max_total_time={seconds:g}", "-timeout=2", "-rss_limit_mb=2048"],
        lambda data: checked(target, data),
        custom_mutator=mutate,
    )
    atheris.Fuzz()


def main() -> None:
    """Fuzz from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--atheris", action="store_true", help="let atheris choose the input")
    given_ = parser.parse_args()
    if given_.atheris:
        _fuzz_with_atheris(given_.target, given_.seconds)
        return
    tracemalloc.start()
    count = fuzz(given_.target, given_.seconds)
    peak = tracemalloc.get_traced_memory()[1]
    assert peak < MEMORY, f"cost {peak} bytes"
    megabytes = peak / 1024**2
    print(f"{given_.target}: {count} inputs in {given_.seconds:g} s, at most {megabytes:.1f} MB; no failure")  # noqa: T201


if __name__ == "__main__":
    main()
