"""When a call is tried again, and what a client reads of its base URL."""

from __future__ import annotations

import ssl

import pytest

from foundry_proto.errors import LocalProtocolError, RemoteProtocolError
from foundry_proto.events import Failure
from foundry_runtime.calling import RETRY_PAUSE, Attempts, ServerFailure, Whom
from foundry_runtime.transport import TransportBroken

LOST = TransportBroken("gone")


@pytest.mark.parametrize("error", [LOST, ConnectionRefusedError(), RemoteProtocolError("no answer")])
@pytest.mark.parametrize(
    ("safe", "kept", "sent", "heard", "pause"),
    [
        # A kept connection that its server has closed: the first free try is another one.
        (True, True, False, False, 0.0),
        (True, True, True, False, 0.0),
        (False, True, False, False, 0.0),
        # The server may have acted upon it.
        (False, True, True, False, None),
        # A new connection failed.
        (True, False, False, False, RETRY_PAUSE),
        (True, False, True, False, RETRY_PAUSE),
        (False, False, False, False, None),
        (False, False, True, False, None),
        # The answer had begun.
        (True, True, True, True, None),
        (True, False, True, True, None),
    ],
)
def test_what_may_have_been_acted_upon_is_not_sent_twice(
    error: Exception, safe: bool, kept: bool, sent: bool, heard: bool, pause: float | None
) -> None:
    attempts = Attempts(safe=safe, retries=1)
    assert attempts.again(error, kept=kept, sent=sent, heard=heard) == pause


def test_there_are_as_many_attempts_as_allowed() -> None:
    attempts = Attempts(safe=True, retries=2)
    tries = [attempts.again(LOST, kept=False, sent=True, heard=False) for _ in range(4)]
    assert tries == [RETRY_PAUSE, RETRY_PAUSE, None, None]
    assert Attempts(safe=True, retries=0).again(LOST, kept=False, sent=True, heard=False) is None


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        LocalProtocolError("no"),
        ServerFailure(Failure(status=500, message="no")),
        KeyboardInterrupt(),
        OSError("no such host"),
    ],
)
def test_only_a_connections_failure_is_tried_again(error: BaseException) -> None:
    assert Attempts(safe=True, retries=1).again(error, kept=True, sent=False, heard=False) is None


def whom(url: str, tls: ssl.SSLContext | None = None) -> Whom:
    return Whom.at(url, unix=None, tls=tls, api_key="k", headers=((b"x-a", b"b"),))


def test_a_base_url_says_whom_to_call() -> None:
    plain = whom("http://127.0.0.1:5272/")
    assert (plain.authority, plain.host, plain.port, plain.tls) == (
        "127.0.0.1:5272",
        "127.0.0.1",
        5272,
        None,
    )
    assert plain.headers == ((b"authorization", b"Bearer k"), (b"x-a", b"b"))
    context = ssl.create_default_context()
    secure = whom("https://[::1]", context)
    assert (secure.authority, secure.host, secure.port, secure.tls) == ("[::1]", "::1", 443, context)
    assert whom("https://host").tls is not None
    assert whom("http://user:secret@host:1").authority == "host:1"


@pytest.mark.parametrize(
    ("url", "prefix"),
    [("http://host/", ""), ("http://host/local/ai/", "/local/ai"), ("http://host/%C3%A4", "/%C3%A4")],
)
def test_a_path_stands_before_all_others(url: str, prefix: str) -> None:
    assert whom(url).prefix == prefix


def test_the_protocols_own_path_is_no_part_of_the_url() -> None:
    with pytest.raises(ValueError) as caught:
        whom("http://host:1/v1/")
    text = "base_url: expected it without /v1, which calls add themselves, got http://host:1/v1/"
    assert str(caught.value) == text


@pytest.mark.parametrize(
    "url", ["ftp://host", "http://", "http://host/a b", "http://host/ä", "http://host/?a=b", "host:5272"]
)
def test_a_base_url_is_that_of_a_server(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        whom(url)
    assert str(caught.value) == f"base_url: expected http://host:port or https://host:port, got {url}"


def test_tls_needs_https() -> None:
    with pytest.raises(ValueError, match=r"^base_url: expected https://host:port with tls, got http://host$"):
        whom("http://host", ssl.create_default_context())
