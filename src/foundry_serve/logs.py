"""How the server's log looks: lines for people, or a JSON object in each line for programs.

Knows: both forms, and that each line which belongs to a request carries the request's id.
Refuses to know: what is logged, and where the lines go.

Nothing that a client wrote is logged: neither prompts nor answers, nor the words of an error that repeats
them, unless `log_prompts` asks for it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, Literal

__all__ = ["FORMATS", "LogFormat", "formatter", "request_id", "set_up_logging"]

LogFormat = Literal["text", "json"]
FORMATS: Final[tuple[LogFormat, ...]] = ("text", "json")

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The request that is being answered, also in the threads that work for it."""


class _Text(logging.Formatter):
    """A line for people; a request's lines end with its id."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - its name in `logging`
        """Write all but an exception; see `logging.Formatter`."""
        line = super().formatMessage(record)
        found = _request_of(record)
        return line if found is None else f"{line} [{found}]"


class _Json(logging.Formatter):
    """An object in a line. `time`, `level`, `logger` and `message` are in each; the others where they mean
    something."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record; see `logging.Formatter`."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        found = _request_of(record)
        if found is not None:
            line["request_id"] = found
        fields: Mapping[str, object] = getattr(record, "fields", {})
        line.update({name: value for name, value in fields.items() if value is not None})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _request_of(record: logging.LogRecord) -> str | None:
    """The request that a record belongs to: that of the task that logs."""
    return getattr(record, "request_id", None) or request_id.get()


def formatter(form: LogFormat) -> logging.Formatter:
    """Give what writes records in a form."""
    return _Json() if form == "json" else _Text()


_OURS: Final = ("foundry_proto", "foundry_runtime", "foundry_serve")


def set_up_logging(form: LogFormat, handler: logging.Handler, *, level: int, verbose: bool = False) -> None:
    """Have a process log.

    Args:
        form: How lines look.
        handler: Where they go.
        level: What is logged at all.
        verbose: Whether the project's own packages log more.
    """
    handler.setFormatter(formatter(form))
    logging.basicConfig(level=level, handlers=[handler])
    if verbose:
        for package in _OURS:
            logging.getLogger(package).setLevel(logging.DEBUG)
