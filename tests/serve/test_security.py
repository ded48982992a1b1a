"""Laws of who may talk: to which host, from which pages, and with which keys."""

from __future__ import annotations

import hmac

import pytest
from attrs import evolve

from foundry_proto.events import Failure, Headers, Response
from foundry_proto.exchange import Asked
from foundry_proto.operations import ALL
from foundry_runtime.models.directory import ModelDirectory
from foundry_serve import security
from foundry_serve.security import ANY, Names, Policy, bound_names, is_key
from tests.support.asking import ask
from tests.support.scripted_model import scripted_server
from tests.support.tiny_model import MODEL_ID

LOOPBACK = bound_names("localhost", ["127.0.0.1", "::1"])
EVERYWHERE = bound_names("0.0.0.0", ["0.0.0.0"], ["Laptop", "laptop.local"])
ONE = bound_names("box.lan", ["192.0.2.9", "2001:db8::7"], ["laptop"])
KEYS = ("correct-horse-battery", "another-key-of-mine")


def decide(
    policy: Policy, target: str, *headers: tuple[str, str], method: str = "GET", authority: str | None = None
) -> Headers | Failure | Response[None]:
    match = ALL.match(target)
    return policy(
        Asked(
            method=method,
            authority=authority,
            headers=tuple((name.encode(), value.encode("latin-1")) for name, value in headers),
            client="127.0.0.1:5",
            operation=None if match is None else match.by_method(method),
            allow=() if match is None else match.allow(),
        )
    )


def status(verdict: Headers | Failure | Response[None]) -> int:
    return verdict.status if isinstance(verdict, Failure | Response) else 200


def host(name: str) -> tuple[str, str]:
    return ("host", name)


HERE = host("localhost:5272")


@pytest.mark.parametrize(
    ("names", "said", "expected"),
    [
        *((LOOPBACK, one, 200) for one in ("localhost", "LOCALHOST:1", "localhost.:5272", "127.0.0.1:5272")),
        *((LOOPBACK, one, 200) for one in ("[::1]", "[::1]:5272", "[0:0:0:0:0:0:0:1]:80", "localhost:")),
        *(
            (LOOPBACK, one, 421)
            for one in ("evil.example", "localhost.evil.example:5272", "127.0.0.1.nip.io")
        ),
        *(
            (LOOPBACK, one, 421)
            for one in ("192.0.2.9", "127.1", "2130706433", "0x7f.1", "[::2]", "xn--lcalhost")
        ),
        *(
            (LOOPBACK, one, 400)
            for one in ("", "a b", "localhost:5272x", "user@localhost", "localhost/x", "[::1")
        ),
        *(
            (LOOPBACK, one, 400)
            for one in ("localhost,evil.example", "localhost:123456", "localhost#", "l?x")
        ),
        *((EVERYWHERE, one, 200) for one in ("192.0.2.9:5272", "[2001:db8::1]", "laptop", "LAPTOP.local:1")),
        *((EVERYWHERE, one, 421) for one in ("evil.example", "laptop.evil.example", "127.1")),
        *((ONE, one, 200) for one in ("box.lan", "192.0.2.9", "[2001:DB8:0::7]:5272", "localhost")),
        *((ONE, one, 421) for one in ("192.0.2.10", "laptop", "evil.example")),
        (bound_names("localhost", ["::1"], more=["My.Proxy"]), "my.proxy", 200),
        (bound_names("localhost", ["::1"], more=[ANY]), "evil.example", 200),
        (bound_names("localhost", ["::1"], more=[ANY]), "not a host", 400),
        (bound_names("", []), "localhost", 200),  # a Unix socket alone
    ],
    ids=lambda value: None if isinstance(value, Names) else str(value)[:30],
)
def test_a_host_must_be_one_of_the_servers_names(names: object, said: str, expected: int) -> None:
    policy = Policy(names=names)  # type: ignore[arg-type]
    assert status(decide(policy, "/openai/status", host(said))) == expected
    assert status(decide(policy, "/nowhere", host(said))) == expected
    # A target in absolute form counts instead of the header.
    assert status(decide(policy, "/openai/status", HERE, authority=said)) == expected
    assert status(decide(policy, "/openai/status", host("evil.example"), authority=said)) == expected


def test_a_request_without_a_host_is_no_browsers() -> None:
    assert decide(Policy(names=LOOPBACK), "/openai/status") == ()


OWN = "http://localhost:5272"
NEIGHBOUR = "http://localhost:3000"
LOAD = f"/openai/load/{MODEL_ID}"
CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], 200),
        ([("origin", OWN)], 200),
        ([("origin", "https://localhost:5272")], 200),  # behind something that speaks TLS
        ([("origin", OWN), ("sec-fetch-site", "same-origin")], 200),
        ([("sec-fetch-site", "none")], 200),
        ([("sec-fetch-site", "same-origin")], 200),
        ([("sec-fetch-site", "same-site")], 403),  # a page on another port
        ([("sec-fetch-site", "cross-site")], 403),  # an image's GET has no origin
        ([("sec-fetch-site", "Same-Origin")], 403),
        ([("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")], 403),
        ([("origin", NEIGHBOUR)], 403),
        ([("origin", NEIGHBOUR), ("sec-fetch-site", "none")], 403),
        ([("origin", "http://localhost")], 403),
        ([("origin", "null")], 403),
        ([("origin", "")], 403),
        ([("origin", "localhost:5272")], 403),
        ([("origin", "ftp://localhost:5272")], 403),
        ([("origin", "http://localhost:5272.evil.example")], 403),
        ([("origin", OWN), ("origin", "http://evil.example")], 403),
        ([("origin", "http://evil.example\xff")], 403),
    ],
    ids=str,
)
def test_a_foreign_page_starts_nothing(headers: list[tuple[str, str]], expected: int) -> None:
    policy = Policy(names=LOOPBACK)
    assert status(decide(policy, LOAD, HERE, *headers)) == expected
    assert status(decide(policy, CHAT, HERE, *headers, method="POST")) == expected
    # What changes nothing is answered; a browser keeps the answer from the page.
    assert decide(policy, "/openai/status", HERE, *headers) == ()
    upgrade = decide(policy, "/openai/status", HERE, *headers, ("upgrade", "websocket"))
    assert status(upgrade) == expected


def test_all_that_changes_something_or_costs_much_is_kept_from_foreign_pages() -> None:
    policy = Policy(names=LOOPBACK)
    refused = {
        operation.name
        for operation in ALL
        for method in operation.methods
        if status(decide(policy, operation.path, HERE, ("origin", NEIGHBOUR), method=method)) == 403
    }
    assert refused == {operation.name for operation in ALL if not operation.safe}
    assert {"load_model", "unload_model", "chat_completions", "shutdown", "set_gpu_device"} <= refused


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        (
            [("origin", "http://a.example")],
            "origin: expected one that may use this server, got http://a.example",
        ),
        ([("sec-fetch-site", "same-site")], "sec-fetch-site: expected same-origin or none, got same-site"),
        ([("origin", "x" * 100)], f"origin: expected one that may use this server, got {'x' * 80}"),
    ],
)
def test_a_refusal_says_what_was_expected(headers: list[tuple[str, str]], message: str) -> None:
    verdict = decide(Policy(names=LOOPBACK), LOAD, HERE, *headers)
    assert verdict == Failure(status=403, message=message, code="foreign_origin")


# Pages that may.

SHARING = Policy(names=LOOPBACK, origins=frozenset({NEIGHBOUR}))
VARY = ((b"vary", b"origin"),)
SHARED = (
    (b"access-control-allow-origin", NEIGHBOUR.encode()),
    (b"access-control-expose-headers", b"retry-after, x-request-id"),
    *VARY,
)


@pytest.mark.parametrize("target", [LOAD, "/openai/status", "/nowhere"])
def test_a_page_on_the_list_may_ask_and_read(target: str) -> None:
    for site in ("same-site", "cross-site"):
        assert decide(SHARING, target, HERE, ("origin", NEIGHBOUR), ("sec-fetch-site", site)) == SHARED


def test_the_list_lets_nobody_else_in() -> None:
    assert status(decide(SHARING, LOAD, HERE, ("origin", "http://evil.example"))) == 403
    assert status(decide(SHARING, LOAD, HERE, ("origin", NEIGHBOUR + "0"))) == 403
    assert status(decide(SHARING, LOAD, HERE, ("sec-fetch-site", "same-site"))) == 403
    assert decide(SHARING, "/openai/status", HERE, ("origin", "http://evil.example")) == VARY
    assert decide(SHARING, LOAD, HERE) == VARY
    assert status(decide(SHARING, LOAD, host("evil.example"), ("origin", NEIGHBOUR))) == 421


def test_a_list_of_any_lets_every_page_in() -> None:
    anybody = Policy(names=LOOPBACK, origins=frozenset({ANY}))
    verdict = decide(anybody, LOAD, HERE, ("origin", "null"), ("sec-fetch-site", "cross-site"))
    assert isinstance(verdict, tuple)
    assert verdict[0] == (b"access-control-allow-origin", b"null")
    assert decide(anybody, LOAD, HERE, ("sec-fetch-site", "cross-site")) == VARY


def test_a_preflight_is_answered_without_a_key() -> None:
    policy = Policy(names=LOOPBACK, origins=frozenset({NEIGHBOUR}), keys=KEYS)
    verdict = decide(
        policy,
        CHAT,
        HERE,
        ("origin", NEIGHBOUR),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type,x-stainless-os"),
        ("access-control-request-private-network", "true"),
        method="OPTIONS",
    )
    assert verdict == Response(
        value=None,
        status=204,
        headers=(
            (b"access-control-allow-methods", b"POST, OPTIONS"),
            (b"access-control-max-age", b"600"),
            (b"access-control-allow-headers", b"authorization,content-type,x-stainless-os"),
            (b"access-control-allow-private-network", b"true"),
            *SHARED,
        ),
    )


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        (CHAT, [("origin", "http://evil.example"), ("access-control-request-method", "POST")]),
        (CHAT, [("origin", NEIGHBOUR)]),
        ("/nowhere", [("origin", NEIGHBOUR), ("access-control-request-method", "POST")]),
    ],
)
def test_other_options_are_only_that(target: str, headers: list[tuple[str, str]]) -> None:
    verdict = decide(SHARING, target, HERE, *headers, method="OPTIONS")
    assert verdict == (SHARED if headers[0][1] == NEIGHBOUR else VARY)


def test_odd_names_of_headers_are_not_repeated() -> None:
    verdict = decide(
        SHARING,
        CHAT,
        HERE,
        ("origin", NEIGHBOUR),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "a\xe9"),
        method="OPTIONS",
    )
    assert isinstance(verdict, Response)
    assert b"access-control-allow-headers" not in dict(verdict.headers)


# Keys.

LOCKED = Policy(names=LOOPBACK, keys=KEYS)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("authorization", f"Bearer {KEYS[0]}")], 200),
        ([("authorization", f"bearer  {KEYS[1]} ")], 200),
        ([("api-key", KEYS[1])], 200),
        ([("api-key", "wrong"), ("authorization", f"Bearer {KEYS[0]}")], 200),
        ([], 401),
        ([("authorization", "Bearer")], 401),
        ([("authorization", "Bearer wrong")], 401),
        ([("authorization", f"Basic {KEYS[0]}")], 401),
        ([("authorization", KEYS[0])], 401),
        ([("authorization", f"Bearer {KEYS[0]}x")], 401),
        ([("authorization", f"Bearer {KEYS[0][:-1]}")], 401),
        ([("api-key", KEYS[0].upper())], 401),
        ([("api-key", "")], 401),
        ([("api-key", "\xe9")], 401),
    ],
    ids=str,
)
def test_one_of_the_keys_is_needed(headers: list[tuple[str, str]], expected: int) -> None:
    for target in ("/openai/status", CHAT, "/nowhere"):
        assert status(decide(LOCKED, target, HERE, *headers)) == expected


def test_a_refusal_asks_for_a_key_and_tells_none() -> None:
    missing, wrong = decide(LOCKED, CHAT, HERE), decide(LOCKED, CHAT, HERE, ("api-key", "x"))
    assert isinstance(missing, Failure)
    assert isinstance(wrong, Failure)
    assert missing.message == "authorization: expected Bearer and one of the server's keys, got nothing"
    assert wrong.message == "authorization: expected one of the server's keys, got another"
    for one in (missing, wrong):
        assert (one.status, one.code) == (401, "invalid_api_key")
        assert one.headers == ((b"www-authenticate", b"Bearer"),)
    assert not any(key in repr(LOCKED) for key in KEYS)


def test_a_page_that_may_ask_may_read_that_it_needs_a_key() -> None:
    policy = Policy(names=LOOPBACK, origins=frozenset({NEIGHBOUR}), keys=KEYS)
    verdict = decide(policy, CHAT, HERE, ("origin", NEIGHBOUR), method="POST")
    assert isinstance(verdict, Failure)
    assert verdict.headers == ((b"www-authenticate", b"Bearer"), *SHARED)


def test_a_public_operation_needs_none() -> None:
    match = ALL.match("/openai/status")
    assert match is not None
    asked = Asked(
        method="GET",
        authority=None,
        headers=((b"host", b"localhost"),),
        client=None,
        operation=evolve(match.operations[0], public=True),
        allow=(),
    )
    assert LOCKED(asked) == ()


def test_every_key_is_compared_whichever_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time must not tell which of the keys fits, nor how much of one: whole digests are compared."""
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(security, "hmac", type("hmac", (), {"compare_digest": staticmethod(compare)}))
    for key in (KEYS[0], KEYS[1], "x"):
        compared.clear()
        decide(LOCKED, CHAT, HERE, ("api-key", key))
        assert compared == [(32, 32)] * len(KEYS)


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("x" * 16, True),
        ("x" * 15, False),
        ("x" * 513, False),
        ("with a blank in it", False),
        ("é" * 16, False),
    ],
)
def test_a_key_is_long_and_visible(text: str, fits: bool) -> None:
    assert is_key(text) is fits


# On the wire.


@pytest.mark.anyio
async def test_the_policy_guards_the_server(tiny_home: ModelDirectory) -> None:
    policy = Policy(names=bound_names("test", [], more=["test"]), origins=frozenset({NEIGHBOUR}), keys=KEYS)
    key = ("api-key", KEYS[0])
    async with scripted_server(tiny_home, gate=policy) as (server, models):
        transport = await server.connect()
        for headers, expected in (
            ([("origin", "http://evil.example"), key], 403),
            ([("sec-fetch-site", "cross-site"), key], 403),
            ([], 401),
        ):
            assert (await ask(transport, "GET", LOAD, None, *headers)).status == expected
        assert models.loads == 0
        reply = await ask(transport, "GET", LOAD, None, key, ("origin", NEIGHBOUR))
        assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, NEIGHBOUR)
        assert models.loads == 1
        reply = await ask(transport, "POST", CHAT, b"{}", key, ("origin", NEIGHBOUR))
        assert (reply.status, reply.headers["access-control-allow-origin"]) == (400, NEIGHBOUR)
