"""Tries servers against the protocol: what moves the bytes for the cases of `foundry_proto.conformance`.

Knows: which names of this package are public. `runner` performs steps on asyncio and trio, `blocking` on
plain sockets; `known` reads a file of known deviations, `junit` writes a report for machines.
Refuses to know: what conforms.
"""

from foundry_runtime.conformance.blocking import perform_blocking
from foundry_runtime.conformance.junit import junit
from foundry_runtime.conformance.known import BadKnownFile, read_known
from foundry_runtime.conformance.place import Place
from foundry_runtime.conformance.runner import perform

__all__ = ["BadKnownFile", "Place", "junit", "perform", "perform_blocking", "read_known"]
