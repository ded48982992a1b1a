"""What a catalogue says of a model, and what a folder says of one that no catalogue knows.

Knows: what clients want to be told about a model, and where a folder's files say it. One damaged file hides
no model and spoils no list: what cannot be read is left at what is true of most models.
Refuses to know: how a list looks as JSON, and whether the model could be loaded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

from attrs import field, fields, frozen

from foundry_proto.catalog import Device, base_of, device_of
from foundry_proto.providers import PROVIDERS, execution_provider
from foundry_proto.wire import Wire, wire_name
from foundry_runtime.engine.provider_options import own_provider
from foundry_runtime.models.document import BadModelFolder, Document
from foundry_runtime.models.folder import CONFIG_FILE, DEFAULT_MAX_OUTPUT, IDENTITY_FILE, kept_facts, task_of

__all__ = ["LOCAL", "CatalogModel", "ModelFacts", "describe_folder", "identity_of", "size_of"]

_MEGABYTE: Final = 1024 * 1024
_KEPT: Final = {
    one: wire_name(one, "camel")
    for one in (
        "alias",
        "uri",
        "provider_type",
        "license",
        "license_description",
        "parent_uri",
        "max_output_tokens",
        "tool_call_start",
        "tool_call_end",
        "supports_reasoning",
        "reasoning_start",
        "reasoning_end",
    )
}
"""What is kept of a model beside it, under which name."""
LOCAL: Final = "Local"
"""What kind of place a model comes from that a user has brought."""
_TEMPLATE_FILES: Final = ("chat_template.jinja", "tokenizer_config.json")


@frozen(kw_only=True)
class ModelFacts:
    """What is known of a model, wherever it is.

    Every field is something, since the strictest clients accept no null.
    """

    WIRE: ClassVar = Wire(noun="a model", nouns="models", writes=("camel",))
    id: str
    """Name and version: `smollm2-135m-instruct-generic-cpu:1`."""
    alias: str
    """The short name that it shares with its other variants."""
    uri: str
    """Where it comes from."""
    provider_type: str
    """What kind of place that is; `Local` for a model that a user has brought."""
    publisher: str = ""
    model_type: str = "ONNX"
    task: str = "chat-completion"
    license: str = ""
    license_description: str = ""
    parent_uri: str = ""
    """The model that it was made of."""
    file_size_mb: int = 0
    """In units of 1,048,576 bytes, rounded down."""
    max_output_tokens: int = DEFAULT_MAX_OUTPUT
    """How many tokens an answer may have when its request gives no limit."""
    prompt_template: Mapping[str, str] | None = None
    """By role, as `inference_model.json` has it: `{"user": "<|user|>{Content}<|end|>", …}`."""
    supports_tool_calling: bool = False
    device: Device = "CPU"
    execution_provider: str = "CPUExecutionProvider"
    created: int = 0
    """When it was made, in seconds since 1970; 0 if nobody knows."""
    min_fl_version: str = field(default="", metadata={"wire": "minFLVersion"})
    """The oldest Foundry Local that it was published for; empty if nobody says."""
    tool_call_start: str = ""
    """What stands before a call that it writes; empty leaves it to its template and tokens."""
    tool_call_end: str = ""
    supports_reasoning: bool = False
    reasoning_start: str = ""
    """The same for its reasoning."""
    reasoning_end: str = ""

    @property
    def name(self) -> str:
        """The id without its version."""
        return self.id.rpartition(":")[0]

    @property
    def version(self) -> str:
        """What stands behind the id's last colon."""
        return self.id.rpartition(":")[2]


@frozen(kw_only=True)
class CatalogModel(ModelFacts):
    """A model of the catalogue: what is known of it, and whether it is here."""

    cached: bool = False
    """Whether a chat can use it without a download."""
    path: Path | None = None
    """Its folder, if it is on this machine."""

    @property
    def facts(self) -> ModelFacts:
        """What holds wherever it is."""
        return ModelFacts(**{one.name: getattr(self, one.name) for one in fields(ModelFacts)})


def describe_folder(model_id: str, path: Path, *, publisher: str, created: int) -> CatalogModel:
    """Describe a model from what lies in its folder.

    Args:
        model_id: Its id.
        path: Its folder.
        publisher: Under whose name it lies there.
        created: When it was put there.
    """
    identity, config = _read(path / IDENTITY_FILE), _read(path / CONFIG_FILE)
    provider = own_provider(config.find("model"))
    known = PROVIDERS.get(provider)
    kept = {name: text for name, text in kept_facts(identity).items() if isinstance(text, str) and text}
    return CatalogModel(
        id=model_id,
        alias=kept.get("alias", base_of(model_id)),
        uri=kept.get("uri", f"local://{base_of(model_id)}"),
        provider_type=kept.get("providerType", LOCAL),
        publisher=publisher,
        license=kept.get("license", ""),
        license_description=kept.get("licenseDescription", ""),
        parent_uri=kept.get("parentUri", ""),
        task=task_of(path, identity, config),
        file_size_mb=size_of(path) // _MEGABYTE,
        max_output_tokens=_positive(identity.find("maxOutputTokens"), DEFAULT_MAX_OUTPUT),
        prompt_template=_prompt_template(identity.find("PromptTemplate")),
        supports_tool_calling=_mentions_tools(path),
        device=device_of(model_id) or (known.device if known else "GPU"),
        execution_provider=execution_provider(provider),
        created=created,
        cached=True,
        path=path,
    )


def identity_of(facts: ModelFacts) -> dict[str, object]:
    """What is kept of a model's description in its `inference_model.json`: what its folder does not say.

    So it goes by its alias, and is what it was, when no catalogue can be asked, or none knows of it any more.
    """
    kept = {name: getattr(facts, field) for field, name in _KEPT.items()}
    return {name: value for name, value in kept.items() if value}


def size_of(path: Path) -> int:
    """The bytes of all files in a folder and below; what cannot be read counts nothing."""
    sizes = 0
    for folder, _, files in os.walk(path):
        for file in files:
            try:
                sizes += Path(folder, file).stat().st_size
            except OSError:  # it has just gone, or is a link to nowhere
                continue
    return sizes


def _read(path: Path) -> Document:
    try:
        return Document.read(path)
    except BadModelFolder:
        return Document(path, {})


def _positive(value: object, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else default


def _prompt_template(value: object) -> Mapping[str, str] | None:
    if not isinstance(value, Mapping):
        return None
    return {role: text for role, text in value.items() if isinstance(text, str)} or None


def _mentions_tools(path: Path) -> bool:
    """Whether the chat template knows of tools; the name of a variable is all that it takes to see."""
    for name in _TEMPLATE_FILES:
        try:
            text = (path / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        return re.search(r"\btools\b", text) is not None
    return False
