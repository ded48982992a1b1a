"""The product: the Foundry Local server and the `foundry` command.

`make_application` puts the server's application together, for who serves it in a program of their own. It is
imported when it is asked for: without its packages the command must still start, and say what is missing.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foundry_serve.app import make_application

__all__ = ["make_application"]


def __getattr__(name: str) -> object:
    if name == "make_application":
        from foundry_serve.app import make_application  # noqa: PLC0415 - see above

        return make_application
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
