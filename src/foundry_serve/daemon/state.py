"""Which process is the home's service, and how far it is: the state file, and the claim to it.

Knows: the files in `$FOUNDRY_HOME/run`, who may write them, and how an entry is told from one whose process
is gone.
Refuses to know: how the process is started and stopped, and whether it answers.

One process at a time holds the claim, by a lock that ends with it; it alone writes the state, except that who
starts a service announces it first. So a state is stale if its process is gone, or is another one by now.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, ClassVar, Final, Literal

from attrs import evolve, field, fields, frozen

from foundry_proto import __version__
from foundry_proto.codec import ContentError, decode, encode
from foundry_proto.wire import Wire
from foundry_runtime.platform import birth_of, make_private_folder, try_lock, write_whole
from foundry_serve.config import Config
from foundry_serve.config_sources import Loaded
from foundry_serve.words import words_of

__all__ = ["Claim", "Phase", "Published", "ServiceFiles", "ServiceState"]

logger = logging.getLogger(__name__)

Phase = Literal["starting", "running", "stopping"]

_PATIENCE: Final = 1.0
"""Seconds that somebody who only looks may have the lock."""
_PAUSE: Final = 0.01


def _own_birth() -> str:
    return birth_of(os.getpid()) or ""


@frozen(kw_only=True)
class _Process:
    """What the state file of any version says."""

    WIRE: ClassVar = Wire(writes=("camel",))
    phase: Phase
    pid: int = field(factory=os.getpid)
    birth: str = field(factory=_own_birth)
    """When the process began, as its system tells it: another one may have its number by now."""
    endpoints: tuple[str, ...] = ()
    """URLs; empty until it listens."""
    began: float = field(factory=time.time)
    """Seconds since 1970."""
    log: str | None = None
    """The file that it writes to; `None` for one in the foreground."""
    model_dir_path: str
    """Where its models are."""


@frozen(kw_only=True)
class ServiceState(_Process):
    """What the state file says."""

    options: Config = field(factory=Config)
    """How it serves; what is secret is not in it."""
    flags: tuple[str, ...] = ()
    """Which of them its command line said: a restart keeps these."""
    key: str | None = None
    """A key for whoever can read this, where the service asks for keys."""
    version: str = __version__

    @classmethod
    def starting(cls, loaded: Loaded, log: Path | None = None) -> ServiceState:
        """What can be said of this process before it listens."""
        return cls(
            phase="starting",
            log=None if log is None else str(log),
            model_dir_path=str(loaded.directory.models),
            options=loaded.config.shown,
            flags=tuple(loaded.flags),
            key=secrets.token_urlsafe(32) if loaded.config.asks_for_keys else None,
        )

    @property
    def given(self) -> Mapping[str, object]:
        """What its command line said, by the setting's name."""
        return {name: getattr(self.options, name) for name in self.flags}

    @property
    def lives(self) -> bool:
        """Whether its process is still there."""
        return birth_of(self.pid) == self.birth


@frozen
class ServiceFiles:
    """The files by which the processes of a home know of its service."""

    home: Path

    @property
    def _run(self) -> Path:
        return self.home / "run"

    @property
    def state(self) -> Path:
        """Which process it is; see `ServiceState`."""
        return self._run / "service.json"

    @property
    def log(self) -> Path:
        """What a service in the background writes; older logs lie beside it."""
        return self.home / "logs" / "service.log"

    def read(self) -> ServiceState | None:
        """What the state file says; nothing where there is none, or none that can be read.

        One of another version says at least which process it is: it can be found and stopped, and what it was
        asked for is not known.
        """
        try:
            data = self.state.read_bytes()
        except OSError:
            return None
        try:
            return decode(ServiceState, data)
        except ContentError:
            pass
        try:
            process = decode(_Process, data)
        except ContentError:
            return None
        known = {one.name: getattr(process, one.name) for one in fields(_Process)}
        return ServiceState(**known, version="unknown")

    def write(self, state: ServiceState) -> None:
        """Say how far the service is.

        Raises:
            OSError: It cannot be written.
        """
        make_private_folder(self._run)
        write_whole(self.state, encode(state))

    def retract(self) -> None:
        """Take back what this process has written, unless another one has written since."""
        state = self.read()
        if state is not None and (state.pid, state.birth) == (os.getpid(), _own_birth()):
            self.state.unlink(missing_ok=True)

    @contextmanager
    def try_alone(self, what: Literal["service", "start"]) -> Iterator[bool]:
        """Let one process at a time into the block; gives whether this one is let in."""
        with self._open_lock(what) as file:
            yield try_lock(file)

    def clean(self) -> None:
        """Remove a state that nobody stands behind any more."""
        with self.try_alone("service") as nobody_has_it:
            state = self.read()
            if nobody_has_it and not (state is not None and state.lives):
                self.state.unlink(missing_ok=True)

    def claim(self) -> Claim | None:
        """Become the home's service; `None` while another process is.

        Raises:
            OSError: The home cannot be written to.
        """
        file = self._open_lock("service")
        deadline = time.monotonic() + _PATIENCE
        while not try_lock(file):
            state = self.read()
            taken = state is not None and state.phase != "starting" and state.lives
            if taken or time.monotonic() > deadline:
                file.close()
                return None
            time.sleep(_PAUSE)
        return Claim(self, file)

    def _open_lock(self, what: str) -> BinaryIO:
        make_private_folder(self._run)
        return (self._run / f"{what}.lock").open("ab")


class Claim:
    """The right of this process to be its home's service; `ServiceFiles.claim` gives it.

    Args:
        files: The home's.
        lock: Open and locked.
    """

    def __init__(self, files: ServiceFiles, lock: BinaryIO) -> None:
        self._files = files
        self._lock = lock

    def publish(self, state: ServiceState) -> None:
        """Say how far the service is.

        Raises:
            OSError: It cannot be written.
        """
        self._files.write(state)

    def release(self) -> None:
        """Be the service no longer."""
        self._files.retract()
        self._lock.close()


class Published:
    """The stages of a server, written down as they come: a `foundry_serve.serving.Stages`.

    Args:
        claim: This process'.
        state: What is known of it already.
    """

    def __init__(self, claim: Claim, state: ServiceState) -> None:
        self._claim = claim
        self._state = state

    def listening(self, endpoints: Sequence[str]) -> None:
        """Publish where it listens.

        Raises:
            OSError: It cannot be written, so that nobody would find it.
        """
        self._move(evolve(self._state, endpoints=tuple(endpoints)))

    def serving(self) -> None:
        """Publish that it answers."""
        self._try_to_move(evolve(self._state, phase="running"))

    def stopping(self) -> None:
        """Publish that it ends."""
        self._try_to_move(evolve(self._state, phase="stopping"))

    def _try_to_move(self, state: ServiceState) -> None:
        try:
            self._move(state)
        except OSError as error:  # no reason to end, and to cut running answers
            logger.warning("what others read of this process is not up to date: %s", words_of(error))

    def _move(self, state: ServiceState) -> None:
        self._state = state
        self._claim.publish(state)
