"""`foundry model list|info`: the models that there are, here and elsewhere. No service is needed.

Knows: how models are filtered, grouped and described in a terminal.
Refuses to know: where the lists come from (`known.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Final

import click

from foundry_proto.catalog import base_of
from foundry_runtime.models.description import CatalogModel
from foundry_serve.cli.drawing import show_table
from foundry_serve.cli.known import PATIENT, known_models
from foundry_serve.cli.terminal import fail, json_option, print_json, warn

__all__ = ["describe", "info", "list_"]

_FILTERS: Final[dict[str, Callable[[CatalogModel], Sequence[str]]]] = {
    "device": lambda model: [model.device],
    "task": lambda model: [model.task, *_tasks(model)],
    "alias": lambda model: [model.alias],
    "provider": lambda model: [model.execution_provider, _short(model.execution_provider)],
}
"""What a list can be cut down to, and the values of a model that fit."""


def _read_filters(
    _context: click.Context, _option: click.Parameter, given: Sequence[str]
) -> Sequence[tuple[str, str]]:
    """Read `device=CPU`, and so on."""
    for text in given:
        name, equals, _ = text.partition("=")
        if name not in _FILTERS or not equals:
            raise click.BadParameter(f"expected one of {', '.join(_FILTERS)}, '=' and a value, got {text!r}.")
    return [(name, wanted.casefold()) for name, _, wanted in (text.partition("=") for text in given)]


@click.command("list")
@click.option(
    "--filter",
    "filters",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_read_filters,
    help="Only models with this device, task, alias or provider; of several, all must fit.",
)
@click.option("--refresh", is_flag=True, help="Ask the catalogue for a new list first.")
@json_option
def list_(filters: Sequence[tuple[str, str]], refresh: bool, as_json: bool) -> None:
    """List the models that there are, here and elsewhere."""
    known = known_models()
    if refresh:
        known.ask_anew(PATIENT)
    else:
        known.ask_if_never_asked()
    models = [
        model
        for model in known.catalog.models()
        if all(wanted in map(str.casefold, _FILTERS[name](model)) for name, wanted in filters)
    ]
    newer = dict(known.catalog.newer_versions())
    known.tell_of_list()
    if as_json:
        print_json([describe(model, newer.get(model.id)) for model in models])
        return
    titles = ["Alias", "Device", "Task", "File Size", "License", "Cached", "Model ID"]
    groups = [
        [_row(model, first=number == 0) for number, model in enumerate(variants)]
        for _, variants in groupby(models, key=lambda model: model.alias)
    ]
    show_table(titles, groups, right=["File Size"], spare=["License", "Device", "Task"])
    for model in models:
        if model.id in newer:
            how = f"foundry model download {base_of(model.id)}"
            warn(f"{newer[model.id]} is newer than {model.id}: {how}")


def _row(model: CatalogModel, *, first: bool) -> Sequence[str]:
    return (
        model.alias if first else "",
        model.device,
        ", ".join(_tasks(model)),
        _size(model),
        model.license,
        "yes" if model.cached else "",
        model.id,
    )


@click.command()
@click.argument("name", metavar="MODEL")
@click.option("--license", "with_license", is_flag=True, help="Print the license's own text or address.")
@json_option
def info(name: str, with_license: bool, as_json: bool) -> None:
    """Say what is known about MODEL."""
    known = known_models()
    model = known.catalog.resolve(name)
    if model is None:
        known.tell_of_list()
        fail(f"Model {name} was not found in the catalog or local cache.")
    newer = dict(known.catalog.newer_versions()).get(model.id)
    if as_json:
        print_json(describe(model, newer))
    elif with_license:
        click.echo(model.license_description or model.license or "unknown")
    else:
        facts = {
            "Alias": model.alias,
            "Model ID": model.id,
            "Device": model.device,
            "Execution provider": model.execution_provider,
            "Task": ", ".join(_tasks(model)),
            "File size": _size(model),
            "Publisher": model.publisher,
            "License": model.license,
            "From": model.uri,
            "Most output tokens": str(model.max_output_tokens),
            "Cached": str(model.path) if model.path is not None else "no",
            **({} if newer is None else {"Newer version": newer}),
        }
        width = max(map(len, facts))
        for what, value in facts.items():
            click.echo(f"{what:{width}}  {value}".rstrip())


def describe(model: CatalogModel, newer: str | None) -> dict[str, object]:
    """All that is known about a model, for programs.

    Args:
        model: The model.
        newer: The id of its newest version, if that is not here.
    """
    return {
        "id": model.id,
        "alias": model.alias,
        "device": model.device,
        "executionProvider": model.execution_provider,
        "task": model.task,
        "supportsToolCalling": model.supports_tool_calling,
        "fileSizeMb": model.file_size_mb,
        "license": model.license,
        "licenseDescription": model.license_description,
        "publisher": model.publisher,
        "uri": model.uri,
        "maxOutputTokens": model.max_output_tokens,
        "cached": model.cached,
        "path": None if model.path is None else str(model.path),
        "newerVersion": newer,
    }


def _tasks(model: CatalogModel) -> Sequence[str]:
    task = model.task.removesuffix("-completion")
    return [task, "tools"] if model.supports_tool_calling else [task]


def _short(provider: str) -> str:
    """`CPUExecutionProvider` as people call it."""
    return provider.removesuffix("ExecutionProvider")


def _size(model: CatalogModel) -> str:
    size = model.file_size_mb
    return f"{size / 1024:.2f} GB" if size >= 1024 else f"{size} MB"
