"""Addresses on the Hugging Face hub, and what its API says of a repository's files.

Knows: the forms in which people write a repository, a revision and a folder in it, and how they stand in the
hub's own URLs.
Refuses to know: who asks, with which token, and which of the files are wanted.

Source: the hub's documentation, "Hub API endpoints"; for `hf://` that of its file system.
"""

from __future__ import annotations

import re
from typing import Annotated, Final
from urllib.parse import quote, unquote, urlsplit

from attrs import frozen

from foundry_proto.codec import decode, structure
from foundry_proto.jsontext import ContentError, load_json, show
from foundry_proto.sentinels import ABSENT, Maybe
from foundry_proto.wire import Between

__all__ = ["HUB", "HubFile", "Repository", "read_commit", "read_tree"]

HUB: Final = "https://huggingface.co"
_HOSTS: Final = frozenset({"huggingface.co", "www.huggingface.co", "hf.co"})
_MAIN: Final = "main"

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}")
_REVISION: Final = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_./+-]{0,199}")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_PAGES: Final = frozenset({"tree", "blob", "resolve", "raw"})
"""What stands before the revision in the addresses that a browser shows."""
_OTHER_KINDS: Final = frozenset({"datasets", "spaces", "buckets", "kernels"})


@frozen(kw_only=True)
class Repository:
    """A repository of a model, at a revision, and perhaps a folder or file in it."""

    name: str
    """`OWNER/NAME`; some old ones have no owner."""
    revision: str = _MAIN
    """A branch, a tag, or a commit."""
    path: str = ""
    """Without slashes at its ends; empty for all of it."""

    @classmethod
    def read(cls, uri: str, *, bare: bool, endpoint: str = HUB) -> Repository | None:
        """Read an address.

        These are read: `hf://OWNER/NAME[@REVISION][/PATH]`, `https://huggingface.co/OWNER/NAME`, the same
        with `/tree/REVISION/PATH`, and `OWNER/NAME[@REVISION]`.

        Args:
            uri: The address.
            bare: Whether `OWNER/NAME` alone is one: it might be anything.
            endpoint: Where the hub is, whose addresses are read like the public one's.

        Returns:
            The repository; `None` where the address is another kind.
        """
        scheme, colon, rest = uri.partition("://")
        match scheme.lower() if colon else "":
            case "hf":
                return _of_parts(rest)
            case "http" | "https":
                page = urlsplit(uri)._replace(query="", fragment="")
                if page.geturl().lower().startswith(f"{endpoint.lower()}/"):
                    return _of_page(page.geturl()[len(endpoint) :].strip("/"))
                public = page.scheme == "https" and page.netloc.lower() in _HOSTS
                return _of_page(page.path.strip("/")) if public else None
            case "" if bare and not colon:
                found = _of_parts(uri)
                return found if found is not None and not found.path else None
            case _:
                return None

    @property
    def is_fixed(self) -> bool:
        """Whether the revision is a commit, which never changes."""
        return _COMMIT.fullmatch(self.revision) is not None

    def __str__(self) -> str:
        revision = "" if self.revision == _MAIN else f"@{quote(self.revision, safe='')}"
        return f"hf://{self.name}{revision}"

    def commit_url(self, endpoint: str) -> str:
        """Where the hub says which commit the revision is."""
        return f"{endpoint}/api/models/{self.name}/revision/{quote(self.revision, safe='')}?expand=sha"

    def tree_url(self, endpoint: str, folder: str) -> str:
        """Where the hub lists the files of a folder and below; the top's is empty."""
        below = f"/{quote(folder)}" if folder else ""
        revision = quote(self.revision, safe="")
        return f"{endpoint}/api/models/{self.name}/tree/{revision}{below}?recursive=true"

    def file_url(self, endpoint: str, path: str) -> str:
        """Where a file's content is."""
        return f"{endpoint}/{self.name}/resolve/{quote(self.revision, safe='')}/{quote(path)}"


def _of_parts(text: str) -> Repository | None:
    """`OWNER/NAME[@REVISION][/PATH]`, in which a revision's own slashes are written `%2F`.

    Those of pull requests (`refs/pr/1`) may be written as they are.
    """
    head, at, tail = text.removesuffix("/").partition("@")
    names = head.split("/")
    if names[0] == "models" and len(names) > 2:
        names = names[1:]
    if at:
        own = re.match(r"refs/(?:pr|convert)/[^/]+", tail)
        revision, _, path = (own.group(), "", tail[own.end() :].strip("/")) if own else tail.partition("/")
        return _checked("/".join(names), unquote(revision), path)
    return _checked("/".join(names[:2]), _MAIN, "/".join(names[2:]))


def _of_page(path: str) -> Repository | None:
    """The path of a page of the hub's: a repository's own, or that of a folder or file in it."""
    names = [unquote(name) for name in path.split("/")]
    if len(names) > 3 and names[2] in _PAGES:
        revision = path.split("/")[3]
        below = names[4:]
        if names[3] == "refs" and len(names) > 5:  # `refs/pr/1`
            revision, below = "/".join(names[3:6]), names[6:]
        return _checked("/".join(names[:2]), unquote(revision), "/".join(below))
    return _checked(path, _MAIN, "") if len(names) == 2 else None


def _checked(name: str, revision: str, path: str) -> Repository | None:
    names = name.split("/")
    fits = len(names) <= 2 and all(_NAME.fullmatch(part) and ".." not in part for part in names)
    if not fits or names[0] in _OTHER_KINDS or not _REVISION.fullmatch(revision):
        return None
    return Repository(name=name, revision=revision, path=path)


@frozen(kw_only=True)
class HubFile:
    """A file of a repository."""

    path: str
    size: int
    sha256: str | None
    """Of its content, where the hub keeps it apart from the repository: large files."""
    tag: str | None
    """What tells this content from another of the same path."""


@frozen(kw_only=True)
class _Large:
    oid: str
    size: Annotated[int, Between(0, 2**53)]


@frozen(kw_only=True)
class _Entry:
    type: str
    path: str
    size: Maybe[Annotated[int, Between(0, 2**53)]] = ABSENT
    oid: Maybe[str] = ABSENT
    lfs: Maybe[_Large] = ABSENT


@frozen(kw_only=True)
class _Commit:
    sha: str


def read_commit(data: bytes) -> str:
    """Which commit a revision is, from the hub's answer.

    Raises:
        ContentError: It says something else.
    """
    sha = decode(_Commit, data).sha
    if not _COMMIT.fullmatch(sha):
        raise ContentError(f"expected a commit, got {show(sha)}", ("sha",))
    return sha


def read_tree(data: bytes) -> list[HubFile]:
    """The files of a page of the hub's list.

    Raises:
        ContentError: It is none.
    """
    files = []
    entries: tuple[_Entry, ...] = structure(tuple[_Entry, ...], load_json(data))
    for index, entry in enumerate(entries):
        if entry.type != "file":
            continue
        size = entry.lfs.size if entry.lfs else entry.size
        if not isinstance(size, int):
            raise ContentError("expected an integer, got nothing", (index, "size"))
        sha256 = entry.lfs.oid.removeprefix("sha256:") if entry.lfs else None
        files.append(HubFile(path=entry.path, size=size, sha256=sha256, tag=entry.oid or None))
    return files
