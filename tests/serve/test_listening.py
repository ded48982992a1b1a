"""Laws of what a server listens on, and that its owner's commands reach it everywhere."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from foundry_runtime.platform import kill_process
from foundry_serve.config import BadConfig, Config
from foundry_serve.daemon.state import ServiceFiles
from foundry_serve.listening import endpoints_of, open_listeners, policy_for, read_keys
from tests.support.command import call

KEY = "correct-horse-battery"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose service ends with the test."""
    yield (home := tmp_path / "home")
    state = ServiceFiles(home).read()
    if state is not None and state.lives:
        kill_process(state.pid)


def test_keys_come_from_a_file_and_from_settings(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# Ann\n{KEY}\n\n  {KEY}-2  \n")
    file.chmod(0o600)
    assert read_keys(Config()) == ()
    assert read_keys(Config(api_keys=(f"{KEY}-0",), api_keys_file=str(file))) == (
        f"{KEY}-0",
        KEY,
        f"{KEY}-2",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory"),
        (b"", "expected a key in a line, got none"),
        (b"\n# none\n", "expected a key in a line, got none"),
        (b"\xff", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ],
)
def test_a_file_without_keys_lets_nobody_in_by_mistake(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadConfig) as wrong:
        read_keys(Config(api_keys_file=str(file)))
    assert str(wrong.value) == f"api_keys_file: {file}: {message}"


def test_a_key_that_is_none_is_not_quoted(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{KEY}\nshort\n")
    with pytest.raises(BadConfig) as wrong:
        read_keys(Config(api_keys_file=str(file)))
    expected = "expected a key of 16 to 512 visible ASCII characters"
    assert str(wrong.value) == f"api_keys_file: {file}, line 2: {expected}"


@pytest.mark.skipif(os.name != "posix", reason="modes are theirs")
def test_a_file_that_others_can_read_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "keys"
    file.write_text(KEY)
    file.chmod(0o644)
    read_keys(Config(api_keys_file=str(file)))
    assert caplog.messages == [f"api_keys_file: other users can read {file}"]


@pytest.mark.anyio
async def test_who_is_reached_from_elsewhere_asks_for_a_key_or_says_that_it_does_not() -> None:
    everywhere = Config(host="0.0.0.0", port=0)
    with pytest.raises(BadConfig) as wrong:
        await open_listeners(everywhere)
    assert str(wrong.value) == (
        "host: 0.0.0.0 is reached from other machines: expected api_keys or api_keys_file, "
        "or without_keys to let everybody in"
    )
    for config, keys in ((everywhere, (KEY,)), (Config(host="0.0.0.0", port=0, without_keys=True), ())):
        listeners = await open_listeners(config, keys)
        assert policy_for(config, listeners, keys).names.any_address
        for listener in listeners:
            await listener.aclose()


@pytest.mark.anyio
async def test_settings_that_contradict_each_other_open_nothing(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.pem"
    for config, message in (
        (Config(tcp=False), "tcp: expected true where there is no unix_socket, got false"),
        (Config(tls_key="x"), "tls_key: expected a tls_cert that belongs to it, got none"),
        (
            Config(tls_cert=str(nothing)),
            f"tls_cert: {nothing}: expected a certificate and its key, in PEM: No such file or directory",
        ),
        (Config(tls_cert=__file__), f"tls_cert: {__file__}: expected a certificate and its key, in PEM"),
    ):
        with pytest.raises(BadConfig) as wrong:
            await open_listeners(config)
        assert str(wrong.value) == message


@pytest.mark.anyio
@pytest.mark.skipif(sys.platform == "win32", reason="Python has no Unix sockets there")
async def test_of_several_places_one_that_cannot_be_had_closes_the_others(tmp_path: Path) -> None:
    config = Config(port=0, unix_socket=str(tmp_path / "no" / "where"))
    with pytest.raises(OSError, match="cannot listen on"):
        await open_listeners(config)  # a socket that was left open would be a warning, and so an error
    both = Config(port=0, unix_socket=str(tmp_path / "socket"))
    listeners = await open_listeners(both)
    tcp, unix = endpoints_of(listeners)[0], endpoints_of(listeners)[-1]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", tcp)
    assert unix == f"unix:{tmp_path / 'socket'}"
    for listener in listeners:
        await listener.aclose()


def run(home: Path, *words: object) -> str:
    done = call(home, *words)
    assert done.exit_code == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="Python has no Unix sockets there")
def test_the_owners_commands_reach_a_service_with_keys_and_tls_and_one_without_an_address(home: Path) -> None:
    home.mkdir()
    keys, certificate, socket = home / "keys", home / "server.pem", home / "a socket"
    keys.write_text(KEY)
    keys.chmod(0o600)
    issued = trustme.CA().issue_cert("example.org")
    issued.private_key_and_cert_chain_pem.write_to_path(str(certificate))
    file = ('api_keys_file = "keys"', 'tls_cert = "server.pem"', 'unix_socket = "a socket"', "port = 0")
    (home / "config.toml").write_text("\n".join(file))
    assert re.match(r"🟢 Service is Started on https://127\.0\.0\.1:\d+/, PID", run(home, "service", "start"))
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    assert "is running on https://127.0.0.1:" in run(home, "service", "status")
    assert run(home, "service", "ps") == "No models are currently loaded in the service\n"
    state = ServiceFiles(home).read()
    assert state is not None
    assert state.key is not None
    described = run(home, "service", "status", "--json") + run(home, "service", "diag")
    assert state.key not in described
    assert KEY not in described + run(home, "config", "show", "--json")
    run(home, "service", "restart", "--no-tcp")
    assert f"is running on unix:{socket}/" in run(home, "service", "status")
    assert run(home, "service", "ps") == "No models are currently loaded in the service\n"
    run(home, "service", "stop")
    assert not socket.exists()


def test_a_start_that_would_let_everybody_in_fails_with_the_reason(home: Path) -> None:
    done = call(home, "service", "start", "--host", "0.0.0.0", "--port", 0)
    assert done.exit_code == 1
    assert "host: 0.0.0.0 is reached from other machines: expected api_keys" in done.stderr
    done = call(home, "serve", "--host", "0.0.0.0", "--port", 0)
    assert done.exit_code == 1
    assert done.stderr.startswith("foundry: host: 0.0.0.0 is reached from other machines: expected api_keys")
