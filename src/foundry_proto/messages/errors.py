"""How a failure looks in a reply's body.

Knows: OpenAI's error object, and the body for the older routes, which serves clients of both generations: an
error object, the problem details of RFC 9457 that the first service answered with, and the download client's
`success` and `errorMessage`, in one flat object.
Refuses to know: which failures there are.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import ClassVar, Literal

from attrs import field, frozen

from foundry_proto.events import Failure
from foundry_proto.wire import Wire

__all__ = ["CompatibleErrorBody", "ErrorBody", "ErrorDetail", "ErrorFamily", "error_body"]

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


def error_body(failure: Failure, family: ErrorFamily) -> ErrorBody | CompatibleErrorBody:
    """Write a failure as the body that the route's clients expect."""
    detail = ErrorDetail(message=failure.message, type=failure.type, param=failure.param, code=failure.code)
    if family == "openai":
        return ErrorBody(error=detail)
    return CompatibleErrorBody(
        error=detail,
        title=HTTPStatus(failure.status).phrase,
        status=failure.status,
        detail=failure.message,
        error_message=failure.message,
    )
