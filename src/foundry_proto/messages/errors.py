"""How a failure looks in a reply's body, and what can be read from one.

Knows: OpenAI's error object, and the body for the older routes, which serves clients of both generations: an
error object, the problem details of RFC 9457 that the first service answered with, and the download client's
`success` and `errorMessage`, in one flat object.
Refuses to know: which failures there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar, Final, Literal

from attrs import field, frozen

from foundry_proto.events import Failure, Headers
from foundry_proto.wire import Wire

__all__ = [
    "CompatibleErrorBody",
    "ErrorBody",
    "ErrorDetail",
    "ErrorFamily",
    "error_body",
    "read_failure",
    "status_phrase",
]

ErrorFamily = Literal["openai", "compatible"]
"""`openai`: the error object alone, on `/v1/*`; `compatible`: the body for both generations, elsewhere."""


@frozen(kw_only=True)
class ErrorDetail:
    """OpenAI's error object."""

    message: str
    type: str = "server_error"
    param: str | None = None
    """The request's field that is to blame."""
    code: str | None = None


@frozen(kw_only=True)
class ErrorBody:
    """A body that holds the error object alone."""

    error: ErrorDetail


@frozen(kw_only=True)
class CompatibleErrorBody:
    """A body that clients of both generations can read."""

    WIRE: ClassVar = Wire(writes=("camel",))
    error: ErrorDetail
    type: str = "about:blank"
    title: str
    status: int
    detail: str
    success: Literal[False] = field(default=False)
    error_message: str


_CLASSES: Final = {2: "Success", 3: "Redirection", 4: "Client Error", 5: "Server Error"}


def status_phrase(status: int) -> str:
    """Give a status's name; of one without a name, that of its class."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return _CLASSES.get(status // 100, "Unknown")


def error_body(failure: Failure, family: ErrorFamily) -> ErrorBody | CompatibleErrorBody:
    """Write a failure as the body that the route's clients expect."""
    detail = ErrorDetail(message=failure.message, type=failure.type, param=failure.param, code=failure.code)
    if family == "openai":
        return ErrorBody(error=detail)
    return CompatibleErrorBody(
        error=detail,
        title=status_phrase(failure.status),
        status=failure.status,
        detail=failure.message,
        error_message=failure.message,
    )


def read_failure(plain: object, *, status: int, headers: Headers = ()) -> Failure | None:
    """Read a failure from the body of any server's reply, as well as it can be read.

    Servers that call themselves compatible write numbers for `code`, text for `error`, or problem details
    (RFC 9457): a client that insisted on one form would hide what went wrong behind how it was said.

    Args:
        plain: The body's JSON value.
        status: The reply's status.
        headers: The reply's headers.

    Returns:
        The failure; `None` when nothing in the body says what is wrong.
    """
    if not isinstance(plain, dict):
        return None
    error = plain.get("error")
    if isinstance(error, dict):
        return _read_detail(error, status, headers)
    for message in (error, *(plain.get(name) for name in ("errorMessage", "detail", "message", "title"))):
        if isinstance(message, str) and message:
            return Failure(status=status, message=message, headers=headers)
    return None


def _read_detail(error: Mapping[str, Any], status: int, headers: Headers) -> Failure | None:
    message, param, code = error.get("message"), error.get("param"), error.get("code")
    if not isinstance(message, str) or not message:
        return None
    kind = error.get("type")
    known = {"type": kind} if isinstance(kind, str) and kind else {}
    return Failure(
        status=status,
        message=message,
        **known,
        param=param if isinstance(param, str) else None,
        code=str(code) if isinstance(code, str | int) else None,
        headers=headers,
    )
