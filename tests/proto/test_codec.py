"""The codec on classes of the tests' own: every kind of field, absence, casings, words, and exact errors."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from types import NoneType
from typing import Annotated, Any, ClassVar, Literal

import pytest
from attrs import field, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_proto.codec import ContentError, decode, encode, structure
from foundry_proto.errors import LocalProtocolError
from foundry_proto.sentinels import ABSENT, Absent, Maybe
from foundry_proto.wire import Between, Items, Wire
from foundry_proto.words import decode_words
from tests.support.strategies import values_of

_SHAPE = Wire(noun="a shape", nouns="shapes")


@frozen(kw_only=True)
class Circle:
    WIRE: ClassVar = _SHAPE
    # Another field with a literal type does not tell the classes apart: it has fewer values.
    style: Literal["filled"] = "filled"
    kind: Literal["circle"]
    radius: Annotated[float, Between(0, 10)]


@frozen(kw_only=True)
class Polygon:
    WIRE: ClassVar = _SHAPE
    style: Literal["filled"] = "filled"
    kind: Literal["square", "triangle"]
    sides: tuple[int, ...]


_Few = Annotated[tuple[str, ...], Items(most=2)]
_Arrays = str | _Few | tuple[int, ...] | tuple[tuple[int, ...], ...]


@frozen(kw_only=True)
class Everything:
    text: str | Absent = ABSENT
    whole: int | Absent = ABSENT
    number: float | Absent = ABSENT
    flag: bool | Absent = ABSENT
    nothing: Absent | None = ABSENT
    anything: object = ABSENT
    limited: Annotated[int, Between(1, 5)] | Absent = ABSENT
    ratio: Maybe[Annotated[float, Between(0, 1)]] = ABSENT
    choice: Literal["red", "green"] | Absent = ABSENT
    never: Literal[False] | Absent = ABSENT
    list: tuple[str, ...] | Absent = ABSENT
    few: Annotated[tuple[int, ...], Items(least=1, most=3)] | Absent = ABSENT
    some: Annotated[tuple[int, ...], Items(least=2, most=3)] | Absent = ABSENT
    biases: Mapping[str, Annotated[float, Between(-1, 1)]] | Absent = ABSENT
    shape: Circle | Polygon | Absent = ABSENT
    shapes: tuple[Circle | Polygon, ...] | Absent = ABSENT
    mixed: Maybe[str | tuple[Circle, ...] | Circle] = ABSENT
    arrays: Maybe[_Arrays] = ABSENT


REFUSED: dict[bytes, str] = {
    b"[]": "body: expected an object, got an array",
    b"null": "body: expected an object, got null",
    b'"{}"': 'body: expected an object, got "{}"',
    b'{"text":5}': "text: expected a string, got 5",
    b'{"text":null}': "text: expected a string, got null",
    b'{"text":["a"]}': "text: expected a string, got an array",
    b'{"whole":"1"}': 'whole: expected an integer, got "1"',
    b'{"whole":true}': "whole: expected an integer, got true",
    b'{"whole":1.5}': "whole: expected an integer, got 1.5",
    b'{"whole":{}}': "whole: expected an integer, got an object",
    b'{"number":"0.5"}': 'number: expected a number, got "0.5"',
    b'{"number":false}': "number: expected a number, got false",
    b'{"number":%d}' % 10**399: "number: expected a finite number, got one beyond the range of a double",
    b'{"flag":1}': "flag: expected true or false, got 1",
    b'{"flag":"true"}': 'flag: expected true or false, got "true"',
    b'{"nothing":0}': "nothing: expected null, got 0",
    b'{"limited":6}': "limited: expected an integer from 1 to 5, got 6",
    b'{"limited":0}': "limited: expected an integer from 1 to 5, got 0",
    b'{"limited":"3"}': 'limited: expected an integer from 1 to 5, got "3"',
    b'{"limited":2.5}': "limited: expected an integer from 1 to 5, got 2.5",
    b'{"ratio":1.01}': "ratio: expected a number from 0 to 1, got 1.01",
    b'{"ratio":%d}' % 10**399: "ratio: expected a number from 0 to 1, got 1" + "0" * 39,
    b'{"choice":"blue"}': 'choice: expected "red" or "green", got "blue"',
    b'{"choice":1}': 'choice: expected "red" or "green", got 1',
    b'{"choice":["red"]}': 'choice: expected "red" or "green", got an array',
    b'{"never":true}': "never: expected false, got true",
    b'{"never":0}': "never: expected false, got 0",
    b'{"list":"a"}': 'list: expected an array of strings, got "a"',
    b'{"list":["a",5]}': "list[1]: expected a string, got 5",
    b'{"few":[]}': "few: expected at least 1 item, got 0",
    b'{"some":[1]}': "some: expected at least 2 items, got 1",
    b'{"few":[1,2,3,4]}': "few: expected at most 3 items, got 4",
    b'{"few":5}': "few: expected an array of one or more integers, got 5",
    b'{"few":[1,"2"]}': 'few[1]: expected an integer, got "2"',
    b'{"biases":[]}': "biases: expected an object, got an array",
    b'{"biases":{"7":1,"8":2}}': "biases.8: expected a number from -1 to 1, got 2",
    b'{"shape":5}': "shape: expected a shape, got 5",
    b'{"shape":{}}': 'shape.kind: expected "circle", "square" or "triangle", got nothing',
    b'{"shape":{"kind":null}}': 'shape.kind: expected "circle", "square" or "triangle", got null',
    b'{"shape":{"kind":["circle"]}}': ('shape.kind: expected "circle", "square" or "triangle", got an array'),
    b'{"shape":{"kind":"circle"}}': "shape.radius: expected a number from 0 to 10, got nothing",
    b'{"shapes":[{"kind":"circle","radius":1},{"kind":"square","sides":[1,null]}]}': (
        "shapes[1].sides[1]: expected an integer, got null"
    ),
    b'{"shapes":[[]]}': "shapes[0]: expected a shape, got an array",
    b'{"mixed":5}': "mixed: expected a string, an array of shapes or a shape, got 5",
    b'{"arrays":5}': (
        "arrays: expected a string, an array of at most 2 strings, an array of integers "
        "or an array of arrays of integers, got 5"
    ),
    b'{"arrays":["a","b","c"]}': "arrays: expected at most 2 items, got 3",
    b'{"arrays":[null]}': "arrays[0]: expected a string, an integer or an array of integers, got null",
    b'{"arrays":["a",1]}': "arrays[1]: expected a string, got 1",
    b'{"arrays":[1,"a"]}': 'arrays[1]: expected an integer, got "a"',
    b'{"arrays":[1,true]}': "arrays[1]: expected an integer, got true",
    b'{"arrays":[[1],2]}': "arrays[1]: expected an array of integers, got 2",
    b'{"arrays":[[1],[2,"a"]]}': 'arrays[1][1]: expected an integer, got "a"',
    b'{"mixed":{"radius":1}}': 'mixed.kind: expected "circle", got nothing',
}


@pytest.mark.parametrize(("data", "message"), REFUSED.items(), ids=[repr(data[:40]) for data in REFUSED])
def test_a_wrong_value_is_named_with_what_was_expected(data: bytes, message: str) -> None:
    with pytest.raises(ContentError) as caught:
        decode(Everything, data)
    assert str(caught.value) == message


@frozen(kw_only=True)
class Required:
    number: float
    flag: bool
    nothing: None
    array: tuple[int, ...]
    mapping: Mapping[str, int]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("number", 'number: expected a number, got "5"'),
        ("flag", 'flag: expected true or false, got "5"'),
        ("nothing", 'nothing: expected null, got "5"'),
        ("array", 'array: expected an array of integers, got "5"'),
        ("mapping", 'mapping: expected an object, got "5"'),
    ],
)
def test_a_wrong_value_of_a_required_field_is_named_alike(name: str, message: str) -> None:
    right = {"number": 1, "flag": True, "nothing": None, "array": [1], "mapping": {"a": 1}}
    assert structure(Required, right) == Required(
        number=1.0, flag=True, nothing=None, array=(1,), mapping={"a": 1}
    )
    with pytest.raises(ContentError) as caught:
        structure(Required, {**right, name: "5"})
    assert str(caught.value) == message
    with pytest.raises(ContentError) as caught:
        structure(Required, {**right, "flag": 1})
    assert str(caught.value) == "flag: expected true or false, got 1"


@pytest.mark.parametrize(
    ("data", "name", "value"),
    [
        (b'{"whole":40.0}', "whole", 40),
        (b'{"whole":-0.0}', "whole", 0),
        (b'{"number":1}', "number", 1.0),
        (b'{"number":1e300}', "number", 1e300),
        (b'{"ratio":null}', "ratio", None),
        (b'{"ratio":1}', "ratio", 1.0),
        (b'{"limited":5.0}', "limited", 5),
        (b'{"nothing":null}', "nothing", None),
        (b'{"never":false}', "never", False),
        (b'{"anything":[{"a":null}]}', "anything", [{"a": None}]),
        (b'{"anything":null}', "anything", None),
        (b'{"list":[]}', "list", ()),
        (b'{"biases":{}}', "biases", {}),
        (b'{"mixed":"a"}', "mixed", "a"),
        (b'{"arrays":[]}', "arrays", ()),
        (b'{"arrays":["a"]}', "arrays", ("a",)),
        (b'{"arrays":[1,2.0]}', "arrays", (1, 2)),
        (b'{"arrays":[[],[1,2]]}', "arrays", ((), (1, 2))),
        (b'{"mixed":[]}', "mixed", ()),
        (b'{"mixed":{"kind":"circle","radius":2}}', "mixed", Circle(kind="circle", radius=2.0)),
        (b'{"shape":{"kind":"square","sides":[1]}}', "shape", Polygon(kind="square", sides=(1,))),
    ],
)
def test_a_right_value_is_read_as_its_type(data: bytes, name: str, value: object) -> None:
    read = getattr(decode(Everything, data), name)
    assert read == value
    assert type(read) is type(value)


def test_unknown_fields_are_ignored() -> None:
    assert decode(Circle, b'{"kind":"circle","radius":1,"color":"red"}') == Circle(kind="circle", radius=1.0)


@settings(deadline=None, max_examples=200)
@given(values_of(Everything))
def test_encode_and_decode_are_inverse(value: Everything) -> None:
    assert decode(Everything, encode(value)) == value


@settings(deadline=None)
@given(st.recursive(st.none() | st.integers() | st.text(max_size=3), st.lists, max_leaves=4), st.data())
def test_any_plain_value_gives_an_instance_or_a_content_error(plain: object, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(list(Everything.__annotations__)))
    try:
        structure(Everything, {name: plain})
    except ContentError as error:
        assert error.path[0] == name  # noqa: PT017 - most draws raise nothing


@frozen(kw_only=True)
class Three:
    left_out: Maybe[int] = ABSENT
    written_as_null: Maybe[int] = None
    required: int | None


def test_absent_null_and_value_are_three_things() -> None:
    assert encode(Three(required=1)) == b'{"written_as_null":null,"required":1}'
    assert encode(Three(required=None, left_out=None, written_as_null=ABSENT)) == (
        b'{"left_out":null,"required":null}'
    )
    assert encode(Three(required=1, left_out=2, written_as_null=3)) == (
        b'{"left_out":2,"written_as_null":3,"required":1}'
    )
    # Whatever a field's default is, one that was not there is absent.
    assert decode(Three, b'{"required":null}') == Three(required=None, written_as_null=ABSENT)
    assert decode(Three, b'{"left_out":null,"written_as_null":null,"required":1}') == Three(
        required=1, left_out=None, written_as_null=None
    )
    with pytest.raises(ContentError, match=r"^required: expected an integer, got nothing$"):
        decode(Three, b"{}")


def test_a_default_counts_where_absence_is_no_value_of_the_field() -> None:
    @frozen(kw_only=True)
    class Defaulted:
        kind: Literal["a"] = "a"

    assert decode(Defaulted, b"{}") == Defaulted()


@frozen(kw_only=True)
class Status:
    WIRE: ClassVar = Wire(writes=("camel", "pascal"), any_case=True)
    endpoints: tuple[str, ...]
    model_dir_path: str | Absent = ABSENT
    id: int | Absent = field(default=ABSENT, metadata={"wire": "ID"})


def test_names_are_written_in_each_casing_in_turn() -> None:
    assert encode(Status(endpoints=("a",), model_dir_path="/m", id=1)) == (
        b'{"endpoints":["a"],"modelDirPath":"/m","ID":1,"Endpoints":["a"],"ModelDirPath":"/m"}'
    )


@pytest.mark.parametrize(
    "name", ["modelDirPath", "ModelDirPath", "model_dir_path", "MODELDIRPATH", "modeldirpath"]
)
def test_names_are_read_in_any_casing_where_the_class_says_so(name: str) -> None:
    data = b'{"Endpoints":[],"%b":"/m"}' % name.encode()
    assert decode(Status, data) == Status(endpoints=(), model_dir_path="/m")


@pytest.mark.parametrize(
    "data",
    [
        b'{"endpoints":[],"modelDirPath":"exact","ModelDirPath":"other"}',
        b'{"endpoints":[],"ModelDirPath":"other","modelDirPath":"exact"}',
        b'{"endpoints":[],"MODELDIRPATH":"exact","ModelDirPath":"other"}',
    ],
)
def test_of_several_spellings_the_exact_one_counts_or_the_first(data: bytes) -> None:
    assert decode(Status, data).model_dir_path == "exact"


def test_unknown_names_in_any_casing_are_ignored() -> None:
    assert decode(Status, b'{"endpoints":[],"Other":1,"other":2}') == Status(endpoints=())


def test_an_error_names_the_class_own_spelling() -> None:
    with pytest.raises(ContentError, match=r"^modelDirPath: expected a string, got 5$"):
        decode(Status, b'{"endpoints":[],"MODEL_DIR_PATH":5}')


def test_names_are_read_exactly_where_the_class_says_nothing() -> None:
    with pytest.raises(ContentError, match=r"^kind: expected \"circle\", got nothing$"):
        decode(Circle, b'{"Kind":"circle","radius":1}')


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, "\ud800", {"a": -math.inf}, object(), {1, 2}, Everything(anything=b"bytes")],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_carry_is_misuse(value: object) -> None:
    with pytest.raises(LocalProtocolError, match=r"^encode: expected a value that JSON can carry: .+"):
        encode(value)


def test_plain_values_and_types_are_encoded_and_decoded_alike() -> None:
    assert encode(("a", {"b": None})) == b'["a",{"b":null}]'
    assert decode(tuple[str, ...], b'["a","b"]') == ("a", "b")
    assert decode(int, b"5") == 5
    assert decode(NoneType, b"null") is None
    with pytest.raises(ContentError, match=r"^body: expected null, got 5$"):
        decode(NoneType, b"5")


@frozen(kw_only=True)
class Load:
    WIRE: ClassVar = Wire(writes=("camel",))
    name: str
    device_id: int | Absent = ABSENT
    ttl: Annotated[int, Between(0, 100_000)] | Absent = ABSENT
    unload: bool | Absent = ABSENT
    ep: Literal["cpu", "cuda"] | Absent = ABSENT
    share: Maybe[float] = ABSENT


WORDS: list[tuple[list[tuple[str, str]], Load]] = [
    ([("name", "m")], Load(name="m")),
    ([("name", "600")], Load(name="600")),
    ([("name", "true")], Load(name="true")),
    ([("name", "m"), ("ttl", "600")], Load(name="m", ttl=600)),
    ([("name", "m"), ("ttl", "600.0")], Load(name="m", ttl=600)),
    ([("name", "m"), ("ttl", "007")], Load(name="m", ttl=7)),
    ([("name", "m"), ("unload", "true")], Load(name="m", unload=True)),
    ([("name", "m"), ("unload", "False")], Load(name="m", unload=False)),
    ([("name", "m"), ("UNLOAD", "TRUE")], Load(name="m", unload=True)),
    ([("name", "m"), ("share", "0.5")], Load(name="m", share=0.5)),
    ([("name", "m"), ("share", "-2")], Load(name="m", share=-2.0)),
    # An empty word is none.
    ([("name", "m"), ("ep", "")], Load(name="m")),
    ([("name", "m"), ("ttl", ""), ("unload", "")], Load(name="m")),
    # Of a repeated name the last word counts.
    ([("name", "m"), ("ttl", "5"), ("TTL", "6")], Load(name="m", ttl=6)),
    ([("name", "m"), ("ttl", "five"), ("ttl", "6"), ("ttl", "")], Load(name="m", ttl=6)),
    # Names match in any casing, unknown ones are ignored.
    ([("Name", "m"), ("deviceId", "1")], Load(name="m", device_id=1)),
    ([("name", "m"), ("device_id", "1")], Load(name="m", device_id=1)),
    ([("name", "m"), ("DEVICEID", "1"), ("other", "x")], Load(name="m", device_id=1)),
]


@pytest.mark.parametrize(("words", "value"), WORDS, ids=[repr(words) for words, _ in WORDS])
def test_words_are_read_as_the_field_needs_them(words: list[tuple[str, str]], value: Load) -> None:
    assert decode_words(Load, words) == value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name: expected a string, got nothing"),
        ([("name", "")], "name: expected a string, got nothing"),
        ([("name", "m"), ("ttl", "soon")], 'ttl: expected an integer from 0 to 100000, got "soon"'),
        ([("name", "m"), ("ttl", "-1")], "ttl: expected an integer from 0 to 100000, got -1"),
        ([("name", "m"), ("ttl", "1.5")], "ttl: expected an integer from 0 to 100000, got 1.5"),
        ([("name", "m"), ("ttl", "1e3")], 'ttl: expected an integer from 0 to 100000, got "1e3"'),
        ([("name", "m"), ("ttl", " 5")], 'ttl: expected an integer from 0 to 100000, got " 5"'),
        ([("name", "m"), ("ttl", "+5")], 'ttl: expected an integer from 0 to 100000, got "+5"'),
        ([("name", "m"), ("ttl", "1_000")], 'ttl: expected an integer from 0 to 100000, got "1_000"'),
        ([("name", "m"), ("ttl", "٥")], 'ttl: expected an integer from 0 to 100000, got "٥"'),
        (
            [("name", "m"), ("ttl", "9" * 5000)],
            f'ttl: expected an integer from 0 to 100000, got "{"9" * 40}…"',
        ),
        ([("name", "m"), ("ttl", "true")], 'ttl: expected an integer from 0 to 100000, got "true"'),
        ([("name", "m"), ("unload", "yes")], 'unload: expected true or false, got "yes"'),
        ([("name", "m"), ("unload", "1")], 'unload: expected true or false, got "1"'),
        ([("name", "m"), ("ep", "CPU")], 'ep: expected "cpu" or "cuda", got "CPU"'),
        ([("name", "m"), ("device_id", "x")], 'deviceId: expected an integer, got "x"'),
        ([("name", "m"), ("share", "nan")], 'share: expected a number, got "nan"'),
    ],
)
def test_a_wrong_word_is_named_with_what_was_expected(words: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(ContentError) as caught:
        decode_words(Load, words)
    assert str(caught.value) == message


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["name", "ttl", "unload", "ep", "share", "x"]), st.text(max_size=6)))
)
def test_any_words_give_an_instance_or_a_content_error(words: list[tuple[str, str]]) -> None:
    try:
        decode_words(Load, words)
    except ContentError as error:
        assert error.path  # noqa: PT017 - most draws raise nothing


def test_time_is_linear_in_the_number_of_items() -> None:
    def seconds(count: int) -> float:
        plain: Any = {
            "shapes": [{"kind": "circle", "radius": 1}] * count,
            "biases": dict.fromkeys(map(str, range(count)), 0),
        }
        plain["shapes"].append(None)

        def once() -> float:
            begun = time.process_time()
            with pytest.raises(ContentError):
                structure(Everything, plain)
            return time.process_time() - begun

        return min(once() for _ in range(3))

    # Quadratic time would be 256 times as much.
    assert seconds(16_000) < 100 * (seconds(1_000) + 0.001)
