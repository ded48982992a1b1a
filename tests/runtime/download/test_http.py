"""Requests of downloads: what is asked again, where redirects lead, and what is never told."""

from __future__ import annotations

import logging
import re
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
import trustme

from foundry_runtime.download.http import AskFailed, ask, open_client, shown
from foundry_runtime.download.sources.api import DownloadFailed, Place
from tests.runtime.download.fetching.conftest import environment, server
from tests.runtime.download.fetching.remotes import content, fetch, found, remotes
from tests.support.origin import Fault, Origin, origin
from tests.support.proxy import Proxy, proxy

__all__ = ["environment", "server"]

pytestmark = pytest.mark.anyio

LIST = "/list"


@pytest.fixture
def listed(server: Origin) -> Origin:
    server.files = {LIST: b'{"models": []}'}
    return server


async def asked(url: str, **more: object) -> bytes:
    async with open_client() as client:
        answer = await ask(client, "GET", url, what="the list", **more)  # type: ignore[arg-type]
    return answer.content


@pytest.mark.parametrize(
    "fault",
    [Fault(status=503), Fault(status=429), Fault(cut=3), Fault(headers={"Content-Length": "99"}, cut=14)],
    ids=str,
)
async def test_what_fails_in_passing_is_asked_again(listed: Origin, fault: Fault) -> None:
    listed.faults = {LIST: [fault, fault]}
    assert await asked(listed.url + LIST) == listed.files[LIST]
    assert len(listed.asked) == 3


async def test_an_answer_may_be_compressed(listed: Origin) -> None:
    listed.faults = {LIST: [Fault(zipped=True)]}
    assert await asked(listed.url + LIST) == listed.files[LIST]


async def test_a_request_has_its_body_parameters_and_headers(listed: Origin) -> None:
    async with open_client() as client:
        answer = await ask(
            client,
            "POST",
            listed.url + LIST,
            what="the list",
            json={"page": 1},
            params={"version": "2"},
            headers={"x-own": "1"},
        )
    assert (answer.status_code, answer.json()) == (200, {"models": []})
    (one,) = listed.asked
    assert one.path == f"{LIST}?version=2"
    assert one.headers["x-own"] == "1"
    assert one.headers["content-type"] == "application/json"
    assert one.headers["user-agent"].startswith("foundry-proto/")


FAILURES = [
    (Fault(status=404), 1, "404 Not Found", 404),
    (Fault(status=401), 1, "401 Unauthorized", 401),
    (Fault(status=500), 4, "500 Internal Server Error", 500),
    (Fault(status=302, headers={"Location": LIST}), 6, "expected at most 5 redirects, got more", None),
    (Fault(longer=100), 1, "expected at most 50 bytes, got more", None),
    (
        Fault(status=503, headers={"Retry-After": "601"}),
        1,
        "503 Service Unavailable, not to be asked again for 601 seconds",
        503,
    ),
]


@pytest.mark.parametrize(("fault", "count", "reason", "status"), FAILURES, ids=[one[2] for one in FAILURES])
async def test_a_failure_names_what_was_asked_of_whom_and_why(
    listed: Origin, fault: Fault, count: int, reason: str, status: int | None
) -> None:
    listed.always = lambda path, ranges: fault
    url = f"{listed.url}{LIST}?sig=secret"
    expected = rf"^the list: {listed.url}{LIST}: {reason}$"
    with pytest.raises(AskFailed, match=expected) as caught:
        await asked(url.replace("//", "//user:secret@"), most_bytes=50)
    assert (caught.value.status, len(listed.asked)) == (status, count)


async def test_who_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with origin() as gone:
        url = gone.url
    with pytest.raises(AskFailed, match=rf"^the list: {url}/list: cannot connect: "):
        await asked(f"{url}/list", attempts=1)
    with pytest.raises(AskFailed, match=r"^the list: http://x:y/: Invalid port: 'y'$"):
        await asked("http://x:y/")


@pytest.mark.parametrize("own_clock", [True, False])
async def test_when_to_ask_again_may_be_a_date(listed: Origin, own_clock: bool) -> None:
    # By the server's clock, where it tells: here it is a year behind.
    now = datetime.now(UTC) - (timedelta(days=365) if own_clock else timedelta())
    later = format_datetime(now + timedelta(days=1), usegmt=True)
    date = {"Date": format_datetime(now, usegmt=True)} if own_clock else {}
    listed.always = lambda path, ranges: Fault(status=429, headers={"Retry-After": later, **date})
    with pytest.raises(AskFailed, match=r"not to be asked again for 8[56]\d\d\d seconds$"):
        await asked(listed.url + LIST)


@pytest.mark.parametrize("text", ["", "soon", "-5", "Wed, 99 Foo 2020"])
async def test_what_is_no_time_is_no_time(listed: Origin, text: str) -> None:
    listed.faults = {LIST: [Fault(status=429, headers={"Retry-After": text})]}
    assert await asked(listed.url + LIST) == listed.files[LIST]


async def test_a_redirect_keeps_secrets_where_they_belong(listed: Origin) -> None:
    secrets = {"authorization": "Bearer secret", "x-own": "secret"}
    with origin() as other:
        other.files = listed.files
        listed.always = lambda path, ranges: Fault(status=301, headers={"Location": other.url + LIST})
        assert await asked(listed.url + LIST, headers=secrets) == listed.files[LIST]
        assert secrets.items() <= listed.asked[0].headers.items()
        assert not secrets.keys() & other.asked[0].headers.keys()


async def test_nothing_of_a_request_is_logged(
    listed: Origin, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    listed.always = lambda path, ranges: (
        Fault(status=302, headers={"Location": f"{LIST}?sig=secret"}) if "sig" not in path else None
    )
    await asked(f"{listed.url}{LIST}?token=secret", headers={"authorization": "Bearer secret"})
    await fetch(remotes(listed), place)
    assert listed.asked[1].path == f"{LIST}?sig=secret"
    assert "secret" not in caplog.text


async def test_what_others_do_with_the_http_client_is_logged_as_ever(
    listed: Origin, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with open_client() as client:
        await client.get(listed.url + LIST)
    assert "HTTP Request: GET" in caplog.text


# Proxies and certificates of the environment.


@pytest.fixture
def between() -> Iterator[Proxy]:
    with proxy() as one:
        yield one


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment names the private authority."""
    path = tmp_path / "my authority.pem"
    authority.cert_pem.write_to_path(str(path))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))


@pytest.fixture
def secured(authority: trustme.CA) -> Iterator[Origin]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with origin(tls=context) as one:
        one.files = {LIST: content(100_000)}
        yield one


async def test_a_private_authority_is_trusted_when_the_environment_names_it(
    secured: Origin, place: Place, trusted: None
) -> None:
    await fetch(remotes(secured), place)
    assert found(place) == secured.files


async def test_an_authority_that_nobody_knows_is_told_at_once_with_what_to_do(
    secured: Origin, place: Place
) -> None:
    expected = (
        r"^list: cannot trust the server: .*certificate verify failed.*"
        rf" \(SSL_CERT_FILE can name the authority that signed it\) \({secured.url}/list\)$"
    )
    with pytest.raises(DownloadFailed, match=expected):
        await fetch(remotes(secured), place)
    assert secured.asked == []


async def test_a_redirect_does_not_lead_out_of_https(secured: Origin, listed: Origin, trusted: None) -> None:
    secured.always = lambda path, ranges: Fault(status=302, headers={"Location": f"{listed.url}{LIST}?sig=1"})
    expected = rf"^the list: {secured.url}{LIST}: expected a redirect to https, got {listed.url}{LIST}$"
    with pytest.raises(AskFailed, match=expected):
        await asked(secured.url + LIST)
    assert listed.asked == []


async def test_a_proxy_of_the_environment_is_used(
    listed: Origin, place: Place, between: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", between.url)
    await fetch(remotes(listed), place)
    assert found(place) == listed.files
    assert between.asked == [f"GET {listed.url}{LIST}"]
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert await asked(listed.url + LIST)
    assert len(between.asked) == 1


async def test_a_proxy_tunnels_to_a_server_with_a_private_authority(
    secured: Origin, place: Place, between: Proxy, trusted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", between.url)
    await fetch(remotes(secured), place)
    assert found(place) == secured.files
    assert set(between.asked) == {f"CONNECT {secured.url.removeprefix('https://')}"}


@pytest.mark.parametrize("tunnelled", [False, True])
async def test_who_is_cancelled_while_tls_begins_hangs_up(
    between: Proxy, tunnelled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if tunnelled:
        monkeypatch.setenv("HTTPS_PROXY", between.url)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        async with open_client() as client, anyio.create_task_group() as tasks:
            tasks.start_soon(partial(ask, client, "GET", url, what="the list"))
            there, _ = await anyio.to_thread.run_sync(listener.accept)
            with there:
                there.settimeout(60)
                assert await anyio.to_thread.run_sync(there.recv, 1)
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    # The rest of its greeting, and its end, while the client is still open.
                    await anyio.to_thread.run_sync(_read_to_the_end, there)


def _read_to_the_end(there: socket.socket) -> None:
    while there.recv(1 << 16):
        pass


async def test_a_proxy_that_refuses_is_told_at_once(
    secured: Origin, between: Proxy, trusted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", between.url)
    between.refusal = 407
    with pytest.raises(AskFailed, match=r": the proxy refused: 407 Proxy Authentication Required$"):
        await asked(secured.url + LIST)
    assert len(between.asked) == 1


UNUSABLE = {"SSL_CERT_FILE": "/no/such/file", "HTTPS_PROXY": "gopher://x", "ALL_PROXY": "::"}


@pytest.mark.parametrize("name", UNUSABLE)
async def test_an_environment_that_cannot_be_used_is_told(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, UNUSABLE[name])
    expected = "expected proxies and certificates that can be used in the environment (HTTPS_PROXY,"
    with pytest.raises(DownloadFailed, match=f"^{re.escape(expected)}"):
        await asked("http://127.0.0.1:9/")


def test_of_an_address_only_what_is_no_secret_is_shown() -> None:
    assert shown("https://user:secret@host:81/a/b?sig=secret#secret") == "https://host:81/a/b"
    assert shown("/a?secret") == "/a"
    assert shown("http://[") == "an address that is none"
    assert re.fullmatch(r"http://x/a{291}", shown("http://x/" + "a" * 1000))
