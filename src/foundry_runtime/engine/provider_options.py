"""On which execution provider a model wants to run, as `genai_config.json` says it.

Knows: where that file names providers. Refuses to know: which of them are there, and their own options.
"""

from __future__ import annotations

from collections.abc import Mapping

from foundry_proto.providers import provider_called

__all__ = ["own_provider"]


def own_provider(model: object) -> str:
    """The execution provider that a model asks for.

    Args:
        model: What `genai_config.json` has under `model`.

    Returns:
        The first of `decoder.session_options.provider_options`, by its short name if it is one that clients
        can ask for; `cpu` if there is none.
    """
    for name in ("decoder", "session_options", "provider_options"):
        model = model.get(name) if isinstance(model, Mapping) else None
    for option in model if isinstance(model, list) else ():
        if isinstance(option, Mapping) and option:
            name = str(next(iter(option)))
            known = provider_called(name)
            return known.name if known else name
    return "cpu"
