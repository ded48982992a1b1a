"""What handlers answer when a model cannot be used as it was asked for, in the words that clients look for.

Knows: which status and which field belong to which reason. Refuses to know: which operation failed.
"""

from __future__ import annotations

from foundry_proto.events import Failure, Headers
from foundry_runtime.models.folder import BadModelFolder, ModelFolder
from foundry_runtime.models.pool import LoadFailed, ProviderUnavailable

__all__ = [
    "load_failure",
    "model_elsewhere",
    "model_not_cached",
    "model_not_found",
    "no_such_model",
    "not_moved",
    "wrong_task",
]


def no_such_model(name: str, *, param: str = "model", known: bool = False) -> Failure:
    """No model that could be used has this name.

    Args:
        name: As the client wrote it.
        param: Where it stood.
        known: Whether a download would help.
    """
    why = (
        "The model is not on this machine yet: download it first"
        if known
        else "No model of this name is here"
    )
    # The phrase in the middle is what clients of the first service look for.
    message = f"{param}: No OpenAIService provider found for modelName:{name[:200]}. {why}"
    return Failure(status=404, message=message, param=param, code="model_not_found")


def model_not_found(name: str) -> Failure:
    """No model has this name, in the newer service's words."""
    message = f"Model not found: No model matching '{name[:200]}'"
    return Failure(status=404, message=message, param="name", code="model_not_found")


def model_not_cached() -> Failure:
    """The model is known, and not on this machine, in the newer service's words."""
    message = "Model not cached: Model must be downloaded before loading"
    return Failure(status=400, message=message, param="name", code="model_not_cached")


def load_failure(error: BadModelFolder | LoadFailed) -> Failure:
    """A model is here, but cannot be loaded as it was asked for."""
    if isinstance(error, ProviderUnavailable):
        return Failure(status=400, message=f"ep: {error}", param="ep")
    return Failure(status=500, message=str(error), type="server_error", param="model")


def wrong_task(folder: ModelFolder) -> Failure:
    """A model is here that does something else than it was asked for."""
    lacking = "generates no text" if folder.task == "embeddings" else "gives no embeddings"
    message = f"model: {folder.id} {lacking}: its task is {folder.task}"
    return Failure(status=400, message=message, param="model", code="unsupported_model")


def model_elsewhere(model_id: str) -> Failure:
    """A registered model is asked for what is not relayed to its server."""
    message = f"model: {model_id} is another server's model, to which this is not relayed"
    return Failure(status=400, message=message, param="model", code="unsupported_model")


def not_moved(wanted: str | None, provider: str | None) -> Headers:
    """The header that says that a model in use runs elsewhere than it was asked to; none if it does not.

    Args:
        wanted: The execution provider that a request named; `None` for none.
        provider: Where the model runs; `None` if it doesn't any more.

    Choice: a `Warning` of the general kind (RFC 7234, section 5.5), which clients show or ignore; RFC 9111,
    which came after it, has nothing in its place.
    """
    if wanted is None or provider in {None, wanted}:
        return ()
    text = f"ep: {wanted} was ignored, the model is in use on {provider}"
    return ((b"warning", f'199 - "{text}"'.encode()),)
