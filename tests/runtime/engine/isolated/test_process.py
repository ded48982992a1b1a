"""An engine in another process keeps the contract, and tells how it ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from foundry_proto.errors import LocalProtocolError
from foundry_runtime.engine import _child, process
from foundry_runtime.engine import _messages as messages
from foundry_runtime.engine._spawned import how_it_ended
from foundry_runtime.engine.api import (
    EngineEvent,
    EngineFailed,
    EngineLost,
    Failed,
    Finished,
    Guide,
    Job,
    ModelLoadError,
    Overloaded,
    Refused,
    Sampling,
    Token,
)
from foundry_runtime.engine.check import check_engine
from foundry_runtime.engine.process import ProcessEngine
from foundry_runtime.engine.scripted import ScriptedEngine
from foundry_runtime.models.engines import make_isolated_engine
from foundry_runtime.models.folder import ModelFolder
from foundry_runtime.platform import birth_of

HERE = "tests.support.isolated"


def job(*prompt: int, max_tokens: int = 10, **more: Any) -> Job:
    return Job(prompt=prompt, max_tokens=max_tokens, sampling=Sampling(temperature=0.0), **more)


@contextmanager
def isolated(name: str, *, patience: float = 120.0, **arguments: object) -> Iterator[ProcessEngine]:
    engine = ProcessEngine(f"{HERE}:{name}", arguments, patience=patience)
    try:
        yield engine
    finally:
        engine.close()
    assert birth_of(engine.pid) is None
    assert not [one.name for one in threading.enumerate() if one.name.startswith("watch over")]


def run(engine: ProcessEngine, limit: int = 1000) -> list[EngineEvent]:
    events: list[EngineEvent] = []
    for _ in range(limit):
        events += engine.step()
        if events and isinstance(events[-1], Finished | Failed):
            return events
    raise AssertionError("it does not end")


def test_it_keeps_the_contract_over_a_script() -> None:
    check_engine(lambda: ProcessEngine(f"{HERE}:echoing", {"context_length": 300}))


def test_it_keeps_the_contract_over_a_model(tiny_folder: Path) -> None:
    folder = ModelFolder.read(tiny_folder)
    for kind in ("batched", "genai"):
        check_engine(lambda kind=kind: make_isolated_engine(folder, kind, threads=1))  # type: ignore[misc]


def test_its_numbers_are_the_childs() -> None:
    with isolated("echoing", context_length=77) as engine:
        assert engine.context_length == 77
        engine.admit(job(5, 6))
        run(engine)
        assert engine.counters.prompt_tokens == 2
        assert engine.counters.generated_tokens == 3
        assert engine.counters.steps == 3


def test_what_is_printed_there_disturbs_nothing_and_what_is_logged_there_is_logged_here(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with isolated("chatty") as engine:
        engine.admit(job(5))
        assert [one.id for one in run(engine) if isinstance(one, Token)] == [5]
    assert [(one.name, one.getMessage()) for one in caplog.records] == [
        ("tests.chatty", "hello from the child")
    ]
    assert "nor is this" in capfd.readouterr().err


def test_a_refusal_arrives_as_what_it_is() -> None:
    with isolated("refusing") as engine:
        with pytest.raises(Refused, match=r"^no ones$") as refused:
            engine.admit(job(1))
        assert (refused.value.param, refused.value.code) == ("messages", "no_ones")
        with pytest.raises(Overloaded, match=r"^later$") as overloaded:
            engine.admit(job(2))
        assert overloaded.value.retry_after == 7.5
        with pytest.raises(MemoryError, match=r"^no room for 3$"):
            engine.admit(job(3))
        engine.admit(job(4))
        with pytest.raises(LocalProtocolError, match="in the engine already"):
            engine.admit(next(iter(engine._numbers)))
        assert isinstance(run(engine)[-1], Finished)


def test_an_exception_of_a_step_arrives_by_its_words_and_the_engine_goes_on() -> None:
    with isolated("grumbling") as engine:
        engine.admit(job(5, 6))
        engine.step()
        with pytest.raises(EngineFailed, match=r"^not a number$"):
            engine.step()
        assert engine.step() == ()
        engine.admit(job(5, 6))
        engine.step()
        with pytest.raises(EngineLost, match=r"^no more$"):
            engine.step()
        assert engine.lost
        with pytest.raises(EngineLost, match=r"^no more$"):
            engine.admit(job(5))


def test_a_child_keeps_nothing_of_jobs_that_a_step_has_failed() -> None:
    jobs = _child._Jobs(_child._Pipe(BytesIO(), BytesIO()))
    engine = ScriptedEngine(fail_at={1: ValueError("not a number"), 2: EngineLost("no more")})
    for number, kind in ((1, ""), (2, "lost")):
        admit = process._described(number, job(5, 6), None)
        assert _child._admit(engine, jobs, admit) == messages.Admitted()
        assert list(jobs.by_number) == [number]
        trouble = _child._step(engine, jobs)
        assert isinstance(trouble, messages.Trouble)
        assert trouble.kind == kind
        assert (jobs.by_number, jobs._numbers) == ({}, {})


@pytest.mark.parametrize(
    ("name", "arguments", "error", "text"),
    [
        ("broken", {}, ModelLoadError, "/models/x: there is nothing in it"),
        ("nameless", {}, EngineFailed, "'what nobody expects'"),
        ("dying", {}, ModelLoadError, "while it was loaded, its process ended with status 7"),
        ("absent", {}, EngineFailed, f"module '{HERE}' has no attribute 'absent'"),
    ],
)
def test_why_it_cannot_be_loaded_is_told(
    name: str, arguments: dict[str, object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        ProcessEngine(f"{HERE}:{name}", arguments)
    assert not [one.name for one in threading.enumerate() if one.name.startswith("watch over")]


def test_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(ModelLoadError, match=r"^the engine's process cannot be started: .*No such file"):
        ProcessEngine(f"{HERE}:echoing", {})


def test_a_child_of_another_release_is_told_from_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "VERSION", 999)
    with pytest.raises(ModelLoadError, match=r"another release than this one: after an upgrade, start anew$"):
        ProcessEngine(f"{HERE}:echoing", {})


def test_a_killed_child_is_lost_and_says_how() -> None:
    with isolated("slow", seconds=0.01) as engine:
        engine.admit(job(5))
        engine.step()
        assert not engine.lost
        threading.Timer(0.02, os.kill, (engine.pid, signal.SIGKILL)).start()
        with pytest.raises(EngineLost, match=r"^its process was ended by signal SIGKILL$"):
            run(engine)
        with pytest.raises(EngineLost, match="SIGKILL"):
            engine.step()


def test_a_child_that_ends_while_nobody_asks_is_seen_to_be_lost() -> None:
    with isolated("echoing") as engine:
        os.kill(engine.pid, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while not engine.lost and time.monotonic() < deadline:
            time.sleep(0.001)
        assert engine.lost
        with pytest.raises(EngineLost, match=r"^its process was ended by signal SIGKILL$"):
            engine.admit(job(5))


def test_a_child_that_ends_by_itself_is_lost_and_says_how() -> None:
    with isolated("abrupt", status=134) as engine:
        engine.admit(job(5))
        engine.step()
        with pytest.raises(EngineLost, match=r"^its process ended with status 134$"):
            engine.step()


def test_a_child_that_is_silent_is_ended() -> None:
    def begin(engine: ProcessEngine) -> None:
        engine.admit(job(5))  # which it answers, if the machine gives it the time
        engine.step()

    words = r"^its process said nothing for 0\.2 seconds, and was ended$"
    with isolated("silent", patience=0.2) as engine, pytest.raises(EngineLost, match=words):
        begin(engine)


def test_a_child_that_cannot_forget_a_job_is_lost() -> None:
    with isolated("unforgetting") as engine:
        asked = job(5)
        engine.admit(asked)
        engine.cancel(asked)
        with pytest.raises(EngineLost, match=r"^its process ended with status 1$"):
            engine.admit(job(5))


def test_what_is_no_frame_ends_the_child() -> None:
    with isolated("echoing") as engine:
        engine._process.stdin.write(b"\xff" * 5)  # type: ignore[union-attr]
        with pytest.raises(EngineLost, match=r"^its process ended with status 0$"):
            engine.admit(job(5))


class Spelled:
    """A grammar that allows what its letters say, and may raise where it is told to."""

    def __init__(self, *ids: int, raises: Exception | None = None) -> None:
        self.ids = list(ids)
        self.raises = raises

    def begin(self) -> Guide:
        return self

    @property
    def complete(self) -> bool:
        return not self.ids

    def constrain(self, logits: npt.NDArray[np.float32]) -> None:
        if self.raises is not None:
            raise self.raises
        kept = logits[self.ids[0]]
        logits.fill(-np.inf)
        logits[self.ids[0]] = kept

    def accept(self, token: int) -> None:
        assert token == self.ids.pop(0)


def test_a_grammar_stays_here_and_what_it_raises_is_the_jobs_error() -> None:
    error = ZeroDivisionError("a grammar's own")
    with isolated("echoing") as engine:
        good, bad = job(5, grammar=Spelled(9, 8, 7)), job(5, grammar=Spelled(9, raises=error))
        engine.admit(good)
        engine.admit(bad)
        events = [*engine.step(), *engine.step(), *engine.step(), *engine.step()]
        assert [one.id for one in events if isinstance(one, Token)] == [9, 8, 7]
        assert [one for one in events if isinstance(one, Failed)] == [Failed(job=bad, error=error)]


def test_a_child_leaves_signals_to_its_owner() -> None:
    with isolated("echoing") as engine:
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(engine.pid, number)
        engine.admit(job(5))
        assert isinstance(run(engine)[-1], Finished)


OWNER = f"""
import os, sys
from foundry_runtime.engine.process import ProcessEngine
from foundry_runtime.engine.scripted import ScriptedEngine
from foundry_runtime.engine.api import Job, Sampling
engine = ProcessEngine({HERE!r} + ":silent", {{}})
print(engine.pid, flush=True)
engine.admit(Job(prompt=[1], max_tokens=5, sampling=Sampling()))
engine.step()
"""


def test_a_child_ends_with_its_owner_even_amid_a_step() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE)
    with owner:
        assert owner.stdout is not None
        child = int(owner.stdout.readline())
        birth = birth_of(child)
        assert birth is not None
        time.sleep(0.1)
        owner.kill()
    deadline = time.monotonic() + 60
    while birth_of(child) == birth and time.monotonic() < deadline:
        time.sleep(0.01)
    assert birth_of(child) != birth


def test_how_a_process_ended_is_told_in_words() -> None:
    assert how_it_ended(None) == "its process has closed its pipe"
    assert how_it_ended(3) == "its process ended with status 3"
    assert how_it_ended(0xC0000005) == "its process ended with status 0xc0000005"
    assert how_it_ended(-11) == "its process was ended by signal SIGSEGV"
    assert how_it_ended(-99) == "its process was ended by signal 99"
