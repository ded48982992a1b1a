"""Execution providers: what a model may be asked to run on, and by which names.

Knows: the five names that clients send as `ep`, onnxruntime's names for the same things, and on which device
each computes. Refuses to know: which of them are there on a machine.

Source: the REST reference page, "GET /openai/load/{name}".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import frozen

from foundry_proto.catalog import Device
from foundry_proto.jsontext import ContentError, show
from foundry_proto.wire import join_words

__all__ = ["PROVIDERS", "Provider", "execution_provider", "provider_called", "requested_provider"]

_LONG: Final = "ExecutionProvider"


@frozen(kw_only=True)
class Provider:
    """An execution provider."""

    name: str
    """As clients write it."""
    execution_provider: str
    """As onnxruntime and lists of models write it."""
    device: Device


PROVIDERS: Final[Mapping[str, Provider]] = {
    provider.name: provider
    for provider in (
        Provider(name="cpu", execution_provider="CPUExecutionProvider", device="CPU"),
        Provider(name="cuda", execution_provider="CUDAExecutionProvider", device="GPU"),
        Provider(name="dml", execution_provider="DmlExecutionProvider", device="GPU"),
        Provider(name="qnn", execution_provider="QNNExecutionProvider", device="NPU"),
        Provider(name="webgpu", execution_provider="WebGpuExecutionProvider", device="GPU"),
    )
}
"""By name; a model's own configuration may want others besides."""


def requested_provider(ep: str) -> str | None:
    """Read what a client sent as `ep`.

    Args:
        ep: One of the five names, in any letter case; clients that want none of them send nothing in it.

    Returns:
        The name as it stands in `PROVIDERS`; `None` for nothing.

    Raises:
        ContentError: It is none of them.
    """
    name = ep.strip().casefold()
    if name and name not in PROVIDERS:
        expected = join_words(show(known) for known in PROVIDERS)
        raise ContentError(f"expected {expected}, got {show(ep)}", ("ep",))
    return name or None


def provider_called(name: str) -> Provider | None:
    """The provider that a model's configuration calls so: by either of its names, in any letter case."""
    key = name.casefold()
    return next((known for known in PROVIDERS.values() if key in _names(known)), None)


def execution_provider(name: str) -> str:
    """Give onnxruntime's name of a provider; one that nobody can ask for here is named like the others."""
    known = provider_called(name)
    return known.execution_provider if known else f"{name.removesuffix(_LONG)}{_LONG}"


def _names(provider: Provider) -> tuple[str, str]:
    return provider.name, provider.execution_provider.casefold()
