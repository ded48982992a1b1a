"""A model's grammars: forms compiled for its vocabulary, and guides that let only what is allowed be chosen.

Knows: what the engine of grammars (llguidance) is told of a vocabulary, what a grammar may cost, and how a
number comes to its end.
Refuses to know: requests, inference engines, text.

    guidance = Guidance(tokenizer, end_ids=folder.end_ids, rows=folder.vocab_size)
    grammar = await anyio.to_thread.run_sync(guidance.compile, Json(schema))
    job = Job(..., grammar=grammar)
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Final, TypeAlias, TypeVar, final

import numpy as np
import numpy.typing as npt

from foundry_runtime.engine.api import Grammar
from foundry_runtime.engine.text.guidance._library import (
    GuidanceError,
    Limits,
    Matcher,
    Vocabulary,
    load_library,
)
from foundry_runtime.engine.text.guidance._refusals import refusal
from foundry_runtime.engine.text.guidance.forms import Form, Json, leaves_of, written_form
from foundry_runtime.engine.text.tokenizer import Tokenizer

__all__ = ["MAX_DIGITS", "MAX_KEPT", "Guidance", "GuidanceError"]

_Floats: TypeAlias = npt.NDArray[np.float32]
_Ids: TypeAlias = npt.NDArray[np.intp]
_Words: TypeAlias = npt.NDArray[np.uint32]
T = TypeVar("T")

MAX_KEPT: Final = 32
"""Grammars of a model that stay compiled."""

_LIMITS: Final = Limits(
    max_items_in_row=2000,
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=200_000,
    step_max_items=50_000,
    max_lexer_states=50_000,
    max_grammar_size=500_000,
    precompute_large_lexemes=True,
    verbose_errors=False,
)
"""llguidance's own, with a fifth of its lexer states: they take 1 to 2 kB each."""


@final
class Guidance:
    """Compiles grammars for one model; may be used from several threads at once.

    The vocabulary is built when the first grammar is compiled, once: 0.2 s with 49,000 tokens.

    Args:
        tokenizer: The model's tokenizer.
        end_ids: The tokens that end an answer.
        rows: How many ids the model can generate: more than the tokenizer has tokens, or fewer.
    """

    def __init__(self, tokenizer: Tokenizer, *, end_ids: Sequence[int], rows: int) -> None:
        self._tokenizer = tokenizer
        self._end_ids = end_ids
        self._rows = rows
        self._building = threading.Lock()
        self._tokens: _Tokens | None = None
        self._keeping = threading.Lock()
        self._kept: OrderedDict[str, _Grammar] = OrderedDict()

    def compile(self, form: Form) -> Grammar:
        """Compile a form; one of the last few is found compiled.

        Blocks, while other threads run: call it in a worker thread. A form takes some milliseconds.

        Raises:
            ContentError: The form is not supported; the path is that of the part that is to blame.
            GuidanceError: llguidance cannot be used at all.
        """
        text = self._written(form)
        with self._keeping:
            if (kept := self._kept.get(text)) is not None:
                self._kept.move_to_end(text)
                return kept
        tokens = self._set_up()
        try:
            grammar = _Grammar(
                tokens, text, numbers_end=any(isinstance(leaf, Json) for leaf in leaves_of(form))
            )
        except GuidanceError as error:
            raise refusal(error, self._to_blame(form, tokens)) from error
        with self._keeping:
            self._kept[text] = grammar
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return grammar

    def _written(self, form: Form) -> str:
        # Such a tokenizer puts a blank before each text, and takes it away again.
        begin = " " if self._tokenizer.drops_first_blank else ""
        return written_form(form, self._tokenizer.special_tokens, begin=begin)

    def _set_up(self) -> _Tokens:
        with self._building:
            if self._tokens is None:
                self._tokens = _Tokens(self._tokenizer, self._end_ids, self._rows)
            return self._tokens

    def _to_blame(self, form: Form, tokens: _Tokens) -> tuple[str | int, ...]:
        """Where the first part that is refused by itself stands."""
        leaves = list(leaves_of(form))
        for leaf in leaves if len(leaves) > 1 else ():
            try:
                _Grammar(tokens, self._written(leaf), numbers_end=False)
            except GuidanceError:
                return leaf.path
        return leaves[0].path if leaves else ()


_MARK: Final = b"\xff"
"""Stands before a special token's name; no text has this byte."""
_LONGEST: Final = 1000
"""Bytes of a token that llguidance can still walk."""
_IN_TEXT: Final = re.compile(rb"[A-DF-Za-df-z\"]")


@final
class _Tokens:
    """The vocabulary, and what is known of it beside."""

    def __init__(self, tokenizer: Tokenizer, end_ids: Sequence[int], rows: int) -> None:
        texts = [*tokenizer.token_bytes[:rows], *[b""] * (rows - len(tokenizer.token_bytes))]
        names = {token: text for text, token in tokenizer.special_tokens.items() if token < rows}
        ends = [token for token in end_ids if token < rows]
        for token in ends:
            names.setdefault(token, texts[token].decode("utf-8", "replace") or f"<[{token}]>")
        for token in names:
            texts[token] = b""
        self.texts: Sequence[bytes] = texts
        """What each id adds to a text; nothing for special tokens, the end tokens among them."""
        known = [b"" if _MARK in text or len(text) > _LONGEST else text for text in texts]
        for token, name in names.items():
            known[token] = _MARK + name.encode()
        self.vocabulary = Vocabulary(load_library(), known, ends)
        self._usable = self._words(token for token, text in enumerate(known) if text)
        """A grammar may name others by their numbers."""
        self.digits = self._words(token for token, text in enumerate(known) if text[:1].isdigit())
        self.no_number = self._words(token for token, text in enumerate(known) if _IN_TEXT.match(text))
        """Those of which one is allowed where digits are part of a text or an id, and none in a number."""
        self._twins = self._find_twins(known)

    def words(self) -> _Words:
        """A bit for each id, none of them set."""
        return np.zeros((len(self.texts) + 31) // 32, dtype=np.uint32)

    def forbid(self, allowed: _Words, logits: _Floats) -> None:
        """Make `-inf` of what is not allowed, in place."""
        usable = allowed & self._usable
        bits = np.unpackbits(usable.view(np.uint8), bitorder="little", count=len(self.texts))
        if self._twins is not None:
            twins, begins, sizes = self._twins
            bits[twins] = np.repeat(np.maximum.reduceat(bits[twins], begins), sizes)
        known = logits[: len(bits)]
        np.copyto(known, -np.inf, where=bits[: len(known)] == 0)
        logits[len(bits) :] = -np.inf

    def _words(self, tokens: Iterable[int]) -> _Words:
        words = self.words()
        bits = np.unpackbits(words.view(np.uint8), bitorder="little")
        bits[list(tokens)] = 1
        return np.packbits(bits, bitorder="little").view(np.uint32)

    @staticmethod
    def _find_twins(texts: Sequence[bytes]) -> tuple[_Ids, _Ids, _Ids] | None:
        """Ids of the same text, of which llguidance knows one: SentencePiece has `A`, and the byte 0x41.

        Returns:
            All of them, group by group; where each group begins; how many each has.
        """
        groups: dict[bytes, list[int]] = {}
        for token, text in enumerate(texts):
            if text:
                groups.setdefault(text, []).append(token)
        twins = [group for group in groups.values() if len(group) > 1]
        if not twins:
            return None
        sizes = np.array([len(group) for group in twins])
        return np.concatenate(twins), np.cumsum(sizes) - sizes, sizes


@final
class _Grammar:
    """A compiled grammar.

    Raises:
        GuidanceError: llguidance refuses it, or already its first token costs more than one may.
    """

    def __init__(self, tokens: _Tokens, text: str, *, numbers_end: bool) -> None:
        self._tokens = tokens
        self._numbers_end = numbers_end
        self._beginning = _with_room(lambda: Matcher(tokens.vocabulary, "llguidance", text, _LIMITS))
        self._beginning.compute_mask(tokens.words())
        self._cloning = threading.Lock()

    def begin(self) -> _Guide:
        with self._cloning:
            matcher = self._beginning.clone()
        return _Guide(self._tokens, matcher, numbers_end=self._numbers_end)


_ROOM: Final = 64 * 2**20
_starting = threading.Lock()


def _with_room(work: Callable[[], T]) -> T:
    """Work in a thread with a large stack.

    llguidance compiles by recursion, and would end the process where a stack ends: threads have from 512 kB
    to 16 MB, as the system likes, and what a grammar of the size that is let pass needs was seen to be 10 MB.
    """
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again by who waits
            result.set_exception(error)

    thread = threading.Thread(target=run, name="grammar")
    with _starting:
        usual = threading.stack_size(_ROOM)
        try:
            thread.start()
        finally:
            threading.stack_size(usual)
    thread.join()
    return result.result()


# Choice: digits come to an end where a number may. Nothing in JSON bounds them, and a small model goes on for
# ever; a double does not tell more of them apart, and is infinite from an exponent of three digits on.
MAX_DIGITS: Final = 16
"""After so many digits in a row a number ends, where it may."""
_EXPONENT_DIGITS: Final = 2
_NUMBER: Final = re.compile(rb"([eE][+-]?)?([0-9]+)\Z")
_TAIL: Final = 24


@final
class _Guide:
    """How far one job has come in its grammar."""

    def __init__(self, tokens: _Tokens, matcher: Matcher, *, numbers_end: bool) -> None:
        self._tokens = tokens
        self._matcher = matcher
        self._numbers_end = numbers_end
        self._allowed = tokens.words()
        self._tail = b""

    def constrain(self, logits: _Floats) -> None:
        try:
            self._matcher.compute_mask(self._allowed)
        except GuidanceError as error:
            raise GuidanceError(f"the form that was asked for cannot be followed further: {error}") from error
        if self._numbers_end and self._long_number():
            self._end_number()
        self._tokens.forbid(self._allowed, logits)

    def accept(self, token: int) -> None:
        self._matcher.consume(token)
        self._tail = (self._tail + self._tokens.texts[token])[-_TAIL:]

    @property
    def complete(self) -> bool:
        return self._matcher.stopped

    def _long_number(self) -> bool:
        found = _NUMBER.search(self._tail)
        return found is not None and len(found[2]) >= (_EXPONENT_DIGITS if found[1] else MAX_DIGITS)

    def _end_number(self) -> None:
        """Forbid further digits, unless they stand in a text or nothing else is allowed."""
        if not (self._allowed & self._tokens.no_number).any():
            others = self._allowed & ~self._tokens.digits
            if others.any():
                self._allowed[:] = others
