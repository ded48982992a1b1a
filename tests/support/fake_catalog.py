"""The public catalogue on the loopback: entries by the page, and the ways in which it fails."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from attrs import define, field, frozen

__all__ = ["FakeCatalog", "Seen", "entry", "fake_catalog"]

DEVICES = {"cpu": "CPUExecutionProvider", "gpu": "WebGpuExecutionProvider", "npu": "QNNExecutionProvider"}


def entry(
    name: str = "phi-4-mini-instruct-generic-cpu",
    version: object = "2",
    *,
    device: str = "cpu",
    alias: str | None = "phi-4-mini",
    size: object = 3_000_000_000,
    **tags: object,
) -> dict[str, Any]:
    """An entry as the public catalogue has them."""
    uri = f"azureml://registries/azureml/models/{name}/versions/{version}"
    given = {
        "alias": alias,
        "foundryLocal": "",
        "promptTemplate": json.dumps({"user": "<|user|>{Content}<|end|>", "prompt": "<|user|>{Content}"}),
        "task": "chat-completion",
        "license": "MIT",
        "licenseDescription": "This model is provided under the License Terms available at …",
        "supportsToolCalling": "true",
        "maxOutputTokens": "2048",
        **tags,
    }
    return {
        "assetId": uri,
        "entityId": f"azureml:{name}:{version}",
        "annotations": {
            "tags": {tag: value for tag, value in given.items() if value is not None},
            "systemCatalogData": {"publisher": "Microsoft", "displayName": name},
        },
        "properties": {
            "id": f"{name}:{version}",
            "name": name,
            "version": version,
            "minFLVersion": "0.3.9",
            "variantInfo": {
                "parents": [{"assetId": "azureml://registries/azureml/models/Phi-4-mini/versions/1"}],
                "variantMetadata": {
                    "modelType": "ONNX",
                    "device": device,
                    "executionProvider": DEVICES[device],
                    "fileSizeBytes": size,
                },
            },
            "creationContext": {"createdTime": "2025-07-01T12:00:00.1234567+00:00"},
        },
    }


@frozen(kw_only=True)
class Seen:
    """A request."""

    path: str
    agent: str
    body: Any


@define
class FakeCatalog:
    """What it answers; may be changed at any time."""

    port: int
    entries: Sequence[Any] = ()
    page_size: int = 50
    continued_by: Literal["skip", "token", "both"] = "both"
    statuses: list[int] = field(factory=list)
    """Those of the next answers; behind them all succeed."""
    raw: bytes | None = None
    """The body of every answer, whatever is asked."""
    region: str | None = None
    """Where the probe is answered."""
    hangs: bool = False
    """Whether it takes requests and answers none."""
    seen: list[Seen] = field(factory=list)
    released: threading.Event = field(factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/centralus/ux/v1.0"

    @property
    def probe(self) -> str:
        return f"http://127.0.0.1:{self.port}/asset-gallery/v1.0/models"

    @property
    def asked(self) -> list[Any]:
        """The questions."""
        return [one.body for one in self.seen if one.path.endswith("/entities/crossRegion")]

    def answer(self, question: Any) -> bytes:
        if self.raw is not None:
            return self.raw
        request = question["indexEntitiesRequest"]
        filters = {one["field"]: one["values"] for one in request["filters"]}
        (device,) = filters["properties/variantInfo/variantMetadata/device"]
        fitting = [one for one in self.entries if _device(one) in (device, None)]
        begin = int(request.get("continuationToken") or request.get("skip") or 0)
        end = begin + min(self.page_size, request["pageSize"])
        more = end < len(fitting)
        response = {
            "totalCount": len(fitting),
            "value": fitting[begin:end],
            "nextSkip": end if more and self.continued_by != "token" else None,
            "continuationToken": str(end) if more and self.continued_by != "skip" else None,
        }
        return json.dumps({"indexEntitiesResponse": response}).encode()


def _device(one: Any) -> str | None:
    try:
        return str(one["properties"]["variantInfo"]["variantMetadata"]["device"])
    except (KeyError, TypeError):
        return None


@contextmanager
def fake_catalog(*entries: Any) -> Iterator[FakeCatalog]:
    """Serve a catalogue."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            catalog.seen.append(Seen(path=self.path, agent=self.headers["user-agent"], body=body))
            if catalog.hangs:
                catalog.released.wait()
                return
            status = catalog.statuses.pop(0) if catalog.statuses else 200
            probed = "asset-gallery" in self.path
            content = b"{}" if status != 200 or probed else catalog.answer(body)
            self.send_response(status)
            if probed and catalog.region:
                self.send_header("azureml-served-by-cluster", f"vienna-{catalog.region}-01")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Say nothing of a client that hangs up."""

    server = Server(("127.0.0.1", 0), Handler)
    catalog = FakeCatalog(server.server_address[1], entries)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield catalog
    finally:
        catalog.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
