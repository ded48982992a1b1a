"""The one tokenizer: text into ids, ids into bytes, and how many there are.

Knows: the `tokenizers` library, its `tokenizer.json`, and the decoders whose work can be written down as one
piece of bytes for each id: byte-level BPE and SentencePiece's.
Refuses to know: chat templates, models, requests.

A special token's text inside a piece stays text: the caller puts the special tokens' ids where they belong.
Texts are encoded by the library's batch call even when there is one, because that alone lets the
interpreter's other threads run meanwhile (`encode` would hold them up for 100 ms with a prompt of 200 kB).
"""

from __future__ import annotations

import json
import operator
import os
import re
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Final

import tokenizers
from attrs import frozen
from tokenizers import AddedToken, models, pre_tokenizers

__all__ = ["Tokenizer", "TokenizerError", "read_core"]

# Read by the library at each call. Its own threads would compete with the model's for the cores, and make it
# warn at each fork; a prompt is short work for one. Who has set it keeps what they chose.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class TokenizerError(ValueError):
    """A model's `tokenizer.json` cannot be used; the message names the file and says why."""


@frozen(kw_only=True, eq=False, repr=False)
class Tokenizer:
    """One model's tokenizer; may be used from several threads at once."""

    special_tokens: Mapping[str, int]
    """The ids of the tokens that mark structure, such as the end of a turn, by their text. They stand for no
    text of an answer."""
    added_tokens: frozenset[str]
    """The texts of all tokens that its file adds to the model's vocabulary, special or not."""
    takes_blanks_before: frozenset[str]
    """The special tokens that swallow the white space before them."""
    takes_blanks_after: frozenset[str]
    """The special tokens that swallow the white space after them."""
    before_texts: Sequence[int]
    """The ids that its file puts before every text: often the one with which texts begin, or none."""
    token_bytes: Sequence[bytes]
    """What each id adds to a text, by id; empty for special tokens and for ids that no token has."""
    drops_first_blank: bool
    """Whether one blank at the very start of a decoded text is dropped: SentencePiece's tokenizers put it
    before each text that they encode."""
    _tables: dict[frozenset[str], Sequence[bytes]]
    """Those that `bytes_showing` has given: few, and each as large as the vocabulary."""
    _names: Mapping[int, bytes]
    """The texts of special tokens, by id."""
    _first: tokenizers.Tokenizer
    """Encodes what stands at the start of a text."""
    _further: tokenizers.Tokenizer
    """Encodes what stands behind something else; shares the model with `_first`."""

    @classmethod
    def load(cls, folder: Path, *, rows: int = 0) -> Tokenizer:
        """Read a model folder's `tokenizer.json`.

        Blocks for about 130 ms with 49,000 tokens, and keeps all other threads of the interpreter waiting
        for 30 to 40 ms of it at a stretch: call it in a thread, once per model.

        Args:
            folder: The model folder.
            rows: How many ids the model can generate; `token_bytes` is at least as long. Models often have
                more rows than their tokenizer has tokens.

        Raises:
            TokenizerError: There is no such file, or it is not one that can be used.
        """
        path = folder / "tokenizer.json"
        core = read_core(path)
        to_bytes, drops_first_blank = _decoding(path, core)
        table = _table(core, rows, to_bytes)
        added = core.get_added_tokens_decoder()
        special = {index: token for index, token in added.items() if token.special}
        return cls(
            special_tokens={token.content: index for index, token in special.items()},
            added_tokens=frozenset(token.content for token in added.values()),
            takes_blanks_before=frozenset(token.content for token in special.values() if token.lstrip),
            takes_blanks_after=frozenset(token.content for token in special.values() if token.rstrip),
            before_texts=_before_texts(core),
            token_bytes=table,
            tables={frozenset(): table},
            drops_first_blank=drops_first_blank,
            names={index: token.content.encode() for index, token in special.items()},
            first=core,
            further=_further(path, core),
        )

    def encode_pieces(self, pieces: Sequence[str]) -> list[array[int]]:
        """Encode each piece for itself, as text: no special tokens come of it.

        Other threads run meanwhile.

        Args:
            pieces: A text, cut where special tokens stand, and nowhere else: a cut changes ids. The first
                piece is the start of the text, and is empty when a special token stands there. Halves of
                surrogate pairs must not occur.

        Returns:
            For each piece its ids, as C ints.
        """
        encoded = self._encode(pieces)
        special = set(self.special_tokens.values())
        for index, (piece, ids) in enumerate(zip(pieces, encoded, strict=True)):
            if not special.isdisjoint(ids):
                encoded[index] = self._as_text(piece, ids, starts_text=index == 0)
        return encoded

    def bytes_showing(self, texts: Iterable[str]) -> Sequence[bytes]:
        """Give a table like `token_bytes` in which some special tokens are their text.

        Args:
            texts: The texts of tokens, the same few again and again: tables are kept. Those that are no
                special tokens are shown anyway.
        """
        hidden = frozenset(texts).intersection(self.special_tokens)
        if hidden not in self._tables:
            table = list(self.token_bytes)
            for text in hidden:
                table[self.special_tokens[text]] = text.encode()
            self._tables[hidden] = tuple(table)
        return self._tables[hidden]

    def named_bytes(self, token: int) -> bytes:
        """What an id is, for who looks at tokens one by one: of a special token its name."""
        return self.token_bytes[token] or self._names.get(token, b"")

    def decode(self, ids: Iterable[int]) -> str:
        """The text of these ids; what is not UTF-8 in it is replaced by U+FFFD, byte run by byte run."""
        text = b"".join(map(self.token_bytes.__getitem__, ids)).decode("utf-8", "replace")
        return text.removeprefix(" ") if self.drops_first_blank else text

    def _encode(self, pieces: Sequence[str], *, first_starts_text: bool = True) -> list[array[int]]:
        # Two calls only where they differ: the library's batch call has a cost of its own.
        split = 1 if first_starts_text and self._first is not self._further else 0
        encodings = [
            *(self._first.encode_batch_fast(pieces[:split], add_special_tokens=False) if split else ()),
            *self._further.encode_batch_fast(pieces[split:], add_special_tokens=False),
        ]
        return [array("i", encoding.ids) for encoding in encodings]

    def _as_text(self, piece: str, ids: array[int], *, starts_text: bool) -> array[int]:
        """Encode again where the model's rules made a special token out of a text's own letters.

        The library can be told not to look for special tokens before it applies the model's rules, but
        some models know `<s>` as a piece like any other, and find it by these. Then the text is cut inside
        each special token: its ids change, but no ids of the whole would say what the user typed. (An id
        for unknown characters is special too; its text does not stand in the piece, and the ids are right.)
        """
        typed = [text for text in self.special_tokens if text in piece]
        if not any(self.special_tokens[text] in ids for text in typed):
            return ids
        # They may overlap, so each is looked for at each place.
        inside = re.compile(f"(?={'|'.join(map(re.escape, typed))})")
        cuts = [match.start() + 1 for match in inside.finditer(piece)]
        parts = [piece[begin:end] for begin, end in pairwise([0, *cuts, len(piece)])]
        return array("i", chain.from_iterable(self._encode(parts, first_starts_text=starts_text)))


def read_core(path: Path) -> tokenizers.Tokenizer:
    """Read a `tokenizer.json` as the library's own tokenizer.

    Whatever the file says, it cuts nothing off, fills nothing up, and finds no special tokens in a text.

    Raises:
        TokenizerError: There is no such file, or it is not one that can be used.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TokenizerError(f"{path}: {error.strerror}") from error
    try:
        core = _assembled(json.loads(data))
    except Exception:  # noqa: BLE001 (what is wrong with it, if anything, the library says better)
        core = None
    if core is None:
        try:
            core = tokenizers.Tokenizer.from_buffer(data)
        except Exception as error:  # the library raises no other
            raise TokenizerError(f"{path}: not a tokenizer that can be used: {error}") from error
    core.no_truncation()
    core.no_padding()
    core.encode_special_tokens = True
    return core


_BPE_OPTIONS: Final = frozenset({
    "byte_fallback", "continuing_subword_prefix", "dropout", "end_of_word_suffix", "fuse_unk",
    "ignore_merges", "unk_token",
})  # fmt: skip


def _assembled(content: Mapping[str, Any]) -> tokenizers.Tokenizer | None:
    """The same tokenizer as the library's own reader makes, in half the time at a stretch.

    The library keeps all other threads waiting while it reads a file. Here it gets the model as Python
    objects and the rest apart, so that they may run in between.

    Returns:
        `None` for what is not BPE, or would not come out the same.
    """
    model = dict(content["model"])
    vocabulary, merges = model.pop("vocab"), model.pop("merges")
    if model.pop("type") != "BPE" or not model.keys() <= _BPE_OPTIONS:
        return None
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    nothing = {"type": "BPE", "vocab": {}, "merges": []}
    core = tokenizers.Tokenizer.from_str(json.dumps({**content, "model": nothing, "added_tokens": []}))
    options = {name: value for name, value in model.items() if value is not None}
    core.model = models.BPE(vocabulary, [(left, right) for left, right in pairs], **options)
    added: dict[int, AddedToken] = {}
    for token in sorted(content["added_tokens"], key=operator.itemgetter("id")):
        flags = {name: value for name, value in token.items() if name not in {"id", "content"}}
        added[token["id"]] = AddedToken(token["content"], **flags)
    core.add_tokens(list(added.values()))
    return core if core.get_added_tokens_decoder() == added else None


def _further(path: Path, core: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """A tokenizer for what does not stand at the start of a text, where some put a blank before.

    The library knows where a piece stands when it cuts a whole text at its special tokens; encoded alone,
    each piece is a text of its own. The two tokenizers share the model, which is what takes memory.
    """
    splitting = core.pre_tokenizer
    state = b"" if splitting is None else splitting.__getstate__()
    if b'"prepend_scheme":"first"' not in state:
        return core
    further = tokenizers.Tokenizer(core.model)
    further.normalizer = core.normalizer
    never = pre_tokenizers.Sequence([])
    never.__setstate__(state.replace(b'"prepend_scheme":"first"', b'"prepend_scheme":"never"'))
    further.pre_tokenizer = never
    added = core.get_added_tokens_decoder()
    further.add_tokens([added[index] for index in sorted(added)])
    if further.get_added_tokens_decoder() != added:
        raise TokenizerError(f"{path}: the ids of its added tokens leave gaps, which is not supported")
    further.encode_special_tokens = True
    return further


def _before_texts(core: tokenizers.Tokenizer) -> tuple[int, ...]:
    alone, dressed = core.encode("a", add_special_tokens=False).ids, core.encode("a").ids
    starts = (at for at in range(len(dressed)) if dressed[at : at + len(alone)] == alone)
    return tuple(dressed[: next(starts, 0)])


def _byte_alphabet() -> dict[str, int]:
    """The characters by which byte-level BPE writes bytes: the printable ones of Latin-1 for themselves, and
    those from U+0100 on for the others, in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = sorted(set(range(256)).difference(printable))
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES: Final = _byte_alphabet()


def _byte_level(token: str) -> bytes:
    try:
        return bytes(map(_BYTES.__getitem__, token))
    except KeyError:  # not written in the alphabet
        return token.encode()


@frozen(kw_only=True)
class _Pieces:
    """SentencePiece's way: a piece is text with another character for the blank, or one byte's name."""

    replacements: tuple[tuple[str, str], ...]
    byte_names: bool

    def __call__(self, token: str) -> bytes:
        for old, new in self.replacements:
            token = token.replace(old, new)
        if self.byte_names and (byte := re.fullmatch("<0x([0-9A-Fa-f]{2})>", token)):
            return bytes.fromhex(byte[1])
        return token.encode()


def _decoding(path: Path, core: tokenizers.Tokenizer) -> tuple[Callable[[str], bytes], bool]:
    """How a token becomes bytes, and whether a blank at the start of a text is dropped."""
    if core.decoder is None:
        raise TokenizerError(f"{path}: decoder: expected one, got null")
    state = json.loads(core.decoder.__getstate__())
    steps = state["decoders"] if state["type"] == "Sequence" else [state]
    if [step["type"] for step in steps] == ["ByteLevel"]:
        return _byte_level, False
    replacements: list[tuple[str, str]] = []
    byte_names = drops_first_blank = False
    for step in steps:
        match step:
            case {"type": "Replace", "pattern": {"String": str(old)}, "content": str(new)}:
                replacements.append((old, new))
            case {"type": "Metaspace", "replacement": str(old), "prepend_scheme": scheme}:
                replacements.append((old, " "))
                drops_first_blank = scheme != "never"
            case {"type": "ByteFallback"}:
                byte_names = True
            case {"type": "Fuse"}:
                pass
            case {"type": "Strip", "content": " ", "start": 1, "stop": 0}:
                drops_first_blank = True
            case _:
                expected = "byte-level BPE's step or SentencePiece's"
                raise TokenizerError(f"{path}: decoder: expected {expected}, got {json.dumps(step)}")
    return _Pieces(replacements=tuple(replacements), byte_names=byte_names), drops_first_blank


def _table(core: tokenizers.Tokenizer, rows: int, to_bytes: Callable[[str], bytes]) -> tuple[bytes, ...]:
    """Each id's bytes. One short call an id, so that other threads may run in between."""
    added = core.get_added_tokens_decoder()
    table: list[bytes] = []
    for index in range(max(rows, core.get_vocab_size(), *(index + 1 for index in added))):
        token = core.id_to_token(index)
        if token is None or (index in added and added[index].special):
            table.append(b"")
        elif index in added and to_bytes is _byte_level:
            # Choice: an added token is its text. The library takes its letters for bytes where the alphabet
            # has them all, and makes a broken character of an added "é".
            table.append(token.encode())
        else:
            table.append(to_bytes(token))
    return tuple(table)
