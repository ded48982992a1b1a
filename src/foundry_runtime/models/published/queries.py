"""What the public catalogue is asked, and how its answer is cut into pages.

Knows: the body of a question, the two ways in which an answer says that there is more, and what no answer may
do: repeat itself for ever. Refuses to know: HTTP, and what an entry says (`entries.py`).

Source: the public catalogue's `entities/crossRegion` route, as the older service and its successor call it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import frozen

from foundry_proto.jsontext import ContentError, show
from foundry_proto.providers import PROVIDERS

__all__ = ["FIRST", "PAGE_SIZE", "Continuation", "Page", "question", "read_page"]

PAGE_SIZE: Final = 50
_RESPONSE: Final = "indexEntitiesResponse"


@frozen(kw_only=True)
class Continuation:
    """Where an answer goes on; the first page is where nothing is said."""

    skip: int | None = None
    token: str | None = None


FIRST: Final = Continuation()


@frozen(kw_only=True)
class Page:
    """A part of an answer."""

    entries: Sequence[object]
    """As they came: each may be anything."""
    following: Continuation | None
    """Where the rest is; `None` for no rest."""


def question(provider: str, start: Continuation = FIRST) -> Mapping[str, Any]:
    """The body that asks for the newest version of each model that runs on an execution provider.

    Args:
        provider: One of `foundry_proto.providers.PROVIDERS`, by its name there.
        start: Which page.
    """
    known = PROVIDERS[provider]
    variant = "properties/variantInfo/variantMetadata"
    filters = {
        "type": "models",
        "kind": "Versioned",
        "labels": "latest",
        "annotations/tags/foundryLocal": "",
        f"{variant}/device": known.device.lower(),
        f"{variant}/executionProvider": known.execution_provider,
    }
    request: dict[str, Any] = {
        "filters": [
            {"field": field, "operator": "eq", "values": [value]} for field, value in filters.items()
        ],
        "pageSize": PAGE_SIZE,
    }
    if start.skip is not None:
        request["skip"] = start.skip
    if start.token is not None:
        request["continuationToken"] = start.token
    return {
        "resourceIds": [{"resourceId": "azureml", "entityContainerType": "Registry"}],
        "indexEntitiesRequest": request,
    }


def read_page(content: object, start: Continuation) -> Page:
    """Read an answer.

    Args:
        content: The answer's JSON.
        start: Which page was asked for.

    Raises:
        ContentError: It is no answer to such a question.
    """
    if not isinstance(content, dict) or not isinstance(response := content.get(_RESPONSE), dict):
        raise ContentError(f"expected an object with an object {_RESPONSE}, got {show(content)}")
    if not isinstance(entries := response.get("value"), list):
        raise ContentError(f"expected an object with an array, got {show(response)}", (_RESPONSE,))
    skip, token = response.get("nextSkip"), response.get("continuationToken")
    following = Continuation(
        skip=skip if isinstance(skip, int) and not isinstance(skip, bool) and skip > 0 else None,
        token=token if isinstance(token, str) and token else None,
    )
    # Choice: a page without entries is the last, and so is one that leads back to itself.
    more = following not in (FIRST, start) and bool(entries)
    return Page(entries=entries, following=following if more else None)
