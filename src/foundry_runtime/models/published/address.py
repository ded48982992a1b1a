"""Where the catalogue is: the public one, a mirror, or nowhere.

Knows: the public catalogue's addresses, and what a user may write. Refuses to know: how it is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from attrs import frozen

from foundry_proto.jsontext import show

__all__ = ["OFF", "PUBLIC", "CatalogAddress", "read_address"]

OFF: Final = "off"
"""What stands in place of an address where no catalogue shall be asked."""


@frozen(kw_only=True)
class CatalogAddress:
    """Where a catalogue is."""

    base: str
    """What stands before `/entities/crossRegion`, without a slash at its end."""
    probe: str | None = None
    """Says, in a header, in which region it answers; `None` asks where `base` says."""
    regions: Sequence[str] = ()
    """Further ones, by the names that stand in `base` behind `/api/`, for when one fails."""


PUBLIC: Final = CatalogAddress(
    base="https://ai.azure.com/api/centralus/ux/v1.0",
    probe="https://api.catalog.azureml.ms/asset-gallery/v1.0/models",
    # Choice: on two continents; the list is the same everywhere, and the own region comes first.
    regions=("centralus", "eastus", "westeurope"),
)
"""The public catalogue."""


def read_address(text: str) -> CatalogAddress | None:
    """Read what a user has decided.

    Args:
        text: The address of a mirror, `off`, or nothing for the public catalogue.

    Returns:
        Where the catalogue is; `None` if none shall be asked.

    Raises:
        ValueError: It is neither; the text says what was expected.
    """
    text = text.strip()
    if not text:
        return PUBLIC
    if text.lower() == OFF:
        return None
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    odd = parts.query or parts.fragment or "@" in parts.netloc or not text.isascii() or " " in text
    if parts.scheme not in {"http", "https"} or not parts.hostname or odd or not text.isprintable():
        raise ValueError(f"expected http(s)://HOST[:PORT][/PATH] or {OFF}, got {show(text)}")
    base = text.rstrip("/")
    # A mirror is where it is: whoever sets one up may have no other way out.
    return PUBLIC if base == PUBLIC.base else CatalogAddress(base=base)
