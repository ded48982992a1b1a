"""What each operation does: one coroutine function per row of the table, named like it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from foundry_runtime.application import Handler
from foundry_serve.handlers.chat import chat_completions
from foundry_serve.services import Services

__all__ = ["HANDLERS"]

HANDLERS: Final[Mapping[str, Handler[Services]]] = {"chat_completions": chat_completions}
