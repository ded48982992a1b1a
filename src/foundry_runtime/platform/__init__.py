"""The one place for what Linux, macOS and Windows do their own way, a module a topic.

Knows: which system this is. Refuses to know: what its answers are wanted for. Functions take the system's
name as an argument, so that the branches of the others can be tested with the system's calls replaced.
"""

from foundry_runtime.platform.cores import usable_cores
from foundry_runtime.platform.files import try_lock
from foundry_runtime.platform.libraries import shared_library_name
from foundry_runtime.platform.memory import return_freed_memory, return_large_memory_at_once

__all__ = [
    "return_freed_memory",
    "return_large_memory_at_once",
    "shared_library_name",
    "try_lock",
    "usable_cores",
]
