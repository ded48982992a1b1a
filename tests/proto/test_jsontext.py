"""JSON's strictness: what is refused before anyone looks at its meaning, in which words, in linear time."""

from __future__ import annotations

import json
import math
import time
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_proto.jsontext import (
    MAX_DEPTH,
    MAX_DIGITS,
    ContentError,
    dump_json,
    load_json,
    replace_member,
    show,
)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**MAX_DIGITS) + 1, 10**MAX_DIGITS - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)

SYNTAX = "body: expected JSON, got a syntax error at line"

REFUSED: dict[bytes, str] = {
    b"": "body: expected a JSON value, got nothing",
    b" \r\n\t": "body: expected a JSON value, got nothing",
    b'\xef\xbb\xbf{"a":1}': "body: expected UTF-8 without a byte order mark",
    '{"a":1}'.encode("utf-16"): "body: expected UTF-8, got an invalid byte at offset 0",
    '{"a":1}'.encode("utf-16-le"): f"{SYNTAX} 1, column 2: expecting property name enclosed in double quotes",
    b'{"a":"\xff"}': "body: expected UTF-8, got an invalid byte at offset 6",
    # A surrogate encoded as such is no UTF-8 (RFC 3629, section 3).
    b'{"a":"\xed\xa0\x80"}': "body: expected UTF-8, got an invalid byte at offset 6",
    b"{invalid json": f"{SYNTAX} 1, column 2: expecting property name enclosed in double quotes",
    b'{"a": 1,\n "b" 2}': f"{SYNTAX} 2, column 6: expecting ':' delimiter",
    b'["a" "b"]': f"{SYNTAX} 1, column 6: expecting ',' delimiter",
    b"[nope]": f"{SYNTAX} 1, column 2: expecting value",
    b'"open': f"{SYNTAX} 1, column 1: unterminated string",
    b'"a\nb"': f"{SYNTAX} 1, column 3: invalid control character",
    b'"\\x"': f"{SYNTAX} 1, column 2: invalid \\escape",
    b'"\\u12"': f"{SYNTAX} 1, column 3: invalid \\uXXXX escape",
    b"{}{}": f"{SYNTAX} 1, column 3: extra data",
    b"01": f"{SYNTAX} 1, column 2: extra data",
    b"NaN": "body: expected a finite number, got NaN",
    b'{"t":NaN}': "t: expected a finite number, got NaN",
    b"[1,Infinity]": "[1]: expected a finite number, got Infinity",
    b'{"a":{"b":[0,-Infinity]}}': "a.b[1]: expected a finite number, got -Infinity",
    b'{"t":1e400}': "t: expected a finite number, got 1e400",
    b'{"t":-1E+400}': "t: expected a finite number, got -1E+400",
    b'{"n":' + b"9" * 5000 + b"}": "n: expected at most 400 digits, got 5000",
    b'{"n":-' + b"9" * 401 + b"}": "n: expected at most 400 digits, got 401",
    b'{"n":' + b"9" * 400 + b".0}": "n: expected a finite number, got " + "9" * 40,
    b'{"a":1,"b":2,"a":3}': "a: expected this key once, got it twice",
    b'{"a":[{"k":1,"k":1}]}': "a[0].k: expected this key once, got it twice",
    # Of two things that are wrong, the one that stands first is told.
    b'{"b":NaN,"a":1,"a":1}': "b: expected a finite number, got NaN",
    b'{"a":NaN': f"{SYNTAX} 1, column 9: expecting ',' delimiter",
    b'{"t":"\\ud800"}': "t: expected Unicode text, got a lone surrogate",
    b'{"t":["ok","\\uDE00\\uD83D"]}': "t[1]: expected Unicode text, got a lone surrogate",
    b'{"a\\udfff":1}': "a?: expected Unicode text, got a lone surrogate",
    # What is wrong with a key comes before what stands under it.
    b'{"\\ud800":{"a":"\\ud800"}}': "?: expected Unicode text, got a lone surrogate",
    b'{"\\ud800":NaN}': "?: expected a finite number, got NaN",
    b'{"\\ud800":1,"\\ud800":2}': "?: expected this key once, got it twice",
    b"[" * 100_000: "body: expected at most 100 levels of nesting, got more",
    b'{"a":' * 101 + b"1" + b"}" * 101: "body: expected at most 100 levels of nesting, got more",
}


@pytest.mark.parametrize(("data", "message"), REFUSED.items(), ids=[repr(data[:24]) for data in REFUSED])
def test_what_is_refused_is_named_with_its_place(data: bytes, message: str) -> None:
    with pytest.raises(ContentError) as caught:
        load_json(data)
    assert str(caught.value) == message
    param = caught.value.param
    assert message.startswith("body: ") if param is None else message.startswith(f"{param}: ")
    # It can be written: it goes into a reply.
    assert message.encode()


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b" 1 ", 1),
        (b"-0.0", -0.0),
        (b"1e-400", 0.0),
        (b"1e308", 1e308),
        (b'"\\ud83d\\ude00"', "😀"),
        # A backslash that is escaped itself begins no \u escape.
        (b'"\\\\ud800"', "\\ud800"),
        (b'{"\\u0000":"\\u0000"}', {"\0": "\0"}),
        (b'{"":{"":1}}', {"": {"": 1}}),
        (b"9" * 400, 10**400 - 1),
        (b"[" * 100 + b"]" * 100, json.loads("[" * 100 + "]" * 100)),
        (b"[" + b"[]," * 200 + b"[]]", [[]] * 201),
        # Brackets in strings nest nothing, even behind escaped quotes.
        (b'"' + b"[{" * 300 + b'"', "[{" * 300),
        (b'["\\"' + b"[" * 300 + b'"]', ['"' + "[" * 300]),
    ],
    ids=lambda case: repr(case)[:24],
)
def test_what_is_odd_but_right_is_read(data: bytes, value: object) -> None:
    assert load_json(data) == value
    assert load_json(bytearray(data)) == value


@settings(deadline=None)
@given(VALUES)
def test_dump_and_load_are_inverse(value: object) -> None:
    data = dump_json(value)
    assert load_json(data) == value
    # As any other JSON reader understands it.
    assert json.loads(data) == value


@settings(deadline=None)
@given(st.text(st.sampled_from('{}[]":,\\u d8nIa19e+-.\0é😀'), max_size=40) | st.text(max_size=20))
def test_any_text_gives_a_value_or_a_content_error(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    try:
        value = load_json(data)
    except ContentError as error:
        str(error).encode()  # It can be written into a reply.
    else:
        assert load_json(dump_json(value)) == value


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_give_a_value_or_a_content_error(data: bytes) -> None:
    try:
        load_json(data)
    except ContentError as error:
        str(error).encode()


def test_dumped_text_is_compact_utf8() -> None:
    value = {"a": [1, 2.5, None, True], "é": '"\n\x00'}
    assert dump_json(value) == '{"a":[1,2.5,null,true],"é":"\\"\\n\\u0000"}'.encode()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, {"a": [math.nan]}, "\ud800", {"\ud800": 1}])
def test_what_json_cannot_carry_is_not_dumped(value: object) -> None:
    with pytest.raises(ValueError, match=r"^Out of range float|surrogates not allowed$"):
        dump_json(value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (5, "5"),
        (-0.5, "-0.5"),
        (1e300, "1e+300"),
        (10**399, "1" + "0" * 39),
        ("hot", '"hot"'),
        ('say "é"', '"say \\"é\\""'),
        ("a\u202eb\n", '"a\\u202eb\\n"'),
        ("\ud800", '"\\ud800"'),
        ("x" * 41, '"' + "x" * 40 + '…"'),
        ([1], "an array"),
        ((1,), "an array"),
        ({"a": 1}, "an object"),
        (object(), "an object"),
    ],
    ids=lambda case: repr(case)[:20],
)
def test_values_are_shown_briefly(value: object, shown: str) -> None:
    assert show(value) == shown


def test_an_error_knows_its_path_from_the_root() -> None:
    error = ContentError("expected a string, got 5").under("content").under(0).under("messages")
    assert error.path == ("messages", 0, "content")
    assert error.param == "messages[0].content"
    assert str(error) == "messages[0].content: expected a string, got 5"


def test_a_path_is_shown_up_to_two_hundred_characters() -> None:
    with pytest.raises(ContentError) as caught:
        load_json(b'{"%s":NaN}' % (b"k" * 1_000_000))
    assert caught.value.param == "k" * 200


def crafted(unit: bytes, before: bytes = b"", after: bytes = b"") -> Callable[[int], bytes]:
    return lambda size: before + unit * (size // len(unit)) + after


DEEP = b'{"a":' * 90, b"1" + b"}" * 90

CRAFTED: dict[str, Callable[[int], bytes]] = {
    "opening brackets": crafted(b"["),
    "closing brackets": crafted(b"]"),
    "objects": crafted(b'{"":'),
    "empty arrays": crafted(b"[],", b"[", b"[]]"),
    "quotes behind brackets": crafted(b'"', b"[" * 200),
    "escaped quotes": crafted(b'\\"', b"[" * 200 + b'"'),
    "backslashes": crafted(b"\\", b"[" * 200 + b'"'),
    "an open string": crafted(b"x", b"[" * 200 + b'"'),
    "strings": crafted(b'"[",', b"[", b'""]'),
    "surrogate pairs": crafted(b'"\\ud83d\\ude00",', b"[" * 90, b"1" + b"]" * 90),
    "a lone surrogate behind much, deep down": crafted(b'"x",', b"[" * 90, b'"\\ud800"' + b"]" * 90),
    "NaN behind much, deep down": crafted(b"[1],", b"[" * 90, b"NaN" + b"]" * 90),
    "doubled keys": crafted(b'{"a":1,"a":1},', b"[", b"1]"),
    "digits": crafted(b"9"),
    "a fraction's digits": crafted(b"9", b"0."),
    "an exponent's digits": crafted(b"9", b"1e"),
    "zeros before an exponent": crafted(b"0", b"0.", b"1e9"),
    "spaces": crafted(b" ", b"[", b"x"),
    "line ends": crafted(b"\n", b"[", b"x"),
    "a long key with NaN": crafted(b"k", b'{"', b'":NaN}'),
}


def seconds(data: bytes) -> float:
    """Processor time of the quickest of three readings."""

    def once() -> float:
        begun = time.process_time()
        try:
            load_json(data)
        except ContentError as error:
            str(error)
        return time.process_time() - begun

    return min(once() for _ in range(3))


@pytest.mark.parametrize("make", CRAFTED.values(), ids=CRAFTED)
def test_time_is_linear_in_the_input(make: Callable[[int], bytes]) -> None:
    # Sixteen times the input would take 256 times as long if anything were quadratic; a millisecond is added
    # so that the clock's grain decides nothing.
    assert seconds(make(160_000)) < 100 * (seconds(make(10_000)) + 0.001)


@pytest.mark.parametrize("make", CRAFTED.values(), ids=CRAFTED)
def test_memory_is_bounded_by_the_input(make: Callable[[int], bytes]) -> None:
    size = 60_000
    data = make(size)
    tracemalloc.start()
    try:
        load_json(data)
    except ContentError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    # The worst is an array of empty objects, which are 64 bytes each where two were written.
    assert peak < 60 * size


def test_the_deepest_that_is_read_is_a_hundred_levels() -> None:
    assert MAX_DEPTH == 100
    load_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    with pytest.raises(ContentError):
        load_json(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"model":"a","n":1}', b'{"model":"b","n":1}'),
        (b'\n{ "x" : 0.10,\r\n"model"\t: ["a", {"model": 1}] , "y": 1e5 }\n',
         b'\n{ "x" : 0.10,\r\n"model"\t: "b" , "y": 1e5 }\n'),
        (b'{"x":{"model":"a"},"m\\u006fdel":"a"}', b'{"x":{"model":"a"},"m\\u006fdel":"b"}'),
        ('{"é}\\"":"{,\\"model\\":","model":null}'.encode(),
         '{"é}\\"":"{,\\"model\\":","model":"b"}'.encode()),
    ],
)  # fmt: skip
def test_one_member_is_replaced_and_every_other_byte_stays(before: bytes, after: bytes) -> None:
    assert replace_member(before, "model", "b") == after


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5), VALUES, min_size=1, max_size=4
    ),
    st.data(),
)
def test_a_replaced_member_is_the_one_that_was_named(members: dict[str, object], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(members)))
    text = json.dumps(members, indent=data.draw(st.sampled_from([None, 1]))).encode()
    assert load_json(replace_member(text, key, [7])) == {**members, key: [7]}


@pytest.mark.parametrize("text", [b"{}", b" { } ", b'{"a":{"model":1}}'])
def test_a_member_that_is_not_there_is_not_replaced(text: bytes) -> None:
    with pytest.raises(KeyError):
        replace_member(text, "model", "b")
