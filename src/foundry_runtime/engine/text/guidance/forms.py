"""What form an answer must have: JSON, regular expressions, grammars, and what may stand around them.

Knows: how forms are put together, and how they are written in the grammar engine's own language.
Refuses to know: the engine, tokens but for the names of special ones, requests.

    OneOf((Text(), Then((Text(until="<tool_call>"), Json(schema), Marker("</tool_call>")))))

The engine reads a list of grammars of which the first may call the others by name, `@g1`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias, assert_never, final

from attrs import frozen

from foundry_proto.jsontext import ContentError
from foundry_runtime.engine.text.guidance._documents import Path
from foundry_runtime.engine.text.guidance.patterns import pattern_fault
from foundry_runtime.engine.text.guidance.schema import written_schema

__all__ = [
    "ANY_OBJECT",
    "MAX_GROUPS",
    "MAX_LARK",
    "MAX_RULES",
    "Form",
    "Json",
    "Lark",
    "Leaf",
    "Literal",
    "Marker",
    "OneOf",
    "Regex",
    "Repeated",
    "Text",
    "Then",
    "leaves_of",
    "written_form",
]

MAX_LARK: Final = 32_768
"""Most characters of one grammar."""
MAX_RULES: Final = 500
"""Most rules of one grammar."""
MAX_GROUPS: Final = 1000
"""Most opening parentheses of one grammar: the engine's time grows with rules times depth."""

# Choice: a blank behind each colon and comma and no other white space, as Python writes JSON. Most JSON that
# models have read in one line looks like this; where any white space may come, a small model writes blanks
# and line ends until its tokens are spent. And no `\u` escapes: a name that is spelled with them would not be
# known for the name that it is, and what else they are for, control characters, nobody asks for.
_STYLE: Final = {
    "whitespace_flexible": False,
    "key_separator": ": ",
    "item_separator": ", ",
    "json_allowed_escapes": 'nrbtf\\"',
}


@frozen
class Json:
    """JSON that a schema accepts, on one line."""

    schema: object
    """An object, or true for any value."""
    path: Path = ()
    """Where the schema stands in the request, for errors."""


@frozen
class Regex:
    """Text that a regular expression matches whole, in the syntax of Rust's `regex` crate."""

    pattern: str
    path: Path = ()


@frozen
class Lark:
    """Text of a grammar's language, in llguidance's variant of Lark's syntax."""

    grammar: str
    path: Path = ()


@frozen
class Literal:
    """This text."""

    text: str


@frozen
class Marker:
    """The special token of this name, or the text where the model has no such token."""

    text: str


@frozen
class Text:
    """Any text."""

    until: str | None = None
    """The marker that ends it, and belongs to it: the text is as short as it can be. `None`: the text goes on
    until the model ends its answer."""


@frozen
class OneOf:
    """One of several forms."""

    forms: tuple[Form, ...]


@frozen
class Then:
    """Forms one behind the other."""

    forms: tuple[Form, ...]


@frozen(kw_only=True)
class Repeated:
    """A form several times."""

    form: Form
    least: int = 0
    most: int | None = None
    between: str = ""
    """What stands between two of them."""


Leaf: TypeAlias = Json | Regex | Lark
Form: TypeAlias = Leaf | Literal | Marker | Text | OneOf | Then | Repeated

ANY_OBJECT: Final = Json({"type": "object"})
"""Any JSON object."""


def leaves_of(form: Form) -> Iterator[Leaf]:
    """Give the forms that came with a request, in the order in which they are written."""
    match form:
        case Json() | Regex() | Lark():
            yield form
        case OneOf() | Then():
            for one in form.forms:
                yield from leaves_of(one)
        case Repeated():
            yield from leaves_of(form.form)
        case Literal() | Marker() | Text():
            pass
        case _:
            assert_never(form)


def written_form(form: Form, special_tokens: Mapping[str, int], *, begin: str = "") -> str:
    """Write a form for the engine.

    Args:
        form: What to write.
        special_tokens: The ids of the special tokens that the model has, by their text.
        begin: What stands before it.

    Raises:
        ContentError: A part of it is not supported; the path is that of the part.
    """
    writer = _Writer(special_tokens)
    start = writer.rule(Then((Literal(begin), form)) if begin else form)
    lines = [f"start: {start}", *writer.rules]
    return json.dumps({"grammars": [{"name": "start", "lark_grammar": "\n".join(lines)}, *writer.grammars]})


@final
class _Writer:
    def __init__(self, special_tokens: Mapping[str, int]) -> None:
        self._special_tokens = special_tokens
        self.rules: list[str] = []
        self.grammars: list[dict[str, Any]] = []

    def rule(self, form: Form) -> str:
        """What stands for a form on a rule's right side."""
        match form:
            case Json():
                return self._call({"json_schema": _styled(form.schema, form.path)})
            case Regex():
                return self._call({"lark_grammar": f"start: /{_escaped(_pattern(form))}/"})
            case Lark():
                return self._call({"lark_grammar": _grammar(form)})
            case Literal(text=text):
                return _quoted(text)
            case Marker(text=text):
                token = self._special_tokens.get(text)
                return _quoted(text) if token is None else f"<[{token}]>"
            case Text(until=until):
                return self._text(until)
            case OneOf():
                return f"({' | '.join(map(self.rule, form.forms))})"
            case Then():
                return f"({' '.join(map(self.rule, form.forms))})"
            case Repeated():
                return self._repeated(form)
            case _:
                assert_never(form)

    def _call(self, grammar: dict[str, Any]) -> str:
        name = f"g{len(self.grammars)}"
        self.grammars.append({"name": name, **grammar})
        return f"@{name}"

    def _text(self, until: str | None) -> str:
        if until is None:
            return r"/(?s:.*)/"
        if until in self._special_tokens:
            return rf"/(?s:.*)/ {self.rule(Marker(until))}"
        name = f"text{len(self.rules)}"
        self.rules += [
            f"{name}[lazy]: {name.upper()}",
            rf"{name.upper()}: /(?s:.*)/ {self.rule(Literal(until))}",
        ]
        return name

    def _repeated(self, repeated: Repeated) -> str:
        form, least, most = self.rule(repeated.form), repeated.least, repeated.most
        if most is not None and most < 2:  # the engine takes no repetition up to 0
            return f"({form}){'' if least else '?'}" if most else '""'
        if not repeated.between:
            return f"({form}){{{least},{'' if most is None else most}}}"
        limits = f"{max(least - 1, 0)},{'' if most is None else most - 1}"
        further = f"({_quoted(repeated.between)} {form}){{{limits}}}"
        return f"({form} {further}){'' if least else '?'}"


def _quoted(text: str) -> str:
    return json.dumps(text).replace("\x7f", r"\u007f")


def _pattern(form: Regex) -> str:
    fault = pattern_fault(form.pattern, set_operations=True)
    if fault is not None:
        raise ContentError(fault, form.path)
    return form.pattern


def _escaped(pattern: str) -> str:
    """Between slashes, on one line; nothing at all would begin a comment."""
    return _DELIMITER.sub(lambda found: _ESCAPES.get(found[0], found[0]), pattern) or "(?:)"


_DELIMITER: Final = re.compile(r"\\.|/|\n|\r", re.DOTALL)
_ESCAPES: Final = {"/": r"\/", "\n": r"\n", "\r": r"\r", "\\\n": r"\n", "\\\r": r"\r"}

_RULE: Final = re.compile(r"^[ \t]*[!?]?[A-Za-z_][\w-]*[^\S\n]*(?:\[[^\]\n]*\])?[^\S\n]*:", re.MULTILINE)
_OPTION: Final = re.compile(r"\[[^\]\n]*\b(stop|temperature)\s*=[^\]\n]*\]\s*:")
_INLINE: Final = re.compile(r"%json\s*(?=\{)")


def _grammar(form: Lark) -> str:
    """A grammar with the schemas in it written as all schemas are."""
    text, path = form.grammar, form.path
    if len(text) > MAX_LARK:
        raise ContentError(f"expected at most {MAX_LARK} characters, got {len(text)}", path)
    if "\0" in text:
        raise ContentError("expected no NUL character", path)
    rules = len(_RULE.findall(text))
    if rules > MAX_RULES:
        raise ContentError(f"expected at most {MAX_RULES} rules, got {rules}", path)
    groups = text.count("(")
    if groups > MAX_GROUPS:
        raise ContentError(f"expected at most {MAX_GROUPS} opening parentheses, got {groups}", path)
    if (option := _OPTION.search(text)) is not None:
        raise ContentError(f"the option {option[1]} of a rule is not supported", path)
    pieces: list[str] = []
    end = 0
    for found in _INLINE.finditer(text):
        if found.start() < end:
            continue  # within the schema before
        try:
            schema, after = json.JSONDecoder().raw_decode(text, found.end())
        except (ValueError, RecursionError) as error:
            raise ContentError(f"expected JSON behind %json: {error}", path) from error
        pieces += [text[end : found.end()], json.dumps(_styled(schema, path))]
        end = after
    return "".join((*pieces, text[end:]))


def _styled(schema: object, path: Path) -> dict[str, Any]:
    return {**written_schema(schema, path), "x-guidance": _STYLE}
