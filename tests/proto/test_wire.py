"""The language of annotations: how types are named in errors, which JSON may be one, names in casings."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Annotated, Any, ClassVar, Literal

import attrs
import pytest
from attrs import field, frozen

from foundry_proto.sentinels import Absent
from foundry_proto.wire import (
    Between,
    Casing,
    Items,
    Wire,
    describe,
    field_name,
    is_union,
    join_words,
    json_kinds,
    may_be_absent,
    members,
    wire_name,
    wire_of,
)


@frozen(kw_only=True)
class Part:
    WIRE: ClassVar = Wire(noun="a part", nouns="parts")
    text: str


@frozen(kw_only=True)
class Image:
    WIRE: ClassVar = Wire(noun="a part", nouns="parts")
    url: str


@frozen(kw_only=True)
class Nameless:
    file_name: str = field(metadata={"wire": "FILE"})
    size_in_bytes: int


@pytest.mark.parametrize(
    ("tp", "text"),
    [
        (str, "a string"),
        (int, "an integer"),
        (float, "a number"),
        (bool, "true or false"),
        (object, "a JSON value"),
        (NoneType, "null"),
        (Mapping[str, int], "an object"),
        (Part, "a part"),
        (Nameless, "an object"),
        (Literal["a"], '"a"'),
        (Literal["a", "b"], '"a" or "b"'),
        (Literal["a", "b", "c"], '"a", "b" or "c"'),
        (Literal[False], "false"),
        (Literal["a", "b"] | Part, '"a", "b" or a part'),
        (tuple[str, ...], "an array of strings"),
        (tuple[int, ...], "an array of integers"),
        (tuple[bool, ...], "an array of booleans"),
        (tuple[object, ...], "an array of JSON values"),
        (tuple[Part, ...], "an array of parts"),
        (tuple[Nameless, ...], "an array of objects"),
        (tuple[Mapping[str, int], ...], "an array of objects"),
        (tuple[tuple[float, ...], ...], "an array of arrays of numbers"),
        (tuple[str | None, ...], "an array of strings"),
        # Classes with one noun are named once.
        (tuple[Part | Image, ...], "an array of parts"),
        (Part | Image, "a part"),
        (str | tuple[Part, ...], "a string or an array of parts"),
        # Null and absence are no help to who sent something else.
        (float | Absent | None, "a number"),
        (Annotated[float, Between(0, 2)], "a number from 0 to 2"),
        (Annotated[float, Between(-2.5, 2.5)], "a number from -2.5 to 2.5"),
        (Annotated[int, Between(1, 128)], "an integer from 1 to 128"),
        (Annotated[int, Between(0, 1)] | Absent | None, "an integer from 0 to 1"),
        (tuple[Annotated[int, Between(0, 9)], ...], "an array of integers from 0 to 9"),
        (Annotated[int, Between(-(2**63), 2**63 - 1)], f"an integer from {-(2**63)} to {2**63 - 1}"),
        (Annotated[tuple[str, ...], Items(most=4)], "an array of at most 4 strings"),
        (Annotated[tuple[Part, ...], Items(least=1, most=9)], "an array of one or more parts"),
        (Annotated[tuple[Part, ...], Items(least=2, most=9)], "an array of 2 or more parts"),
        (tuple[Annotated[tuple[int, ...], Items(most=2)], ...], "an array of arrays of at most 2 integers"),
        (str | Annotated[tuple[str, ...], Items(most=4)], "a string or an array of at most 4 strings"),
    ],
    ids=str,
)
def test_types_are_described_in_words(tp: Any, text: str) -> None:
    assert describe(tp) == text


@pytest.mark.parametrize(
    ("tp", "kinds"),
    [
        (str, (str,)),
        (int, (int, float)),
        (float, (int, float)),
        (bool, (bool,)),
        (NoneType, (NoneType,)),
        (tuple[str, ...], (list,)),
        (Mapping[str, object], (dict,)),
        (Part, (dict,)),
        (Literal["a", "b"], (str,)),
        (Literal["a", False], (str, bool)),
        (Annotated[float, Between(0, 2)], (int, float)),
        (str | Absent | None, (str, NoneType)),
        (str | tuple[Part, ...] | None, (str, list, NoneType)),
        (int | float, (int, float)),
        (object, (str, int, float, bool, NoneType, list, dict)),
    ],
    ids=str,
)
def test_types_say_which_json_may_stand_for_them(tp: Any, kinds: tuple[type, ...]) -> None:
    assert json_kinds(tp) == kinds


@pytest.mark.parametrize(
    ("tp", "union", "absent", "without_absent"),
    [
        (str, False, False, (str,)),
        (str | None, True, False, (str, NoneType)),
        (str | Absent, True, True, (str,)),
        (str | Absent | None, True, True, (str, NoneType)),
    ],
    ids=str,
)
def test_unions_say_what_they_are_made_of(
    tp: Any, union: bool, absent: bool, without_absent: tuple[type, ...]
) -> None:
    assert (is_union(tp), may_be_absent(tp), members(tp)) == (union, absent, without_absent)


@pytest.mark.parametrize(
    ("name", "casing", "expected"),
    [
        ("error_message", "snake", "error_message"),
        ("error_message", "camel", "errorMessage"),
        ("error_message", "pascal", "ErrorMessage"),
        ("uri", "camel", "uri"),
        ("uri", "pascal", "Uri"),
        ("model_dir_path", "camel", "modelDirPath"),
    ],
)
def test_names_are_written_in_a_casing(name: str, casing: Casing, expected: str) -> None:
    assert wire_name(name, casing) == expected


def test_a_field_may_set_its_own_name() -> None:
    fields = attrs.fields(Nameless)
    assert [field_name(one, "camel") for one in fields] == ["FILE", "sizeInBytes"]
    assert [field_name(one, "snake") for one in fields] == ["FILE", "size_in_bytes"]


def test_a_class_that_says_nothing_is_an_object_in_snake_case() -> None:
    assert wire_of(Nameless) == Wire()
    assert wire_of(Nameless) == Wire(noun="an object", nouns="objects", writes=("snake",), any_case=False)
    assert wire_of(Part).noun == "a part"


@pytest.mark.parametrize(
    ("words", "text"), [(["a"], "a"), (["a", "b"], "a or b"), (["a", "b", "c"], "a, b or c")]
)
def test_alternatives_are_joined_as_in_a_sentence(words: list[str], text: str) -> None:
    assert join_words(words) == text
