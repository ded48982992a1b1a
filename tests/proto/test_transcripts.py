"""Golden transcripts through both sides: what a server sends is what a client understands."""

from __future__ import annotations

import json
from types import NoneType
from urllib.parse import parse_qsl

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_proto.connection import ClientConnection, Phase, ServerConnection
from foundry_proto.events import Failure, Request, Response, StreamEnd, StreamItem
from foundry_proto.exchange import Answer, ClientAnswer
from foundry_proto.operations import ALL, Operation
from tests.support.chunking import byte_by_byte, chunkings, whole
from tests.support.connections import Driver, Read, read
from tests.support.transcripts import TRANSCRIPTS, Transcript

BY_NAME = {operation.name: operation for operation in ALL}
CASES = pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=str)


def call(client: ClientConnection, transcript: Transcript) -> bytes:
    """Make the transcript's call."""
    method, target = transcript.start_line.decode().split(" ")[:2]
    path, _, query = target.partition("?")
    match = ALL.match(path)
    assert match is not None
    return client.call(
        BY_NAME[transcript.operation],
        value_of(transcript),
        params=match.params,
        query=dict(parse_qsl(query, keep_blank_values=True)),
        method=method,
    )


def value_of(transcript: Transcript) -> object:
    """The body as the server reads it; of a request that it refuses, any JSON."""
    driver = Driver(ServerConnection(ALL))
    driver.feed(transcript.request)
    event = driver.events[-1]
    if isinstance(event, Request):
        return event.value
    return json.loads(transcript.request_body) if transcript.request_body else None


def understood(transcript: Transcript, pieces: list[bytes]) -> tuple[ClientConnection, Read]:
    """A client that made the transcript's call, and what it was told."""
    client = ClientConnection("localhost:5272")
    call(client, transcript)
    return client, read(client, pieces)


def answers(transcript: Transcript) -> list[Answer]:
    """What a handler has to send for the transcript's reply: what a client is told, without the headers."""
    _, told = understood(transcript, whole(transcript.response))

    def bare(event: ClientAnswer) -> Answer:
        return evolve(event, headers=()) if isinstance(event, Response | Failure) else event

    return [bare(event) for event in told.events]


def served(transcript: Transcript, pieces: list[bytes]) -> Driver:
    driver = Driver(ServerConnection(ALL), lambda _: answers(transcript))
    driver.feed(*pieces)
    return driver


@pytest.mark.parametrize("operation", tuple(ALL), ids=lambda row: row.name)
def test_every_operation_has_its_transcripts(operation: Operation[object, object, object]) -> None:
    kinds = {
        type(event)
        for transcript in TRANSCRIPTS
        if transcript.operation == operation.name
        for event in answers(transcript)
    }
    streamed = {StreamItem, StreamEnd} if operation.stream else set()
    may_refuse = operation.failures or operation.query is not NoneType or operation.upgrade
    refuses = {Failure} if may_refuse else set()
    only_streamed = operation.stream is not None and operation.response is NoneType
    answered = set() if only_streamed or operation.upgrade else {Response}
    assert kinds == answered | streamed | refuses


def test_every_transcript_belongs_to_an_operation() -> None:
    assert {transcript.operation for transcript in TRANSCRIPTS} <= set(BY_NAME)


@CASES
def test_a_server_sends_the_reply(transcript: Transcript) -> None:
    driver = served(transcript, whole(transcript.request))
    assert driver.output == transcript.response
    assert driver.connection.phase is Phase.IDLE


@CASES
def test_a_server_reads_the_request_however_it_is_cut(transcript: Transcript) -> None:
    at_once = served(transcript, whole(transcript.request))
    in_bytes = served(transcript, byte_by_byte(transcript.request))
    assert in_bytes.events == at_once.events
    assert in_bytes.output == at_once.output


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(TRANSCRIPTS), st.data())
def test_any_chunking_of_requests_gives_the_same_events(transcript: Transcript, data: st.DataObject) -> None:
    at_once = served(transcript, whole(transcript.request * 2))
    in_pieces = served(transcript, data.draw(chunkings(transcript.request * 2)))
    assert in_pieces.events == at_once.events
    assert in_pieces.output == at_once.output == transcript.response * 2


@CASES
def test_a_client_understands_the_reply_however_it_is_cut(transcript: Transcript) -> None:
    client, at_once = understood(transcript, whole(transcript.response))
    assert at_once.error is None
    assert client.reusable
    client, in_bytes = understood(transcript, byte_by_byte(transcript.response))
    assert in_bytes == at_once
    assert client.reusable


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(TRANSCRIPTS), st.data())
def test_any_chunking_of_replies_gives_the_same_events(transcript: Transcript, data: st.DataObject) -> None:
    _, at_once = understood(transcript, whole(transcript.response))
    _, in_pieces = understood(transcript, data.draw(chunkings(transcript.response)))
    assert in_pieces == at_once


@CASES
def test_a_client_calls_what_the_transcript_asks(transcript: Transcript) -> None:
    head, _, body = call(ClientConnection("localhost:5272"), transcript).partition(b"\r\n\r\n")
    lines = [transcript.start_line, b"host: localhost:5272"]
    if transcript.request_body:
        lines += [b"content-type: application/json", b"content-length: %d" % len(body)]
        assert json.loads(body) == json.loads(transcript.request_body)
    assert head.split(b"\r\n") == lines


@CASES
def test_a_reply_that_ends_anywhere_else_is_broken(transcript: Transcript) -> None:
    _, whole_told = understood(transcript, whole(transcript.response))
    size = len(transcript.response)
    # Heads are much alike: each transcript tries other places in them.
    first = TRANSCRIPTS.index(transcript) % 7
    for end in {*range(first, min(200, size), 7), *range(200, size, 13), *range(max(0, size - 40), size)}:
        client, told = understood(transcript, [])
        told = read(client, [transcript.response[:end]], eof=True)
        assert not client.reusable
        # Framing alone may be missing, behind an end that was told.
        assert told.error is not None or told.events == whole_told.events
        assert told.events == whole_told.events[: len(told.events)]
