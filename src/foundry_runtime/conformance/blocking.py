"""Performs a script's steps on plain sockets, with no event loop; what runs together has a thread each.

Knows: sockets and the clock. Refuses to know: what the bytes mean.
"""

from __future__ import annotations

import itertools
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar, assert_never

from attrs import define, field

from foundry_proto.conformance import Close, Happened, Open, Receive, Script, Send, Sleep, Together, drive
from foundry_runtime.conformance.place import Place

__all__ = ["perform_blocking"]

T = TypeVar("T")

_PATIENCE: Final = 30.0
"""Seconds to connect, or to hand bytes over."""
_MOST: Final = 64 * 1024


def perform_blocking(script: Script[T], place: Place) -> T:
    """Perform a script to its end.

    Args:
        script: What is to be done.
        place: Where the server is.

    Returns:
        What the script returns. What it raises is raised here, too.
    """
    performer = _Performer(place.connect)
    try:
        return drive(script, performer.perform)
    finally:
        performer.close()


@define
class _Performer:
    _connect: Callable[[float], socket.socket]
    _open: dict[int, socket.socket] = field(init=False, factory=dict)
    _numbers: Iterator[int] = field(init=False, factory=lambda: itertools.count(1))

    def perform(self, step: Open | Send | Receive | Close | Sleep | Together) -> Any:
        match step:
            case Together():
                return self._together(step.scripts)
            case Sleep():
                time.sleep(step.seconds)
            case Close():
                self._open.pop(step.connection).close()
            case Open():
                return self._open_one()
            case Send():
                return self._send(step)
            case Receive():
                return self._receive(step)
            case _:
                assert_never(step)
        return self._happened()

    def _happened(self, **more: Any) -> Happened:
        return Happened(at=time.monotonic(), **more)

    def _together(self, scripts: tuple[Script[Any], ...]) -> list[Any]:
        with ThreadPoolExecutor(max_workers=max(1, len(scripts))) as threads:
            return list(threads.map(lambda script: drive(script, self.perform), scripts))

    def _open_one(self) -> Happened:
        try:
            connection = self._connect(_PATIENCE)
        except OSError:
            return self._happened(outcome="lost")
        number = next(self._numbers)
        self._open[number] = connection
        return self._happened(connection=number)

    def _send(self, step: Send) -> Happened:
        connection = self._open[step.connection]
        try:
            connection.settimeout(_PATIENCE)
            connection.sendall(step.data)
        except OSError:
            return self._happened(outcome="lost")
        return self._happened()

    def _receive(self, step: Receive) -> Happened:
        connection = self._open[step.connection]
        try:
            connection.settimeout(max(step.patience, 0.001))
            data = connection.recv(_MOST)
        except (TimeoutError, ssl.SSLWantReadError):
            return self._happened(outcome="silence")
        except OSError:
            return self._happened(outcome="lost")
        return self._happened(outcome="data", data=data) if data else self._happened(outcome="end")

    def close(self) -> None:
        """Close what is still open."""
        for connection in self._open.values():
            connection.close()
