"""A model folder's JSON files, and how to say which of their fields is wrong.

Knows: what kinds of values stand in them. Refuses to know: which fields there are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import EllipsisType
from typing import NoReturn, TypeVar

from attrs import frozen

__all__ = ["BadModelFolder", "Document"]

T = TypeVar("T")


class BadModelFolder(ValueError):
    """A model folder cannot be used; the message names the file, the field and what was expected."""


@frozen
class Document:
    """A JSON file, whose fields are named by their path: `model.context_length`."""

    path: Path
    content: Mapping[str, object]

    @classmethod
    def read(cls, path: Path) -> Document:
        """Read a file.

        Raises:
            BadModelFolder: It is not there, or no JSON object.
        """
        try:
            content = json.loads(path.read_bytes())
        except OSError as error:
            raise BadModelFolder(f"{path}: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise BadModelFolder(f"{path}: expected JSON: {error}") from error
        if not isinstance(content, dict):
            raise BadModelFolder(f"{path}: expected an object, got {_shown(content)}")
        return cls(path, content)

    def find(self, field: str) -> object:
        """Whatever stands there; `None` for nothing."""
        value: object = self.content
        for name in field.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    # What follows raises BadModelFolder where something else stands.

    def text(self, field: str) -> str:
        """A text that is not empty."""
        value = self.find(field)
        return value if isinstance(value, str) and value else self._wrong(field, "a name")

    def line(self, field: str) -> str | None:
        """A text, which may be empty, or nothing."""
        value = self.find(field)
        return value if value is None or isinstance(value, str) else self._wrong(field, "a text")

    def flag(self, field: str) -> bool | None:
        """True, false or nothing."""
        value = self.find(field)
        return value if value is None or isinstance(value, bool) else self._wrong(field, "true or false")

    def number(self, field: str, *, at_least: float = 0, at_most: float) -> float | None:
        """A number, or nothing."""
        value = self.find(field)
        if value is None:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool) and at_least <= value <= at_most:
            return float(value)
        return self._wrong(field, f"a number from {at_least} to {at_most}")

    def whole(self, field: str, *, at_least: int = 0, default: T | EllipsisType = ...) -> int | T:
        """A whole number; where nothing is said, the default if there is one."""
        value = self.find(field)
        if value is None and not isinstance(default, EllipsisType):
            return default
        if isinstance(value, int) and not isinstance(value, bool) and value >= at_least:
            return value
        return self._wrong(field, f"a whole number of at least {at_least}")

    def wholes(self, field: str) -> tuple[int, ...]:
        """One or more whole numbers, a single one also without a list."""
        value = self.find(field)
        numbers = value if isinstance(value, list) else [value]
        if numbers and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
            return tuple(numbers)
        return self._wrong(field, "a token id or a list of them")

    def _wrong(self, field: str, expected: str) -> NoReturn:
        raise BadModelFolder(f"{self.path}: {field}: expected {expected}, got {_shown(self.find(field))}")


def _shown(value: object) -> str:
    """A value as JSON, cut to a readable length; nothing and null are the same to these files."""
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}…"
