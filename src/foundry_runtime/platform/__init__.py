"""The one place for what Linux, macOS and Windows do their own way, a module a topic.

Knows: which system this is. Refuses to know: what its answers are wanted for. Functions take the system's
name as an argument, so that the branches of the others can be tested with the system's calls replaced.
"""

from foundry_runtime.platform.cores import usable_cores
from foundry_runtime.platform.files import (
    flush_file,
    flush_folder,
    is_link,
    make_private_folder,
    reserve,
    space_taken,
    take_lock,
    try_lock,
    write_whole,
)
from foundry_runtime.platform.libraries import shared_library_name
from foundry_runtime.platform.memory import (
    LazyMemory,
    resident_memory,
    return_freed_memory,
    return_large_memory_at_once,
    usable_memory,
)
from foundry_runtime.platform.parents import end_with_parent, leave_signals_to_parent, offer_memory_first
from foundry_runtime.platform.ports import port_holder
from foundry_runtime.platform.processes import (
    birth_of,
    kill_process,
    request_stop,
    start_detached,
    stop_requests,
)
from foundry_runtime.platform.sockets import unix_socket_family

__all__ = [
    "LazyMemory",
    "birth_of",
    "end_with_parent",
    "flush_file",
    "flush_folder",
    "is_link",
    "kill_process",
    "leave_signals_to_parent",
    "make_private_folder",
    "offer_memory_first",
    "port_holder",
    "request_stop",
    "reserve",
    "resident_memory",
    "return_freed_memory",
    "return_large_memory_at_once",
    "shared_library_name",
    "space_taken",
    "start_detached",
    "stop_requests",
    "take_lock",
    "try_lock",
    "unix_socket_family",
    "usable_cores",
    "usable_memory",
    "write_whole",
]
