"""`foundry cache …`: the models on this machine, where they lie, and how they go."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import anyio
import click

from foundry_proto.operations.models import LOADED_MODELS
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.settings import BadSettings, write_models_folder
from foundry_serve.catalog import make_catalog
from foundry_serve.cli.asking import service_files
from foundry_serve.cli.drawing import show_table
from foundry_serve.cli.terminal import configured, fail, json_option, models_on_disk, print_json, warn
from foundry_serve.daemon import control
from foundry_serve.daemon.reaching import client_of
from foundry_serve.daemon.state import ServiceFiles

__all__ = ["cd", "list_", "location", "remove"]


@click.command()
@json_option
def location(as_json: bool) -> None:
    """Say in which folder the models lie."""
    models = models_on_disk().models
    if as_json:
        print_json({"location": str(models)})
    else:
        click.echo(f"💾 Cache directory path: {models}")


@click.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the models that are on this machine."""
    models = [model for model in make_catalog(models_on_disk()).models() if model.path is not None]
    if as_json:
        print_json(
            [
                {"alias": one.alias, "id": one.id, "fileSizeMb": one.file_size_mb, "path": str(one.path)}
                for one in models
            ]
        )
    elif not models:
        click.echo("No models cached on device")
    else:
        click.echo("Models cached on device:")
        show_table(["   Alias", "Model ID"], [[(f"💾 {one.alias}", one.id) for one in models]])


@click.command()
@click.argument("name", metavar="MODEL")
def remove(name: str) -> None:
    """Remove MODEL from this machine."""
    directory = models_on_disk()
    model = make_catalog(directory).resolve(name)
    if model is None or model.path is None:
        fail(f"Model {name} was not found in the local cache.")
    if model.id in anyio.run(_loaded, service_files()):
        fail(f"the service has {model.id} in memory; unload it first: foundry model unload {model.id}")
    try:
        _remove(model.path, directory)
    except OSError as error:
        fail(str(error))
    click.echo(f"{model.id} is removed from {model.path}")


@click.command()
@click.argument("path", type=click.Path(file_okay=False, path_type=Path))
def cd(path: Path) -> None:
    """Look for models in PATH from now on; those that are elsewhere stay there."""
    home = configured().home
    models = path.expanduser().absolute()
    try:
        models.mkdir(parents=True, exist_ok=True)
        write_models_folder(home, None if models == ModelDirectory(home).models else models)
    except (OSError, BadSettings) as error:
        fail(str(error))
    click.echo(f"💾 Cache directory path: {models}")
    loaded = configured()
    if loaded.directory.models != models:
        warn(f"but {loaded.sources['cachedir']} says {loaded.directory.models}, and counts more")
    found = anyio.run(control.find, ServiceFiles(home))
    if found is not None and found.state.model_dir_path != str(models):
        warn(f"the service still uses {found.state.model_dir_path}, until `foundry service restart`")


async def _loaded(files: ServiceFiles) -> Sequence[str]:
    """The models in the service's memory, if it runs."""
    found = await control.find(files)
    if found is None or found.problem is not None:
        return ()
    async with client_of(found.state) as client:
        return await client.call(LOADED_MODELS)


def _remove(folder: Path, directory: ModelDirectory) -> None:
    """Have a model be gone at once, and its files a moment later.

    On Windows a folder in use cannot be renamed, so that it stays whole there.
    """
    for leftover in directory.models.glob(f"{_LEAVING}*"):  # of a removal that was interrupted
        shutil.rmtree(leftover)
    leaving = directory.models / f"{_LEAVING}{secrets.token_hex(8)}"
    folder.rename(leaving)
    shutil.rmtree(leaving)
    for above in folder.parents:
        if above == directory.models or any(above.iterdir()):
            return
        above.rmdir()


_LEAVING: Final = ".removed-"
"""How a folder is called that is no model any more; names with a dot are passed over."""
