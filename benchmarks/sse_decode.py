"""How fast server-sent events are decoded, against the decoders that Python clients of chat servers use.

Run: `python benchmarks/sse_decode.py` with the `peers` extra. Every decoder gets the same stream of 271-byte
chat chunks, cut into 4096-byte pieces, one event a piece, and 64-byte pieces; the runs are interleaved, so
that noise hits all alike, and the medians are compared. The exit status is 1 when a peer, used as its users
use it, is faster at any size; httpx-sse's two decoders driven by hand are shown beside it.
"""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from statistics import median
from time import perf_counter

import httpx
import httpx_sse
from httpx_sse._decoders import SSEDecoder as HttpxSSEDecoder
from httpx_sse._decoders import SSELineDecoder
from openai._streaming import SSEDecoder as OpenAIDecoder

from _common import Report, parser
from foundry_proto.sentinels import NEED_DATA
from foundry_proto.sse import SSEDecoder

EVENTS = 2000
RUNS = 15
CHUNK = (
    b'data: {"choices":[{"delta":{"content":" blue"},"finish_reason":null,"index":0,"logprobs":null}],'
    b'"created":1700000000,"id":"chatcmpl-0123456789abcdef0123456789abcd","model":"smollm2-135m-instruct-generic-'
    b'cpu:1","object":"chat.completion.chunk","system_fingerprint":null}\n\n'
)
BY_HAND = "httpx-sse, by hand"
SIZES = {"4096 bytes": 4096, "one event": len(CHUNK), "64 bytes": 64}


def ours(pieces: list[bytes]) -> int:
    decoder = SSEDecoder(max_event_size=1 << 20)
    count = 0
    for piece in pieces:
        decoder.receive_data(piece)
        while decoder.next_event() is not NEED_DATA:
            count += 1
    decoder.receive_eof()
    assert decoder.next_event() is None
    return count


class _Body(httpx.SyncByteStream):
    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)


def httpx_sse_events(pieces: list[bytes]) -> int:
    """The way that its users have: events of a response."""
    response = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=_Body(pieces))
    return sum(1 for _ in httpx_sse.EventSource(response).iter_sse())


def httpx_sse_bare(pieces: list[bytes]) -> int:
    """Its two decoders alone, driven by hand: no response, no generator, no limits."""
    utf8 = codecs.getincrementaldecoder("utf-8")("replace")
    lines, decoder = SSELineDecoder(), HttpxSSEDecoder()
    count = 0
    for piece in pieces:
        for line in lines.decode(utf8.decode(piece)):
            if decoder.decode(line) is not None:
                count += 1
    return count


def openai_events(pieces: list[bytes]) -> int:
    return sum(1 for _ in OpenAIDecoder().iter_bytes(iter(pieces)))


DECODERS: dict[str, Callable[[list[bytes]], int]] = {
    "foundry_proto": ours,
    "httpx-sse": httpx_sse_events,
    BY_HAND: httpx_sse_bare,
    "openai": openai_events,
}


def measure(pieces: list[bytes]) -> dict[str, float]:
    """Return each decoder's median, in microseconds an event."""
    times: dict[str, list[float]] = {name: [] for name in DECODERS}
    for run in range(RUNS + 1):
        for name, decode in DECODERS.items():
            start = perf_counter()
            count = decode(pieces)
            elapsed = perf_counter() - start
            assert count == EVENTS, f"{name}: expected {EVENTS} events, got {count}"
            if run:  # the first one warms up
                times[name].append(elapsed / EVENTS * 1e6)
    return {name: median(values) for name, values in times.items()}


def main() -> int:
    options = parser(__doc__).parse_args()
    stream = CHUNK * EVENTS
    peers = ", ".join(f"{name} {version(name)}" for name in ("httpx-sse", "openai"))
    report = Report(
        title="Decoding server-sent events",
        columns=("pieces", "decoder", "µs an event", "MB/s", "times ours"),
        notes=(f"{len(CHUNK)}-byte chunks; {peers}; medians of {RUNS} interleaved runs.",),
    )
    for label, size in SIZES.items():
        result = measure([stream[start : start + size] for start in range(0, len(stream), size)])
        for name, time in result.items():
            ratio = time / result["foundry_proto"]
            if ratio < 1 and name != BY_HAND:
                report.missed.append(f"{name} at {label}: {ratio:.2f} times our time, expected more than 1")
            report.add(label, name, time, len(CHUNK) / time, ratio)
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
