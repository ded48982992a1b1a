"""What llguidance is told of a vocabulary is what the tokenizer knows: bytes, special tokens, ends, twins."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from foundry_runtime.engine.text.guidance import grammars
from foundry_runtime.engine.text.guidance._library import (
    GuidanceError,
    Library,
    Matcher,
    Vocabulary,
    load_library,
)
from foundry_runtime.engine.text.guidance.forms import Json, Lark, Literal, Marker, OneOf, Regex, Text, Then
from foundry_runtime.engine.text.guidance.grammars import Guidance
from tests.runtime.text.guidance.walking import EXTRA_ROWS, Walker, make_walker
from tests.runtime.text.small_tokenizers import SMALL_TOKENIZERS

ANY_TEXT = Regex(r"(?s:.*)")


@pytest.fixture(scope="module", params=list(SMALL_TOKENIZERS))
def each(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Walker:
    return make_walker(tmp_path_factory.mktemp("vocabulary"), request.param)


def could_be_text(data: bytes) -> bool:
    """Whether bytes can begin a text: cut characters may be completed."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return True


def test_free_text_allows_exactly_the_tokens_that_can_begin_a_text_and_the_ends(each: Walker) -> None:
    guide = each.guidance.compile(ANY_TEXT).begin()
    if each.tokenizer.drops_first_blank:  # a blank comes first, which no text has
        assert {each.tokenizer.token_bytes[token][:1] for token in each.allowed(guide)} == {b" "}
        guide.accept(each.tokenizer.token_bytes.index(b" "))
    expected = {
        token for token, text in enumerate(each.tokenizer.token_bytes) if text and could_be_text(text)
    }
    assert set(each.allowed(guide)) == expected | set(each.end_ids)


def test_each_token_of_a_text_may_be_chosen_in_turn(each: Walker) -> None:
    for text in ("the cat", "日本語 é ☃", "<|im|>\n\t", "\u0001\x7f", "12345"):
        (ids,) = each.tokenizer.encode_pieces([text])
        guide = each.guidance.compile(Literal(text)).begin()
        for token in ids:
            assert not guide.complete
            assert token in each.allowed(guide)
            guide.accept(token)
        assert guide.complete


def test_the_end_tokens_are_all_allowed_where_the_text_is_whole_and_none_before(each: Walker) -> None:
    guide = each.guidance.compile(Regex("ab?")).begin()
    blank = " " if each.tokenizer.drops_first_blank else ""
    for byte in blank + "a":
        assert not set(each.end_ids) & set(each.allowed(guide))
        guide.accept(each.spelled(byte)[0])
    assert set(each.end_ids) <= set(each.allowed(guide))
    guide.accept(each.end_ids[1])
    assert guide.complete


def test_rows_beyond_the_tokenizers_tokens_are_never_allowed(each: Walker) -> None:
    for form in (ANY_TEXT, Lark("start: <[*]>"), Lark('start: " " <[^0]>')):
        logits = np.zeros(each.rows + 5, dtype=np.float32)
        each.guidance.compile(form).begin().constrain(logits)
        assert np.isneginf(logits[-EXTRA_ROWS - 5 :]).all()
        assert np.isfinite(logits).any()


def test_logits_may_be_fewer_than_the_tokenizers_tokens(walker: Walker) -> None:
    rows = 300
    guidance = Guidance(walker.tokenizer, end_ids=[*walker.end_ids, 399], rows=rows)
    guide = guidance.compile(ANY_TEXT).begin()
    logits = np.zeros(rows, dtype=np.float32)
    guide.constrain(logits)
    assert set(np.flatnonzero(np.isfinite(logits)).tolist()) == {
        token for token in walker.allowed(walker.guidance.compile(ANY_TEXT).begin()) if token < rows
    }


def test_a_special_token_is_allowed_only_where_it_is_named(walker: Walker) -> None:
    token = walker.tokenizer.special_tokens["<|im_start|>"]
    for named in (Marker("<|im_start|>"), Lark("start: <|im_start|>"), Lark(f"start: <[{token}]>")):
        guide = walker.guidance.compile(named).begin()
        assert walker.allowed(guide) == [token]
        guide.accept(token)
        assert guide.complete
    spelled = walker.guidance.compile(Literal("<|im_start|>")).begin()
    assert token not in walker.allowed(spelled)
    assert token not in walker.allowed(walker.guidance.compile(Text()).begin())


def test_an_end_token_that_is_no_special_one_ends_the_answer_and_stands_for_no_text(walker: Walker) -> None:
    token = walker.tokenizer.token_bytes.index(b"a")
    guide = Guidance(walker.tokenizer, end_ids=[token], rows=walker.rows).compile(Regex("b|ab")).begin()
    assert token not in walker.allowed(guide)
    guide.accept(walker.tokenizer.token_bytes.index(b"b"))
    assert guide.complete


def test_a_vocabulary_is_built_once_when_it_is_first_needed(
    walker: Walker, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Vocabulary] = []

    def build(*arguments: object) -> Vocabulary:
        built.append(Vocabulary(*arguments))  # type: ignore[arg-type]
        return built[-1]

    monkeypatch.setattr(grammars, "Vocabulary", build)
    guidance = Guidance(walker.tokenizer, end_ids=walker.end_ids, rows=walker.rows)
    assert built == []
    threads = [
        threading.Thread(target=guidance.compile, args=(Json({"const": number}),)) for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1


def test_compiled_grammars_are_kept_until_others_are_asked_for(
    walker: Walker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grammars, "MAX_KEPT", 2)
    guidance = Guidance(walker.tokenizer, end_ids=walker.end_ids, rows=walker.rows)
    first = guidance.compile(Literal("first"))
    second = guidance.compile(Literal("second"))
    assert guidance.compile(Literal("first")) is first
    guidance.compile(Literal("third"))  # the second was asked for longest ago
    assert guidance.compile(Literal("first")) is first
    assert guidance.compile(Literal("second")) is not second


def test_guides_of_one_grammar_go_their_own_ways(walker: Walker) -> None:
    grammar = walker.guidance.compile(OneOf((Literal("left"), Literal("right"))))
    guides = [grammar.begin() for _ in range(3)]
    for text, guide in zip(("left", "right", "left"), guides, strict=True):
        for token in walker.spelled(text):
            assert token in walker.allowed(guide)
            guide.accept(token)
        assert guide.complete
    beginnings = {walker.tokenizer.token_bytes[token] for token in walker.allowed(grammar.begin())}
    assert beginnings >= {b"l", b"r"}
    assert all(b"left".startswith(text) or b"right".startswith(text) for text in beginnings)


def test_guides_may_be_begun_by_many_threads_at_once(walker: Walker) -> None:
    grammar = walker.guidance.compile(Json({"enum": [f"value {number}" for number in range(500)]}))
    found: list[str | None] = []

    def walk(seed: int) -> None:
        found.extend(walker.walk(grammar, seed + number) for number in range(10))

    threads = [threading.Thread(target=walk, args=(100 * number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 60
    assert {text and text[:7] for text in found} == {'"value '}


def test_ids_of_the_same_bytes_are_allowed_together(tmp_path: Path) -> None:
    walker = make_walker(tmp_path, "no-blank-before")
    twins = [token for token, text in enumerate(walker.tokenizer.token_bytes) if text == b"t"]
    assert len(twins) == 2  # the letter, and the byte 0x74
    for chosen in twins:
        guide = walker.guidance.compile(Then((Literal("t"), Regex("[ae]")))).begin()
        assert set(twins) <= set(walker.allowed(guide))
        guide.accept(chosen)
        assert not set(twins) & set(walker.allowed(guide))
        assert walker.spelled("a")[0] in walker.allowed(guide)


def test_without_end_tokens_an_answer_ends_where_it_cannot_go_on(walker: Walker) -> None:
    guidance = Guidance(walker.tokenizer, end_ids=[walker.rows], rows=walker.rows)  # none that can be chosen
    guide = guidance.compile(Regex("ab?")).begin()
    guide.accept(walker.spelled("a")[0])
    assert walker.allowed(guide) == walker.spelled("b")
    guide.accept(walker.spelled("b")[0])
    assert guide.complete


def test_a_library_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    (tmp_path / "broken.so").write_bytes(b"nothing")
    with pytest.raises(GuidanceError, match="cannot be loaded"):
        Library(str(tmp_path / "broken.so"))
    with pytest.raises(GuidanceError, match="has no function llg_new_tokenizer_v2"):
        Library(tokenizers.tokenizers.__file__)  # another one


def test_what_llguidance_does_not_take_is_told(walker: Walker) -> None:
    vocabulary = Vocabulary(load_library(), [b"a", b"\xff</s>"], [1])
    with pytest.raises(GuidanceError, match="unknown name"):
        Matcher(vocabulary, "lark", "start: nothing", grammars._LIMITS)
    with pytest.raises(GuidanceError, match="out of range"):
        Vocabulary(load_library(), [b"a"], [7])
    matcher = Matcher(vocabulary, "lark", 'start: "a"', grammars._LIMITS)
    with pytest.raises(GuidanceError, match="doesn't satisfy"):
        matcher.consume(1)
    with pytest.raises(GuidanceError):  # for good
        matcher.consume(0)
