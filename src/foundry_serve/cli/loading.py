"""`foundry model load|unload` and `foundry service ps`: the models in the service's memory.

Knows: what is asked of the service, and how its answers are shown. Refuses to know: what loading means.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from foundry_proto.messages.models import ModelList
from foundry_proto.operations.models import GET_MODEL, LIST_CATALOG, LOAD_MODEL, LOADED_MODELS, UNLOAD_MODEL
from foundry_runtime.client import Client, ServerFailure
from foundry_serve.cli.asking import ask_service
from foundry_serve.cli.drawing import show_table, stderr
from foundry_serve.cli.service import ensure_running
from foundry_serve.cli.terminal import fail, json_option, print_json

__all__ = ["load", "ps", "unload"]


@click.command()
@click.argument("name", metavar="MODEL")
@click.option("--ttl", type=click.IntRange(1), help="Seconds without a request until it leaves the memory.")
@click.option("--keep", is_flag=True, help="Keep it in memory until it is unloaded.")
def load(name: str, ttl: int | None, keep: bool) -> None:
    """Load MODEL into the service's memory. The service is started if need be."""
    ensure_running()
    query = {} if ttl is None else {"ttl": str(ttl)}
    if keep:
        query["unload"] = "false"

    async def ask(client: Client) -> str:
        model_id = await _id_of(client, name)
        try:
            await client.call(LOAD_MODEL, params={"name": model_id}, query=query)
        except ServerFailure as error:
            if error.failure.status == 404:
                fail(f"Model {name} is not on this machine yet; get it first: foundry model download {name}")
            raise
        return model_id

    with stderr.status(f"loading {name}"):
        model_id = ask_service(ask)
    click.echo(f"🟢 Model {model_id} loaded successfully")


@click.command()
@click.argument("name", metavar="MODEL")
def unload(name: str) -> None:
    """Have MODEL leave the service's memory. It goes when its running answers have ended."""

    async def ask(client: Client) -> tuple[str, bool]:
        model_id = await _id_of(client, name)
        was_loaded = model_id in await client.call(LOADED_MODELS)
        await client.call(UNLOAD_MODEL, params={"name": model_id}, query={"force": "true"})
        return model_id, was_loaded

    model_id, was_loaded = ask_service(ask)
    click.echo(f"Model {model_id} {'was unloaded' if was_loaded else 'is not loaded'}")


async def _id_of(client: Client, name: str) -> str:
    """The id of the model that a name means to the service."""
    try:
        return (await client.call(GET_MODEL, params={"name": name})).id
    except ServerFailure as error:
        if error.failure.status == 404:
            fail(f"Model {name} was not found in the catalog or local cache.")
        raise


@click.command()
@json_option
def ps(as_json: bool) -> None:
    """List the models in the service's memory."""
    loaded = ask_service(_loaded)
    if as_json:
        print_json([{"alias": alias, "id": model_id} for alias, model_id in loaded])
    elif not loaded:
        click.echo("No models are currently loaded in the service")
    else:
        click.echo("Models running in service:")
        show_table(["   Alias", "Model ID"], [[(f"🟢 {alias}", model_id) for alias, model_id in loaded]])


async def _loaded(client: Client) -> Sequence[tuple[str, str]]:
    """The alias and the id of each loaded model."""
    ids = await client.call(LOADED_MODELS)
    listed = await client.call(LIST_CATALOG)
    models = listed.models if isinstance(listed, ModelList) else listed
    aliases = {model.name: model.alias for model in models}
    return [(aliases.get(one, ""), one) for one in ids]
