"""How a server is asked for: the options that `foundry serve` and `foundry service start` share.

Knows: which of them a user has given. Refuses to know: what they mean (`foundry_serve.serving`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click
from attrs import evolve
from click.core import ParameterSource

from foundry_serve.cli.terminal import NumberRange, runtime_option
from foundry_serve.serving import DEFAULT_PORT, ServeOptions

__all__ = ["asked_for", "server_options"]

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

_DEFAULTS: Final = ServeOptions()

_OPTIONS: Final = (
    click.option(
        "--host", default=_DEFAULTS.host, show_default=True, help="The name or address to listen on."
    ),
    click.option(
        "--port",
        default=DEFAULT_PORT,
        show_default=True,
        type=click.IntRange(0, 65535),
        help="0 takes a free one.",
    ),
    click.option(
        "--cachedir",
        type=click.Path(file_okay=False),
        help="Where the models are; by default where the settings say.",
    ),
    click.option("--threads", type=click.IntRange(1), help="Threads per model; by default the usable cores."),
    click.option(
        "--engine",
        type=click.Choice(["auto", "batched", "genai"]),
        default=_DEFAULTS.engine,
        show_default=True,
        help="What generates: many answers in one pass, or onnxruntime-genai's own generator.",
    ),
    click.option("--speculate", is_flag=True, help="Guess what comes next while one answer is generated."),
    click.option(
        "--drain",
        default=_DEFAULTS.drain,
        show_default=True,
        type=NumberRange(0),
        help="Seconds for running answers when stopped.",
    ),
    click.option("--allow-shutdown", is_flag=True, help="Let programs on this machine stop the server."),
    click.option("--verbose", is_flag=True, help="Log more."),
    runtime_option,
)


def server_options(command: CommandT) -> CommandT:
    """Give a command the options of a server; it is called with them by name."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def asked_for(given: dict[str, Any], otherwise: ServeOptions = _DEFAULTS) -> ServeOptions:
    """What a command's user asks for.

    Args:
        given: The command's options.
        otherwise: What counts for those that the user has not given.
    """
    context = click.get_current_context()
    explicit = {
        name: value
        for name, value in given.items()
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    return evolve(otherwise, **explicit)
