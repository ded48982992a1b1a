"""What a request's head asks for, and what it is refused for before a byte of the body is read.

Knows: the forms of a target; which words a query may have; what a body must say of itself.
Refuses to know: who may ask (`gate.py`), and in which order all that is looked at (`server.py`).

Nothing here raises for what a client has sent, but `ContentError`, which names the parameter.
"""

from __future__ import annotations

import re
from types import NoneType
from typing import Any, Final
from urllib.parse import parse_qsl

from foundry_proto.codec import ContentError
from foundry_proto.events import Failure, Headers, header
from foundry_proto.operations import Match, Operation
from foundry_proto.operations.table import JSON
from foundry_proto.words import decode_words

__all__ = [
    "MAX_QUERY_WORDS",
    "allow",
    "arguments",
    "check_body_headers",
    "no_such_route",
    "origin_form",
    "too_large",
]

MAX_QUERY_WORDS: Final = 100
"""Most parameters of a query string."""

_ABSOLUTE: Final = re.compile(r"https?://([^/?]*)", re.IGNORECASE)


def origin_form(target: str) -> tuple[str | None, str]:
    """Split a target in absolute form: authority, path and query (RFC 9112, section 3.2.2)."""
    absolute = _ABSOLUTE.match(target)
    if absolute is None:
        return None, target
    rest = target[absolute.end() :]
    return absolute[1], rest if rest.startswith("/") else f"/{rest}"


def arguments(operation: Operation[Any, Any, Any], query: str, match: Match) -> object:
    """Read the path's and the query string's words; a path's parameter is no query's to change.

    Raises:
        ContentError: Naming the parameter.
    """
    if operation.query is NoneType:
        return None
    if query.count("&") >= MAX_QUERY_WORDS:
        raise ContentError(f"expected at most {MAX_QUERY_WORDS} parameters, got more", ("query",))
    return decode_words(operation.query, (*parse_qsl(query), *match.params.items()))


def allow(match: Match) -> Headers:
    """The header that names the methods of a path (RFC 9110, section 10.2.1)."""
    return ((b"allow", ", ".join(match.allow()).encode()),)


def too_large(limit: int) -> Failure:
    """The answer to a body of more bytes than this."""
    return Failure(
        status=413, message=f"body: expected at most {limit} bytes, got more", code="request_too_large"
    )


def check_body_headers(operation: Operation[Any, Any, Any], headers: Headers, limit: int) -> Failure | None:
    """Say what can be said against a body before a byte of it is read."""
    length = header(headers, b"content-length") or b"0"
    if not length.isdigit():
        message = f"content-length: expected a number of bytes, got {_show_header(length)}"
        return Failure(status=400, message=message)
    # Its digits are compared first: a number of any length is read in no time.
    if len(length) > 20 or int(length) > limit:
        return too_large(limit)
    if not operation.has_body:
        return None
    # Choice: a body without a Content-Type is taken for JSON; one of another type is refused even where it
    # would parse, since a web page may send `text/plain` anywhere without asking.
    media = header(headers, b"content-type") or JSON
    name, *parameters = (part.strip() for part in media.lower().split(b";"))
    if name != JSON and not (name.startswith(b"application/") and name.endswith(b"+json")):
        return _unsupported(f"content-type: expected application/json, got {_show_header(media)}")
    for parameter in parameters:
        key, _, value = parameter.partition(b"=")
        if key == b"charset" and value.strip(b'"') not in (b"utf-8", b"utf8"):
            return _unsupported(f"content-type: expected charset=utf-8, got {_show_header(media)}")
    coding = header(headers, b"content-encoding") or b"identity"
    if coding.lower() != b"identity":
        return _unsupported(f"content-encoding: expected identity, got {_show_header(coding)}")
    return None


def _unsupported(message: str) -> Failure:
    return Failure(status=415, message=message, code="unsupported_media_type")


def _show_header(value: bytes) -> str:
    return value[:80].decode("ascii", "replace")


def no_such_route(method: str, path: str, *, missing: bool) -> Failure:
    """The answer where no row has the path; `missing`: one that is known, and not offered yet, has."""
    route = f"{method} {path[:200]}"
    if missing:
        return Failure(status=404, message=f"{route}: not offered here yet", code="not_offered_yet")
    return Failure(status=404, message=f"no such route: {route}", code="unknown_url")
