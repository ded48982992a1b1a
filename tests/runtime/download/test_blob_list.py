"""A container's list: what storage writes is read, and what it would never write is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundry_runtime.download.sources._blob_list import BadPage, Blob, Page, read_page

PAGE = """\ufeff<?xml version="1.0" encoding="utf-8"?>
<EnumerationResults ServiceEndpoint="https://a.example/" ContainerName="c">
  <Prefix>v1/</Prefix>
  <MaxResults>4</MaxResults>
  <Blobs>
    <Blob>
      <Name>v1/model.onnx.data</Name>
      <Properties>
        <Creation-Time>Mon, 01 Sep 2025 00:00:00 GMT</Creation-Time>
        <Etag>0x8DDE900DDC7F9A3</Etag>
        <Content-Length>4869912608</Content-Length>
        <Content-MD5>x==</Content-MD5>
        <ResourceType>file</ResourceType>
      </Properties>
      <OrMetadata />
    </Blob>
    <Blob><Name>a &amp; b &lt;c&gt; Ä ☕.json</Name><Properties><Content-Length>0</Content-Length></Properties></Blob>
    <Blob>
      <Name Encoded="true">x%EF%BF%BE%25.txt</Name><Properties><Content-Length>7</Content-Length></Properties>
    </Blob>
    <Blob>
      <Name>v1</Name>
      <Properties><ResourceType>directory</ResourceType></Properties>
    </Blob>
  </Blobs>
  <NextMarker>2!96!MDAwMDE=--</NextMarker>
</EnumerationResults>
"""


def page_of(blob: str) -> bytes:
    return f"<EnumerationResults><Blobs>{blob}</Blobs></EnumerationResults>".encode()


def test_a_page_says_what_there_is_and_where_the_next_one_begins() -> None:
    assert read_page(PAGE.encode()) == Page(
        blobs=(
            Blob(name="v1/model.onnx.data", size=4869912608, tag="0x8DDE900DDC7F9A3"),
            Blob(name="a & b <c> Ä ☕.json", size=0, tag=None),
            Blob(name="x\ufffe%.txt", size=7, tag=None),
        ),
        next_marker="2!96!MDAwMDE=--",
    )


@pytest.mark.parametrize("marker", ["", "<NextMarker/>", "<NextMarker></NextMarker>"])
def test_the_last_page_has_no_marker(marker: str) -> None:
    data = f"<EnumerationResults><Blobs/>{marker}</EnumerationResults>".encode()
    assert read_page(data) == Page(blobs=(), next_marker="")


BOMB = """<?xml version="1.0"?>
<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>
<EnumerationResults><Blobs><Blob><Name>&c;</Name></Blob></Blobs></EnumerationResults>"""
FILE = '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><EnumerationResults>&f;</EnumerationResults>'
PARAMETER = '<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd"><EnumerationResults/>'
NAMED = "<Name>x</Name>"


# ruff: noqa: E501
@pytest.mark.parametrize(
    ("data", "text"),
    [
        (BOMB.encode(), "expected a list of blobs, got a document type"),
        (FILE.encode(), "expected a list of blobs, got a document type"),
        (PARAMETER.encode(), "expected a list of blobs, got a document type"),
        (b"", "expected XML: no element found: line 1, column 0"),
        (b"{}", "expected XML: not well-formed (invalid token): line 1, column 0"),
        (b"<EnumerationResults><Blobs>", "expected XML: no element found: line 1, column 27"),
        (
            b"<EnumerationResults>&nbsp;</EnumerationResults>",
            "expected XML: undefined entity: line 1, column 20",
        ),
        (
            b"<EnumerationResults>\xff</EnumerationResults>",
            "expected XML: not well-formed (invalid token): line 1, column 20",
        ),
        (b"<html><body/></html>", "expected EnumerationResults, got html"),
        (page_of("<Blob/>"), "Blob: expected a Name, got none"),
        (page_of(f"<Blob>{NAMED}</Blob>"), "Blob x: Content-Length: expected a number, got ''"),
        (
            page_of(f"<Blob>{NAMED}<Properties><Content-Length>-1</Content-Length></Properties></Blob>"),
            "Blob x: Content-Length: expected a number, got '-1'",
        ),
        (
            page_of(
                f"<Blob>{NAMED}<Properties><Content-Length>{'9' * 40}</Content-Length></Properties></Blob>"
            ),
            f"Blob x: Content-Length: expected a number, got '{'9' * 40}'",
        ),
        (
            page_of(f"<Blob><Name>{'x' * 9000}</Name></Blob>"),
            "Name: expected at most 8192 characters, got more",
        ),
        (b"<EnumerationResults>" + b"<a>" * 100_000, "expected at most 12 levels of elements, got more"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_what_is_no_list_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(BadPage, match=f"^{re.escape(text)}$"):
        read_page(data)


@given(st.binary() | st.text().map(page_of))
def test_any_bytes_give_a_page_or_a_refusal(data: bytes) -> None:
    try:
        page = read_page(data)
    except BadPage:
        return
    assert all(blob.name and blob.size >= 0 for blob in page.blobs)
