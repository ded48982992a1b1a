"""The table: which path means what, in any encoding, and which tables cannot be."""

from __future__ import annotations

import keyword
from types import NoneType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_proto.errors import LocalProtocolError
from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_proto.messages.errors import ErrorFamily
from foundry_proto.operations import (
    ALL,
    CHAT_COMPLETIONS,
    CORE,
    DOCUMENTED,
    EXTRA,
    MAX_REQUEST_BODY,
    OPENAI,
    Match,
    Operation,
    Operations,
)
from tests.support.fakes import COPY, DROP, FAKES, FIND, PUT, Widget


def row(name: str, path: str, *methods: str, errors: ErrorFamily = "openai") -> Operation[None, None, None]:
    return Operation(
        name=name,
        methods=methods or ("GET",),
        path=path,
        summary="Tests.",
        request=NoneType,
        response=NoneType,
        item=NoneType,
        errors=errors,
        heading="Tests",
    )


def found(operations: Operations, path: str) -> tuple[str, dict[str, str]] | None:
    match = operations.match(path)
    return None if match is None else (match.operations[0].name, dict(match.params))


def test_a_chat_has_a_body_and_may_take_long() -> None:
    assert CHAT_COMPLETIONS in DOCUMENTED
    assert CHAT_COMPLETIONS.has_body
    assert CHAT_COMPLETIONS.long
    assert not CHAT_COMPLETIONS.safe
    assert CHAT_COMPLETIONS.body_limit == MAX_REQUEST_BODY == 4_194_304


@pytest.mark.parametrize(("stream", "streams"), [(True, True), (False, False), (None, False)])
def test_a_chat_streams_when_its_request_says_so(stream: bool | None, streams: bool) -> None:
    assert CHAT_COMPLETIONS.streams(ChatCompletionRequest(model="m", messages=(), stream=stream)) is streams


def test_a_row_that_says_nothing_of_it_never_streams() -> None:
    assert FIND.streams(None) is False


def test_every_name_can_name_a_function() -> None:
    assert all(one.name.isidentifier() and not keyword.iskeyword(one.name) for one in ALL)


def test_every_table_has_the_operations_of_its_profile() -> None:
    tables = {"documented": DOCUMENTED, "core": CORE, "openai": OPENAI, "extra": EXTRA}
    for profile, table in tables.items():
        assert {one.profile for one in table} == {profile}
    assert [*ALL] == [one for table in tables.values() for one in table]


def test_only_openais_routes_answer_with_openais_errors_alone() -> None:
    for one in ALL:
        assert one.errors == ("openai" if one.path.startswith("/v1/") else "compatible"), one.name


def test_what_is_safe_is_asked_for_without_a_body() -> None:
    for one in ALL:
        assert not one.safe or (one.methods == ("GET",) and not one.has_body), one.name


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/chat/completions", ("chat_completions", {})),
        ("/v1/copies", ("copy", {})),
        ("/widgets/a", ("find", {"name": "a"})),
        ("/widgets/a:1", ("find", {"name": "a:1"})),
        ("/widgets/a%3A1", ("find", {"name": "a:1"})),
        ("/widgets/a%3a1", ("find", {"name": "a:1"})),
        ("/widgets/%C3%A9%20%F0%9F%98%80", ("find", {"name": "é 😀"})),
        # A segment is decoded once.
        ("/widgets/%2541", ("find", {"name": "%41"})),
        # A slash that is encoded is a letter of its segment.
        ("/widgets/a%2fb", ("find", {"name": "a/b"})),
        ("/widgets/a%2Fb", ("find", {"name": "a/b"})),
        ("/widgets%2fa", None),
        ("/widgets/%2e%2e", ("find", {"name": ".."})),
        ("/widgets/a+b", ("find", {"name": "a+b"})),
        # What is no escape stands for itself.
        ("/widgets/50%", ("find", {"name": "50%"})),
        ("/widgets/%zz", ("find", {"name": "%zz"})),
        # A literal segment means the same however it is encoded, and is preferred to a parameter.
        ("/widgets/drop", ("drop", {})),
        ("/%77idgets/dro%70", ("drop", {})),
        ("/widgets/Drop", ("find", {"name": "Drop"})),
        ("/widgets/", None),
        ("/widgets/a/", None),
        ("/widgets//a", None),
        ("//widgets/a", None),
        ("widgets/a", None),
        ("/widgets/a/b", None),
        ("/widgets", None),
        ("/WIDGETS/a", None),
        # No UTF-8.
        ("/widgets/%ff", None),
        ("/%ff/a", None),
        ("/", None),
        ("", None),
        ("*", None),
    ],
)
def test_a_path_means_one_row_or_none(path: str, expected: tuple[str, dict[str, str]] | None) -> None:
    assert found(FAKES, path) == expected


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a/b/c", "literal"),
        ("/a/b/x", "last"),
        ("/a/x/c", "middle"),
        ("/a/x/y", "both"),
        ("/x/b/c", "first"),
        ("/x/b/y", None),
    ],
)
def test_the_leftmost_literal_is_preferred_in_any_order_of_rows(
    path: str, name: str | None, reverse: bool
) -> None:
    rows = [
        row("literal", "/a/b/c"),
        row("last", "/a/b/{z}"),
        row("middle", "/a/{y}/c"),
        row("both", "/a/{y}/{z}"),
        row("first", "/{x}/b/c"),
    ]
    operations = Operations(reversed(rows) if reverse else rows)
    match = operations.match(path)
    assert (None if match is None else match.operations[0].name) == name


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda name: name != "drop"))
def test_a_target_is_matched_to_its_row_and_parameters(name: str) -> None:
    target = FIND.target({"name": name})
    assert target.isascii()
    assert "?" not in target
    match = FAKES.match(target)
    assert match == Match(operations=(FIND, PUT), params={"name": name})


@settings(deadline=None)
@given(st.text(st.sampled_from("/%2fFcC3a9.:\0 é\ud800"), max_size=20))
def test_any_path_is_matched_or_not_and_never_more(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        return
    match = FAKES.match("/widgets/" + path)
    assert match is None or set(match.params) <= {"name"}


@pytest.mark.parametrize("name", ["a:1", "a@b!$&'()*+,;=c-._~"])
def test_what_a_path_may_hold_is_not_encoded(name: str) -> None:
    assert FIND.target({"name": name}) == f"/widgets/{name}"


def test_a_target_encodes_what_a_path_cannot_hold() -> None:
    assert FIND.target({"name": "a/b?c#d%e é", "other": "x"}) == "/widgets/a%2Fb%3Fc%23d%25e%20%C3%A9"
    assert CHAT_COMPLETIONS.target({}) == "/v1/chat/completions"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "find: expected a value for each parameter of /widgets/{name}"),
        ({"name": ""}, "find: expected a value for each parameter of /widgets/{name}"),
        ({"name": "\ud800"}, "find: expected Unicode text for /widgets/{name}, got a lone surrogate"),
    ],
)
def test_a_target_without_its_parameters_is_misuse(params: dict[str, str], message: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        FIND.target(params)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/v1/chat/completions", ("POST", "OPTIONS")),
        ("/widgets/a", ("GET", "PUT", "POST", "HEAD", "OPTIONS")),
        # HEAD is answered only where GET changes nothing.
        ("/widgets/drop", ("GET", "POST", "OPTIONS")),
    ],
)
def test_a_path_allows_its_rows_methods(path: str, allow: tuple[str, ...]) -> None:
    match = FAKES.match(path)
    assert match is not None
    assert match.allow() == allow


@pytest.mark.parametrize(
    ("path", "method", "expected"),
    [
        ("/widgets/a", "GET", FIND),
        ("/widgets/a", "HEAD", FIND),
        ("/widgets/a", "PUT", PUT),
        ("/widgets/a", "POST", PUT),
        ("/widgets/a", "DELETE", None),
        ("/widgets/a", "get", None),
        ("/widgets/drop", "GET", DROP),
        ("/widgets/drop", "HEAD", None),
        ("/v1/chat/completions", "HEAD", None),
    ],
)
def test_a_method_means_one_row_or_none(
    path: str, method: str, expected: Operation[Any, Any, Any] | None
) -> None:
    match = FAKES.match(path)
    assert match is not None
    assert match.by_method(method) is expected


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row("a", "/a"), row("a", "/b")], "a: another row has this name"),
        ([row("a", "/x", "GET", "PUT"), row("b", "/x", "PUT")], "b: PUT /x belongs to a"),
        ([row("a", "/x/{y}"), row("b", "/x/{y}")], "b: GET /x/{y} belongs to a"),
        ([row("a", "/x/{y}"), row("b", "/x/{z}", "PUT")], "b: /x/{z} is /x/{y} of a, in other words"),
        ([row("a", "/x"), row("b", "/x", "PUT", errors="compatible")], "b: /x has openai errors, as a says"),
    ],
)
def test_rows_that_cannot_be_told_apart_are_refused(
    rows: list[Operation[None, None, None]], message: str
) -> None:
    with pytest.raises(ValueError) as caught:
        Operations(rows)
    assert str(caught.value) == message


def test_a_table_is_extended_into_a_new_one() -> None:
    table = Operations([CHAT_COMPLETIONS])
    operations = table + [COPY]  # noqa: RUF005 - an Operations is no list
    assert list(operations) == [CHAT_COMPLETIONS, COPY]
    both = Operations([CHAT_COMPLETIONS], not_yet=["/a", "/b"]) + Operations([COPY], not_yet=["/b", "/c"])
    assert (list(both), both.not_yet) == ([CHAT_COMPLETIONS, COPY], ("/a", "/b", "/c"))
    assert list(table) == [CHAT_COMPLETIONS]
    with pytest.raises(ValueError, match=r"^copy: another row has this name$"):
        operations + [COPY]  # noqa: RUF005


def test_a_row_without_a_body_or_query_says_so() -> None:
    assert (FIND.has_body, PUT.has_body, COPY.has_body) == (False, True, True)
    assert (PUT.request, PUT.response, PUT.query) == (Widget, NoneType, NoneType)


def test_a_path_without_parameters_is_found_before_those_with_them() -> None:
    table = Operations([row("open", "/x/{y}"), row("literal", "/x/all"), row("deep", "/{x}/all")])
    found = {path: table.match(path) for path in ("/x/all", "/x/a%6Cl", "/x/one", "/y/all", "/x", "/x/")}
    names = {path: match and match.operations[0].name for path, match in found.items()}
    assert names == {
        "/x/all": "literal",
        "/x/a%6Cl": "literal",
        "/x/one": "open",
        "/y/all": "deep",
        "/x": None,
        "/x/": None,
    }
