"""What a case does to a server, as plain values: who performs them moves the bytes, and says what happened.

Knows: the steps, and what comes back of each. A script is a generator that yields steps.
Refuses to know: sockets, clocks, event loops, and what the bytes mean.

| step | what comes back |
|---|---|
| `Open` | `done` and the connection's number, or `lost` |
| `Send` | `done`, or `lost` when the server is gone |
| `Receive` | `data`, or `end` (nothing more will come), `lost` (a reset), `silence` (patience has ended) |
| `Close`, `Sleep` | `done` |
| `Call`, `Together` | what their own scripts return |
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from attrs import frozen

__all__ = [
    "Call",
    "Close",
    "Happened",
    "Open",
    "Receive",
    "Returned",
    "Script",
    "Send",
    "Sleep",
    "Step",
    "Together",
    "advance",
    "closing",
    "drive",
]

T = TypeVar("T")


@frozen(kw_only=True)
class Happened:
    """What a step came to."""

    at: float
    """When, in seconds on any clock that runs evenly."""
    outcome: Literal["done", "data", "end", "silence", "lost"] = "done"
    data: bytes = b""
    """What came, at least one byte, if the outcome is `data`."""
    connection: int = 0
    """The number of a connection that was opened."""


@frozen
class Open:
    """Open a connection to the server."""


@frozen
class Send:
    """Send bytes; also these that no HTTP library would write."""

    connection: int
    data: bytes


@frozen
class Receive:
    """Wait for bytes."""

    connection: int
    patience: float
    """Seconds to wait at most."""


@frozen
class Close:
    """Close a connection, whatever is under way on it."""

    connection: int


@frozen
class Sleep:
    """Let time pass; no time at all says what time it is."""

    seconds: float


@frozen
class Call:
    """Do what a script says, and give what it returns: a whole exchange as one step."""

    script: Callable[[], Generator[Any, Any, Any]]


@frozen
class Together:
    """Do what several scripts say at the same time, and give what they return, in a list."""

    scripts: tuple[Generator[Any, Any, Any], ...]


Step: TypeAlias = Open | Send | Receive | Close | Sleep | Call | Together

Script = Generator[Step, Any, T]
"""Yields steps, is sent what each came to, and returns something."""


@frozen
class Returned(Generic[T]):
    """A script has come to its end."""

    value: T


def advance(script: Script[T], happened: Any) -> Step | Returned[T]:
    """Tell a script what its last step came to, and take the next one.

    Args:
        script: What is to be done.
        happened: What the last step came to; `None` before the first.

    Returns:
        The next step, or what the script returns. What it raises is raised here, too.
    """
    try:
        return script.send(happened)
    except StopIteration as end:
        return Returned(end.value)


def drive(script: Script[T], perform: Callable[[Open | Send | Receive | Close | Sleep | Together], Any]) -> T:
    """Perform a script to its end.

    Args:
        script: What is to be done.
        perform: Does one step, and gives what it came to: `Happened`, for `Together` the list.

    Returns:
        What the script returns. What it raises is raised here, too.
    """
    happened: Any = None
    while not isinstance(step := advance(script, happened), Returned):
        happened = drive(step.script(), perform) if isinstance(step, Call) else perform(step)
    return step.value


def closing(script: Script[T]) -> Script[T]:
    """Do what a script says, and close the connections that it leaves open, however it ends.

    What one of several scripts that run together raises is raised when all of them have ended.
    """
    opened: list[int] = []
    try:
        value = yield from _noting(script, opened)
    except Exception:  # not `finally`: a script that is thrown away (`GeneratorExit`) may not yield
        yield from _close(opened)
        raise
    yield from _close(opened)
    return value


def _close(opened: list[int]) -> Script[None]:
    for number in opened:
        yield Close(number)


def _noting(script: Script[T], opened: list[int]) -> Script[T]:
    """Do what a script says, and note the connections that it opens."""
    happened: Any = None
    while not isinstance(step := advance(script, happened), Returned):
        match step:
            case Call():
                happened = yield from _noting(step.script(), opened)
            case Together():
                outcomes = yield Together(tuple(_settled(closing(one)) for one in step.scripts))
                happened = _values(outcomes)
            case _:
                happened = yield step
        if isinstance(step, Open) and happened.outcome == "done":
            opened.append(happened.connection)
        elif isinstance(step, Close):
            opened.remove(step.connection)
    return step.value


def _settled(script: Script[T]) -> Script[tuple[T, None] | tuple[None, Exception]]:
    """What a script returns, or what it raises: the border between scripts that run together."""
    try:
        return (yield from script), None
    except Exception as error:  # noqa: BLE001 - raised again by `_values`, when all of them have ended
        return None, error


def _values(outcomes: list[tuple[Any, Exception | None]]) -> list[Any]:
    for _, error in outcomes:
        if error is not None:
            raise error
    return [value for value, _ in outcomes]
