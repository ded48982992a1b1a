"""llguidance's own C functions, called by name: a vocabulary, and matchers of one grammar each.

Knows: which C functions guidance needs and their types; how a refused grammar and a failed matcher are told;
that a native object is freed once, when Python lets go of it.
Refuses to know: what a grammar means, tokenizers, requests.

Why not the package's Python classes: they hold the interpreter lock while the vocabulary's trie is built, and
an event loop stands still for 100 ms with 49,000 tokens, longer with more. What builds or computes goes
through `CDLL`, which lets go of the lock; what only looks, or takes microseconds, goes through `PyDLL`.
"""

from __future__ import annotations

import ctypes
import weakref
from array import array
from collections.abc import Callable, Mapping, Sequence
from ctypes import (
    POINTER,
    Structure,
    byref,
    c_bool,
    c_char_p,
    c_int32,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any, Final, TypeAlias, final

import numpy as np
import numpy.typing as npt

__all__ = ["GuidanceError", "Limits", "Matcher", "Vocabulary", "load_library"]

_Function: TypeAlias = Callable[..., Any]
_Words: TypeAlias = npt.NDArray[np.uint32]

_VERSION: Final = b"llguidance@1.9."
"""The releases whose structures are the ones below."""

_NO_TOKEN: Final = 0xFFFFFFFF


class GuidanceError(Exception):
    """llguidance's own words for what it could not do, or why it cannot be used at all."""


class Limits(Structure):
    """What one grammar may cost; 0 leaves llguidance's default."""

    _fields_ = [
        ("max_items_in_row", c_size_t),
        ("initial_lexer_fuel", c_uint64),
        ("step_lexer_fuel", c_uint64),
        ("step_max_items", c_size_t),
        ("max_lexer_states", c_size_t),
        ("max_grammar_size", c_size_t),
        ("precompute_large_lexemes", c_bool),
        ("verbose_errors", c_bool),
    ]


class _MatcherInit(Structure):
    _fields_ = [
        ("tokenizer", c_void_p),
        ("log_buffer_level", c_uint32),
        ("log_stderr_level", c_uint32),
        ("ff_tokens_ok", c_bool),
        ("backtrack_ok", c_bool),
        ("limits", Limits),
        ("reserved", c_uint64 * 16),  # zeros for what a later release may read
    ]


class _TokenizerInit(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("vocab_size", c_uint32),
        ("tok_eos", c_uint32),
        ("token_lens", c_void_p),
        ("token_bytes", c_char_p),
        ("tokenizer_json", c_char_p),
        ("tokenize_assumes_string", c_bool),
        ("tokenize_fn", c_void_p),
        ("use_approximate_greedy_tokenize_fn", c_bool),
        ("tokenize_user_data", c_void_p),
        ("slices", c_void_p),
        ("tok_eos_extra", c_void_p),
        ("tok_eos_extra_count", c_uint32),
    ]


# Our name: (name in C, argument types, result).
_COMPUTING: Final[Mapping[str, tuple[str, Sequence[Any], Any]]] = {
    "new_vocabulary": ("llg_new_tokenizer_v2", (POINTER(_TokenizerInit), c_char_p, c_size_t), c_void_p),
    "free_vocabulary": ("llg_free_tokenizer", (c_void_p,), None),
    "new_matcher": ("llg_new_matcher", (POINTER(_MatcherInit), c_char_p, c_char_p), c_void_p),
    "clone_matcher": ("llg_clone_matcher", (c_void_p,), c_void_p),
    "free_matcher": ("llg_free_matcher", (c_void_p,), None),
    "compute_mask": ("llg_matcher_compute_mask_into", (c_void_p, c_void_p, c_size_t), c_int32),
}
_LOOKING: Final[Mapping[str, tuple[str, Sequence[Any], Any]]] = {
    "version": ("llg_get_version", (), c_char_p),
    "consume_token": ("llg_matcher_consume_token", (c_void_p, c_uint32), c_int32),
    "is_stopped": ("llg_matcher_is_stopped", (c_void_p,), c_bool),
    "get_error": ("llg_matcher_get_error", (c_void_p,), c_char_p),
}


@final
class Library:
    """The C functions that are needed, bound and checked, as `library["new_matcher"]`.

    Args:
        path: The shared library.

    Raises:
        GuidanceError: It cannot be loaded, lacks a function, or is of another release.
    """

    def __init__(self, path: str) -> None:
        try:
            unlocked, locked = ctypes.CDLL(path), ctypes.PyDLL(path)
        except OSError as error:
            raise GuidanceError(f"{path} cannot be loaded: {error}") from error
        self._functions: dict[str, _Function] = {}
        for library, rows in ((unlocked, _COMPUTING), (locked, _LOOKING)):
            for name, (symbol, arguments, result) in rows.items():
                try:
                    function = library[symbol]
                except AttributeError as error:
                    raise GuidanceError(f"{path} has no function {symbol}: it cannot be used") from error
                function.argtypes, function.restype = arguments, result
                self._functions[name] = function
        version = self["version"]()
        if not version.startswith(_VERSION):
            raise GuidanceError(f"expected {_VERSION.decode()}*, got {version.decode()}")

    def __getitem__(self, name: str) -> _Function:
        return self._functions[name]


def load_library() -> Library:
    """Bind the C functions of the installed package.

    Raises:
        GuidanceError: The package is not installed, or unusable.
    """
    try:
        from llguidance import _lib  # noqa: PLC0415 - it takes its time, and is needed by few
    except ImportError as error:
        raise GuidanceError(
            f"llguidance cannot be imported (install foundry-proto[text]): {error}"
        ) from error
    return Library(str(_lib.__file__))


@final
class Vocabulary:
    """A model's tokens as llguidance walks them; any thread may use it.

    Building it takes 0.1 s with 49,000 tokens, and lets other threads run.

    Args:
        library: The bound functions.
        tokens: What each id adds to a text; a special token is its name behind a byte 0xFF. An id without
            bytes can never be chosen.
        end_ids: The tokens that end an answer; without any, only what cannot go on has an end.

    Raises:
        GuidanceError: llguidance does not take them.
    """

    def __init__(self, library: Library, tokens: Sequence[bytes], end_ids: Sequence[int]) -> None:
        self.library = library
        self.size = len(tokens)
        lengths = array("I", map(len, tokens))
        more = array("I", end_ids[1:])
        init = _TokenizerInit(
            struct_size=ctypes.sizeof(_TokenizerInit),
            vocab_size=len(tokens),
            tok_eos=end_ids[0] if end_ids else _NO_TOKEN,
            token_lens=lengths.buffer_info()[0],
            token_bytes=b"".join(tokens),
            use_approximate_greedy_tokenize_fn=True,
            tok_eos_extra=more.buffer_info()[0] if more else None,
            tok_eos_extra_count=len(more),
        )
        error = ctypes.create_string_buffer(1000)
        pointer = library["new_vocabulary"](byref(init), error, len(error))
        if pointer is None:
            raise GuidanceError(_text(error.value))
        self.pointer = c_void_p(pointer)
        weakref.finalize(self, library["free_vocabulary"], self.pointer).atexit = False


@final
class Matcher:
    """How far one sequence has come in its grammar; one thread at a time.

    Args:
        vocabulary: What tokens there are.
        kind: `json_schema`, `regex` or `lark`.
        text: The grammar, without NUL characters.
        limits: What it may cost.

    Raises:
        GuidanceError: The grammar is refused; the text says why.
    """

    def __init__(self, vocabulary: Vocabulary, kind: str, text: str, limits: Limits) -> None:
        init = _MatcherInit(tokenizer=vocabulary.pointer, limits=limits)
        pointer = vocabulary.library["new_matcher"](byref(init), kind.encode(), text.encode())
        self._own(vocabulary, pointer)
        self.check()

    def _own(self, vocabulary: Vocabulary, pointer: int) -> None:
        self._vocabulary = vocabulary  # outlives its matchers
        self._functions = vocabulary.library
        self._pointer = c_void_p(pointer)
        weakref.finalize(self, self._functions["free_matcher"], self._pointer).atexit = False

    def clone(self) -> Matcher:
        """Another one at the same place, which shares nothing with this one."""
        other = object.__new__(Matcher)
        other._own(self._vocabulary, self._functions["clone_matcher"](self._pointer))
        return other

    def compute_mask(self, words: _Words) -> None:
        """Write which tokens may come next: a bit for each id, the lowest of the first word for id 0."""
        if self._functions["compute_mask"](self._pointer, words.ctypes.data, words.nbytes):
            self.check()

    def consume(self, token: int) -> None:
        """Take a token that may come next.

        Raises:
            GuidanceError: It may not; the matcher cannot be used any more.
        """
        if self._functions["consume_token"](self._pointer, token):
            self.check()

    @property
    def stopped(self) -> bool:
        """Whether only the end may come."""
        return bool(self._functions["is_stopped"](self._pointer))

    def check(self) -> None:
        """Raise what went wrong in it."""
        error = self._functions["get_error"](self._pointer)
        if error is not None:
            raise GuidanceError(_text(error))


def _text(error: bytes) -> str:
    return error.decode("utf-8", "replace").replace("<non-verbose/>", "").strip()
