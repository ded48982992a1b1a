"""llguidance's refusals in words for who wrote the grammar.

Knows: which of its texts mean what.
Refuses to know: how to get one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from foundry_proto.jsontext import ContentError
from foundry_runtime.engine.text.guidance._documents import Path

__all__ = ["refusal"]

_COSTLY: Final = "following it would take too much time or memory"

# What is found in the text, and what is said, with the groups of the first in it.
_WORDS: Final[Sequence[tuple[str, str]]] = (
    (r"^panic:", "the grammar engine failed on it"),
    (
        r"Unsatisfiable schema: Regex is empty",
        "no value is valid: no text has the pattern and the length that are asked for",
    ),
    (r"Unsatisfiable schema: (.*)", r"no value is valid: \1"),
    (
        r"circular references with sibling keys",
        "$ref: a schema that refers to itself cannot have other keywords beside the reference",
    ),
    (r"(?s)regex parse error:.*error: (.*?)(?:\n|\Z)", r"not a regular expression that is supported: \1"),
    (
        r"lookarounds not supported",
        "not a regular expression that is supported: ^ and $ only mark the text's ends",
    ),
    (r"multipleOf", "multipleOf: not a number that can be followed digit by digit"),
    (
        r"min/maxProperties",
        "minProperties, maxProperties: supported only where all listed properties are required",
    ),
    (
        r"patternProperty regexes",
        "patternProperties: supported only where no name can match two of the patterns",
    ),
    (r"(?i)too (?:big|large|many|complex)|fuel|exhausted|exceeded|; max is|Unable to determine", _COSTLY),
    (r"NoExtension", "nothing matches it"),
    (r"^(?:at )?(\d+)\((\d+)\): (.*?)(?:\n|\Z)", r"line \1, column \2: \3"),
    (r"^(.*?)(?:\n|\Z)", r"the grammar engine refuses it: \1"),
)
_MOST: Final = 300


def refusal(error: Exception, path: Path) -> ContentError:
    """Give the error that a client is told.

    Args:
        error: llguidance's own.
        path: Where the grammar stands in the request.
    """
    for pattern, words in _WORDS:
        if (found := re.search(pattern, str(error))) is not None:
            return ContentError(found.expand(words)[:_MOST], path)
    return ContentError("not supported", path)
