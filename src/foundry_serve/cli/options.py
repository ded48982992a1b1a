"""How a server is asked for: the options that `foundry serve`, `foundry service start` and others share.

Knows: how a setting looks as an option, and which of them a user has given.
Refuses to know: which settings there are, and what they mean (`foundry_serve.config`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from foundry_serve.cli.terminal import configured
from foundry_serve.config import Setting, settings
from foundry_serve.config_sources import Loaded
from foundry_serve.kinds import BadValue

__all__ = ["asked_for", "server_options"]

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


class _Value(click.ParamType[Any]):
    """A setting's value on the command line."""

    def __init__(self, setting: Setting) -> None:
        kind = setting.kind
        self._setting = setting
        self._known = click.Path() if kind.is_path else click.Choice(kind.choices)
        self.name = kind.noun

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read an option's value; see `click.ParamType.convert`."""
        try:
            return self._setting.kind.value_of(value)
        except BadValue as error:
            self.fail(f"{error}.", param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Give what may stand here; see `click.ParamType.shell_complete`."""
        return self._known.shell_complete(ctx, param, incomplete)


def server_options(command: CommandT) -> CommandT:
    """Give a command the options of a server; it is called with them by name."""
    for setting in reversed([one for one in settings() if one.has_flag]):
        command = _option(setting)(command)
    return command


def _option(setting: Setting) -> Callable[[CommandT], CommandT]:
    if setting.kind.is_switch:
        both = f"{setting.flag}/--no-{setting.flag.removeprefix('--')}"
        return click.option(both, setting.name, default=None, help=setting.help)
    has_default = setting.default is not None and setting.default != ()
    return click.option(
        setting.flag,
        setting.name,
        type=_Value(setting),
        metavar=f"[{'|'.join(setting.kind.choices)}]" if setting.kind.choices else None,
        help=setting.help + (f"  [default: {setting.show(setting.default)}]" if has_default else ""),
    )


def asked_for(given: Mapping[str, Any], otherwise: Mapping[str, object] | None = None) -> Loaded:
    """The configuration that a command's user asks for.

    Args:
        given: The command's options.
        otherwise: What counts like an option for those that the user has not given.
    """
    context = click.get_current_context()
    explicit = {
        name: value
        for name, value in given.items()
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    return configured({**(otherwise or {}), **explicit})
