"""Words of a URL to attrs classes: a query string's pairs, and a path's parameters.

Knows: that a word has no type of its own: what it stands for follows from the field that it is for.
Refuses to know: how a URL is split (`exchange/`, `operations/`), and what a field allows: `codec.py` says so,
in the same errors as for JSON.

The laws:
- `600` is the integer 600, `TRUE` is true; what stands for nothing that its field allows is refused
  as the word that it is.
- An empty word counts as absent.
- Names match in any casing; of a repeated name the last word counts; a name that no field has is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, TypeVar

from foundry_proto.codec import structure
from foundry_proto.wire import field_name, fields_of, folded, json_kinds, wire_of

__all__ = ["decode_words"]

T = TypeVar("T")

_NUMBER: Final = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?")


def decode_words(cls: type[T], words: Iterable[tuple[str, str]]) -> T:
    """Read a class from words.

    Args:
        cls: An attrs class whose fields are texts, numbers, booleans or choices of them.
        words: Name and word, decoded.

    Raises:
        ContentError: Naming the parameter, what was expected, and what came; any other exception is a bug.
    """
    fields = {folded(field_name(field, "snake")): field for field in fields_of(cls)}
    casing = wire_of(cls).writes[0]
    plain: dict[str, object] = {}
    for name, word in words:
        field = fields.get(folded(name))
        if field is not None and word:
            plain[field_name(field, casing)] = _from_word(word, json_kinds(field.type))
    return structure(cls, plain)


def _from_word(word: str, kinds: tuple[type, ...]) -> object:
    """The JSON value that a word stands for; the word itself where it stands for none (an error follows)."""
    if bool in kinds and word.lower() in ("true", "false"):
        return word.lower() == "true"
    if float in kinds and (number := _NUMBER.fullmatch(word)):
        return float(word) if number[1] else int(word)
    return word
