"""Windows' libraries, as far as they are asked: processes and named events of a small world of their own."""

from __future__ import annotations

import ctypes
import threading
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import define, field

__all__ = ["Windows"]

HIGH = 1 << 40
"""Handles lie beyond 32 bits, so that one that was taken for an `int` is noticed."""


@define
class Windows:
    """Processes by number, each with the time of its creation, or `None` once it has ended."""

    processes: dict[int, int | None] = field(factory=dict)
    images: dict[int, str] = field(factory=dict)
    events: dict[str, threading.Event] = field(factory=dict)
    handles: dict[int, Any] = field(factory=dict)
    """What is open."""
    tables: dict[int, bytes] = field(factory=dict)
    """By address family: the listening sockets."""

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have `ctypes` load these libraries."""
        kernel32 = SimpleNamespace(
            # Functions take attributes, as foreign ones do; methods do not.
            OpenProcess=partial(self._open_process),
            CreateEventW=partial(self._create_event),
            OpenEventW=partial(self._open_event),
            WaitForSingleObject=self._wait,
            GetProcessTimes=self._times,
            QueryFullProcessImageNameW=self._image,
            SetEvent=lambda handle: self.handles[handle.value].set(),
            CloseHandle=lambda handle: self.handles.pop(handle.value),
        )
        iphlpapi = SimpleNamespace(GetExtendedTcpTable=self._table)
        libraries = {"kernel32": kernel32, "iphlpapi": iphlpapi}
        monkeypatch.setattr(ctypes, "WinDLL", libraries.__getitem__, raising=False)

    def _open(self, what: Any) -> int:
        handle = HIGH + len(self.handles)
        while handle in self.handles:
            handle += 1
        self.handles[handle] = what
        return handle

    def _open_process(self, access: int, inherit: bool, pid: int) -> int:
        assert access & 0x1000
        assert not inherit
        return self._open(pid) if pid in self.processes else 0

    def _create_event(self, security: None, manual_reset: bool, initial: bool, name: str) -> int:
        assert (security, manual_reset, initial) == (None, False, False)
        return self._open(self.events.setdefault(name, threading.Event()))

    def _open_event(self, access: int, inherit: bool, name: str) -> int:
        assert (access, inherit) == (2, False)
        return self._open(self.events[name]) if name in self.events else 0

    def _wait(self, handle: ctypes.c_void_p, milliseconds: int) -> int:
        thing = self.handles[handle.value or 0]
        if isinstance(thing, threading.Event):
            assert milliseconds == 0xFFFFFFFF
            thing.wait()
            thing.clear()
            return 0
        assert milliseconds == 0 or self.processes[thing] is None, "nobody would end it"
        return 0 if self.processes[thing] is None else 0x102

    def _times(self, handle: ctypes.c_void_p, created: Any, *others: Any) -> bool:
        assert len(others) == 3
        created._obj.value = self.processes[self.handles[handle.value or 0]]
        return True

    def _image(self, handle: ctypes.c_void_p, flags: int, path: Any, length: Any) -> bool:
        image = self.images.get(self.handles[handle.value or 0])
        if image is None:
            return False
        path.value = image
        length._obj.value = len(image)
        return True

    def _table(self, table: Any, size: Any, order: bool, family: int, kind: int, reserved: int) -> int:
        assert (order, kind, reserved) == (False, 3, 0)
        data = self.tables.get(family, bytes(4))
        if size._obj.value < len(data):
            size._obj.value = len(data)
            return 122
        table[: len(data)] = data
        return 0
