"""A hub of repositories as Hugging Face has it, on the loopback interface.

Made from what its public documentation says: revisions, trees that are listed page by page with a `Link` to
the next one, files whose content is on another host if they are large, and tokens.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

from attrs import define, field

from foundry_runtime.download.sources.hugging_face import HuggingFace
from tests.support.sites import Asked, Said, Site, content, running_site

__all__ = ["FakeHub", "fake_hub"]


@define
class FakeHub:
    """What there is, and how it behaves."""

    repositories: dict[str, Mapping[str, bytes]] = field(factory=dict)
    """Files by path, by the repository's name."""
    branches: dict[str, str] = field(factory=dict)
    """Commits by the names of branches and tags, besides `main`, which is the commit of what there is."""
    token: str | None = None
    """What opens all of it; `None` where nothing is protected."""
    large: int = 1000
    """The bytes from which on a file is kept apart."""
    page_size: int = 1000
    next_base: str | None = None
    """Where the next page is said to be, if not at this hub: for hubs behind a mirror."""
    site: Site = field(init=False)
    storage: Site = field(init=False)
    """The other host, which has the large files; whoever comes there has an address that opens them."""

    def source(self, **more: Any) -> HuggingFace:
        """The source of its models."""
        return HuggingFace(endpoint=self.site.url, **more)

    def commit(self, name: str) -> str:
        """What `main` is."""
        digest = hashlib.sha1(usedforsecurity=False)
        for path, data in sorted(self.repositories[name].items()):
            digest.update(path.encode() + b"\0" + data)
        return digest.hexdigest()

    def __call__(self, asked: Asked) -> Said:
        if self.token is not None and asked.headers.get("authorization") != f"Bearer {self.token}":
            return Said(401, b'{"error": "Invalid username or password."}')
        raw = asked.target.partition("?")[0].strip("/")
        parts = [unquote(part) for part in raw.split("/")]
        if parts[:2] == ["api", "models"]:
            name, (what, revision), below = "/".join(parts[2:4]), parts[4:6], "/".join(parts[6:])
        else:
            name, (what, revision), below = "/".join(parts[:2]), parts[2:4], "/".join(parts[4:])
        if name not in self.repositories:
            return Said(404, b'{"error": "Repository not found"}')
        commit = self.commit(name)
        known = {commit: commit, "main": commit, **self.branches}
        if revision not in known:
            return Said(404, b'{"error": "Invalid rev id"}')
        match what:
            case "revision":
                return Said(200, json.dumps({"sha": known[revision]}).encode())
            case "tree":
                return self._tree(asked, self.repositories[name], below)
            case _:
                return self._file(asked, self.repositories[name], below)

    def _tree(self, asked: Asked, files: Mapping[str, bytes], below: str) -> Said:
        inside = f"{below}/" if below else ""
        paths = sorted(path for path in files if path.startswith(inside))
        if not paths:
            return Said(404, b'{"error": "does not exist"}')
        folders = {path.rpartition("/")[0] for path in paths if "/" in path}
        entries = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": one} for one in folders]
        entries += [self._entry(path, files[path]) for path in paths]
        start = int(asked.query.get("cursor", "0"))
        more = start + self.page_size
        headers = {}
        if more < len(entries):
            base = self.next_base or self.site.url
            headers["link"] = f'<{base}{asked.path}?recursive=true&cursor={more}>; rel="next"'
        return Said(200, json.dumps(entries[start:more]).encode(), headers)

    def _entry(self, path: str, data: bytes) -> dict[str, Any]:
        blob = b"blob %d\0" % len(data) + data
        oid = hashlib.sha1(blob, usedforsecurity=False).hexdigest()
        entry = {"type": "file", "oid": oid, "size": len(data), "path": path}
        if len(data) >= self.large:
            sha256 = hashlib.sha256(data).hexdigest()
            entry["lfs"] = {"oid": sha256, "size": len(data), "pointerSize": 134}
        return entry

    def _file(self, asked: Asked, files: Mapping[str, bytes], path: str) -> Said:
        if path not in files:
            return Said(404, b"Entry not found")
        data = files[path]
        if len(data) >= self.large:
            sha256 = hashlib.sha256(data).hexdigest()
            return Said(302, b"", {"location": f"{self.storage.url}/{sha256}?Signature=s1gn3d"})
        return content(asked, data)

    def stored(self, asked: Asked) -> Said:
        """What the other host answers: it knows nothing of the hub's tokens."""
        for files in self.repositories.values():
            for data in files.values():
                if hashlib.sha256(data).hexdigest() == asked.path.strip("/"):
                    return content(asked, data)
        return Said(403)


@contextmanager
def fake_hub(repositories: Mapping[str, Mapping[str, bytes]] | None = None) -> Iterator[FakeHub]:
    """Run one."""
    hub = FakeHub(dict(repositories or {}))
    with running_site(hub) as site, running_site(hub.stored) as storage:
        hub.site, hub.storage = site, storage
        yield hub
