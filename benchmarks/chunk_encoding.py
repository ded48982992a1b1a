"""What a chunk of a streamed answer costs the event loop, apart from writing it to the socket.

Run: `python benchmarks/chunk_encoding.py`; needs no model. The content encoder alone is what has a limit; the
rows below it add one layer each, up to the bytes that leave: the event's framing, the answer, the connection
with its HTTP chunk. `json.dumps` of a whole chunk and the codec's general way are beside them. Each figure is
the median of interleaved runs; the exit status is 1 when the limit is missed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter

from _common import Report, chat_request, parser, user
from foundry_proto.chat.chat_stream import Identity, StreamedAnswer, content_encoder
from foundry_proto.codec import encode
from foundry_proto.connection import ServerConnection
from foundry_proto.events import Head, Request, StreamItem
from foundry_proto.messages.completions import ChatCompletionChunk, ChunkChoice, Delta
from foundry_proto.operations import DOCUMENTED
from foundry_proto.sse import encode_data

RUNS = 15
CHUNKS = 20_000
LIMIT = 0.5
# As tokens of answers are: mostly short words, some of them with letters or signs that are written otherwise.
TEXTS = (" blue", " and", ",", " the", "\n", ' "', " naïve", " 😀", " lighthouse", "ing") * (CHUNKS // 10)
IDENTITY = Identity(
    id="chatcmpl-0123456789abcdef0123456789abcdef",
    created=1700000000,
    model="smollm2-135m-instruct-generic-cpu:1",
)


def responding() -> ServerConnection:
    """A connection whose client waits for a stream."""
    connection = ServerConnection(DOCUMENTED)
    body = chat_request(IDENTITY.model, [user("Hello.")], stream=True)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % len(body)
    connection.receive_data(head + body)
    assert isinstance(connection.next_event(), Head)
    assert isinstance(connection.next_event(), Request)
    return connection


def chunk_of(text: str) -> ChatCompletionChunk:
    choice = ChunkChoice(index=0, delta=Delta(content=text))
    return ChatCompletionChunk(
        id=IDENTITY.id, created=IDENTITY.created, model=IDENTITY.model, choices=(choice,)
    )


def make_ways() -> dict[str, Callable[[str], object]]:
    """Each way from a token's text to bytes, ready to be used once more."""
    encode_content = content_encoder(IDENTITY, 0)
    answer = StreamedAnswer(IDENTITY, 1)
    answered = StreamedAnswer(IDENTITY, 1)
    connection, busy = responding(), responding()
    item: StreamItem[bytes] = StreamItem(value=encode_content(" blue"))
    plain = json.loads(encode(chunk_of("")))

    def dump(text: str) -> bytes:
        plain["choices"][0]["delta"]["content"] = text
        return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode()

    return {
        "nothing: the loop around it": lambda text: text,
        "content encoder": encode_content,
        "+ the event's framing": lambda text: encode_data(encode_content(text)),
        "the answer's event, not framed": lambda text: answer.text(0, text),
        "an event through the connection: exchange, h11": lambda _: connection.send(item),
        "the whole way: answer and connection": lambda text: busy.send(*answered.text(0, text)),
        "for comparison: json.dumps of the chunk": dump,
        "for comparison: the codec's general way": lambda text: encode(chunk_of(text)),
    }


def main() -> int:
    options = parser(__doc__).parse_args()
    times: dict[str, list[float]] = {}
    for run in range(RUNS + 1):
        for what, way in make_ways().items():
            start = perf_counter()
            for text in TEXTS:
                way(text)
            elapsed = perf_counter() - start
            if run:  # the first one warms up
                times.setdefault(what, []).append(elapsed / len(TEXTS) * 1e6)
    encode_content = content_encoder(IDENTITY, 0)
    sizes = {len(encode_content(text)) for text in TEXTS}
    report = Report(
        title="A chunk's cost, in µs",
        columns=("what", "median", "lowest", "limit"),
        notes=(f"Medians of {RUNS} interleaved runs; chunks of {min(sizes)} to {max(sizes)} bytes.",),
    )
    for what, values in times.items():
        limited = what == "content encoder"
        shown = report.check(what, median(values), most=LIMIT) if limited else ""
        report.add(what, median(values), min(values), shown)
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
