"""The tokenizer agrees with the library that it stands on, and never finds a special token in a text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models
from tokenizers import Tokenizer as LibraryTokenizer

from foundry_proto.chat.text_stream import TextStream
from foundry_runtime.engine.text import tokenizer as module
from foundry_runtime.engine.text.tokenizer import Tokenizer, TokenizerError
from tests.golden.texts import golden_texts
from tests.runtime.text.small_tokenizers import SMALL_TOKENIZERS, write_tokenizer

Pair = tuple[Tokenizer, LibraryTokenizer]

# Half the time near what matters, half the time anything but surrogates.
TEXT = st.lists(
    st.one_of(
        st.sampled_from(["the", " ", "  ", "\n", "\t", "1", "é", "☃", "\0", "<", "▁", "<tool>", "s>", "<s"]),
        st.text(max_size=8),
    ),
    max_size=8,
).map("".join)


@pytest.fixture(scope="module", params=list(SMALL_TOKENIZERS))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("tokenizer")
    library = write_tokenizer(folder, request.param)
    return Tokenizer.load(folder), library


def _is_plain(tokenizer: Tokenizer, text: str) -> bool:
    return not any(special in text for special in tokenizer.special_tokens)


@given(text=TEXT)
@settings(deadline=None, max_examples=80)
def test_a_text_without_special_tokens_gets_the_librarys_ids(pair: Pair, text: str) -> None:
    ours, library = pair
    if _is_plain(ours, text):
        assert list(ours.encode_pieces([text])[0]) == library.encode(text, add_special_tokens=False).ids


@given(texts=st.lists(TEXT, max_size=5))
@settings(deadline=None, max_examples=80)
def test_pieces_between_special_tokens_get_the_ids_that_the_library_gives_the_whole(
    pair: Pair, texts: list[str]
) -> None:
    ours, library = pair
    if all(_is_plain(ours, text) for text in texts):
        whole = library.encode("</s>".join(texts), add_special_tokens=False).ids
        pieces = ours.encode_pieces(texts)
        joined: list[int] = []
        for piece in pieces:
            joined += [ours.special_tokens["</s>"]] if joined or piece is not pieces[0] else []
            joined += piece
        assert joined == whole


@given(
    text=st.lists(st.one_of(st.sampled_from(["<s>", "</s>", "<|im_end|>", "<unk>", "<"]), TEXT)).map("".join)
)
@settings(deadline=None, max_examples=80)
def test_no_special_token_comes_of_a_text_but_the_one_for_unknown_characters(pair: Pair, text: str) -> None:
    ours, _ = pair
    special = set(ours.special_tokens.values()) - {ours.special_tokens["<unk>"]}
    assert special.isdisjoint(ours.encode_pieces([text])[0])


def test_a_special_token_that_the_models_own_rules_find_is_taken_apart(tmp_path: Path) -> None:
    library = write_tokenizer(tmp_path, "no-blank-before")
    library.encode_special_tokens = True
    ours = Tokenizer.load(tmp_path)
    found = library.encode("a<s>d", add_special_tokens=False).tokens
    ids = ours.encode_pieces(["a<s>d"])[0]
    assert found == ["a", "<s>", "d"]
    assert [library.id_to_token(index) for index in ids] == ["a", "<", "s", ">", "d"]
    assert ours.decode(ids) == "a<s>d"


def test_special_tokens_that_overlap_are_all_taken_apart(tmp_path: Path) -> None:
    letters = {letter: index for index, letter in enumerate("abc")}
    library = LibraryTokenizer(models.BPE({**letters, "ab": 3, "bc": 4}, [("a", "b"), ("b", "c")]))
    library.decoder = decoders.Fuse()
    library.add_special_tokens(["ab", "bc"])
    library.save(str(tmp_path / "tokenizer.json"))
    assert list(Tokenizer.load(tmp_path).encode_pieces(["abc", "cabcabc"])[0]) == [0, 1, 2]


def test_typed_special_tokens_get_the_ids_that_the_library_gives_plain_text(tmp_path: Path) -> None:
    library = write_tokenizer(tmp_path, "byte-level")
    library.encode_special_tokens = True
    ids = Tokenizer.load(tmp_path).encode_pieces(["a <|im_end|> b"])[0]
    assert list(ids) == library.encode("a <|im_end|> b").ids


def test_no_text_has_no_ids(pair: Pair) -> None:
    ours, _ = pair
    assert [list(ids) for ids in ours.encode_pieces(["", ""])] == [[], []]
    assert ours.encode_pieces([]) == []


@pytest.mark.parametrize("overlap", ["<s><s>", "<<s>s>", "<s<s>>", "</s></s>", "<s>\0<s>", "<s></s><s>"])
def test_special_tokens_side_by_side_and_inside_each_other_are_taken_apart(pair: Pair, overlap: str) -> None:
    ours, _ = pair
    ids = ours.encode_pieces([overlap])[0]
    assert {ours.special_tokens["<s>"], ours.special_tokens["</s>"]}.isdisjoint(ids)
    assert ours.decode(ids).replace(" ", "") == overlap


@given(text=TEXT)
@settings(deadline=None, max_examples=80)
def test_the_table_of_bytes_decodes_as_the_library_does(pair: Pair, text: str) -> None:
    ours, library = pair
    ids = library.encode(text).ids
    assert ours.decode(ids) == library.decode(ids)


def test_the_table_of_bytes_decodes_the_golden_texts_as_the_library_does(pair: Pair) -> None:
    ours, library = pair
    for text in golden_texts():
        ids = list(ours.encode_pieces([text])[0])
        assert ours.decode(ids) == library.decode(ids), text


@given(text=TEXT)
@settings(deadline=None, max_examples=40)
def test_a_text_stream_over_the_table_gives_the_same_text(pair: Pair, text: str) -> None:
    ours, _ = pair
    ids = ours.encode_pieces([text])[0]
    stream = TextStream(ours.token_bytes)
    streamed = "".join([*map(stream.push, ids), stream.finish()])
    assert (streamed.removeprefix(" ") if ours.drops_first_blank else streamed) == ours.decode(ids)


def test_special_tokens_are_hidden_and_known_by_their_text(pair: Pair) -> None:
    ours, library = pair
    assert set(ours.special_tokens) >= {"<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"}
    for text, index in ours.special_tokens.items():
        assert library.token_to_id(text) == index
        assert ours.token_bytes[index] == b""


def test_only_the_tokens_that_swallow_blanks_are_said_to(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, "swallowing-blanks")
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.takes_blanks_before == {"<|left|>"}
    assert tokenizer.takes_blanks_after == {"<|right|>"}


def test_the_table_has_a_row_for_each_id_that_the_model_can_generate(tmp_path: Path) -> None:
    library = write_tokenizer(tmp_path, "byte-level")
    size = library.get_vocab_size()
    assert len(Tokenizer.load(tmp_path).token_bytes) == size
    padded = Tokenizer.load(tmp_path, rows=size + 64)
    assert len(padded.token_bytes) == size + 64
    assert padded.decode([size + 63]) == ""


def test_an_added_token_is_its_text_though_the_byte_alphabet_has_its_letters(tmp_path: Path) -> None:
    library = write_tokenizer(tmp_path, "byte-level")
    library.add_tokens([AddedToken("é", normalized=False)])
    library.save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer.load(tmp_path).decode([library.get_vocab()["é"]]) == "é"


def test_a_tokenizer_that_cuts_and_pads_does_so_no_more(tmp_path: Path) -> None:
    library = write_tokenizer(tmp_path, "byte-level")
    plain = library.encode("hello world " * 20).ids
    library.enable_truncation(4)
    library.enable_padding(length=500)
    library.save(str(tmp_path / "tokenizer.json"))
    assert list(Tokenizer.load(tmp_path).encode_pieces(["hello world " * 20])[0]) == plain


@pytest.mark.parametrize("kind", list(SMALL_TOKENIZERS))
@pytest.mark.parametrize("as_lines", [False, True])
def test_a_file_is_read_in_parts_as_the_library_reads_it_whole(
    tmp_path: Path, kind: str, as_lines: bool
) -> None:
    library = write_tokenizer(tmp_path, kind)
    content = json.loads(library.to_str())
    if as_lines:
        content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    assembled = module._assembled(content)
    assert assembled is not None
    assert assembled.to_str() == library.to_str()


def test_what_cannot_be_read_in_parts_is_read_whole(tmp_path: Path) -> None:
    library = write_tokenizer(tmp_path, "no-blank-before")
    content = json.loads(library.to_str())

    def changed(**model: object) -> dict[str, Any]:
        return {**content, "model": {**content["model"], **model}}

    assert module._assembled(changed(type="WordLevel")) is None
    assert module._assembled(changed(new_option=1)) is None
    added = [*content["added_tokens"], {**content["added_tokens"][0], "id": 100_000, "content": "<far>"}]
    assert module._assembled({**content, "added_tokens": added}) is None
    unigram = LibraryTokenizer(
        models.Unigram([("<unk>", 0.0), ("<s>", 0.0), ("a", -1.0), ("<", -3.0), ("s>", -3.0)], 0)
    )
    unigram.decoder = decoders.Metaspace(prepend_scheme="never")
    unigram.add_special_tokens(["<unk>", "<s>"])
    unigram.save(str(tmp_path / "tokenizer.json"))
    assert list(Tokenizer.load(tmp_path).encode_pieces(["a<s>a"])[0]) == [2, 3, 4, 2]


def test_a_broken_run_of_bytes_keeps_the_text_around_it(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, "no-blank-before")
    tokenizer = Tokenizer.load(tmp_path)
    ids = {token: index for index, token in enumerate(tokenizer.token_bytes)}
    assert tokenizer.decode([ids[b"\xe2"], ids[b"\x98"], ids[b"he"]]) == "\N{REPLACEMENT CHARACTER}he"


def test_errors_name_the_file_and_say_why(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"

    def refused() -> str:
        with pytest.raises(TokenizerError) as error:
            Tokenizer.load(tmp_path)
        return str(error.value)

    assert refused() == f"{path}: No such file or directory"
    path.write_text("{}")
    assert refused().startswith(f"{path}: not a tokenizer that can be used: ")
    path.write_bytes(b"\xff\xfe")
    assert refused().startswith(f"{path}: not a tokenizer that can be used: ")
    library = LibraryTokenizer(models.BPE())
    library.save(str(path))
    assert refused() == f"{path}: decoder: expected one, got null"
    library.decoder = decoders.WordPiece()
    library.save(str(path))
    step = json.dumps({"type": "WordPiece", "prefix": "##", "cleanup": True})
    assert refused() == f"{path}: decoder: expected byte-level BPE's step or SentencePiece's, got {step}"


def test_the_library_keeps_to_one_thread_unless_the_user_has_chosen() -> None:
    code = "import os, foundry_runtime.engine.text.tokenizer; print(os.environ['TOKENIZERS_PARALLELISM'])"

    def setting(**given: str) -> str:
        environment = {k: v for k, v in os.environ.items() if k != "TOKENIZERS_PARALLELISM"} | given
        result = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        return result.stdout.strip()

    assert setting() == "false"
    assert setting(TOKENIZERS_PARALLELISM="true") == "true"


def test_special_tokens_are_shown_where_that_is_wanted_and_no_others(pair: Pair) -> None:
    tokenizer, _ = pair
    shown = tokenizer.bytes_showing(["<|im_end|>", "the", "unknown"])
    for text, index in tokenizer.special_tokens.items():
        assert shown[index] == (text.encode() if text == "<|im_end|>" else b"")
        assert tokenizer.named_bytes(index) == text.encode()
    changed = [index for index, data in enumerate(shown) if data != tokenizer.token_bytes[index]]
    assert changed == [tokenizer.special_tokens["<|im_end|>"]]
    assert tokenizer.bytes_showing(["the"]) is tokenizer.token_bytes
    assert tokenizer.bytes_showing({"<|im_end|>", "the"}) is shown


def test_added_tokens_are_those_of_the_file_special_or_not(pair: Pair, tmp_path: Path) -> None:
    tokenizer, library = pair
    assert tokenizer.added_tokens >= set(tokenizer.special_tokens)
    library.add_tokens([AddedToken("<tool_call>", special=False)])
    library.save(str(tmp_path / "tokenizer.json"))
    more = Tokenizer.load(tmp_path)
    assert more.added_tokens == {*tokenizer.added_tokens, "<tool_call>"}
    assert "<tool_call>" not in more.special_tokens
