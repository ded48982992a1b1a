"""An engine's process from outside: how it is started, watched amid a step, and how it ended.

Knows: that it finds the modules that this process does, that no signal of a terminal is for it, and what its
exit status says.
Refuses to know: what it is told and answers (`process.py`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO, Final, cast, final

from foundry_runtime.engine.api import ModelLoadError

__all__ = ["ENDING", "Watch", "how_it_ended", "pipe_of", "start"]

_GLANCE: Final = 5.0
"""Most seconds between two looks at how long the process has been silent."""
_NEW_GROUP: Final = 0x00000200
"""CREATE_NEW_PROCESS_GROUP: Ctrl-C in this program's console is not for it."""
ENDING: Final = 5.0
"""Seconds that a child has to end, once it was told, or its pipe was closed."""


def start() -> subprocess.Popen[bytes]:
    """Start the child, which waits for its first message.

    Raises:
        ModelLoadError: It cannot be started.
    """
    # It finds modules where this process does, wherever those came from.
    path = os.pathsep.join(str(Path(one).absolute()) for one in sys.path)
    # Ctrl-C is for all that belong to a terminal; the child shall not even get to the point of ignoring it.
    apart: dict[str, Any] = (
        {"creationflags": _NEW_GROUP} if sys.platform == "win32" else {"start_new_session": True}
    )
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "foundry_runtime.engine._child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            **apart,
        )
    except OSError as error:
        raise ModelLoadError(f"the engine's process cannot be started: {error}") from error


def pipe_of(pipe: Any) -> BinaryIO:
    assert pipe is not None, "both were asked for"
    return cast("BinaryIO", pipe)


def how_it_ended(status: int | None) -> str:
    if status is None:
        return "its process has closed its pipe"
    if status >= 0:
        # Windows' own reasons are large numbers, which are looked up as hexadecimal ones.
        return f"its process ended with status {status if status < 256 else hex(status)}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = str(-status)
    return f"its process was ended by signal {name}"


@final
class Watch:
    """Kills a child that says nothing amid a step: `with watch:` is a step.

    A thread, since no system waits for a pipe for a limited time in the same way as another.
    """

    def __init__(self, process: subprocess.Popen[bytes], patience: float) -> None:
        self._process = process
        self._patience = patience
        self._since: float | None = None
        self._over = threading.Event()
        self.why: str | None = None
        """Why it was killed."""
        self._thread = threading.Thread(target=self._main, name=f"watch over {process.pid}", daemon=True)

    def begin(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def __enter__(self) -> None:
        self._since = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._since = None

    def end(self) -> None:
        """Watch no longer."""
        self._over.set()
        if self._thread.ident is not None:  # it could be started
            self._thread.join()

    def _main(self) -> None:
        while not self._over.wait(min(self._patience / 4, _GLANCE)):
            since = self._since
            if since is not None and time.monotonic() - since > self._patience:
                self.why = f"its process said nothing for {self._patience:g} seconds, and was ended"
                self._process.kill()
                return
