"""Models as the protocol speaks of them: in lists, by name, loaded and not.

Knows: the fields of both generations' lists and of OpenAI's, as their strictest clients need them, and the
words of the routes that name a model.
Refuses to know: which models there are, and which of them a name means (`catalog.py`).

Source: the REST reference page, "GET /foundry/list" and the headings behind it; what its text leaves out and
clients need (`maxOutputTokens`, `minFLVersion`, a bare array) is marked.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from attrs import field, frozen

from foundry_proto.catalog import Device
from foundry_proto.sentinels import ABSENT, Absent, Maybe
from foundry_proto.wire import Between, Wire

__all__ = [
    "CatalogWords",
    "ListFormat",
    "ListWords",
    "LoadState",
    "LoadWords",
    "ModelInfo",
    "ModelList",
    "ModelObject",
    "ModelObjectList",
    "ModelSettings",
    "ModelWords",
    "PromptTemplate",
    "RuntimeInfo",
    "Seconds",
    "TokenCount",
    "UnloadState",
    "UnloadWords",
]

ListFormat = Literal["array", "object"]
"""How `/foundry/list` answers: the array that clients need, or the object that the reference page has."""
Seconds = Annotated[int, Between(0, 2**31 - 1)]
"""A time to live in memory."""


@frozen(kw_only=True)
class PromptTemplate:
    """How messages become a prompt: a text for each role, in which `{Content}` stands for the message."""

    WIRE: ClassVar = Wire(noun="a prompt template", nouns="prompt templates")
    system: Maybe[str] = ABSENT
    user: Maybe[str] = ABSENT
    assistant: Maybe[str] = ABSENT
    prompt: Maybe[str] = ABSENT


@frozen(kw_only=True)
class RuntimeInfo:
    """What a model is made to run on."""

    WIRE: ClassVar = Wire(writes=("camel",))
    device_type: Device
    execution_provider: str
    """By onnxruntime's name: `CPUExecutionProvider`."""


@frozen(kw_only=True)
class ModelSettings:
    """What can be configured about a model."""

    parameters: tuple[object, ...] = ()


@frozen(kw_only=True)
class ModelInfo:
    """A model of the catalogue, as `/foundry/list` shows it.

    Whoever writes a list fills every field: one null or missing field makes the strictest client refuse the
    whole list. The fields that the reference page does not have may be absent when another server's is read.
    """

    WIRE: ClassVar = Wire(noun="a model", nouns="models", writes=("camel",))
    name: str
    """The model's id with its version: `Phi-4-mini-instruct-generic-cpu:4`."""
    display_name: str
    """The id without its version."""
    model_type: str = "ONNX"
    provider_type: str
    """`AzureFoundry`, or `Local` for a model that no catalogue has."""
    uri: str
    version: str
    """The id's version; clients refuse a number."""
    prompt_template: PromptTemplate | None = None
    publisher: str
    task: str = "chat-completion"
    runtime: RuntimeInfo
    file_size_mb: int
    """Its files' size in units of 1,048,576 bytes."""
    model_settings: ModelSettings = field(factory=ModelSettings)
    alias: str
    supports_tool_calling: bool
    license: str
    license_description: str
    parent_model_uri: str
    max_output_tokens: Maybe[int]
    """Not on the reference page."""
    min_fl_version: Maybe[str] = field(default="", metadata={"wire": "minFLVersion"})
    """Not on the reference page."""


@frozen(kw_only=True)
class ModelList:
    """The list as the reference page describes it, for who asks for it with `format=object`."""

    models: tuple[ModelInfo, ...]


@frozen(kw_only=True)
class ModelObject:
    """A model as OpenAI's API shows it."""

    WIRE: ClassVar = Wire(noun="a model", nouns="models")
    id: str
    object: Literal["model"] = "model"
    created: int = 0
    """Seconds since 1970; 0 if unknown."""
    owned_by: str = "system"
    """The publisher; `system` if unknown."""


@frozen(kw_only=True)
class ModelObjectList:
    """Models as OpenAI's API lists them."""

    object: Literal["list"] = "list"
    data: tuple[ModelObject, ...]


@frozen(kw_only=True)
class LoadState:
    """What became of a load."""

    status: Literal["loaded", "already_loaded"]


@frozen(kw_only=True)
class UnloadState:
    """What became of an unload."""

    status: Literal["unloaded", "not_loaded"]


@frozen(kw_only=True)
class TokenCount:
    """How many tokens a model would read of a chat completion request."""

    WIRE: ClassVar = Wire(writes=("camel",))
    token_count: int


@frozen(kw_only=True)
class ListWords:
    """The words of `/foundry/list`."""

    format: ListFormat | Absent = ABSENT


@frozen(kw_only=True)
class CatalogWords:
    """The words of `/v1/models`."""

    all: bool | Absent = ABSENT
    """Whether the catalogue's models that are not on this machine are listed too."""


@frozen(kw_only=True)
class ModelWords:
    """The words of a route that names a model."""

    name: str
    """An alias, an id, or an id without its version, in any letter case."""


@frozen(kw_only=True)
class LoadWords:
    """The words of `/openai/load/{name}`."""

    name: str
    """An alias, an id, or an id without its version, in any letter case."""
    unload: bool | Absent = ABSENT
    """Whether the model leaves the memory when it was idle for long enough; true where it is not said."""
    ttl: Seconds | Absent = ABSENT
    """How many seconds that is; above 0 it overrides `unload`."""
    timeout: object = ABSENT
    """What one client sends in place of `ttl`, meaning its own patience: accepted, and means nothing."""
    ep: str | Absent = ABSENT
    """The execution provider, one of `foundry_proto.providers`; by default the one that the model was made
    for."""


@frozen(kw_only=True)
class UnloadWords:
    """The words of `/openai/unload/{name}`."""

    name: str
    """An alias, an id, or an id without its version, in any letter case."""
    force: bool | Absent = ABSENT
    """Whether the model leaves the memory even before its time to live is over."""
