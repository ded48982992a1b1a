"""Starts, finds and stops the home's service, from another process.

Knows: that a service is there only if its process is and answers at its port; that one which is starting is
worth a wait; that two who start one at once both mean the same one.
Refuses to know: terminals, and how the service serves.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Final

import anyio
from attrs import frozen

from foundry_proto.errors import RemoteProtocolError
from foundry_proto.operations.service import CORE_STATUS
from foundry_runtime.client import ServerFailure
from foundry_runtime.platform import kill_process, make_private_folder, request_stop, start_detached
from foundry_runtime.transport import TransportBroken, TransportClosed
from foundry_serve.config_sources import Loaded
from foundry_serve.daemon.log import LOG_LIMIT, last_lines, put_away
from foundry_serve.daemon.reaching import client_of
from foundry_serve.daemon.state import ServiceFiles, ServiceState

__all__ = ["Found", "Probe", "StartFailed", "Started", "StopFailed", "find", "probe", "start", "stop"]

STARTING: Final = 30.0
"""Seconds that a service which is starting is waited for."""
ANSWERING: Final = 5.0
"""Seconds that a service has to say that it is the one."""
ENDING: Final = 5.0
"""Seconds that a service has to end, beside those for running answers; then it is killed."""
_PAUSE: Final = 0.03
"""Seconds between two looks at what another process writes."""
_SHOWN: Final = 20
"""Lines of the log that tell why a start failed."""


class StartFailed(Exception):
    """The service did not start; `lines` are the last ones of its log."""

    def __init__(self, message: str, lines: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.lines = lines


class StopFailed(Exception):
    """The service could not be stopped; the text says why."""


@frozen(kw_only=True)
class Found:
    """A service whose process is there."""

    state: ServiceState
    problem: str | None = None
    """Why it counts as not running although its process is there; `None` if it answers."""


@frozen(kw_only=True)
class Started:
    """A service that runs."""

    state: ServiceState
    fresh: bool
    """Whether it was started by this call."""


Probe = Callable[[ServiceState], Awaitable[str | None]]
"""Asks a service whether it is the one of a state; gives why not."""


async def probe(state: ServiceState) -> str | None:
    """Ask at a service's own address which process answers there.

    Returns:
        Why it is not the one of the state; `None` if it is.
    """
    (url, *_) = state.endpoints
    try:
        with anyio.fail_after(ANSWERING):
            async with client_of(state, timeout=ANSWERING) as client:
                status = await client.call(CORE_STATUS)
    except TimeoutError:
        return f"its process {state.pid} is silent at {url}"
    except OSError as error:
        return f"its process {state.pid} does not answer: {error.strerror}"
    except (TransportBroken, TransportClosed):
        return f"what answers at {url} hangs up"
    except (ServerFailure, RemoteProtocolError):
        return f"another server answers at {url}"
    return None if status.pid == state.pid else f"another server, process {status.pid}, answers at {url}"


async def find(files: ServiceFiles, *, patience: float = STARTING, probe: Probe = probe) -> Found | None:
    """Find the home's service.

    Args:
        files: The home's.
        patience: Seconds that one which is starting is waited for.
        probe: Asks it whether it is the one.

    Returns:
        `None` where there is none. A state that was left behind is cleaned up.
    """
    deadline = anyio.current_time() + patience
    while (state := files.read()) is not None and state.lives:
        if state.phase != "starting":
            ends = "it is stopping" if state.phase == "stopping" else None
            problem = ends or await probe(state)
            if problem is None or state.lives:
                return Found(state=state, problem=problem)
        elif anyio.current_time() >= deadline:
            return Found(state=state, problem=f"its process {state.pid} has been starting for long")
        else:
            await anyio.sleep(_PAUSE)
    if files.state.exists():
        files.clean()
    return None


async def start(files: ServiceFiles, loaded: Loaded, *, within: float = 60.0) -> Started:
    """Start the home's service in the background, unless it runs; return when it answers.

    Args:
        files: The home's.
        loaded: How it shall serve.
        within: Seconds that it may take.

    Raises:
        StartFailed: It does not start, or another process is in the way.
        OSError: The home cannot be written to.
    """
    files.home.mkdir(parents=True, exist_ok=True)
    async with _alone(files):
        found = await find(files)
        if found is not None and found.state.phase == "stopping":
            await _wait_for_its_end(found.state)
            found = await find(files)
        if found is not None and found.problem is None:
            return Started(state=found.state, fresh=False)
        if found is not None:
            raise StartFailed(f"there is a service, and {found.problem}: stop it first")
        # Who looks meanwhile shall wait rather than start another one.
        files.write(ServiceState.starting(loaded))
        try:
            return await _launch(files, loaded, within)
        except BaseException:
            files.retract()
            raise


@asynccontextmanager
async def _alone(files: ServiceFiles) -> AsyncIterator[None]:
    """Let one process at a time start a service; the others wait."""
    with ExitStack() as stack:
        while not stack.enter_context(files.try_alone("start")):
            stack.pop_all().close()
            await anyio.sleep(_PAUSE)
        yield


async def _launch(files: ServiceFiles, loaded: Loaded, within: float) -> Started:
    make_private_folder(files.log.parent)
    if files.log.exists() and files.log.stat().st_size >= LOG_LIMIT:
        put_away(files.log)
    with files.log.open("ab") as output:
        begin = output.tell()
        child = start_detached(
            [sys.executable, "-P", "-m", "foundry_serve.daemon", json.dumps(dict(loaded.flags))],
            output=output,
            folder=files.home,
            environment={
                **os.environ,
                **loaded.variables,
                "FOUNDRY_HOME": str(files.home),
                "PYTHONUTF8": "1",
            },
        )

    def runs() -> bool:
        state = files.read()
        return state is not None and state.pid != os.getpid() and state.phase == "running"

    over = False
    try:
        over = await _until(lambda: runs() or child.poll() is not None, within=within)
    finally:
        if not over:
            kill_process(child.pid)
    if over and child.poll() is None and (state := files.read()) is not None:
        return Started(state=state, fresh=True)
    found = await find(files, patience=0)
    if found is not None and found.problem is None:
        return Started(state=found.state, fresh=False)  # one in the foreground was quicker
    how = f"; it ended with status {child.poll()}" if over else f" within {within:g} seconds"
    raise StartFailed(f"the service did not start{how}", last_lines(files.log, _SHOWN, since=begin))


async def stop(files: ServiceFiles, *, now: bool = False) -> ServiceState | None:
    """Stop the home's service, and return when it has ended.

    Args:
        files: The home's.
        now: Whether running answers are cut; otherwise they have the time that the service was started with.

    Returns:
        What it was; `None` if there was none.

    Raises:
        StopFailed: It is another user's.
    """
    found = await find(files)
    if found is None:
        return None
    state = found.state
    try:
        request_stop(state.pid)
        if now:
            # Two requests at once might be taken for one.
            await _until(lambda: _has_heard(files, state), within=ENDING)
            request_stop(state.pid)
    except ProcessLookupError:
        pass  # it has ended by itself
    except PermissionError as error:
        raise StopFailed(f"the service's process {state.pid} is another user's") from error
    await _wait_for_its_end(state)
    files.clean()
    return state


def _has_heard(files: ServiceFiles, state: ServiceState) -> bool:
    said = files.read()
    return said is None or said.phase == "stopping" or not state.lives


async def _wait_for_its_end(state: ServiceState) -> None:
    if not await _until(lambda: not state.lives, within=state.options.drain + ENDING):
        kill_process(state.pid)
        await _until(lambda: not state.lives, within=math.inf)


async def _until(condition: Callable[[], bool], *, within: float) -> bool:
    """Wait for what another process does and tells nobody of; gives whether it did so in time."""
    with anyio.move_on_after(within):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await anyio.sleep(_PAUSE)
    return condition()
