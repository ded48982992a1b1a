"""Files and folders on this machine: a GGUF file is imported, a model folder is copied, or linked.

Knows: how an address names a path, which files of a folder are taken, and how a copy that was interrupted is
gone on with. Refuses to know: how a GGUF file is converted.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Container
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from attrs import evolve, field, frozen

from foundry_proto.paths import split_path
from foundry_runtime.download.sources.api import DownloadFailed, Place, WantedModel
from foundry_runtime.download.work import Progress, Share, Work, run_work
from foundry_runtime.models.folder import CONFIG_FILE, IDENTITY_FILE, UNFINISHED_FILE
from foundry_runtime.models.importing import convert, gguf_in, recipe_of

if TYPE_CHECKING:
    from foundry_runtime.importers.gguf import Weights

__all__ = ["LINKED", "LocalFiles", "path_of"]

LINKED: Final = "?link=true"
"""Behind a folder's address: its files are linked rather than copied, where the file system can."""

_CHUNK: Final = 1024 * 1024
_DEEPEST: Final = 8
"""How many folders below a model's own may hold files of it."""


def path_of(uri: str, *, system: str = sys.platform) -> Path | None:
    """The path on this machine that an address names: `file:///PATH`, or an absolute path as it is.

    Args:
        uri: The address.
        system: The operating system, as `sys.platform` names it.

    Returns:
        The path; `None` where the address is another kind.
    """
    windows = system == "win32"
    flavour = PureWindowsPath if windows else PurePosixPath
    if uri[:5].lower() == "file:":
        parts = urlsplit(uri)
        uri = unquote(parts.path, errors="surrogateescape")
        if parts.netloc.lower() not in {"", "localhost"}:
            if not windows:
                return None
            uri = f"//{parts.netloc}{uri}"  # a share of another machine, which Windows has among its paths
        elif windows and re.match("/[A-Za-z]:", uri):
            uri = uri[1:]
    return Path(uri) if flavour(uri).is_absolute() else None


@frozen(kw_only=True)
class LocalFiles:
    """The source of what is on this machine already.

    Args:
        weights: How the matrices of an imported file are written.
    """

    weights: Weights = "int8"
    publisher: str = field(default="local", init=False)
    local: bool = field(default=True, init=False)

    @property
    def expects(self) -> str:
        """See `Source`."""
        return "a GGUF file or a model folder on this machine (file:///PATH)"

    def offers(self, model: WantedModel) -> bool:
        """See `Source`."""
        return path_of(model.uri) is not None

    async def fetch(self, model: WantedModel, place: Place, progress: Progress) -> None:
        """See `Source`. Of a folder, what an earlier attempt has copied whole is not copied again."""
        await run_work(partial(self._fetch, model, place), progress)

    def _fetch(self, model: WantedModel, place: Place, work: Work) -> None:
        source = path_of(model.uri)
        assert source is not None, "offers was asked before"
        link = _wants_link(model.uri)
        if model.path:
            source = _within(source, model.path)
        if source.is_dir():
            _copy_folder(source, place, model.buffer_size or _CHUNK, work, link=link)
            return
        if not source.exists():
            raise DownloadFailed(f"{source}: no such file or folder")
        with gguf_in(source, place.scratch, work) as gguf:
            recipe = evolve(recipe_of(gguf, work), model_id=model.id)
            convert(gguf, place.folder, recipe, work, weights=self.weights)


def _wants_link(uri: str) -> bool:
    """Whether an address asks for links.

    Raises:
        DownloadFailed: It asks for something else.
    """
    query = urlsplit(uri).query if uri[:5].lower() == "file:" else ""
    if query not in {"", LINKED[1:]}:
        raise DownloadFailed(f"{uri}: expected nothing behind the path but {LINKED}, got ?{query}")
    return bool(query)


def _within(folder: Path, path: str) -> Path:
    """A path below a folder.

    Raises:
        DownloadFailed: It leads elsewhere.
    """
    names = split_path(path)
    if names is None:
        raise DownloadFailed(f"Path: expected a path below {folder}, got {path}")
    return folder.joinpath(*names)


def _copy_folder(source: Path, place: Place, chunk: int, work: Work, *, link: bool) -> None:
    if not (source / CONFIG_FILE).is_file():
        raise DownloadFailed(f"{source}: expected a model folder, got one without {CONFIG_FILE}")
    if (source / UNFINISHED_FILE).exists():
        raise DownloadFailed(f"{source}: this model is not whole: there is a {UNFINISHED_FILE}")
    files = {path.relative_to(source): path.stat() for path in _files(source, _DEEPEST)}
    _remove_others(place.folder, files)
    place.scratch.mkdir(parents=True, exist_ok=True)
    left = {name: status for name, status in files.items() if not _is_copy(place.folder / name, status)}
    for name in [*left] if link else ():
        if _link(source, name, place):
            del left[name]
    total = sum(status.st_size for status in files.values())
    wanted = sum(status.st_size for status in left.values())
    if wanted > (free := shutil.disk_usage(place.scratch).free):
        raise DownloadFailed(f"{place.scratch}: expected {wanted:,} free bytes on the disk, got {free:,}")
    done = total - wanted
    for name, status in left.items():
        part = place.scratch / "part"
        part.unlink(missing_ok=True)  # it may be another name of the source's own file
        with (source / name).open("rb") as reading, part.open("wb") as writing:
            while data := reading.read(chunk):
                writing.write(data)
                done += len(data)
                work.report(name.as_posix(), Share(min(done, total), total))
            size = writing.tell()
        if size != status.st_size:
            raise DownloadFailed(f"{source / name}: expected {status.st_size} bytes, got {size}")
        # The time is what tells a whole copy of this very file; it is set last.
        os.utime(part, ns=(status.st_atime_ns, status.st_mtime_ns))
        _put(part, place.folder / name)


def _link(source: Path, name: Path, place: Place) -> bool:
    """Make a file a second name of the source's own; says whether that could be done."""
    if name == Path(IDENTITY_FILE):  # it is written anew, and the source's must not be
        return False
    part = place.scratch / "part"
    part.unlink(missing_ok=True)
    try:
        # Of a link to a file, the file: a link would lead nowhere as soon as either is moved.
        os.link((source / name).resolve(), part)
    except OSError:  # another file system, or one that knows no links
        return False
    _put(part, place.folder / name)
    return True


def _put(part: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part.replace(target)


def _files(folder: Path, depth: int) -> list[Path]:
    """All files of a model folder, hidden ones left out; a link to a file stands for the file.

    Raises:
        DownloadFailed: There is something else than files and folders, or a link to a folder.
    """
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_file():
            found.append(path)
        elif path.is_dir() and not path.is_symlink() and depth > 0:
            found += _files(path, depth - 1)
        else:
            raise DownloadFailed(f"{path}: expected a file, or a folder at most {_DEEPEST} levels down")
    return found


def _is_copy(path: Path, status: os.stat_result) -> bool:
    try:
        own = path.stat()
    except OSError:
        return False
    return (own.st_size, own.st_mtime_ns) == (status.st_size, status.st_mtime_ns)


def _remove_others(folder: Path, files: Container[Path]) -> None:
    """Take away what an earlier attempt has copied, and is no longer in the source."""
    for path, _, names in os.walk(folder):
        for name in names:
            other = Path(path, name)
            if other.relative_to(folder) not in files:
                other.unlink()
