"""A container's list of blobs, page by page, as Azure's storage writes it in XML.

Knows: which few elements of a page matter, and how many bytes, levels and letters it may have.
Refuses to know: who asks for a page, and what becomes of the blobs.

Read with expat, as it comes with Python, and nothing of XML that a list does not need: a document type, and
with it every entity of one's own, is refused at its first byte, so that none is ever expanded.

Source: Microsoft's reference of the storage service, "List Blobs".
"""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote
from xml.parsers import expat

from attrs import define, field, frozen

__all__ = ["MOST_PAGE_BYTES", "BadPage", "Blob", "Page", "read_page"]

MOST_PAGE_BYTES: Final = 32 * 1024 * 1024
"""The most bytes of a page: 5,000 blobs, which are the most that one has, take about a tenth of it."""
_DEEPEST: Final = 12
_LONGEST: Final = 8192
"""The most letters of a text that matters."""

_LIST: Final = ("EnumerationResults",)
_BLOB: Final = (*_LIST, "Blobs", "Blob")
_NAME: Final = (*_BLOB, "Name")
_SIZE: Final = (*_BLOB, "Properties", "Content-Length")
_TAG: Final = (*_BLOB, "Properties", "Etag")
_KIND: Final = (*_BLOB, "Properties", "ResourceType")
_NEXT: Final = (*_LIST, "NextMarker")
_WANTED: Final = frozenset({_NAME, _SIZE, _TAG, _KIND, _NEXT})


class BadPage(ValueError):
    """This is no page of a list; the text says what was expected."""


@frozen(kw_only=True)
class Blob:
    """A file of a container."""

    name: str
    size: int
    tag: str | None
    """What tells this content from another of the same name."""


@frozen(kw_only=True)
class Page:
    """A part of a container's list."""

    blobs: tuple[Blob, ...]
    next_marker: str
    """Where the next page begins; empty on the last one."""


def read_page(data: bytes) -> Page:
    """Read a page.

    Args:
        data: XML in UTF-8.

    Raises:
        BadPage: It is none.
    """
    reader = _Reader()
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reader.doctype
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise BadPage(f"expected XML: {error}") from error
    return Page(blobs=tuple(reader.blobs), next_marker=reader.next_marker)


@define
class _Reader:
    blobs: list[Blob] = field(factory=list)
    next_marker: str = ""
    _path: tuple[str, ...] = ()
    _texts: dict[tuple[str, ...], str] = field(factory=dict)
    """What matters of the blob that is being read."""
    _encoded: bool = False
    """Whether its name is written like a part of a URL, since XML has no word for it."""

    def doctype(self, *_: object) -> None:
        raise BadPage("expected a list of blobs, got a document type")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._path = (*self._path, name)
        if len(self._path) > _DEEPEST:
            raise BadPage(f"expected at most {_DEEPEST} levels of elements, got more")
        if self._path[:1] != _LIST:
            raise BadPage(f"expected {_LIST[0]}, got {name[:80]}")
        if self._path in _WANTED:
            self._texts[self._path] = ""
        if self._path == _BLOB:
            self._encoded = False
        elif self._path == _NAME:
            self._encoded = attributes.get("Encoded", "").lower() == "true"

    def text(self, text: str) -> None:
        if self._path in self._texts:
            known = self._texts[self._path] + text
            if len(known) > _LONGEST:
                raise BadPage(f"{self._path[-1]}: expected at most {_LONGEST} characters, got more")
            self._texts[self._path] = known

    def end(self, _: str) -> None:
        if self._path == _BLOB:
            self._take_blob()
        elif self._path == _NEXT:
            self.next_marker = self._texts.pop(_NEXT)
        self._path = self._path[:-1]

    def _take_blob(self) -> None:
        texts, self._texts = self._texts, {}
        name, size = texts.get(_NAME, ""), texts.get(_SIZE, "")
        if not name:
            raise BadPage("Blob: expected a Name, got none")
        # A folder of a container that has real ones is listed, too.
        if texts.get(_KIND, "").lower() == "directory":
            return
        if not (size.isascii() and size.isdecimal() and len(size) < 19):
            raise BadPage(f"Blob {name[:200]}: Content-Length: expected a number, got {size[:40]!r}")
        name = unquote(name) if self._encoded else name
        self.blobs.append(Blob(name=name, size=int(size), tag=texts.get(_TAG) or None))
