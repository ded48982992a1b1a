"""The OpenAPI document of a table of operations.

Knows: how a row looks in OpenAPI, and which failures follow from the row itself: a body can be too large, a
query wrong, a client not on this machine.
Refuses to know: JSON Schema (`schema.py`), and any particular operation.

A row's own `failures` say what else its handler may answer. HEAD, which every safe GET answers, and OPTIONS,
which every path answers, are not listed.

Source: the OpenAPI Specification, version 3.1.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any, Final

import attrs

from foundry_proto._version import __version__
from foundry_proto.messages.errors import CompatibleErrorBody, ErrorBody, ErrorFamily, status_phrase
from foundry_proto.messages.service import OpenAPIDocument
from foundry_proto.operations import Operation, Operations
from foundry_proto.operations.table import Profile
from foundry_proto.schema import Schema, Schemas
from foundry_proto.wire import field_name, fields_of, may_be_absent, wire_of

__all__ = ["openapi_document", "statuses"]

_JSON: Final = "application/json"
_Row = Operation[Any, Any, Any]

_ERRORS: Final[Mapping[ErrorFamily, type]] = {"openai": ErrorBody, "compatible": CompatibleErrorBody}

_TAGS: Final[Mapping[Profile, str]] = {
    "documented": "The Foundry Local REST API.",
    "core": "The routes of Foundry Local's newer service.",
    "openai": "OpenAI's API.",
    "extra": "What other clients ask for.",
}

_DESCRIPTION: Final = (
    "Language models on your own machine. Every path answers OPTIONS, and every GET that changes nothing "
    "answers HEAD. What cannot be read as a request at all is answered with 400, 408, 431, 501 or 505."
)


def statuses(operation: _Row) -> tuple[int, ...]:
    """Give the statuses of all failures that an operation may answer with, in their order.

    Whatever is sent may be malformed (400) or too large (413); a body may come too slowly (408) or in another
    form than JSON (415); a WebSocket may be opened in a wrong way (426) or from a wrong place (403).
    """
    found = {400, 413, *operation.failures}
    if operation.has_body:
        found |= {408, 415}
    if operation.local:
        found.add(403)
    if operation.upgrade:
        found |= {403, 426}
    return tuple(sorted(found))


def openapi_document(operations: Operations) -> OpenAPIDocument:
    """Describe a table of operations in OpenAPI 3.1."""
    schemas = Schemas(
        read=[operation.request for operation in operations],
        written=[tp for operation in operations for tp in _written(operation)],
    )
    paths: dict[str, Schema] = {}
    for operation in operations:
        for method in operation.methods:
            paths.setdefault(operation.path, {})[method.lower()] = _operation(operation, method, schemas)
    profiles = dict.fromkeys(operation.profile for operation in operations)
    return OpenAPIDocument(
        info={"title": "Foundry Local", "version": __version__, "description": _DESCRIPTION},
        tags=tuple({"name": profile, "description": _TAGS[profile]} for profile in profiles),
        paths=paths,
        components={"schemas": schemas.components()},
    )


def _written(operation: _Row) -> list[Any]:
    """The types that its answers are made of."""
    found = [operation.response, _ERRORS[operation.errors]]
    if operation.upgrade:
        found.append(operation.item)
    if operation.stream is not None:
        operation.stream.schema(operation.item, found.append)
    return found


def _operation(operation: _Row, method: str, schemas: Schemas) -> Schema:
    further = "" if method == operation.methods[0] else f"_{method.lower()}"
    described: Schema = {
        "operationId": operation.name + further,
        "summary": operation.summary,
        "tags": [operation.profile],
        "parameters": _parameters(operation, schemas),
    }
    if operation.has_body:
        content = {_JSON: {"schema": schemas.of(operation.request, "read")}}
        described["requestBody"] = {"required": True, "content": content}
    failure = {_JSON: {"schema": schemas.of(_ERRORS[operation.errors], "written")}}
    described["responses"] = {
        "101" if operation.upgrade else "200": _success(operation, schemas),
        **{
            str(status): {"description": status_phrase(status), "content": failure}
            for status in statuses(operation)
        },
    }
    if operation.upgrade:
        # OpenAPI 3.1 has no word for what follows the handshake.
        described["x-websocket-messages"] = {
            "client": schemas.of(operation.request, "read"),
            "server": schemas.of(operation.item, "written"),
        }
    return described


def _parameters(operation: _Row, schemas: Schemas) -> list[Schema]:
    """The words of a path and a query string; of these, a word that is empty counts as absent."""
    if operation.query is NoneType:
        return []
    in_path = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    casing = wire_of(operation.query).writes[0]
    found = []
    for one in fields_of(operation.query):
        name = field_name(one, casing)
        schema = schemas.of(one.type, "read")
        if name in in_path:
            # An empty segment is another path.
            schema = {**schema, "minLength": 1} if schema == {"type": "string"} else schema
            found.append({"name": name, "in": "path", "required": True, "schema": schema})
        else:
            required = not may_be_absent(one.type) and one.default is attrs.NOTHING
            found.append({"name": name, "in": "query", "required": required, "schema": schema})
    return found


def _success(operation: _Row, schemas: Schemas) -> Schema:
    if operation.upgrade:
        return {"description": status_phrase(101)}
    content: Schema = {}
    if operation.response is not NoneType:
        media = operation.media_type.partition(b";")[0].decode()
        content[media] = {"schema": schemas.of(operation.response, "written")}
    if operation.stream is not None:
        media = operation.stream.media_type.partition(b";")[0].decode()
        content[media] = {
            "schema": operation.stream.schema(operation.item, lambda tp: schemas.of(tp, "written"))
        }
    return {"description": "OK", "content": content} if content else {"description": "OK"}
