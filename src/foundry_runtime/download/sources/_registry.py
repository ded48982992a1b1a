"""Azure's model registry: from a model's address to the container that has its files.

Knows: how the registry is asked, in which regions it stands, and what an address with a signature is good
for.
Refuses to know: what is in a container.

A signature opens the container to whoever has it: it stands in no text that anybody reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Final
from urllib.parse import quote, urlsplit

from attrs import define, field, frozen

from foundry_proto.codec import decode
from foundry_proto.jsontext import ContentError
from foundry_proto.wire import Wire
from foundry_runtime.download.http import AskFailed, ask
from foundry_runtime.download.sources.api import DownloadFailed

if TYPE_CHECKING:
    import httpx

__all__ = ["REGIONS", "REGISTRY", "Container", "ModelRegistry"]

REGISTRY: Final = "https://{region}.api.azureml.ms"
"""Where the registry is, in each region."""
REGIONS: Final = ("centralus", "southcentralus", "eastus", "westus2", "westeurope", "southeastasia")
"""In the order in which they are asked. The first is where the public catalogue's own clients begin.

Choice: one list for all. It spans three continents, so that no failure of one leaves nothing; which region is
near does not matter for a single small answer, and the files come from wherever it says.
"""

_PATH: Final = "/modelregistry/v1.0/registry/models/nonazureaccount"
_AGENT: Final = "AzureAiStudio"
"""The name under which the registry serves whoever has no account."""
_MOST_BYTES: Final = 4 * 1024 * 1024
_ATTEMPTS: Final = 4
"""How often the last region is asked."""


@frozen(kw_only=True)
class Container:
    """A folder of blobs in Azure's storage, and what opens it."""

    address: str
    """Without a signature."""
    _signature: str = field(repr=False)
    """A query."""

    @classmethod
    def of(cls, uri: str, *, insecure: bool) -> Container:
        """Read an address with its signature.

        Args:
            uri: As the registry has it.
            insecure: Whether it may be without encryption.

        Raises:
            ValueError: It is none; the text says what was expected.
        """
        parts = urlsplit(uri)
        schemes = ("https", "http") if insecure else ("https",)
        if parts.scheme not in schemes or not parts.hostname or "@" in parts.netloc:
            # The address itself would tell the signature.
            expected = "an address of a container (https://HOST/PATH)"
            raise ValueError(f"expected {expected}, got {parts.scheme[:20]}://{(parts.hostname or '')[:200]}")
        address = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        return cls(address=address, signature=parts.query)

    def list_url(self, *, prefix: str, marker: str) -> str:
        """Where a page of the list of blobs is.

        Args:
            prefix: How their names begin.
            marker: Where the page begins; empty for the first.
        """
        words = {"restype": "container", "comp": "list", "prefix": prefix, "marker": marker}
        query = "&".join(f"{word}={quote(value, safe='')}" for word, value in words.items() if value)
        return f"{self.address}?{self._signed(query)}"

    def blob_url(self, name: str) -> str:
        """Where a blob is."""
        query = self._signed("")
        return f"{self.address}/{quote(name)}" + (f"?{query}" if query else "")

    def _signed(self, query: str) -> str:
        return "&".join(part for part in (query, self._signature) if part)


@frozen(kw_only=True)
class _Answer:
    WIRE: ClassVar = Wire(writes=("camel",))
    blob_sas_uri: str = field(repr=False)


@define(eq=False, kw_only=True)
class ModelRegistry:
    """The registry, which is in several regions; who answered last is asked first the next time.

    Args:
        base: Its address, in which `{region}` stands for a region; without it there is one for all.
        regions: The regions, in the order in which they are asked.
    """

    base: str = REGISTRY
    regions: Sequence[str] = REGIONS
    _last_good: str | None = field(default=None, init=False)

    async def container_of(self, client: httpx.AsyncClient, asset: str) -> Container:
        """Find the container that has a model's files; its signature expires in an hour or so.

        A region that is overloaded, fails or cannot be reached leaves it to the next one; that there is no
        such model is true of all.

        Args:
            client: Asks.
            asset: The model: `azureml://registries/REGISTRY/models/NAME/versions/N`.

        Raises:
            DownloadFailed: There is none, or no region says so.
        """
        addresses = self._addresses()
        failures: list[str] = []
        for region, address in addresses:
            is_last = len(failures) == len(addresses) - 1
            try:
                answer = await ask(
                    client,
                    "GET",
                    f"{address}{_PATH}?assetId={quote(asset, safe='')}",
                    headers={"user-agent": _AGENT},
                    what=asset,
                    most_bytes=_MOST_BYTES,
                    attempts=_ATTEMPTS if is_last else 1,  # the next region is the better second one
                )
            except AskFailed as error:
                if not _is_of_the_region(error):
                    raise
                failures.append(str(error))
            else:
                self._last_good = region
                return _container(answer.content, asset, insecure=address.startswith("http:"))
        raise DownloadFailed("\n".join(failures))

    def _addresses(self) -> list[tuple[str, str]]:
        base = self.base.rstrip("/")
        if "{region}" not in base:
            return [("", base)]
        regions = sorted(dict.fromkeys(self.regions), key=lambda region: region != self._last_good)
        return [(region, base.replace("{region}", region)) for region in regions]


def _is_of_the_region(error: AskFailed) -> bool:
    return error.status is None or error.status in {408, 429} or error.status >= 500


def _container(content: bytes, asset: str, *, insecure: bool) -> Container:
    try:
        uri = decode(_Answer, content).blob_sas_uri
    except ContentError as error:
        raise DownloadFailed(f"{asset}: the model registry's answer: {error}") from error
    try:
        return Container.of(uri, insecure=insecure)
    except ValueError as error:
        raise DownloadFailed(f"{asset}: the model registry's answer: blobSasUri: {error}") from error
