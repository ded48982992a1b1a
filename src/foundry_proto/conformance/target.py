"""The server that is tried: how it is reached, what may be done to it, and what was found there.

Knows: what a case may count on. Refuses to know: how it was found out (`looking.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias

from attrs import frozen

__all__ = ["Permission", "Target"]

Permission: TypeAlias = Literal["download", "unload", "shutdown"]
"""What a case does only if it is allowed."""


@frozen(kw_only=True)
class Target:
    """A server."""

    host: str = "localhost"
    """What requests say in `Host`."""
    prefix: str = ""
    """What stands before each path: empty, or `/mounted/here`."""
    key: str | None = None
    """What to send as a bearer token."""
    model: str = ""
    """The model for chats; empty until one was found."""
    allow: frozenset[Permission] = frozenset()
    patience: float = 60.0
    """Seconds that an answer may take."""
    get: str = "/v1/models"
    """A path that answers GET, for cases of HTTP."""
    absent: frozenset[str] = frozenset()
    """The optional groups that the server does not have."""
    model_trouble: str = "no model was looked for"
    """Why no chat is possible; empty if it is."""
    listed: str = ""
    """The model's id in the lists, where it is listed."""
    loaded_before: bool = False
    """Whether some model was in memory before the first chat: it is somebody's."""
    loader: Literal["", "/openai/load/", "/models/load/"] = ""
    """Where models are loaded; empty where they cannot be."""
    uncached: Mapping[str, Any] | None = None
    """A model of the catalogue that is not on the server's machine, as the list shows it."""
    embedder: str = ""
    """A model that gives vectors; empty if none was found."""

    @property
    def model_id(self) -> str:
        """What the model is called in lists and paths: as it is listed, else as chats name it."""
        return self.listed or self.model

    def lacks(self, need: str) -> str | None:
        """Say why something that a case needs is not there; `None` if it is.

        Args:
            need: A `Need` of `case.py`.
        """
        return _LACKS[need](self)


def _unload(target: Target) -> str | None:
    if target.loaded_before and "unload" not in target.allow:
        return "it unloads a model that was in memory before: --allow unload"
    return None


def _download(target: Target) -> str | None:
    return None if "download" in target.allow else "it downloads: --allow download"


def _shutdown(target: Target) -> str | None:
    return None if "shutdown" in target.allow else "it ends the server: --allow shutdown"


_LACKS: Final[Mapping[str, Callable[[Target], str | None]]] = {
    "model": lambda target: target.model_trouble or None,
    "loader": lambda target: None if target.loader else "the server has no route that loads models",
    "unload": _unload,
    "uncached": lambda target: None if target.uncached else "the catalogue has no model that is not here",
    "embedder": lambda target: None if target.embedder else "no model that gives vectors was found",
    "download": _download,
    "shutdown": _shutdown,
}
