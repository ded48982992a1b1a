"""Where the values of settings come from: the places, their order, and what is wrong in them.

Knows: the order default < `foundry cache cd` < file < environment < flag; that the file is `$FOUNDRY_CONFIG`,
else `config.toml` in `$FOUNDRY_HOME`; which name somebody who mistyped one has meant.
Refuses to know: which settings there are (`config.py`), and what a value may be (`kinds.py`).

The laws:
- An unknown name is an error, in the file always, in the environment where it looks like a known one.
- Each value is kept with its source, which errors and `foundry config show` name.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from attrs import field, frozen

from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.settings import SETTINGS_FILE
from foundry_serve.config import PREFIX, BadConfig, Config, flag_of, settings
from foundry_serve.kinds import BadValue

__all__ = ["Loaded", "load_config"]

_FILE_NAME: Final = "config.toml"
_FILE_VARIABLE: Final = "FOUNDRY_CONFIG"
_OTHER_VARIABLES: Final = ("FOUNDRY_HOME", _FILE_VARIABLE)


@frozen(kw_only=True)
class Loaded:
    """A configuration, and where its values came from."""

    config: Config
    sources: Mapping[str, str]
    """By the setting's name: a file, a variable or a flag. What is missing has its default."""
    home: Path
    """`$FOUNDRY_HOME`, or what stands for it."""
    file: Path
    """The file of settings; need not exist."""

    @property
    def directory(self) -> ModelDirectory:
        """The user's models."""
        elsewhere = self.config.cachedir
        return ModelDirectory(self.home, None if elsewhere is None else Path(elsewhere))

    @property
    def flags(self) -> Mapping[str, Any]:
        """What the command line said, by the setting's name."""
        given = [name for name, source in self.sources.items() if source == flag_of(name)]
        return {name: getattr(self.config, name) for name in given}

    @property
    def variables(self) -> Mapping[str, str]:
        """The variables that name places, for a process that runs in another folder."""
        places = {
            one.variable: getattr(self.config, one.name)
            for one in settings()
            if one.kind.is_path and self.sources.get(one.name) == one.variable
        }
        if self.file.exists():  # to name one that is not there would be an error
            places[_FILE_VARIABLE] = str(self.file)
        return places


def _config_path(home: Path, environment: Mapping[str, str]) -> Path:
    """Where the file is, which need not be there: `$FOUNDRY_CONFIG`, else in the home."""
    named = environment.get(_FILE_VARIABLE)
    return Path(named).expanduser().absolute() if named else home / _FILE_NAME


def load_config(
    flags: Mapping[str, object] | None = None, *, environment: Mapping[str, str] = os.environ
) -> Loaded:
    """Put the configuration together.

    Args:
        flags: What the command line says, by the setting's name.
        environment: The variables.

    Raises:
        BadConfig: A setting has no such value, or there is none of that name.
        BadSettings: What `foundry cache cd` remembers cannot be read.
    """
    directory = ModelDirectory.from_environment(environment)
    file = _config_path(directory.home, environment)
    known = {one.name: one for one in settings()}
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    if directory.elsewhere is not None:
        values["cachedir"] = str(directory.elsewhere)
        sources["cachedir"] = str(directory.home / SETTINGS_FILE)
    must_exist = bool(environment.get(_FILE_VARIABLE))
    for one in (*_of_file(file, must_exist), *_of_environment(environment), *_of_flags(flags or {})):
        setting = known.get(one.name)
        if setting is None:
            raise BadConfig(f"{one.where}: {_no_such(known, one.name)}")
        try:
            values[one.name] = setting.kind.value_of(one.value, secret=setting.secret, base=one.base)
        except BadValue as error:
            raise BadConfig(f"{one.where}: {error}") from None
        sources[one.name] = one.source
    return Loaded(config=Config(**values), sources=sources, home=directory.home, file=file)


@frozen(kw_only=True)
class _Given:
    """What one place says of one setting."""

    name: str
    value: object
    source: str
    """The file, the variable or the flag."""
    where: str
    """The same for errors: of a file, its field too."""
    base: Path = field(factory=Path)
    """What a path is relative to."""


def _of_file(file: Path, must_exist: bool) -> Iterator[_Given]:
    try:
        content = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        if must_exist:
            raise BadConfig(f"{_FILE_VARIABLE}: {file}: {error.strerror}") from error
        return
    except OSError as error:
        raise BadConfig(f"{file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadConfig(f"{file}: expected TOML: {error}") from error
    for name, value in content.items():
        yield _Given(name=name, value=value, source=str(file), where=f"{file}: {name}", base=file.parent)


def _of_environment(environment: Mapping[str, str]) -> Iterator[_Given]:
    """Give what variables say; an empty one says nothing.

    Choice: what begins with FOUNDRY_ may belong to other programs. An unknown name is an error only if it
    looks like a known one that was mistyped.
    """
    known = {one.variable: one.name for one in settings()}
    for variable, value in environment.items():
        if value == "" or not variable.startswith(PREFIX) or variable in _OTHER_VARIABLES:
            continue
        if variable in known:
            yield _Given(name=known[variable], value=value, source=variable, where=variable)
        elif near := _nearest(variable, (*known, *_OTHER_VARIABLES)):
            raise BadConfig(f"{variable}: no such setting; did you mean {near}?")


def _of_flags(flags: Mapping[str, object]) -> Iterator[_Given]:
    for name, value in flags.items():
        flag = flag_of(name)
        yield _Given(name=name, value=value, source=flag, where=flag)


def _no_such(known: Iterable[str], name: str) -> str:
    near = _nearest(name, known)
    return "no such setting" + (f"; did you mean {near}?" if near else "")


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that somebody who wrote this one has probably meant."""
    by_letters = {_letters(one): one for one in known}
    found = difflib.get_close_matches(_letters(name), by_letters, n=1, cutoff=0.8)
    return by_letters[found[0]] if found else None


def _letters(name: str) -> str:
    """A name as far as people remember it."""
    return name.removeprefix(PREFIX).replace("-", "").replace("_", "").lower()
