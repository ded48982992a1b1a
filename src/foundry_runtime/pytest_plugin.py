"""The plugin for pytest: `pytest --foundry-url URL` tries a server, with a test for each case.

Knows: the options, and when there is anything to try. Refuses to know: cases, and how they are run
(`conformance/pytest_items.py`).

Every run of pytest in an environment that has this package imports this module: it imports nothing but the
standard library until a URL is given, and says which extra is missing if one is.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = [
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_ignore_collect",
    "pytest_report_header",
]

_OPTIONS = {
    "--foundry-url": "try the server at this URL against the Foundry Local protocol",
    "--foundry-model": "the model to chat with; without it the first that is listed",
    "--foundry-profile": "whom it serves, with commas between: documented, sdk-0.5, core, openai, extra",
    "--foundry-allow": "what may be done that lasts, with commas between: download, unload, shutdown",
    "--foundry-known": "a file of deviations that are known",
    "--foundry-key": "a key to send as a bearer token",
}


def pytest_addoption(parser: Any) -> None:
    """Add the options."""
    group = parser.getgroup("foundry", "conformance with the Foundry Local protocol")
    for option, words in _OPTIONS.items():
        group.addoption(option, default="", help=words)


def pytest_configure(config: Any) -> None:
    """Look at the server, if one is to be tried."""
    if not config.getoption("--foundry-url"):
        return
    try:
        items = import_module("foundry_runtime.conformance.pytest_items")
    except ModuleNotFoundError as error:
        raise _usage_error(
            f"--foundry-url: the package {error.name} is missing; install what it needs with\n"
            "    pip install 'foundry-proto[runtime]'"
        ) from None
    given = {option.removeprefix("--foundry-"): config.getoption(option) for option in _OPTIONS}
    try:
        config.foundry_server = items.Server.look(given)
    except ValueError as error:
        raise _usage_error(f"--foundry-{error}") from None


def _usage_error(message: str) -> Exception:
    error: Exception = import_module("pytest").UsageError(message)
    return error


def pytest_report_header(config: Any) -> list[str]:
    """Say what is tried."""
    server = getattr(config, "foundry_server", None)
    return [] if server is None else [server.header]


def pytest_ignore_collect(config: Any) -> bool | None:
    """Without paths on the command line the server's cases are the only tests."""
    server = getattr(config, "foundry_server", None)
    given = config.args_source is config.ArgsSource.ARGS
    return None if server is None or given else True


def pytest_collection_modifyitems(session: Any, config: Any, items: list[Any]) -> None:
    """Add a test for each case."""
    server = getattr(config, "foundry_server", None)
    if server is not None:
        items += server.items(session)
