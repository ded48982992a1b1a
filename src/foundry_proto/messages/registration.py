"""Models of other servers, which this one lists and relays to.

Knows: how such a model is told, and taken back.
Refuses to know: how anything is relayed.

Source: the older REST reference, "POST /openai/register", which the newer page's "registered external models"
goes back to.
"""

from __future__ import annotations

from typing import ClassVar

from attrs import field, frozen

from foundry_proto.sentinels import ABSENT, Maybe
from foundry_proto.wire import Wire

__all__ = ["RegisterRequest", "RegisteredWords"]


@frozen(kw_only=True)
class RegisterRequest:
    """A model of another server that speaks OpenAI's API."""

    WIRE: ClassVar = Wire(writes=("pascal",), any_case=True)
    type_name: str
    """What kind of server it is, `deepseek`; the model's publisher in lists."""
    model_name: str
    """What the other server calls the model: `deepseek-chat`."""
    base_uri: str
    """What stands before `/chat/completions` there: `https://api.deepseek.com/v1`."""
    api_key: Maybe[str] = field(default=ABSENT, repr=False)
    """The key that the other server wants, so that no client needs to know it; not in the older reference."""


@frozen(kw_only=True)
class RegisteredWords:
    """The words of `/openai/register/{name}`."""

    name: str
    """The model, as it was registered or as it is listed."""
