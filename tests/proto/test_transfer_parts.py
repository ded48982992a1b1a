"""The parts of a transfer: names and plans that can lie in a folder, records to trust, sets of bytes."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_proto.paths import is_file_name, split_path
from foundry_proto.transfer import BadPlan, Plan, WantedFile
from foundry_proto.transfer.record import Record, RecordedFile, decode_record, encode_record
from foundry_proto.transfer.spans import Spans

Drawn = list[tuple[int, int]]
POSITIONS = st.tuples(st.integers(0, 30), st.integers(0, 30))


def positions(spans: Spans) -> set[int]:
    return {position for start, stop in spans for position in range(start, stop)}


@given(st.lists(POSITIONS))
def test_spans_are_the_set_of_their_positions_and_neither_touch_nor_overlap(
    given_: Drawn,
) -> None:
    spans, model = Spans(), set[int]()
    for start, stop in given_:
        new = set(range(start, stop)) - model
        assert spans.add(start, stop) == len(new)
        model |= new
        assert positions(spans) == model
        assert spans.size == len(model)
    flat = [number for span in spans for number in span]
    assert flat == sorted(set(flat))
    assert positions(spans.gaps(40)) == set(range(40)) - model


@given(st.lists(POSITIONS), st.integers(1, 10))
def test_spans_are_taken_from_the_front_and_put_back(given_: Drawn, most: int) -> None:
    spans = Spans(given_)
    model = positions(spans)
    taken: Drawn = []
    while (span := spans.take(most)) is not None:
        start, stop = span
        assert 0 < stop - start <= most
        assert start == min(model - {position for one in taken for position in range(*one)})
        taken.append(span)
    assert (spans.size, list(spans)) == (0, [])
    for start, stop in reversed(taken):
        spans.add(start, stop)
    assert positions(spans) == model


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("model.onnx", ("model.onnx",)),
        ("v1/model.onnx.data", ("v1", "model.onnx.data")),
        ("v1\\model.onnx", ("v1", "model.onnx")),
        (".gitattributes", (".gitattributes",)),
        ("Modell Ä ☕", ("Modell Ä ☕",)),
        ("../evil", None), ("..\\evil", None), ("a/../../evil", None), ("a/./b", None), ("/etc/passwd", None),
        ("C:\\Windows", None), ("c:evil", None), ("a//b", None), ("a/", None), ("", None), ("a\0b", None),
        ("a\nb", None), ("a.", None), ("a ", None), (" a", None), ("a/b. /c", None), ("nul", None),
        ("COM1.txt", None), ("x/aux.onnx", None), ("what?", None), ("x" * 256, None), ("é" * 128, None),
        ("console", ("console",)), ("x" * 255, ("x" * 255,)),
    ],
)  # fmt: skip
def test_a_path_leads_to_a_file_in_its_folder_on_every_system(
    path: str, names: tuple[str, ...] | None
) -> None:
    assert split_path(path) == names


def test_a_name_is_one_that_every_system_can_store() -> None:
    assert is_file_name("model.onnx")
    assert not is_file_name("a/b")
    assert not is_file_name("\ud800" * 100)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"path": "../x"}, "expected a path within a folder, got '../x'"),
        ({"size": -1}, "a: expected a size, got -1"),
        ({"sha256": "xyz"}, "a: expected a SHA-256 in hexadecimal, got 'xyz'"),
        ({"sha256": "g" * 64}, f"a: expected a SHA-256 in hexadecimal, got '{'g' * 64}'"),
    ],
)
def test_what_is_no_file_is_refused_by_name(given_: dict[str, object], message: str) -> None:
    with pytest.raises(BadPlan) as caught:
        WantedFile(**{"path": "a", "size": 1, **given_})  # type: ignore[arg-type]
    assert str(caught.value) == message


def files(*paths: str) -> list[WantedFile]:
    return [WantedFile(path=path, size=2) for path in paths]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (("a", "b", "A"), "A: expected this path once, got it twice"),
        (("v1\\a", "V1/A"), "V1/A: expected this path once, got it twice"),
        (("a/b/c", "A/b"), "a/b/c: expected a folder a/b, got a file of this name, too"),
    ],
)
def test_files_that_get_in_each_others_way_are_refused(paths: tuple[str, ...], message: str) -> None:
    with pytest.raises(BadPlan) as caught:
        Plan(files(*paths))
    assert str(caught.value) == message


def test_a_plan_is_of_a_size_that_can_be_handled() -> None:
    assert Plan(files("a", "b/c", "b/d")).size == 6
    one = files("a")
    with pytest.raises(BadPlan, match=r"^expected at most 100000 files, got 100001$"):
        Plan(one * 100_001)
    assert WantedFile(path="a", size=0, sha256="").sha256 is None


RECORD = Record(
    begun=(RecordedFile(path="a", size=9, sha256="0" * 64, tag="t", done=((0, 3), (4, 9))),),
    verified={"b": "1" * 64},
)


def sealed(body: object) -> bytes:
    """A record with whatever in it."""
    data = json.dumps(body).encode()
    return b"foundry-transfer 1 " + sha256(data).hexdigest().encode() + b"\n" + data


def test_a_record_is_read_as_it_was_written() -> None:
    assert decode_record(encode_record(RECORD)) == RECORD
    assert decode_record(encode_record(Record())) == Record()


@settings(deadline=None)
@given(st.integers(0, 400), st.binary(max_size=3))
def test_a_record_that_is_torn_says_nothing(end: int, more: bytes) -> None:
    data = encode_record(RECORD)
    torn = data[:end] + more
    assert decode_record(torn) == (RECORD if torn == data else None)


@pytest.mark.parametrize(
    "done", [[[3, 0]], [[0, 3], [3, 5]], [[0, 10]], [[0, 1, 2]], [[-1, 3]], 5, [[0.5, 1]]]
)
def test_a_record_of_what_cannot_be_says_nothing(done: object) -> None:
    entry = {"path": "a", "size": 9, "sha256": None, "tag": None, "done": done}
    assert decode_record(sealed({"begun": [entry], "verified": {}})) is None


def test_a_record_of_another_version_says_nothing() -> None:
    assert decode_record(encode_record(RECORD).replace(b"transfer 1", b"transfer 2")) is None
    assert decode_record(b"") is None
