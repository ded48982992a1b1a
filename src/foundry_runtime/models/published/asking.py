"""Asks a catalogue for its models: over all pages, and in another region if one fails.

Knows: how the region that is near is found out, and that one bad entry is no reason to know of no model.
Refuses to know: what a question and an entry look like (`queries.py`, `entries.py`), and when to ask.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import anyio.to_thread

from foundry_proto.jsontext import ContentError, load_json
from foundry_runtime.download.http import AskFailed, ask, open_client
from foundry_runtime.download.sources.api import DownloadFailed
from foundry_runtime.models.description import ModelFacts
from foundry_runtime.models.published.address import CatalogAddress
from foundry_runtime.models.published.entries import read_entry
from foundry_runtime.models.published.queries import FIRST, Continuation, Page, question, read_page

if TYPE_CHECKING:
    import httpx

__all__ = ["ASKED", "ask_catalog"]

logger = logging.getLogger(__name__)

ASKED: Final = "the catalogue"
"""What errors are about."""
_AGENT: Final = "AzureAiStudio"
"""The name under which the catalogue serves whoever has no account; it refuses others."""
_REGION: Final = re.compile(r"(?<=/api/)[^/]+(?=/)")
_CLUSTER: Final = re.compile(r"vienna-([a-z0-9]+)-[0-9]+")
_MOST_BYTES: Final = 32 * 1024 * 1024
"""Of a page."""
_MOST_PAGES: Final = 200
_ATTEMPTS: Final = 3
_SHOWN: Final = 3
"""Entries that are named where several cannot be used."""


async def ask_catalog(address: CatalogAddress, providers: Sequence[str]) -> Sequence[ModelFacts]:
    """Ask for the newest version of all models that run on some execution providers.

    Args:
        address: Where the catalogue is.
        providers: By their names in `foundry_proto.providers.PROVIDERS`.

    Returns:
        The models, each once, in the order in which they came.

    Raises:
        DownloadFailed: It does not answer.
        ContentError: What it answers is no such list.
    """
    found: dict[str, ModelFacts] = {}
    odd: list[str] = []
    async with open_client() as client:
        bases = await _bases(client, address)
        for provider in providers:
            start: Continuation | None = FIRST
            for _ in range(_MOST_PAGES):
                bases, page = await _ask_page(client, bases, provider, start or FIRST)
                for entry in page.entries:
                    try:
                        facts = read_entry(entry)
                    except ContentError as error:
                        odd.append(f"{_called(entry)}: {error}")
                    else:
                        found.setdefault(facts.id.casefold(), facts)
                start = page.following
                if start is None:
                    break
            else:
                raise DownloadFailed(f"{address.base}: expected a list that ends, got {_MOST_PAGES} pages")
    if odd:
        more = f", and {len(odd) - _SHOWN} more" if len(odd) > _SHOWN else ""
        logger.warning("the catalogue has entries that are passed over: %s%s", "; ".join(odd[:_SHOWN]), more)
    return tuple(found.values())


async def _bases(client: httpx.AsyncClient, address: CatalogAddress) -> Sequence[str]:
    """The catalogue's addresses, the best one first."""
    own = _REGION.search(address.base)
    if own is None or not (address.probe or address.regions):
        return [address.base]
    near = await _near(client, address.probe) if address.probe else None
    regions = dict.fromkeys((near or own[0], own[0], *address.regions))
    return [_REGION.sub(region, address.base, count=1) for region in regions]


async def _near(client: httpx.AsyncClient, probe: str) -> str | None:
    """The region that serves this machine; `None` where nobody says so."""
    try:
        answer = await ask(
            client,
            "POST",
            probe,
            json={"filters": [], "pageSize": 1},
            headers={"user-agent": _AGENT},
            what="the region",
            attempts=1,
        )
    except DownloadFailed:
        return None  # it is a matter of speed alone
    named = _CLUSTER.fullmatch(answer.headers.get("azureml-served-by-cluster", ""))
    return named[1] if named else None


async def _ask_page(
    client: httpx.AsyncClient, bases: Sequence[str], provider: str, start: Continuation
) -> tuple[Sequence[str], Page]:
    """Ask for a page; a region that is overloaded or fails leaves it to the next.

    Returns:
        The addresses that are left, that of the one that answered first; and the page.
    """
    while True:
        base, *others = bases
        try:
            answer = await ask(
                client,
                "POST",
                f"{base}/entities/crossRegion",
                json=question(provider, start),
                headers={"user-agent": _AGENT},
                what=ASKED,
                most_bytes=_MOST_BYTES,
                # Another region is the better second attempt.
                attempts=1 if others else _ATTEMPTS,
            )
        except AskFailed as error:
            status = error.status
            # All regions are behind one host: who does not reach it for one does not for another.
            if not others or status is None or not (status in {408, 429} or status >= 500):
                raise
            bases = others
        else:
            return bases, await anyio.to_thread.run_sync(_read, answer.content, start)


def _read(content: bytes, start: Continuation) -> Page:
    return read_page(load_json(content), start)


def _called(entry: object) -> str:
    """What an entry that cannot be used calls itself, if anything."""
    name = entry.get("entityId") or entry.get("assetId") if isinstance(entry, dict) else None
    return name[:100] if isinstance(name, str) and name.isprintable() else "one without a name"
