"""Exceptions on their way from one process to another.

Knows: which of them mean something to those who catch them, and so arrive as what they were.
Refuses to know: what they are about; of all others the words arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from foundry_proto.errors import LocalProtocolError
from foundry_runtime.engine._messages import Trouble
from foundry_runtime.engine.api import EngineFailed, EngineLost, ModelLoadError, Overloaded, Refused

__all__ = ["error_of", "trouble_of"]

_MOST_TEXT: Final = 20_000
"""Characters: what somebody reads of a message, and more."""


def trouble_of(error: BaseException) -> Trouble:
    """Describe an exception."""
    kind = next((name for name, (kind, _) in _KINDS.items() if isinstance(error, kind)), "")
    return Trouble(
        kind,
        (str(error) or type(error).__name__)[:_MOST_TEXT],
        getattr(error, "param", None) if isinstance(error, Refused) else None,
        error.code if isinstance(error, Refused) else None,
        error.retry_after if isinstance(error, Overloaded) else None,
    )


def error_of(trouble: Trouble) -> Exception:
    """Make an exception again."""
    known = _KINDS.get(trouble.kind)
    return EngineFailed(trouble.text) if known is None else known[1](trouble)


_KINDS: Final[Mapping[str, tuple[type[Exception], Callable[[Trouble], Exception]]]] = {
    "refused": (Refused, lambda one: Refused(one.text, param=one.param, code=one.code)),
    "overloaded": (
        Overloaded,
        lambda one: Overloaded(one.text, retry_after=1.0 if one.retry_after is None else one.retry_after),
    ),
    "lost": (EngineLost, lambda one: EngineLost(one.text)),
    "load": (ModelLoadError, lambda one: ModelLoadError(one.text)),
    "misuse": (LocalProtocolError, lambda one: LocalProtocolError(one.text)),
    "memory": (MemoryError, lambda one: MemoryError(one.text)),
}
