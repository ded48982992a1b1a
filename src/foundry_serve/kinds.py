"""What a setting's value may be, and how it is read from a file, a variable or a flag.

Knows: a kind for each sort of value, with the words for what it expects.
Refuses to know: which settings there are (`config.py`), and where a value came from
(`config_sources.py`).

A file has types (TOML); variables and flags are texts. Both give the same values, or the same errors.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from foundry_serve.security import ORIGIN, is_key

__all__ = [
    "BadValue",
    "Kind",
    "address",
    "choice",
    "described",
    "file_mode",
    "keys",
    "number",
    "origins",
    "path",
    "says",
    "switch",
    "text",
    "texts",
    "whole",
]

_ABOUT: Final = "foundry setting"
_YES: Final = ("1", "true", "yes", "on")
_NO: Final = ("0", "false", "no", "off")


class BadValue(ValueError):
    """A value is none of its kind; the text says what was expected."""


@frozen(kw_only=True)
class Kind:
    """What a value may be."""

    expects: str
    """In words, for errors and for the help."""
    read: Callable[[Any], Any]
    """Make a value of a text, or of what TOML has; `None` where it is none."""
    choices: Sequence[str] = ()
    """All values, where they are few."""
    is_switch: bool = False
    is_path: bool = False
    show: Callable[[Any], str] = str
    """Write a value for people."""
    noun: str = "text"
    """What stands for a value in the help."""

    def value_of(self, given: object, *, secret: bool = False, base: Path = Path()) -> Any:
        """Read a value.

        Args:
            given: A text, or what TOML has.
            secret: Whether an error must not quote it.
            base: What a path is relative to.

        Raises:
            BadValue: It is none of this kind.
        """
        value = self.read(given)
        if value is None:
            got = "something else" if secret else _quote(given)
            raise BadValue(f"expected {self.expects}, got {got}")
        return str(base.absolute() / value) if self.is_path else value


def says(help: str, kind: Kind, *, secret: bool = False, flag: bool = True) -> Mapping[str, Any]:  # noqa: A002 - as click has it
    """Describe a setting, as the metadata of its field.

    Args:
        help: What it does, as a sentence for users.
        kind: What it may be.
        secret: Whether its value is shown to nobody.
        flag: Whether the command line can give it; other users see a process' arguments.
    """
    return {_ABOUT: (help, kind, secret, flag)}


def described(metadata: Mapping[Any, Any]) -> tuple[str, Kind, bool, bool]:
    """What `says` said of a field."""
    about: tuple[str, Kind, bool, bool] = metadata[_ABOUT]
    return about


def _quote(given: object) -> str:
    return json.dumps(given, ensure_ascii=False, default=str)[:80]


def _text(given: Any) -> str | None:
    return given if isinstance(given, str) and given != "" else None


def _path(given: Any) -> str | None:
    return str(Path(given).expanduser()) if _text(given) and "\0" not in given else None


def _address(given: Any) -> str | None:
    fits = isinstance(given, str) and re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", given)
    return given.rstrip("/") if fits else None


def _texts(given: Any) -> tuple[str, ...] | None:
    found = [part.strip() for part in given.split(",")] if isinstance(given, str) else given
    if not isinstance(found, list | tuple) or not all(isinstance(one, str) for one in found):
        return None
    return tuple(one for one in found if one)


def _each(found: tuple[str, ...] | None, fits: Callable[[str], object]) -> tuple[str, ...] | None:
    return found if found is not None and all(map(fits, found)) else None


def _switch(given: Any) -> bool | None:
    if isinstance(given, bool):
        return given
    word = given.lower() if isinstance(given, str) else ""
    return True if word in _YES else False if word in _NO else None


def _number(given: Any) -> float | None:
    if isinstance(given, str):
        try:
            given = float(given)
        except ValueError:
            return None
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        return None
    return float(given)


def _whole(given: Any) -> int | None:
    if isinstance(given, str):
        given = int(given) if re.fullmatch(r"-?[0-9]{1,18}", given) else None
    return given if isinstance(given, int) and not isinstance(given, bool) else None


def _mode(given: Any) -> int | None:
    if isinstance(given, str):
        given = int(given, 8) if re.fullmatch(r"(0o)?[0-7]{1,4}", given) else None
    return given if isinstance(given, int) and not isinstance(given, bool) and 0 <= given <= 0o777 else None


text: Final = Kind(expects="a text", read=_text)
path: Final = Kind(expects="a path", read=_path, is_path=True, noun="path")
address: Final = Kind(expects="http(s)://HOST[:PORT][/PATH]", read=_address, noun="url")
texts: Final = Kind(
    expects="a list of texts, or one with commas between them",
    read=_texts,
    show=lambda value: ", ".join(value) or "-",
    noun="text,…",
)
origins: Final = Kind(
    expects="origins such as http://localhost:3000, or *",
    read=lambda given: _each(_texts(given), ORIGIN.fullmatch),
    show=texts.show,
    noun=texts.noun,
)
keys: Final = Kind(
    expects="keys of 16 to 512 visible ASCII characters, without commas",
    read=lambda given: _each(_texts(given), is_key),
    show=texts.show,
)
switch: Final = Kind(
    expects="true or false", read=_switch, is_switch=True, show=lambda value: "true" if value else "false"
)
file_mode: Final = Kind(
    expects="a file's mode in octal, at most 0777", read=_mode, show=lambda mode: f"{mode:04o}"
)


def whole(lowest: int, highest: int | None = None) -> Kind:
    """A whole number in a range."""
    ends = f"of at least {lowest}" if highest is None else f"from {lowest} to {highest}"

    def read(given: Any) -> int | None:
        value = _whole(given)
        return None if value is None or value < lowest or value > (highest or value) else value

    return Kind(expects=f"a whole number {ends}", read=read, noun="integer")


def number(lowest: float) -> Kind:
    """A number from one on."""

    def read(given: Any) -> float | None:
        value = _number(given)
        return None if value is None or value < lowest else value

    return Kind(expects=f"a number of at least {lowest:g}", read=read, show="{:g}".format, noun="number")


def choice(*names: str) -> Kind:
    """One of several words."""
    return Kind(
        expects=f"one of {', '.join(names)}",
        read=lambda given: given if given in names else None,
        choices=names,
    )
