"""Feeds parsers what nobody would write, for as long as is asked: `python -m tests.support.fuzz TARGET`.

Input is random bytes, or what is nearly right: pieces of right input, cut, doubled, swapped and sprinkled with
bytes that mean something; of each there come `CHANGES` more, changed in a place or two. A target raises on the
first input that breaks its promise; then the smallest such input is shown, and belongs into `CRASHES`.
`tests/support/fuzz_atheris.py` feeds the same targets with what atheris chooses by the code that it reaches;
`tests/support/fuzz_all.py` runs all; the test-suite runs each target for a moment (`tests/support/test_fuzz.py`).
"""

# ruff: noqa: E501 - a row is a line

from __future__ import annotations

import argparse
import random
import tempfile
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

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
from foundry_runtime.websocket.frames import Frames
from tests.support.connections import Driver
from tests.support.masking import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame

__all__ = [
    "CHANGES",
    "CRASHES",
    "MEMORY",
    "SECONDS",
    "SPICE",
    "TARGETS",
    "Broken",
    "changed",
    "checked",
    "fuzz",
    "inputs",
    "judged",
    "said",
    "smallest",
]

SECONDS: Final = 2.0
"""What one input may take, of the processor's time."""
MEMORY: Final = 64 * 1024 * 1024
"""Bytes that one input may cost, where they are counted."""
CHANGES: Final = 30
"""How often each input that was drawn is changed: to draw one takes longer than to read one."""


class Broken(Exception):
    """A parser has broken its promise.

    Args:
        data: The smallest input found that does it.
    """

    def __init__(self, name: str, data: bytes, error: BaseException) -> None:
        super().__init__(f"{name}: {error!r} for {data!r}")
        self.data = data


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


def websocket(data: bytes) -> None:
    """Any frames give texts and an end, and the same ones however they are cut."""
    seen = []
    for pieces in ([data], _cut(data)):
        frames, events = Frames(limit=1000), []
        for piece in pieces:
            frames.receive_data(piece)
            while (event := frames.next_event()) is not NEED_DATA:
                events.append(event)
        frames.receive_eof()
        while (event := frames.next_event()) is not NEED_DATA:
            events.append(event)
        seen.append(events)
    assert seen[0] == seen[1], f"cut otherwise, it means something else: {seen}"


_REQUEST: Final = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
_REPLY: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_CHAT: Final = b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true,"temperature":0.5}'


def _gguf(kind: int, size: int) -> bytes:
    """A model file with one tensor: 32 weights of a kind, in so many bytes."""
    head = (
        b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0"
        b"\x14\0\0\0\0\0\0\0general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0llama"
        b"\x01\0\0\0\0\0\0\0x\x09\0\0\0\x04\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0"
        b"\x01\0\0\0\0\0\0\0t\x01\0\0\0\x20\0\0\0\0\0\0\0" + kind.to_bytes(4, "little") + bytes(8)
    )
    return head + bytes(-len(head) % 32) + bytes(size)


_GGUF: Final = _gguf(0, 128)

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
    "gguf": (gguf, (_GGUF, _gguf(1, 64), _gguf(3, 20), _gguf(8, 34), _GGUF[:24], b"\xff" * 8, b"\0" * 8)),
    "websocket": (
        websocket,
        (frame(TEXT, "grün".encode()), frame(TEXT, b"\xc3", fin=False), frame(CONTINUATION, b"\xbc"), frame(CONTINUATION, b"\xff", fin=False), frame(PING, b"you?"), frame(PONG), frame(BINARY, b"\0"), frame(CLOSE, b"\x03\xe8bye"), frame(TEXT, b"x" * 126)[:8], b"\x81\xff"),
    ),
    "names": (names, (b"..%2f..%2fetc", b"Microsoft/phi-4:1", b"../", b"..\\", b"%00", b"CON", b":", b"/", b"%c0%ae")),
}
"""What is fed, and pieces of what it reads."""
# fmt: on

CRASHES: Final[dict[str, Sequence[bytes]]] = dict.fromkeys(TARGETS, ()) | {
    # The reason of the end told where in its piece the byte stood.
    "websocket": (b"\x81\x85\x03\x04fp\xc0\xb8\xc0",),
}
"""What has broken a promise once, by target."""

SPICE: Final = (
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
"""Bytes that mean something in many a format."""


def inputs(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Random bytes, and what is nearly right."""
    piece = st.one_of(st.sampled_from((*seeds, *SPICE)), st.binary(max_size=12))
    cut = st.tuples(st.sampled_from(seeds), st.integers(0, 200), st.integers(0, 200)).map(
        lambda one: one[0][min(one[1:]) : max(one[1:])]
    )
    return st.one_of(st.binary(max_size=300), st.lists(st.one_of(piece, cut), max_size=14).map(b"".join))


def changed(data: bytes, seeds: Sequence[bytes]) -> Iterator[bytes]:
    """The same in other words: `CHANGES` inputs that follow from this one alone, each near to the one before it."""
    rng = random.Random(zlib.crc32(data))
    original = data
    for turn in range(CHANGES):
        if turn % 5 == 0:
            data = original
        at, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        match rng.randrange(6):
            case 0:
                data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
            case 1:
                data = data[:at] + data[end:]
            case 2:
                data = data[:end] + data[at:]
            case 3:
                data = data[end:] + data[:at]
            case 4 if at < len(data):
                data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
            case _:
                data = data[:at] + rng.choice((*seeds, *SPICE)) + data[at:]
        yield data[:2000]


def checked(target: Target, data: bytes) -> None:
    """Run a target on one input: it keeps its promise, in time, and in little memory where that is counted."""
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()  # nothing, where nothing is counted
    begin = time.thread_time()
    target(data)
    assert time.thread_time() - begin < SECONDS, f"took longer than {SECONDS:g} s"
    cost = tracemalloc.get_traced_memory()[1] - before
    assert cost < MEMORY, f"cost {cost} bytes"


def smallest(target: Target, data: bytes, kind: type[BaseException]) -> bytes:
    """An input that fails in the same way, and from which no piece can be taken."""

    def fails(one: bytes) -> bool:
        try:
            checked(target, one)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            return isinstance(error, kind)
        return False

    size = max(len(data) // 2, 1)
    while size:
        at = 0
        while at < len(data):
            if fails(without := data[:at] + data[at + size :]):
                data = without
            else:
                at += size
        size //= 2
    return data


def judged(name: str, data: bytes) -> None:
    """Feed a target once.

    Raises:
        Broken: The input broke the promise.
    """
    target, _ = TARGETS[name]
    try:
        checked(target, data)
    except Exception as error:
        raise Broken(name, smallest(target, data, type(error)), error) from error


def fuzz(name: str, seconds: float) -> int:
    """Feed a target for so many seconds of the processor's time; gives the number of inputs.

    Raises:
        Broken: An input broke the promise.
    """
    _, seeds = TARGETS[name]
    deadline, count = time.process_time() + seconds, 0

    def feed(data: bytes) -> None:
        nonlocal count
        count += 1
        judged(name, data)

    @settings(
        max_examples=300,
        deadline=None,
        database=InMemoryExampleDatabase(),
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs(seeds))
    def feed_some(data: bytes) -> None:
        for one in (data, *changed(data, seeds)):
            if time.process_time() < deadline:
                feed(one)

    for data in CRASHES[name]:
        feed(data)
    while time.process_time() < deadline:
        feed_some()
    return count


def said(name: str, count: int, seconds: float) -> str:
    """What a run prints that found nothing."""
    return f"{name}: {count} inputs in {seconds:g} s of the processor's time; no failure"


def main() -> None:
    """Fuzz from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=float, default=600.0, help="of the processor's time")
    given_ = parser.parse_args()
    tracemalloc.start()
    print(said(given_.target, fuzz(given_.target, given_.seconds), given_.seconds))  # noqa: T201


if __name__ == "__main__":
    main()
