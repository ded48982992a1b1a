"""The Foundry Local protocol as pure state machines: bytes in, events out, and back.

No sockets, no clock, no threads: `foundry_runtime` binds this package to event loops.
"""

from foundry_proto._version import __version__

__all__ = ["__version__"]
