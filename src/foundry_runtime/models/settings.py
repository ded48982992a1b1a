"""What a user has decided once and for all: `$FOUNDRY_HOME/settings.json`.

Knows: that file, of which there need be none.
Refuses to know: what follows from a decision.

    {"version": 1, "modelDirPath": "/data/models"}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from foundry_runtime.platform import write_whole

__all__ = ["SETTINGS_FILE", "BadSettings", "read_models_folder", "write_models_folder"]

SETTINGS_FILE: Final = "settings.json"
_MODELS: Final = "modelDirPath"
_VERSION: Final = 1
"""Of the file; one without a version is of the first."""


class BadSettings(ValueError):
    """The file cannot be used; the text names it, the field and what was expected."""


def read_models_folder(home: Path) -> Path | None:
    """Where the models are; `None` where nothing was decided.

    Raises:
        BadSettings: The file is none of settings.
    """
    folder = _read(home).get(_MODELS)
    if folder is None:
        return None
    if not isinstance(folder, str) or not Path(folder).is_absolute():
        expected = f"{_MODELS}: expected an absolute path, got {json.dumps(folder, ensure_ascii=False)}"
        raise BadSettings(f"{home / SETTINGS_FILE}: {expected}")
    return Path(folder)


def write_models_folder(home: Path, folder: Path | None) -> None:
    """Decide where the models are; `None` takes an earlier decision back. Other settings stay.

    Raises:
        BadSettings: The file is none of settings.
        OSError: It cannot be written.
    """
    kept = {name: value for name, value in _read(home).items() if name != _MODELS}
    settings = {**kept, "version": _VERSION}
    if folder is not None:
        settings[_MODELS] = str(folder.absolute())
    home.mkdir(parents=True, exist_ok=True)
    write_whole(home / SETTINGS_FILE, json.dumps(settings, ensure_ascii=False, indent=2).encode() + b"\n")


def _read(home: Path) -> dict[str, object]:
    path = home / SETTINGS_FILE
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BadSettings(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BadSettings(f"{path}: expected JSON: {error}") from error
    if not isinstance(content, dict):
        raise BadSettings(f"{path}: expected an object, got {json.dumps(content)[:60]}")
    if (version := content.get("version", _VERSION)) != _VERSION:
        raise BadSettings(f"{path}: version: expected {_VERSION}, got {json.dumps(version)[:60]}")
    return content
