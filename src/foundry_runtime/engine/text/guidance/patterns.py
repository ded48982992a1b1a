r"""Regular expressions on their way to the grammar engine: which can be followed, and formats as such.

Knows: the syntax in which JSON Schema's dialect (ECMA-262) and the engine's (Rust's `regex` crate) part ways,
and a pattern for each `format` that is supported.
Refuses to know: schemas, the engine itself, and whether a pattern is well-formed: the engine says that.

What is let pass means the same in both dialects, and in Python's `re` too, which has no `\p{…}` though.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["FORMATS", "MAX_PATTERN", "pattern_fault", "pattern_in_json"]

MAX_PATTERN: Final = 4000
"""Most characters of one regular expression."""

_PIECE: Final = re.compile(
    r"""
      (?P<look> \(\? <? [=!] )
    | (?P<reference> \\ (?: [1-9] | k [<{] ) )
    | (?P<boundary> \\ [bB] )
    | (?P<property> \\ [pP] (?: \{ [^}]* \} | . ) )
    | \\ .
    | (?P<class> \[ (?: [^]\\] | \\ . )* \] )
    | .
    """,
    re.VERBOSE | re.DOTALL,
)
_SET_OPERATION: Final = re.compile(r"\\.|(\[|&&|--|~~)", re.DOTALL)


def pattern_fault(pattern: str, *, set_operations: bool = False) -> str | None:
    """Say what of a regular expression cannot be followed token by token.

    Args:
        pattern: The regular expression.
        set_operations: Whether `[a-z&&[^b]]` is meant as the engine reads it; in ECMA-262 it is a list.

    Returns:
        What is wrong with it, for a person; `None` where nothing is known to be.
    """
    if len(pattern) > MAX_PATTERN:
        return f"expected at most {MAX_PATTERN} characters, got {len(pattern)}"
    if "\0" in pattern:
        return "expected no NUL character; write \\x00"
    for piece in _PIECE.finditer(pattern):
        match piece.lastgroup:
            case "look":
                return f"looking ahead or behind is not supported: {piece[0]}"
            case "reference":
                return f"references to groups are not supported: {piece[0]}"
            case "boundary":
                return f"word boundaries are not supported: {piece[0]}"
            case "class" if not set_operations:
                if piece[0] in {"[]", "[^]"}:
                    return rf"{piece[0]} is read in different ways: expected \] for a bracket"
                found = next((part[1] for part in _SET_OPERATION.finditer(piece[0], 1) if part[1]), None)
                if found is not None:
                    return rf"{found} within [] is read in different ways: expected \ before it"
    return None


def pattern_in_json(pattern: str) -> str:
    r"""Write a pattern so that the engine finds the right JSON strings for it.

    llguidance 1.9 takes a class of characters that has all control characters for one that has the quote and
    the backslash too: `[^"\\]` let both through. Without NUL, which no text here can have, it does not.
    """
    classes = {"class", "property"}
    return _PIECE.sub(
        lambda piece: _without_nul(piece[0]) if piece.lastgroup in classes else piece[0], pattern
    )


def _without_nul(piece: str) -> str:
    return rf"[{piece}&&[^\x00]]"


_YEAR: Final = r"(?:[0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
_FOURTH: Final = r"(?:0[48]|[2468][048]|[13579][26])"
_DATE: Final = (
    rf"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    rf"|02-(?:0[1-9]|1[0-9]|2[0-8]))|(?:[0-9]{{2}}{_FOURTH}|{_FOURTH}00)-02-29)"
)
# Choice: no leap seconds, which many readers refuse, and fractions to the microsecond.
_TIME: Final = (
    r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
_CLOCK: Final = r"T(?:[0-9]{1,4}H(?:[0-9]{1,4}M(?:[0-9]{1,4}S)?)?|[0-9]{1,4}M(?:[0-9]{1,4}S)?|[0-9]{1,4}S)"
_DAYS: Final = r"(?:[0-9]{1,4}Y(?:[0-9]{1,4}M(?:[0-9]{1,4}D)?)?|[0-9]{1,4}M(?:[0-9]{1,4}D)?|[0-9]{1,4}D)"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,22}[A-Za-z0-9])?"
_ATOM: Final = r"[A-Za-z0-9_+-]{1,20}"
_BYTE: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_GROUP: Final = r"[0-9a-fA-F]{1,4}"
_WORD: Final = r"[A-Za-z0-9._~!$&'()*+,;=:@-]"
_HOST: Final = rf"{_LABEL}(?:\.{_LABEL}){{0,4}}"

_IPV6: Final = "|".join((
    rf"(?:{_GROUP}:){{7}}{_GROUP}",
    rf"(?:{_GROUP}:){{1,7}}:",
    *(rf"(?:{_GROUP}:){{1,{7 - after}}}(?::{_GROUP}){{1,{after}}}" for after in range(1, 7)),
    rf":(?::{_GROUP}){{1,7}}",
    "::",
))  # fmt: skip

FORMATS: Final[Mapping[str, str]] = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "duration": f"P(?:{_DAYS}(?:{_CLOCK})?|{_CLOCK}|[0-9]{{1,4}}W)",
    "email": rf"{_ATOM}(?:\.{_ATOM}){{0,2}}@{_LABEL}(?:\.{_LABEL}){{0,2}}\.[A-Za-z]{{2,10}}",
    "hostname": _HOST,
    "ipv4": rf"{_BYTE}(?:\.{_BYTE}){{3}}",
    "ipv6": _IPV6,
    "uuid": r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
    "uri": (
        rf"[a-z][a-z0-9+.-]{{1,15}}://{_HOST}(?::[0-9]{{1,4}})?(?:/{_WORD}{{0,40}}){{0,6}}"
        rf"(?:\?{_WORD}{{0,80}})?(?:#{_WORD}{{0,40}})?"
    ),
}
"""Whole texts of a format, of bounded length and in its common forms: no address with a quoted name, no URI
without a host."""
