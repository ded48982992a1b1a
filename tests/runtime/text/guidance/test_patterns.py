"""Regular expressions mean here what they mean to validators, and each format's texts are of that format."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import re
import uuid
from collections.abc import Callable
from itertools import product
from urllib.parse import urlsplit

import pytest

from foundry_proto.jsontext import ContentError
from foundry_runtime.engine.text.guidance.forms import Json, Regex
from foundry_runtime.engine.text.guidance.patterns import FORMATS, MAX_PATTERN, pattern_fault
from tests.runtime.text.guidance.walking import Walker

LETTERS = ("a", "b", "x", '"', "\\", "\n", "\t", "]", "1", "é", " ", "-")


@pytest.mark.parametrize(
    "pattern",
    [
        r'^[^"\\]{1,2}$', r'^[^"]$', r"^[^\\]+$", r"^[^a]$", r"^[^\n]$", r"^\\$", r'^"$', r"^.$", r"^\D$",
        r"^\W$", r"^\S$", r"^\s$", r"^[\x00-!#-\[\]-~]$", r"^[\s\S]$", r"^[^\d\"]$", r"^[\w-]+$", r"^[^\]x]$",
        r"^a|b$", r'[^"]', r'^(?:[^"\\]|\\")*$', r'^[\t"]$', r"^[ -~]{2}$", "", "^", "é",
    ],
)  # fmt: skip
def test_a_pattern_allows_exactly_the_strings_that_it_matches(walker: Walker, pattern: str) -> None:
    # Python's $ matches before a last line end as well.
    expected = re.compile(re.sub(r"\$\Z", r"\\Z", pattern), re.ASCII)
    form = Json({"type": "string", "pattern": pattern})
    for text in map("".join, [*product(LETTERS, repeat=1), *product(LETTERS[:7], repeat=2), [""]]):
        written = json.dumps(text, ensure_ascii=False)
        assert walker.accepts(form, written) == (expected.search(text) is not None), text


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        (r"^(?=a)", "looking ahead or behind is not supported: (?="),
        (r"(?<!a)b", "looking ahead or behind is not supported: (?<!"),
        (r"(a)\1", r"references to groups are not supported: \1"),
        (r"(?<n>a)\k<n>", r"references to groups are not supported: \k<"),
        (r"\bword", r"word boundaries are not supported: \b"),
        (r"[a&&b]", r"&& within [] is read in different ways: expected \ before it"),
        (r"[[:alpha:]]", r"[ within [] is read in different ways: expected \ before it"),
        (r"[]a]", r"[] is read in different ways: expected \] for a bracket"),
        (r"[^]", r"[^] is read in different ways: expected \] for a bracket"),
        ("a\0", r"expected no NUL character; write \x00"),
        ("a" * (MAX_PATTERN + 1), f"expected at most {MAX_PATTERN} characters, got {MAX_PATTERN + 1}"),
    ],
)
def test_what_cannot_be_followed_is_found(pattern: str, fault: str) -> None:
    assert pattern_fault(pattern) == fault


@pytest.mark.parametrize(
    "pattern", [r"\(?=a\)", r"[(?=]", r"\\b", r"[\b]", r"\\\\1", r"[\]&]", "(?:a)(?<n>b)", r"[\[a]"]
)
def test_what_only_looks_like_it_is_let_pass(pattern: str) -> None:
    assert pattern_fault(pattern) is None


def test_an_expression_of_its_own_is_matched_whole_in_the_engines_syntax(walker: Walker) -> None:
    for pattern, texts, others in [
        ("a/b", ["a/b"], ["a"]),
        (r"a\/b", ["a/b"], ["a\\/b"]),
        ("^abc$", ["abc"], ["abcd"]),
        ("", [""], ["a"]),
        ("a\nb", ["a\nb"], ["ab"]),
        ("[a-z&&[^b]]+", ["acd"], ["ab"]),
        ("(?i)yes|no", ["YES", "no"], ["maybe"]),
    ]:
        for text in texts:
            assert walker.accepts(Regex(pattern), text), pattern
        for text in others:
            assert not walker.accepts(Regex(pattern), text), pattern


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("a(b", "not a regular expression that is supported: unclosed group"),
        (
            r"\q",
            "not a regular expression that is supported: unrecognized escape sequence",
        ),
        (
            "(?m)^a$",
            "not a regular expression that is supported: ^ and $ only mark the text's ends",
        ),
        ("[a&&b]", "nothing matches it"),
        (r"(a)\1", r"references to groups are not supported: \1"),
    ],
)
def test_an_expression_that_is_refused_is_told_why(walker: Walker, pattern: str, message: str) -> None:
    with pytest.raises(ContentError) as caught:
        walker.guidance.compile(Regex(pattern, ("response_format", "regex")))
    assert str(caught.value) == f"response_format.regex: {message}"


def is_hostname(text: str) -> bool:
    return all(re.fullmatch(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)", label) for label in text.split("."))


def is_duration(text: str) -> bool:
    return (
        re.fullmatch(r"P(?!\Z)(\d+Y)?(\d+M)?(\d+W)?(\d+D)?(T(?!\Z)(\d+H)?(\d+M)?(\d+S)?)?", text) is not None
    )


READERS: dict[str, Callable[[str], object]] = {
    "date": dt.date.fromisoformat,
    "time": dt.time.fromisoformat,
    "date-time": dt.datetime.fromisoformat,
    "duration": lambda text: text if is_duration(text) else 1 / 0,
    "email": lambda text: text if is_hostname(text.partition("@")[2]) and "." in text else 1 / 0,
    "hostname": lambda text: text if is_hostname(text) else 1 / 0,
    "ipv4": ipaddress.IPv4Address,
    "ipv6": ipaddress.IPv6Address,
    "uuid": uuid.UUID,
    "uri": lambda text: urlsplit(text).hostname or 1 / 0,
}


@pytest.mark.parametrize("name", FORMATS)
def test_whatever_a_format_allows_is_of_that_format(walker: Walker, name: str) -> None:
    grammar = walker.guidance.compile(Json({"type": "string", "format": name}))
    for seed in range(25):
        text = walker.walk(grammar, seed)
        assert text is not None
        READERS[name](json.loads(text))


@pytest.mark.parametrize(
    ("name", "allowed", "forbidden"),
    [
        ("date", ["2024-02-29", "2000-02-29", "2023-12-31"], ["2023-02-29", "1900-02-29", "0000-01-01"]),
        ("time", ["23:59:59Z", "00:00:00.123456+05:30"], ["24:00:00Z", "12:00:00", "12:00:60Z"]),
        ("date-time", ["2024-02-29T12:00:00Z"], ["2024-02-29 12:00:00Z", "2024-02-29"]),
        ("duration", ["P1Y2M3D", "PT1H30M", "P3W"], ["P", "PT", "1D"]),
        ("email", ["a.b+c@example.com"], ["a@b", "@example.com", "a..b@example.com"]),
        ("hostname", ["example.com", "localhost"], ["-a.com", "a..b", "a_b"]),
        ("ipv4", ["0.0.0.0", "255.255.255.255"], ["256.0.0.1", "1.2.3", "01.2.3.4"]),
        ("ipv6", ["::", "::1", "fe80::1:2", "1:2:3:4:5:6:7:8", "1::"], ["1::2::3", "1:2:3:4:5:6:7"]),
        ("uuid", ["123e4567-e89b-12d3-a456-426614174000"], ["123e4567e89b12d3a456426614174000"]),
        ("uri", ["https://example.com/a?b=c#d", "http://localhost:8080"], ["example.com", "http://"]),
    ],
)  # fmt: skip
def test_a_formats_common_texts_are_allowed_and_others_not(
    walker: Walker, name: str, allowed: list[str], forbidden: list[str]
) -> None:
    form = Json({"type": "string", "format": name})
    assert [text for text in allowed if not walker.accepts(form, json.dumps(text))] == []
    assert [text for text in forbidden if walker.accepts(form, json.dumps(text))] == []
