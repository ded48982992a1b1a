"""`foundry cache …`: the models on this machine, where they lie, and how they go.

Knows: how what is there is shown, and what is asked before anything goes.
Refuses to know: how models lie in a folder and how they go (`foundry_runtime.models`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import anyio
import click

from foundry_proto.catalog import is_meant, resolve, version_of
from foundry_proto.operations.models import LOADED_MODELS
from foundry_runtime.client import Client
from foundry_runtime.models.description import size_of
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.removal import empty_home, remove_model
from foundry_runtime.models.settings import BadSettings, write_models_folder
from foundry_serve.cli.asking import ask_service
from foundry_serve.cli.course import shown_bytes
from foundry_serve.cli.drawing import show_table
from foundry_serve.cli.known import KnownModels, known_models
from foundry_serve.cli.terminal import configured, fail, json_option, models_on_disk, print_json, warn
from foundry_serve.daemon import control
from foundry_serve.daemon.state import ServiceFiles
from foundry_serve.words import words_of

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
    models = [model for model in known_models().catalog.models() if model.path is not None]
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
@click.argument("name", metavar="MODEL", required=False)
@click.option("--all", "everything", is_flag=True, help="Remove all models, and what else is kept of them.")
@click.option("--yes", is_flag=True, help="Ask no question.")
def remove(name: str | None, everything: bool, yes: bool) -> None:
    """Remove MODEL from this machine, or all that was put there."""
    if everything == (name is not None):
        raise click.UsageError("expected MODEL or --all")
    known = known_models()
    try:
        if name is None:
            _remove_everything(known.directory, yes)
        else:
            _remove_one(known, name)
    except OSError as error:
        fail(words_of(error))


def _remove_one(known: KnownModels, name: str) -> None:
    model_id, folder = _meant(known, name)
    if model_id in ask_service(_loaded, absent=tuple):
        fail(f"the service has {model_id} in memory; unload it first: foundry model unload {model_id}")
    remove_model(known.directory, model_id, folder)
    if folder is None:
        click.echo(f"what was downloaded of {model_id} is removed")
    else:
        click.echo(f"{model_id} is removed from {folder}")


def _meant(known: KnownModels, name: str) -> tuple[str, Path | None]:
    """The model that is to go: the one of that name that is here, or an unfinished download."""
    here = [model for model in known.catalog.models() if model.path is not None]
    model = resolve(here, name)
    if model is not None:
        also = [one for one in here if is_meant(one.id, name) or one.alias.casefold() == name.casefold()]
        if len(also) > 1 and version_of(name) < 0:
            # Which of them would be a guess, and there is no way back.
            fail(f"{name} means several models that are here: {', '.join(one.id for one in also)}")
        return model.id, model.path
    wanted = known.catalog.resolve(name)
    model_id = name if wanted is None else wanted.id
    if not _is_unfinished(known.directory, model_id):
        fail(f"Model {name} was not found in the local cache.")
    return model_id, None


def _is_unfinished(directory: ModelDirectory, model_id: str) -> bool:
    try:
        directory.path_for("anybody", model_id)
    except ValueError:  # it names a folder elsewhere, which is nobody's download
        return False
    return directory.unfinished(model_id).is_dir()


def _remove_everything(directory: ModelDirectory, yes: bool) -> None:
    found = anyio.run(control.find, ServiceFiles(directory.home))
    if found is not None:
        fail("the service is running; stop it first: foundry service stop")
    paths = [entry.path for entry in directory.entries()]
    size = sum(map(size_of, (*paths, directory.downloads)))
    models = f"{len(paths)} model{'' if len(paths) == 1 else 's'}"
    what = f"{models} in {directory.models} ({shown_bytes(size)} with unfinished downloads)"
    rest = f"what else is kept in {directory.home}: the catalogue's list, settings, registered models, logs"
    if not yes:
        click.confirm(f"Remove {what}, and {rest}?", abort=True)
    left = empty_home(directory)
    click.echo(f"{models} removed; nothing of this program is left in {directory.home}")
    for path in left[:_SHOWN]:
        warn(f"not this program's, so it stays: {path}")
    if len(left) > _SHOWN:
        warn(f"and {len(left) - _SHOWN} more files")


_SHOWN: Final = 10
"""Files that are named where many stay."""


@click.command()
@click.argument("path", type=click.Path(file_okay=False, path_type=Path))
def cd(path: Path) -> None:
    """Look for models in PATH from now on; those that are elsewhere stay there."""
    home = configured().home
    models = path.expanduser().absolute()
    try:
        models.mkdir(parents=True, exist_ok=True)
        write_models_folder(home, None if models == ModelDirectory(home).models else models)
    except OSError as error:
        fail(words_of(error))
    except BadSettings as error:
        fail(str(error))
    click.echo(f"💾 Cache directory path: {models}")
    loaded = configured()
    if loaded.directory.models != models:
        warn(f"but {loaded.sources['cachedir']} says {loaded.directory.models}, and counts more")
    found = anyio.run(control.find, ServiceFiles(home))
    if found is not None and found.state.model_dir_path != str(models):
        warn(f"the service still uses {found.state.model_dir_path}, until `foundry service restart`")


async def _loaded(client: Client) -> Sequence[str]:
    return await client.call(LOADED_MODELS)
