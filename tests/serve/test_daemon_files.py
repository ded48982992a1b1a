"""The service's files: one process has the claim, a state without its process is none, a log has an end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from attrs import evolve

from foundry_runtime.platform import birth_of
from foundry_serve.config import Config
from foundry_serve.daemon import state as state_module
from foundry_serve.daemon.log import last_lines, put_away
from foundry_serve.daemon.state import Claim, Published, ServiceFiles, ServiceState

STATE = ServiceState(phase="running", model_dir_path="/Größe", options=Config(port=0, cachedir="ä"))

STATE_URLS = ("http://127.0.0.1:5272",)


@pytest.fixture
def files(tmp_path: Path) -> ServiceFiles:
    return ServiceFiles(tmp_path / "a home")


def test_a_state_is_read_as_it_was_written(files: ServiceFiles) -> None:
    assert files.read() is None
    files.write(STATE)
    assert files.read() == STATE
    assert STATE.lives
    files.state.write_bytes(b"{}")
    assert files.read() is None


def test_a_state_of_another_version_says_at_least_which_process_it_is(files: ServiceFiles) -> None:
    """So that a service goes on being found, and can be stopped, when the command is newer than it is."""
    files.write(evolve(STATE, endpoints=STATE_URLS))
    written = json.loads(files.state.read_bytes())
    for other in ({"options": {"engine": "steam"}}, {"options": 5}, {"flags": None}, {"version": 2}):
        files.state.write_text(json.dumps({**written, **other, "more": [1]}))
        found = files.read()
        assert found is not None
        assert found.lives
        assert (found.phase, found.endpoints, found.version) == ("running", STATE_URLS, "unknown")
        assert (found.options, found.given) == (Config(), {})
    # What it does not know of it passes over.
    files.state.write_text(json.dumps({**written, "more": [1]}))
    assert files.read() == evolve(STATE, endpoints=STATE_URLS)


def test_a_number_that_another_process_has_by_now_is_not_the_service(files: ServiceFiles) -> None:
    assert not evolve(STATE, birth="earlier").lives
    files.write(evolve(STATE, birth="earlier"))
    files.clean()
    assert not files.state.exists()


def test_only_a_state_that_nobody_stands_behind_is_removed(files: ServiceFiles) -> None:
    files.write(STATE)
    files.clean()
    assert files.read() == STATE
    files.write(evolve(STATE, pid=os.getppid(), birth="earlier"))
    files.retract()
    assert files.state.exists()
    claim = files.claim()
    assert claim is not None
    files.clean()  # whoever has the claim will write soon
    assert files.state.exists()
    claim.release()
    files.clean()
    assert not files.state.exists()


def test_one_process_at_a_time_has_the_claim(files: ServiceFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "_PATIENCE", 0.05)
    first = files.claim()
    assert first is not None
    assert files.claim() is None  # in vain, after a while
    first.publish(STATE)
    monkeypatch.setattr(state_module, "_PATIENCE", 3600)
    assert files.claim() is None  # at once, since it runs
    first.release()
    assert files.read() is None
    second = files.claim()
    assert second is not None
    second.release()


def test_who_only_looks_keeps_nobody_from_the_claim(files: ServiceFiles) -> None:
    with files.try_alone("service") as alone:
        assert alone
        claims: list[Claim | None] = []
        thread = threading.Thread(target=lambda: claims.append(files.claim()))
        thread.start()
        assert not claims
    thread.join()
    (claim,) = claims
    assert claim is not None
    claim.release()


def test_the_claim_ends_with_its_process(files: ServiceFiles) -> None:
    program = (
        "import os, pathlib, signal, sys; from foundry_serve.daemon.state import *\n"
        "files = ServiceFiles(pathlib.Path(sys.argv[1])); claim = files.claim()\n"
        "claim.publish(ServiceState(phase='running', model_dir_path=''))\n"
        "os.kill(os.getpid(), getattr(signal, 'SIGKILL', signal.SIGTERM))"
    )
    subprocess.run([sys.executable, "-c", program, str(files.home)], check=False)
    left = files.read()
    assert left is not None
    assert not left.lives
    claim = files.claim()
    assert claim is not None
    claim.release()


def test_each_stage_of_a_server_is_published(files: ServiceFiles) -> None:
    claim = files.claim()
    assert claim is not None
    stages = Published(claim, evolve(STATE, phase="starting"))
    stages.listening(["http://127.0.0.1:1", "http://[::1]:1"])
    assert files.read() == evolve(STATE, phase="starting", endpoints=("http://127.0.0.1:1", "http://[::1]:1"))
    for stage, phase in ((stages.serving, "running"), (stages.stopping, "stopping")):
        stage()
        said = files.read()
        assert said is not None
        assert (said.phase, said.pid, said.birth) == (phase, os.getpid(), birth_of(os.getpid()))
    claim.release()


def test_a_disk_that_is_full_ends_no_server(files: ServiceFiles, caplog: pytest.LogCaptureFixture) -> None:
    claim = files.claim()
    assert claim is not None
    stages = Published(claim, evolve(STATE, phase="starting"))
    files.state.mkdir()  # refuses what is written, as a full disk does
    with pytest.raises(OSError, match=re.escape(str(files.state))):
        stages.listening(["http://127.0.0.1:1"])
    for stage in (stages.serving, stages.stopping):
        caplog.clear()
        stage()
        assert str(files.state) in caplog.text
    claim.release()


@pytest.mark.skipif(os.name == "nt", reason="there, access rights are a folder's")
def test_only_the_owner_sees_the_state(files: ServiceFiles) -> None:
    files.write(STATE)
    assert files.state.parent.stat().st_mode & 0o077 == 0


WRITES_A_LOG = """
import logging, os, pathlib, sys
from foundry_serve.daemon.log import LogFile
path = pathlib.Path(sys.argv[1])
logging.basicConfig(level=logging.INFO, handlers=[LogFile(path, limit=2000)])
for number in range(int(sys.argv[2])):
    logging.info("line %s ä", number)
    os.write(1, b"printed\\n")
    os.write(2, b"said\\n")
logging.info("%s", 1, 2)
logging.info("\\udcff")
"""


def test_all_that_the_process_prints_is_in_its_log_which_has_an_end(tmp_path: Path) -> None:
    path = tmp_path / "service.log"
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", WRITES_A_LOG, path, "200"], capture_output=True, check=True
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    logs = sorted(tmp_path.iterdir(), reverse=True)
    assert [one.name for one in logs] == [
        "service.log.3",
        "service.log.2",
        "service.log.1",
        "service.log",
    ]
    assert all(one.stat().st_size < 5000 for one in logs)  # one of them has a traceback
    text = b"".join(one.read_bytes() for one in logs).decode()
    numbers = [int(line.split()[-2]) for line in text.splitlines() if " INFO root: line " in line]
    assert numbers == list(range(numbers[0], 200))
    assert text.count("printed\nsaid\n") >= len(numbers) - 1
    assert "Logging error" in text
    assert text.endswith("INFO root: \\udcff\n")


def test_a_log_that_cannot_be_put_away_goes_on(tmp_path: Path) -> None:
    (tmp_path / "service.log.2").touch()
    (tmp_path / "service.log.3").mkdir()
    (tmp_path / "service.log.3" / "x").touch()
    path = tmp_path / "service.log"
    subprocess.run([sys.executable, "-c", WRITES_A_LOG, path, "100"], check=True)
    assert path.read_text("utf-8").count(" ä\n") == 100


def test_the_end_of_a_log_is_its_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "service.log"
    assert last_lines(path, 5) == []
    path.write_bytes(b"old\n" + b"x" * 100_000 + b"\n\xc3\xa4\n\xff\n")
    assert last_lines(path, 2) == ["ä", "\ufffd"]
    assert {*last_lines(path, 3)[0]} == {"x"}  # the end of it
    assert len(last_lines(path, 9, since=100_000)) == 3
    assert last_lines(path, 9, since=path.stat().st_size) == []


def test_putting_a_log_away_makes_room(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    for number in range(6):
        path.write_text(str(number))
        put_away(path)
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == {
        "a.log.1": "5",
        "a.log.2": "4",
        "a.log.3": "3",
    }
