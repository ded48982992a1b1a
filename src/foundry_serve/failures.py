"""What handlers answer when a model cannot be used, in the words that clients look for.

Knows: which status and which field belong to which reason. Refuses to know: which operation failed.
"""

from __future__ import annotations

from foundry_proto.events import Failure
from foundry_runtime.models.folder import BadModelFolder
from foundry_runtime.models.pool import LoadFailed, ProviderUnavailable

__all__ = ["load_failure", "no_such_model"]


def no_such_model(name: str) -> Failure:
    """No model that could be used has this name."""
    # The phrase in the middle is what clients of the first service look for.
    short = name[:200]
    message = f"model: No OpenAIService provider found for modelName:{short}. No model of this name is here"
    return Failure(status=404, message=message, param="model", code="model_not_found")


def load_failure(error: BadModelFolder | LoadFailed) -> Failure:
    """A model is here, but cannot be loaded as it was asked for."""
    if isinstance(error, ProviderUnavailable):
        return Failure(status=400, message=f"ep: {error}", param="ep")
    return Failure(status=500, message=str(error), type="server_error", param="model")
