"""How a shared library's file is called. Refuses to know: what the library is for."""

from __future__ import annotations

import sys

__all__ = ["shared_library_name"]


def shared_library_name(stem: str, *, system: str = sys.platform) -> str:
    """The file name of a shared library: `libSTEM.so`, `libSTEM.dylib` or `STEM.dll`."""
    if system == "win32":
        return f"{stem}.dll"
    if system == "darwin":
        return f"lib{stem}.dylib"
    return f"lib{stem}.so"
