"""Files and folders on this machine as a source: which paths an address names, and what is copied."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from foundry_runtime.download.sources.api import DownloadFailed, Place, WantedModel
from foundry_runtime.download.sources.local_files import LINKED, LocalFiles, path_of
from foundry_runtime.download.work import Stopped, Work
from tests.runtime.models.folders import write_folder


@pytest.mark.skipif(sys.platform == "win32", reason="the paths of other systems")
@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("/models/mine", "/models/mine"),
        ("file:///models/My%20model%C3%A9", "/models/My modelé"),
        ("FILE://localhost/models", "/models"),
        ("file://other-host/models", None),
        ("file:models", None),
        ("models/mine", None),
        ("azureml://registries/azureml/models/x", None),
        ("https://example.com/x", None),
        ("local://mine", None),
        ("", None),
    ],
)
def test_an_address_names_a_path_or_none(uri: str, path: str | None) -> None:
    assert path_of(uri) == (None if path is None else Path(path))


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///C:/models/a%20b", "C:/models/a b"),
        ("C:\\models", "C:\\models"),
        ("//host/share/model", "//host/share/model"),
        ("file://host/share/My%20model", "//host/share/My model"),
        ("/models", None),
        ("file:///models", None),
    ],
)
def test_on_windows_a_path_has_its_drive_or_its_share(uri: str, path: str | None) -> None:
    found = path_of(uri, system="win32")
    assert found == (None if path is None else Path(path))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = write_folder(tmp_path / "Quelle")
    (folder / "model.onnx").write_bytes(b"m" * 2000)
    (folder / "v1").mkdir()
    (folder / "v1" / "part").write_bytes(b"p" * 1000)
    return folder


def fetch(source: Path, place: Place, work: Work | None = None, path: str = "", how: str = "") -> None:
    uri = f"{source.as_uri()}{how}" if how else str(source)
    LocalFiles()._fetch(WantedModel(id="mine:1", uri=uri, path=path), place, work or Work())


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_a_folder_is_copied_with_all_below_it_but_what_is_hidden(source: Path, place: Place) -> None:
    wanted = files(source)
    (source / ".git").mkdir()
    (source / ".git" / "config").touch()
    (source / "v1" / ".lock").touch()
    fetch(source, place)
    assert files(place.folder) == wanted


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right of their own there")
def test_a_link_to_a_file_is_copied_as_the_file(source: Path, place: Place, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"linked")
    (source / "weights").symlink_to(tmp_path / "blob")
    fetch(source, place)
    assert (place.folder / "weights").read_bytes() == b"linked"
    assert not (place.folder / "weights").is_symlink()


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes of another kind")
@pytest.mark.parametrize("kind", ["loop", "broken", "pipe"])
def test_what_is_neither_file_nor_folder_is_refused_by_name(source: Path, place: Place, kind: str) -> None:
    odd = source / "v1" / "odd"
    match kind:
        case "loop":
            odd.symlink_to(source)
        case "broken":
            odd.symlink_to(source / "gone")
        case _:
            os.mkfifo(odd)
    with pytest.raises(DownloadFailed, match=f"^{odd}: expected a file, or a folder at most 8 levels down$"):
        fetch(source, place)


def test_the_path_names_a_folder_below_and_never_above(source: Path, place: Place, tmp_path: Path) -> None:
    fetch(tmp_path, place, path="Quelle")
    assert files(place.folder) == files(source)
    for path in ("../Quelle", "Quelle/../../etc", "/etc", "..\\Quelle", "C:\\x"):
        with pytest.raises(DownloadFailed, match=r"^Path: expected a path below .*, got "):
            fetch(tmp_path, place, path=path)


def test_what_is_no_whole_model_is_refused(source: Path, place: Place, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match=r"no such file or folder$"):
        fetch(tmp_path / "gone", place)
    with pytest.raises(DownloadFailed, match=r"expected a model folder, got one without genai_config.json$"):
        fetch(source / "v1", place)
    (source / "download.tmp").touch()
    with pytest.raises(DownloadFailed, match=r"this model is not whole: there is a download.tmp$"):
        fetch(source, place)
    assert not place.folder.exists()


def test_progress_is_told_by_bytes_and_by_name(source: Path, place: Place) -> None:
    told: list[tuple[str, float]] = []
    fetch(source, place, Work(lambda what, fraction: told.append((what, fraction))))
    assert [what for what, _ in told] == [
        "genai_config.json",
        "inference_model.json",
        "model.onnx",
        "v1/part",
    ]
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_what_was_copied_before_an_interruption_is_not_copied_again(source: Path, place: Place) -> None:
    def stop(what: str, _: float) -> None:
        if what == "v1/part":
            raise Stopped

    with pytest.raises(Stopped):
        fetch(source, place, Work(stop))
    (place.folder / "gone").touch()
    (source / "inference_model.json").write_text("{}")
    told: list[str] = []
    fetch(source, place, Work(lambda what, _: told.append(what)))
    assert told == ["inference_model.json", "v1/part"]
    assert files(place.folder) == files(source)


def test_a_disk_that_is_too_small_is_told_before_anything_is_copied(
    source: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(source)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DownloadFailed, match=r"expected 3,\d+ free bytes on the disk, got 1,000$"):
        fetch(source, place)
    assert not place.folder.exists()


def test_a_file_that_changes_while_it_is_copied_is_no_model(source: Path, place: Place) -> None:
    def grow(what: str, _: float) -> None:
        if what == "inference_model.json":
            (source / "model.onnx").write_bytes(b"m" * 2001)

    with pytest.raises(DownloadFailed, match=r"model.onnx: expected 2000 bytes, got 2001$"):
        fetch(source, place, Work(grow))


def test_links_take_no_room_and_leave_the_identity_alone(source: Path, place: Place) -> None:
    wanted = files(source)
    told: list[str] = []
    fetch(source, place, Work(lambda what, _: told.append(what)), how=LINKED)
    assert files(place.folder) == wanted
    assert told == ["inference_model.json"]  # the only one that was copied
    linked = {name for name in wanted if (place.folder / name).samefile(source / name)}
    assert linked == set(wanted) - {"inference_model.json"}
    (place.folder / "inference_model.json").write_text("{}")
    assert files(source) == wanted


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right of their own there")
def test_of_a_link_the_file_is_linked(source: Path, place: Place, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"linked")
    (source / "weights").symlink_to(tmp_path / "blob")
    fetch(source, place, how=LINKED)
    assert not (place.folder / "weights").is_symlink()
    assert (place.folder / "weights").samefile(tmp_path / "blob")


def test_what_cannot_be_linked_is_copied(source: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    fetch(source, place, how=LINKED)
    assert files(place.folder) == files(source)
    assert not (place.folder / "model.onnx").samefile(source / "model.onnx")


def test_a_link_that_was_made_when_the_power_went_is_no_way_into_the_source(
    source: Path, place: Place
) -> None:
    wanted = files(source)
    place.scratch.mkdir(parents=True)
    os.link(source / "model.onnx", place.scratch / "part")
    fetch(source, place)
    assert files(source) == files(place.folder) == wanted


@pytest.mark.parametrize("how", ["?link=yes", "?x", "?link=true&y"])
def test_nothing_else_may_stand_behind_the_path(source: Path, place: Place, how: str) -> None:
    text = f"{source.as_uri()}{how}: expected nothing behind the path but ?link=true, got {how}"
    with pytest.raises(DownloadFailed, match=f"^{re.escape(text)}$"):
        fetch(source, place, how=how)


def test_a_path_may_have_any_letters(place: Place, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "what? 100% #1")
    fetch(folder, place)
    assert files(place.folder) == files(folder)
