"""A model registry and a storage account as Azure has them, on the loopback interface.

Made from what the public reference says of both: the registry's answer for a model, in any number of regions;
containers that are listed in XML, page by page; blobs that open only to a signature that has not expired.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import md5
from threading import Event
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

from attrs import define, evolve, field

from foundry_runtime.download.sources.azure import AzureFoundry, ModelRegistry
from tests.support.sites import Asked, Said, Site, content, running_site

__all__ = ["AGENT", "ASSET", "FakeAzure", "azure_asset", "fake_azure"]

AGENT = "AzureAiStudio"


def azure_asset(name: str, version: int = 1) -> str:
    """A model's address in the catalogue."""
    return f"azureml://registries/azureml/models/{name}/versions/{version}"


ASSET = azure_asset("mine-generic-cpu")
REGIONS = ("westplace", "eastplace", "midplace")


@define
class FakeAzure:
    """What there is, and how it behaves."""

    models: dict[str, Mapping[str, bytes]] = field(factory=dict)
    """Blobs by name, by the model's address."""
    down: dict[str, int] = field(factory=dict)
    """The status with which a region answers, if it does not do as it should."""
    page_size: int = 5000
    key: int = 1
    """Part of the signature that is valid now."""
    uses: int | None = None
    """How many requests may still come with the signature before it expires; `None` for any number."""
    answer: bytes | None = None
    """What the registry says, if not what it should."""
    page: bytes | None = None
    """A page of a list, if not what it should be."""
    entry: str = (
        "<Blob><Name>{name}</Name><Properties><Content-Length>{size}</Content-Length>"
        "<Etag>{tag}</Etag><BlobType>BlockBlob</BlobType></Properties></Blob>"
    )
    holds: dict[str, tuple[int, Event]] = field(factory=dict)
    """By name, how far a blob comes, and until when no further; the first time that it is asked for."""
    site: Site = field(init=False)

    @property
    def registry(self) -> ModelRegistry:
        """A client's view of it."""
        return ModelRegistry(base=f"{self.site.url}/{{region}}", regions=REGIONS)

    def source(self) -> AzureFoundry:
        """The source of its models."""
        return AzureFoundry(registry=self.registry)

    @property
    def signature(self) -> str:
        """The query that opens containers now; what it has of a secret must not be seen anywhere."""
        return f"sv=2021-12-02&sr=c&sp=rl&se=2026-01-01T00%3A00%3A00Z&sig=s3cr3t%2B{self.key}%3D"

    def __call__(self, asked: Asked) -> Said:
        place, _, rest = asked.path.strip("/").partition("/")
        if place == "storage":
            return self._storage(asked, rest)
        return self._registry(asked, place, rest)

    def _registry(self, asked: Asked, region: str, path: str) -> Said:
        if (status := self.down.get(region)) is not None:
            return Said(status)
        if asked.headers["user-agent"] != AGENT:
            return Said(400)
        if path != "modelregistry/v1.0/registry/models/nonazureaccount":
            return Said(404)
        asset = asked.query.get("assetId", "")
        if asset not in self.models:
            return Said(404, b'{"error": {"code": "UserError"}}')
        if self.answer is not None:
            return Said(200, self.answer)
        number = list(self.models).index(asset)
        uri = f"{self.site.url}/storage/container-{number}?{self.signature}"
        body = f'{{"blobSasUri": "{uri}", "modelEntity": {{"description": "One of the tests."}}}}'
        return Said(200, body.encode(), {"content-type": "application/json"})

    def _storage(self, asked: Asked, path: str) -> Said:
        if self.uses is not None:
            self.uses -= 1
            if self.uses < 0:
                self.uses = None
                self.key += 1
        if not asked.target.endswith(f"&{self.signature}") and f"?{self.signature}" not in asked.target:
            return Said(403, b"<Error><Code>AuthenticationFailed</Code></Error>")
        container, _, name = path.partition("/")
        blobs = list(self.models.values())[int(container.removeprefix("container-"))]
        query = asked.query
        if not name and (query.get("restype"), query.get("comp")) == ("container", "list"):
            return Said(200, self._list(blobs, query), {"content-type": "application/xml"})
        if name not in blobs:
            return Said(404, b"<Error><Code>BlobNotFound</Code></Error>")
        tag = _tag(blobs[name])
        if asked.headers.get("if-match", tag) != tag:
            return Said(412, b"<Error><Code>ConditionNotMet</Code></Error>")
        said = content(asked, blobs[name], {"etag": tag})
        return evolve(said, hold=self.holds.pop(name, None))

    def _list(self, blobs: Mapping[str, bytes], query: Mapping[str, Any]) -> bytes:
        if self.page is not None:
            return self.page
        names = sorted(name for name in blobs if name.startswith(query.get("prefix", "")))
        start = int(query.get("marker", "0"))
        entries = "".join(
            self.entry.format(name=escape(name), size=len(blobs[name]), tag=_tag(blobs[name]).strip('"'))
            for name in names[start : start + self.page_size]
        )
        more = start + self.page_size
        marker = f"<NextMarker>{more}</NextMarker>" if more < len(names) else "<NextMarker />"
        return (
            '\ufeff<?xml version="1.0" encoding="utf-8"?>'
            f'<EnumerationResults ServiceEndpoint="{quote(self.site.url)}" ContainerName="x">'
            f"<Blobs>{entries}</Blobs>{marker}</EnumerationResults>"
        ).encode()


def _tag(data: bytes) -> str:
    return f'"0x{md5(data, usedforsecurity=False).hexdigest()[:15].upper()}"'


@contextmanager
def fake_azure(models: Mapping[str, Mapping[str, bytes]] | None = None) -> Iterator[FakeAzure]:
    """Run one."""
    azure = FakeAzure(dict(models or {}))
    with running_site(azure) as site:
        azure.site = site
        yield azure
